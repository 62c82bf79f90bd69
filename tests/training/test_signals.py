"""Being asked to stop: once is a wish, twice is an order."""

import signal
import threading
from typing import Any

import pytest

from sndqn.training.signals import StopSignals, TrainingStopped


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_the_first_signal_is_remembered_until_someone_looks(signum: int) -> None:
    with StopSignals() as stop:
        stop.check()
        signal.raise_signal(signum)
        assert stop.requested == signum
        with pytest.raises(TrainingStopped, match=signal.Signals(signum).name) as stopped:
            stop.check()
        assert stopped.value.signum == signum


@pytest.mark.parametrize("inherited", [signal.default_int_handler, signal.SIG_IGN])
def test_the_second_signal_stops_at_once_in_the_background_too(inherited: Any) -> None:
    before = signal.signal(signal.SIGINT, inherited)

    def be_asked_twice() -> None:
        with StopSignals():
            signal.raise_signal(signal.SIGTERM)
            signal.raise_signal(signal.SIGINT)

    try:
        with pytest.raises(KeyboardInterrupt) as stopped:
            be_asked_twice()
    finally:
        signal.signal(signal.SIGINT, before)
    assert not isinstance(stopped.value, TrainingStopped)


def test_the_handlers_of_before_come_back() -> None:
    before = signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)
    with StopSignals():
        assert signal.getsignal(signal.SIGINT) != before[0]
    assert (signal.getsignal(signal.SIGINT), signal.getsignal(signal.SIGTERM)) == before


def test_other_threads_leave_signals_alone() -> None:
    before = signal.getsignal(signal.SIGTERM)
    found = []

    def enter() -> None:
        with StopSignals():
            found.append(signal.getsignal(signal.SIGTERM))

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [before]
