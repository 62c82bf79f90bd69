"""The version is the same wherever it stands, and the citation names the paper."""

import re
import tomllib
from pathlib import Path

import yaml

from sndqn.cli import COMMANDS

ROOT = Path(__file__).parent.parent


def test_the_version_is_the_same_in_pyproject_citation_and_changelog() -> None:
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = re.search(r"^## \[(\d[^]]*)\]", (ROOT / "CHANGELOG.md").read_text(), re.MULTILINE)
    assert newest is not None
    assert citation["version"] == newest[1] == version


def test_the_citation_has_what_its_format_asks_for_and_names_the_paper() -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    assert {"cff-version", "message", "title", "authors"} <= set(citation)
    (paper,) = citation["references"]
    assert paper["authors"][0]["family-names"] == "Gogianu"
    assert (paper["year"], paper["volume"], paper["start"], paper["end"]) == (
        *(2021, 139),
        *("3734", "3744"),
    )


def test_the_changelog_names_every_command() -> None:
    words = set(re.findall(r"[a-z][a-z0-9-]+", (ROOT / "CHANGELOG.md").read_text()))
    assert set(COMMANDS) <= words
