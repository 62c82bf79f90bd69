"""Optimisers: torch's interface and state, steps without its bookkeeping."""

from sndqn.optimizers.adam import Adam, Moments
from sndqn.optimizers.rmsprop import RMSprop

__all__ = ["Adam", "Moments", "RMSprop"]
