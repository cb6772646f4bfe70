"""Do Steering and Top-k say the same, and is Top-k better where they do (section 5.1, Figure 3)?"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.effects import as_estimates, column, effect, standardised, titled
from lib.figures import side_by_side
from lib.findings import number, side, trend
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


def within_concepts(tables: dict[str, pd.DataFrame], metrics: Sequence[str] = ("composite",)) -> pd.DataFrame:
    """As :func:`correlations`, when easy concepts can no longer make both methods good.

    From a latent's similarity and from its quality the mean of its concept is taken. So only latents that mean the same
    are compared; those that are alone with their concept are left out. Columns: ``model, metric, estimate...``.
    """
    rows = []
    for model, table in tables.items():
        own = table[table.groupby("concept").concept.transform("size") > 1]
        for metric in metrics if len(own) else ():
            means = own.groupby("concept")[["similarity", metric]].transform("mean")
            inside = own.assign(similarity=own.similarity - means.similarity, **{metric: own[metric] - means[metric]})
            found = rank_correlation(column(inside, "similarity"), column(inside, metric))
            rows.append({"model": model, "metric": metric, **effect(found)})
    return pd.DataFrame(rows, columns=["model", "metric", "estimate", "low", "high", "n", "p"])


def curves_shown(curves: pd.DataFrame) -> pd.DataFrame:
    """:func:`above_thresholds` of several models for a page: every third threshold, two metrics and the truth."""
    metrics = [m for m in ("auroc", "iou", "correctness") if m in set(curves.metric)]
    thresholds = sorted(set(curves.threshold))[::3]
    own = curves[curves.metric.isin(metrics) & curves.threshold.isin(thresholds)]
    own = own.assign(cell=[str(e) for e in as_estimates(own)])
    keys = ["model", "threshold", "n"]
    return side_by_side(own, keys, "metric")[[*keys, *metrics]].rename(columns={m: titled(m) for m in metrics})


def correlations_shown(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`correlations` for a page: a row for each measure of quality, a column for each model."""
    cells = table.assign(cell=[str(e) for e in as_estimates(table)], what=table.metric.map(_named))
    cells["model"] = [f"{r.model}, n = {r.n}" for r in table.itertuples()]
    return side_by_side(cells, ["what"], "model").rename(columns={"what": "quality of Top-k's explanation"})


def _named(metric: str) -> str:
    return f"{METRICS['synthetic'].title}, normalised" if metric == "synthetic_norm" else titled(metric)


def findings(table: pd.DataFrame, within: pd.DataFrame | None = None) -> list[str]:
    """What the correlations say: the answer, of the first model; then the others, by composite and, if known, truth.

    Parameters
    ----------
    within : from :func:`within_concepts`, where concepts are known.
    """
    what = {"composite": "Top-k's quality (composite)", "correctness": "Top-k's correctness"}
    own = table[table.metric.isin(list(what))]
    lines, own = [_answer(own)], own[own.model != own.model.iloc[0]]
    lines += [
        trend(f"{r.model}: {what[r.metric]}", "with its similarity to Steering's explanation", e)
        for r, e in zip(own.itertuples(), as_estimates(own))
    ]
    if within is not None and len(within):
        first = within[within.model == within.model.iloc[0]]
        lines += [
            trend(f"{r.model}, among latents of one concept: {what[r.metric]}", "with its similarity to Steering's", e)
            for r, e in zip(first.itertuples(), as_estimates(first))
            if r.metric in what
        ]
    return lines


def _answer(own: pd.DataFrame) -> str:
    """Whether agreement is a sign of quality with the first model, and with how many of the others."""
    signs = {1: "a sign of", 0: "not shown to be a sign of", -1: "a sign against"}
    good = {"composite": "a good Top-k explanation, by the four metrics", "correctness": "a right one"}
    first, told, others = own.model.iloc[0], [], []
    for metric in (m for m in good if m in set(own.metric)):
        part = own[own.metric == metric]
        e, *more = as_estimates(part)
        told.append(f"{signs[side(e)]} {good[metric]} (rank correlation {number(e)}, n = {e.n})")
        others.append(f"{sum(side(one) > 0 for one in more)} of {len(more)} show")
    also = " and ".join(f"{found} {which}" for found, which in zip(others, ("the former", "the latter")))
    rest = f" Of the other models {also}." if own.model.nunique() > 1 else ""
    return f"{first}: agreement with Steering is {', and '.join(told)}.{rest}"
