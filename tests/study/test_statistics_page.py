"""docs/statistics.md: its example runs, and its table is what was measured."""

import json
import re
import textwrap
from pathlib import Path

import pytest

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE = (DOCS / "statistics.md").read_text()


def test_the_example_runs_and_says_what_the_page_says(capsys: pytest.CaptureFixture[str]) -> None:
    code = re.search(r"\n\n((?:    .*\n|\n)+)", PAGE)
    assert code is not None
    exec(textwrap.dedent(code[1]), {})  # noqa: S102
    printed = capsys.readouterr().out.splitlines()
    promised = re.findall(r"^    # (.*)", code[1], re.MULTILINE)
    assert printed == promised


def test_the_table_of_coverage_is_what_was_measured() -> None:
    record = json.loads((DOCS / "data" / "coverage.json").read_text())
    assert f"{record['simulations']} times" in PAGE
    for row in record["rows"]:
        begins = f"| {row['population']} | {row['games']} | {row['seeds']} | "
        shares = " | ".join(
            f"{100 * row[statistic][method]:.1f}"
            for method in ("expanded", "percentile")
            for statistic in ("mean", "IQM", "difference of IQM")
        )
        assert begins + shares + " |\n" in PAGE
