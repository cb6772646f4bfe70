"""Means with their uncertainty, the paper's tests (appendix C), and the paired ones beside them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import stats


@dataclass(frozen=True)
class Estimate:
    """A mean over latents with its 95 % bootstrap interval.

    Attributes
    ----------
    mean, low, high : the mean and the ends of the interval.
    n : latents that entered.
    """

    mean: float
    low: float
    high: float
    n: int

    def __str__(self) -> str:
        return f"{self.mean:.3f} [{self.low:.3f}, {self.high:.3f}]"


def bootstrap(values: np.ndarray, seed: int = 0, draws: int = 2000) -> Estimate:
    """Mean of ``values`` and its 95 % percentile interval, resampling latents.

    NaN marks a latent on which a metric is undefined; it is left out, and ``n`` says so.

    Raises
    ------
    ValueError
        If nothing is left.
    """
    values = np.asarray(values, float)
    values = values[~np.isnan(values)]
    if not len(values):
        raise ValueError("no latent has a value of this metric")
    rng = np.random.default_rng(seed)
    means = values[rng.integers(0, len(values), (draws, len(values)))].mean(1)
    low, high = np.quantile(means, [0.025, 0.975])
    return Estimate(float(values.mean()), float(low), float(high), len(values))


def bootstrap_pairs(
    statistic: Callable[..., np.ndarray], *columns: np.ndarray, seed: int = 0, draws: int = 1000
) -> Estimate:
    """Any statistic of columns that belong together, row by row, with its 95 % interval (paired resampling).

    ``statistic`` takes each column as ``[samples, n]`` and returns ``[samples]``: all draws at once.
    Rows with a NaN in any column are left out.

    Raises
    ------
    ValueError
        If no row is left.
    """
    table = np.column_stack([np.asarray(c, float) for c in columns])
    table = table[~np.isnan(table).any(1)]
    if not len(table):
        raise ValueError("no latent has a value in every column")
    drawn = table[np.random.default_rng(seed).integers(0, len(table), (draws, len(table)))]
    low, high = np.nanquantile(statistic(*np.moveaxis(drawn, 2, 0)), [0.025, 0.975])
    return Estimate(statistic(*table.T[:, None]).item(), float(low), float(high), len(table))


def bootstrap_ratio(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Ratio of two means over the same latents, with its 95 % interval."""
    return bootstrap_pairs(lambda x, y: x.mean(1) / np.maximum(y.mean(1), 1e-12), a, b, draws=2000)


def difference(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Mean of ``a - b`` over the same latents, with its 95 % interval."""
    return bootstrap(np.asarray(a, float) - np.asarray(b, float))


def rank_correlation(a: np.ndarray, b: np.ndarray) -> Estimate:
    """Spearman's correlation with its 95 % interval; 0 where one side is constant."""

    def rho(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        ranks = np.stack([stats.rankdata(x, axis=1), stats.rankdata(y, axis=1)], 1)
        ranks -= ranks.mean(2, keepdims=True)
        covariance = ranks @ ranks.transpose(0, 2, 1) * (1 / max(x.shape[1] - 1, 1))
        first, second = np.sqrt(np.diagonal(covariance, axis1=1, axis2=2)).T
        varies = (first > 0) & (second > 0)
        # In the order of numpy.corrcoef, so that rounding is the same.
        value = covariance[:, 0, 1] / np.where(varies, first, 1) / np.where(varies, second, 1)
        return np.where(varies, value.clip(-1, 1), 0.0)

    return bootstrap_pairs(rho, a, b)


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
