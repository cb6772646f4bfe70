"""Slides for a lecture: notebooks/slides.md with the run's figures and findings, as one HTML file."""

from __future__ import annotations

import re
import tempfile
from importlib.resources import files
from pathlib import Path

import pypandoc

from lib.pages import FIGURES, caption_of, first_sentence
from lib.running.collection import NOTEBOOKS
from lib.store import short, write_atomically

SOURCE = NOTEBOOKS / "slides.md"
MADE = FIGURES / "slides.html"
DESK = FIGURES / "desk"
_FIGURE = re.compile(r"^\{\{figure (\w+)(?: (\d+)%)?\}\}$", re.MULTILINE)
_FINDING = re.compile(r"\{\{finding (\w+) (\d+)( short)?\}\}")
_OPTIONS = ("--standalone", "--embed-resources", "--mathml", "--slide-level=1", "--variable=theme:white")
_LOOK = """<style>
.reveal { font-size: 26px } .reveal h1 { font-size: 1.5em; text-transform: none } .reveal .caption { font-size: .5em }
.reveal p, .reveal li { text-align: left; line-height: 1.35 } .reveal h1 { margin-bottom: 10px }
.reveal img, .reveal svg { max-height: 440px; object-fit: contain; margin: 0 } .reveal li { font-size: .85em }
.reveal figcaption { font-size: .5em; text-align: left; color: #444; margin-bottom: 8px } .reveal figure { margin: 0 }
.reveal table { font-size: .85em }
</style>"""


def filled(text: str) -> str:
    """The slides' text with figures, their captions and findings put in.

    ``{{figure NAME}}``, alone in its line, if need be with a width (``80%``), becomes the figure of the desk run
    with its caption; ``{{finding NN i}}`` the i-th item of a notebook's findings, ``{{finding NN i short}}`` its first
    sentence.

    Raises
    ------
    FileNotFoundError
        If a run has made no such figure or findings.
    IndexError
        If there are fewer findings.
    """

    def figure(match: re.Match[str]) -> str:
        name, width = match.groups()
        caption = re.sub(r"([\\`*_{}\[\]<>$^~])", r"\\\1", caption_of(name))
        return f"![{caption}]({DESK / name}.png){{width={width or 85}%}}"

    def finding(match: re.Match[str]) -> str:
        lines = (DESK / f"findings_{match[1]}.md").read_text(encoding="utf-8").splitlines()
        item = lines[int(match[2]) - 1].removeprefix("* ")
        return first_sentence(item) if match[3] else item

    return _FINDING.sub(finding, _FIGURE.sub(figure, text))


def render(text: str, path: Path) -> Path:
    """Write slides as HTML by pandoc and reveal.js, both from the environment."""
    reveal = files("sphinx_revealjs") / "_static" / "revealjs"
    with tempfile.TemporaryDirectory() as folder:
        look = Path(folder) / "look.html"
        look.write_text(_LOOK, encoding="utf-8")
        more = [*_OPTIONS, f"--variable=revealjs-url:{reveal}", f"--include-in-header={look}"]
        more.append(f"--resource-path={NOTEBOOKS}")
        html = pypandoc.convert_text(text, "revealjs", "markdown", extra_args=more)
    return write_atomically(path, lambda path: path.write_text(html, encoding="utf-8"))


def main_slides() -> int:
    """Make the slides, and say where they are; returns the exit code."""
    made = render(filled(SOURCE.read_text(encoding="utf-8")), MADE)
    print(f"Slides: {short(made)} (open it in a browser; s: speaker's notes, ?print-pdf: to print)")
    return 0
