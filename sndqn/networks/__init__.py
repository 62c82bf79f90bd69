"""Q-networks: torsos, heads and the factory that joins them and applies SN."""

from sndqn.networks.factory import make_q_network
from sndqn.networks.heads import (
    CategoricalHead,
    DuelingHead,
    ImplicitQuantileHead,
    LinearHead,
    QuantileHead,
    make_head,
)
from sndqn.networks.noisy import NoisyLinear
from sndqn.networks.q_network import QNetwork
from sndqn.networks.spec import NetworkSpec, SpectralSettings
from sndqn.networks.torsos import MLP, DataEfficientCNN, ImpalaCNN, MinAtarCNN, NatureCNN

__all__ = [
    "MLP",
    "CategoricalHead",
    "DataEfficientCNN",
    "DuelingHead",
    "ImpalaCNN",
    "ImplicitQuantileHead",
    "LinearHead",
    "MinAtarCNN",
    "NatureCNN",
    "NetworkSpec",
    "NoisyLinear",
    "QNetwork",
    "QuantileHead",
    "SpectralSettings",
    "make_head",
    "make_q_network",
]
