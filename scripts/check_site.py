"""Checks the site that `./scripts/docs.sh` makes: every link leads somewhere, nothing is fetched.

    python scripts/check_site.py docs/_build

Links to other sites are not followed: the check needs no network, as the pages need none.
"""

import re
import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# What a browser loads by itself, by the attribute that names it.
LOADED = {"script": "src", "img": "src", "source": "src", "iframe": "src", "video": "src"}
LOADED_LINKS = {"stylesheet", "icon", "preload", "preconnect", "dns-prefetch"}


class Page(HTMLParser):
    """What a page links to, what it loads, and the anchors it has."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.links: set[str] = set()
        self.loaded: set[str] = set()
        self.anchors: set[str] = set()
        self.feed(path.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        self.anchors.update(values[name] for name in ("id", "name") if name in values)
        if tag == "a" and "href" in values:
            self.links.add(values["href"])
        if LOADED.get(tag) in values:
            self.loaded.add(values[LOADED[tag]])
        if tag == "link" and LOADED_LINKS & set(values.get("rel", "").split()):
            self.loaded.add(values["href"])


def broken(path: Path, link: str, pages: dict[Path, Page]) -> str | None:
    """Gives what is wrong with a link of the page at `path`, or None."""
    parts = urlsplit(link)
    if parts.scheme or parts.netloc:
        return None
    target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
    if not target.is_file():
        return "leads to no file"
    missing = target in pages and unquote(parts.fragment) not in pages[target].anchors
    return "leads to no anchor" if parts.fragment and missing else None


def problems(site: Path) -> list[str]:
    """Gives what is wrong with a site, a line each."""
    pages = {path.resolve(): Page(path) for path in sorted(site.rglob("*.html"))}
    found = [] if pages else [f"{site}: expected pages, found none"]
    for path, page in pages.items():
        name = path.relative_to(site.resolve())
        remote = {link for link in page.loaded if urlsplit(link).netloc}
        found += [f"{name}: loads {link} from another server" for link in sorted(remote)]
        for link in sorted(page.links | page.loaded):
            if wrong := broken(path, link, pages):
                found.append(f"{name}: {link} {wrong}")
    for sheet in sorted(site.rglob("*.css")):
        remote = set(
            re.findall(r"(?:url\(|@import)\s*[\"']?(https?:[^\"')\s]+)", sheet.read_text())
        )
        name = sheet.relative_to(site)
        found += [f"{name}: loads {link} from another server" for link in sorted(remote)]
    return found


if __name__ == "__main__":
    lines = problems(Path(sys.argv[1]))
    print("\n".join(lines) or "site: every link leads somewhere, and nothing is fetched")
    raise SystemExit(bool(lines))
