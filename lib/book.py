"""The book: a static site from the executed notebooks and pages, by Sphinx and MyST-NB. It needs no network."""

from __future__ import annotations

import logging
import os
import re
import shutil
import tempfile
import unicodedata
from collections.abc import Callable, Collection, Mapping
from html import unescape
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING

from docutils.nodes import SkipNode
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from lib.book_figures import Described
from lib.book_terms import Anchors, Links
from lib.bundle import WEB
from lib.running.collection import notebooks
from lib.settings import ProfileError
from lib.store import ROOT, RUNS, short

if TYPE_CHECKING:
    from lib.profile import Profile
    from lib.run import Run

MADE = RUNS / "book"
START = "index"  # the book's first page, which is the project's README; web hosts serve a page of this name
TRY = ("demo", "explorer")  # pages that a script fills, each from the folder of its name
# What of the project is in it: pages, and the files that they link to.
PARTS = ("README.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff", "notebooks", "figures/desk", "figures/where")
PARTS += ("figures/method.svg", "lib/README.md", "lib/profiles", "data/models/*/README.md", "data/paper/*.yaml")
PARTS += ("environment.yml", "pyproject.toml", "tests/*.py", "tests/words.txt", "tests/benchmarks/[!_]*.*")
PARTS += (".ci/run", ".github/workflows/book.yml")
SETTINGS = {
    "project": "Explaining visual features via steering",
    "copyright": "the steering companion's authors; text and code: MIT, OpenMoji drawings: CC BY-SA 4.0; "
    "scripts by others: licences.txt beside them",
    "extensions": ["myst_nb", "sphinx_copybutton", "lib.book"],
    "root_doc": START,
    "nb_execution_mode": "off",  # shown as they were executed
    "nb_ipywidgets_js": {},  # they come from another host; of a widget the book shows what stands in for it
    "nb_mime_priority_overrides": [("html", "application/vnd.jupyter.widget-view+json", None)],
    "myst_enable_extensions": ["dollarmath", "amsmath", "html_image"],
    "myst_heading_anchors": 4,
    "myst_links_external_new_tab": True,
    "html_theme": "sphinx_book_theme",
    "html_title": "Explaining visual features via steering",
    "html_math_renderer": "mathml",
    "html_copy_source": False,
    "html_show_sphinx": False,
    "html_context": {"default_mode": "auto"},  # light or dark as the reader's system
    "html_show_search_summary": False,  # it is fetched page by page, which browsers refuse on a file system
    "html_static_path": ["_static"],
    "html_css_files": ["book.css"],
    "html_theme_options": {
        "show_navbar_depth": 1,
        "use_download_button": False,
        "use_fullscreen_button": False,
        "navbar_persistent": [],  # the search button is in the sidebar
        "footer_content_items": ["copyright.html"],
    },
    # Pages of tables are reached from the pages that speak of them; `layers` in lib/README.md is no language.
    "suppress_warnings": ["myst.header", "toc.not_included", "misc.highlighting_failure"],
}
# A figure for a light and for a dark page, as pages on GitHub have it.
_PICTURE = re.compile(r'<picture><source [^>]*srcset="([^"]+)"><img alt="([^"]*)" src="([^"]+)"></picture>')
_FIGURE = "\n```{{image}} {}\n:alt: {}\n:class: {}\n```\n"
_TREE = """
```{{toctree}}
:hidden:
:caption: {caption}

{pages}
```
"""
# Where the README leads to the published book, the book itself leads to its pages.
_PUBLISHED = re.compile(r"^.*\]\(https://[\w-]+\.github\.io/.*\n(?:.+\n)*", re.MULTILINE)
_TRY = """
```{admonition} Try it
:class: tip

* [**Steer it yourself**](demo.md): a real vision-language model in this page. Move a slider, and read what it sees.
* [**Explorer**](explorer.md): every latent, with its pictures and all that was said about it.
```
"""
_MOVED = """<!DOCTYPE html>
<html lang="en"><head><meta charset="utf-8"><title>Moved</title><meta http-equiv="refresh" content="0; url=index.html">
<script>location.replace("index.html" + location.hash)</script></head>
<body><a href="index.html">The book's first page</a></body></html>
"""
_APP = re.compile(r"<!-- app -->\n(.*?)<!-- end -->", re.DOTALL)
_UNFILLED = """<div id="{0}"><p><strong>Not in this copy of the book.</strong> <code>./run_all.sh book</code> makes one
that has it, with the files of this page in its folder <code>{0}</code>.</p></div>"""


def _toc() -> str:
    """The book's table of contents, as its first page holds it."""
    pages = [f"notebooks/{path.stem}" for path in notebooks().values()]
    beside = ["notebooks/README", "notebooks/glossary", "notebooks/lesson_plan", "notebooks/timing", "notebooks/plans"]
    about = ["figures/desk/README", "lib/profiles/README", "lib/README", "CONTRIBUTING"]
    parts = {"Try it": TRY, "Lessons": pages, "Beside them": beside, "The project": about}
    return "".join(_TREE.format(caption=name, pages="\n".join(names)) for name, names in parts.items())


def collect(folder: Path, filled: Collection[str] = ()) -> None:
    """Copy the book's sources into a folder, with the table of contents on the first page.

    Parameters
    ----------
    filled : which pages of :data:`TRY` will have their folders; the others say that they have not.
    """
    for part in PARTS:
        for path in sorted(ROOT.glob(part)):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*", "*.lock"))
            else:
                shutil.copy(path, target)
    (folder / "_static").mkdir()
    shutil.copy(WEB / "book.css", folder / "_static")
    for name in TRY:
        text = (WEB / f"{name}.md").read_text(encoding="utf-8")
        text = _APP.sub(lambda match, name=name: match[1] if name in filled else _UNFILLED.format(name), text)
        (folder / f"{name}.md").write_text(text, encoding="utf-8")
    (folder / "README.md").rename(folder / f"{START}.md")
    for page in (*folder.rglob("*.md"), *folder.rglob("*.ipynb")):
        up = "../" * (len(page.relative_to(folder).parts) - 1)
        text = page.read_text(encoding="utf-8").replace(f"]({up}README.md", f"]({up}{START}.md")
        if page.suffix == ".md":
            text = _PICTURE.sub(_figure, text)
            if page == folder / f"{START}.md":
                text = _PUBLISHED.sub(_TRY, text, count=1) + _toc()
            elif text.startswith(("|", "* ")):  # a table or a list alone; the search shows titles
                text = f"# {page.stem.replace('_', ' ').capitalize()}\n\n{text}"
        page.write_text(text, encoding="utf-8")


def _figure(match: re.Match[str]) -> str:
    dark, alt, light = match.groups()
    return _FIGURE.format(light, alt, "only-light") + _FIGURE.format(dark, alt, "only-dark")


def build(target: Path, extra: Mapping[str, Callable[[Path], object]] = MappingProxyType({})) -> list[str]:
    """Build the book; returns the warnings of Sphinx, each a line.

    Parameters
    ----------
    extra : more folders of the site by name, as ``explorer`` and ``demo``: what is called with each to fill it.

    Raises
    ------
    sphinx.errors.SphinxError
        If it cannot be built.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, out, log = (Path(folder, name) for name in ("source", "out", "log"))
        collect(source, extra)
        with log.open("w", encoding="utf-8") as file, patch_docutils(), docutils_namespace():
            app = Sphinx(source, None, out, Path(folder, "trees"), "html", SETTINGS, status=None, warning=file)
            app.build()
        (out / "README.html").write_text(_MOVED, encoding="utf-8")  # what it was called before
        (out / ".nojekyll").touch()  # else GitHub Pages, from a branch, leaves out folders that begin with a line
        for name, fill in extra.items():
            (out / name).mkdir()
            fill(out / name)
        shutil.rmtree(target, ignore_errors=True)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copytree(out, target, ignore=shutil.ignore_patterns(".buildinfo*", "objects.inv"))
        return log.read_text(encoding="utf-8").splitlines()


# -- formulas --------------------------------------------------------------------------------------


def mathml(latex: str, display: bool) -> str:
    """A formula as MathML, which browsers set themselves; ``\\tag{5}`` becomes the number at its right."""
    tag = re.search(r"\\tag\{([^}]*)\}", latex)
    body = convert(re.sub(r"\\tag\{[^}]*\}", "", latex).strip(), display="block" if display else "inline")
    body = re.sub(r'<(m[in]) mathvariant="(bold|double-struck)">(.+?)</', _letters, body)
    number = f'<span style="float: right">({tag[1]})</span>' if tag else ""
    return f'<div style="overflow-x: auto; margin: 1em 0">{number}{body}</div>' if display else body


def _letters(match: re.Match[str]) -> str:
    """Bold letters and those with double strokes, as signs of their own: browsers know no other."""
    kind = match[2].upper()
    signs = []
    for letter in unescape(match[3]):
        name = re.sub("^(LATIN|GREEK) | LETTER", "", unicodedata.name(letter, ""))
        found = (f"MATHEMATICAL {kind} {name}", f"{kind} {name}")  # the second: a few that came first
        signs.append(next((sign for one in found if (sign := _sign(one))), letter))
    return f"<{match[1]}>{''.join(signs)}</"


def _sign(name: str) -> str:
    try:
        return unicodedata.lookup(name)
    except KeyError:
        return ""


def setup(app: Sphinx) -> dict[str, bool]:
    """Give Sphinx a renderer of formulas that needs no script of another host, and the book's terms and figures."""

    def inline(writer, node) -> None:
        writer.body.append(mathml(node.astext(), False))
        raise SkipNode

    def block(writer, node) -> None:
        writer.body.append(mathml(node.astext(), True))
        raise SkipNode

    for transform in (Described, Anchors):
        app.add_transform(transform)
    app.add_post_transform(Links)
    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def apps(run: Run) -> dict[str, Callable[[Path], object]]:
    """What fills the folders of the explorer and the live demo, for :func:`build`."""
    from lib import demo, explorer
    from lib.studies.every_latent import every_latent

    return {
        "explorer": lambda folder: explorer.write(run, folder),
        "demo": lambda folder: demo.write(run, every_latent(run).known, folder),
    }


def main_book(profile: Profile) -> int:
    """Make the book, and say where it is; returns the exit code.

    Raises
    ------
    ProfileError
        If the profile's subject cannot be explored or exported.
    """
    from lib.demo import Differs
    from lib.evidence import TooFewLatents
    from lib.graphs import NoGraphs
    from lib.run import Run

    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")  # the same bytes whenever it is built
    logging.disable(logging.INFO)  # of what loads which model
    try:
        warnings = build(MADE, apps(Run(profile)))
    except (TooFewLatents, NoGraphs, Differs) as error:
        raise ProfileError(str(error)) from error
    print("\n".join(warnings))
    print(f"The book: {short(MADE / f'{START}.html')} (open it in a browser, or copy the folder to any web host)")
    return 0
