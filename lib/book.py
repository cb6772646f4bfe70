"""The book: a static site from the executed notebooks and pages, by Sphinx and MyST-NB. It needs no network."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
import unicodedata
from html import unescape
from pathlib import Path

from docutils.nodes import SkipNode
from latex2mathml.converter import convert
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from lib.running.collection import notebooks
from lib.store import ROOT, RUNS, short

MADE = RUNS / "book"
START = "README"  # the book's first page
# What of the project is in it: pages, and the files that they link to.
PARTS = ("README.md", "CONTRIBUTING.md", "LICENSE", "CITATION.cff", "notebooks", "figures/desk", "figures/where")
PARTS += ("figures/method.svg", "lib/README.md", "lib/profiles", "data/models/*/README.md", "data/paper/*.yaml")
PARTS += ("environment.yml", "pyproject.toml", "tests/*.py", "tests/words.txt", "tests/benchmarks/[!_]*.*", ".ci/run")
SETTINGS = {
    "project": "Explaining visual features via steering",
    "copyright": "the steering companion's authors; text and code: MIT, OpenMoji drawings: CC BY-SA 4.0",
    "extensions": ["myst_nb", "sphinx_copybutton", "lib.book"],
    "root_doc": START,
    "nb_execution_mode": "off",  # shown as they were executed
    "myst_enable_extensions": ["dollarmath", "amsmath", "html_image"],
    "myst_heading_anchors": 4,
    "myst_links_external_new_tab": True,
    "html_theme": "sphinx_book_theme",
    "html_title": "Explaining visual features via steering",
    "html_math_renderer": "mathml",
    "html_copy_source": False,
    "html_show_sphinx": False,
    "html_theme_options": {"show_navbar_depth": 1, "use_download_button": False, "use_fullscreen_button": False},
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


def _toc() -> str:
    """The book's table of contents, as its first page holds it."""
    pages = [f"notebooks/{path.stem}" for path in notebooks().values()]
    beside = ["notebooks/README", "notebooks/glossary", "notebooks/lesson_plan", "notebooks/timing", "notebooks/plans"]
    about = ["figures/desk/README", "lib/profiles/README", "lib/README", "CONTRIBUTING"]
    parts = {"Lessons": pages, "Beside them": beside, "The project": about}
    return "".join(_TREE.format(caption=name, pages="\n".join(names)) for name, names in parts.items())


def collect(folder: Path) -> None:
    """Copy the book's sources into a folder, with the table of contents on the first page."""
    for part in PARTS:
        for path in sorted(ROOT.glob(part)):
            target = folder / path.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            if path.is_dir():
                shutil.copytree(path, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns(".*", "*.lock"))
            else:
                shutil.copy(path, target)
    for page in folder.rglob("*.md"):
        text = _PICTURE.sub(_figure, page.read_text(encoding="utf-8"))
        page.write_text(text + (_toc() if page == folder / f"{START}.md" else ""), encoding="utf-8")


def _figure(match: re.Match[str]) -> str:
    dark, alt, light = match.groups()
    return _FIGURE.format(light, alt, "only-light") + _FIGURE.format(dark, alt, "only-dark")


def build(target: Path) -> list[str]:
    """Build the book; returns the warnings of Sphinx, each a line.

    Raises
    ------
    sphinx.errors.SphinxError
        If it cannot be built.
    """
    with tempfile.TemporaryDirectory() as folder:
        source, out, log = (Path(folder, name) for name in ("source", "out", "log"))
        collect(source)
        with log.open("w", encoding="utf-8") as file, patch_docutils(), docutils_namespace():
            app = Sphinx(source, None, out, Path(folder, "trees"), "html", SETTINGS, status=None, warning=file)
            app.build()
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
    """Give Sphinx a renderer of formulas that needs no script of another host."""

    def inline(writer, node) -> None:
        writer.body.append(mathml(node.astext(), False))
        raise SkipNode

    def block(writer, node) -> None:
        writer.body.append(mathml(node.astext(), True))
        raise SkipNode

    app.add_html_math_renderer("mathml", (inline, None), (block, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def main_book() -> int:
    """Make the book, and say where it is; returns the exit code."""
    os.environ.setdefault("SOURCE_DATE_EPOCH", "0")  # the same bytes whenever it is built
    warnings = build(MADE)
    print("\n".join(warnings))
    print(f"The book: {short(MADE / f'{START}.html')} (open it in a browser, or copy the folder to any web host)")
    return 0
