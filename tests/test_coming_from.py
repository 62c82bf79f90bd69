"""docs/coming-from.md: the names in its tables are those of settings, and its file is one."""

import inspect
import re
from pathlib import Path

from stable_baselines3 import DQN

from sndqn.training.config import TrainConfig
from sndqn.training.config_files import layered_config

PAGE = (Path(__file__).parent.parent / "docs" / "coming-from.md").read_text()


def rows(heading: str) -> list[list[str]]:
    """Gives the cells of the table under a heading, without its head."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    lines = re.findall(r"^\| (.*) \|$", section, re.MULTILINE)
    return [line.split(" | ") for line in lines[1:]]


def test_every_setting_of_ours_in_the_table_exists() -> None:
    named = {name for cells in rows("Settings") for name in re.findall(r"`(\w+)`", cells[0])}
    assert named <= set(TrainConfig.model_fields)
    assert len(named) > 30


def test_the_settings_of_stable_baselines3_in_the_table_exist() -> None:
    known = inspect.signature(DQN.__init__).parameters
    alone = [cells[1] for cells in rows("Settings") if re.fullmatch(r"`\w+`", cells[1])]
    named = {cell.strip("`") for cell in alone} - {"n_envs"}  # of make_vec_env
    assert named <= set(known)
    assert len(named) >= 8


def test_the_file_with_cleanrls_settings_is_a_configuration(tmp_path: Path) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", PAGE, re.DOTALL)
    (tmp_path / "cleanrl.yaml").write_text(block)
    config = layered_config({"env": "Breakout"}, str(tmp_path / "cleanrl.yaml"))
    assert (config.loss, config.optimizer_eps, config.sn_layers) == ("mse", 1e-8, "none")
    assert (config.protocol, config.target_update_interval) == ("sb3", 1000)
