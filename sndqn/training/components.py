"""What a configuration means: its environments, its network, its algorithm, its callbacks."""

from dataclasses import replace
from typing import Any

import torch
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule

from sndqn.agents import q_function
from sndqn.agents.description import HEAD_KWARGS
from sndqn.algorithms import C51, DQN, IQN, QRDQN, ValueBasedAlgorithm
from sndqn.console import Pulse
from sndqn.envs import EnvSettings, MinAtarSettings, make_env, resolve_env
from sndqn.errors import ConfigError
from sndqn.evaluation import evaluate
from sndqn.networks import NetworkSpec, SpectralSettings
from sndqn.networks.factory import default_torso
from sndqn.optimizers import Adam, RMSprop
from sndqn.policies import SNDQNPolicy, policy_arguments
from sndqn.training.callbacks import EnvChanges, EvaluationCallback, LogCallback, ProgressCallback
from sndqn.training.config import TrainConfig, make_config
from sndqn.training.evaluating import evaluation_protocol
from sndqn.training.settings import OWNERS, Environment, Exploration, Learning
from sndqn.training.signals import StopSignals

_ALGORITHMS: dict[str, type[ValueBasedAlgorithm]] = {
    "dqn": DQN,
    "c51": C51,
    "qr-dqn": QRDQN,
    "iqn": IQN,
}
_TORSO_SIZES: dict[str, tuple[str, ...]] = {
    "mlp": ("features_dim",),
    "nature_cnn": ("features_dim",),
    "minatar_cnn": ("features_dim", "channels"),
    "impala_cnn": ("features_dim", "width", "pool"),
    "combined": (),
}


def env_settings(config: TrainConfig, **changes: Any) -> EnvSettings:
    """Resolves the environment and its settings, some of them changed; touches nothing."""
    settings = {**config.section(Environment), **changes}
    return resolve_env(config.env, modules=config.imports, wrappers=config.wrappers, **settings)


def env_phases(config: TrainConfig) -> dict[int, EnvSettings]:
    """Gives the environment's settings by the step from which they hold, 0 first."""
    phases, changes = {0: env_settings(config)}, dict[str, Any]()
    for at, values in sorted((config.env_changes or {}).items()):
        changes.update(values)
        phases[at] = env_settings(config, **changes)
    spaces = [_spaces(settings) for settings in phases.values()] if len(phases) > 1 else []
    for at, changed in zip(phases, spaces, strict=False):
        if changed != spaces[0]:
            raise ConfigError(
                f"env_changes {at}: expected the observations and actions to stay, {spaces[0]}, "
                f"found {changed}: change other settings"
            )
    return phases


def _spaces(settings: EnvSettings) -> tuple[Any, Any]:
    env = make_env(settings)
    env.close()
    return env.observation_space, env.action_space


def task_configs(config: TrainConfig) -> list[TrainConfig]:
    """Gives each of several tasks a configuration of its own: an equal share of the steps.

    Raises:
        ConfigError: The tasks' observations have not one shape; MinAtar's are filled up to have.
    """
    names = config.env_names
    settings = [env_settings(config.model_copy(update={"env": name})) for name in names]
    if len({found.name for found in settings}) < len(names):
        raise ConfigError(f"env: expected different tasks, found {config.env}: name each once")
    shapes = [_spaces(found)[0].shape for found in settings]
    filled: dict[str, Any] = {}
    if isinstance(settings[0], MinAtarSettings) and config.n_channels is None:
        filled["n_channels"] = max(shape[0] for shape in shapes)
        shapes = [(filled["n_channels"], *shape[1:]) for shape in shapes]
    if len({found.suite for found in settings}) > 1 or len(set(shapes)) > 1:
        listed = ", ".join(
            f"{found.name} {shape}" for found, shape in zip(settings, shapes, strict=True)
        )
        raise ConfigError(
            "env: several tasks share a torso, so they are of one suite and their observations of "
            f"one shape; found {listed}"
        )
    common = {
        **config.model_dump(),
        **filled,
        "total_timesteps": config.total_timesteps // len(names),
    }
    return [
        make_config({**common, "env": name, "seed": config.seed + index})
        for index, name in enumerate(names)
    ]


def network_spec(config: TrainConfig, observation_space: Any) -> NetworkSpec:
    """Writes down the network that a configuration means for these observations."""
    torso = default_torso(observation_space) if config.torso == "auto" else config.torso
    torso_kwargs: dict[str, Any] = {}
    for name in ("features_dim", "width", "pool", "channels"):
        value = getattr(config, name)
        if value is not None and name not in _TORSO_SIZES[torso]:
            sizes = " and ".join(_TORSO_SIZES[torso]) or "no sizes"
            raise ConfigError(f"{name}: torso {torso} takes {sizes}. Leave it out")
        if value is not None:
            torso_kwargs[name] = list(value) if name == "channels" else value
    net_arch = config.net_arch
    if config.algo == "iqn" and torso == "mlp":
        # The embedding of fractions meets the first of two hidden layers.
        torso_kwargs.setdefault("features_dim", 64)
        net_arch = (64,) if net_arch is None else net_arch
    algorithm = _ALGORITHMS[config.algo]
    head_kwargs = {name: getattr(config, name, None) for name in HEAD_KWARGS[algorithm.head]}
    return NetworkSpec(
        torso=torso,
        torso_kwargs=torso_kwargs,
        head=algorithm.head,
        head_kwargs={name: value for name, value in head_kwargs.items() if value is not None},
        dueling=config.dueling,
        noisy=config.noisy,
        net_arch=net_arch,
        activation=config.activation,
        initializer=config.initializer,
        spectral=SpectralSettings(
            layers=config.sn_layers,
            bound=config.sn_bound,
            mode=config.sn_mode,
            conv_norm=config.sn_conv_norm,
            n_power_iterations=config.sn_power_iterations,
            grad_through_norm=config.sn_grad_through_norm,
            scheduler=config.sn_scheduler,
            scheduler_form=config.sn_scheduler_form,
            scheduler_one_sided=config.sn_scheduler_one_sided,
        ),
    )


def check_device(device: str) -> None:
    """Refuses a device that this machine does not have.

    Raises:
        ConfigError: It has none.
    """
    kind, _, number = device.partition(":")
    if kind == "cuda":
        count = torch.cuda.device_count() if torch.cuda.is_available() else 0
        if count <= int(number or 0):
            found = f"GPUs up to cuda:{count - 1}" if count else "no GPU that this torch can use"
            raise ConfigError(f"--device {device}: found {found}. Type --device cpu, or auto")
    if kind == "mps" and not torch.backends.mps.is_available():
        raise ConfigError("--device mps: found no Apple GPU. Type --device cpu, or auto")


def make_model(config: TrainConfig, env: Any, network: NetworkSpec) -> ValueBasedAlgorithm:
    """Makes the algorithm with its networks, optimiser and replay.

    Raises:
        ConfigError: Settings that cannot go together, or for which memory does not suffice.
    """
    try:
        return _make_model(config, env, network)
    except (MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        if not isinstance(error, MemoryError) and "memory" not in reason:
            raise
        raise ConfigError(
            f"not enough memory for these settings: {reason}. Type a smaller --buffer-size"
        ) from None


def _make_model(config: TrainConfig, env: Any, network: NetworkSpec) -> ValueBasedAlgorithm:
    settings = {
        name: value
        for name, value in config.section(Learning, Exploration).items()
        if value is not None or name not in OWNERS
    }
    total = config.total_timesteps
    # A replay never needs to hold more than the run will see.
    settings["buffer_size"] = min(config.buffer_size, total + config.n_envs)
    settings["train_freq"], settings["gradient_steps"] = update_rhythm(config)
    warmup, end = (settings.pop(f"exploration_{when}timesteps") for when in ("warmup_", ""))
    compiles: dict[str, Any] = {"auto": "auto", "always": True, "never": False}
    return _ALGORITHMS[config.algo](
        SNDQNPolicy,
        env,
        learning_rate=(
            LinearSchedule(config.learning_rate, 0.0, 1.0)
            if config.learning_rate_decay
            else config.learning_rate
        ),
        exploration_warmup_fraction=warmup / total,
        exploration_fraction=end / total,
        compile=compiles[config.compile],
        seed=config.seed,
        device=config.device,
        policy_kwargs={**policy_arguments(network), **_optimizer(config)},
        **settings,
    )


def update_rhythm(config: TrainConfig) -> tuple[int, int]:
    """Gives vector steps per block, and updates after each, at the ratio the settings state."""
    vector_steps = max(config.train_freq // config.n_envs, 1)
    return vector_steps, config.gradient_steps * vector_steps * config.n_envs // config.train_freq


def _optimizer(config: TrainConfig) -> dict[str, Any]:
    if config.optimizer == "sgd":
        return {"optimizer_class": torch.optim.SGD, "optimizer_kwargs": {}}
    kwargs: dict[str, Any] = {"eps": config.optimizer_eps}
    if config.optimizer == "adam":
        return {"optimizer_class": Adam, "optimizer_kwargs": kwargs}
    kwargs["centered"] = config.rmsprop_centered
    kwargs["eps_inside_root"] = config.rmsprop_eps_inside_root
    return {"optimizer_class": RMSprop, "optimizer_kwargs": kwargs}


def make_callbacks(
    config: TrainConfig,
    phases: dict[int, EnvSettings],
    console: Console,
    stop: StopSignals,
    label: str = "",
) -> list[BaseCallback]:
    """Makes what happens every so often; the label is a task's name, where there are several."""
    result: list[BaseCallback] = [
        LogCallback(
            config.log_every_timesteps, config.sn_conv_norm, log_drift=config.init_from is not None
        ),
        ProgressCallback(config.total_timesteps, console, label),
    ]
    if len(phases) > 1:
        result.insert(0, EnvChanges(phases, console, config.seed))
    if config.eval_every_timesteps:
        # Other games than the final evaluation's, and few: choosing by those would flatter it.
        trial = replace(
            evaluation_protocol(config),
            episodes=min(config.eval_episodes, 10),
            seed=config.eval_seed + 1,
        )

        def mean_return(network: torch.nn.Module, settings: EnvSettings) -> float:
            act = q_function(network)

            def q_values(observation: Any) -> Any:
                stop.check()  # an evaluation may take minutes
                return act(observation)

            with Pulse(console, in_lines=True) as pulse:
                on_step = pulse.of_episodes(trial.episodes, f"{label} evaluating: ".lstrip())
                return evaluate(settings, q_values, trial, on_step=on_step).mean

        evaluation = EvaluationCallback(
            config.eval_every_timesteps, mean_return, phases, config.keep_best
        )
        result.insert(0, evaluation)
    return result
