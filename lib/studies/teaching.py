"""How much does it move the ranking what the models were taught? Ours, as the paper's models come as they are.

Variants of the profile swap the subject's model for one that was taught otherwise, and nothing else. Of the desk's
subjects one has never seen a covered picture, one has an encoder that learned from labels of patches, and one has
practised the very questions that Top-k asks; the default has seen covered pictures, and was taught none of the methods.
"""

from __future__ import annotations

import textwrap
from collections.abc import Sequence
from itertools import product
from pathlib import Path

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.effects import BOTH, COMPOSITE, COMPOSITES, as_estimates, effect, titled, with_composites
from lib.figures import colour_of, intervals
from lib.findings import contrast, number, side
from lib.methods import MODES, STEERING, trio
from lib.metrics import metrics_of
from lib.run import Run
from lib.stats import Estimate, difference
from lib.studies.significance import sides

PAIRS = ("Steering - Top-k", "hybrid - Top-k")


def subjects(run: Run) -> dict[str, Run]:
    """This run's subject, and those variants that swap the model alone: by the variants' names."""
    own = run.profile.subject
    variants = {name: run.changed(name) for name in run.profile.variants}
    swapped = {
        name: one
        for name, one in variants.items()
        if one.profile.subject.model != own.model and one.profile.subject.published is None
    }
    return {"default": run, **swapped}


def variants(run: Run) -> pd.DataFrame:
    """What the variants of a profile change, beside the run itself; what they share with it is not told."""
    rows = []
    for name, one in {"(this run)": run, **{name: run.changed(name) for name in run.profile.variants}}.items():
        p = one.profile
        rows.append(
            {
                "variant": name,
                "model": Path(str(p.subject.model)).name,
                "layer": p.subject.layer,
                "pictures to train on": p.images.train,
                "pictures to explain from": p.images.explain,
                "test latents": p.explain.test,
            }
        )
    return pd.DataFrame(rows)


def ranking(scored: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Differences between methods, by how the models were taught, under each kind of evidence and under both.

    Parameters
    ----------
    scored : by name, scored explanations by the paper's methods.

    Returns
    -------
    ``taught, evidence, comparison, metric, estimate, low, high, n, p``; composites are in standard deviations.
    """
    rows = []
    for taught, table in scored.items():
        table = with_composites(table)
        for evidence, pair in product((BOTH, *MODES), PAIRS):
            for metric in (*metrics_of(table), *COMPOSITES):
                e = difference(*sides(table, evidence, pair, metric))
                names = {"taught": taught, "evidence": evidence, "comparison": pair, "metric": metric}
                rows.append({**names, **effect(e)})
    return pd.DataFrame(rows)


def summary(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`ranking` as it fits on a page: composite and correctness; the ways of teaching below one another."""
    part = table[table.metric.isin([COMPOSITE, "correctness"])]
    part = part.assign(estimate=[number(e) for e in as_estimates(part)])
    order = part.drop_duplicates(["comparison", "evidence", "taught"]).sort_values(
        ["comparison", "evidence"], key=lambda c: c.map([*PAIRS, *MODES, BOTH].index), kind="stable"
    )
    rows = ["comparison", "evidence", "taught", "n"]
    wide = part.pivot(index=rows, columns="metric", values="estimate").loc[pd.MultiIndex.from_frame(order[rows])]
    return (
        wide.reset_index()
        .rename(columns={COMPOSITE: titled(COMPOSITE), "correctness": titled("correctness")})
        .rename_axis(columns=None)
    )


def ranking_figure(table: pd.DataFrame, metric: str, shown: Sequence[tuple[str, str]]) -> Figure:
    """Differences between methods under every condition, a panel for each pair of methods and kind of evidence."""
    names = list(dict.fromkeys(table.taught))
    colours = dict(zip(PAIRS, (colour_of(STEERING.add.key), colour_of(trio("masks")[2].key))))
    size = (2.4 + 2.3 * len(shown), 1 + 0.28 * len(names))
    fig, axes = plt.subplots(1, len(shown), figsize=size, sharey=True, squeeze=False)
    for axis, (pair, evidence) in zip(axes[0], shown):
        part = table[(table.comparison == pair) & (table.evidence == evidence) & (table.metric == metric)]
        part = part.set_index("taught").loc[names]
        labels = [f"{textwrap.shorten(name, 44)} (n = {n})" for name, n in part.n.items()]
        intervals(axis, labels, as_estimates(part), [colours[pair]] * len(names))
        axis.axvline(0, color="black", lw=0.8)
        axis.set_title(f"{pair}\n{'mean of both kinds of evidence' if evidence == BOTH else evidence}", pad=6)
    fig.supxlabel(f"difference in {titled(metric).lower()}, mean and 95 % bootstrap interval", fontsize=9)
    return fig


def findings(models: pd.DataFrame, table: pd.DataFrame) -> list[str]:
    """Whether the order of the methods holds under other models, layers and ways of teaching, and what that rests on.

    By the composite of both kinds of evidence; how teaching moves it by correctness, where that is known.

    Parameters
    ----------
    models, table : from :func:`ranking`, of the models and layers that the paper has tables for, and of what our own
        were taught; the first rows of both are about the run itself.
    """
    every = pd.concat([models, table[table.taught != table.taught.iloc[0]]])
    own = every[(every.metric == COMPOSITE) & (every.evidence == BOTH)]
    conditions = own.taught.nunique()
    told = []
    for pair in PAIRS:
        shown = [side(e) for e in as_estimates(own[own.comparison == pair])]
        word = {0: "is shown in no condition", 1: "is the same wherever it is shown", 2: "changes with the condition"}
        first, second = pair.split(" - ")
        told.append(
            f"the order of {first} and {second} {word[len(set(shown) - {0})]} ({first} leads in {shown.count(1)} of "
            f"{conditions} conditions, trails in {shown.count(-1)})"
        )
    lines = [f"By the composite, {'; '.join(told)}."]
    judge = "correctness" if "correctness" in set(table.metric) else COMPOSITE
    lines.append(taught(table[(table.metric == judge) & (table.evidence == BOTH)], judge))
    for r, e in zip(own.itertuples(), as_estimates(own)):
        if r.taught in set(models.taught):
            lines.append(contrast(f"Composite (standard deviations), {r.taught}", *r.comparison.split(" - "), e))
    return lines


def taught(part: pd.DataFrame, judge: str) -> str:
    """How far teaching moves Steering against Top-k, in a sentence.

    Parameters
    ----------
    part : rows of :func:`ranking` of one metric, ``judge``, and one kind of evidence.
    """
    part = part[part.comparison == PAIRS[0]]
    found: dict[str, Estimate] = dict(zip(part.taught, as_estimates(part)))
    if len(found) < 2:
        return "In this profile no model was taught otherwise."
    least, most = min(found, key=lambda k: found[k].mean), max(found, key=lambda k: found[k].mean)
    if side(found[most]) > 0 > side(found[least]):
        word = "turns the order of Steering and Top-k round"
    elif found[least].high < found[most].low:
        word = "moves Steering against Top-k"
    else:
        word = "is not shown to move Steering against Top-k"
    return (
        f"What the models were taught {word}: Steering - Top-k in {titled(judge).lower()} is {number(found[most])} "
        f"for {most} and {number(found[least])} for {least}."
    )
