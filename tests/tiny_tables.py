"""Small tables of scores, as the stage that makes them leaves them."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.methods import PUBLISHED, Method
from lib.metrics import METRICS


def scores(seed: int, n: int = 60, methods: tuple[Method, ...] = PUBLISHED, **lift: float) -> pd.DataFrame:
    """Every metric of methods on the same latents; ``lift`` is added to all of a family, by its short name."""
    rng = np.random.default_rng(seed)
    quality, rows = rng.normal(size=n), []
    for method in methods:
        for latent in range(n):
            value = quality[latent] + lift.get(method.short, 0.0) + 0.01 * rng.normal()
            about = {"method": method.key, "control": "", "coefficient": 2.0 if method.steer else 0.0, "failed": False}
            about |= {"dictionary": 0, "concept": f"concept {latent // 2}"}
            rows.append({"latent": latent, "explanation": "water", **about, **dict.fromkeys(METRICS, value)})
    return pd.DataFrame(rows)
