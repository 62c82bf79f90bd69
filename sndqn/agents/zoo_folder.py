"""What rl-zoo wrote beside the zip of a training: which environment it was, wrapped how.

Its folder is `dqn/CartPole-v1_1/`, with CartPole-v1.zip, perhaps best_model.zip, and in
CartPole-v1/ the files args.yml and config.yml. On the hub these two lie beside the zip. They are
read as plain data, and name code that runs only if the user types its name.
"""

import re
from pathlib import Path
from typing import Any

from sndqn.envs import EnvSettings, find_env, resolve_env
from sndqn.errors import AgentFileError, EnvironmentNameError, SndqnError, shortened
from sndqn.files.plain_yaml import read_plain_yaml

_ARGS, _CONFIG = "args.yml", "config.yml"
_ATARI_WRAPPER = "stable_baselines3.common.atari_wrappers.AtariWrapper"
# The arguments of AtariWrapper, and of ale-py's environment, as fields of `AtariSettings`.
_WRAPPER_FIELDS = {
    "noop_max": "noop_max",
    "frame_skip": "frame_skip",
    "screen_size": "screen_size",
    "terminal_on_life_loss": "life_loss",
    "clip_reward": "clip_rewards",
    "action_repeat_probability": "sticky_actions",
}
_EMULATOR_FIELDS = {
    "repeat_action_probability": "sticky_actions",
    "full_action_space": "full_action_space",
    "max_num_frames_per_episode": "max_frames",
}
_REMEDY = "type --env NAME, and --wrapper MODULE:CLASS, to say it yourself"


def zoo_zip(folder: Path) -> Path | None:
    """Returns the zip of a training's last network in a folder of rl-zoo; None where it is none.

    Raises:
        AgentFileError: It is one, but has no such zip.
    """
    places = [folder, *sorted(part for part in folder.iterdir() if part.is_dir())]
    place = next((part for part in places if (part / _ARGS).is_file()), None)
    if place is None:
        return None
    zips = sorted(folder.glob("*.zip"))
    last = folder / f"{place.name}.zip"
    found = [last] if last in zips else [zip for zip in zips if not zip.stem.startswith("train_")]
    if len(found) == 1:
        return found[0]
    names = ", ".join(zip.name for zip in found[:5]) or "none"
    raise AgentFileError(f"{folder}: expected one zip of a model, found {names}: type its path")


def zoo_settings(zip_file: Path) -> EnvSettings | None:
    """Returns the environment of a zip that rl-zoo's files lie beside; None where none do.

    Raises:
        SndqnError: They are damaged, or the environment is one that sndqn cannot make.
    """
    place = _files_of(zip_file)
    if place is None:
        return None
    args = _mapping(place / _ARGS)
    config = _mapping(place / _CONFIG) if (place / _CONFIG).is_file() else {}
    try:
        return _settings(args, config)
    except SndqnError as error:
        raise type(error)(f"{place / _ARGS}: {error}") from None


def _files_of(zip_file: Path) -> Path | None:
    folder = zip_file.absolute().parent
    inside = sorted(found.parent for found in folder.glob(f"*/{_ARGS}"))
    places = [folder / zip_file.stem, folder, *(inside if len(inside) == 1 else [])]
    return next((place for place in places if (place / _ARGS).is_file()), None)


def _mapping(path: Path) -> dict[str, Any]:
    found = read_plain_yaml(path)
    if not isinstance(found, dict) or not all(isinstance(key, str) for key in found):
        raise AgentFileError(f"{path}: expected a mapping of words, found {shortened(found)}")
    return found


def _settings(args: dict[str, Any], config: dict[str, Any]) -> EnvSettings:
    name = args.get("env")
    if not isinstance(name, str) or re.fullmatch(r"[\w.-]+(/[\w.-]+)?", name) is None:
        raise AgentFileError(f"env: expected an id such as CartPole-v1, found {shortened(name)}")
    typed = args.get("env_kwargs")  # takes the place of what the configuration says
    kwargs = (config.get("env_kwargs") if typed is None else typed) or {}
    if not isinstance(kwargs, dict):
        raise AgentFileError(f"env_kwargs: expected a mapping, found {shortened(kwargs)}")
    kwargs = {key: value for key, value in kwargs.items() if key != "render_mode"}
    _refuse_normalised(config.get("normalize"))
    if config.get("vec_env_wrapper"):
        raise AgentFileError(
            f"vec_env_wrapper: expected none, found {shortened(config['vec_env_wrapper'])}: "
            f"{_REMEDY}"
        )
    wrappers, stack = _wrappers(config.get("env_wrapper")), config.get("frame_stack") or 1
    modules = args.get("gym_packages") or []
    modules = modules if isinstance(modules, list) else [modules]
    if not all(isinstance(module, str) for module in modules):
        raise AgentFileError(f"gym_packages: expected words, found {shortened(modules)}")
    if _suite(name, modules) == "atari":
        return _atari(name, kwargs, wrappers, stack)
    if stack != 1:
        raise AgentFileError(f"frame_stack: expected none, found {shortened(stack)}: {_REMEDY}")
    given = [_typed_name(wrapper, arguments) for wrapper, arguments in wrappers]
    return resolve_env(name, modules=modules, wrappers=given, env_kwargs=kwargs or None)


def _suite(name: str, modules: list[str]) -> str:
    try:
        return find_env(name)[0]
    except EnvironmentNameError:
        if modules:
            return "control"  # of a module that was not typed: `resolve_env` says so
        raise


def _refuse_normalised(normalize: Any) -> None:
    """Refuses observations that a pickle of statistics would have to normalise."""
    words = normalize if isinstance(normalize, str) else str(normalize)
    if normalize and re.search(r"norm_obs\W+False", words) is None:
        raise AgentFileError(
            "normalize: expected observations as the environment gives them, found some that were "
            "normalised by vecnormalize.pkl, a pickle, which is never read"
        )


def _wrappers(given: Any) -> list[tuple[str, dict[str, Any]]]:
    """Reads rl-zoo's list of wrappers, each a name or {name: arguments}, the innermost first."""
    found: list[tuple[str, dict[str, Any]]] = []
    for entry in given if isinstance(given, list) else [given] if given else []:
        pairs = list(entry.items()) if isinstance(entry, dict) else [(entry, {})]
        name, arguments = pairs[0] if len(pairs) == 1 else (None, None)
        arguments = {} if arguments is None else arguments
        if not isinstance(name, str) or not isinstance(arguments, dict):
            raise AgentFileError(f"env_wrapper: expected names, found {shortened(entry)}")
        found.append((name, arguments))
    return found


def _typed_name(wrapper: str, arguments: dict[str, Any]) -> str:
    """Returns the name that `--wrapper` takes for a wrapper that needs no arguments."""
    module, _, attribute = wrapper.rpartition(".")
    if arguments or not module:
        raise AgentFileError(
            f"env_wrapper: expected a wrapper that takes the environment alone, found "
            f"{shortened(wrapper)} with {shortened(arguments)}: {_REMEDY}"
        )
    return f"{module}:{attribute}"


def _atari(
    name: str, kwargs: dict[str, Any], wrappers: list[tuple[str, dict[str, Any]]], stack: Any
) -> EnvSettings:
    """Returns the protocol `sb3` with the arguments that the wrappers and the emulator were given.

    Raises:
        AgentFileError: It was wrapped otherwise.
    """
    if [wrapper for wrapper, _ in wrappers] != [_ATARI_WRAPPER]:
        raise AgentFileError(
            f"env_wrapper: expected AtariWrapper of Stable-Baselines3 alone, found "
            f"{shortened([wrapper for wrapper, _ in wrappers])}: type --env and --protocol"
        )
    # What ale-py registers: of -v5, 4 frames and 0.25; of NoFrameskip-v4, 1 and 0; of -v0, 0.25.
    skip = kwargs.get("frameskip", 1 if "NoFrameskip" in name else 4)
    if skip != 1:
        raise AgentFileError(
            f"{name}: expected an emulator that skips no frames under AtariWrapper, found one that "
            f"skips {shortened(skip)}: up to 16 frames per step, which sndqn does not play"
        )
    registered = {"sticky_actions": 0.0 if name.endswith("-v4") else 0.25}
    own = {key: value for key, value in kwargs.items() if key != "frameskip"}
    emulator = {**registered, **_renamed("env_kwargs", own, _EMULATOR_FIELDS)}
    outer = _renamed("env_wrapper", wrappers[0][1], _WRAPPER_FIELDS)
    if outer.get("sticky_actions") and emulator["sticky_actions"]:
        raise AgentFileError(
            "action_repeat_probability: expected the emulator or the wrapper to repeat actions, "
            "found both, which sndqn does not play"
        )
    outer = {key: value for key, value in outer.items() if key != "sticky_actions" or value}
    return resolve_env(name, "sb3", **{**emulator, **outer, "frame_stack": stack})


def _renamed(where: str, given: dict[str, Any], names: dict[str, str]) -> dict[str, Any]:
    strange = [key for key in given if key not in names]
    if strange:
        raise AgentFileError(f"{where}: expected {', '.join(names)}, found {shortened(strange[0])}")
    return {names[key]: value for key, value in given.items()}
