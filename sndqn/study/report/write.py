"""Makes a report's files."""

import csv
import io
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from sndqn.errors import ConfigError, RunFolderError
from sndqn.files import write_bytes, write_text
from sndqn.study.report.charts import Chart
from sndqn.study.report.compare import compare
from sndqn.study.report.curves import diagnostics
from sndqn.study.report.figures import figures
from sndqn.study.report.page import render
from sndqn.study.report.tables import run_cells
from sndqn.study.results import Results, read_results

FORMATS = ("html", "pdf", "png", "csv")
_PAGE = "report.html"


def write_report(
    paths: Sequence[str | Path],
    output: str | Path | None = None,
    *,
    formats: Sequence[str] = ("html",),
    baseline: str | None = None,
    refresh: int | None = None,
    known: Results | None = None,
) -> tuple[Path, Results]:
    """Writes the report of studies, runs, or folders with runs.

    Args:
        paths: Their folders.
        output: Of the page: a file called .html, or a folder for report.html; by default the folder
            of the only path, or here. Figures go beside it, each in a file of its own.
        formats: Of `FORMATS`.
        baseline: The arm that others are compared with; by default the first without SN.
        refresh: Seconds after which a browser loads the page again; None for a page that stays.
        known: What an earlier call returned: runs that were done then are not read again.

    Returns:
        The page, or the folder where no page was asked for; and what was read.

    Raises:
        SndqnError: There is no run, no arm of that name, or the output cannot be written.
    """
    strange = [name for name in formats if name not in FORMATS]
    if strange or not formats:
        raise ConfigError(
            f"formats: expected some of {', '.join(FORMATS)}, found {', '.join(strange) or 'none'}"
        )
    page = page_file(paths, output)
    if {"pdf", "png"} & set(formats):
        from sndqn.study.report.plots import require_matplotlib

        require_matplotlib()
    results = read_results(paths, known)
    if baseline is not None and baseline not in results.arms:
        arms = ", ".join(map(repr, results.arms)) or "none"
        raise ConfigError(f"baseline: expected one of the arms {arms}, found {baseline!r}")
    comparison = compare(results, baseline)
    charts, layers = figures(results, comparison), diagnostics(results)
    _make_folder(page.parent)
    if "csv" in formats:
        write_text(page.with_name("runs.csv"), _csv(run_cells(results)))
        for chart in (*charts, *layers):
            write_text(page.with_name(f"{chart.name}.csv"), _csv(chart.rows()))
    _draw([*charts, *layers], results.arms, page.parent, formats)
    if "html" not in formats:
        return page.parent, results
    write_text(page, render(results, comparison, charts, layers, page.parent, refresh))
    return page, results


def page_file(paths: Sequence[str | Path], output: str | Path | None) -> Path:
    """Returns where the page goes."""
    if output is None:
        only = Path(paths[0]) if len(paths) == 1 else Path()
        return only / _PAGE
    path = Path(output)
    if path.suffix in (".pdf", ".png", ".csv"):
        raise ConfigError(
            f"--output: expected a page called .html, or a folder, found {path.name}: figures are "
            f"several files. Type --output {path.with_suffix('')} --format {path.suffix[1:]}"
        )
    return path if path.suffix in (".html", ".htm") else path / _PAGE


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise RunFolderError(
            f"--output: cannot make the folder {path}: {error.strerror}. Name another one"
        ) from None


def _draw(
    charts: Sequence[Chart], arms: Sequence[str], folder: Path, formats: Sequence[str]
) -> None:
    kinds = [name for name in ("pdf", "png") if name in formats]
    if not kinds:
        return
    from sndqn.study.report.plots import drawn

    for chart in charts:
        for kind, content in drawn(chart, arms, kinds).items():
            write_bytes(folder / f"{chart.name}.{kind}", content)


def _csv(rows: Iterable[Sequence[Any]]) -> str:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows(rows)
    return text.getvalue()
