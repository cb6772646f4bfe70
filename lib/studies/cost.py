"""What Steering saves, without and with the search for its coefficient (section 3.2, appendix F)."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd

from lib.flops import Job, Shape, break_even, items, kaplan
from lib.methods import HYBRID, STEERING, TOP_K

PAIRS = ((TOP_K.masks, STEERING.add), (HYBRID.masks_add, TOP_K.masks))
SEARCHED = ", search included"
PARTS = {  # how a table for people calls the items of a bill
    "search": "search",
    "explain: encode shown images": "encode",
    "explain: read prompt": "read",
    "explain: speak": "speak",
    "total": "total",
    "coefficient": "coefficient",
}


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


# -- as people read them ---------------------------------------------------------------------------


def readable_items(table: pd.DataFrame) -> pd.DataFrame:
    """The bill with two digits: both parts of the search in one, and short names of methods.

    Parameters
    ----------
    table : ``model, method``, what :func:`lib.flops.items` names, ``total`` and ``coefficient``.
    """
    search = table[[name for name in table if name.startswith("search")]].sum(axis=1)
    parts = table.assign(search=search)[list(PARTS)].map(lambda flops: f"{flops:.1e}" if flops else "0")
    short = {method.family: method.short for pair in PAIRS for method in pair}
    names = table[["model"]].assign(method=table.method.map(short))
    return names.join(parts.rename(columns=PARTS))


def readable_effects(effects: pd.DataFrame) -> pd.DataFrame:
    """What :func:`cost_effects` returns as people read it: a row for each ratio, a column for each model."""
    first, second = (f"{a.short} / {b.short}" for a, b in PAIRS)
    rows = [
        (first, (first, "itemised")),
        ("... with the search", (first + SEARCHED, "itemised")),
        ("... as the paper", (first, "kaplan")),
        (second, (second, "itemised")),
        ("... with the search", (second + SEARCHED, "itemised")),
        ("break even", ("break even", "itemised")),
    ]
    called, keys = zip(*rows)
    wide = effects.pivot(index=["what", "count"], columns="model", values="estimate")
    wide = wide[effects.model.unique()].reindex(list(keys))
    shown = wide.map(lambda v: "-" if pd.isna(v) else f"{v:,.0f}" if v >= 100 else f"{v:.3g}")
    return shown.set_axis(list(called)).rename_axis(index="ratio of FLOPs", columns=None).reset_index()


def readable_growth(growth: pd.DataFrame) -> pd.DataFrame:
    """Hours and money of ever larger dictionaries, both methods side by side.

    Parameters
    ----------
    growth : from :func:`lib.plan.scaling.hours`.
    """
    rows = []
    for (latents, gpus), part in growth.groupby(["latents", "gpus"]):
        row = {"latents": f"{latents:,}", "GPUs": gpus}
        for name, show in {"hours": "{0.hours:,.1f}", "USD": "{0.usd_low:,.0f} to {0.usd_high:,.0f}"}.items():
            row |= {f"{one.method}, {name}": show.format(one) for one in part.itertuples()}
        top_k = part[part.method == TOP_K.masks.family].iloc[0]
        rows.append({**row, "times as fast": f"{top_k.speedup:.1f}"})
    return pd.DataFrame(rows)


# -- in words --------------------------------------------------------------------------------------


def _span(numbers: pd.Series) -> str:
    """From the least to the largest: ``1.2 to 45``."""
    low, high = (f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in (numbers.min(), numbers.max()))
    return low if low == high else f"{low} to {high}"


def findings(effects: pd.DataFrame, growth: pd.DataFrame | None = None) -> list[str]:
    """Notebook 15 in sentences, the answer first: ratios of counted FLOPs, and so exact, without intervals.

    Parameters
    ----------
    effects : from :func:`cost_effects`.
    growth : from :func:`lib.plan.scaling.hours`: what explaining is a part of.
    """
    rows = effects[(effects["count"] == "itemised") & effects.what.str.contains("/")]
    ratio = {what: part.estimate for what, part in rows.groupby("what")}
    first, second = (f"{a.short} / {b.short}" for a, b in PAIRS)

    def searched(what: str) -> str:
        return f" ({_span(ratio[what])} with the search for the coefficient)" if what in ratio else ""

    lines = [
        f"To explain features, Top-k takes {_span(ratio[first])} times the FLOPs of Steering"
        f"{searched(first + SEARCHED)}, from model to model. The hybrid takes {_span(ratio[second])} times those of "
        f"Top-k{searched(second + SEARCHED)}: it saves nothing."
    ]
    if growth is not None:
        whole = growth[growth.gpus == 1].pivot(index="latents", columns="method", values="gpu_hours")
        times = whole[TOP_K.masks.family] / whole[STEERING.add.family]
        lines.append(
            "Of the whole work (dictionary, evidence, explanations and scores of all latents) Top-k takes "
            f"{_span(times)} times the GPU-hours of Steering, from dictionary to dictionary."
        )
    even = effects[effects.what == "break even"].estimate
    lines.append(f"For the price of the search through the images alone, Steering explains {_span(even)} features.")
    return lines + [
        f"{model}, ratios of FLOPs: " + "; ".join(f"{r.what}: {r.estimate:.3g}" for r in part.itertuples()) + "."
        for model, part in rows.groupby("model", sort=False)
    ]
