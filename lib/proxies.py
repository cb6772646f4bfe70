"""How well proxy metrics follow the truth, which only a drawn world lets one ask."""

from __future__ import annotations

from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from lib.effects import effect
from lib.stats import bootstrap_pairs, rank_correlation

PROXIES = {"iou": "IoU", "auroc": "AUROC", "synthetic": "Synthetic", "clip": "CLIP", "vote": "rank vote"}
_FOUR = ("iou", "auroc", "synthetic", "clip")


def with_vote(table: pd.DataFrame) -> pd.DataFrame:
    """A table of explanations with ``vote``, the mean of the four proxies' ranks within the table."""
    return table.assign(vote=np.mean([rankdata(table[m].fillna(0)) for m in _FOUR], 0))


def across(scored: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """Rank correlation of every proxy with correctness over latents, one method at a time."""
    rows = []
    for method in methods:
        part = with_vote(scored[scored.method == method])
        for proxy in PROXIES:
            rows.append({"method": method, "proxy": proxy, **effect(rank_correlation(part[proxy], part.correctness))})
    return pd.DataFrame(rows)


def within(scored: pd.DataFrame, methods: list[str]) -> pd.DataFrame:
    """How often a proxy prefers the more correct of two explanations of one latent; ties count half.

    Pairs of different methods that are equally correct ask nothing, and are left out. The interval
    resamples latents, as pairs of one latent are not independent.
    """
    own = scored[scored.method.isin(methods)]
    cube = {m: own.pivot(index="latent", columns="method", values=m)[methods] for m in (*_FOUR, "correctness")}
    # Within a latent the vote is the mean rank of its explanations.
    cube["vote"] = sum(cube[m].rank(axis=1) for m in _FOUR)
    rows = []
    for proxy in PROXIES:
        right, asked = np.zeros(len(cube["vote"])), np.zeros(len(cube["vote"]))
        for a, b in combinations(methods, 2):
            truth = np.sign((cube["correctness"][a] - cube["correctness"][b]).to_numpy())
            says = np.sign((cube[proxy][a] - cube[proxy][b]).fillna(0).to_numpy())
            asked += truth != 0
            right += np.where(truth == 0, 0, np.where(says == 0, 0.5, says == truth))
        e = bootstrap_pairs(lambda r, n: r.sum() / max(n.sum(), 1), right, asked)
        rows.append({"proxy": proxy, **effect(e), "pairs": int(asked.sum())})
    return pd.DataFrame(rows)


def failures(scored: pd.DataFrame, methods: list[str], each: int = 1) -> pd.DataFrame:
    """The explanations that each proxy overrates and underrates the most, by ranks; a latent once per proxy."""
    own = scored[scored.method.isin(methods)].reset_index(drop=True)
    truth = rankdata(own.correctness) / len(own)
    rows = []
    for proxy in _FOUR:
        gap = rankdata(own[proxy].fillna(0)) / len(own) - truth
        for kind, order in (
            ("overrates", np.argsort(-gap, kind="stable")),
            ("underrates", np.argsort(gap, kind="stable")),
        ):
            part = own.iloc[order].assign(gap=gap[order], proxy=proxy, kind=kind).drop_duplicates("latent")
            rows.append(part.head(each))
    columns = ["proxy", "kind", "latent", "method", "explanation", "gap", *_FOUR, "correctness"]
    return pd.concat(rows, ignore_index=True)[columns]
