"""docs/statistics.md: its table is what was measured."""

import json
from pathlib import Path

DOCS = Path(__file__).parent.parent.parent / "docs"
PAGE = (DOCS / "statistics.md").read_text()


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
