"""The hybrid's two-by-two: own or another latent's direction, own or another's images (appendix J); its figures."""

from __future__ import annotations

import textwrap
from collections.abc import Sequence

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.effects import COMPOSITES, column, effect, titled, values, with_composites
from lib.figures import COLOURS, colour_of
from lib.methods import HYBRID, METHODS, MODES, STEERING, trio
from lib.metrics import metrics_of
from lib.stats import bootstrap, difference
from lib.studies.main_table import worded

CELLS = {  # whose direction, and whose images: the control that has them
    "": ("own", "own"),
    "random": ("random", "own"),
    "permuted": ("another's", "own"),
    "images": ("own", "another's"),
    "both": ("another's", "another's"),
}
MARKS = {  # controls in words
    "": "own direction",
    "random": "random direction",
    "permuted": "another's direction",
    "images": "another's images",
    "both": "both another's",
}
_EXCHANGED = "#56B4E9"  # pictures of another latent


def square(hybrid: pd.DataFrame, metric: str, mode: str) -> dict[tuple[str, str], pd.Series]:
    """The four cells of the two-by-two: ``(whose direction, whose images)`` -> a metric of all latents."""
    key = next(m.key for m in trio(mode) if m.short == "hybrid")
    return {CELLS[c]: values(hybrid, key, metric, c) for c in ("", "permuted", "images", "both")}


def two_by_two(hybrid: pd.DataFrame) -> pd.DataFrame:
    """What the direction adds and what the images add, beside the own and beside another's of the other.

    Returns
    -------
    ``evidence, what, metric, estimate...`` over the latents of :func:`lib.studies.controls.hybrid_controls`.
    """
    scored, rows = with_composites(hybrid), []
    for mode in MODES:
        for metric in (*metrics_of(scored), *COMPOSITES):
            four = square(scored, metric, mode)
            own, given, shown, both = (four[CELLS[c]] for c in ("", "permuted", "images", "both"))
            pairs = {
                "own direction, among own images": (own, given),
                "own direction, among another's images": (shown, both),
                "own images, beside the own direction": (own, shown),
                "own images, beside another's direction": (given, both),
                "beyond the sum of both (interaction)": (own - given, shown - both),
            }
            for what, pair in pairs.items():
                rows.append({"evidence": mode, "what": what, "metric": metric, **effect(difference(*pair))})
    return pd.DataFrame(rows)


def square_figure(hybrid: pd.DataFrame, metrics: Sequence[str]) -> Figure:
    """The two-by-two as lines: the direction along the axis, the images as lines; a row for each kind of evidence."""
    scored = with_composites(hybrid)
    fig, axes = plt.subplots(
        len(metrics), len(MODES), figsize=(8, 0.6 + 2 * len(metrics)), sharey="row", sharex=True, squeeze=False
    )
    for line, metric in zip(axes, metrics):
        for axis, mode in zip(line, MODES):
            four = square(scored, metric, mode)
            for images, ls, shift in (("own", "-", -0.02), ("another's", "--", 0.02)):
                found = [bootstrap(four[direction, images]) for direction in ("own", "another's")]
                look = _drawn(HYBRID.masks_add.key if images == "own" else "images")
                places, means = [shift, 1 + shift], [e.mean for e in found]
                ends = [[e.mean - e.low for e in found], [e.high - e.mean for e in found]]
                axis.errorbar(places, means, yerr=ends, ms=5, ls=ls, **look)
                axis.text(1.09, means[1], f"{images} images", color=look["color"], va="center", fontsize=8)
            axis.set_xlim(-0.3, 1.7)
            axis.set_xticks([0, 1], ["own\ndirection", "another's\ndirection"])
        line[0].set_ylabel(titled(metric))
    for axis, mode in zip(axes[0], MODES):
        axis.set_title(f"hybrid, {mode} (n = {hybrid.latent.nunique()})")
    return fig


def control_figure(scored: pd.DataFrame, hybrid: pd.DataFrame) -> Figure:
    """Means with intervals of Steering and the hybrid, each above its controls; a panel for each metric.

    Parameters
    ----------
    scored, hybrid : the main comparison with its controls, and from :func:`lib.studies.controls.hybrid_controls`.
    """
    main = scored[scored.method.isin([m.key for m in STEERING])]
    shown: list[tuple[str, str, pd.DataFrame | None]] = []  # label, key of the control or method, its rows
    for method in (*STEERING, HYBRID.masks_add, HYBRID.heatmaps_add):
        some = main if method in STEERING else hybrid
        some = some[some.method == method.key]
        parts = [(control, some[some.control == control]) for control in MARKS]
        shown.append((worded(method), method.key, None))
        shown += [(f"{MARKS[c]} (n = {len(part)})", c or method.key, part) for c, part in parts if len(part)]
    metrics = metrics_of(scored)
    fig, axes = plt.subplots(1, len(metrics), figsize=(9.6, 0.9 + 0.22 * len(shown)), sharey=True)
    heights = range(len(shown))[::-1]
    for axis, (metric, title) in zip(axes, metrics.items()):
        for height, (_, key, part) in zip(heights, shown):
            if part is not None:
                e = bootstrap(column(part, metric))
                axis.errorbar(e.mean, height, xerr=[[e.mean - e.low], [e.high - e.mean]], ms=4, **_drawn(key))
        axis.set_title(textwrap.fill(title, 12), pad=7)
        axis.set_yticks(list(heights), [label for label, *_ in shown])
        axis.set_ylim(-0.6, len(shown) - 0.4)
        axis.tick_params(axis="y", length=0)
        axis.grid(axis="x", lw=0.3)
        axis.locator_params(axis="x", nbins=4)
    for text, (_, _, part) in zip(axes[0].get_yticklabels(), shown):
        text.set_fontweight("bold" if part is None else "normal")
    fig.supxlabel("mean over test latents, 95 % bootstrap interval", fontsize=9)
    return fig


def _drawn(key: str) -> dict[str, str]:
    """How a method, or a control, looks in a figure."""
    if key in METHODS:
        return {"fmt": "o", "color": colour_of(key)}
    if key in ("random", "permuted"):
        return {"fmt": "D" if key == "random" else "v", "color": COLOURS[f"{key.capitalize()} direction"]}
    return {"fmt": "s", "color": _EXCHANGED, "mfc": _EXCHANGED if key == "images" else "none"}
