"""What the entry `data` of an SB3 zip says in plain JSON of the model that was saved.

Beside its pickles, which are never read, it has numbers, words and the names of classes. They are a
stranger's: each is taken only if it is of the kind and range that it must be, and what the weights
themselves show is never taken from here.
"""

import re
from dataclasses import dataclass
from typing import Any, get_args

from sndqn.agents.told import Told
from sndqn.errors import AgentFileError, JsonError, shortened
from sndqn.files import strict_json
from sndqn.files.fields import FLAG, MAX_SIZE, Field, number, one_of, whole
from sndqn.networks.extractors import TORSOS
from sndqn.networks.spec import ACTIVATIONS
from sndqn.spectral.functional import Mode
from sndqn.spectral.schedulers import SchedulerForm, SchedulerName

MAX_BYTES = 32 * 1024 * 1024  # the last observations of many environments are in it

_CLASS = re.compile(r"<class '([\w.]+)'>")
_KNOWN_PACKAGES = ("stable_baselines3.", "sb3_contrib.", "sndqn.")


@dataclass(frozen=True)
class SavedData:
    """What a zip says of its model, of what sndqn looks for; None is not said.

    Attributes:
        told: What weights do not tell, the defaults of the policy included.
        timesteps: Steps it learnt from.
        seed: Of its training.
        shape: Of an observation.
        n_actions: Number of actions.
        scheduler: Its `sn_scheduler*` arguments, as of `SpectralSettings`.
    """

    told: Told
    timesteps: int | None
    seed: int | None
    shape: tuple[int, ...] | None
    n_actions: int | None
    scheduler: dict[str, Any]

    @property
    def words(self) -> str:
        """What it says of its environment, for the question which one it was."""
        if self.shape is None or self.n_actions is None:
            return ""
        return f", of observations {self.shape} and {self.n_actions} actions"


def read_data(content: bytes) -> SavedData:
    """Reads an entry `data`; what is no JSON, or not as SB3 writes it, says nothing.

    Raises:
        AgentFileError: It says that the network is one that sndqn cannot make.
    """
    try:
        data = strict_json(content, MAX_BYTES)
    except JsonError:
        data = None
    data = data if isinstance(data, dict) else {}
    policy = _dict(data, "policy_kwargs")
    if policy.get("normalize_images") is False:
        raise AgentFileError(
            "expected a policy that divides images by 255, found normalize_images=False"
        )
    shape = _shape(_dict(data, "observation_space"))
    _check_images(_dict(data, "observation_space"), shape)
    return SavedData(
        told=_told(data, policy) if "policy_kwargs" in data else Told(),
        timesteps=_taken(data, "num_timesteps", whole(0, 10**15)),
        seed=_taken(data, "seed", whole(0, 2**32 - 1)),
        shape=shape,
        n_actions=_n_actions(_dict(data, "action_space")),
        scheduler=_scheduler(policy),
    )


def _told(data: dict[str, Any], policy: dict[str, Any]) -> Told:
    _check_extractor(policy)
    return Told(
        activation=_activation(policy.get("activation_fn")),
        sn_mode=_taken({"sn_mode": "normalize", **policy}, "sn_mode", one_of(*get_args(Mode))),
        v_min=_taken(data, "v_min", number(-1e30, 1e30)),
        v_max=_taken(data, "v_max", number(-1e30, 1e30)),
        n_acting_quantiles=_taken(data, "n_acting_quantiles", whole(1, MAX_SIZE)),
    )


def _activation(said: Any) -> str:
    """Returns the name of an activation, which may be that, or of a class of torch's."""
    if said is None:
        return "relu"
    if isinstance(said, str) and said in ACTIVATIONS:
        return said
    found = _CLASS.fullmatch(said) if isinstance(said, str) else None
    for name, kind in ACTIVATIONS.items():
        if found is not None and found[1] == f"{kind.__module__}.{kind.__qualname__}":
            return name
    raise AgentFileError(
        f"expected an activation of {', '.join(ACTIVATIONS)}, found {shortened(said)}"
    )


def _check_extractor(policy: dict[str, Any]) -> None:
    """Refuses a features extractor that is not known here: its shapes may look like another's."""
    said = policy.get("features_extractor_class")
    found = _CLASS.match(said) if isinstance(said, str) else None
    if found is not None and not found[1].startswith(_KNOWN_PACKAGES):
        raise AgentFileError(
            "expected a features extractor of Stable-Baselines3 or sndqn "
            f"({', '.join(TORSOS)}), found {shortened(found[1])}"
        )


def _check_images(space: dict[str, Any], shape: tuple[int, ...] | None) -> None:
    """Refuses images of floats up to 255: sndqn divides them by 255, SB3 does not."""
    highest = re.match(r"[\[\s]*255\.", str(space.get("high"))[:100])
    if len(shape or ()) == 3 and str(space.get("dtype")).startswith("float") and highest:
        raise AgentFileError("expected images of bytes, found images of floats up to 255")


def _scheduler(policy: dict[str, Any]) -> dict[str, Any]:
    known = {
        "scheduler": one_of(*get_args(SchedulerName)),
        "scheduler_form": one_of(*get_args(SchedulerForm)),
        "scheduler_one_sided": FLAG,
    }
    found = {name: _taken(policy, f"sn_{name}", field) for name, field in known.items()}
    return {name: value for name, value in found.items() if value is not None}


def _dict(data: dict[str, Any], name: str) -> dict[str, Any]:
    found = data.get(name)
    return found if isinstance(found, dict) else {}


def _taken(data: dict[str, Any], name: str, field: Field) -> Any:
    value = data.get(name)
    return value if field.check(value) else None


def _shape(space: dict[str, Any]) -> tuple[int, ...] | None:
    found: Any = space.get("_shape")
    side = whole(0, 2**31)
    if isinstance(found, list) and len(found) <= 8 and all(map(side.check, found)):
        return tuple(found)
    return None


def _n_actions(space: dict[str, Any]) -> int | None:
    found = str(space.get("n", ""))  # SB3 writes NumPy's numbers as words
    return int(found) if re.fullmatch(r"[0-9]{1,6}", found) else None
