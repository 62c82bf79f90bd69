"""What the user says of an agent that Stable-Baselines3 saved, by the names of settings."""

from collections.abc import Mapping, Sequence
from typing import Any

from sndqn.agents.told import Told
from sndqn.envs import AtariSettings, resolve_env
from sndqn.errors import ConfigError
from sndqn.training.config import make_config
from sndqn.training.settings import Environment

_ENVIRONMENT = ("protocol", "env_kwargs")
_NETWORK = ("activation", "sn_mode")
_NUMBERS = ("v_min", "v_max", "n_acting_quantiles")


def tell(
    given: Mapping[str, Any], imports: Sequence[str] = (), wrappers: Sequence[str] = ()
) -> Told:
    """Reads what the user says; the environment is resolved, and its module imported if named.

    Args:
        given: Any of `env`, `protocol`, `env_kwargs`, `activation`, `sn_mode`, `v_min`, `v_max` and
            `n_acting_quantiles`.
        imports: Modules that were typed.
        wrappers: Wrappers that were typed, which are the environment's where `env` is given.

    Raises:
        ConfigError: There is no such name, no such value of it, or the protocol of an Atari game is
            missing, which cannot be guessed.
        EnvironmentNameError: No environment is called that.
    """
    known = ("env", *_ENVIRONMENT, *_NETWORK, *_NUMBERS)
    for name in given:
        if name not in known:
            raise ConfigError(f"expected {', '.join(known)}, found {name!r}: leave it out")
        if name in _ENVIRONMENT and "env" not in given:
            raise ConfigError(f"--{name.replace('_', '-')}: expected --env with it, found none")
    numbers = {name: given[name] for name in _NUMBERS if name in given}
    network = {name: given[name] for name in _NETWORK if name in given}
    if "env" not in given:
        make_config({"env": "CartPole", **network})  # checks the names
        return Told(**network, **numbers)
    own = {name: value for name, value in given.items() if name not in numbers}
    config = make_config({**own, "imports": list(imports), "wrappers": list(wrappers)})
    settings = resolve_env(
        given["env"], modules=imports, wrappers=wrappers, **config.section(Environment)
    )
    if isinstance(settings, AtariSettings) and "protocol" not in given:
        raise ConfigError(
            f"--env {given['env']}: expected --protocol with it, found none: type --protocol sb3 "
            "if it learnt under Stable-Baselines3's AtariWrapper, nature if in sndqn's environments"
        )
    return Told(settings, **network, **numbers)
