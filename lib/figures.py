"""One plotting style, and tables as CSV and Markdown. The same data give the same bytes.

Plain matplotlib, without seaborn: what that adds is estimates and intervals computed while plotting. Here every number
that a figure shows stands in a table with its interval, and resampling once more would show another one.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython import get_ipython
from IPython.display import Markdown, display
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import LogFormatter

from lib import store
from lib.dark import on_dark_page
from lib.methods import METHODS
from lib.stats import Estimate
from lib.store import write_atomically, write_text

# A colour-blind-safe palette (Okabe and Ito); a method has one colour in every figure.
COLOURS = {
    "Steering": "#D55E00",
    "Top-k": "#0072B2",
    "Steering-informed Top-k": "#009E73",
    "Random direction": "#999999",
    "Permuted direction": "#666666",
    "No intervention": "#CCCCCC",
    "Ceiling": "#000000",
}


def use_style() -> None:
    """Set matplotlib up: small sans-serif, no top and right spines, no chart junk; no settings of a user's own."""
    mpl.rcdefaults()
    mpl.rcParams.update(
        {
            "figure.dpi": 110,
            "savefig.dpi": 200,
            "savefig.bbox": "tight",
            "font.size": 9,
            "axes.titlesize": 9.5,
            "axes.labelsize": 9,
            "legend.fontsize": 8,
            "legend.frameon": False,
            "axes.spines.top": False,
            "axes.spines.right": False,
            "axes.titlelocation": "left",
            "image.interpolation": "nearest",
            "figure.constrained_layout.use": True,
            "svg.hashsalt": "steering",
            "pdf.fonttype": 42,
        }
    )


def colour_of(key: str) -> str:
    """The colour of the method with this key."""
    return COLOURS[METHODS[key].family]


def save_figure(fig: Figure, folder: Path, name: str, caption: str) -> None:
    """Write a figure with its caption, show both in a notebook, and close it.

    ``name.png`` and ``name.pdf`` are for a light page, ``name.dark.png`` for a dark one, and ``name.txt`` is the
    caption, which pages also give to those who cannot see the picture. No file holds a date. The figure's texts are
    shown as they are: what a model says may hold dollars and underscores, and is no formula.

    Parameters
    ----------
    caption : what is shown, what colours and marks mean, how it was chosen, n and what the intervals are: it must
        be understood without the text around it.

    Raises
    ------
    ValueError
        If there is no caption.
    """
    caption = " ".join(caption.split())
    if not caption:
        raise ValueError(f"figure {name} needs a caption that stands alone")
    powers = set()  # of ten, on logarithmic axes: the only formulas, written by matplotlib itself
    for axis in (axis for axes in fig.axes for axis in (axes.xaxis, axes.yaxis)):
        for formatter, labels in (
            (axis.get_major_formatter(), axis.get_majorticklabels()),
            (axis.get_minor_formatter(), axis.get_minorticklabels()),
        ):
            powers.update(labels if isinstance(formatter, LogFormatter) else ())
    for text in fig.findobj(Text):
        text.set_parse_math(text in powers)
    for kind, dates in (("png", ["Software"]), ("pdf", ["CreationDate", "Producer", "Creator"])):
        settings = {"format": kind, "metadata": dict.fromkeys(dates)}
        _write(fig, folder / f"{name}.{kind}", settings)
    if get_ipython() is not None:
        display(fig, Markdown(f"*{caption}*"))
    with on_dark_page(fig):
        _write(fig, folder / f"{name}.dark.png", {"format": "png", "metadata": {"Software": None}})
    store.note("made", write_text(folder / f"{name}.txt", f"{caption}\n"))
    plt.close(fig)


def _write(fig: Figure, path: Path, settings: dict[str, Any]) -> None:
    store.note("made", write_atomically(path, lambda path: fig.savefig(path, **settings)))


def markdown(table: pd.DataFrame) -> str:
    """A table as Markdown, one line for every row, whatever its texts hold."""

    def cell(value: Any) -> Any:
        if not isinstance(value, str):
            return value
        return re.sub(r"(\\*)\|", r"\1\1\\|", " ".join(value.splitlines()))

    shown = table.rename(columns=cell)
    for place, kind in enumerate(shown.dtypes):
        if not pd.api.types.is_numeric_dtype(kind):
            shown.isetitem(place, shown.iloc[:, place].map(cell))
    return shown.to_markdown(index=False, disable_numparse=True)


def save_table(
    table: pd.DataFrame, folder: Path, name: str, note: str, shown: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Write a table as CSV, and as Markdown with a note under it; returns it as people read it, for display.

    Floats keep four digits, so that the last bits of a sum do not show.

    Parameters
    ----------
    shown : the table as people read it: no wider than a page, and without rows that only machines want. By default
        the table itself, with an estimate and its interval in one column ("0.21 [0.19, 0.23]").
    """
    rounded = table.copy()
    for column in rounded.select_dtypes("float"):
        rounded[column] = rounded[column].round(4)
    store.note("made", write_atomically(folder / f"{name}.csv", lambda path: rounded.to_csv(path, index=False)))
    shown = with_intervals(rounded) if shown is None else shown
    store.note("made", write_text(folder / f"{name}.md", f"{markdown(shown)}\n\n{note}\n"))
    return shown


def side_by_side(table: pd.DataFrame, rows: Sequence[str], columns: str, cells: str = "cell") -> pd.DataFrame:
    """A long table for a page: its ``cells`` in a column for each value of one column, all in their first order.

    Parameters
    ----------
    rows : columns that name a row.
    """
    order = table[[*rows]].drop_duplicates().set_index([*rows]).index
    wide = table.pivot(index=[*rows], columns=columns, values=cells).reindex(order)
    return wide[list(dict.fromkeys(table[columns]))].reset_index().rename_axis(columns=None)


def with_intervals(table: pd.DataFrame) -> pd.DataFrame:
    """A table with columns ``estimate``, ``low`` and ``high``, these three as one text; another as it is."""
    if not {"estimate", "low", "high"} <= set(table):
        return table
    texts = [str(Estimate(*ends, 0)) for ends in table[["estimate", "low", "high"]].itertuples(index=False)]
    return table.assign(estimate=texts).drop(columns=["low", "high"])


def curve(axis: Axes, x: Sequence[float], estimates: Sequence[Estimate], colour: str, **line: Any) -> None:
    """Means as a line with markers, their intervals as a band."""
    axis.plot(x, [e.mean for e in estimates], color=colour, **{"marker": "o", "ms": 3, **line})
    low, high = [e.low for e in estimates], [e.high for e in estimates]
    axis.fill_between(x, low, high, color=colour, alpha=0.15, lw=0)


def intervals(axis: Axes, labels: Sequence[str], estimates: Sequence[Estimate], colours: Sequence[str]) -> None:
    """Means as points with their intervals, one below the other, first on top."""
    heights = range(len(labels))[::-1]
    for height, e, colour in zip(heights, estimates, colours):
        axis.errorbar(e.mean, height, xerr=[[e.mean - e.low], [e.high - e.mean]], fmt="o", ms=4, color=colour)
    axis.set_yticks(list(heights), labels)
    axis.set_ylim(-0.6, len(labels) - 0.4)
    axis.grid(axis="x", lw=0.3)
    axis.locator_params(axis="x", nbins=4)  # narrow panels: few numbers, so that none touch


def show_images(images: Sequence[np.ndarray], titles: Sequence[str], columns: int, size: float = 1.0) -> Figure:
    """A sheet of pictures with small titles."""
    rows = -(-len(images) // columns)
    fig, axes = plt.subplots(rows, columns, figsize=(columns * size, rows * (size + 0.24)), squeeze=False)
    for axis in axes.flat:
        axis.axis("off")
    for axis, image, title in zip(axes.flat, images, titles):
        axis.imshow(image)
        axis.set_title(title, fontsize=7, loc="center", pad=2)
    return fig
