"""The algorithms: code that learns."""

from sndqn.algorithms.base import ValueBasedAlgorithm
from sndqn.algorithms.c51 import C51
from sndqn.algorithms.dqn import DQN
from sndqn.algorithms.iqn import IQN
from sndqn.algorithms.loss import Loss, Losses
from sndqn.algorithms.multi_task import MultiTask
from sndqn.algorithms.qr_dqn import QRDQN
from sndqn.algorithms.update import Update

__all__ = [
    "C51",
    "DQN",
    "IQN",
    "QRDQN",
    "Loss",
    "Losses",
    "MultiTask",
    "Update",
    "ValueBasedAlgorithm",
]
