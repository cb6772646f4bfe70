"""Is it the direction? Steering and the hybrid against their controls (appendix J, Table 6)."""

from __future__ import annotations

import pandas as pd

from lib.effects import (
    BOTH,
    COMPOSITES,
    KEYS,
    as_estimates,
    column,
    effect,
    of_family,
    titled,
    values,
    with_composites,
)
from lib.findings import contrast
from lib.methods import HYBRID, METHODS, MODES, NOTHING, STEERING, TOP_K, trio
from lib.metrics import METRICS, metrics_of
from lib.run import Run
from lib.scenes.truth import MEASURES, Truth
from lib.stats import bootstrap, bootstrap_ratio, difference

ALL = "all"  # controls together
_PUBLISHED = {"random": "Random-vector Steering", "permuted": "Random-perm Steering"}  # controls in Table 6


def hybrid_controls(run: Run, latents: list[int]) -> pd.DataFrame:
    """Steering-informed Top-k with direction or images of another test latent, or both, scored: of one dictionary."""
    test = run.latents["test"]
    controls = [None, *(run.control(name, test) for name in ("random", "permuted", "images", "both"))]
    methods = list(map(run.at_best, (HYBRID.masks_add, HYBRID.heatmaps_add)))
    wanted = [run.variation(method, control=control) for method in methods for control in controls]
    return run.score(pd.concat(run.answers(wanted, latents), ignore_index=True))


def ceilings(truths: dict[int, Truth], scored: pd.DataFrame) -> pd.DataFrame:
    """How right a single element, and a sentence, can be about every latent: a column for each and measure.

    Parameters
    ----------
    truths : by dictionary.
    scored : names the latents.
    """
    table = scored.drop_duplicates(["dictionary", "latent"])[KEYS].set_index(KEYS).sort_index()
    best = {
        (name, m): [find(truths[d], i, m)[1] for d, i, _ in table.index]
        for name, find in (("best single element", Truth.best_element), ("best sentence found", Truth.best_sentence))
        for m in MEASURES
    }
    return pd.DataFrame(best, index=table.index)


def control_table(scored: pd.DataFrame, ceiling: pd.DataFrame | None) -> pd.DataFrame:
    """Steering against its controls: the judges' metrics; and where the truth is known its measures and ceilings.

    Parameters
    ----------
    ceiling : from :func:`ceilings`; None where nobody knows the truth.
    """
    rows: list[dict[str, object]] = []
    if ceiling is not None:
        rows += [
            {"explanation": f"ceiling: {name}", **{m: str(bootstrap(best[m])) for m in MEASURES}, "n": len(best)}
            for name, best in ((name, ceiling[name]) for name in ceiling.columns.unique(0))
        ]
    wanted = [(method.label, method, "") for method in (TOP_K.masks, HYBRID.masks_add)]
    for method in STEERING:
        wanted.append((method.label, method, ""))
        wanted += [(f"{control} direction, {method.steer}", method, control) for control in ("random", "permuted")]
    wanted.append(("no intervention", NOTHING, ""))
    for name, method, control in wanted:
        row: dict[str, object] = {"explanation": name}
        if ceiling is not None:
            strict = values(scored, method.key, "patch_f1", control)
            row |= {m: str(bootstrap(values(scored, method.key, m, control))) for m in MEASURES}
            most = ceiling["best single element", "patch_f1"].reindex(strict.index)
            row["share of ceiling"] = str(bootstrap_ratio(strict, most))
            if control and strict.any():
                times = bootstrap_ratio(values(scored, method.key, "patch_f1"), strict)
                row["times control"] = f"{times.mean:.1f} [{times.low:.1f}, {times.high:.1f}]"
        for metric, title in metrics_of(scored).items():
            if METRICS[metric].needs == "judges":
                of = values(scored, method.key, metric, control)
                row |= {title: f"{of.mean():.3f}", "n": len(of)}
        rows.append(row)
    table = pd.DataFrame(rows).fillna("-")
    table = table[[c for c in table if c != "n"] + ["n"]]
    return table.rename(columns={"patch_f1": "patch F1"})


def table6(scored: pd.DataFrame, hybrid: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Methods and their controls, the published numbers beside ours where there are any.

    Parameters
    ----------
    scored : the main comparison, with controls.
    hybrid : from :func:`hybrid_controls`; of it the controls that the main comparison does not have.
    paper : published rows of Table 6.
    """
    methods = (*STEERING, TOP_K.masks, HYBRID.masks_add, HYBRID.heatmaps_add)
    main = scored[scored.method.isin([m.key for m in methods])]
    rows, more = [], hybrid[~hybrid.control.isin(main[main.method == HYBRID.masks_add.key].control)]
    for (key, control), part in pd.concat([main, more]).groupby(["method", "control"], sort=False):
        method, name = METHODS[key], ""
        if method in trio("masks"):
            of_steering = _PUBLISHED.get(control, "") if method == STEERING.add else ""
            name = of_steering if control else method.family
        theirs = paper[paper.method == name]
        row: dict[str, object] = {"method": key, "control": control or "-"}
        for metric, title in metrics_of(part).items():
            row[title] = str(bootstrap(column(part, metric)))
            if metric in paper:
                row[f"{title}, paper"] = f"{theirs[metric].iloc[0]:.3f}" if len(theirs) else "-"
        rows.append({**row, "n": len(part)})
    return pd.DataFrame(rows)


def control_effects(scored: pd.DataFrame, method: str) -> pd.DataFrame:
    """The method with this key minus each of its controls, and the controls themselves; ``all``: the controls' mean."""
    own = with_composites(scored)
    own, rows = own[own.method == method], []
    names = [c for c in dict.fromkeys(own.control) if c]
    for control in (*names, ALL):
        for metric in (*metrics_of(scored), *COMPOSITES):
            a = values(own, method, metric)
            parts = [values(own, method, metric, c) for c in (names if control == ALL else [control])]
            b = sum(parts) / len(parts)
            words = {"method": method, "control": control, "metric": metric}
            rows.append({"what": f"{METHODS[method].short} - control", **words, **effect(difference(a, b))})
            rows.append({"what": "control", **words, **effect(bootstrap(b))})
    return pd.DataFrame(rows)


def own_direction(scored: pd.DataFrame) -> pd.DataFrame:
    """The hybrid with its own direction minus the hybrid with another latent's, both with its own images.

    Under masks, under heatmaps, and the mean of both: what the direction adds to the pictures.
    """
    scored, rows = with_composites(scored), []
    for evidence in (*MODES, BOTH):
        for metric in (*metrics_of(scored), *COMPOSITES):
            e = difference(*(of_family(scored, "hybrid", metric, evidence, c) for c in ("", "permuted")))
            rows.append({"what": "own - another's direction", "evidence": evidence, "metric": metric, **effect(e)})
    return pd.DataFrame(rows)


def findings(steering: pd.DataFrame, hybrid: pd.DataFrame) -> list[str]:
    """What the controls say.

    Parameters
    ----------
    steering, hybrid : from :func:`control_effects` of Steering, and from :func:`own_direction`.
    """
    own = steering[(steering.what == "Steering - control") & (steering.control == ALL)]
    lines = [
        contrast(titled(r.metric), "Steering", "the mean of its controls", e)
        for r, e in zip(own.itertuples(), as_estimates(own))
        if r.metric != "without iou"
    ]
    both = hybrid[(hybrid.evidence == BOTH) & (hybrid.metric != "without iou")]
    pair = ("the hybrid with its own direction", "with another latent's")
    return lines + [contrast(titled(r.metric), *pair, e) for r, e in zip(both.itertuples(), as_estimates(both))]
