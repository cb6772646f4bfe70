"""What is said of the proxies: how far they can be trusted, which to use, and their tables as people see them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.effects import as_estimates
from lib.figures import side_by_side
from lib.findings import contrast, number, side
from lib.metrics import METRICS, voters
from lib.stats import Estimate
from lib.studies.proxies import NOISY, SAME
from lib.studies.significance import called

COIN = 0.5  # share of pairs that a coin has right


def trust(shares: pd.DataFrame, most: float, names: dict[str, str]) -> str:
    """How far the metrics can be trusted to choose between explanations of a feature, in one sentence.

    Parameters
    ----------
    shares : from :func:`within`.
    most : the share that held-out correctness has, taken as a proxy.
    """
    ends = f"{100 * shares.estimate.min():.0f} to {100 * shares.estimate.max():.0f}"
    right = f"of 100 pairs of explanations of a feature they put {ends} in the right order, a coin {100 * COIN:.0f}, "
    right += "and correctness on held-out scenes"
    blind = [names[r.proxy] for r in shares.itertuples() if r.low <= COIN]
    if len(blind) == len(shares):
        return f"None of the proxies is shown to beat a coin, so none can be trusted: {right} {100 * most:.0f}."
    but = f", but for {' and '.join(blind)}, not shown to beat a coin" if blind else ""
    return f"The proxies can be trusted up to a point{but}: {right} {100 * most:.0f}."


def advice(better: pd.DataFrame, names: dict[str, str]) -> str:
    """Which metric a practitioner should use, in one sentence, from the last segmenter of :func:`best`.

    It names one metric only if its interval over every other is above 0; else those that are not told apart.
    """
    part = better[better.segmenter == better.segmenter.iloc[-1]]
    first, judge = names[part.best.iloc[0]], f"with the {part.segmenter.iloc[0]} segmenter"
    estimates = list(zip(part.other.map(names), as_estimates(part)))
    near = [(name, e) for name, e in estimates if side(e) < 1]
    if not near:
        name, e = min(estimates, key=lambda pair: pair[1].mean)
        return (
            f"A practitioner should use {first}: {judge}, its share is higher than that of any other, by {number(e)} "
            f"than that of {name}, which comes next (n = {e.n})."
        )
    apart = ", ".join(f"{name} ({number(e)})" for name, e in near)
    return (
        f"No single metric is shown to be best: a practitioner may use {first}, which has the largest share {judge}, "
        f"but is not told apart from {apart} (in brackets: {first} minus it, n = {near[0][1].n})."
    )


def findings(
    shares: pd.DataFrame, dropped: pd.DataFrame, noisy: pd.DataFrame, better: pd.DataFrame, lean: pd.DataFrame
) -> list[str]:
    """The notebook's sentences: the first says how far proxies can be trusted, and which one to use.

    Parameters
    ----------
    shares : from :func:`within`, under the segmenter that :func:`best` ends with.
    dropped, noisy, better, lean : from :func:`circularity`, :func:`noise`, :func:`best` and :func:`method_bias`.
    """

    def of(table: pd.DataFrame, **where: str) -> pd.Series:
        return table.loc[np.logical_and.reduce([table[key] == value for key, value in where.items()])].iloc[0]

    def estimate(row: pd.Series) -> Estimate:
        return Estimate(row.estimate, row.low, row.high, int(row.n))

    names = {**{name: METRICS[name].title for name in voters()}, "vote": "the rank vote", NOISY: "IoU, noisy segmenter"}
    aspects = {
        "within": "Share of pairs of explanations of one latent that IoU puts in the right order",
        "across": "Rank correlation of IoU with correctness across latents",
    }
    most = of(dropped, proxy=SAME, aspect="within").fresh
    lines = [f"{trust(shares, most, names)} {advice(better, names)}"]
    for aspect, what in aspects.items():
        row, most = of(dropped, proxy="iou", aspect=aspect), of(dropped, proxy=SAME, aspect=aspect)
        compared = contrast(what, "the value by held-out scenes", "that by fresh scenes", estimate(row))
        reach = (
            f"{row.same:.3f} and {row.fresh:.3f}; held-out correctness itself reaches {most.fresh:.3f} by fresh scenes"
        )
        lines.append(f"{compared[:-1]}: {reach}.")
    for aspect, e in zip(noisy.aspect, as_estimates(noisy)):
        lines.append(contrast(aspects[aspect], "that of the exact segmenter", "that of the noisy one", e))
    fair = []
    for proxy in dict.fromkeys(lean.proxy):
        pair = [estimate(of(lean, proxy=proxy, measure=m)) for m in ("standardised", "right")]
        sides = {side(e) for e in pair}
        if sides not in ({1}, {-1}):
            fair.append(names[proxy])
            continue
        values = f"{number(pair[0])} standard deviations beyond the truth; right choices {number(pair[1])}"
        whom = "Steering" if sides == {1} else "Top-k"
        lines.append(
            f"As a judge of Steering against Top-k, {names[proxy]} leans towards {whom} ({values}; n = {pair[0].n})."
        )
    if fair:
        lines.append(f"Not shown by both measures to lean towards Steering or Top-k: {'; '.join(fair)}.")
    return lines


NAMES = {"correctness": "correctness", "patch_f1": "patch F1"}


def measure_name(measure: str) -> str:
    """A measure of the truth in words, with the scenes that it is counted over."""
    return f"{NAMES[measure.removesuffix('_fresh')]}, {'fresh' if measure.endswith('_fresh') else 'held-out'}"


def correctness_shown(table: pd.DataFrame) -> pd.DataFrame:
    """Effects per ``method, metric`` for people: a row for each method, a column for each measure of the truth."""
    cells = table.assign(cell=[str(e) for e in as_estimates(table)], metric=table.metric.map(measure_name))
    wide = side_by_side(cells, ["method"], "metric")
    return wide.assign(n=wide.method.map(table.groupby("method").n.min()), method=wide.method.map(called))


def lean_shown(lean: pd.DataFrame, names: dict[str, str]) -> pd.DataFrame:
    """:func:`method_bias` for people: a row for each proxy, a column for each measure, and which way both point."""
    signs = lean.assign(cell=[str(e) for e in as_estimates(lean)], side=[side(e) for e in as_estimates(lean)])
    wide = signs.pivot(index="proxy", columns="measure", values="cell").loc[list(names), ["standardised", "right"]]
    sides = signs.groupby("proxy").side.agg(["min", "max"]).loc[list(names)]
    leans = np.select([sides["min"] > 0, sides["max"] < 0], ["Steering", "Top-k"], "not shown")
    wide = wide.assign(**{"leans to": leans}).reset_index().rename_axis(columns=None)
    return wide.assign(proxy=list(names.values()))
