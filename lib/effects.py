"""Tables of effects: an estimate, its interval and its n in every row, as claims and figures read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.methods import MODES, trio
from lib.metrics import METRICS, metrics_of, voters
from lib.stats import Estimate, bootstrap, difference

KEYS = ["dictionary", "latent", "concept"]  # what a scored explanation is about; statistics resample the first and last
BOTH = "both"  # kinds of evidence: the mean of a latent's scores under masks and under heatmaps
COMPOSITE = "composite"
COMPOSITES = {COMPOSITE: voters(), "without iou": [name for name in voters() if name != "iou"]}


def effect(e: Estimate) -> dict[str, float]:
    """An estimate as the columns of a table: ``estimate, low, high, n``, and ``p`` where it was tested."""
    return {"estimate": e.mean, "low": e.low, "high": e.high, "n": e.n, **({} if np.isnan(e.p) else {"p": e.p})}


def as_estimates(table: pd.DataFrame) -> list[Estimate]:
    """The way back from :func:`effect`."""
    return [Estimate(*row) for row in table[["estimate", "low", "high", "n"]].itertuples(index=False)]


def column(scored: pd.DataFrame, name: str) -> pd.Series:
    """A column of a table with one row for each latent, indexed and ordered by :data:`KEYS`."""
    return scored.set_index([key for key in KEYS if key in scored])[name].sort_index()


def values(scored: pd.DataFrame, method: str, metric: str, control: str = "") -> pd.Series:
    """A metric of all latents under one method, indexed by :data:`KEYS`."""
    return column(scored[(scored.method == method) & (scored.control == control)], metric)


def of_family(scored: pd.DataFrame, family: str, metric: str, evidence: str, control: str = "") -> pd.Series:
    """A metric of all latents under ``Steering``, ``Top-k`` or ``hybrid``, with one kind of evidence or :data:`BOTH`.

    Steering sees no evidence, and has the same scores under each.
    """
    modes = MODES if evidence == BOTH else [evidence]
    keys = [next(m.key for m in trio(mode) if m.short == family) for mode in modes]
    return sum(values(scored, key, metric, control) for key in keys) / len(keys)


def standardised(table: pd.DataFrame, metrics: Sequence[str]) -> np.ndarray:
    """The mean of several metrics, each in standard deviations of all rows: ``[rows]``."""
    return np.mean([(table[m] - table[m].mean()) / max(table[m].std(), 1e-12) for m in metrics], 0)


def with_composites(scored: pd.DataFrame) -> pd.DataFrame:
    """Scores with :data:`COMPOSITES`, means of metrics, each in standard deviations of all rows.

    One number to decide claims about several metrics by: differences of it are in standard deviations.
    """
    return scored.assign(**{name: standardised(scored, of) for name, of in COMPOSITES.items()})


def titled(metric: str) -> str:
    """How a metric, or a composite, is called in words."""
    return METRICS[metric].title if metric in METRICS else metric.replace("iou", "IoU").capitalize()


def estimates(scored: pd.DataFrame, by: list[str], metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """Mean and interval of metrics for every group: columns ``by``, ``metric, estimate, low, high, n``."""
    return pd.DataFrame(
        [
            {**dict(zip(by, names)), "metric": metric, **effect(bootstrap(column(part, metric)))}
            for names, part in scored.groupby(by, sort=False)
            for metric in metrics or metrics_of(scored)
        ]
    )


def differences(
    scored: pd.DataFrame, by: str, pairs: Sequence[tuple], metrics: Sequence[str] | None = None
) -> pd.DataFrame:
    """Differences over the same latents between groups of a column: ``first, second, metric, estimate...``."""
    return pd.DataFrame(
        [
            {"first": first, "second": second, "metric": metric, **effect(difference(*sides))}
            for first, second in pairs
            for metric in metrics or metrics_of(scored)
            for sides in [[column(scored[scored[by] == name], metric) for name in (first, second)]]
        ]
    )
