import pytest
from recorded_episodes import record

from sndqn.evaluation import Trace


@pytest.fixture(scope="session")
def cartpole_trace() -> Trace:
    """50 steps of CartPole, cut."""
    return record("CartPole", max_steps=50)


@pytest.fixture(scope="session")
def breakout_trace() -> Trace:
    """300 steps of Atari Breakout with sticky actions, cut."""
    return record("Breakout", sticky_actions=0.25)


@pytest.fixture(scope="session")
def minatar_trace() -> Trace:
    """A whole game of MinAtar Breakout."""
    return record("MinAtar/Breakout")
