"""Replay buffers for Stable-Baselines3 that keep every frame once."""

from sndqn.replay.frame_ring import FrameRing

__all__ = ["FrameRing"]
