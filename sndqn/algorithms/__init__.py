"""The algorithms: code that learns."""

from sndqn.algorithms.base import ValueBasedAlgorithm
from sndqn.algorithms.dqn import DQN

__all__ = ["DQN", "ValueBasedAlgorithm"]
