"""Starting from an agent: the same function, new outputs where they must be, norms held."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from sndqn.agents import Agent, load_agent
from sndqn.envs import make_vec_env, resolve_env
from sndqn.errors import ConfigError
from sndqn.spectral import SpectralLayer
from sndqn.training.build import build_algorithm, network_spec
from sndqn.training.config import TrainConfig, make_config
from sndqn.training.run import train
from sndqn.training.transfer import start_from

TINY: dict[str, Any] = {
    "total_timesteps": 300,
    "learning_starts": 100,
    "batch_size": 16,
    "eval_episodes": 1,
    "eval_max_steps": 50,
    "log_every_timesteps": 100,
    "compile": "never",
}


def config(**values: Any) -> TrainConfig:
    return make_config({"env": "MinAtar/Breakout", "learning_rate": 0.01, **TINY, **values})


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train(config(runs_dir=str(tmp_path_factory.mktemp("runs")), sn_layers="-2,-3")).path


@pytest.fixture(scope="module")
def agent(trained: Path) -> Agent:
    return load_agent(trained / "agent.safetensors")


def policy_of(settings: TrainConfig) -> Any:
    env = make_vec_env(
        resolve_env(settings.env, minimal_actions=settings.minimal_actions), 1, seed=0
    )
    return build_algorithm(settings, env, network_spec(settings, env.observation_space)).policy


def observations() -> torch.Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 2, (16, 4, 10, 10), generator=generator, dtype=torch.uint8)


@pytest.mark.parametrize("sn_layers", ["none", "-2", "all"])
def test_the_start_computes_what_the_agent_does_where_bounds_are_initial(
    sn_layers: str, agent: Agent
) -> None:
    policy = policy_of(config(sn_layers=sn_layers, sn_bound="initial", sn_mode="shrink"))
    assert start_from(policy, agent) == []
    expected = agent.network(observations())
    for network in (policy.q_net, policy.q_net_target):
        found = network(observations())
        torch.testing.assert_close(found, expected, rtol=1e-3, atol=1e-4)
    for layer in (m for m in policy.q_net.modules() if isinstance(m, SpectralLayer)):
        assert float(layer.bound) == pytest.approx(layer.exact_sigma(effective=False), rel=1e-3)


def test_another_number_of_actions_leaves_the_output_new_and_the_rest_the_agents(
    agent: Agent,
) -> None:
    policy = policy_of(config(sn_layers="none", minimal_actions=True))
    new = policy.q_net.q_net[0].weight.detach().clone()
    assert start_from(policy, agent) == ["q_net.0"]
    assert torch.equal(policy.q_net.q_net[0].weight, new)
    linear = agent.network.features_extractor.linear[0]
    torch.testing.assert_close(
        policy.q_net.features_extractor.linear[0].weight, linear.effective_weight
    )


def test_batch_statistics_come_along(tmp_path: Path) -> None:
    settings = config(runs_dir=str(tmp_path), normalization="batch", sn_layers="-2")
    agent = load_agent(train(settings).agent)
    policy = policy_of(config(normalization="batch", sn_layers="none"))
    assert start_from(policy, agent) == []
    batch = observations()
    with torch.no_grad():
        for network in (policy.q_net, policy.q_net_target):
            found = network.eval()(batch)
            torch.testing.assert_close(found, agent.network(batch), rtol=1e-4, atol=1e-5)


def test_another_torso_is_refused_and_changes_nothing(agent: Agent) -> None:
    policy = policy_of(config(features_dim=32))
    before = {name: t.clone() for name, t in policy.q_net.state_dict().items()}
    with pytest.raises(ConfigError, match=r"features_extractor\.linear\.0"):
        start_from(policy, agent)
    assert all(torch.equal(t, before[n]) for n, t in policy.q_net.state_dict().items())


def test_a_run_from_an_agent_keeps_its_norms_and_logs_how_far_it_drifts(
    trained: Path, agent: Agent, tmp_path: Path
) -> None:
    run = train(
        config(
            runs_dir=str(tmp_path), init_from=str(trained), sn_layers="-2",
            sn_bound="initial", sn_mode="shrink",
        )
    )  # fmt: skip
    records = [json.loads(line) for line in run.metrics.read_text().splitlines()]
    drift = [record["drift/features_extractor.linear.0"] for record in records]
    assert 0 == drift[0] < drift[-1]
    before, after = agent.network, load_agent(run.agent).network
    start = before.features_extractor.linear[0].exact_sigma()
    assert after.features_extractor.linear[0].exact_sigma() <= start * 1.01
