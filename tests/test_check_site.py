"""The check of the documentation site finds what is broken in one."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parent.parent / "scripts"))
import check_site

WHOLE = """<link rel="stylesheet" href="site.css?v=1"><h1 id="top">T</h1><img src="a.png">
<a href="#top">up</a> <a href="b/other.html#there">on</a> <a href="https://example.org/x">out</a>"""


@pytest.fixture
def site(tmp_path: Path) -> Path:
    (tmp_path / "b").mkdir()
    (tmp_path / "index.html").write_text(WHOLE)
    (tmp_path / "b" / "other.html").write_text('<p id="there"><a href="../index.html">back</a>')
    (tmp_path / "site.css").write_text("p { background: url(a.png) }")
    (tmp_path / "a.png").touch()
    return tmp_path


def test_a_whole_site_has_no_problems_and_an_empty_one_has(site: Path) -> None:
    assert check_site.problems(site) == []
    (line,) = check_site.problems(site / "none")
    assert "expected pages" in line


@pytest.mark.parametrize(
    ("added", "problem"),
    [
        ('<a href="c.html">', "index.html: c.html leads to no file"),
        ('<a href="b/other.html#nowhere">', "index.html: b/other.html#nowhere leads to no anchor"),
        ('<a href="#nowhere">', "index.html: #nowhere leads to no anchor"),
        ('<img src="b.png">', "index.html: b.png leads to no file"),
        (
            '<script src="https://cdn.example/x.js"></script>',
            "index.html: loads https://cdn.example/x.js from another server",
        ),
        (
            '<link rel="stylesheet" href="//fonts.example/f.css">',
            "index.html: loads //fonts.example/f.css from another server",
        ),
    ],
)
def test_a_broken_link_and_a_foreign_server_are_found(site: Path, added: str, problem: str) -> None:
    (site / "index.html").write_text(WHOLE + added)
    assert check_site.problems(site) == [problem]


def test_a_style_sheet_that_fetches_a_font_is_found(site: Path) -> None:
    (site / "site.css").write_text("@import 'https://fonts.example/f.css';")
    (line,) = check_site.problems(site)
    assert line == "site.css: loads https://fonts.example/f.css from another server"
