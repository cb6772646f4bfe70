"""Galleries: the pictures of latents beside what is said of them (Figures 1, 4 and 8)."""

from __future__ import annotations

from collections.abc import Mapping

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.effects import titled
from lib.evidence import Gathered
from lib.explain import pictures
from lib.figures import COLOURS, colour_of
from lib.methods import Mode, trio
from lib.run import Run

_WORDS = 0.17  # where explanations begin, right of their scores, as a share of the width


def quality_of(scored: pd.DataFrame) -> str:
    """The best measure of quality that a table has: ``correctness``, or else ``iou``."""
    return "correctness" if "correctness" in scored else "iou"


def gallery_latents(scored: pd.DataFrame, count: int) -> list[int]:
    """Latents at evenly spaced ranks of the three methods' mean correctness, or IoU where that is not known."""
    own = scored[(scored.control == "") & scored.method.isin([m.key for m in trio("masks")])]
    order = own.groupby("latent")[quality_of(scored)].mean().sort_values(ascending=False, kind="stable").index
    return [int(order[rank]) for rank in np.linspace(0, len(order) - 1, 2 * count + 1).astype(int)[1::2]]


def gallery(
    run: Run, scored: pd.DataFrame, latents: list[int], mode: Mode = "masks", labels: Mapping[int, str] | None = None
) -> Figure:
    """Top images under masks or heatmaps, three explanations with their scores, and the best sentence if known.

    Scores are correctness, or IoU where that is not known; the head above them says which. ``labels`` says what a row
    is a case of, where there is something to say.
    """
    k, own = run.profile.explain.k, scored[scored.control == ""].set_index(["latent", "method"])
    fig, axes = plt.subplots(
        len(latents), k + 1, figsize=(9.2, 1.12 * len(latents)), width_ratios=[1] * k + [4.6], squeeze=False
    )
    for row, latent in zip(axes, latents):
        _show(row, run.shown, latent, k, mode)
        label = f": {labels[latent]}" if labels else ""
        row[0].set_title(" ", fontsize=7.5, pad=2)  # as high as the words, which may be wider than their picture
        where = {"xytext": (0, 2), "xycoords": "axes fraction", "textcoords": "offset points"}
        row[0].annotate(f"latent {latent}{label}", (0, 1), **where, fontsize=7.5).set_in_layout(False)
        lines, (steering, topk, hybrid) = [], trio(mode)
        for method in (topk, steering, hybrid):
            cell = own.loc[(latent, method.key)]
            text = f"{method.family}: {cell.explanation or '(nothing)'}"
            lines.append((colour_of(method.key), text, cell[quality_of(scored)]))
        if run.truth:
            sentence, ceiling = run.truth.best_sentence(latent)
            lines.append((COLOURS["Ceiling"], f"best found: {sentence}", ceiling))
        for height, (colour, text, score) in zip((0.86, 0.6, 0.34, 0.08), lines):
            text = text if len(text) < 74 else text[:71] + "..."
            row[-1].text(0.1, height, f"{score:.2f}", color=colour, fontsize=8, weight="bold", va="center", ha="right")
            row[-1].text(_WORDS, height, text, color=colour, fontsize=8, va="center")
    head = {"xytext": (0, 2), "xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 7.5}
    axes[0, -1].annotate(titled(quality_of(scored)).replace("Correctness", "correctness"), (0, 1), **head)
    axes[0, -1].annotate("method: what it said", (_WORDS, 1), **head)
    return fig


def evidence_sheet(run: Run, found: pd.DataFrame, what: str = "share", held_out: bool = False) -> Figure:
    """Top images under masks of some latents, one row each, with a line about it.

    ``found`` has columns ``query, latent, method, explanation`` and a number ``what``; ``held_out``
    shows the images that metrics see, and not those that the explainer saw.
    """
    k, gathered = run.profile.explain.k, run.held_out if held_out else run.shown
    heads = [f"{item.query}\nlatent {item.latent}, {what} {getattr(item, what):.2f}\n" for item in found.itertuples()]
    said = [text[:84] for text in found.explanation]
    side = 0.95  # of a picture, in inches; the words get what the longest line takes
    words = 0.2 + 0.06 * max(len(line) for text in (*heads, *said) for line in text.splitlines())
    fig, axes = plt.subplots(
        len(found),
        k + 1,
        figsize=(side * k + words, side * len(found)),
        width_ratios=[side] * k + [words],
        squeeze=False,
    )
    for row, item, head, text in zip(axes, found.itertuples(), heads, said):
        _show(row, gathered, item.latent, k, "masks")
        row[-1].text(0, 0.5, head, fontsize=7.5, va="center")
        row[-1].text(0, 0.16, text, fontsize=7.5, va="center", color=colour_of(item.method))
    return fig


def _show(row: list[Axes], gathered: Gathered, latent: int, k: int, mode: Mode) -> None:
    """A latent's top images, each in its place; one that cannot be read leaves its place empty."""
    for place, picture in pictures(gathered.top, gathered.images, latent, k, mode).items():
        row[place].imshow(picture)
    for axis in row:
        axis.axis("off")
