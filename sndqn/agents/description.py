"""What an agent is, besides its weights: values only, each of a closed set or in a sane range."""

import re
from dataclasses import asdict, dataclass
from typing import Any, get_args

from sndqn.envs import EnvSettings, settings_from_dict
from sndqn.errors import AgentFileError, shortened
from sndqn.files.fields import (
    FLAG,
    MAX_LAYERS,
    MAX_SIZE,
    Field,
    checked,
    either,
    number,
    one_of,
    text,
    whole,
    wholes,
)
from sndqn.networks import NetworkSpec, SpectralSettings
from sndqn.networks.extractors import TORSOS
from sndqn.networks.heads import HEADS
from sndqn.networks.initializers import InitializerName
from sndqn.networks.normalization import NormalizationName
from sndqn.networks.spec import ACTIVATIONS, SpectralMode
from sndqn.runs.folder import TITLE
from sndqn.spectral.schedulers import SchedulerForm, SchedulerName
from sndqn.spectral.spectral_layer import ConvNorm

SCHEMA = "sndqn-agent-1"

_ANYTHING = Field("{...}", lambda value: type(value) is dict)

HEAD_OF = {"dqn": "linear", "c51": "categorical", "qr-dqn": "quantile", "iqn": "implicit_quantile"}

_AGENT = {
    "schema": one_of(SCHEMA),
    "settings": _ANYTHING,
    "network": _ANYTHING,
    "algo": one_of(*HEAD_OF),
    "timesteps": whole(0, 10**15),
    "seed": whole(0, 2**32 - 1),
    "eval_epsilon": number(0, 1),
}
# Where there is one: files without are as good.
_TITLE = Field(
    "a word of at most 40 letters, digits and . _ + -",
    lambda value: type(value) is str and re.fullmatch(TITLE, value) is not None,
)
_NETWORK = {
    "torso": one_of(*TORSOS),
    "torso_kwargs": _ANYTHING,
    "head": one_of(*HEADS),
    "head_kwargs": _ANYTHING,
    "dueling": FLAG,
    "noisy": FLAG,
    "net_arch": either(wholes(MAX_LAYERS, MAX_SIZE), None),
    "activation": one_of(*ACTIVATIONS),
    "initializer": one_of(*get_args(InitializerName)),
    "spectral": _ANYTHING,
}
# Where there is one, as above.
_NORMALIZATION = one_of(*(n for n in get_args(NormalizationName) if n != "none"))
_SPECTRAL = {
    "layers": text(500),
    "bound": either(number(1e-30, 1e30), "initial"),
    "mode": one_of(*get_args(SpectralMode)),
    "conv_norm": one_of(*get_args(ConvNorm)),
    "n_power_iterations": whole(1, MAX_SIZE),
    "grad_through_norm": FLAG,
    "scheduler": one_of(*get_args(SchedulerName)),
    "scheduler_form": one_of(*get_args(SchedulerForm)),
    "scheduler_one_sided": FLAG,
}


@dataclass(frozen=True)
class AgentDescription:
    """What an agent is, besides its weights.

    Attributes:
        settings: The environment it learnt.
        network: Its network.
        algo: The algorithm that made it.
        timesteps: Steps it learnt from; 0 where that is not known.
        seed: Seed of its training.
        eval_epsilon: ε it is evaluated with.
        title: What the settings of its training are called, "rainbow"; None where that is `algo`.
    """

    settings: EnvSettings
    network: NetworkSpec
    algo: str
    timesteps: int
    seed: int
    eval_epsilon: float
    title: str | None = None

    @property
    def name(self) -> str:
        """What it was trained as: "rainbow (c51)", or "c51"."""
        return self.algo if self.title is None else f"{self.title} ({self.algo})"

    def to_dict(self) -> dict[str, Any]:
        """Returns the description as JSON data."""
        network = asdict(self.network)
        if network["normalization"] == "none":
            del network["normalization"]
        return {
            "schema": SCHEMA,
            "settings": self.settings.to_dict(),
            "network": network,
            "algo": self.algo,
            "timesteps": self.timesteps,
            "seed": self.seed,
            "eval_epsilon": self.eval_epsilon,
            **({} if self.title is None else {"title": self.title}),
        }

    @classmethod
    def from_dict(cls, data: object) -> "AgentDescription":
        """Reads a description of this schema; nothing is built yet.

        Raises:
            SndqnError: Another schema, a field that is missing, unknown or out of range, or
                fields that contradict each other.
        """
        schema = data.get("schema") if isinstance(data, dict) else None
        if schema != SCHEMA:
            other = isinstance(schema, str) and schema.startswith("sndqn-agent-")
            hint = ": read it with the sndqn that wrote it" if other else ""
            raise AgentFileError(f"expected schema {SCHEMA!r}, found {shortened(schema)}{hint}")
        named = isinstance(data, dict) and "title" in data
        fields = {**_AGENT, "title": _TITLE} if named else _AGENT
        values = dict(checked("the agent", data, fields))
        del values["schema"]
        network = _network(values.pop("network"))
        if network.head != HEAD_OF[values["algo"]]:
            raise AgentFileError(
                f"head: expected {HEAD_OF[values['algo']]} for {values['algo']}, "
                f"found {network.head}"
            )
        return cls(settings=settings_from_dict(values.pop("settings")), network=network, **values)


def _network(data: object) -> NetworkSpec:
    named = isinstance(data, dict) and "normalization" in data
    fields = {**_NETWORK, "normalization": _NORMALIZATION} if named else _NETWORK
    values = dict(checked("network", data, fields))
    checked("torso_kwargs", values["torso_kwargs"], TORSOS[values["torso"]].fields, may_miss=True)
    checked("head_kwargs", values["head_kwargs"], HEADS[values["head"]].fields, may_miss=True)
    spectral = checked("spectral", values.pop("spectral"), _SPECTRAL)
    if values["net_arch"] is not None:
        values["net_arch"] = tuple(values["net_arch"])
    return NetworkSpec(**values, spectral=SpectralSettings(**spectral))
