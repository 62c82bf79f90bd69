"""Replay buffers for Stable-Baselines3 that keep every frame once."""

from sndqn.replay.batch import Batch, as_batch, split
from sndqn.replay.frame_ring import FrameRing
from sndqn.replay.prioritized import PrioritizedFrameRing
from sndqn.replay.sum_tree import SumTree

__all__ = ["Batch", "FrameRing", "PrioritizedFrameRing", "SumTree", "as_batch", "split"]
