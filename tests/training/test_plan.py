"""What a configuration asks for: tasks with settings of their environments, names resolved once."""

from pathlib import Path
from typing import Any

import pytest

from sndqn.envs import make_env, resolve_env
from sndqn.errors import ConfigError
from sndqn.training import plan as planning
from sndqn.training.config import make_config
from sndqn.training.plan import plan
from sndqn.training.run import train


def test_one_environment_is_one_task_without_a_label() -> None:
    config = make_config({"env": "breakout", "sticky_actions": 0.25, "seed": 3})
    (task,) = plan(config)
    assert task.config == config
    assert task.phases == {0: resolve_env("Breakout", sticky_actions=0.25)}
    assert task.label == ""


def test_several_tasks_share_the_steps_and_the_shape_of_what_they_see() -> None:
    env = "MinAtar/Breakout, minatar/seaquest"
    tasks = plan(make_config({"env": env, "seed": 3, "total_timesteps": 200_001}))
    assert [task.label for task in tasks] == ["MinAtar/Breakout", "MinAtar/Seaquest"]
    assert [task.config.seed for task in tasks] == [3, 4]
    assert [task.config.total_timesteps for task in tasks] == [100_000, 100_000]
    spaces = [make_env(task.settings).observation_space.shape for task in tasks]
    assert spaces == [(10, 10, 10)] * 2
    for task in tasks:  # by itself, each is what its own configuration asks for
        assert plan(task.config)[0].phases == task.phases


def test_changes_of_several_tasks_keep_the_shape_that_they_share() -> None:
    changes = {200: {"sticky_actions": 0.5}}
    env = "MinAtar/Breakout,MinAtar/Asterix"
    for task in plan(make_config({"env": env, "env_changes": changes, "n_channels": None})):
        assert [task.phases[at].n_channels for at in (0, 200)] == [4, 4]
        assert [task.phases[at].sticky_actions for at in (0, 200)] == [0.1, 0.5]


@pytest.mark.parametrize("env", ["CartPole", "MinAtar/Breakout,MinAtar/Asterix"])
def test_a_training_resolves_each_name_once(
    env: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolved = []

    def counted(name: str, *args: Any, **kwargs: Any) -> Any:
        resolved.append(name)
        return resolve_env(name, *args, **kwargs)

    monkeypatch.setattr(planning, "resolve_env", counted)
    few = {"total_timesteps": 60, "learning_starts": 10, "eval_episodes": 1, "eval_max_steps": 5}
    train(make_config({"env": env, "runs_dir": str(tmp_path), "compile": "never", **few}))
    assert resolved == env.split(",")


def test_changes_add_up_and_come_in_order() -> None:
    config = make_config(
        {
            "env": "Pong",
            "env_changes": {300: {"noop_max": 3}, "200": {"sticky_actions": 0.5}},
        }
    )
    phases: Any = plan(config)[0].phases
    assert list(phases) == [0, 200, 300]
    assert [p.sticky_actions for p in phases.values()] == [0.0, 0.5, 0.5]
    assert phases[300].noop_max == 3


def test_a_change_of_observations_or_actions_is_refused() -> None:
    config = make_config({"env": "Pong", "env_changes": {200: {"full_action_space": True}}})
    with pytest.raises(ConfigError, match="env_changes 200"):
        plan(config)


def test_a_protocol_may_change_on_the_way() -> None:
    changes = {200: {"protocol": "machado"}}
    phases: Any = plan(make_config({"env": "Pong", "env_changes": changes}))[0].phases
    assert [phase.sticky_actions for phase in phases.values()] == [0.0, 0.25]


@pytest.mark.parametrize(
    ("env", "message"),
    [
        ("CartPole,Acrobot", "observations of one shape"),
        ("CartPole,MinAtar/Breakout", "one suite"),
        ("CartPole,CartPole", "name each once"),
    ],
)
def test_tasks_that_cannot_share_a_torso_are_refused(env: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plan(make_config({"env": env}))
