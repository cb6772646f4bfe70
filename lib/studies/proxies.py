"""How well proxy metrics follow the truth, which only a drawn world lets one ask.

The truth is correctness on fresh scenes: that on held-out ones is counted over the pictures, codes and masks that IoU
uses as well. Tables have one row for each latent and method, without controls.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np
import pandas as pd
from scipy.stats import rankdata

from lib.effects import KEYS, column, effect
from lib.methods import STEERING, TOP_K, Method
from lib.metrics import voters
from lib.stats import Estimate, bootstrap, bootstrap_means, rank_correlation
from lib.studies.significance import brief

TRUTH, SAME = "correctness_fresh", "correctness"  # on scenes that no metric sees; on those that IoU sees, too
NOISY = "iou_noisy"
FEW = 1e-12


def proxies(scored: pd.DataFrame) -> dict[str, str]:
    """The metrics that vote, ``vote``, their mean rank, and, if a table has it, IoU by a segmenter that errs; named."""
    names = {**{name: brief(name) for name in voters()}, "vote": "rank vote"}
    return names | ({NOISY: "IoU, noisy segmenter"} if NOISY in scored else {})


def with_vote(table: pd.DataFrame) -> pd.DataFrame:
    """A table of explanations with ``vote``, the mean of the proxies' ranks within the table."""
    return table.assign(vote=np.mean([rankdata(table[m].fillna(0)) for m in voters()], 0))


def with_errors(scored: pd.DataFrame) -> pd.DataFrame:
    """A table of explanations whose IoU is that of the segmenter that errs, in the vote as well; else as it is."""
    return scored.assign(iou=scored[NOISY]).drop(columns=NOISY) if NOISY in scored else scored


def _cube(scored: pd.DataFrame, methods: Sequence[Method], names: Sequence[str]) -> dict[str, pd.DataFrame]:
    """Columns as tables of latents and methods, ``[latents, methods]`` each, indexed by what latents have in common."""
    own = scored[scored.method.isin([m.key for m in methods])]
    index = [key for key in KEYS if key in own]
    return {m: own.pivot(index=index, columns="method", values=m)[[x.key for x in methods]] for m in names}


def across(scored: pd.DataFrame, methods: Sequence[Method], truth: str = TRUTH) -> pd.DataFrame:
    """Rank correlation of every proxy with the truth over latents, one method at a time."""
    rows = []
    for method in methods:
        part = with_vote(scored[scored.method == method.key])
        for proxy in proxies(scored):
            correlation = rank_correlation(column(part, proxy), column(part, truth))
            rows.append({"method": method.key, "proxy": proxy, **effect(correlation)})
    return pd.DataFrame(rows)


def preferences(scored: pd.DataFrame, methods: Sequence[Method], truth: str = TRUTH) -> pd.DataFrame:
    """For each latent, the pairs of its explanations of which the truth prefers one, and how many a proxy has right.

    Pairs that are equally correct ask nothing. A tie of the proxy counts half.

    Returns
    -------
    Indexed by latents: ``asked``, and a column for each proxy; held-out correctness is one of them, for comparison.
    """
    names = [*proxies(scored), SAME]
    cube = _cube(scored, methods, [*(m for m in names if m != "vote"), truth])
    # Within a latent the vote is the mean rank of its explanations.
    cube["vote"] = sum(cube[m].rank(axis=1) for m in voters())
    index, arrays = cube[truth].index, {name: values.to_numpy() for name, values in cube.items()}  # [latents, methods]
    out = dict.fromkeys([*names, "asked"], np.zeros(len(index)))
    for a, b in combinations(range(len(methods)), 2):
        signs = {m: np.sign(np.nan_to_num(values[:, a] - values[:, b])) for m, values in arrays.items()}
        out["asked"] = out["asked"] + (signs[truth] != 0)
        for proxy in names:
            right = np.where(signs[proxy] == 0, 0.5, signs[proxy] == signs[truth])
            out[proxy] = out[proxy] + np.where(signs[truth] == 0, 0, right)
    return pd.DataFrame(out, index)


def within(scored: pd.DataFrame, methods: Sequence[Method], truth: str = TRUTH) -> pd.DataFrame:
    """How often a proxy prefers the more correct of two explanations of one latent; ties count half."""
    found, rows = preferences(scored, methods, truth), []
    for proxy in proxies(scored):
        e = bootstrap_means(lambda m: m[..., 0] / np.maximum(m[..., 1], FEW), found[proxy], found.asked)
        rows.append({"proxy": proxy, **effect(e), "pairs": int(found.asked.sum())})
    return pd.DataFrame(rows)


def _ahead(found: pd.DataFrame, first: str, second: str) -> Estimate:
    """By how much a proxy is more often right than another, over the same pairs."""
    ahead = found[first] - found[second]
    return bootstrap_means(lambda m: m[..., 0] / np.maximum(m[..., 1], FEW), ahead, found.asked)


def best(scored: pd.DataFrame, methods: Sequence[Method], truth: str = TRUTH) -> pd.DataFrame:
    """The proxy that is right most often within a latent, less each other: ``segmenter, best, other, estimate...``.

    Once with the exact segmenter, and once with the noisy one in its place, in the vote as well. If two proxies are
    equally good, the chance that one of them beats all others is at most 5 %.
    """
    tables = {"exact": scored.drop(columns=NOISY, errors="ignore")}
    if NOISY in scored:
        tables["noisy"] = with_errors(scored)
    rows = []
    for segmenter, table in tables.items():
        found, names = preferences(table, methods, truth), [*proxies(table)]
        first = max(names, key=lambda proxy: found[proxy].sum())
        for other in names:
            if other != first:
                e = effect(_ahead(found, first, other))
                rows.append({"segmenter": segmenter, "best": first, "other": other, **e})
    return pd.DataFrame(rows)


def noise(scored: pd.DataFrame, methods: Sequence[Method], truth: str = TRUTH) -> pd.DataFrame:
    """What a segmenter that errs costs IoU, exact less noisy: ``aspect`` is ``across`` or ``within`` latents."""
    asked = _ahead(preferences(scored, methods, truth), "iou", NOISY)
    rows = {"across": _less(scored, methods, truth, "iou", NOISY)[2], "within": asked}
    return pd.DataFrame([{"aspect": aspect, **effect(e)} for aspect, e in rows.items()])


def _less(scored: pd.DataFrame, methods: Sequence[Method], x: str, y: str, z: str) -> tuple[float, float, Estimate]:
    """Rank correlation of x and y, that of x and z, and the first less the second, with its interval.

    Ranks are taken within each method, over latents; latents of which something is not known are left out.
    """
    table = pd.concat([with_vote(scored[scored.method == m.key]) for m in methods])
    cube = _cube(table, methods, [x, y, z])
    whole = ~pd.concat(cube.values(), axis=1).isna().any(axis=1).to_numpy()
    a, b, c = (rankdata(cube[name][whole], axis=0) / max(whole.sum(), 1) - 0.5 for name in (x, y, z))  # centred
    index = cube[x].index[whole]
    columns = [pd.Series(v.mean(1), index) for v in (a, b, c, a * a, b * b, c * c, a * b, a * c)]

    def rho(m: np.ndarray, other: int) -> np.ndarray:
        """The correlation of the first with another, 1 or 2, from means of products."""
        spread = (m[..., 3] - m[..., 0] ** 2) * (m[..., 3 + other] - m[..., other] ** 2)
        together = m[..., 5 + other] - m[..., 0] * m[..., other]
        return np.where(spread > FEW, together / np.sqrt(np.maximum(spread, FEW)), 0.0)

    means = np.array([c.mean() for c in columns])
    e = bootstrap_means(lambda m: rho(m, 1) - rho(m, 2), *columns)
    return float(rho(means, 1)), float(rho(means, 2)), e


def circularity(scored: pd.DataFrame, methods: Sequence[Method]) -> pd.DataFrame:
    """By how much agreement with the truth drops when it is taken from scenes that no metric sees.

    Held-out correctness itself is one of the proxies: what it reaches on fresh scenes is the most that a proxy can be
    expected to, since a truth that is counted over a finite number of scenes is noisy.

    Returns
    -------
    ``proxy, aspect, same, fresh``: agreement with either truth, ``across`` latents (rank correlation, ranks taken
    within each method) and ``within`` a latent (share of pairs); ``estimate`` is the drop, ``same`` less ``fresh``.
    """
    old, new = (preferences(scored, methods, truth) for truth in (SAME, TRUTH))
    rows = []
    for proxy in (*proxies(scored), SAME):
        same, fresh, drop = _less(scored, methods, proxy, SAME, TRUTH)
        rows.append({"proxy": proxy, "aspect": "across", "same": same, "fresh": fresh, **effect(drop)})
        drop = _ratios(old[proxy], old.asked, new[proxy], new.asked)
        same, fresh = (float(t[proxy].sum() / max(t.asked.sum(), FEW)) for t in (old, new))
        rows.append({"proxy": proxy, "aspect": "within", "same": same, "fresh": fresh, **effect(drop)})
    return pd.DataFrame(rows)


def _ratios(*columns: pd.Series) -> Estimate:
    """The first column over the second, less the third over the fourth, as sums."""

    def less(m: np.ndarray) -> np.ndarray:
        return m[..., 0] / np.maximum(m[..., 1], FEW) - m[..., 2] / np.maximum(m[..., 3], FEW)

    return bootstrap_means(less, *columns)


def method_bias(scored: pd.DataFrame, truth: str = TRUTH) -> pd.DataFrame:
    """Whether a proxy leans towards Steering or towards Top-k, beyond the truth; positive: towards Steering.

    Two measures. ``standardised``: Steering minus Top-k (the mean of both kinds of evidence) by the proxy, less the
    same by the truth, each in standard deviations; plain noise in a proxy pulls this towards the method that is worse.
    ``right``: how often the proxy is right where the truth prefers Steering, less where it prefers Top-k; noise pulls
    this towards the method that is better, as the pairs in which the other is ahead are close.
    """
    methods = (STEERING.add, *TOP_K)
    own = with_vote(scored[scored.method.isin([m.key for m in methods])])
    cube = _cube(own, methods, [*proxies(scored), truth])

    def less(name: str) -> pd.Series:
        values = cube[name] / max(float(np.nanstd(cube[name])), FEW)
        return values.iloc[:, 0] - values.iloc[:, 1:].mean(axis=1, skipna=False)

    halves = []  # pairs with Steering of which the truth prefers it, and those of which it prefers Top-k
    for other in TOP_K:
        found = preferences(own, (STEERING.add, other), truth)
        prefers = cube[truth][STEERING.add.key] - cube[truth][other.key]
        halves.append([found.mul(prefers > 0, axis=0), found.mul(prefers < 0, axis=0)])
    steering, top_k = (sum(parts) for parts in zip(*halves))
    rows = []
    for proxy in proxies(scored):
        rows.append({"proxy": proxy, "measure": "standardised", **effect(bootstrap(less(proxy) - less(truth)))})
        right = _ratios(steering[proxy], steering.asked, top_k[proxy], top_k.asked)
        rows.append({"proxy": proxy, "measure": "right", **effect(right)})
    return pd.DataFrame(rows)
