"""Means with their uncertainty."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


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


def bootstrap_ratio(a: np.ndarray, b: np.ndarray, seed: int = 0, draws: int = 2000) -> Estimate:
    """Ratio of two means over the same latents, with its 95 % interval (paired resampling)."""
    a, b = np.asarray(a, float), np.asarray(b, float)
    rows = np.random.default_rng(seed).integers(0, len(a), (draws, len(a)))
    ratios = a[rows].mean(1) / np.maximum(b[rows].mean(1), 1e-12)
    low, high = np.quantile(ratios, [0.025, 0.975])
    return Estimate(float(a.mean() / b.mean()), float(low), float(high), len(a))
