"""One agent in training: what its configuration means, and the folder it leaves."""

from collections.abc import Mapping
from dataclasses import asdict, replace
from typing import Any

from rich.console import Console
from stable_baselines3.common.callbacks import BaseCallback

from sndqn.agents import AgentDescription, check_description, load_agent, save_agent
from sndqn.agents.find import find_agent
from sndqn.console import say
from sndqn.diagnostics import layer_norms
from sndqn.diagnostics.tables import layer_table, spectral_sentence
from sndqn.envs import describe, make_vec_env, try_out
from sndqn.envs.journal import JournalVecEnv
from sndqn.evaluation.protocol import STEPS_WITHOUT_LIMIT
from sndqn.files import write_json, write_text
from sndqn.runs.folder import RunFolder, provenance
from sndqn.runs.metrics import MetricsPaths, make_logger, rebuild_tensorboard, truncate
from sndqn.training.callbacks import EvaluationCallback, ProgressCallback
from sndqn.training.components import check_device, env_phases, make_model, network_spec
from sndqn.training.config import TrainConfig
from sndqn.training.transfer import start_from


class Session:
    """One agent in training: what the configuration means, and the folder it leaves.

    Args:
        config: Its configuration.
        console: Where to say what happens.
        fresh: Whether it begins anew, and so from the weights of `init_from`; what is taken up
            again will be given its own.

    Attributes:
        phases: The environment's settings by the step from which they hold.
        network: The network's description.
        model: The algorithm.
        callbacks: What happens every so often, once training begins.
        run: The folder, for whoever trains to set.
    """

    run: RunFolder

    def __init__(self, config: TrainConfig, console: Console, fresh: bool = True) -> None:
        self.config, self.console = config, console
        self.callbacks: list[BaseCallback] = []
        check_device(config.device)
        self.phases = env_phases(config)
        self.say(describe(self.phases[0], config.eval_max_steps or STEPS_WITHOUT_LIMIT))
        if fresh:
            try_out(self.phases[0])
        env = JournalVecEnv(make_vec_env(self.phases[0], config.n_envs), config.seed)
        network = self.network = network_spec(config, env.observation_space)
        check_description(self._description(0), env.observation_space, env.action_space)
        self.model = make_model(config, env, network)
        policy: Any = self.model.policy
        self.network = replace(
            network,
            torso_kwargs=dict(policy.features_extractor_kwargs),
            head_kwargs=self.model.head_kwargs(),
            net_arch=tuple(policy.net_arch),
        )
        self.say(spectral_sentence(self.model.q_net, network.spectral))
        if config.init_from is not None and fresh:
            new = start_from(policy, load_agent(find_agent(config.init_from).file))
            self.say(f"Starts from {config.init_from}; new layers: {', '.join(new) or 'none'}")

    def say(self, text: str) -> None:
        """Prints a line."""
        say(self.console, text)

    def warn(self, text: str) -> None:
        """Prints a line that someone should see."""
        say(self.console, text, style="yellow")

    def open_run(self, lengths: Mapping[str, int] | None) -> None:
        """Writes down what is known before training, or cuts the metrics to go on from.

        Args:
            lengths: Bytes of each metrics file at the checkpoint to go on from; None at the
                beginning.
        """
        config, model, run = self.config, self.model, self.run
        if lengths is None:
            before = layer_norms(model.q_net, model.observation_space)
            self.console.print(layer_table(before))
            write_text(run.config, config.to_yaml())
            write_json(run.provenance, provenance())
            write_json(run.layers, {"before": [asdict(row) for row in before]})
        for path in (run.metrics, run.timing):
            if path.exists():
                truncate(path, 0 if lengths is None else lengths[path.name])
        tensorboard = run.tensorboard if config.tensorboard else None
        if tensorboard is not None and run.metrics.exists():
            rebuild_tensorboard(run.metrics, run.timing, tensorboard)
        model.set_logger(make_logger(MetricsPaths(run.metrics, run.timing, tensorboard)))
        self.say(f"Run folder: {run.path}")
        if model.will_compile(config.total_timesteps):
            self.say(
                "The first update compiles all others, which takes up to a minute "
                "(--compile never leaves it out)."
            )

    def finish(self) -> str:
        """Writes the agent that training leaves: the last network, or the best on the way."""
        kept = None
        for callback in self.callbacks:
            if isinstance(callback, EvaluationCallback):
                kept = callback.restore_best()
        if kept is None:
            return self.save()
        step, mean_return = kept
        self.say(
            f"Kept: the network of step {step:,} of {self.model.num_timesteps:,}, the best of the "
            f"evaluations on the way (mean return {mean_return:.1f})"
        )
        about = {**self.run.read_provenance(), "kept": {"step": step, "mean_return": mean_return}}
        write_json(self.run.provenance, about)
        return self.save(step)

    def save(self, step: int | None = None) -> str:
        """Writes the agent as it is.

        Args:
            step: The one its weights are of; None for the newest.
        """
        description = self._description(self.model.num_timesteps if step is None else step)
        return save_agent(self.run.agent, self.model.q_net.state_dict(), description)

    def _description(self, timesteps: int) -> AgentDescription:
        config = self.config
        return AgentDescription(
            list(self.phases.values())[-1],
            self.network,
            config.algo,
            timesteps,
            config.seed,
            config.eval_epsilon,
            config.title,
        )

    def close(self) -> None:
        """Closes the metrics, the progress bar and the environments."""
        for callback in self.callbacks:
            if isinstance(callback, ProgressCallback):
                callback.close()
        self.model.logger.close()
        assert self.model.env is not None
        self.model.env.close()
