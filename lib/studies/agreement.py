"""Do Steering and Top-k say the same, and is Top-k better where they do (section 5.1, Figure 3)?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.effects import as_estimates, column, effect, standardised
from lib.findings import trend
from lib.judges.sentences import SentenceEmbedder
from lib.methods import STEERING, TOP_K
from lib.metrics import METRICS, metrics_of
from lib.run import Run
from lib.stats import bootstrap, rank_correlation

VOTERS = ("synthetic_norm", "auroc", "iou", "clip")
FEWEST = 5  # latents behind a point of a curve


def qualities(table: pd.DataFrame) -> dict[str, str]:
    """What :func:`agreement`'s table tells of how good an explanation is, with titles: Figure 3's panels come first.

    ``synthetic_norm`` takes the place of the synthetic activation: a latent's scale says nothing about its explanation.
    """
    first = {"synthetic_norm": f"{METRICS['synthetic'].title}, normalised", "auroc": METRICS["auroc"].title}
    return first | {name: title for name, title in metrics_of(table).items() if name != "synthetic"}


def agreement(run: Run, scored: pd.DataFrame, embedder: SentenceEmbedder) -> pd.DataFrame:
    """Top-k's explanations (masks) with Steering's beside them and the ``similarity`` of the two.

    ``synthetic_norm`` is the synthetic activation divided by the latent's mean activation on its own held-out top
    images.
    """
    own = scored[scored.control == ""].sort_values(["dictionary", "latent"])
    table = own[own.method == TOP_K.masks.key].reset_index(drop=True)
    other = own[own.method == STEERING.add.key].explanation.tolist()
    a, b = embedder.embed(table.explanation.tolist()), embedder.embed(other)  # [latents, d] each
    # Rounded: the last digits of a cosine are noise, and would rank the many pairs that say the same.
    similarity = (a * b).sum(1).numpy().round(5)
    runs = [one for one in run.replicas if one.profile.sae.seed in set(table.dictionary)]
    peaks = {one.profile.sae.seed: one.held_out.top.score[:, : run.profile.explain.k].mean(1) for one in runs}
    peak = np.array([float(peaks[d][i]) for d, i in zip(table.dictionary, table.latent)]).clip(1e-12)
    table = table.assign(steering=other, similarity=similarity, synthetic_norm=table.synthetic / peak)
    return table.assign(composite=standardised(table, VOTERS))


def above_thresholds(table: pd.DataFrame, thresholds: Sequence[float]) -> pd.DataFrame:
    """Quality of the explanations whose similarity is at least each threshold; thin samples are left out."""
    rows = []
    for threshold in thresholds:
        part = table[table.similarity >= threshold]
        if len(part) >= FEWEST:
            where = {"threshold": round(float(threshold), 3)}
            rows += [{"metric": m, **where, **effect(bootstrap(column(part, m)))} for m in qualities(table)]
    return pd.DataFrame(rows)


def correlations(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Rank correlation of similarity and quality across latents: ``model, metric, estimate, low, high, n, p``.

    ``composite`` is the mean of the four metrics, each in standard deviations (the synthetic activation normalised).
    """
    return pd.DataFrame(
        [
            {"model": model, "metric": m, **effect(rank_correlation(column(table, "similarity"), column(table, m)))}
            for model, table in tables.items()
            for m in (*qualities(table), "composite")
        ]
    )


def findings(table: pd.DataFrame) -> list[str]:
    """What the correlations say: one sentence for each model, by the composite; and correctness where it is known."""
    what = {"composite": "Top-k's quality (composite)", "correctness": "Top-k's correctness"}
    own = table[table.metric.isin(list(what))]
    return [
        trend(f"{r.model}: {what[r.metric]}", "with its similarity to Steering's explanation", e)
        for r, e in zip(own.itertuples(), as_estimates(own))
    ]
