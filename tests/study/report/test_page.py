"""The page that people open."""

import base64
import csv
import hashlib
import json
import re
import shutil
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from made_runs import make_evaluation, make_factorial, make_run, make_study

from sndqn.errors import ConfigError, RunFolderError
from sndqn.study.report import write_report
from sndqn.study.report.charts import HeatMap, nice_ticks, number, short_number
from sndqn.study.report.compare import compare
from sndqn.study.report.curves import diagnostics, learning_curves
from sndqn.study.report.efficiency import sample_efficiency_chart
from sndqn.study.report.figures import figures
from sndqn.study.results import read_results
from sndqn.study.scores import normalised
from sndqn.study.statistics import iqm

GAMES = ["MinAtar/Breakout", "CartPole-v1"]
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(1)>&\"'"
_VOID = {"meta", "img", "br", "input", "hr", "link"}


class Page(HTMLParser):
    """A page's elements, each closed in its order."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[tuple[str, str]] = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in _VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag, self.getpos()

    def handle_data(self, data: str) -> None:
        self.texts.append((self.open[-1] if self.open else "", data))

    def text(self) -> str:
        kept = [text for tag, text in self.texts if tag not in ("script", "style")]
        return " ".join(" ".join(kept).split())

    def data(self) -> Any:
        scripts = [text for tag, text in self.texts if tag == "script"]
        return json.loads(scripts[0])


def page_of(*paths: Path, **how: Any) -> tuple[str, Page]:
    file, _ = write_report(paths, paths[0].parent / "page.html", **how)
    text = file.read_text()
    return text, Page(text)


@pytest.fixture(scope="module")
def study(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_study(tmp_path_factory.mktemp("made") / "study", GAMES, 3, points=6)


def test_the_page_is_whole_and_asks_nobody(study: Path) -> None:
    text, page = page_of(study)
    for tag, attributes in page.tags:
        assert tag not in ("link", "iframe", "object", "embed", "base")
        for name in ("src", "href", "xlink:href", "action", "srcset"):
            assert (attributes.get(name) or "#").startswith(("#", "data:", "./"))
        assert not any(name.startswith("on") for name in attributes)
    assert not re.search(r"https?:|@import|url\(|//[a-z]+\.[a-z]", text)
    for picture in re.findall(r"<svg.*?</svg>", text, re.DOTALL):
        ElementTree.fromstring(picture)


def test_only_our_script_may_run(study: Path) -> None:
    text, page = page_of(study)
    (policy,) = (
        attributes["content"] or ""
        for tag, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy.startswith("default-src 'none'")
    script = text.rpartition("<script>")[2].partition("</script>")[0]
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{digest}'" in policy


def test_the_first_thing_said_is_which_arm_is_better(study: Path) -> None:
    _, page = page_of(study)
    assert page.text().index("SN -2 is better than plain over 2 games") < 400


def test_the_values_under_the_pointer_are_those_of_the_figures(study: Path) -> None:
    _, page = page_of(study)
    results = read_results([study])
    (curves,) = learning_curves(results)
    shown = page.data()[: len(curves.panels)]
    for panel, data in zip(curves.panels, shown, strict=True):
        assert data["x"] == panel.x.tolist()
        for line, values in zip(panel.lines, data["lines"], strict=True):
            assert values["y"] == pytest.approx(line.y, rel=1e-3)
            assert values["n"] == [3] * 6


def test_a_learning_curve_is_the_mean_over_seeds(study: Path) -> None:
    results = read_results([study])
    (curves,) = learning_curves(results)
    for panel in curves.panels:
        for line in panel.lines:
            runs = results.of(panel.title, line.label)
            kept = [run.evaluations for run in runs]
            values = np.mean([each.values for each in kept if each is not None], axis=0)
            assert line.y == pytest.approx(values)
            assert np.all(line.low <= line.y + 1e-12)
            assert np.all(line.y <= line.high + 1e-12)


def test_sample_efficiency_is_the_iqm_of_games_and_seeds(tmp_path: Path) -> None:
    envs = ["MinAtar/Breakout", "MinAtar/Asterix"]
    results = read_results([make_study(tmp_path / "study", envs, 3, points=6)])
    (chart,) = sample_efficiency_chart(results)
    (panel,) = chart.panels
    for line in panel.lines:
        ends = {
            env: [
                run.evaluations.values[-1] for run in results.of(env, line.label) if run.evaluations
            ]
            for env in envs
        }
        assert line.y[-1] == pytest.approx(float(iqm(normalised(ends))))
        assert line.n.tolist() == [6] * len(panel.x)
    assert "DQN-normalised score" in chart.y_label


def test_games_without_references_have_no_sample_efficiency(study: Path) -> None:
    assert sample_efficiency_chart(read_results([study])) == []


def test_every_caption_says_how_many_runs(study: Path) -> None:
    results = read_results([study])
    comparison = compare(results)
    charts = [*figures(results, comparison), *diagnostics(results)]
    assert len(charts) >= 6
    for chart in charts:
        assert "n = 3" in chart.caption
    by_name = {chart.name: chart for chart in charts}
    for name in ("differences", "improvement"):
        assert "permutation" in by_name[name].caption
        assert "Holm" in by_name[name].caption


@pytest.mark.parametrize("where", ["folder", "layer", "metric", "env", "provenance", "video"])
def test_hostile_names_are_words(tmp_path: Path, where: str) -> None:
    name = HOSTILE.replace("/", "∕") if where == "folder" else "run"
    run = make_run(tmp_path / name, "MinAtar/Breakout", points=3)
    spelled = json.dumps(HOSTILE)
    if where == "layer":
        (run / "diagnostics.jsonl").write_text(
            f'{{"timesteps": 1000, "layers": {{{spelled}: {{"rank": 1}}}}}}\n'
        )
    elif where == "metric":
        (run / "diagnostics.jsonl").write_text(f'{{"timesteps": 1000, {spelled}: 1}}\n')
    elif where == "env":
        config = (run / "config.yaml").read_text()
        (run / "config.yaml").write_text(
            config.replace("env: MinAtar/Breakout", f"env: {json.dumps(HOSTILE)}")
        )
    elif where == "provenance":
        (run / "provenance.json").write_text(
            json.dumps({"finished": "x", "command": [HOSTILE], "python": HOSTILE})
        )
    elif where == "video":
        (run / "videos").mkdir()
        (run / "videos" / f"javascript:{HOSTILE.replace('/', '∕')}.mp4").write_bytes(b"x" * 2**20)
    text, page = page_of(run)
    assert [tag for tag, _ in page.tags].count("script") == 2
    assert not any(attributes.get("src") == "x" for _, attributes in page.tags)
    assert not any("onerror" in attributes for _, attributes in page.tags)
    assert "alert(1)" in text or where == "metric"


def test_of_one_run_every_episode_and_the_videos_are_there(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", points=3)
    (run / "videos").mkdir()
    (run / "videos" / "best game.mp4").write_bytes(b"small")
    (run / "videos" / "long.mp4").write_bytes(bytes(2**20))
    _, page = page_of(run)
    assert "mean return of 10 on MinAtar/Breakout" in page.text()
    assert "Episodes of the evaluation" in page.text()
    videos = [attributes["src"] for tag, attributes in page.tags if tag == "video"]
    assert videos == [f"data:video/mp4;base64,{base64.b64encode(b'small').decode()}"]
    links = [attributes["href"] for tag, attributes in page.tags if tag == "a"]
    assert "./run/videos/long.mp4" in links
    assert [t for tag, t in page.texts if tag == "td"].count("terminated") == 4


def test_what_a_file_says_at_length_is_cut(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", points=3)
    long = {"finished": "x", "command": ["y" * 5000], "versions": {"z" * 5000: "w" * 5000}}
    (run / "provenance.json").write_text(json.dumps(long))
    record = make_evaluation("MinAtar/Breakout", 5.0, episodes=700)
    (run / "evaluation.json").write_text(json.dumps(record.to_dict()))
    text, page = page_of(run)
    assert "y" * 801 not in text
    assert "z" * 801 not in text
    assert "700 whole games" in page.text()
    assert [t for tag, t in page.texts if tag == "td"].count("terminated") == 500


def test_unfinished_runs_make_a_page_without_a_verdict(tmp_path: Path) -> None:
    for seed, sn in ((0, "none"), (0, "-2"), (1, "-2")):
        make_run(tmp_path / "runs" / f"{sn}{seed}", seed=seed, score=None, sn_layers=sn)
    _, page = page_of(tmp_path / "runs")
    assert "No run is finished yet" in page.text()
    assert "3 runs: 3 interrupted" in page.text()
    assert "Learning curves" in page.text()


def test_a_run_that_has_only_begun_makes_a_page(tmp_path: Path) -> None:
    run = make_run(tmp_path / "run", score=None)
    for name in ("metrics.jsonl", "timing.jsonl", "layers.json", "evaluations.npz"):
        (run / name).unlink()
    _, page = page_of(run)
    assert "No run is finished yet" in page.text()


def test_what_could_not_be_read_is_named(study: Path, tmp_path: Path) -> None:
    runs = Path(shutil.copytree(study, tmp_path / "runs"))
    (runs / "sn-0-0" / "metrics.jsonl").write_text("<b>\n")
    _, page = page_of(runs)
    assert "11 runs: 11 done, 1 more not readable" in page.text()
    assert "metrics.jsonl: line 1: expected JSON" in page.text()


@pytest.mark.parametrize(
    ("tau", "gap", "said"), [(1.0, 0.25, True), (1.0, 0.0, False), (0.5, 0.25, False)]
)
def test_a_target_network_that_is_no_copy_is_said(
    tmp_path: Path, tau: float, gap: float, said: bool
) -> None:
    run = make_run(tmp_path / "run", tau=tau)
    lines = [{"timesteps": 1000, "target_gap_after_sync": at, "layers": {}} for at in (0.0, gap)]
    (run / "diagnostics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    _, page = page_of(run)
    assert ("Q-values differ by up to 0.25 on average (1 run)" in page.text()) == said


def test_a_live_page_loads_itself_again(study: Path) -> None:
    _, page = page_of(study, refresh=20)
    refresh = [a["content"] for _, a in page.tags if a.get("http-equiv") == "refresh"]
    assert refresh == ["20"]
    _, page = page_of(study)
    assert not any(a.get("http-equiv") == "refresh" for _, a in page.tags)


def test_two_numeric_settings_make_a_heat_map(tmp_path: Path) -> None:
    for rate, batch, score in ((1e-4, 32, 1.0), (1e-3, 32, 2.0), (1e-4, 64, 3.0)):
        make_run(
            tmp_path / "runs" / f"{rate}-{batch}",
            score=score,
            points=2,
            learning_rate=rate,
            batch_size=batch,
        )
    results = read_results([tmp_path / "runs"])
    (heat,) = (c for c in figures(results, compare(results)) if isinstance(c, HeatMap))
    assert (heat.y_label, heat.x_label) == ("batch_size", "learning_rate")
    (panel,) = heat.panels
    expected = [[1.0, 2.0], [3.0, np.nan]]
    np.testing.assert_allclose(panel.values, expected)
    assert panel.ends == (1.0, 3.0)
    text, _ = page_of(tmp_path / "runs")
    assert 'class="empty"' in text


def test_figures_are_files_too(tmp_path: Path) -> None:
    pytest.importorskip("matplotlib")
    study = make_study(tmp_path / "study", GAMES[:1], 2, points=3)
    page, results = write_report([study], tmp_path / "out", formats=["html", "pdf", "png", "csv"])
    charts = [*figures(results, compare(results)), *diagnostics(results)]
    for chart in charts:
        assert page.with_name(f"{chart.name}.pdf").read_bytes().startswith(b"%PDF")
        assert page.with_name(f"{chart.name}.png").read_bytes().startswith(b"\x89PNG")
        with page.with_name(f"{chart.name}.csv").open(newline="") as file:
            rows = list(csv.reader(file))
        assert len(rows) == len(list(chart.rows()))
    with page.with_name("runs.csv").open(newline="") as file:
        runs = list(csv.DictReader(file))
    assert [float(run["mean return"]) for run in runs] == [run.score for run in results.runs]


def test_formats_and_places_that_are_none_are_refused(study: Path, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="expected some of html, pdf, png, csv, found svg"):
        write_report([study], tmp_path / "x", formats=["svg"])
    with pytest.raises(ConfigError, match="expected one of the arms"):
        write_report([study], tmp_path / "x", baseline="sn")
    with pytest.raises(ConfigError, match="expected a page called"):
        write_report([study], tmp_path / "x.pdf")
    (tmp_path / "file").write_text("")
    with pytest.raises(RunFolderError, match="cannot make the folder"):
        write_report([study], tmp_path / "file")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["file"]


def test_many_runs_make_a_small_page(tmp_path: Path) -> None:
    """The page grows with games and arms, not with runs."""
    make_study(tmp_path / "few", GAMES, 2, points=40)
    make_study(tmp_path / "many", GAMES, 8, points=40)
    few, _ = page_of(tmp_path / "few")
    many, _ = page_of(tmp_path / "many")
    assert len(many) - len(few) < 500 * 24


def test_numbers_for_people() -> None:
    assert [number(v) for v in (0.0, -0.0, -1.5, 1234.5, 0.1234, 1e-5, 12345678, np.nan)] == [
        *("0", "0", "−1.5", "1,234", "0.123", "1.00e−05", "1.23e+07", "–")
    ]
    assert [short_number(v) for v in (0, -0.0, 20_000, 1.5e6, -0.25)] == [
        *("0", "0", "20k", "1.5M", "−0.25")
    ]
    assert nice_ticks(0, 1, 5) == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1.0])
    assert nice_ticks(-210, 15, 4) == pytest.approx([-200, -100, 0])


def test_what_sn_adds_with_all_else_equal_has_a_table_and_a_figure(tmp_path: Path) -> None:
    path, _ = write_report([make_factorial(tmp_path, GAMES, 0.0, 8.0)], formats=["html", "csv"])
    page = Page(path.read_text())
    assert "SN, all else equal" in page.text()
    rows = list(csv.reader((tmp_path / "gains.csv").read_text().splitlines()))
    assert len(rows) == 1 + 2 * len(GAMES)
    plain, _ = write_report([make_study(tmp_path / "one", GAMES, 3, points=2)])
    assert "SN, all else equal" not in Page(plain.read_text()).text()
