"""Where each proxy goes wrong: the explanations that it overrates and underrates the most, with their pictures."""

from __future__ import annotations

from collections.abc import Sequence
from textwrap import shorten

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from scipy.stats import rankdata

from lib.explain import pictures
from lib.figures import colour_of
from lib.methods import Method
from lib.metrics import METRICS, voters
from lib.run import Run
from lib.studies.proxies import TRUTH

KINDS = {"overrates": -1, "underrates": 1}  # and the sign by which the most extreme comes first


def failures(scored: pd.DataFrame, methods: Sequence[Method], each: int = 1, truth: str = TRUTH) -> pd.DataFrame:
    """The explanations that each metric overrates and underrates the most, by ranks; a latent once per metric.

    ``gap`` is the rank by the metric less that by the truth, as shares of all explanations whose truth is known.
    """
    own = scored[scored.method.isin([method.key for method in methods])].dropna(subset=[truth]).reset_index(drop=True)
    ranked = rankdata(own[truth]) / len(own)
    rows = []
    for proxy in voters():
        gap = rankdata(own[proxy].fillna(0)) / len(own) - ranked
        for kind, sign in KINDS.items():
            order = np.argsort(sign * gap, kind="stable")
            part = own.iloc[order].assign(gap=gap[order], proxy=proxy, kind=kind).drop_duplicates("latent")
            rows.append(part.head(each))
    columns = ["proxy", "kind", "latent", "method", "explanation", "gap", *voters(), truth]
    return pd.concat(rows, ignore_index=True)[columns]


def failure_sheet(run: Run, worst: pd.DataFrame, truth: str = TRUTH) -> Figure:
    """The first of :func:`failures` of each proxy, a row each: overrated on the left, underrated on the right.

    Pictures are a latent's held-out top images, masked; words have the colour of their method.
    """
    k, names = run.profile.explain.k, list(dict.fromkeys(worst.proxy))
    fig = plt.figure(figsize=(9, 1.5 * len(names)))
    for line, proxy in zip(np.atleast_1d(fig.subfigures(len(names), 1)), names):
        for panel, kind in zip(line.subfigures(1, len(KINDS)), KINDS):
            item = worst[(worst.proxy == proxy) & (worst.kind == kind)].iloc[0]
            title = f"{METRICS[proxy].title} {kind} ({item[proxy]:.2f}; correctness {item[truth]:.2f})"
            # The second line is left free for the words, which have a colour of their own.
            panel.suptitle(f"{title}, latent {item.latent}\n", fontsize=7.5, x=0.02, ha="left")
            axes = panel.subplots(1, k, squeeze=False)[0]
            shown = pictures(run.held_out.top, run.held_out.images, item.latent, k, "masks")
            words = shorten(item.explanation, 70, placeholder="...") or "(nothing)"
            look = {"fontsize": 7.5, "color": colour_of(item.method), "in_layout": False}
            axes[0].text(0, 1.1, words, transform=axes[0].transAxes, **look)
            for place, axis in enumerate(axes):
                axis.axis("off")
                if place in shown:
                    axis.imshow(shown[place])
    return fig
