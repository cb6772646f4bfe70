"""Is it the direction? Steering and the hybrid against their controls (appendix J, Table 6)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.effects import effect, values
from lib.methods import HYBRID, METHODS, NOTHING, STEERING, TOP_K, trio
from lib.metrics import METRICS, metrics_of
from lib.run import Run
from lib.scenes.truth import MEASURES, Truth
from lib.stats import bootstrap, bootstrap_ratio, difference

_PUBLISHED = {"random": "Random-vector Steering", "permuted": "Random-perm Steering"}  # controls in Table 6


def hybrid_controls(run: Run, latents: list[int]) -> pd.DataFrame:
    """Steering-informed Top-k with direction or images of another latent, or both, scored."""
    tables = []
    for method in map(run.at_best, (HYBRID.masks_add, HYBRID.heatmaps_add)):
        tables.append(run.explanations(method, latents))
        for name in ("random", "permuted", "images", "both"):
            tables.append(run.explanations(method, latents, control=run.control(name, latents)))
    return run.score(pd.concat(tables, ignore_index=True))


def control_table(scored: pd.DataFrame, truth: Truth | None) -> pd.DataFrame:
    """Steering against its controls: the judges' metrics; and where the truth is known its measures and ceilings."""
    latents = sorted(set(scored.latent))
    rows: list[dict[str, object]] = []
    if truth:
        single = {m: np.array([truth.best_element(i, m)[1] for i in latents]) for m in MEASURES}
        sentence = {m: np.array([truth.best_sentence(i, m)[1] for i in latents]) for m in MEASURES}
        rows += [
            {"explanation": f"ceiling: {name}", **{m: str(bootstrap(best[m])) for m in MEASURES}}
            for name, best in (("best single element", single), ("best sentence found", sentence))
        ]
    wanted = [(method.label, method, "") for method in (TOP_K.masks, HYBRID.masks_add)]
    for method in STEERING:
        wanted.append((method.label, method, ""))
        wanted += [(f"{control} direction, {method.steer}", method, control) for control in ("random", "permuted")]
    wanted.append(("no intervention", NOTHING, ""))
    for name, method, control in wanted:
        row: dict[str, object] = {"explanation": name}
        if truth:
            strict = values(scored, method.key, "patch_f1", control)
            row |= {m: str(bootstrap(values(scored, method.key, m, control))) for m in MEASURES}
            row["share of ceiling"] = str(bootstrap_ratio(strict, single["patch_f1"]))
            if control and strict.any():
                times = bootstrap_ratio(values(scored, method.key, "patch_f1"), strict)
                row["times control"] = f"{times.mean:.1f} [{times.low:.1f}, {times.high:.1f}]"
        for metric, title in metrics_of(scored).items():
            if METRICS[metric].needs == "judges":
                row[title] = f"{values(scored, method.key, metric, control).mean():.3f}"
        rows.append(row)
    table = pd.DataFrame(rows).fillna("-").assign(n=len(latents))
    return table.rename(columns={"patch_f1": "patch F1"})


def table6(scored: pd.DataFrame, hybrid: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Methods and their controls, the published numbers beside ours where there are any.

    Parameters
    ----------
    scored : the main run's table, with Steering's controls.
    hybrid : from :func:`hybrid_controls`.
    paper : published rows of Table 6.
    """
    main = scored[scored.method.isin([m.key for m in (*STEERING, TOP_K.masks)])]
    rows = []
    for (key, control), part in pd.concat([main, hybrid]).groupby(["method", "control"], sort=False):
        method, name = METHODS[key], ""
        if method in trio("masks"):
            of_steering = _PUBLISHED.get(control, "") if method == STEERING.add else ""
            name = of_steering if control else method.family
        theirs = paper[paper.method == name]
        row: dict[str, object] = {"method": key, "control": control or "-"}
        for metric, title in metrics_of(part).items():
            row[title] = str(bootstrap(part[metric].to_numpy()))
            if metric in paper:
                row[f"{title}, paper"] = f"{theirs[metric].iloc[0]:.3f}" if len(theirs) else "-"
        rows.append({**row, "n": len(part)})
    return pd.DataFrame(rows)


def control_effects(scored: pd.DataFrame, method: str) -> pd.DataFrame:
    """The method with this key minus each of its controls, and the controls themselves."""
    own = scored[scored.method == method]
    rows = []
    for control in (c for c in dict.fromkeys(own.control) if c):
        for metric in metrics_of(scored):
            a, b = values(own, method, metric), values(own, method, metric, control)
            names = {"method": method, "control": control, "metric": metric}
            rows.append({"what": f"{METHODS[method].short} - control", **names, **effect(difference(a, b))})
            rows.append({"what": "control", **names, **effect(bootstrap(b))})
    return pd.DataFrame(rows)
