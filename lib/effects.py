"""Tables of effects: an estimate, its interval and its n in every row, as claims and figures read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.metrics import metrics_of
from lib.stats import Estimate, bootstrap, difference


def effect(e: Estimate) -> dict[str, float]:
    """An estimate as the columns of a table: ``estimate, low, high, n``."""
    return {"estimate": e.mean, "low": e.low, "high": e.high, "n": e.n}


def as_estimates(table: pd.DataFrame) -> list[Estimate]:
    """The way back from :func:`effect`."""
    return [Estimate(*row) for row in table[["estimate", "low", "high", "n"]].itertuples(index=False)]


def values(scored: pd.DataFrame, method: str, metric: str, control: str = "") -> np.ndarray:
    """A metric of all latents, in latent order."""
    part = scored[(scored.method == method) & (scored.control == control)].sort_values("latent")
    return part[metric].to_numpy()


def estimates(scored: pd.DataFrame, by: list[str], metrics: Sequence[str] | None = None) -> pd.DataFrame:
    """Mean and interval of metrics for every group: columns ``by``, ``metric, estimate, low, high, n``."""
    return pd.DataFrame(
        [
            {**dict(zip(by, names)), "metric": metric, **effect(bootstrap(part[metric].to_numpy()))}
            for names, part in scored.groupby(by, sort=False)
            for metric in metrics or metrics_of(scored)
        ]
    )


def differences(scored: pd.DataFrame, by: str, pairs: Sequence[tuple]) -> pd.DataFrame:
    """Differences over the same latents between groups of a column: ``first, second, metric, estimate...``."""
    rows = []
    for first, second in pairs:
        a, b = (scored[scored[by] == name].set_index("latent") for name in (first, second))
        for metric in metrics_of(scored):
            e = difference(a[metric], b[metric].reindex(a.index))
            rows.append({"first": first, "second": second, "metric": metric, **effect(e)})
    return pd.DataFrame(rows)
