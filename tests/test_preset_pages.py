"""Each shipped configuration has its section in docs/presets/, and what that says holds."""

import re
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from sndqn.envs import find_env
from sndqn.training.config import make_config
from sndqn.training.config_files import (
    layered_config,
    read_config,
    shipped_configs,
    shipped_for,
)

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "presets"
AGENTS = sorted((ROOT / "agents").rglob("config.yaml"))
sys.path.insert(0, str(ROOT / "scripts"))
import preset_pages  # noqa: E402


def test_the_pages_are_what_their_command_writes(tmp_path: Path) -> None:
    script = str(ROOT / "scripts" / "preset_pages.py")
    subprocess.run([sys.executable, script, "--output", str(tmp_path)], check=True, timeout=60)
    for written in sorted(tmp_path.iterdir()):
        assert written.read_text() == (PAGES / written.name).read_text(), (
            f"{written.name} is not up to date: python scripts/preset_pages.py"
        )


def test_every_shipped_configuration_has_a_section_and_a_table_row() -> None:
    sections = {
        f"{page.stem}/{title}"
        for page in PAGES.glob("*.md")
        for title in re.findall(r"^## (.*)$", page.read_text(), re.MULTILINE)
    }
    assert {name for name in sections if not name.endswith("Sources")} == set(shipped_configs())


def test_scores_are_of_configurations_that_ship_and_name_their_sources() -> None:
    scores = yaml.safe_load((PAGES / "scores.yaml").read_text())
    assert set(scores["presets"]) == set(shipped_configs())
    text = (PAGES / "scores.yaml").read_text()
    assert set(re.findall(r"\[(\w+)\]\(#sources\)", text)) == set(scores["sources"])


@pytest.mark.parametrize("name", shipped_configs())
def test_the_command_of_a_section_takes_that_configuration(name: str) -> None:
    typed = preset_pages.command(name).split()
    options = dict(zip(typed[2::2], typed[3::2], strict=True))
    config = layered_config({"env": options["--env"]}, options.get("--config"))
    expected = make_config({**read_config(name), "env": options["--env"]})
    assert config.model_copy(update={"title": None}) == expected


@pytest.mark.parametrize("file", AGENTS, ids=lambda file: file.parent.relative_to(ROOT).as_posix())
def test_what_a_shipped_agent_scored_is_said_with_its_preset_or_among_the_results(
    file: Path,
) -> None:
    config = make_config(yaml.safe_load(file.read_text()))
    suite, name = find_env(config.env)
    short = name.rpartition("/")[2].rsplit("-v", 1)[0].lower()
    preset = shipped_for(suite, short, config.title or config.algo)
    if preset is None:  # settings of a study's own
        agent = file.parent.relative_to(ROOT / "agents").as_posix()
        assert f"\n| `{agent}` | [study](#" in (ROOT / "docs" / "results.md").read_text()
        return
    measured = yaml.safe_load((PAGES / "scores.yaml").read_text())["presets"][preset]["measured"]
    assert "not measured" not in measured.lower(), f"docs/presets/scores.yaml: {preset}"
