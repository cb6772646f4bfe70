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
from lib.studies.significance import brief, called

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


def shown(worst: pd.DataFrame, truth: str = TRUTH) -> pd.DataFrame:
    """:func:`failures` for people: what the metric gave, and the truth."""
    return pd.DataFrame(
        {
            "metric": worst.proxy.map(brief) + " " + worst.kind,
            "latent": worst.latent,
            "method": worst.method.map(called),
            "explanation": worst.explanation.replace("", "(nothing)"),
            "score": [f"{row[row.proxy]:.2f}" for _, row in worst.iterrows()],
            "truth": worst[truth].map("{:.2f}".format),
            "gap": worst.gap.map("{:+.2f}".format),
        }
    )


WIDTH, GAP, WORDS = 9.0, 0.4, 0.62  # inches: of a sheet, between its halves, and for the words above pictures


def failure_sheet(run: Run, worst: pd.DataFrame, truth: str = TRUTH) -> Figure:
    """The first of :func:`failures` of each proxy, a row each: overrated on the left, underrated on the right.

    Pictures are a latent's held-out top images, masked; words have the colour of their method.
    """
    k, names = run.profile.explain.k, list(dict.fromkeys(worst.proxy))
    size = (WIDTH - GAP) / (2 * k)  # of a picture, with the space beside it
    height = size + WORDS
    fig = plt.figure(figsize=(WIDTH, height * len(names)), layout="none")
    for row, proxy in enumerate(names):
        bottom = height * (len(names) - 1 - row)
        for half, kind in enumerate(KINDS):
            item = worst[(worst.proxy == proxy) & (worst.kind == kind)].iloc[0]
            left = half * (WIDTH + GAP) / 2
            pages = pictures(run.held_out.top, run.held_out.images, item.latent, k, "masks")
            for place in range(k):
                box = (left + place * size, bottom, 0.96 * size, 0.96 * size)
                axis = fig.add_axes(tuple(v / w for v, w in zip(box, 2 * (WIDTH, height * len(names)))))
                axis.set(xticks=[], yticks=[])
                axis.spines[:].set(visible=place in pages, color="#999999", lw=0.4)
                if place in pages:
                    axis.imshow(pages[place])
                else:
                    axis.patch.set_visible(False)
            title = f"{METRICS[proxy].title} {kind}: {item[proxy]:.2f}, truth {item[truth]:.2f} (latent {item.latent})"
            words = shorten(item.explanation, 60, placeholder="...") or "(nothing)"
            texts = ((title, 0.25, "black"), (f"“{words}”", 0.07, colour_of(item.method)))
            for text, above, colour in texts:
                at = (left / WIDTH, (bottom + 0.96 * size + above) / (height * len(names)))
                fig.text(*at, text, fontsize=8.5, color=colour, ha="left", va="bottom")
    return fig
