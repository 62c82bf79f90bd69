"""Which runs belong together: an arm is a set of settings, trained on several games and seeds."""

import json
from collections.abc import Mapping, Sequence
from typing import Any

from sndqn.training.settings import SETTINGS, Evaluation, Machine

# What an arm is not made of: what is learnt, the seed, and what changes nothing that is learnt.
_LEFT_OUT = {"env", "seed", "title", "imports", "eval_every_timesteps"}
_LEFT_OUT |= Machine.model_fields.keys() | Evaluation.model_fields.keys()
_SHORT = {
    "sn_layers": "SN",
    "learning_rate": "lr",
    "batch_size": "batch",
    "buffer_size": "buffer",
    "optimizer_eps": "eps",
    "total_timesteps": "steps",
}
_SETTINGS = [name for name in SETTINGS if name not in _LEFT_OUT]


def differing(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Returns the settings in which runs of the same game differ, in the order of the options.

    Games differ in their defaults, so runs of one game are compared with each other alone.

    Args:
        runs: Game and settings of each run.
    """
    values: dict[tuple[str, str], set[str]] = {}
    for env, settings in runs:
        for name in _SETTINGS:
            values.setdefault((env, name), set()).add(_written(settings.get(name)))
    found = {name for (_, name), different in values.items() if len(different) > 1}
    return [name for name in _SETTINGS if name in found]


def arm_name(settings: Mapping[str, Any], names: Sequence[str]) -> str:
    """Names an arm after those of its settings that differ between arms: "SN -2, lr 0.001".

    Args:
        settings: Of a run.
        names: The settings that differ; if none does, the arm is named after its algorithm and SN.
    """
    names = names or ("algo", "sn_layers")
    return ", ".join(_part(name, settings.get(name)) for name in names)


def arm_order(settings: Mapping[str, Any], names: Sequence[str]) -> tuple[Any, ...]:
    """Returns what arms are sorted by: without SN first, then by their values."""
    keys = [_value_order(settings.get(name)) for name in names]
    return (settings.get("sn_layers") != "none", *keys)


def baseline(arms: Mapping[str, Mapping[str, Any]]) -> str | None:
    """Returns the arm that others are compared with: the first without SN, or else the first.

    Args:
        arms: Settings of a run of each arm, in order.
    """
    plain = [arm for arm, settings in arms.items() if settings.get("sn_layers") == "none"]
    return next(iter([*plain, *arms]), None)


def counterparts(arms: Mapping[str, Mapping[str, Any]], names: Sequence[str]) -> dict[str, str]:
    """Returns for each arm with SN the one without SN whose other settings are the same, if any.

    Args:
        arms: Settings of a run of each arm, in order.
        names: The settings that differ between arms.
    """
    others = [name for name in names if not name.startswith("sn_")]
    plain: dict[tuple[str, ...], str] = {}
    found = {}
    for has_sn in (False, True):
        for arm, settings in arms.items():
            key = tuple(_written(settings.get(name)) for name in others)
            if (settings.get("sn_layers") != "none") is not has_sn:
                continue
            if not has_sn:
                plain.setdefault(key, arm)
            elif key in plain:
                found[arm] = plain[key]
    return found


def _part(name: str, value: Any) -> str:
    if name == "algo":
        return shown(value)
    short = _SHORT.get(name, name)
    if isinstance(value, bool):
        return short if value else f"no {short}"
    if name == "sn_layers" and value == "none":
        return "plain"
    return f"{short} {shown(value)}"


def shown(value: Any) -> str:
    """Writes a setting's value as one would type it."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:g}"
    if isinstance(value, list | tuple) and not any(isinstance(part, dict) for part in value):
        return ",".join(map(str, value))
    return value if isinstance(value, str) else _written(value)


def _value_order(value: Any) -> tuple[int, float, str]:
    if type(value) in (int, float, bool):
        return 0, float(value), ""
    try:
        return 1, float(value), ""
    except (TypeError, ValueError):
        return 2, 0.0, _written(value)


def _written(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, default=str)
