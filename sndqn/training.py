"""The composition root: everything a training run is made of, on one screen."""

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from typing import Any

import torch
from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback
from stable_baselines3.common.utils import LinearSchedule

from sndqn.algorithms import DQN
from sndqn.callbacks import EvaluationCallback, LogCallback, ProgressCallback
from sndqn.config import TrainConfig
from sndqn.diagnostics import LayerNorm, layer_norms
from sndqn.envs import EnvSettings, make_vec_env, resolve_env
from sndqn.evaluation import EvaluationProtocol, EvaluationRecord, evaluate, write_trace
from sndqn.networks import NetworkSpec, SpectralSettings
from sndqn.networks.factory import default_torso
from sndqn.optimizers import Adam
from sndqn.policies import SNDQNPolicy, policy_arguments
from sndqn.report import layer_table
from sndqn.runs.folder import RunFolder, provenance, write_bytes, write_json
from sndqn.runs.metrics import make_logger
from sndqn.zoo import AgentDescription, load_agent, q_function, save_agent

_OPTIMIZERS: dict[str, tuple[type[torch.optim.Optimizer], dict[str, Any]]] = {
    "adam": (Adam, {}),
    "rmsprop": (torch.optim.RMSprop, {"alpha": 0.95, "centered": True}),
}


def train(config: TrainConfig, console: Console | None = None) -> RunFolder:
    """Trains an agent, evaluates it, and leaves everything in a new run folder.

    Ctrl-C ends training early: the agent so far is saved, the evaluation left out, and
    KeyboardInterrupt passes on.
    """
    console = console or Console(quiet=True)
    if config.threads:
        torch.set_num_threads(config.threads)
    settings = env_settings(config)
    console.print(settings.describe(), highlight=False, soft_wrap=True)

    env = make_vec_env(settings, config.n_envs, seed=config.seed)
    network = network_spec(config, env.observation_space)
    model = make_model(config, env, network)
    before = layer_norms(model.q_net, env.observation_space)
    console.print(layer_table(before))

    label = f"{config.algo}-sn{config.sn_layers.replace('.', '_')}-seed{config.seed}"
    run = RunFolder.create(config.runs_dir, settings.name, label)
    write_bytes(run.config, config.to_yaml().encode())
    write_json(run.provenance, provenance())
    write_json(run.layers, {"before": [asdict(row) for row in before]})
    model.set_logger(make_logger(run.metrics, run.tensorboard if config.tensorboard else None))
    console.print(f"Run folder: {run.path}", highlight=False, soft_wrap=True)

    def save() -> str:
        description = AgentDescription(
            settings, network, config.algo, model.num_timesteps, config.seed, config.eval_epsilon
        )
        return save_agent(run.agent, model.q_net.state_dict(), description)

    if model.will_compile(config.total_timesteps):
        console.print(
            "The first update compiles all others, which takes up to half a minute "
            "(--compile never leaves it out).",
            highlight=False,
            soft_wrap=True,
        )
    # Numbers below 1e-38 are zero: moments of weights that have gone still would crawl otherwise.
    torch.set_flush_denormal(True)
    try:
        model.learn(
            config.total_timesteps,
            callbacks(config, settings, console),
            log_interval=config.total_timesteps,  # records are LogCallback's to write
        )
    except KeyboardInterrupt:
        save()
        raise
    finally:
        torch.set_flush_denormal(False)
        model.logger.close()
        env.close()
    save()
    after = layer_norms(load_agent(run.agent).network, env.observation_space)
    write_json(
        run.layers, {"before": [asdict(r) for r in before], "after": [asdict(r) for r in after]}
    )
    evaluate_run(run, protocol(config), console)
    return run


def env_settings(config: TrainConfig) -> EnvSettings:
    """Resolves the environment and its settings; touches nothing."""
    overrides = {
        name: getattr(config, name)
        for name in (
            "sticky_actions",
            "noop_max",
            "life_loss",
            "clip_rewards",
            "fire_reset",
            "frame_skip",
            "max_frames",
            "full_action_space",
            "minimal_actions",
            "difficulty_ramping",
        )
    }
    return resolve_env(config.env, config.protocol, **overrides)


def network_spec(config: TrainConfig, observation_space: Any) -> NetworkSpec:
    """Writes down the network that a configuration means for these observations."""
    torso = default_torso(observation_space) if config.torso == "auto" else config.torso
    torso_kwargs: dict[str, Any] = {}
    if config.features_dim is not None:
        torso_kwargs["features_dim"] = config.features_dim
    if config.channels is not None:
        torso_kwargs["channels"] = list(config.channels)
    return NetworkSpec(
        torso=torso,
        torso_kwargs=torso_kwargs,
        head="dueling" if config.dueling else "linear",
        net_arch=config.net_arch,
        activation=config.activation,
        spectral=SpectralSettings(
            layers=config.sn_layers,
            bound=config.sn_bound,
            mode=config.sn_mode,
            conv_norm=config.sn_conv_norm,
            n_power_iterations=config.sn_power_iterations,
            grad_through_norm=config.sn_grad_through_norm,
        ),
    )


def make_model(config: TrainConfig, env: Any, network: NetworkSpec) -> DQN:
    """Makes the algorithm with its networks, optimiser and replay."""
    optimizer_class, optimizer_kwargs = _OPTIMIZERS[config.optimizer]
    # Per vector step: so many updates that their ratio to single steps is train_freq's.
    train_freq = max(config.train_freq // config.n_envs, 1)
    gradient_steps = config.gradient_steps * train_freq * config.n_envs // config.train_freq
    return DQN(
        SNDQNPolicy,
        env,
        double=config.double,
        loss=config.loss,
        overlap=config.overlap,
        compile={"auto": "auto", "always": True, "never": False}[config.compile],
        learning_rate=(
            LinearSchedule(config.learning_rate, 0.0, 1.0)
            if config.learning_rate_decay
            else config.learning_rate
        ),
        # A replay never needs to hold more than the run will see.
        buffer_size=min(config.buffer_size, config.total_timesteps + config.n_envs),
        learning_starts=config.learning_starts,
        batch_size=config.batch_size,
        tau=config.tau,
        gamma=config.gamma,
        train_freq=train_freq,
        gradient_steps=gradient_steps,
        target_update_interval=config.target_update_interval,
        exploration_fraction=config.exploration_timesteps / config.total_timesteps,
        exploration_initial_eps=config.exploration_initial_eps,
        exploration_final_eps=config.exploration_final_eps,
        max_grad_norm=config.max_grad_norm,
        policy_kwargs={
            **policy_arguments(network),
            "optimizer_class": optimizer_class,
            "optimizer_kwargs": {**optimizer_kwargs, "eps": config.optimizer_eps},
        },
        seed=config.seed,
        device=config.device,
    )


def callbacks(config: TrainConfig, settings: EnvSettings, console: Console) -> list[BaseCallback]:
    """Makes what happens every so often."""
    result: list[BaseCallback] = [
        LogCallback(config.log_every_timesteps),
        ProgressCallback(config.total_timesteps, console),
    ]
    if config.eval_every_timesteps:
        # Other games than the final evaluation's, and few: choosing by those would flatter it.
        trial = replace(
            protocol(config), episodes=min(config.eval_episodes, 10), seed=config.eval_seed + 1
        )

        def mean_return(network: torch.nn.Module) -> float:
            return evaluate(settings, q_function(network), trial).mean

        evaluation = EvaluationCallback(config.eval_every_timesteps, mean_return, config.keep_best)
        result.insert(0, evaluation)
    return result


def protocol(config: TrainConfig) -> EvaluationProtocol:
    """Writes down how agents are evaluated."""
    return EvaluationProtocol(
        episodes=config.eval_episodes,
        epsilon=config.eval_epsilon,
        seed=config.eval_seed,
        max_steps=config.eval_max_steps,
    )


def evaluate_run(
    run: RunFolder, evaluation: EvaluationProtocol, console: Console | None = None
) -> EvaluationRecord:
    """Evaluates the agent of a run; writes evaluation.json and a trace of every episode."""
    console = console or Console(quiet=True)
    agent = load_agent(run.agent)
    show = episode_line(console, evaluation.episodes)
    record = evaluate(
        agent.description.settings,
        agent.q_values,
        evaluation,
        on_episode=show,
        agent_sha256=agent.sha256,
    )
    run.traces.mkdir(exist_ok=True)
    for old in run.traces.glob("episode-*.trace.json"):
        old.unlink()
    for episode, trace in enumerate(record.traces):
        write_trace(run.trace(episode), trace)
    write_json(run.evaluation, record.to_dict())
    console.print(
        f"Mean return {record.mean:.1f} ± {record.std:.1f} over {evaluation.episodes} episodes "
        f"(ε {evaluation.epsilon:g}, seed {evaluation.seed}, whole games, raw scores)",
        highlight=False,
        soft_wrap=True,
    )
    return record


def episode_line(console: Console, episodes: int) -> Callable[[int, Any], None]:
    """Makes the function that says how each evaluated episode went."""

    def show(episode: int, trace: Any) -> None:
        cut = "" if trace.ended_by == "terminated" else f" ({trace.ended_by})"
        console.print(
            f"episode {episode + 1}/{episodes}: return {trace.episode_return:g}, "
            f"{trace.length} steps{cut}",
            highlight=False,
        )

    return show


def read_layers(run: RunFolder) -> dict[str, list[LayerNorm]]:
    """Reads a run's table of norms before and, if it ended, after training."""
    data = json.loads(run.layers.read_text())
    return {
        when: [LayerNorm(**{**row, "shape": tuple(row["shape"])}) for row in rows]
        for when, rows in data.items()
    }
