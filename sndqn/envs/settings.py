"""What an environment is, as plain data: three frozen dataclasses, one per suite.

An episode is a pure function of (settings, seed, actions), so settings are written into runs,
agents and traces, and read back from files that others made: they validate themselves.
"""

import dataclasses
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, ClassVar

from sndqn.errors import ConfigError, shortened

#: The fields in which each Atari protocol departs from the defaults of `AtariSettings`.
ATARI_PROTOCOLS: dict[str, dict[str, Any]] = {
    "nature": {},
    "machado": {"sticky_actions": 0.25, "noop_max": 0, "life_loss": False},
    "sb3": {"fire_reset": True},
}

#: Keywords of gymnasium.make, which are not the environment's.
_RESERVED_KEYWORDS = (
    "id",
    "disable_env_checker",
    "render_mode",
    "apply_api_compatibility",
)

#: Most levels and values of `env_kwargs`: strict readers of JSON and YAML take no more.
_MAX_DEPTH, _MAX_VALUES = 4, 10_000
_MODULE = r"[^\W\d]\w*(\.[^\W\d]\w*)*"

#: MinAtar's games, by the names of their modules.
MINATAR_GAMES = ("asterix", "breakout", "freeway", "seaquest", "space_invaders")


#: Values that files from before a field stand for, where they are not its default.
_ABSENT: dict[str, Any] = {"arranged": False}


def title_of(game: str) -> str:
    """Returns a game's public name: `ms_pacman` is MsPacman, as in Gymnasium's ids."""
    return game.title().replace("_", "")


def _require(holds: bool, field: str, expected: str, value: object) -> None:
    """Raises ConfigError unless `holds`, saying what `field` takes and what it was given."""
    if not holds:
        raise ConfigError(f"{field}: expected {expected}, found {shortened(value)}")


def _require_probability(field: str, value: float) -> None:
    _require(0 <= value < 1, field, "a probability in [0, 1)", value)


def _sticky_words(probability: float) -> str:
    return f"sticky actions {probability:g}" if probability else "no sticky actions"


class _Settings:
    """What the three kinds of settings share: type checks and the way to a JSON object."""

    suite: ClassVar[str]

    def to_dict(self) -> dict[str, Any]:
        """Returns the settings as a JSON-able dict that `settings_from_dict` reads back.

        A field is left out where reading would give it the same value: equal settings have one
        spelling.
        """
        values = asdict(self)  # type: ignore[call-overload]
        absent = {**_ABSENT, **{name: [] for name in ("modules", "wrappers")}}
        return {
            "suite": self.suite,
            **{name: value for name, value in values.items() if absent.get(name) != value},
        }

    def _require_types(self) -> None:
        """Checks every field against its annotation; an int where a float belongs becomes one."""
        for field in fields(self):  # type: ignore[arg-type]
            value = getattr(self, field.name)
            if field.type is float and type(value) is int and abs(value) < 2**53:
                # One spelling, so that equal settings have equal digests.
                object.__setattr__(self, field.name, float(value))
            else:
                assert isinstance(field.type, type)
                expected = f"of type {field.type.__name__}"
                _require(type(value) is field.type, field.name, expected, value)

    def _require_range(self, field: str, low: int, high: int) -> None:
        value = getattr(self, field)
        _require(low <= value <= high, field, f"between {low} and {high}", value)


@dataclass(frozen=True, kw_only=True)
class AtariSettings(_Settings):
    """An Atari 2600 game under a protocol; the defaults are the protocol `nature`.

    Attributes:
        game: ale-py's ROM name, such as `ms_pacman`.
        protocol: Name of the conventions the other fields started from.
        noop_max: A game starts with 0 to `noop_max - 1` no-op frames, drawn uniformly.
        sticky_actions: Probability, per frame, that the emulator repeats its previous action.
        life_loss: In training, losing a life ends an episode (not the game).
        clip_rewards: In training, rewards are clipped to [-1, 1].
        fire_reset: Press FIRE, then action 2, for a step each at the start of a game, and under
            `life_loss` after every lost life; where the game has FIRE. As SB3's wrappers.
        frame_skip: Frames per step; the last two are max-pooled.
        max_frames: A game is truncated after this many frames, no-ops not counted.
        full_action_space: All 18 actions instead of those that the game uses.
        frame_stack: Frames per observation.
        screen_size: Height and width of a frame in pixels.
    """

    suite: ClassVar[str] = "atari"

    game: str = "breakout"
    protocol: str = "nature"
    noop_max: int = 30
    sticky_actions: float = 0.0
    life_loss: bool = True
    clip_rewards: bool = True
    fire_reset: bool = False
    frame_skip: int = 4
    max_frames: int = 108_000
    full_action_space: bool = False
    frame_stack: int = 4
    screen_size: int = 84

    def __post_init__(self) -> None:
        """Refuses values that no emulator takes."""
        self._require_types()
        # Which ROMs exist only ale-py knows; here we keep paths and the like out.
        is_rom_name = re.fullmatch(r"[a-z0-9_]+", self.game) is not None
        _require(is_rom_name, "game", "a ROM name such as 'ms_pacman'", self.game)
        known = f"one of {', '.join(ATARI_PROTOCOLS)}"
        _require(self.protocol in ATARI_PROTOCOLS, "protocol", known, self.protocol)
        _require_probability("sticky_actions", self.sticky_actions)
        # Upper ends far beyond use, so that a file from elsewhere cannot ask for all memory.
        self._require_range("noop_max", 0, 1000)
        self._require_range("frame_skip", 1, 60)
        self._require_range("max_frames", 1, 10_000_000)
        self._require_range("frame_stack", 1, 16)
        self._require_range("screen_size", 1, 512)

    @property
    def name(self) -> str:
        """What one types and what run folders are called, such as `MsPacman`."""
        return title_of(self.game)

    @property
    def frames_per_step(self) -> int:
        """Emulated frames per agent step."""
        return self.frame_skip

    def describe(self) -> str:
        """Returns one line that says what the name means under these settings."""
        start = f"0 to {self.noop_max - 1} no-ops" if self.noop_max > 1 else "no no-ops"
        if self.fire_reset:
            again = ", and after each lost life" if self.life_loss else ""
            start += f", then FIRE and action 2{again}"
        rules = [
            _sticky_words(self.sticky_actions),
            start,
            f"{self.frame_skip} frames per step",
            f"cap {self.max_frames} frames",
        ]
        if self.full_action_space:
            rules.append("all 18 actions")
        training = [
            "life loss ends an episode" if self.life_loss else "an episode is a whole game",
            "rewards clipped to [-1, 1]" if self.clip_rewards else "rewards raw",
        ]
        return (
            f"{self.name}: Atari, protocol {self.protocol}{self._departures()} "
            f"({', '.join(rules)}; training: {', '.join(training)}; "
            "scores are raw, of whole games)"
        )

    def _departures(self) -> str:
        """Returns how the settings depart from the protocol they name, or nothing."""
        protocol = AtariSettings(
            game=self.game, protocol=self.protocol, **ATARI_PROTOCOLS[self.protocol]
        )
        changed = [
            f"{field.name}={getattr(self, field.name)!r}"
            for field in fields(self)
            if getattr(self, field.name) != getattr(protocol, field.name)
        ]
        return f" with {', '.join(changed)}" if changed else ""


@dataclass(frozen=True, kw_only=True)
class MinAtarSettings(_Settings):
    """A MinAtar game; the defaults are those of MinAtar and of the paper.

    Attributes:
        game: `asterix`, `breakout`, `freeway`, `seaquest` or `space_invaders`.
        protocol: `minatar`, the only one.
        sticky_actions: Probability that a step repeats the previous action.
        difficulty_ramping: The game gets faster as it goes on, where it can.
        minimal_actions: Only the actions that the game uses, instead of all six.
        n_channels: Channels of an observation, those past the game's own empty, so that games share
            a network; 0 for the game's own 4 to 10.
        wrappers: As of `ControlSettings`.
    """

    suite: ClassVar[str] = "minatar"

    game: str = "breakout"
    protocol: str = "minatar"
    sticky_actions: float = 0.1
    difficulty_ramping: bool = True
    minimal_actions: bool = False
    n_channels: int = 0
    wrappers: list = dataclasses.field(default_factory=list)  # type: ignore[type-arg] # checked by its class

    def __post_init__(self) -> None:
        """Refuses games and values that MinAtar does not have."""
        self._require_types()
        known = f"one of {', '.join(MINATAR_GAMES)}"
        _require(self.game in MINATAR_GAMES, "game", known, self.game)
        _require(self.protocol == "minatar", "protocol", "'minatar'", self.protocol)
        self._require_range("n_channels", 0, 64)
        _require_probability("sticky_actions", self.sticky_actions)
        _require_names("wrappers", self.wrappers, f"{_MODULE}:[^\\W\\d]\\w*", "module:Class")

    @property
    def name(self) -> str:
        """What one types and what run folders are called, such as `MinAtar/SpaceInvaders`."""
        return f"MinAtar/{title_of(self.game)}"

    @property
    def frames_per_step(self) -> int:
        """One: MinAtar skips no frames."""
        return 1

    def describe(self) -> str:
        """Returns one line that says what the name means under these settings."""
        padded = f", filled up to {self.n_channels}" if self.n_channels else ""
        return (
            f"{self.name}: MinAtar, 10x10 channels{padded} "
            f"({_sticky_words(self.sticky_actions)}, "
            f"difficulty ramping {'on' if self.difficulty_ramping else 'off'}, "
            f"{'minimal actions' if self.minimal_actions else 'all 6 actions'}"
            f"{_wrapper_words(self.wrappers)}; rewards and scores raw)"
        )


@dataclass(frozen=True, kw_only=True)
class ControlSettings(_Settings):
    """An environment registered with Gymnasium, as it is registered.

    Attributes:
        env_id: Gymnasium's id with its version, such as `CartPole-v1`.
        protocol: `gymnasium`, the only one.
        env_kwargs: Keywords of its constructor, or `max_episode_steps`: numbers, words, true or
            false, null, and lists and mappings of these.
        wrappers: Names of the wrappers around it, "module:Class", the innermost first.
        modules: The modules that register it; empty for Gymnasium's own.
        arranged: Whether its observations are arranged for networks, see `envs.observations`.
    """

    suite: ClassVar[str] = "control"

    env_id: str = "CartPole-v1"
    protocol: str = "gymnasium"
    env_kwargs: dict = dataclasses.field(default_factory=dict)  # type: ignore[type-arg] # checked by its class
    wrappers: list = dataclasses.field(default_factory=list)  # type: ignore[type-arg]
    modules: list = dataclasses.field(default_factory=list)  # type: ignore[type-arg]
    arranged: bool = True

    def __post_init__(self) -> None:
        """Refuses what cannot be a Gymnasium id: importing `module:id` would run any module."""
        self._require_types()
        is_id = re.fullmatch(r"\w[\w.-]*(/\w[\w.-]*)?", self.env_id) is not None
        # Gymnasium's bridges to the old Gym import whatever module their argument names.
        is_id = is_id and not self.env_id.startswith("GymV")
        _require(is_id, "env_id", "a Gymnasium id such as 'CartPole-v1'", self.env_id)
        _require(self.protocol == "gymnasium", "protocol", "'gymnasium'", self.protocol)
        for name in self.env_kwargs:
            _require(
                isinstance(name, str) and name.isidentifier() and name not in _RESERVED_KEYWORDS,
                "env_kwargs",
                "keywords of the environment itself",
                name,
            )
        given = {name: _plain(name, value, _MAX_DEPTH) for name, value in self.env_kwargs.items()}
        _require(_count(given) <= _MAX_VALUES, "env_kwargs", "fewer values", "more than 10000")
        limit = given.get("max_episode_steps", 1)
        _require(type(limit) is int and limit > 0, "max_episode_steps", "a number of steps", limit)
        object.__setattr__(self, "env_kwargs", given)
        _require_names("wrappers", self.wrappers, f"{_MODULE}:[^\\W\\d]\\w*", "module:Class")
        _require_names("modules", self.modules, _MODULE, "a module")

    @property
    def name(self) -> str:
        """What one types and what run folders are called: the id."""
        return self.env_id

    @property
    def frames_per_step(self) -> int:
        """One: Gymnasium's control tasks skip no frames."""
        return 1

    def describe(self, time_limit: str = "its own time limit") -> str:
        """Returns one line that says what the name means under these settings.

        Args:
            time_limit: What ends an episode that does not end by itself.
        """
        given = ", ".join(f"{name}={value!r}" for name, value in self.env_kwargs.items())
        how = f"with {given[:300]}" if given else "as registered"
        how += _wrapper_words(self.wrappers)
        return f"{self.name}: Gymnasium, {how} ({time_limit}; rewards raw)"


def _wrapper_words(wrappers: list[str]) -> str:
    return f", wrapped in {', '.join(wrappers)}" if wrappers else ""


def _require_names(field: str, values: list[Any], pattern: str, expected: str) -> None:
    for value in values:
        is_name = isinstance(value, str) and re.fullmatch(pattern, value) is not None
        _require(is_name, field, f"a list of {expected}", value)


def _plain(name: str, value: Any, depth: int) -> Any:
    """Returns a copy of a value as JSON gives it back: a tuple is a list."""
    if type(value) in (list, tuple) and depth:
        return [_plain(name, part, depth - 1) for part in value]
    if type(value) is dict and depth and all(isinstance(key, str) for key in value):
        return {key: _plain(name, part, depth - 1) for key, part in value.items()}
    is_plain = value is None or type(value) in (bool, int, float, str)
    expected = "a number, a word, true, false or null, or a list or mapping of these"
    if type(value) in (list, tuple, dict):
        expected += f", at most {_MAX_DEPTH} in each other, whose keys are words"
    _require(is_plain, f"env_kwargs {name}", expected, value)
    if type(value) in (int, float):
        _require(abs(value) < 2**63, f"env_kwargs {name}", "a finite number", value)
    return value


def _count(value: Any) -> int:
    parts = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    return 1 + sum(map(_count, parts))


EnvSettings = AtariSettings | MinAtarSettings | ControlSettings


def settings_from_dict(data: Mapping[str, Any]) -> EnvSettings:
    """Reads settings back from `to_dict()`, trusting nothing; left-out fields take their defaults.

    Raises:
        ConfigError: On an unknown suite or key, a wrong type, or a value out of range.
    """
    classes: dict[str, type[EnvSettings]] = {
        kind.suite: kind for kind in (AtariSettings, MinAtarSettings, ControlSettings)
    }
    _require(isinstance(data, Mapping), "environment settings", "a mapping", data)
    values = dict(data)
    suite = values.pop("suite", None)
    _require(suite in list(classes), "suite", f"one of {', '.join(classes)}", suite)
    kind = classes[suite]
    known = [field.name for field in fields(kind)]
    unknown = sorted(str(key) for key in values if key not in known)
    if unknown:
        raise ConfigError(
            f"{suite} environments have no setting {', '.join(unknown)}; "
            f"they have {', '.join(known)}."
        )
    return kind(**{**{name: _ABSENT[name] for name in known if name in _ABSENT}, **values})
