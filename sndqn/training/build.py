"""Building what a plan asks for: environments, networks, algorithms, callbacks."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from typing import Any

import torch
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule

from sndqn.agents import check_description
from sndqn.agents.find import find_agent
from sndqn.algorithms import C51, DQN, IQN, QRDQN, ValueBasedAlgorithm
from sndqn.algorithms.acceleration import find_acceleration
from sndqn.console import Bar, EpisodeCount, say
from sndqn.diagnostics.tables import spectral_sentence
from sndqn.envs import AtariSettings, EnvSettings, describe, make_vec_env, try_out
from sndqn.envs.journal import JournalVecEnv
from sndqn.errors import ConfigError
from sndqn.evaluation import EvaluationRecord, evaluate
from sndqn.evaluation.protocol import STEPS_WITHOUT_LIMIT
from sndqn.evaluation.remarks import longest
from sndqn.evaluation.values import NetworkValues
from sndqn.networks import NetworkSpec
from sndqn.networks.extractors import TORSOS, default_torso
from sndqn.networks.heads import HEADS
from sndqn.optimizers import Adam, RMSprop
from sndqn.policies import SNDQNPolicy
from sndqn.runs.tracking import check_trackers
from sndqn.training.callbacks import (
    EnvChanges,
    EvaluationCallback,
    GamesCallback,
    LogCallback,
    ProgressCallback,
)
from sndqn.training.config import TrainConfig
from sndqn.training.diagnosing import DiagnosticsCallback, can_diagnose
from sndqn.training.evaluating import evaluation_protocol
from sndqn.training.newest import NewestAgentCallback
from sndqn.training.plan import Task
from sndqn.training.settings import OWNERS, Exploration, Learning, Network, SpectralNorm
from sndqn.training.signals import StopSignals
from sndqn.training.task_state import TaskState, describe_agent
from sndqn.training.transfer import start_from

# torch's AdamW has it where it is told nothing.
ADAMW_WEIGHT_DECAY = 0.01
ALGORITHMS: dict[str, type[ValueBasedAlgorithm]] = {
    "dqn": DQN,
    "c51": C51,
    "qr-dqn": QRDQN,
    "iqn": IQN,
}


def build(tasks: Sequence[Task], console: Console, fresh: bool = True) -> list[TaskState]:
    """Makes what a configuration asks for.

    Args:
        tasks: What it asks for.
        console: Where to say what that means.
        fresh: Whether training begins, and so from the weights of `init_from`; what is taken up
            again will be given its own.

    Raises:
        SndqnError: Something cannot be made; nothing is written yet.
    """
    check_trackers(tasks[0].config.track)
    threads, default = tasks[0].config.threads, torch.get_num_threads()
    # The first weights' σ is found on one thread, so that it hangs on no machine's number.
    torch.set_num_threads(threads or 1)
    states = [_build_task(task, console, fresh) for task in tasks]
    if not threads:
        torch.set_num_threads(default)
        acceleration = find_acceleration()
        if acceleration is not None:
            acceleration.choose_threads(state.model for state in states)
    return states


def _build_task(task: Task, console: Console, fresh: bool) -> TaskState:
    config, settings = task.config, task.settings
    check_device(config.device)
    say(console, describe(settings, config.eval_max_steps or STEPS_WITHOUT_LIMIT))
    if fresh:
        try_out(settings)
    env = JournalVecEnv(make_vec_env(settings, config.n_envs), config.seed)
    network = network_spec(config, env.observation_space)
    check_description(describe_agent(task, network, 0), env.observation_space, env.action_space)
    model = build_algorithm(config, env, network)
    say(console, spectral_sentence(model.q_net, network.spectral))
    if config.init_from is not None and fresh:
        policy: Any = model.policy
        new = start_from(policy, find_agent(config.init_from).load(default=settings))
        say(console, f"Starts from {config.init_from}; new layers: {', '.join(new) or 'none'}")
    return TaskState(task, model, network, console)


def network_spec(config: TrainConfig, observation_space: Any) -> NetworkSpec:
    """Writes down the network that a configuration means for these observations.

    Raises:
        ConfigError: A size that its torso does not have.
    """
    settings = config.section(Network, SpectralNorm)
    torso = settings["torso"]
    if torso == "auto":
        torso = settings["torso"] = default_torso(observation_space)
    sizes = {name for part in TORSOS.values() for name in part.fields}
    given = {name: settings.pop(name) for name in list(settings) if name in sizes}
    torso_kwargs = {name: value for name, value in given.items() if value is not None}
    for name in torso_kwargs:
        if name not in TORSOS[torso].fields:
            taken = " and ".join(TORSOS[torso].fields) or "no sizes"
            raise ConfigError(f"{name}: torso {torso} takes {taken}. Leave it out")
    if config.algo == "iqn" and torso == "mlp":
        # The embedding of fractions meets the first of two hidden layers.
        torso_kwargs.setdefault("features_dim", 64)
        if config.net_arch is None:
            settings["net_arch"] = (64,)
    head = ALGORITHMS[config.algo].head
    numbers = {name: getattr(config, name, None) for name in HEADS[head].fields}
    head_kwargs = {name: value for name, value in numbers.items() if value is not None}
    spec = NetworkSpec(torso_kwargs=torso_kwargs, head=head, head_kwargs=head_kwargs)
    return spec.changed(**settings).resolved(observation_space)


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


def build_algorithm(config: TrainConfig, env: Any, network: NetworkSpec) -> ValueBasedAlgorithm:
    """Makes the algorithm with its networks, optimiser and replay.

    Raises:
        ConfigError: Settings that cannot go together, or for which memory does not suffice.
    """
    try:
        return _build_algorithm(config, env, network)
    except (MemoryError, RuntimeError) as error:
        reason = " ".join(str(error).split())[:200]
        if not isinstance(error, MemoryError) and "memory" not in reason:
            raise
        raise ConfigError(
            f"not enough memory for these settings: {reason}. Type a smaller --buffer-size"
        ) from None


def _build_algorithm(config: TrainConfig, env: Any, network: NetworkSpec) -> ValueBasedAlgorithm:
    settings = {
        name: value
        for name, value in config.section(Learning, Exploration).items()
        if value is not None or name not in OWNERS
    }
    total = config.total_timesteps
    # A replay never needs to hold more than the run will see, which ends with a whole block.
    seen = total + max(config.n_envs, config.train_freq)
    settings["buffer_size"] = min(config.buffer_size, seen)
    settings["train_freq"], settings["gradient_steps"] = update_rhythm(config)
    warmup, end = (settings.pop(f"exploration_{when}timesteps") for when in ("warmup_", ""))
    compiles: dict[str, Any] = {"auto": "auto", "always": True, "never": False}
    return ALGORITHMS[config.algo](
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
        policy_kwargs={"spec": network, **_optimizer(config)},
        **settings,
    )


def update_rhythm(config: TrainConfig) -> tuple[int, int]:
    """Returns vector steps per block, and updates after each, at the ratio the settings state."""
    vector_steps = max(config.train_freq // config.n_envs, 1)
    return vector_steps, config.gradient_steps * vector_steps * config.n_envs // config.train_freq


def _optimizer(config: TrainConfig) -> dict[str, Any]:
    decoupled = config.optimizer == "adamw"
    decay = config.weight_decay
    if decay is None:
        decay = ADAMW_WEIGHT_DECAY if decoupled else 0.0
    kwargs: dict[str, Any] = {"weight_decay": decay}
    if config.optimizer == "sgd":
        return {"optimizer_class": torch.optim.SGD, "optimizer_kwargs": kwargs}
    kwargs["eps"] = config.optimizer_eps
    given = {"optimizer_kwargs": kwargs, "optimizer_eps_layers": config.optimizer_eps_layers}
    if config.optimizer != "rmsprop":
        kwargs["decoupled_weight_decay"] = decoupled
        return {"optimizer_class": Adam, **given}
    kwargs["centered"] = config.rmsprop_centered
    kwargs["eps_inside_root"] = config.rmsprop_eps_inside_root
    return {"optimizer_class": RMSprop, **given}


def task_callbacks(state: TaskState, stop: StopSignals) -> list[BaseCallback]:
    """Makes what happens every so often in the training of a task."""
    task, console = state.task, state.console
    config, log_drift = task.config, task.config.init_from is not None
    callbacks: list[BaseCallback] = []
    if config.eval_every_timesteps:
        trial = _trial(task, console, stop)
        every = config.eval_every_timesteps
        curve = state.run.curve
        callbacks.append(EvaluationCallback(every, trial, task.phases, curve, config.keep_best))
    if len(task.phases) > 1:
        callbacks.append(EnvChanges(task.phases, console, config.seed))
    return [
        *callbacks,
        GamesCallback(),
        NewestAgentCallback(state.save, partial(say, console, style="yellow")),
        LogCallback(config.log_every_timesteps, config.sn_conv_norm, log_drift),
        *_diagnostics(state),
        ProgressCallback(config.total_timesteps, console, task.label),
    ]


def _diagnostics(state: TaskState) -> list[BaseCallback]:
    """Makes what measures the networks of a task, if anything does."""
    config, run = state.task.config, state.run
    if not can_diagnose(config.diagnostics, state.model):
        return []
    every = min(config.diagnostics_every_timesteps, config.total_timesteps)
    tries_updates = config.diagnostics == "all"
    return [DiagnosticsCallback(every, tries_updates, run.probe, config.seed)]


def _trial(
    task: Task, console: Console, stop: StopSignals
) -> Callable[[torch.nn.Module, EnvSettings], EvaluationRecord]:
    """Returns the function that evaluates a network during training."""
    final = evaluation_protocol(task.config)
    episodes = min(final.episodes, task.config.eval_curve_episodes)
    # Other games than the final evaluation's: choosing by those would flatter it.
    protocol = replace(final, episodes=episodes, seed=final.seed + 1)
    # An untrained agent plays hopeless games of Atari for half an hour each. These are no scores.
    if all(isinstance(settings, AtariSettings) for settings in task.phases.values()):
        protocol = replace(protocol, end_hopeless=True)

    def play(network: torch.nn.Module, settings: EnvSettings) -> EvaluationRecord:
        with Bar(console, f"{task.label} evaluating: ".lstrip(), in_lines=True) as bar:
            count = EpisodeCount(bar, protocol.episodes, longest(protocol, settings))

            def on_step(episode: int, steps: int) -> None:
                count.on_step(episode, steps)
                stop.check()  # an evaluation may take minutes

            return evaluate(
                settings,
                NetworkValues(network),
                protocol,
                on_episode=count.on_episode,
                on_step=on_step,
            )

    return play
