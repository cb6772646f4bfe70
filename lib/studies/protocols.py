"""The protocol as published: what each trap in the paper's public code does to the numbers.

The rest of the project scores by the corrected protocol. Here each deviation can be switched on alone, or all together,
over the same explanations. Where each stands in that code: ``data/paper/release.yaml``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from lib.effects import as_estimates, column, effect, titled, values
from lib.findings import number, side
from lib.methods import MODES, STEERING, TOP_K, Method, trio
from lib.metrics import METRICS, Bench, auroc, clip_scores, masked_embeddings, metrics_of, voters
from lib.overlap import mean_ious
from lib.paper import yaml_of
from lib.run import Run
from lib.stats import Estimate, bootstrap, difference, rank_correlation, rank_vote
from lib.studies.significance import called

TRAPS = {
    "shared images": "3 of the 5 evaluation images are those that the explainer saw (IoU, CLIP)",
    "first mask": "IoU takes the first mask that the segmenter returns, one instance, not the union",
    "failures dropped": "explanations that say nothing leave the mean",
    "CLIP by position": "finished CLIP scores are given to latents by their place in a listing: no mean changes",
    "pooled AUROC": "raw activations of all latents are ranked together",
}
_SHARED = 3
MOVED = ("iou", "auroc", "clip")  # what a trap scores otherwise; other metrics change only as failures leave the mean
CANDIDATES = trio("masks")  # those among which the vote of section 5.3 chooses
# How finished scores are joined: by latent, or by place in a folder's listing, the same for all methods or not.
JOINS = ("by latent", "by position, one listing", "by position, a listing for each method")


@dataclass(frozen=True)
class Protocol:
    """Which traps are on; with none of them it is the corrected protocol.

    Raises
    ------
    KeyError
        If there is no such trap.
    """

    traps: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if unknown := self.traps - set(TRAPS):
            raise KeyError(f"no trap {sorted(unknown)[0]!r}; there are {', '.join(TRAPS)}")

    def __contains__(self, trap: str) -> bool:
        return trap in self.traps


PROTOCOLS = {
    "corrected": Protocol(),
    **{trap: Protocol(frozenset([trap])) for trap in TRAPS},
    "as published": Protocol(frozenset(TRAPS)),
}


def release() -> pd.DataFrame:
    """Where each trap stands in the authors' public code: ``trap, file, line, what``, and the ``commit`` in short."""
    found = yaml_of("release")
    return pd.DataFrame(found["traps"]).assign(commit=found["commit"][:12])


def released() -> str:
    """Where that code is on the web, at the commit that the lines are counted in."""
    found = yaml_of("release")
    return f"{found['repository']}/tree/{found['commit']}"


# -- scores under a protocol -----------------------------------------------------------------------


def rescore(run: Run, scored: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Score again under a protocol: the table with ``iou``, ``clip`` and ``auroc`` replaced.

    ``auroc`` is then one number per method, the same in every row, if it is pooled.
    """
    table, bench = scored.copy(), run.bench
    if "shared images" in protocol or "first mask" in protocol:
        table["iou"] = _ious(run, bench, table, protocol)
    if "shared images" in protocol:
        table["clip"] = clip_scores(table, _embeddings(run, bench, table), table.failed, bench.clip)
    if "failures dropped" in protocol:
        table = table[~table.failed]
    if "CLIP by position" in protocol:
        table = joined(table, JOINS[1])
    if "pooled AUROC" in protocol:
        table["auroc"] = np.nan
        for _, part in table.groupby(["method", "control"]):
            table.loc[part.index, "auroc"] = pooled_auroc(bench, part)
    return table


def pooled_auroc(bench: Bench, part: pd.DataFrame) -> float:
    """AUROC over the raw activations of all latents of a table together."""
    positives = [score for drawn in bench.drawn(part) for score in drawn]
    return auroc(positives, bench.negatives[:, part.latent.tolist()].T.flatten().numpy())


def joined(scored: pd.DataFrame, how: str, metric: str = "clip") -> pd.DataFrame:
    """The table with a finished metric joined to latents in one of the ways of :data:`JOINS`.

    The mean over a method's latents stays what it is; which latent has which score does not. ``one listing`` is in
    alphabetical order, where ``latent_10`` comes before ``latent_2``; folders that a file system lists in an order of
    its own are drawn by lot, for each method.

    Raises
    ------
    KeyError
        If there is no such way.
    """
    if how not in JOINS:
        raise KeyError(f"no way to join {how!r}; there are {', '.join(JOINS)}")
    table = scored.copy()
    if how == JOINS[0]:
        return table
    groups = [key for key in ("dictionary", "method", "control") if key in table]
    for place, (_, part) in enumerate(table.groupby(groups, sort=False)):
        listed = part.assign(name=part.latent.astype(str)).sort_values("name").index
        if how == JOINS[2]:
            listed = np.random.default_rng([0, place]).permutation(listed)
        table.loc[part.sort_values("latent").index, metric] = part.loc[listed, metric].to_numpy()
    return table


def rescored(run: Run, scored: pd.DataFrame, methods: Sequence[Method]) -> dict[str, pd.DataFrame]:
    """The methods' scores, without controls, under every one of :data:`PROTOCOLS`."""
    own = scored[(scored.control == "") & scored.method.isin([method.key for method in methods])]
    return {name: rescore(run, own, protocol) for name, protocol in PROTOCOLS.items()}


def protocol_table(tables: dict[str, pd.DataFrame], methods: Sequence[Method]) -> pd.DataFrame:
    """Means of what judges score, from :func:`rescored`: ``protocol, method, metric``, and the effect.

    A pooled AUROC is one number, and has no interval.
    """
    rows = []
    for name, table in tables.items():
        for method in methods:
            for metric in (m for m in metrics_of(table) if METRICS[m].needs == "judges"):
                found = effect(bootstrap(values(table, method.key, metric)))
                if metric == "auroc" and "pooled AUROC" in PROTOCOLS[name]:
                    found |= {"low": np.nan, "high": np.nan}
                rows.append({"protocol": name, "method": method.key, "metric": metric, **found})
    return pd.DataFrame(rows)


def _cell(e: Estimate) -> str:
    return f"{e.mean:.3f}" if np.isnan(e.low) else f"{e.mean:.3f} [{e.low:z.2f}, {e.high:z.2f}]"


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`protocol_table` for people: a row for each protocol and method, a column for each of :data:`MOVED`."""
    cells = table.assign(cell=[_cell(e) for e in as_estimates(table)], metric=table.metric.map(titled))
    wide = cells.pivot(index=["protocol", "method"], columns="metric", values="cell")
    rows = pd.MultiIndex.from_frame(table[["protocol", "method"]].drop_duplicates())
    n = table.groupby(["protocol", "method"]).n.first()
    wide = wide.loc[rows, [titled(m) for m in MOVED]].assign(n=n).reset_index()
    return wide.assign(method=wide.method.map(called)).rename_axis(columns=None)


def gap_effects(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """What each protocol does to a comparison: Steering minus Top-k under it, less the same under the corrected one.

    From :func:`rescored`, over the latents that are in both. A trap that moves all methods alike has no effect here.
    Joining CLIP scores by position changes no mean, and a pooled AUROC belongs to no latent, so neither is here.
    """

    def gap(name: str, topk: Method, metric: str) -> pd.Series:
        pair = (values(tables[name], method.key, metric) for method in (STEERING.add, topk))
        return next(pair).sub(next(pair)).dropna()

    rows = []
    for mode in MODES:
        for trap in ("shared images", "first mask", "failures dropped"):
            for metric in ("iou", "clip"):
                under, usual = (gap(name, trio(mode)[1], metric) for name in (trap, "corrected"))
                found = effect(difference(under, usual.reindex(under.index)))
                rows.append({"protocol": trap, "evidence": mode, "metric": metric, **found})
    return pd.DataFrame(rows)


# -- what pairs metrics by latent ------------------------------------------------------------------


def winners(scored: pd.DataFrame) -> pd.DataFrame:
    """Each candidate's chance to win the vote of section 5.3: a row for each latent, a column for each method."""
    each = [[values(scored, method.key, metric) for metric in voters()] for method in CANDIDATES]
    scores = np.stack([np.stack([one.to_numpy() for one in metrics], 1) for metrics in each], 1)
    return pd.DataFrame(rank_vote(scores), index=each[0][0].index, columns=[m.short for m in CANDIDATES])


def pairing(scored: pd.DataFrame, agreed: pd.DataFrame) -> pd.DataFrame:
    """What joining finished CLIP scores by position does to all that pairs metrics by latent.

    Parameters
    ----------
    scored : scores, without protocol.
    agreed : from :func:`lib.studies.agreement.agreement`: Top-k's rows with their ``similarity`` to Steering's.

    Returns
    -------
    ``join, what``, and the effect. ``share of latents with another winner`` counts a tie by the chance that two lots,
    drawn as alike as they can be, name different methods.
    """
    own = scored[scored.control == ""]
    usual, others = winners(own), {"similarity to Steering": column(agreed, "similarity")}
    others |= {METRICS[m].title: values(own, TOP_K.masks.key, m) for m in voters() if m != "clip"}
    rows = []
    for how in JOINS:
        table = joined(own, how)
        found = winners(table)
        changed = (found - usual).abs().sum(axis=1) / 2
        facts = {"share of latents with another winner": bootstrap(changed)}
        facts |= {f"vote: share of {name}": bootstrap(found[name]) for name in found}
        clip = values(table, TOP_K.masks.key, "clip")
        for name, other in others.items():
            facts[f"Top-k, CLIP score and {name}"] = rank_correlation(clip, other.reindex(clip.index))
        rows += [{"join": how, "what": what, **effect(e)} for what, e in facts.items()]
    return pd.DataFrame(rows)


def pairing_shown(paired: pd.DataFrame) -> pd.DataFrame:
    """:func:`pairing` for people: a row for each thing that is asked, a column for each way to join."""
    cells = paired.assign(cell=[str(e) for e in as_estimates(paired)])
    wide = cells.pivot(index="what", columns="join", values="cell").loc[list(dict.fromkeys(paired.what)), list(JOINS)]
    n = paired.groupby("what").n.first()
    wide = wide.rename(columns=lambda how: how.removeprefix("by position, ")).assign(n=n)
    return wide.reset_index().rename_axis(columns=None)


def answer(table: pd.DataFrame, gaps: pd.DataFrame) -> str:
    """How much of a number is due to how it was measured, in one sentence.

    From :func:`protocol_table` and :func:`gap_effects`.
    """
    means = table[table.metric.isin(MOVED)].pivot(index=["method", "metric"], columns="protocol", values="estimate")
    moved = means[list(TRAPS)].sub(means["corrected"], axis=0).abs().stack()
    (method, metric, trap), gap = moved.idxmax(), gaps.loc[gaps.estimate.abs().idxmax()]
    return (
        f"As to how it was measured: the largest change that any one trap makes to a mean is {moved.max():.3f} "
        f"({titled(metric)} of {called(method)}; “{trap}”), and to Steering minus Top-k {abs(gap.estimate):.3f} "
        f"({titled(gap.metric)}, {gap.evidence}; “{gap.protocol}”)."
    )


def findings(gaps: pd.DataFrame, paired: pd.DataFrame) -> list[str]:
    """Sentences for notebook 08, from :func:`gap_effects` and :func:`pairing`."""
    moved, level, known = [], [], dict(zip(zip(paired["join"], paired.what), as_estimates(paired)))
    for row, e in zip(gaps.itertuples(), as_estimates(gaps)):
        what = f"“{row.protocol}” in {titled(row.metric)} ({row.evidence})"
        if side(e):
            moved.append(f"{what} by {number(e)}, p {row.p:.3f}")
        elif e.mean or e.low or e.high:  # else the trap does not touch this metric
            level.append(f"{what} {number(e)}")
    lines = [
        f"Steering minus Top-k {verb} with {'; '.join(part)} (n = {gaps.n.max()})."
        for verb, part in {"changes": moved, "is not shown to change": level}.items()
        if part
    ]
    for what, asked in {
        "share of latents with another winner": "Share of latents whose vote has another winner",
        "Top-k, CLIP score and similarity to Steering": "Rank correlation of Top-k's CLIP score with the similarity "
        "to Steering's words",
    }.items():
        each = [f"{number(known[how, what])} joined {how}" for how in JOINS]
        lines.append(f"{asked}: {'; '.join(each)} (n = {known[JOINS[0], what].n}).")
    return lines


# -- details ---------------------------------------------------------------------------------------


def _ious(run: Run, bench: Bench, table: pd.DataFrame, protocol: Protocol) -> np.ndarray:
    sets = [(bench.evidence, bench.segmenter, range(bench.k))]
    if "shared images" in protocol:
        seen = (run.shown.top, run.world.segmenter(run.shown.images), range(_SHARED))
        sets = [seen, (bench.evidence, bench.segmenter, range(bench.k - _SHARED))]
    return mean_ious(table, sets, first_only="first mask" in protocol)


def _embeddings(run: Run, bench: Bench, table: pd.DataFrame) -> dict[int, torch.Tensor]:
    latents = sorted(set(table.latent))
    images = masked_embeddings(latents, bench.evidence, bench.images, bench.k, bench.clip)
    seen = masked_embeddings(latents, run.shown.top, run.shown.images, _SHARED, bench.clip)
    return {i: torch.cat([seen[i], images[i][: bench.k - _SHARED]]) for i in latents}
