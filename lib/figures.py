"""One plotting style, and tables as CSV and Markdown. The same data give the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.stats import Estimate
from lib.store import note_made, write_atomically

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
    """Set matplotlib up: small sans-serif, no top and right spines, no chart junk."""
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


def save_figure(fig: Figure, folder: Path, name: str) -> None:
    """Write a figure as PNG and PDF, without dates in them."""
    for kind in ("png", "pdf"):
        metadata = {"Software": None} if kind == "png" else {"CreationDate": None, "Producer": None, "Creator": None}
        note_made(
            write_atomically(
                folder / f"{name}.{kind}", lambda path, k=kind, m=metadata: fig.savefig(path, format=k, metadata=m)
            )
        )


def save_table(
    table: pd.DataFrame, folder: Path, name: str, note: str, shown: pd.DataFrame | None = None
) -> pd.DataFrame:
    """Write a table as CSV, and as Markdown with a note under it; returns the table, for display.

    Floats keep four digits, so that the last bits of a sum do not show. ``shown`` is the same
    table as people read it ("0.21 [0.19, 0.23]"), where machines want a column for each number.
    """
    rounded = table.copy()
    for column in rounded.select_dtypes("float"):
        rounded[column] = rounded[column].round(4)
    note_made(write_atomically(folder / f"{name}.csv", lambda path: rounded.to_csv(path, index=False)))
    text = (rounded if shown is None else shown).to_markdown(index=False, disable_numparse=True) + f"\n\n{note}\n"
    note_made(write_atomically(folder / f"{name}.md", lambda path: path.write_text(text)))
    return rounded


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
