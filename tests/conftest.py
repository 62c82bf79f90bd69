"""Shared by all tests."""

import os
import signal

import pytest
import torch

# Small networks on shared cores: one thread is faster, and results repeat.
os.environ.setdefault("OMP_NUM_THREADS", "1")

# A shell starts what runs in its background with SIGINT ignored; tests send it.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
