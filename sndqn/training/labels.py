"""What a run is called: its settings' name, SN, and what was changed by flags."""

import json
import re
from collections.abc import Iterable
from typing import Any

from sndqn.files import sha256_of
from sndqn.training.config import TrainConfig
from sndqn.training.settings import Evaluation, Machine

_LONGEST_PART = 24
_LONGEST = 80
# They stand elsewhere in the name, or change nothing that is learnt.
_LEFT_OUT = {"env", "title", "seed", "sn_layers", "imports", "eval_curve_episodes"}
_LEFT_OUT |= Machine.model_fields.keys() | Evaluation.model_fields.keys()
_SHORT = {
    "total_timesteps": "steps",
    "learning_rate": "lr",
    "batch_size": "batch",
    "buffer_size": "buffer",
    "learning_starts": "starts",
    "target_update_interval": "target",
    "n_envs": "envs",
    "eval_every_timesteps": "eval-every",
    "net_arch": "net",
    "optimizer": "",
    "optimizer_eps_layers": "eps-layers",
    "weight_decay": "decay",
    "protocol": "",
    "init_from": "from-",
    "sn_bound": "bound",
    "sn_mode": "",
    "sn_conv_norm": "",
    "sn_scheduler": "",
}


def run_label(config: TrainConfig, changed: Iterable[str] = ()) -> str:
    """Names a run's folder, before the time: "rainbow-sn-2-lr0.0001-seed0".

    Letters, digits and a few signs that every file system takes; the same settings and flags give
    the same name, of bounded length.

    Args:
        config: Its settings.
        changed: Names of those that were given by flags.
    """
    title = config.title or config.algo
    left_out = _LEFT_OUT if config.title else {*_LEFT_OUT, "algo"}
    parts = [setting_label(name, getattr(config, name)) for name in changed if name not in left_out]
    shown: list[str] = []
    for part in parts:
        if len("-".join([*shown, part])) > _LONGEST:
            rest = sha256_of("-".join(parts).encode())[:6]
            shown.append(f"and{len(parts) - len(shown)}-{rest}")
            break
        shown.append(part)
    return "-".join([title, f"sn{_layers(config.sn_layers)}", *shown, f"seed{config.seed}"])


def setting_label(name: str, value: Any) -> str:
    """Writes one changed setting: "lr0.0001", "sn-2", "no-double"."""
    if name == "sn_layers":
        return f"sn{_layers(value)}"
    short = _SHORT.get(name, name.replace("_", "-"))
    if value is None or isinstance(value, bool):
        return short if value else f"no-{short or name}"
    if isinstance(value, dict):
        words = json.dumps(value, sort_keys=True, default=str)
        return f"{short}-{sha256_of(words.encode())[:6]}"
    if isinstance(value, tuple | list):
        written = "x".join(map(str, value))
    else:
        written = f"{value:g}" if isinstance(value, float) else str(value)
    word = "-" if short and not short.endswith("-") and not written[:1].isdigit() else ""
    return (short + word + slug(written.rstrip("/").rpartition("/")[2]))[:_LONGEST_PART]


def slug(text: str) -> str:
    """Writes a text in letters, digits and a few signs that every file system takes."""
    return re.sub(r"[^A-Za-z0-9._+-]+", "-", text)


def _layers(selection: str) -> str:
    return slug(selection.replace(",", "+").replace(".", "_"))[:_LONGEST_PART]
