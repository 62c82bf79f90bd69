"""A journal of what training environments were given, from which they can be brought back.

An environment is a pure function of its settings, the seed of its last seeded reset and the actions
since. So an open game is saved as a seed and actions, and restored by playing them again: exact for
every suite, sticky actions and the emulator's own random numbers included, where saved emulator
states are not.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
from stable_baselines3.common.vec_env import VecEnvWrapper
from stable_baselines3.common.vec_env.base_vec_env import VecEnvObs, VecEnvStepReturn

from sndqn.envs.vector import SeededVecEnv
from sndqn.errors import ConfigError, TrainingError

Array = npt.NDArray[Any]
# Steps in all journals together, without the games under way: what restoring plays again.
_STEPS = 100_000


class JournalVecEnv(VecEnvWrapper):
    """Environments that remember each game's seed and actions.

    To keep the journal short, an environment whose journal has grown to `reseed_after` steps is
    seeded anew at the next true end of a game. This happens whether the run is saved or not, so it
    sees the same games either way.

    Args:
        venv: sndqn's own environments.
        seed: Of the first games; later seeds follow from it.
        reseed_after: Steps of an environment after which its journal starts anew; by default
            100 000 divided by the number of environments, but 1 000 at least.
    """

    def __init__(self, venv: SeededVecEnv, seed: int, reseed_after: int | None = None) -> None:
        super().__init__(venv)
        if seed < 0:
            raise ConfigError(f"seed: expected 0 or more, found {seed}")
        self.seeded: SeededVecEnv = venv
        self._seed = seed
        self.reseed_after = reseed_after or max(_STEPS // venv.num_envs, 1_000)
        # By environment: how often it was seeded, and its actions since.
        self._generations = [0] * venv.num_envs
        self._actions: list[list[int]] = [[] for _ in range(venv.num_envs)]
        self._sent: list[int] = []

    def _seed_of(self, index: int) -> int:
        """Returns an environment's present seed, 31 bits."""
        generation = self._generations[index]
        sequence = np.random.SeedSequence([self._seed, index, generation])
        return int(sequence.generate_state(1)[0]) >> 1

    def seed(self, seed: int | None = None) -> Sequence[int | None]:
        """Starts other seeds from the next reset on."""
        if seed is not None:
            self._seed = seed
        self._generations = [0] * self.num_envs
        return [self._seed_of(index) for index in range(self.num_envs)]

    def reset(self) -> VecEnvObs:
        """Starts a seeded game everywhere."""
        self.seeded.reset()  # options and infos, as a first reset sets them up
        return self._restart(range(self.num_envs))

    def _restart(self, indices: Sequence[int]) -> VecEnvObs:
        for index in indices:
            self._generations[index] += 1
            self._actions[index] = []
        return self.seeded.reset_envs(indices, [self._seed_of(index) for index in indices])

    def step_async(self, actions: Array) -> None:
        """Passes the actions on and remembers them."""
        self._sent = np.asarray(actions).tolist()
        self.seeded.step_async(actions)

    def step_wait(self) -> VecEnvStepReturn:
        """Returns the step's results; environments with long journals may start seeded games."""
        try:
            observations, rewards, dones, infos = self.seeded.step_wait()
        except Exception as error:
            # An environment is foreign code: it can raise anything.
            reason = " ".join(f"{type(error).__name__}: {error}".split())[:300]
            where = self._whereabouts(range(self.num_envs))
            raise TrainingError(f"an environment failed: {reason}\n{where}") from error
        for index, action in enumerate(self._sent):
            self._actions[index].append(action)
        self._check_finite(observations, rewards, dones, infos)
        if dones.any():
            long = [
                index
                for index in np.flatnonzero(dones).tolist()
                if "episode" in infos[index] and len(self._actions[index]) >= self.reseed_after
            ]
            if long:
                observations = self._restart(long)
        return observations, rewards, dones, infos

    def _check_finite(
        self, observations: VecEnvObs, rewards: Array, dones: Array, infos: Sequence[dict[str, Any]]
    ) -> None:
        """Refuses numbers that would spoil every weight they touch."""
        for name, batch in (("reward", rewards), ("observation", observations)):
            for values in _parts(batch):
                if not np.isfinite(values).all():
                    rows = np.isfinite(values).reshape(self.num_envs, -1).all(axis=1)
                    index = int(np.flatnonzero(~rows)[0])
                    self._refuse(name, values[index], index)
        for index in np.flatnonzero(dones).tolist():
            for values in _parts(infos[index].get("terminal_observation")):
                if not np.isfinite(values).all():
                    self._refuse("observation", values, index)

    def _refuse(self, name: str, found: Array, index: int) -> None:
        shown = " ".join(str(found).split())[:200]
        raise TrainingError(
            f"environment {index}: expected a finite {name}, found {shown}\n"
            f"{self._whereabouts([index])}"
        )

    def _whereabouts(self, indices: Sequence[int]) -> str:
        """Says how to get where the environments are."""
        places = (
            f"seed {self._seed_of(index)} and {len(self._actions[index])} actions"
            for index in indices[:4]
        )
        return f"Where: after {'; '.join(places)}"

    def state(self) -> tuple[dict[str, Array], dict[str, Any]]:
        """Returns the journal: every environment's actions as arrays, and the rest as JSON data."""
        arrays = {
            f"actions_{index}": np.array(actions, np.uint8 if self._small else np.int64)
            for index, actions in enumerate(self._actions)
        }
        return arrays, {"seed": self._seed, "generations": list(self._generations)}

    @property
    def _small(self) -> bool:
        return int(self.action_space.n) <= 256  # type: ignore[attr-defined]

    def restore(self, arrays: Mapping[str, Array], data: Mapping[str, Any]) -> VecEnvObs:
        """Brings the environments back to where a journal ends.

        Args:
            arrays: The arrays of `state`.
            data: The data of `state`.

        Returns:
            The observations there.

        Raises:
            ConfigError: The journal is of another number of environments, or of other actions.
        """
        names = {f"actions_{index}" for index in range(self.num_envs)}
        if set(arrays) != names or len(data["generations"]) != self.num_envs:
            raise ConfigError(
                f"journal: expected {self.num_envs} environments, found {len(arrays)}: type the "
                "n_envs that the run began with"
            )
        n_actions = int(self.action_space.n)  # type: ignore[attr-defined]
        logs = [np.asarray(arrays[f"actions_{index}"]) for index in range(self.num_envs)]
        if any(len(log) and not 0 <= log.min() <= log.max() < n_actions for log in logs):
            raise ConfigError(f"journal: expected actions 0 to {n_actions - 1}, found others")
        self._seed = int(data["seed"])
        self._generations = [int(generation) for generation in data["generations"]]
        self._actions = [log.astype(np.int64).tolist() for log in logs]
        return self._replay(self._actions)

    def _replay(self, logs: Sequence[Sequence[int]]) -> VecEnvObs:
        """Plays the logs so that all end at the same step: shorter ones begin later."""
        longest = max(map(len, logs))
        observations = self.seeded.reset()
        for step in range(longest + 1):
            starting = [index for index, log in enumerate(logs) if len(log) == longest - step]
            if starting:
                seeds = [self._seed_of(index) for index in starting]
                observations = self.seeded.reset_envs(starting, seeds)
            if step == longest:
                break
            # What has not begun yet plays any action; its seeded reset makes that irrelevant.
            first = [step - (longest - len(log)) for log in logs]
            actions = [log[at] if at >= 0 else 0 for log, at in zip(logs, first, strict=True)]
            observations, *_ = self.seeded.step(np.array(actions))
        return observations


def _parts(batch: Any) -> list[Array]:
    """Returns the arrays of an observation or reward that may hold what is not finite."""
    parts = batch.values() if isinstance(batch, dict) else [batch]
    return [part for part in parts if isinstance(part, np.ndarray) and part.dtype.kind == "f"]
