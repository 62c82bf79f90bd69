"""Several tasks, one torso: each learns by an algorithm of its own, in turn with the rest."""

from collections.abc import Sequence
from typing import Any

from stable_baselines3.common.type_aliases import MaybeCallback

from sndqn.algorithms.base import ValueBasedAlgorithm
from sndqn.errors import ConfigError


class MultiTask:
    """Algorithms that share the torso of their online networks, and the optimiser's state of it.

    Everything else stays each one's own: environments, replay, head, target network, exploration,
    logger. They take turns, a block of steps and its updates each. Every update moves the torso and
    the head of its task; the other heads do not move, as no gradient is theirs.

    Args:
        learners: One a task, made with sndqn's policies, of equal observations; the first one's
            torso becomes everyone's.

    Raises:
        ConfigError: Their torsos differ in shape.
    """

    def __init__(self, learners: Sequence[ValueBasedAlgorithm]) -> None:
        self.learners = list(learners)
        policies: list[Any] = [learner.policy for learner in self.learners]
        torso, first = policies[0].q_net.features_extractor, policies[0]
        shapes = [_shapes(policy.q_net.features_extractor) for policy in policies]
        if any(found != shapes[0] for found in shapes):
            raise ConfigError(
                "several tasks share a torso: expected equal ones, found torsos of other shapes"
            )
        heads = [list(policy.q_net.q_net.parameters()) for policy in policies]
        groups = [{"params": parameters} for parameters in (list(torso.parameters()), *heads)]
        optimizer = first.optimizer_class(
            groups, lr=self.learners[0].lr_schedule(1), **first.optimizer_kwargs
        )
        for index, (learner, head) in enumerate(zip(self.learners, heads, strict=True), start=1):
            policies[index - 1].share_torso(torso, optimizer)
            learner.make_update([(0, groups[0]["params"]), (index, head)])

    def learn(
        self,
        total_timesteps: int,
        callbacks: Sequence[MaybeCallback] | None = None,
        reset_num_timesteps: bool = True,
    ) -> "MultiTask":
        """Trains for so many steps of every task.

        Args:
            total_timesteps: Of each task.
            callbacks: One, or a list, for each learner; each knows that learner alone.
            reset_num_timesteps: Whether steps are counted from 0, or games under way go on.
        """
        given = callbacks if callbacks is not None else [None] * len(self.learners)
        going = [
            (
                learner,
                learner.begin_learning(
                    total_timesteps, callback, reset_num_timesteps=reset_num_timesteps
                ),
            )
            for learner, callback in zip(self.learners, given, strict=True)
        ]
        running = list(going)
        try:
            while running:
                for pair in list(running):
                    learner, callback = pair
                    stays = learner.num_timesteps < learner._total_timesteps
                    if not (stays and learner.run_block(callback)):
                        running.remove(pair)
        finally:
            for learner in self.learners:
                learner.end_learning()
        for _, callback in going:
            callback.on_training_end()
        return self


def _shapes(torso: Any) -> list[Any]:
    return [(name, tensor.shape) for name, tensor in torso.state_dict().items()]
