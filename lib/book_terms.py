"""Terms in the book: each has an anchor in the glossary, and where a lesson first speaks of it, it leads there."""

from __future__ import annotations

import posixpath
import re
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from textwrap import shorten

from docutils import nodes
from sphinx.transforms import SphinxTransform
from sphinx.transforms.post_transforms import SphinxPostTransform

from lib.running.collection import NOTEBOOKS

PAGE = "notebooks/glossary"
TITLE = 120  # characters of a meaning that are shown when the mouse rests on a term
_ROW = re.compile(r"^\| ([^|*]+?) \| ([^|]+?) \| \[\w+\]\(\S+\) \|$", re.MULTILINE)  # not those in italics
_SHORT = re.compile(r"[;,] (?:the )?(\w+),? for short$")
# What is no running text, or leads somewhere already.
_ELSEWHERE = (nodes.literal, nodes.FixedTextElement, nodes.title, nodes.reference, nodes.math, nodes.math_block)
_ELSEWHERE += (nodes.raw, nodes.table, nodes.caption, nodes.image, nodes.emphasis)
# Where terms are ordinary words.
_ORDINARY = ("either direction", "opposite directions", "which direction", "the right direction", "half precision")


def anchor(term: str) -> str:
    """The id of a term's row in the glossary: ``term-residual-stream``."""
    return "term-" + re.sub(r"\W+", "-", term.lower()).strip("-")


@dataclass(frozen=True)
class Glossary:
    """The terms that have no ordinary sense beside theirs.

    Parameters
    ----------
    text : the glossary's page; there, words with an ordinary sense are in italics.
    """

    text: str

    @cached_property
    def meanings(self) -> dict[str, str]:
        """What each term means, in the page's order."""
        return dict(_ROW.findall(self.text))

    @cached_property
    def names(self) -> dict[str, str]:
        """The term of each name, in small letters: of itself, and of the short form that its meaning tells.

        ``""`` is that of phrases in which a term is an ordinary word.
        """
        names = dict.fromkeys(_ORDINARY, "") | {term.lower(): term for term in self.meanings}
        return names | {m[1].lower(): t for t, said in self.meanings.items() if (m := _SHORT.search(said))}

    @cached_property
    def _sorted(self) -> list[str]:
        return sorted(self.names, key=lambda name: (-len(name), name))  # of two that begin alike, the longer

    @cached_property
    def _wanted(self) -> re.Pattern[str]:
        any_of = "|".join(f"({_forms(name)})" for name in self._sorted)
        return re.compile(rf"(?<![\w-])(?:{any_of})(?![\w-])", re.IGNORECASE)

    def found(self, text: str) -> list[tuple[int, int, str]]:
        """Where whole words of a text are terms, in one number or the other: beginning, end, term."""
        every = [(*m.span(), self.names[self._sorted[m.lastindex - 1]]) for m in self._wanted.finditer(text)]
        return [one for one in every if one[2]]

    def title(self, term: str) -> str:
        """A term's meaning, as far as a small box holds it."""
        return shorten(self.meanings[term], TITLE, placeholder=" …")


def _forms(name: str) -> str:
    """A pattern for a term in singular and plural, though a line may end in it."""
    words = [re.escape(word) for word in name.split()]
    last = words[-1]
    if last.endswith("y"):
        words[-1] = f"{last[:-1]}(?:y|ies)"
    elif last.endswith("s"):
        words[-1] = f"{last}?" if not last.endswith(("ss", "us", "is", "as")) else f"{last}(?:es)?"
    else:
        words[-1] = f"{last}(?:s|es)?"
    return r"\s+".join(words)


def glossary() -> Glossary:
    """The course's glossary."""
    return Glossary((NOTEBOOKS / "glossary.md").read_text(encoding="utf-8"))


class Anchors(SphinxTransform):
    """Gives each row of the glossary an id."""

    default_priority = 500

    def apply(self, **kwargs) -> None:
        """Go through the rows, if the page is the glossary."""
        if self.env.docname == PAGE:
            for body in self.document.findall(nodes.tbody):
                for row in body.findall(nodes.row):
                    row["ids"].append(anchor(row[0].astext()))


class Links(SphinxPostTransform):
    """Makes the first mention of each term in a lesson's text a link to its row in the glossary."""

    default_priority = 200
    formats = ("html",)

    def run(self, **kwargs) -> None:
        """Go through the texts of one page, if it is a notebook."""
        if Path(self.env.doc2path(self.env.docname)).suffix != ".ipynb":
            return
        terms, seen = glossary(), set()
        page = f"{posixpath.relpath(PAGE, posixpath.dirname(self.env.docname) or '.')}.html"
        for text in list(self.document.findall(nodes.Text)):
            if _elsewhere(text):
                continue
            parts, end = [], 0
            for start, stop, term in terms.found(text):
                if term not in seen:
                    seen.add(term)
                    parts += [nodes.Text(text[end:start]), self._link(text[start:stop], page, term, terms.title(term))]
                    end = stop
            if parts:
                text.parent.replace(text, [part for part in (*parts, nodes.Text(text[end:])) if part.astext()])

    @staticmethod
    def _link(word: str, page: str, term: str, title: str) -> nodes.reference:
        where = {"refuri": f"{page}#{anchor(term)}", "reftitle": title}
        return nodes.reference("", word, internal=True, classes=["term"], **where)


def _elsewhere(node: nodes.Node) -> bool:
    """Whether a text stands in code, its output, a heading, a link, a formula or a table."""
    while (node := node.parent) is not None:
        if isinstance(node, _ELSEWHERE) or node.get("nb_element") == "cell_code":
            return True
    return False
