"""Findings in words: sentences made from estimates, so that none says more than its interval does.

A sentence names a direction only through :func:`contrast` or :func:`trend`, and these look at the interval. A test
reads every sentence that has been saved, and fails if a word of direction stands beside an interval that has both
signs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from pathlib import Path

from IPython.display import Markdown

from lib.stats import Estimate
from lib.store import write_text

DIRECTIONS = re.compile(r"\b(higher|lower|more|less|fewer|better|worse|rises?|falls?|ahead|behind|above|below)\b")
INTERVAL = re.compile(r"(-?[\d.]+) \[(-?[\d.]+), (-?[\d.]+)\]")


def number(e: Estimate, digits: int = 3) -> str:
    """``0.123 [0.100, 0.150]``; an end that would round to 0 keeps its sign by more digits."""
    while digits < 6 and any(x and not round(x, digits) for x in (e.low, e.high)):
        digits += 1
    return f"{e.mean:z.{digits}f} [{e.low:z.{digits}f}, {e.high:z.{digits}f}]"


def side(e: Estimate) -> int:
    """1 if the whole interval is above 0, -1 if it is below, else 0."""
    return int(e.low > 0) - int(e.high < 0)


def contrast(what: str, first: str, second: str, e: Estimate) -> str:
    """How ``first`` compares with ``second`` in ``what``; ``e`` is the difference, first minus second."""
    tail = f"difference {number(e)}, n = {e.n}"
    if side(e):
        return f"{what}: {first} is {'higher' if side(e) > 0 else 'lower'} than {second} ({tail})."
    return f"{what}: {first} and {second} are not told apart ({tail})."


def trend(what: str, along: str, e: Estimate) -> str:
    """Whether ``what`` changes along something; ``e`` is a slope, a correlation, or the last less the first."""
    tail = f"{number(e)}, n = {e.n}"
    if side(e):
        return f"{what} {'rises' if side(e) > 0 else 'falls'} {along} ({tail})."
    return f"{what.rstrip(',')}: no trend {along} is shown ({tail})."


def unsupported(sentence: str) -> bool:
    """Whether a sentence names a direction that an interval in it does not support, or has none to support it.

    What stands in quotation marks is somebody else's claim, and is not read.
    """
    sentence = re.sub("“.*?”", "", sentence)
    if not DIRECTIONS.search(sentence):
        return False
    found = [(float(low), float(high)) for _, low, high in INTERVAL.findall(sentence)]
    return not found or any(low <= 0 <= high for low, high in found)


def save_findings(lines: Iterable[str], folder: Path, notebook: str) -> Markdown:
    """Write a notebook's findings to ``findings_<notebook>.md``, and show them.

    Parameters
    ----------
    lines : the first answers the notebook's question, in a sentence or two; the others say what it rests on.

    Raises
    ------
    ValueError
        If a sentence names a direction that its interval does not support.
    """
    lines = list(lines)
    if wrong := [line for line in lines if unsupported(line)]:
        raise ValueError(f"its interval does not support this sentence: {wrong[0]}")
    write_text(folder / f"findings_{notebook}.md", "".join(f"* {line}\n" for line in lines))
    answer, *more = lines or ["This run has nothing to compare."]  # as one with a single language model, in notebook 12
    return Markdown("\n".join([f"**In short.** {answer}\n", *(f"* {line}" for line in more)]))
