"""Tables 1 and 3: every method on every metric, with intervals, beside the published numbers."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import matplotlib.pyplot as plt
import pandas as pd
from matplotlib.figure import Figure

from lib.effects import BOTH, COMPOSITE, column, titled, values, with_composites
from lib.figures import colour_of, intervals
from lib.findings import contrast, number, side
from lib.methods import COMPARED, MODES, STEERED, STEERING, Method
from lib.metrics import METRICS, metrics_of
from lib.paper import csv_of
from lib.run import Run
from lib.stats import Estimate, bootstrap, bootstrap_ratio, difference
from lib.studies.significance import pairs_of, sides

BEST = {
    "Steering": "Being steered explains best: Steering",
    "Top-k": "Looking at pictures explains best: Top-k",
    "hybrid": "Both together explain best: the hybrid",
}


@dataclass(frozen=True)
class Row:
    """A row of Table 1.

    Attributes
    ----------
    method : whose.
    n, failed : test latents, and how many explanations of them failed.
    estimates : metric -> its mean over the latents, with the interval.
    """

    method: Method
    n: int
    failed: int
    estimates: dict[str, Estimate]


def published(table: str, model: str) -> pd.DataFrame:
    """The paper's own numbers for a model: ``data/paper/<table>.csv``."""
    numbers = csv_of(table)
    return numbers[numbers.model == model]


def rows_of(scored: pd.DataFrame) -> list[Row]:
    """The rows of Table 1, in the paper's order."""
    own = scored[scored.control == ""]
    parts = {method: own[own.method == method.key] for method in COMPARED}
    return [
        Row(method, len(part), int(part.failed.sum()), {m: bootstrap(column(part, m)) for m in metrics_of(scored)})
        for method, part in parts.items()
        if len(part)
    ]


def worded(method: Method) -> str:
    """A method as tables and axes call it where there is little room: ``hybrid, masks, add``."""
    return method.label.replace(method.family, method.short)


def narrow(title: str) -> str:
    """A metric's title as the head of a narrow column."""
    return title.removesuffix(" activation")


def main_table(scored: pd.DataFrame, paper: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table 1 with intervals, the published numbers with ours where there are any.

    Returns
    -------
    The table with a column for every number; and the same for people to read, where each method has a line of means,
    one of intervals below it, and one of published numbers.
    """
    numbers, shown = [], []
    for row in rows_of(scored):
        method = row.method
        theirs = paper[(paper.method == method.family) & (paper.evidence == method.evidence)]
        there = len(theirs) and method.steer != "replace"  # the published runs add; what replacing gives was not
        cells = {"method": method.family, "evidence": method.evidence, "intervention": method.steer or "none"}
        published: dict[str, float] = {}
        for metric in metrics_of(scored):
            e = row.estimates[metric]
            cells |= {metric: e.mean, f"{metric}_low": e.low, f"{metric}_high": e.high}
            if metric in paper:
                cells[f"{metric}_paper"] = float(theirs[metric].iloc[0]) if there else None
                published |= {metric: cells[f"{metric}_paper"]} if there else {}
        numbers.append({**cells, "failed": row.failed, "n": row.n})
        shown += _lines(row, published)
    return pd.DataFrame(numbers), pd.DataFrame(shown)


def _lines(row: Row, published: Mapping[str, float]) -> list[dict[str, str]]:
    """A row of Table 1 as lines that fit on a page."""
    heads = {metric: narrow(METRICS[metric].title) for metric in row.estimates}
    means = {heads[m]: f"{e.mean:z.3f}" for m, e in row.estimates.items()}
    ends = {heads[m]: f"[{e.low:z.2f}, {e.high:z.2f}]" for m, e in row.estimates.items()}
    theirs = {heads[m]: f"{published[m]:.3f}" if m in published else "-" for m in heads}
    lines = [{"method": worded(row.method), **means, "n": f"{row.n}"}, {"method": "95 % interval", **ends, "n": ""}]
    return [*lines, {"method": "published", **theirs, "n": ""}] if published else lines


def panels(rows: Mapping[str, Sequence[Row]]) -> Figure:
    """Means with their intervals: a line of panels for each subject, and a panel in it for each metric.

    Parameters
    ----------
    rows : by the subject's name; of several subjects with the same methods.
    """
    first, alone = next(iter(rows.values())), len(rows) == 1
    replacing = any(row.method.steer == "replace" for row in first)
    size = (9.6, 0.9 + sum(0.4 + 0.25 * len(some) for some in rows.values()))
    shared = {"sharey": "row", "sharex": "col", "squeeze": False}
    fig, axes = plt.subplots(len(rows), len(first[0].estimates), figsize=size, **shared)
    for line, (subject, some) in zip(axes, rows.items()):
        names = [worded(row.method) if replacing else worded(row.method).removesuffix(", add") for row in some]
        labels = [f"{name} (n = {row.n})" if alone else name for name, row in zip(names, some)]
        for axis, metric in zip(line, first[0].estimates):
            intervals(axis, labels, [row.estimates[metric] for row in some], [colour_of(r.method.key) for r in some])
        line[0].set_ylabel("" if alone else f"{textwrap.fill(subject, 22)}\n(n = {some[0].n})")
    for axis, metric in zip(axes[0], first[0].estimates):
        axis.set_title(textwrap.fill(METRICS[metric].title, 12), pad=7)
    fig.supxlabel("mean over test latents, 95 % bootstrap interval", fontsize=9)
    return fig


def paired_figure(less: pd.Series, what: str) -> Figure:
    """Paired differences of latents, and the interval of their mean by what of them is drawn anew.

    Parameters
    ----------
    less : indexed by :data:`lib.effects.KEYS`.
    what : names them, for an axis.
    """
    drawn = {
        "latents, one by one": bootstrap(less.to_numpy()),
        "concepts": bootstrap(less.droplevel("dictionary")),
        "concepts and dictionaries": bootstrap(less),
    }
    fig, (left, right) = plt.subplots(1, 2, figsize=(9, 2.6), width_ratios=[1.2, 1])
    left.hist(less, bins=40, color="#56B4E9")
    left.set(xlabel=f"{what}, of one latent", ylabel="number of latents")
    intervals(right, list(drawn), list(drawn.values()), ["black"] * len(drawn))
    right.set(xlabel="mean over latents, 95 % interval", title="drawn anew:")
    for axis in (left, right):
        axis.axvline(0, color="black", lw=0.8)
    return fig


def table_note(run: Run, scored: pd.DataFrame) -> str:
    """What stands under a table of scores: protocol, numbers, coefficients."""
    subject, own = run.profile.subject, scored[scored.control == ""]
    chosen = []
    for method in (m for m in STEERED if m.key in set(own.method)):
        found = own[own.method == method.key].drop_duplicates("dictionary").coefficient
        chosen.append(f"{method.key} {', '.join(f'{c:g}' for c in found)}")
    number, latents = own.dictionary.nunique(), own.groupby("dictionary").latent.nunique()
    which = (
        f"{number} dictionaries of {latents.min()} test latents each" if number > 1 else f"{latents.min()} test latents"
    )
    return (
        f"{subject.name}, layer {subject.layer}; {which}, mean and 95 % bootstrap interval over dictionaries, concepts "
        f"and latents; protocol: corrected (held-out images, failures scored as failures, AUROC per latent); "
        f"{int(own.failed.sum())} of {len(own)} explanations failed. Hybrid: Steering-informed Top-k. Published: the "
        "paper's numbers, of its own model on photographs. "
        f"Coefficients in units of the mean norm, by dictionary: {'; '.join(chosen)}."
    )


def findings(scored: pd.DataFrame, ceiling: pd.DataFrame | None) -> list[str]:
    """What the main table says: which method explains best, and what that rests on; notebook 08 has every pair.

    Parameters
    ----------
    ceiling : from :func:`lib.studies.controls.ceilings`; None where nobody knows the truth.
    """
    full = with_composites(scored)
    lines = [answer({pair: difference(*sides(full, BOTH, pair, COMPOSITE)) for pair in pairs_of("masks")})]
    known = [m for m in metrics_of(scored) if METRICS[m].needs == "truth"]
    for metric, first in [(COMPOSITE, "Steering"), *((m, name) for m in known for name in ("Steering", "hybrid"))]:
        e = difference(*sides(full, BOTH, f"{first} - Top-k", metric))
        lines.append(contrast(f"{_unit(metric)}, both kinds of evidence", first, "Top-k", e))
    leads = {}
    for mode in MODES:
        a, b = sides(full, mode, "hybrid - Top-k", COMPOSITE)
        lines.append(contrast(f"{_unit(COMPOSITE)}, {mode}", "hybrid", "Top-k", difference(a, b)))
        leads[mode] = a - b
    more = difference(leads["heatmaps"], leads["masks"])
    lines.append(contrast(f"{_unit(COMPOSITE)}, the hybrid's lead over Top-k", "with heatmaps it", "with masks", more))
    if ceiling is None:
        return lines
    own = values(scored, STEERING.add.key, "patch_f1")
    most = ceiling["best single element", "patch_f1"].reindex(own.index)
    controls = ", ".join(_share(scored, STEERING.add, c, most) for c in ("random", "permuted"))
    share = number(bootstrap_ratio(own, most), 2)
    return [*lines, f"Steering (add) reaches {share} of the ceiling in patch F1; its controls {controls}."]


def answer(pairs: Mapping[str, Estimate]) -> str:
    """Which method explains best: the one that is ahead of both others, if intervals say that one is.

    Parameters
    ----------
    pairs : differences of the composite, by :func:`lib.studies.significance.pairs_of`'s names.
    """
    over: dict[str, dict[str, Estimate]] = {name: {} for name in BEST}
    for pair, e in pairs.items():
        first, second = pair.split(" - ")
        over[first][second], over[second][first] = e, Estimate(-e.mean, -e.high, -e.low, e.n)
    n = max(e.n for e in pairs.values())
    for name, others in over.items():
        if all(side(e) > 0 for e in others.values()):
            leads = " and ".join(f"of {other} by {number(e)}" for other, e in others.items())
            return (
                f"{BEST[name]} is ahead {leads} standard deviations of the composite (both kinds of evidence, n = {n})."
            )
    told = "; ".join(f"{pair} {number(e)}" for pair, e in pairs.items())
    return f"No method is shown to explain best: in standard deviations of the composite, {told} (n = {n})."


def _unit(metric: str) -> str:
    """A metric as sentences call it."""
    return f"{titled(metric)}{' (standard deviations)' * (metric == COMPOSITE)}"


def _share(scored: pd.DataFrame, method: Method, control: str, most: pd.Series) -> str:
    e = bootstrap_ratio(values(scored, method.key, "patch_f1", control), most)
    return f"{number(e, 2)} ({control} direction)"
