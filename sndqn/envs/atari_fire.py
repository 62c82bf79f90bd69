"""Emulators that press FIRE where Stable-Baselines3's wrappers do.

`FireResetEnv` over `EpisodicLifeEnv`: at the start of a game, after its no-ops, FIRE and then
action 2, a whole step each; after a lost life a no-op step first, then the same. The agent sees
neither these steps nor their rewards, but the rewards count for the score; the stack of frames
begins anew after them. ale-py's vector steps all its emulators or none, so each vector here holds
one emulator.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from ale_py.vector_env import AtariVectorEnv

Array = npt.NDArray[Any]
_INFOS = ("lives", "frame_number", "episode_frame_number")
_NOOP, _FIRE, _SECOND = 0, 1, 2


class _Emulator:
    """One emulator, with the steps that the agent does not make."""

    def __init__(self, part: "AtariVectorEnv", life_loss: bool, autoreset: bool) -> None:
        self.part, self.life_loss, self.autoreset = part, life_loss, autoreset
        self.lives = 0
        self.restarted = False  # because the game ended in a step that was not the agent's
        # Frames of the stack since the game, or life, began.
        self.n_frames = 0
        self.observation: Array = np.empty(0)
        self.info: dict[str, int] = {}
        # Rewards of steps that were not the agent's: of a game that ended in them; of this game.
        self.extra_before = self.extra = 0.0
        # Their actions, since the agent's newest step or the reset.
        self.hidden: list[int] = []

    def _take(self, observations: Array, info: dict[str, Any]) -> None:
        self.observation = observations[0].copy()
        self.info = {name: int(info[name][0]) for name in _INFOS}
        self.n_frames += 1
        missing = len(self.observation) - self.n_frames
        if missing > 0:
            self.observation[:missing] = 0

    def receive(self) -> tuple[float, bool, bool, bool]:
        """Ends a step; gives reward, terminated, truncated, and whether a life was lost."""
        observations, rewards, terminated, truncated, info = self.part.recv()
        self._take(observations, info)
        before, self.lives = self.lives, self.info["lives"]
        lost = self.life_loss and 0 < self.lives < before
        return float(rewards[0]), bool(terminated[0]), bool(truncated[0]), lost

    def send(self, action: int) -> None:
        """Begins a step."""
        self.part.send(np.array([action], np.int64))

    def reset(self, seed: int | None) -> None:
        """Starts a game, FIRE included."""
        self.extra_before = self.extra = 0.0
        self.hidden = []
        self._begin_game(seed)
        self.fire()

    def _begin_game(self, seed: int | None = None) -> None:
        self.n_frames = 0
        self._take(*self.part.reset(seed=None if seed is None else np.array([seed], np.int64)))
        self.lives = self.info["lives"]

    def go_on(self) -> bool:
        """Goes on after a lost life; says whether the game ended in doing so."""
        ended = self._hidden(_NOOP)[1]
        return ended or self.fire()

    def fire(self) -> bool:
        """Presses FIRE, then action 2; says whether the game ended without a next one."""
        for action in (_FIRE, _SECOND):
            lost, ended = self._hidden(action)
            if not ended and lost:
                ended = self._hidden(_NOOP)[1]
            if ended:
                return True
        self.n_frames = 1
        self.observation[:-1] = 0
        return False

    def _hidden(self, action: int) -> tuple[bool, bool]:
        """Makes a step of its own; says whether a life was lost, and whether all has ended."""
        self.hidden.append(action)
        self.send(action)
        reward, terminated, truncated, lost = self.receive()
        self.extra += reward
        if not (terminated or truncated):
            return lost, False
        if not self.autoreset:
            return False, True
        self.extra_before, self.extra = self.extra_before + self.extra, 0.0
        self._begin_game()
        self.restarted = True
        return False, False


class FiringEmulators:
    """Emulators that press FIRE, behind the part of ale-py's vector interface that sndqn uses.

    Infos have `final_obs`, the last observation of an episode (a life or a game), and rewards of
    steps that were not the agent's: `extra` in the present game, `extra_before` in one that ended.

    Args:
        parts: ale-py's vectors of one emulator each, whose reset presses no FIRE.
        life_loss: Whether a lost life is an end, after which FIRE is pressed.
        reports_lives: Whether it is reported as one.
        autoreset: Whether the next game begins in the step in which one ends.
    """

    def __init__(
        self,
        parts: Sequence["AtariVectorEnv"],
        *,
        life_loss: bool,
        reports_lives: bool,
        autoreset: bool,
    ) -> None:
        self._emulators = [_Emulator(part, life_loss, autoreset) for part in parts]
        self._reports_lives, self._autoreset = reports_lives, autoreset
        self.single_observation_space = parts[0].single_observation_space
        self.single_action_space = parts[0].single_action_space
        self.ale = parts[0].ale

    def reset(
        self, *, seed: int | Array | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Array, dict[str, Array]]:
        """Starts games everywhere or where the mask says so, one seed each."""
        mask = (options or {}).get("reset_mask", np.ones(len(self._emulators), np.bool_))
        chosen = np.flatnonzero(mask).tolist()
        seeds = [None] * len(chosen) if seed is None else np.atleast_1d(seed).tolist()
        for index, own in zip(chosen, seeds, strict=True):
            self._emulators[index].reset(own)
        return self._observations(), self._infos()

    def step(self, actions: Array) -> tuple[Array, Array, Array, Array, dict[str, Array]]:
        """Makes a step everywhere."""
        self.send(actions)
        return self.recv()

    def send(self, actions: Array) -> None:
        """Begins a step everywhere."""
        for emulator, action in zip(self._emulators, actions.tolist(), strict=True):
            emulator.send(action)

    def recv(self) -> tuple[Array, Array, Array, Array, dict[str, Array]]:
        """Ends the step: rewards are the agent's, of before any FIRE."""
        n = len(self._emulators)
        rewards = np.zeros(n, np.float64)
        terminated, truncated = np.zeros(n, np.bool_), np.zeros(n, np.bool_)
        finals = []
        for index, emulator in enumerate(self._emulators):
            emulator.extra_before = emulator.extra = 0.0
            emulator.restarted = False
            emulator.hidden = []
            reward, over, cut, lost = emulator.receive()
            rewards[index], terminated[index], truncated[index] = reward, over, cut
            finals.append(emulator.observation)
            if over or cut:
                if self._autoreset:
                    emulator.reset(None)
            elif lost:
                ended = emulator.go_on() or emulator.restarted
                terminated[index] = ended or self._reports_lives
        infos = {**self._infos(), "final_obs": np.stack(finals)}
        return self._observations(), rewards, terminated, truncated, infos

    def hidden_actions(self, index: int) -> list[int]:
        """Returns the actions of steps that were not the agent's, in its newest step or reset."""
        return list(self._emulators[index].hidden)

    def _observations(self) -> Array:
        return np.stack([emulator.observation for emulator in self._emulators])

    def _infos(self) -> dict[str, Array]:
        infos = {
            name: np.array([emulator.info[name] for emulator in self._emulators], np.int32)
            for name in _INFOS
        }
        for name in ("extra", "extra_before"):
            infos[name] = np.array([getattr(emulator, name) for emulator in self._emulators])
        return infos
