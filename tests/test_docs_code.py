"""What README and docs/ show in Python, YAML and JSON does what they say."""

import ast
import json
import re
from pathlib import Path
from typing import Any

import pytest
import yaml
from doc_blocks import PAGES, Block, blocks, name_of, short

from sndqn.study.design import make_design
from sndqn.study.tuning import make_tuning
from sndqn.training.config import make_config

LANGUAGES = {"python", "bash", "yaml", "json", "text", ""}
WITH_PYTHON = [page for page in PAGES if any(b.language == "python" for b in blocks(page))]
WITH_YAML = [page for page in PAGES if any(b.language in ("yaml", "json") for b in blocks(page))]


def promises(code: str) -> list[str]:
    """Gives what an example says it prints: comments in lines of their own after a `print`."""
    lines = code.splitlines()
    found = []
    for node in ast.parse(code).body:
        ends = node.end_lineno or 0
        words = []
        for line in lines[ends:]:
            if not line.startswith("# "):
                break
            words.append(line.removeprefix("# "))
        if "print(" in ast.unparse(node) and words:
            found.append(" ".join(" ".join(words).split()))
    return found


def run_block(page: Path, block: Block, names: dict[str, Any]) -> None:
    code = compile("\n" * (block.line - 1) + short(block.text), name_of(page), "exec")
    exec(code, names)  # noqa: S102


@pytest.mark.parametrize("page", WITH_PYTHON, ids=name_of)
def test_the_python_of_a_page_runs_and_prints_what_it_says(
    page: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("SDL_VIDEODRIVER", "dummy")
    names: dict[str, Any] = {"__name__": "page"}
    for block in (each for each in blocks(page) if each.language == "python"):
        if "from rl_zoo3" in block.text:
            continue  # reads the command line: tests/policies/test_rl_zoo.py runs it
        capsys.readouterr()
        run_block(page, block, names)
        printed = " ".join(capsys.readouterr().out.split())
        for promise in promises(block.text):
            assert promise in printed, f"{name_of(page)}, block of line {block.line}"
        videos = re.findall(r"replay\(\"([\w.]+)", block.text)
        assert all(Path(name).is_file() for name in videos)


@pytest.mark.parametrize("page", WITH_YAML, ids=name_of)
def test_the_yaml_and_json_of_a_page_are_read_by_what_reads_them(page: Path) -> None:
    for block in blocks(page):
        if block.language == "json":
            assert json.loads(block.text)
        elif block.language == "yaml":
            content = yaml.safe_load(block.text)
            if "search" in content:
                make_tuning(content, name_of(page))
            elif "arms" in content or "grid" in content:
                make_design(content, name_of(page))
            else:
                make_config({"env": "CartPole", **content})


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_block_says_its_language(page: Path) -> None:
    assert {block.language for block in blocks(page)} <= LANGUAGES
