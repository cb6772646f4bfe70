"""Means with their uncertainty, the paper's tests (appendix C), and the paired ones beside them.

Latents are not independent: those of one dictionary share its training and its coefficient, and latents that mean the
same concept are easy or hard together. So a column of values is a pandas Series whose index says of each latent its
``dictionary`` and its ``concept``; whatever is computed of it resamples both. A plain array has independent rows.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import pandas as pd
from scipy import stats

Values = np.ndarray | pd.Series


@dataclass(frozen=True)
class Estimate:
    """A mean over latents with its 95 % bootstrap interval.

    Attributes
    ----------
    mean, low, high : the mean and the ends of the interval.
    n : latents that entered.
    p : two-sided p-value of the hypothesis that the mean is 0, where that was tested; else NaN.
    """

    mean: float
    low: float
    high: float
    n: int
    p: float = float("nan")

    def __str__(self) -> str:
        return f"{self.mean:z.3f} [{self.low:z.3f}, {self.high:z.3f}]"


def _labels(values: Any, name: str) -> np.ndarray | None:
    """Which group each row belongs to, as numbers; None if nobody says."""
    if not isinstance(values, pd.Series) or name not in values.index.names:
        return None
    return pd.factorize(values.index.get_level_values(name))[0]


@lru_cache(maxsize=8)  # megabytes each
def _drawn(seed: int, sizes: tuple[int, ...], draws: int) -> list[np.ndarray]:
    """How often each of so many groups is drawn with replacement, ``[draws, size]`` for each of the sizes.

    A table has many rows about the same latents, which share this.
    """
    rng, first = np.random.default_rng(seed), np.arange(draws)[:, None]
    picks = [rng.integers(0, size, (draws, size)) + first * size for size in sizes]
    return [
        np.bincount(pick.ravel(), minlength=draws * size).reshape(draws, size).astype(float)
        for pick, size in zip(picks, sizes)
    ]


def _resampled(table: np.ndarray, groups: np.ndarray, drawn: np.ndarray) -> np.ndarray:
    """Means of the columns when whole groups of rows are drawn as often as said: ``[draws, columns]``."""
    ones = np.ones(len(table))
    sums = np.column_stack([np.bincount(groups, column, drawn.shape[1]) for column in (*table.T, ones)])
    total = drawn @ sums
    return total[:, :-1] / total[:, -1:]


def bootstrap_means(
    statistic: Callable[[np.ndarray], np.ndarray], *columns: Values, seed: int = 0, draws: int = 1000
) -> Estimate:
    """A function of the means of columns that belong together, row by row, with its 95 % interval.

    Concepts are drawn with all their latents, from whatever dictionary. What dictionaries add to the variance beyond
    that of their latents is put on top: the variance when dictionaries are drawn, less that when the latents of each
    concept in each dictionary are (two-way clustering; Cameron, Gelbach and Miller 2011).

    Few groups vary less among themselves than the world does, and how much is itself uncertain. So the spread of draws
    is corrected for the mean that was taken from the same groups, and widened from the normal distribution's tails to
    Student's (Hesterberg 2015), with the degrees of freedom of both kinds of groups together (Satterthwaite 1946). Of a
    single group nothing is known, and the interval is without end.

    Parameters
    ----------
    statistic : from means ``[..., columns]`` to values ``[...]``.
    columns : ``[n]`` each; rows with a NaN in any are left out, and ``n`` says so. The first one's index names groups.

    Raises
    ------
    ValueError
        If no row is left.
    """
    table = np.column_stack([np.asarray(c, float) for c in columns])
    whole = ~np.isnan(table).any(1)
    concept, dictionary = (_labels(columns[0], name) for name in ("concept", "dictionary"))
    table = table[whole]
    if not len(table):
        raise ValueError("no latent has a value of this metric")
    value = statistic(table.mean(0))
    rows = np.arange(len(table)) if concept is None else np.unique(concept[whole], return_inverse=True)[1]
    groups = [rows]
    if dictionary is not None and (number := len(np.unique(dictionary[whole]))) > 1:
        of = np.unique(dictionary[whole], return_inverse=True)[1]
        groups += [of, np.unique(rows * number + of, return_inverse=True)[1]]
    drawn = _drawn(seed, tuple(int(group.max()) + 1 for group in groups), draws)
    concepts = int(rows.max()) + 1
    if concepts == 1:
        return Estimate(float(value), -np.inf, np.inf, len(table))
    spread, *others = (statistic(_resampled(table, *pair)) - value for pair in zip(groups, drawn))
    spread = spread * np.sqrt(concepts / (concepts - 1))
    parts = [(np.nanvar(spread), concepts - 1)]
    if others:
        among, within = others[0], np.nanvar(others[1])
        seen = np.nanvar(among)
        more = max(0.0, seen * number / (number - 1) - within)
        spread = spread + among * np.sqrt(more / seen if seen > 0 else 0.0)
        parts.append((more, number - 1))
    low, high = value + _tails(parts) * np.nanquantile(spread, [0.025, 0.975])
    return Estimate(float(value), float(low), float(high), len(table))


def _tails(parts: Sequence[tuple[float, int]]) -> float:
    """How much wider a 95 % interval is for the few groups that variances, with their degrees of freedom, come from."""
    whole = sum(variance for variance, _ in parts)
    if not whole > 0:
        return 1.0
    freedom = whole**2 / sum(variance**2 / degrees for variance, degrees in parts)
    return float(stats.t.ppf(0.975, freedom) / stats.norm.ppf(0.975))


def bootstrap(values: Values, seed: int = 0, draws: int = 1000) -> Estimate:
    """Mean of ``values`` and its 95 % interval; see :func:`bootstrap_means`.

    Raises
    ------
    ValueError
        If no latent has a value.
    """
    return bootstrap_means(lambda means: means[..., 0], values, seed=seed, draws=draws)


def bootstrap_ratio(a: Values, b: Values) -> Estimate:
    """Ratio of two means over the same latents, with its 95 % interval."""
    return bootstrap_means(lambda means: means[..., 0] / np.maximum(means[..., 1], 1e-12), a, b)


def difference(a: Values, b: Values) -> Estimate:
    """Mean of ``a - b`` over the same latents, with its 95 % interval and the p-value that it is 0.

    Series are aligned by their index. The p-value is the larger of two: that of :func:`sign_flip`, which is right
    however few latents differ, and that of the interval, which knows dictionaries.

    Raises
    ------
    ValueError
        If two series are not about the same latents.
    """
    if isinstance(a, pd.Series) and isinstance(b, pd.Series):
        if len(a) != len(b) or not a.index.sort_values().equals(b.index.sort_values()):
            raise ValueError("the two sides of a difference are about different latents")
        less = a - b.reindex(a.index)
    else:
        less = np.asarray(a, float) - np.asarray(b, float)
    e = bootstrap(less)
    p = max(sign_flip(less), p_of(e.mean, e.low, e.high))
    return Estimate(e.mean, e.low, e.high, e.n, p)


def sign_flip(values: Values, draws: int = 10_000, seed: int = 0) -> float:
    """Two-sided p-value that differences are as often negative as positive: the sum, when signs are drawn by lot.

    The latents of one concept share a sign.
    """
    known = ~np.isnan(np.asarray(values, float))
    numbers, concept = np.asarray(values, float)[known], _labels(values, "concept")
    sums = numbers if concept is None else np.bincount(concept[known], numbers)
    sums = sums[sums != 0]  # what does not differ has no sign
    if not len(sums):
        return 1.0
    if 2 ** len(sums) <= draws:  # all there are
        signs = 1 - 2 * (np.arange(2 ** len(sums))[:, None] >> np.arange(len(sums)) & 1)
        return float((np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12).mean())
    signs = _signs(seed, draws, len(sums))
    return float((1 + (np.abs(signs @ sums) >= abs(sums.sum()) - 1e-12).sum()) / (1 + draws))


@lru_cache(maxsize=2)  # up to tens of megabytes each
def _signs(seed: int, draws: int, n: int) -> np.ndarray:
    return 1.0 - 2 * np.random.default_rng(seed).integers(0, 2, (draws, n))


def standard_error(low: float, high: float) -> float:
    """The standard error behind a 95 % interval."""
    return (high - low) / (2 * stats.norm.ppf(0.975))


def p_of(estimate: float, low: float, high: float, value: float = 0.0) -> float:
    """Two-sided p-value of the hypothesis that what was estimated is ``value``, as its interval has it."""
    error = standard_error(low, high)
    if error <= 0:
        return float(estimate == value)
    return float(2 * stats.norm.sf(abs(estimate - value) / error))


def rank_correlation(a: Values, b: Values) -> Estimate:
    """Spearman's correlation with its 95 % interval; 0 where one side is constant. Ranks are of the whole sample."""
    known = ~(np.isnan(np.asarray(a, float)) | np.isnan(np.asarray(b, float)))
    x, y = (stats.rankdata(np.asarray(c, float)[known]) / max(known.sum(), 1) for c in (a, b))
    if isinstance(a, pd.Series):
        x = pd.Series(x, index=a.index[known])

    def rho(means: np.ndarray) -> np.ndarray:
        mx, my, xx, yy, xy = np.moveaxis(means, -1, 0)
        spread = np.sqrt(np.maximum((xx - mx**2) * (yy - my**2), 0))
        return np.where(spread > 1e-12, (xy - mx * my) / np.where(spread > 1e-12, spread, 1), 0.0).clip(-1, 1)

    e = bootstrap_means(rho, x, y, x**2, y**2, x * y)
    return Estimate(e.mean, e.low, e.high, e.n, p_of(e.mean, e.low, e.high))


def normality(values: np.ndarray) -> float:
    """p-value of the Shapiro-Wilk test that values are normally distributed."""
    return float(stats.shapiro(values).pvalue)


def mann_whitney(a: np.ndarray, b: np.ndarray) -> float:
    """p-value of the paper's test that ``a`` is stochastically greater than ``b``; pairs are ignored."""
    return float(stats.mannwhitneyu(a, b, alternative="greater").pvalue)


def wilcoxon(a: np.ndarray, b: np.ndarray) -> float:
    """Two-sided p-value of the signed-rank test over the same latents; 1 if nothing differs.

    Latents on which both are equal, as where two methods say the same, do not enter.
    """
    return 1.0 if np.array_equal(a, b) else float(stats.wilcoxon(a, b).pvalue)


def holm(p: Sequence[float]) -> np.ndarray:
    """p-values corrected for their number by Holm's step-down method: ``[n]``, in the order given."""
    p = np.asarray(p, float)
    order = np.argsort(p, kind="stable")
    stepped = np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1))
    out = np.empty_like(p)
    out[order] = np.minimum(stepped, 1)
    return out


def rank_vote(scores: np.ndarray) -> np.ndarray:
    """Which candidate has the lowest mean rank over metrics, for every latent (section 5.3).

    Parameters
    ----------
    scores : ``[latents, candidates, metrics]``, higher is better; equal scores share a mean rank.

    Returns
    -------
    Each candidate's chance of being chosen, ``[latents, candidates]``: 1 for a sole winner; those
    whose mean ranks tie share equally, as the lot that the paper draws would on average.
    """
    ranks = stats.rankdata(-scores, axis=1).mean(2)
    ties = np.isclose(ranks, ranks.min(1, keepdims=True))
    return ties / ties.sum(1, keepdims=True)
