"""The notebook runs from its first cell to its last, and is committed with what it shows."""

from pathlib import Path
from typing import Any

import pytest

nbformat = pytest.importorskip("nbformat", reason="the examples' own extra")
nbclient = pytest.importorskip("nbclient", reason="the examples' own extra")

NOTEBOOK = Path(__file__).parent.parent / "examples" / "sndqn.ipynb"


def executed(length: float, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setenv("SNDQN_NOTEBOOK_LENGTH", str(length))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    place = {"metadata": {"path": str(NOTEBOOK.parent)}}
    return nbclient.NotebookClient(notebook, timeout=3600, resources=place).execute()


def shown(notebook: Any) -> list[tuple[str, str]]:
    """Gives each output as its kind and its text."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    pictures = [(kind, str(x)) for o in outputs for kind, x in o.get("data", {}).items()]
    return pictures + [("stream", output.text) for output in outputs if "text" in output]


def check(notebook: Any) -> None:
    outputs = shown(notebook)
    text = "".join(text for kind, text in outputs if kind == "stream")
    assert text.count("games after training") == 4, "two arms of two games"
    assert "acts with  1.000" in text, "the normalised layer is at its bound"
    assert sum(kind == "image/png" for kind, _ in outputs) == 2, "curves and σ of each game"
    videos = [text for kind, text in outputs if kind == "text/html"]
    assert len(videos) == 2
    assert all("video/mp4" in video for video in videos)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_notebook_trains_draws_and_films_both_games(monkeypatch: pytest.MonkeyPatch) -> None:
    check(executed(0.01, monkeypatch))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_the_notebook_runs_at_full_length(monkeypatch: pytest.MonkeyPatch) -> None:
    check(executed(1, monkeypatch))


def test_the_notebook_is_committed_as_it_ran_from_top_to_bottom() -> None:
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    check(notebook)
    counts = [cell.execution_count for cell in notebook.cells if cell.cell_type == "code"]
    assert counts == list(range(1, len(counts) + 1))
    assert NOTEBOOK.stat().st_size < 1_000_000
