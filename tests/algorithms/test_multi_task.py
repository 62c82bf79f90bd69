"""Several tasks, one torso: shared is what should be, and nothing else."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

import sndqn
from sndqn.agents import load_agent
from sndqn.algorithms import MultiTask
from sndqn.envs import make_vec_env, resolve_env
from sndqn.errors import ConfigError
from sndqn.policies import minatar_cnn
from sndqn.spectral import SpectralLayer
from sndqn.training.config import make_config
from sndqn.training.run import train

GAMES = ("Breakout", "Asterix")


def learner(game: str, algorithm: Any = sndqn.DQN, **kwargs: Any) -> Any:
    settings = resolve_env(f"MinAtar/{game}", minimal_actions=True, n_channels=4)
    policy_kwargs = {"features_extractor_class": minatar_cnn, **kwargs.pop("policy_kwargs", {})}
    arguments = {"learning_starts": 50, "buffer_size": 500, "seed": 0, "compile": False, **kwargs}
    return algorithm(
        "SNMlpPolicy", make_vec_env(settings, 1, seed=0), policy_kwargs=policy_kwargs, **arguments
    )


def heads(tasks: MultiTask) -> list[torch.Tensor]:
    return [
        torch.cat([p.detach().flatten() for p in task.q_net.q_net.parameters()])
        for task in tasks.learners
    ]


def torsos(tasks: MultiTask) -> list[torch.Tensor]:
    return [task.q_net.features_extractor.linear[0].weight for task in tasks.learners]


@pytest.mark.parametrize("algorithm", [sndqn.DQN, sndqn.C51])
def test_tasks_share_the_online_torso_and_keep_heads_replays_and_targets(algorithm: Any) -> None:
    tasks = MultiTask([learner(game, algorithm) for game in GAMES])
    a, b = tasks.learners
    assert torsos(tasks)[0] is torsos(tasks)[1]
    assert [task.action_space.n for task in tasks.learners] == [3, 5]
    start, before = torsos(tasks)[0].detach().clone(), heads(tasks)
    tasks.learn(200)
    assert a.num_timesteps == b.num_timesteps == 200
    assert a._n_updates == b._n_updates > 30
    assert not torch.equal(torsos(tasks)[0], start)
    assert all(not torch.equal(x, y) for x, y in zip(heads(tasks), before, strict=True)), (
        "both heads have learnt"
    )
    assert a.replay_buffer is not b.replay_buffer
    assert a.q_net_target.features_extractor is not b.q_net_target.features_extractor


def test_an_update_of_one_task_moves_the_torso_and_its_own_head_alone() -> None:
    tasks = MultiTask([learner(game, learning_starts=10**6) for game in GAMES])
    tasks.learn(100)
    before, torso = heads(tasks), torsos(tasks)[0].detach().clone()
    tasks.learners[0].train(3, batch_size=16)
    after = heads(tasks)
    assert not torch.equal(torsos(tasks)[0], torso)
    assert not torch.equal(after[0], before[0])
    assert torch.equal(after[1], before[1])
    optimizer = tasks.learners[0].policy.optimizer
    counts = [float(optimizer.state[group["params"][0]].get("step", 0)) if
              optimizer.state[group["params"][0]] else 0.0
              for group in optimizer.param_groups]  # fmt: skip
    assert counts == [3, 3, 0], "the other head's moments have seen no step"
    tasks.learners[1].train(2, batch_size=16)
    counts = [float(optimizer.state[g["params"][0]]["step"]) for g in optimizer.param_groups]
    assert counts == [5, 3, 2]


def test_a_shared_step_is_that_of_one_network_with_two_heads() -> None:
    """Adam over torso and heads by hand, from the gradients each task's loss gives."""
    tasks = MultiTask([learner(g, learning_starts=10**6, max_grad_norm=None) for g in GAMES])
    tasks.learn(100)
    a, b = tasks.learners
    parameters = [*a.q_net.features_extractor.parameters(), *a.q_net.q_net.parameters()]
    own = [p.detach().clone().requires_grad_() for p in parameters]
    other = torch.optim.Adam(own, lr=a.lr_schedule(1), **a.policy.optimizer_kwargs)
    torch.manual_seed(0)
    for task in (a, b, a):
        batch = task.replay_buffer.sample(8)
        gradients = task.update.gradients(batch).gradients
        n_torso = len(list(a.q_net.features_extractor.parameters()))
        for index, p in enumerate(own):
            p.grad = None
            if index < n_torso or task is a:
                p.grad = gradients[index].clone()
        other.step()
        task.update.step(gradients)
    for found, expected in zip(parameters, own, strict=True):
        torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("sn_layers", ["-1", "-2", "all"])
def test_bounds_hold_in_the_shared_torso_and_in_every_head(sn_layers: str) -> None:
    kwargs = {"policy_kwargs": {"sn_layers": sn_layers}, "learning_rate": 1e-3}
    tasks = MultiTask([learner(game, **kwargs) for game in GAMES])
    tasks.learn(300)
    for task in tasks.learners:
        for network in (task.q_net, task.q_net_target):
            layers = [m for m in network.modules() if isinstance(m, SpectralLayer)]
            assert layers
            for layer in layers:
                assert layer.exact_sigma() == pytest.approx(1, abs=0.02)


def test_torsos_of_other_shapes_are_refused() -> None:
    wide = learner("Asterix", policy_kwargs={"features_extractor_kwargs": {"features_dim": 32}})
    with pytest.raises(ConfigError, match="share a torso"):
        MultiTask([learner("Breakout"), wide])


def test_a_run_of_several_tasks_leaves_a_run_for_each(tmp_path: Path) -> None:
    config = make_config(
        {
            "env": "MinAtar/Breakout,MinAtar/Seaquest", "total_timesteps": 400,
            "learning_starts": 100, "eval_episodes": 1, "eval_max_steps": 50,
            "runs_dir": str(tmp_path), "compile": "never", "minimal_actions": True,
        }
    )  # fmt: skip
    folder = train(config).path
    games = ("Breakout", "Seaquest")
    agents = [load_agent(folder / f"MinAtar-{game}" / "agent.safetensors") for game in games]
    first, second = (agent.network.features_extractor.state_dict() for agent in agents)
    assert all(torch.equal(first[name], second[name]) for name in first)
    assert [agent.network.q_net[0].out_features for agent in agents] == [3, 6]
    assert all(agent.network.observation_space.shape == (10, 10, 10) for agent in agents)
    for game in games:
        inside = folder / f"MinAtar-{game}"
        assert json.loads(inside.joinpath("evaluation.json").read_text())["episodes"]
        assert '"timesteps": 200' in inside.joinpath("metrics.jsonl").read_text()
