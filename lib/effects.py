"""Tables of effects: an estimate, its interval and its n in every row, as claims and figures read them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from lib.stats import Estimate, bootstrap, bootstrap_ratio, difference, mann_whitney, wilcoxon

METRICS = {
    "iou": "IoU",
    "auroc": "AUROC",
    "synthetic": "Synthetic activation",
    "clip": "CLIP score",
    "correctness": "Correctness",
}
ALPHA = 0.05


def metrics_of(scored: pd.DataFrame) -> dict[str, str]:
    """The metrics that a table has, with their titles; correctness is known for scenes alone."""
    return {metric: title for metric, title in METRICS.items() if metric in scored}


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


def comparisons(scored: pd.DataFrame, model: str) -> pd.DataFrame:
    """Every pair of methods on every metric, under masks and under heatmaps (appendix C).

    Returns
    -------
    One row for each pair, metric and evidence: mean difference with its interval over the same
    latents, the ratio of the means, the paper's one-sided Mann-Whitney p-value, and the two-sided
    p-value of Wilcoxon's signed-rank test, to be corrected over all rows that are read together.
    """
    rows = []
    for evidence in ("masks", "heatmaps"):
        keys = {"Steering": "steering-add", "Top-k": f"top-k-{evidence}", "hybrid": f"hybrid-{evidence}-add"}
        for first, second in (("Steering", "Top-k"), ("hybrid", "Top-k"), ("hybrid", "Steering")):
            for metric in metrics_of(scored):
                a, b = (values(scored, keys[name], metric) for name in (first, second))
                ratio = bootstrap_ratio(a, b)
                rows.append(
                    {
                        "model": model,
                        "evidence": evidence,
                        "comparison": f"{first} - {second}",
                        "metric": metric,
                        **effect(difference(a, b)),
                        "ratio": ratio.mean,
                        "ratio_low": ratio.low,
                        "ratio_high": ratio.high,
                        "p_greater": mann_whitney(a, b),
                        "p_less": mann_whitney(b, a),
                        "p_wilcoxon": wilcoxon(a, b),
                    }
                )
    return pd.DataFrame(rows)


def winners(pairs: pd.DataFrame) -> pd.DataFrame:
    """Who beats both others on each metric: by the paper's rule, and by the paired test after correction."""
    rows = []
    for names, part in pairs.groupby(["model", "evidence", "metric"], sort=False):
        beaten: dict[str, dict[str, int]] = {"paper": {}, "paired": {}}
        for r in part.itertuples():
            first, second = r.comparison.split(" - ")
            for rule, p, other in (("paper", r.p_greater, r.p_less), ("paired", r.p_holm, r.p_holm)):
                for name, ahead, value in ((first, r.estimate > 0, p), (second, r.estimate < 0, other)):
                    if value < ALPHA and (ahead or rule == "paper"):
                        beaten[rule][name] = beaten[rule].get(name, 0) + 1
        won = {rule: next((name for name, n in wins.items() if n == 2), "-") for rule, wins in beaten.items()}
        rows.append(
            {
                **dict(zip(("model", "evidence", "metric"), names)),
                "paper's rule": won["paper"],
                "paired, Holm": won["paired"],
                "n": part.n.iloc[0],
            }
        )
    return pd.DataFrame(rows)


def control_effects(scored: pd.DataFrame, method: str) -> pd.DataFrame:
    """A method minus each of its controls, and the controls themselves."""
    own = scored[scored.method == method]
    family = "Steering" if method.startswith("steering") else "hybrid"
    rows = []
    for control in (c for c in dict.fromkeys(own.control) if c):
        for metric in metrics_of(scored):
            a, b = values(own, method, metric), values(own, method, metric, control)
            names = {"method": method, "control": control, "metric": metric}
            rows.append({"what": f"{family} - control", **names, **effect(difference(a, b))})
            rows.append({"what": "control", **names, **effect(bootstrap(b))})
    return pd.DataFrame(rows)


def dose_effects(table: pd.DataFrame) -> pd.DataFrame:
    """Share of biased explanations at the highest dose minus that at the lowest, over the same latents."""
    low, high = table.dose.min(), table.dose.max()
    rows = []
    for method, part in table.groupby("method", sort=False):
        a, b = (part[part.dose == d].set_index("latent").biased.astype(float) for d in (high, low))
        rows.append({"what": "slope", "method": method, **effect(difference(a, b.reindex(a.index)))})
    return pd.DataFrame(rows)


def step_effects(scored: pd.DataFrame, sizes: list[str]) -> pd.DataFrame:
    """Each step from one size of language model to the next, and the whole way, by method and metric."""
    steps = list(dict.fromkeys([*zip(sizes[1:], sizes), (sizes[-1], sizes[0])]))
    return pd.concat(
        [
            differences(part, "explainer", steps).assign(method=method)
            for method, part in scored[scored.method != "blank"].groupby("method", sort=False)
        ],
        ignore_index=True,
    )


def size_effects(scored: pd.DataFrame) -> pd.DataFrame:
    """What the paper's Figure 5 claims, as differences over the same latents."""
    sizes = sorted(set(scored.images))
    quarter = max(n for n in sizes if n <= max(sizes[-1] / 4, sizes[0]))
    rows = []
    for metric in metrics_of(scored):
        wide = scored.pivot(index="latent", columns=["method", "images"], values=metric)
        topk, hybrid = (
            wide[next(m for m in dict.fromkeys(scored.method) if m.startswith(s))] for s in ("top-k", "hybrid")
        )
        wanted = {
            "Top-k: whole set - smallest": (topk[sizes[-1]], topk[sizes[0]]),
            "Top-k: first doubling - last": (topk[sizes[1]] - topk[sizes[0]], topk[sizes[-1]] - topk[sizes[-2]]),
            "hybrid - Top-k, smallest set": (hybrid[sizes[0]], topk[sizes[0]]),
            "hybrid - Top-k, whole set": (hybrid[sizes[-1]], topk[sizes[-1]]),
            "hybrid on a quarter - Top-k on all": (hybrid[quarter], topk[sizes[-1]]),
        }
        rows += [{"what": what, "metric": metric, **effect(difference(a, b))} for what, (a, b) in wanted.items()]
    return pd.DataFrame(rows)
