"""How well proxy metrics follow the truth, which only a drawn world lets one ask."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from lib.effects import effect
from lib.methods import Method
from lib.metrics import METRICS, voters
from lib.stats import bootstrap_pairs, rank_correlation


def proxies() -> dict[str, str]:
    """The metrics that vote, and ``vote``, their mean rank; with the first word of each title, for an axis."""
    return {**{name: METRICS[name].title.split()[0] for name in voters()}, "vote": "rank vote"}


def with_vote(table: pd.DataFrame) -> pd.DataFrame:
    """A table of explanations with ``vote``, the mean of the proxies' ranks within the table."""
    return table.assign(vote=np.mean([rankdata(table[m].fillna(0)) for m in voters()], 0))


def across(scored: pd.DataFrame, methods: Sequence[Method]) -> pd.DataFrame:
    """Rank correlation of every proxy with correctness over latents, one method at a time."""
    rows = []
    for method in methods:
        part = with_vote(scored[scored.method == method.key])
        for proxy in proxies():
            correlation = rank_correlation(part[proxy], part.correctness)
            rows.append({"method": method.key, "proxy": proxy, **effect(correlation)})
    return pd.DataFrame(rows)


def within(scored: pd.DataFrame, methods: Sequence[Method]) -> pd.DataFrame:
    """How often a proxy prefers the more correct of two explanations of one latent; ties count half.

    Pairs of different methods that are equally correct ask nothing, and are left out. The interval
    resamples latents, as pairs of one latent are not independent.
    """
    keys = [method.key for method in methods]
    own = scored[scored.method.isin(keys)]
    cube = {m: own.pivot(index="latent", columns="method", values=m)[keys] for m in (*voters(), "correctness")}
    # Within a latent the vote is the mean rank of its explanations.
    cube["vote"] = sum(cube[m].rank(axis=1) for m in voters())
    rows = []
    for proxy in proxies():
        right, asked = np.zeros(len(cube["vote"])), np.zeros(len(cube["vote"]))  # [latents] each
        for a, b in combinations(keys, 2):
            truth = np.sign((cube["correctness"][a] - cube["correctness"][b]).to_numpy())
            says = np.sign((cube[proxy][a] - cube[proxy][b]).fillna(0).to_numpy())
            asked += truth != 0
            right += np.where(truth == 0, 0, np.where(says == 0, 0.5, says == truth))
        e = bootstrap_pairs(lambda r, n: r.sum(1) / np.maximum(n.sum(1), 1), right, asked)
        rows.append({"proxy": proxy, **effect(e), "pairs": int(asked.sum())})
    return pd.DataFrame(rows)


def failures(scored: pd.DataFrame, methods: Sequence[Method], each: int = 1) -> pd.DataFrame:
    """The explanations that each metric overrates and underrates the most, by ranks; a latent once per metric."""
    own = scored[scored.method.isin([method.key for method in methods])].reset_index(drop=True)
    truth = rankdata(own.correctness) / len(own)
    rows = []
    for proxy in voters():
        gap = rankdata(own[proxy].fillna(0)) / len(own) - truth
        for kind, sign in (("overrates", -1), ("underrates", 1)):
            order = np.argsort(sign * gap, kind="stable")
            part = own.iloc[order].assign(gap=gap[order], proxy=proxy, kind=kind).drop_duplicates("latent")
            rows.append(part.head(each))
    columns = ["proxy", "kind", "latent", "method", "explanation", "gap", *voters(), "correctness"]
    return pd.concat(rows, ignore_index=True)[columns]
