"""Atari 2600 games on ale-py's C++ environment: what an emulator is, and one of them to play.

Training (`atari_vector.py`), evaluation and video all run `AtariVectorEnv`, so they see one
emulator, one preprocessing and one law of starts. Compared with Stable-Baselines3's
`AtariWrapper` and `VecFrameStack` over `BreakoutNoFrameskip-v4`, lives, ends and raw rewards are
equal for equal actions, and so are frame numbers and the black frames with which the stack of a
new game begins. The differences, most of them shown by
`tests/envs/test_atari_against_sb3.py`, are:

- Pixels are equal unless the two pooled frames differ in colour: ALE takes greys and then the
  maximum, SB3 the maximum of each colour and then greys. Differences stay below some 40 of 255.
- Starts: 0 to 29 no-ops under `noop_max=30`, where SB3 makes 1 to 30.
- Life loss without FIRE: the game goes on from the observation itself. SB3 makes one no-op step
  first and empties the stack. With FIRE (protocol `sb3`, `atari_fire.py`) both do what SB3 does.
- The frame that ends a game is not in the last observation: ALE stops looking when the game is
  over, so the newest frame of that stack is the one before.
- The cap counts frames since the start's no-ops, SB3's includes them.
"""

import dataclasses
from typing import TYPE_CHECKING, Any

import gymnasium
import numpy as np
import numpy.typing as npt
from gymnasium.error import ResetNeeded

from sndqn.envs.atari_fire import FiringEmulators
from sndqn.envs.atari_screen import AtariScreen
from sndqn.envs.settings import AtariSettings
from sndqn.errors import ConfigError, EnvironmentNameError

if TYPE_CHECKING:
    from ale_py.vector_env import AtariVectorEnv

Pixels = npt.NDArray[np.uint8]

#: Seeds are the emulator's, a C int.
SEED_LIMIT = 2**31


def make_emulator(
    settings: AtariSettings, num_envs: int = 1, **arguments: Any
) -> "AtariVectorEnv | FiringEmulators":
    """Makes ale-py's vector environment with the settings' conventions and unclipped rewards.

    Args:
        settings: The game and its protocol.
        num_envs: Number of emulators.
        **arguments: Of `AtariVectorEnv`, where they depart from the settings.

    Raises:
        EnvironmentNameError: ale-py has no such ROM.
    """
    from ale_py import roms
    from ale_py.vector_env import AtariVectorEnv

    if settings.game not in roms.get_all_rom_ids():
        raise EnvironmentNameError(
            f"ale-py has no ROM called {settings.game!r}; use resolve_env to find one by name."
        )
    given = dict(arguments)
    conventions: dict[str, Any] = {
        "max_num_frames_per_episode": settings.max_frames,
        "repeat_action_probability": settings.sticky_actions,
        "full_action_space": settings.full_action_space,
        "img_height": settings.screen_size,
        "img_width": settings.screen_size,
        "stack_num": settings.frame_stack,
        "frameskip": settings.frame_skip,
        "noop_max": settings.noop_max,
        "use_fire_reset": False,
        # Scores need the raw rewards; `AtariVecEnv` clips those of training.
        "reward_clipping": False,
    }
    if not settings.fire_reset:
        return AtariVectorEnv(settings.game, num_envs, **(conventions | arguments))
    autoreset = arguments.pop("autoreset_mode", None) is not None
    reports_lives = arguments.pop("life_loss_info", False)
    arguments["num_threads"] = 1
    parts = [AtariVectorEnv(settings.game, 1, **(conventions | arguments)) for _ in range(num_envs)]
    actions = [action.name for action in parts[0].ale.get_action_set()]
    if "FIRE" not in actions:
        without = dataclasses.replace(settings, fire_reset=False)
        return make_emulator(without, num_envs, **given)
    return FiringEmulators(
        parts, life_loss=settings.life_loss, reports_lives=reports_lives, autoreset=autoreset
    )


class AtariEnv(gymnasium.Env[Pixels, Any]):
    """One Atari game for evaluation, replay and users: whole games, raw rewards, exact seeds.

    Observations are uint8 of shape (frame_stack, screen_size, screen_size), the newest frame
    last. Equal seeds and actions give equal games, here and in `AtariVecEnv`. Infos hold `lives`,
    `frame_number` and `episode_frame_number`.

    Args:
        settings: The game and its protocol.
        render_mode: None or `rgb_array`: frames in colour, see `AtariScreen`.
    """

    def __init__(self, settings: AtariSettings, render_mode: str | None = None) -> None:
        if render_mode not in (None, "rgb_array"):
            raise ConfigError(f"render_mode: expected None or 'rgb_array', found {render_mode!r}")
        self.settings = settings
        self.render_mode = render_mode
        self.metadata = {
            "render_modes": ["rgb_array"],
            "render_fps": 60 / settings.frame_skip,
        }
        self._emulator = make_emulator(settings)
        self._screen: AtariScreen | None = None
        if render_mode is not None:
            self._screen = AtariScreen(settings, self._emulator.ale.get_action_set())
        self._action = 0
        self.observation_space = self._emulator.single_observation_space
        self.action_space = self._emulator.single_action_space
        self._was_seeded = False
        self._is_over = True
        # Rewards of the steps that press FIRE at the start: they count for the game's score.
        self._unpaid = 0.0

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Pixels, dict[str, Any]]:
        """Starts a game; a seed, in [0, 2**31), makes everything before it irrelevant.

        A seeded reset loads the ROM anew, about 0.1 seconds. Without a seed the random numbers
        go on where they were.
        """
        super().reset(seed=seed)
        if seed is None and not self._was_seeded:
            seed = int(self.np_random.integers(SEED_LIMIT))
        if seed is not None and not 0 <= seed < SEED_LIMIT:
            raise ConfigError(f"seed: expected a number in [0, 2**31), found {seed}")
        self._was_seeded = True
        self._is_over = False
        observations, info = self._emulator.reset(seed=seed)
        self._unpaid = _extra(info)
        if self._screen is not None:
            self._screen.reset(seed, _single(info), self._hidden())
        return observations[0], _single(info)

    def step(self, action: int) -> tuple[Pixels, float, bool, bool, dict[str, Any]]:
        """Holds an action for `frame_skip` frames; the reward is their sum."""
        self.begin_step(action)
        return self.finish_step()

    def begin_step(self, action: int) -> None:
        """Lets the emulator start on an action, in a thread of its own; `finish_step` must follow.

        Raises:
            ConfigError: There is no such action.
            ResetNeeded: The game is over.
        """
        if self._is_over:
            raise ResetNeeded("The game is over or was never started; call reset() first.")
        # ale-py waits forever for the result of an action that does not exist.
        if not 0 <= action < int(self.action_space.n):  # type: ignore[attr-defined]
            raise ConfigError(f"{self.settings.name} has {self.action_space}, found {action}.")
        self._action = action
        self._emulator.send(np.array([action], np.int64))

    def finish_step(self) -> tuple[Pixels, float, bool, bool, dict[str, Any]]:
        """Waits for the emulator, and returns what `step` does."""
        observations, rewards, terminated, truncated, info = self._emulator.recv()
        if self._screen is not None:
            self._screen.step([self._action, *self._hidden()], _single(info))
        self._is_over = bool(terminated[0] or truncated[0])
        reward = float(rewards[0]) + self._unpaid + _extra(info)
        self._unpaid = 0.0
        result = reward, bool(terminated[0]), bool(truncated[0]), _single(info)
        return observations[0], *result

    def _hidden(self) -> list[int]:
        """Returns the actions of steps that the emulator made by itself, besides the agent's."""
        if isinstance(self._emulator, FiringEmulators):
            return self._emulator.hidden_actions(0)
        return []

    def render(self) -> Pixels:
        """Returns the screen in colour, max-pooled as observations are: mostly (210, 160, 3)."""
        return self._shown().pooled()

    def frames_of_step(self) -> list[Pixels]:
        """Returns every frame since the step before, 60 a second of play; after a reset, one."""
        return list(self._shown().frames)

    def _shown(self) -> AtariScreen:
        if self._screen is None:
            raise ConfigError("To render, make the environment with render_mode='rgb_array'.")
        return self._screen

    def get_action_meanings(self) -> list[str]:
        """Returns the actions' names, such as NOOP and UPFIRE, in the order of their numbers."""
        return [action.name for action in self._emulator.ale.get_action_set()]

    def close(self) -> None:
        """Does nothing: the emulators end with the object."""


def _extra(info: dict[str, Any]) -> float:
    """Returns the rewards of steps that the emulator made by itself."""
    return float(info["extra"][0] + info["extra_before"][0]) if "extra" in info else 0.0


def _single(info: dict[str, Any]) -> dict[str, Any]:
    """Returns the info of the only environment."""
    keys = ("lives", "frame_number", "episode_frame_number")
    return {key: int(info[key][0]) for key in keys}
