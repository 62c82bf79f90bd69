"""README and the pages in docs/ name what is there."""

import re
from pathlib import Path

import pytest
from doc_blocks import PAGES, ROOT, name_of

from sndqn.training.config import TrainConfig

# Of programs that are not ours.
OTHERS = {"--constraint", "--strict", "--partition", "--time"}


def anchors(page: Path) -> set[str]:
    """Gives the anchors of a page's headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.*)$", page.read_text(), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", line.lower()).replace(" ", "-") for line in headings}


def options() -> set[str]:
    """Gives every option of the command line, of the scripts and of the examples."""
    named = {"--" + name.replace("_", "-") for name in TrainConfig.model_fields}
    folders = {"sndqn": ["*.py"], "scripts": ["*.py", "*.sh"], "examples": ["*.py"]}
    for folder, kinds in folders.items():
        for path in (path for kind in kinds for path in (ROOT / folder).rglob(kind)):
            named.update(re.findall(r"(?<![\w-])(--[a-z][a-z0-9-]*)\"", path.read_text()))
    return named | {"--no-" + name[2:] for name in named}


def ours(page: Path) -> str:
    """Gives a page's text without what its tables "there | here" say of other programs."""
    cells = r"^\| there \| here \|\n\|[-|]+\|\n(?:\|.*\n)+"
    kept = [
        re.sub(r"^\|[^|]*\|", "|", table, flags=re.MULTILINE)
        for table in re.findall(cells, page.read_text(), re.MULTILINE)
    ]
    return re.sub(cells, "", page.read_text(), flags=re.MULTILINE) + "".join(kept)


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_link_within_the_repository_leads_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)\s]+)\)", page.read_text())
    for link in (link for link in links if not link.startswith("http")):
        path, _, anchor = link.partition("#")
        target = page.parent / path if path else page
        assert target.exists(), link
        assert not anchor or anchor in anchors(target), link


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_option_that_a_page_names_exists(page: Path) -> None:
    named = set(re.findall(r"(?<![\w-])--[a-z][a-z0-9-]*", ours(page)))
    assert named <= options() | OTHERS


@pytest.mark.parametrize("page", PAGES, ids=name_of)
def test_every_path_that_a_page_names_is_there(page: Path) -> None:
    fence = r"^```.*?^```$"
    blocks = re.findall(fence, ours(page), re.MULTILINE | re.DOTALL)
    text = re.sub(fence, "", ours(page), flags=re.MULTILINE | re.DOTALL)
    words = " ".join([*blocks, *re.findall(r"`([^`]+)`", text)])
    begins = r"(?<![\w./-])"
    for path in re.findall(begins + r"(?:tests|scripts|sndqn|docs|configs)/[\w./-]*[\w/]", words):
        assert (ROOT / path).exists(), path
    for path in re.findall(begins + r"[a-z_]+/[a-z_0-9]+\.py", words):
        assert (ROOT / path).exists() or (ROOT / "sndqn" / path).exists(), path


def test_every_page_and_measurement_is_reached_from_readme_by_links() -> None:
    reached, new = set(), {PAGES[0].resolve()}
    while new:
        reached |= new
        linked = {
            (page.parent / link).resolve()
            for page in new
            for link in re.findall(r"\]\(([^)\s#]+)", page.read_text())
            if not link.startswith("http")
        }
        new = {path for path in linked - reached if path.suffix == ".md"}
    missing = {page.resolve().relative_to(ROOT).as_posix() for page in PAGES if page not in reached}
    assert not missing, "link them in docs/index.md, or in the README.md of their folder"
    text = "".join(page.read_text() for page in PAGES)
    assert all(path.name in text for path in (ROOT / "docs" / "data").iterdir())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_fractions_have_braces_without_which_the_site_shows_other_ones(page: Path) -> None:
    assert re.search(r"\\[td]?frac(?!\{)", page.read_text()) is None
