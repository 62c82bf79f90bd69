"""How Sphinx makes the site of these pages: `./scripts/docs.sh`.

The pages stay plain Markdown, as GitHub shows them. What a site needs beyond that is made here,
from the pages themselves: the navigation from the lists of `index.md`, and the API reference from
the docstrings of the modules in `API`.
"""

import importlib
import re
import sys
from pathlib import Path
from typing import get_args

from docutils import nodes
from docutils.utils.math import MathError
from docutils.utils.math.latex2mathml import tex2mathml
from sphinx.application import Sphinx
from sphinx.environment import BuildEnvironment
from sphinx.util import logging
from sphinx.writers.html5 import HTML5Translator

DOCS = Path(__file__).parent
sys.path.insert(0, str(DOCS.parent))

project = "sndqn"
copyright = "the authors of sndqn"
# The root's pages, on the site beside those of docs/; git ignores them there.
ROOT_PAGES = ["CONTRIBUTING", "CHANGELOG"]
source_suffix = {".md": "markdown", ".markdown": "markdown", ".rst": "restructuredtext"}
extensions = [
    "myst_parser",
    "sphinx.ext.autodoc",
    "sphinx.ext.autosummary",
    "sphinx.ext.napoleon",
]
exclude_patterns = ["_build"]

html_theme = "furo"
html_title = "sndqn"
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_copy_source = False
html_show_sphinx = False
pygments_style = "friendly"
pygments_dark_style = "github-dark"

myst_enable_extensions = ["dollarmath"]
html_math_renderer = "mathml"
# Anchors as GitHub makes them, down to this level of headings.
myst_heading_anchors = 4

autodoc_member_order = "bysource"
autodoc_typehints = "signature"
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 88
# In docstrings `name` is code.
default_role = "literal"
napoleon_numpy_docstring = False
napoleon_use_ivar = True
napoleon_use_rtype = False
autosummary_generate = False

# The modules whose public names people import, in the order of the reference, and the settings.
API = [
    "sndqn",
    "sndqn.api",
    "sndqn.spectral",
    "sndqn.spectral.schedulers",
    "sndqn.networks",
    "sndqn.policies",
    "sndqn.contrib",
    "sndqn.algorithms",
    "sndqn.replay",
    "sndqn.targets",
    "sndqn.losses",
    "sndqn.optimizers",
    "sndqn.envs",
    "sndqn.diagnostics",
    "sndqn.agents",
    "settings",
    "sndqn.study.scores",
    "sndqn.study.statistics",
    "sndqn.study.significance",
    "sndqn.study.equivalence",
    "sndqn.errors",
]


def write_api(app: Sphinx) -> None:
    """Writes the pages of `API`, and no others, into `api/`, where git ignores them."""
    for stale in {path for path in (DOCS / "api").glob("*.rst") if path.stem not in API}:
        stale.unlink()
    for name in API:
        page = DOCS / "api" / f"{name}.rst"
        body = settings() if name == "settings" else [f".. automodule:: {name}", *members(name)]
        text = "\n".join([name, "=" * len(name), "", *body, ""])
        if not page.is_file() or page.read_text() != text:
            page.write_text(text)


def settings() -> list[str]:
    """Gives a table for each section of settings, from their help."""
    from sndqn.training.settings import SECTIONS

    lines = [
        "Options of `sndqn train` and `sndqn sweep`, keywords of `sndqn.train`, and keys of a YAML",
        "file. The default is that of `TrainConfig`; the suite's own settings come before it.",
    ]
    for section in SECTIONS:
        heading = section.heading.capitalize()
        lines += ["", heading, "-" * len(heading), "", ".. list-table::", "   :header-rows: 1", ""]
        lines += ["   * - setting", "     - default", "     -"]
        for name, field in section.model_fields.items():
            default = "" if field.is_required() or field.default_factory else f"`{field.default!r}`"
            choices = [f"`{each}`" for each in get_args(field.annotation) if type(each) is str]
            words = [field.description or "", f"One of {', '.join(choices)}." if choices else ""]
            text = escaped(" ".join(" ".join(words).split()))
            lines += [f"   * - `{name}`", f"     - {default}", f"     - {text}"]
    return lines


def copy_root_pages(app: Sphinx) -> None:
    """Brings the root's pages into docs/, with their links as they are seen from there."""
    for name in ROOT_PAGES:
        text = (DOCS.parent / f"{name}.md").read_text()
        (DOCS / f"{name}.markdown").write_text(text.replace("](docs/", "]("))


def members(name: str) -> list[str]:
    """Gives the directives for a module's public names; of those of another page, links."""
    module = importlib.import_module(name)
    if name != "sndqn":
        return ["   :members:"]
    homes = {public: getattr(module, public).__module__ for public in module.__all__}
    own = [public for public, home in homes.items() if home == name]
    rows = [f"   ~{page(home)}.{public}" for public, home in homes.items() if home != name]
    return [f"   :members: {', '.join(own)}", "", ".. autosummary::", "", *rows]


def page(home: str) -> str:
    """Gives the module of `API` whose page describes what `home` defines, as seen from sndqn."""
    name = max((name for name in API[1:] if f"{home}.".startswith(f"{name}.")), key=len)
    return name.removeprefix("sndqn.")


def escaped(line: str) -> str:
    """Has a line mean itself: |x|, a*b and x_ are mathematics here and no markup, --x is code."""
    pieces = line.split("`")  # every second one is code
    for at in range(0, len(pieces), 2):
        piece = re.sub(r"([|*]|(?<=\w)_(?!\w))", r"\\\1", pieces[at])
        pieces[at] = re.sub(r"(?<![\w-])(--[a-z][a-z-]*)", r"`\1`", piece)
    return "`".join(pieces)


def plain(app: Sphinx, *of: object) -> None:
    """Has a docstring's text mean itself; what is indented after a colon is code."""
    *_, lines = of
    code = 0  # the indentation that code has at least; 0 outside of it
    for number, line in enumerate(lines):
        indent = len(line) - len(line.lstrip())
        if line and indent < code:
            code = 0
        if code or not line:
            continue
        lines[number] = escaped(line)
        after = lines[number + 1 : number + 3]
        if line.endswith(":") and len(after) == 2 and not after[0]:
            deeper = len(after[1]) - len(after[1].lstrip())
            if deeper > indent and not after[1].lstrip().startswith("- "):
                lines[number] += ":"
                code = deeper


def toctree(caption: str, pages: list[str]) -> str:
    """Gives a hidden list of pages, which makes them a part of the navigation."""
    options = [*([f":caption: {caption}"] if caption else []), ":hidden:", ":maxdepth: 2"]
    return "\n".join(["", "", "```{toctree}", *options, "", *pages, "```", ""])


def navigation(index: str) -> str:
    """Makes the navigation of the lists in `index.md`: a part for each heading, in its order."""
    parts = re.split(r"^## (.*)\n", index, flags=re.MULTILINE)[1:]
    trees = []
    for heading, body in zip(parts[::2], parts[1::2], strict=True):
        links = re.findall(r"^- \[([^]]*)\]\(/?([^)#]+)\.(?:md|markdown)\)", body, re.MULTILINE)
        trees += [toctree(heading, [f"{title} <{name}>" for title, name in links])] if links else []
    return "".join(trees)


def inside(match: re.Match[str], page: Path) -> str:
    """Leaves of a link to a folder, or out of docs/, its words: the site has pages and files."""
    words, target = match[1], match[2]
    if Path(target).stem in ROOT_PAGES:
        return f"[{words}](/{Path(target).stem}.markdown)"
    leads = (page.parent / target.partition("#")[0]).resolve()
    return words if leads.is_dir() or not leads.is_relative_to(DOCS) else match[0]


def adapt(app: Sphinx, docname: str, source: list[str]) -> None:
    """Adds to a page as it is read what the site needs beyond Markdown."""
    page = Path(app.env.doc2path(docname))
    if page.suffix == ".rst":
        return
    link = r"(?<!!)\[([^]]+)\]\((?![a-z]+:|#)([^)\s]+)\)"
    text = re.sub(link, lambda match: inside(match, page), source[0])
    if docname == "index":
        text += navigation(text)
    elif docname == "api/README":
        text += toctree("", API)
    elif page.name == "README.md":  # the page of a folder: all others in it belong to it
        linked = re.findall(r"\]\(([\w-]+)\.md[)#]", text)
        others = sorted(other.stem for other in page.parent.glob("*.md") if other != page)
        text += toctree("", list(dict.fromkeys([*linked, *others])))
    source[0] = text


def listing(app: Sphinx, env: BuildEnvironment, *of: object) -> list[str]:
    """Gives the pages that list others: made anew each time, as others may have come."""
    return [name for name in env.found_docs if name == "index" or name.endswith("/README")]


def math(translator: HTML5Translator, node: nodes.Element) -> None:
    """Writes mathematics as MathML, which browsers show without a script from another server."""
    block = isinstance(node, nodes.math_block)
    text = node.astext().replace(r"\dots", r"\ldots")
    try:
        translator.body.append(tex2mathml(text, as_block=block))
    except MathError as error:
        logging.getLogger(__name__).warning("%s: %s", text, error, location=node)
    raise nodes.SkipNode


def setup(app: Sphinx) -> None:
    """Joins the functions above to Sphinx."""
    app.add_html_math_renderer(
        "mathml", inline_renderers=(math, None), block_renderers=(math, None)
    )
    app.connect("builder-inited", write_api)
    app.connect("builder-inited", copy_root_pages)
    app.connect("autodoc-process-docstring", plain, priority=100)  # before napoleon
    app.connect("env-get-outdated", listing)
    app.connect("source-read", adapt)
