"""Shared by all tests."""

import os

import pytest
import torch

# Small networks on shared cores: one thread is faster, and results repeat.
os.environ.setdefault("OMP_NUM_THREADS", "1")


@pytest.fixture(autouse=True)
def one_thread() -> None:
    torch.set_num_threads(1)
