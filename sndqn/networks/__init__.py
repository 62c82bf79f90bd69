"""Q-networks: torsos, heads and the factory that joins them and applies SN."""

from sndqn.networks.factory import NetworkSpec, QNetwork, SpectralSettings, make_q_network
from sndqn.networks.heads import DuelingHead, linear_head, make_head
from sndqn.networks.torsos import MLP, MinAtarCNN, NatureCNN

__all__ = [
    "MLP",
    "DuelingHead",
    "MinAtarCNN",
    "NatureCNN",
    "NetworkSpec",
    "QNetwork",
    "SpectralSettings",
    "linear_head",
    "make_head",
    "make_q_network",
]
