"""Each example runs, and its page says what its committed runs say."""

import importlib
import json
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("sklearn", reason="the examples' own extra")

ROOT = Path(__file__).parent.parent
PAGES = ROOT / "docs" / "examples"
# Each module, its page, and the length that its test takes.
EXAMPLES = {
    "gan": ("gan.md", 0.01),
    "task_heads": ("task-heads.md", 0.01),
    "task_heads_rl": ("task-heads.md", 0.01),
    "fine_tuning": ("fine-tuning.md", 0.03),
}


@pytest.fixture
def example(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.syspath_prepend(str(ROOT / "examples"))
    return importlib.import_module(request.param).EXAMPLE


def committed(example: Any) -> dict[str, Any]:
    record: dict[str, Any] = json.loads((PAGES / f"{example.name}.json").read_text())
    return record


@pytest.mark.parametrize("example", EXAMPLES, indirect=True)
def test_an_example_trains_every_arm_and_makes_table_and_figure_of_its_file(
    example: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    length = EXAMPLES[example.script.removesuffix(".py")][1]
    example.main("--seeds", "2", "--length", str(length), "--output", str(tmp_path))
    shown = capsys.readouterr().out
    runs = json.loads((tmp_path / f"{example.name}.json").read_text())["runs"]
    arms = {(run["arm"], run.get("rate"), run.get("scale")) for run in runs}
    assert len(runs) == 2 * len(arms)
    assert {run["arm"] for run in runs} == {run["arm"] for run in committed(example)["runs"]}
    figure = tmp_path / f"{example.name}.png"
    assert figure.read_bytes().startswith(b"\x89PNG")
    figure.unlink()
    example.main("--draw", "--output", str(tmp_path))
    assert capsys.readouterr().out == shown
    assert figure.exists()


@pytest.mark.parametrize("example", EXAMPLES, indirect=True)
def test_the_page_of_an_example_has_the_numbers_of_its_committed_runs(example: Any) -> None:
    record = committed(example)
    assert record["command"] == f"python examples/{example.script}", "at full length"
    assert {run["seed"] for run in record["runs"]} == set(range(5))
    page = (PAGES / EXAMPLES[example.script.removesuffix(".py")][0]).read_text()
    assert record["command"] in page
    assert f"]({example.name}.json)" in page
    assert f"]({example.name}.png)" in page
    for line in example.tables(record["runs"]).splitlines():
        assert line in page


@pytest.mark.parametrize("page", sorted({page for page, _ in EXAMPLES.values()}))
def test_every_result_in_the_prose_of_a_page_stands_in_its_tables_or_runs(page: str) -> None:
    lines = (PAGES / page).read_text().splitlines()
    known = " ".join(line for line in lines if line.startswith("|"))
    known += "".join(path.read_text() for path in PAGES.glob(f"{page.removesuffix('.md')}*.json"))
    prose = " ".join(line for line in lines if not line.startswith("|"))
    for number in re.findall(r"(?<![\w.])\d+\.\d+(?![\w.])", prose):
        assert number in known, number


@pytest.mark.parametrize("example", ["gan"], indirect=True)
def test_an_example_says_what_to_install(
    example: Any, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(SystemExit) as ended:
        example.main("--seeds", "1")
    assert ended.value.code == 2
    assert 'pip install ".[examples]"' in capsys.readouterr().err
