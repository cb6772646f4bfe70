"""What Steering saves, without and with the search for its coefficient (section 3.2, appendix F)."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from lib.flops import Job, Shape, break_even, items, kaplan
from lib.methods import HYBRID, STEERING, TOP_K

PAIRS = ((TOP_K.masks, STEERING.add), (HYBRID.masks_add, TOP_K.masks))
SEARCHED = ", search included"


def itemised(shape: Shape, job: Job, method: str) -> float:
    """FLOPs of explaining all features, counted product by product: the sum of :func:`lib.flops.items`."""
    return float(sum(items(shape, job, method).values()))


COUNTS = {"itemised": itemised, "kaplan": kaplan}


def choosing(shape: Shape, job: Job, method: str, count: str = "itemised") -> float:
    """FLOPs of the explanations that choosing a method's coefficient takes; 0 if it has none.

    Every coefficient is tried on every validation feature. Their top images come out of the search that is paid anyway,
    and what judges the explanations is not counted.

    Raises
    ------
    KeyError
        If there is no such method, or no such way to count.
    """
    tried = {STEERING.add.family: job.steering, HYBRID.masks_add.family: job.hybrid, TOP_K.masks.family: 0}[method]
    asked = replace(job, features=job.validation * tried, images=0)
    return COUNTS[count](shape, asked, method) if asked.features else 0.0


def cost_effects(jobs: dict[str, tuple[Shape, Job]]) -> pd.DataFrame:
    """Ratios of total costs for every model, itemised and by the paper's estimate. Exact, so without intervals.

    Each ratio is there as the paper counts it, and, where the job says of how many trials, with the search for
    coefficients (``search included``), whose cost all explained features share.
    """
    rows = []
    for model, (shape, job) in jobs.items():
        for count, total in COUNTS.items():
            families = {method.family for pair in PAIRS for method in pair}
            alone = {name: total(shape, job, name) for name in families}
            sums = {"": alone}
            if job.validation:
                sums[SEARCHED] = {name: alone[name] + choosing(shape, job, name, count) for name in families}
            for tail, costs in sums.items():
                for a, b in PAIRS:
                    rows.append((f"{a.short} / {b.short}{tail}", model, count, costs[a.family] / costs[b.family]))
        rows.append(("break even", model, "itemised", break_even(shape, job)))
    table = pd.DataFrame(rows, columns=["what", "model", "count", "estimate"])
    return table.assign(low=table.estimate, high=table.estimate)


def findings(effects: pd.DataFrame) -> list[str]:
    """Sentences for notebook 15, from :func:`cost_effects`: itemised ratios for each model, counted and so exact."""
    rows = effects[(effects["count"] == "itemised") & effects.what.str.contains("/")]
    return [
        f"{model}, ratios of FLOPs: " + "; ".join(f"{r.what}: {r.estimate:.3g}" for r in part.itertuples()) + "."
        for model, part in rows.groupby("model", sort=False)
    ]
