"""rl_zoo3 trains sndqn's policies from its own YAML, by their dotted name."""

import subprocess
import sys
from pathlib import Path

import pytest
from doc_blocks import ROOT, blocks

pytest.importorskip("rl_zoo3", reason="needs sndqn[dev]")

HYPERPARAMETERS = """\
CartPole-v1:
  n_timesteps: 600
  policy: 'sndqn.SNMlpPolicy'
  policy_kwargs: "dict(sn_layers='-2', net_arch=[32, 32])"
  learning_starts: 200
"""


(REGISTERED,) = [
    block.text for block in blocks(ROOT / "docs" / "sb3.md") if "from rl_zoo3" in block.text
]


def test_rl_zoo_trains_an_algorithm_of_ours_by_its_name_there(tmp_path: Path) -> None:
    (tmp_path / "sn_iqn.yml").write_text(
        HYPERPARAMETERS.replace("sndqn.SNMlpPolicy", "SNMlpPolicy")
    )
    (tmp_path / "zoo.py").write_text(REGISTERED)
    command = [sys.executable, "zoo.py", "--algo", "sn_iqn", "--env", "CartPole-v1"]
    command += ["--conf-file", "sn_iqn.yml", "--eval-freq", "-1", "-f", "logs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    import sndqn

    model = sndqn.IQN.load(tmp_path / "logs/sn_iqn/CartPole-v1_1/CartPole-v1.zip", device="cpu")
    assert model.num_timesteps >= 600


def test_rl_zoo_trains_a_policy_named_in_its_yaml(tmp_path: Path) -> None:
    (tmp_path / "dqn.yml").write_text(HYPERPARAMETERS)
    command = [sys.executable, "-m", "rl_zoo3.train", "--algo", "dqn", "--env", "CartPole-v1"]
    command += ["--conf-file", "dqn.yml", "--eval-freq", "-1", "-f", "logs"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr[-2000:]
    from stable_baselines3 import DQN

    import sndqn

    model = DQN.load(tmp_path / "logs/dqn/CartPole-v1_1/CartPole-v1.zip", device="cpu")
    assert isinstance(model.policy, sndqn.SNMlpPolicy)
    assert model.policy.q_net.q_net[2].exact_sigma() == pytest.approx(1, rel=0.02)
