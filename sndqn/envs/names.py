"""What a name such as "Breakout" means: from what people type to exact settings."""

import difflib
import importlib.util
import re
import sys
from collections.abc import Sequence
from dataclasses import fields, replace
from typing import TYPE_CHECKING, Any

from sndqn.envs.settings import (
    ATARI_PROTOCOLS,
    MINATAR_GAMES,
    AtariSettings,
    ControlSettings,
    EnvSettings,
    MinAtarSettings,
    title_of,
)
from sndqn.envs.user_code import import_typed, split_module
from sndqn.errors import (
    ConfigError,
    EnvironmentNameError,
    MissingExtraError,
    UntypedCodeError,
)

if TYPE_CHECKING:
    from gymnasium.envs.registration import EnvSpec

#: ROMs that only two people can play; ale-py registers no environment for them.
TWO_PLAYER_ROMS = ("combat", "joust", "maze_craze", "warlords")

_PROTOCOLS: dict[type[EnvSettings], dict[str, dict[str, Any]]] = {
    AtariSettings: ATARI_PROTOCOLS,
    MinAtarSettings: {"minatar": {}},
    ControlSettings: {"gymnasium": {}},
}

#: The fields that a name decides; they are no overrides.
_IDENTITY = ("game", "env_id", "protocol", "modules", "wrappers", "arranged")

# A settings class and the fields of it that the name decides.
_Meaning = tuple[type[EnvSettings], dict[str, Any]]


def resolve_env(
    name: str,
    protocol: str | None = None,
    *,
    modules: Sequence[str] = (),
    wrappers: Sequence[str] = (),
    **overrides: object,
) -> EnvSettings:
    """Returns the settings that a name stands for, under a protocol, with changes.

    Names are forgiving: `Breakout`, `ms_pacman`, `ALE/Breakout-v5`, `BreakoutNoFrameskip-v4`,
    `MinAtar/Breakout`, `cartpole` and every id registered with Gymnasium. An Atari id names the
    game only; sticky actions, frame skip and the rest are the protocol's. `module:Id-v0` imports
    the module first, as `gymnasium.make` does.

    Args:
        name: What the user typed.
        protocol: `nature`, `machado` or `sb3` for Atari; None means the suite's default.
        modules: The modules that register an environment of Gymnasium, for the record: none is
            imported here.
        wrappers: Names of wrappers, "module:Class", that `use_wrapper` was given before.
        **overrides: Fields of the suite's settings; None means the protocol's value.

    Raises:
        EnvironmentNameError: No environment has this name, or the id would skip frames twice.
        UntypedCodeError: Its module or a wrapper was not typed.
        ConfigError: The protocol or an override does not belong to the suite.
        UnsupportedSpaceError: Q-learning cannot take the environment's actions or observations.
        MissingExtraError: The environment needs a package that is not installed.
    """
    module, name = split_module(name)
    if module is not None:
        import_typed(module, "env")
        modules = [*modules, *([] if module in modules else [module])]
    kind, identity = _meaning(name, modules)
    protocols = _PROTOCOLS[kind]
    if protocol is None:
        protocol = next(iter(protocols))
    if protocol not in protocols:
        raise ConfigError(
            f"{name} is of the suite {kind.suite}, which has no protocol {protocol!r}; "
            f"choose from {', '.join(protocols)}, or leave it out."
        )
    given = {field: value for field, value in overrides.items() if value is not None}
    known = [field.name for field in fields(kind) if field.name not in _IDENTITY]
    unknown = [field for field in given if field not in known]
    if unknown:
        raise ConfigError(
            f"{name} is of the suite {kind.suite}, which has no setting {', '.join(unknown)}; "
            f"it has {', '.join(known) or 'none'}."
        )
    if wrappers:
        if kind is AtariSettings:
            raise ConfigError(
                f"wrappers: {name} runs in the emulator's own vector, which takes no wrapper; its "
                "conventions are options: --frame-skip, --life-loss, ..."
            )
        given["wrappers"] = list(wrappers)
    settings = kind(protocol=protocol, **{**identity, **protocols[protocol], **given})
    if isinstance(settings, ControlSettings):
        from sndqn.envs.control import make_control_env, registering_modules

        if not modules:
            settings = replace(settings, modules=registering_modules(settings.env_id))
        # Only the environment itself knows its spaces.
        make_control_env(settings).close()
    return settings


def find_env(name: str) -> tuple[str, str]:
    """Returns the suite and the full name of the environment that a name stands for.

    Raises:
        EnvironmentNameError: No environment has this name.
        MissingExtraError: Its suite is not installed.
    """
    kind, identity = _meaning(name)
    return kind.suite, kind(**identity).name


def _meaning(name: str, modules: Sequence[str] = ()) -> _Meaning:
    meaning = _minatar_meaning(name) or _atari_meaning(name) or _control_meaning(name)
    if meaning is None:
        untyped = [module for module in modules if module not in sys.modules]
        if untyped:
            options = " ".join(f"--import {module}" for module in untyped)
            raise UntypedCodeError(
                f"{name} is registered by the module {' or '.join(untyped)}, which is imported "
                f"only if you type it: {options}"
            )
        raise EnvironmentNameError(_unknown_name(name))
    kind, identity = meaning
    return kind, {**identity, "modules": list(modules)} if kind is ControlSettings else identity


def _key(name: str) -> str:
    """Returns a name without what people type either way: case, hyphens, underscores."""
    return re.sub(r"[-_ ]", "", name).lower()


def _split_version(name: str) -> tuple[str, int | None]:
    """Splits `Breakout-v4` into `Breakout` and 4; the version is None where there is none."""
    match = re.fullmatch(r"(.+)-v(\d+)", name)
    return (match[1], int(match[2])) if match else (name, None)


def _minatar_meaning(name: str) -> _Meaning | None:
    base, version = _split_version(name)
    suite, _, title = base.partition("/")
    games = {_key(game): game for game in MINATAR_GAMES}
    if suite.lower() != "minatar" or _key(title) not in games or version not in (None, 0, 1):
        return None
    # Looked for, not imported: `import minatar` draws in seaborn and matplotlib, two seconds.
    if importlib.util.find_spec("minatar") is None:
        raise MissingExtraError(
            f"{name} needs the package MinAtar, which is not installed; "
            'type: pip install "sndqn[minatar]"'
        )
    identity: dict[str, Any] = {"game": games[_key(title)]}
    if version == 1:
        identity["minimal_actions"] = True
    return MinAtarSettings, identity


def _atari_games() -> dict[str, str]:
    """Returns every one-player ROM name by its key."""
    from ale_py import roms

    playable = (rom for rom in roms.get_all_rom_ids() if rom not in TWO_PLAYER_ROMS)
    return {_key(rom): rom for rom in playable}


def _atari_meaning(name: str) -> _Meaning | None:
    match = re.fullmatch(r"(ALE/)?([^/]+?)(NoFrameskip|Deterministic)?(?:-v(\d+))?", name)
    rom = _atari_games().get(_key(match[2])) if match else None
    if match is None or rom is None:
        return None
    form = (match[1] or "") + (match[3] or "")
    names_the_game = {"": (None,), "ALE/": (None, "5"), "NoFrameskip": ("0", "4")}
    if match[4] in names_the_game.get(form, ()):
        return AtariSettings, {"game": rom}
    if form in ("", "Deterministic") and match[4] in ("0", "4"):
        raise EnvironmentNameError(
            f"{name} skips frames by itself, and every protocol skips 4: up to 16 frames per step. "
            f"Type {title_of(rom)}; --protocol decides sticky actions, --frame-skip the frames."
        )
    return None


def _gymnasium_specs() -> "dict[str, EnvSpec]":
    """Returns what is registered with Gymnasium, less what the other suites answer for."""
    import gymnasium

    def is_others(spec: "EnvSpec") -> bool:
        return str(spec.entry_point).startswith(("ale_py", "minatar"))

    return {name: spec for name, spec in gymnasium.registry.items() if not is_others(spec)}


def _control_meaning(name: str) -> _Meaning | None:
    specs = _gymnasium_specs()
    if name not in specs:
        matches = [
            spec
            for spec in specs.values()
            if _key(name) in (_key(spec.id), _key(_split_version(spec.id)[0]))
        ]
        if not matches:
            return None
        name = max(matches, key=lambda spec: spec.version or 0).id
    return ControlSettings, {"env_id": name}


def _unknown_name(name: str) -> str:
    """Returns the message for a name that nothing answers to, with the nearest ones."""
    names = [title_of(game) for game in _atari_games().values()]
    names += [f"MinAtar/{title_of(game)}" for game in MINATAR_GAMES]
    names += [_split_version(env_id)[0] for env_id in _gymnasium_specs()]
    by_key = {_key(known): known for known in names}
    base, _ = _split_version(name.removeprefix("ALE/"))
    near = [by_key[key] for key in difflib.get_close_matches(_key(base), by_key, n=3)]
    advice = (
        f"did you mean {' or '.join(near)}?"
        if near
        else "type an Atari game (Breakout), MinAtar/Breakout or a Gymnasium id (CartPole-v1), and "
        "for one of another package --import MODULE too."
    )
    return f"No environment is called {name!r}; {advice}"
