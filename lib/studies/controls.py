"""Is it the direction? Steering and the hybrid against their controls (appendix J, Table 6)."""

from __future__ import annotations

import pandas as pd

from lib.effects import (
    BOTH,
    COMPOSITE,
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
from lib.figures import side_by_side
from lib.findings import contrast, number, side
from lib.methods import HYBRID, METHODS, MODES, NOTHING, STEERING, TOP_K, trio
from lib.metrics import METRICS, metrics_of
from lib.run import Run
from lib.scenes.truth import MEASURES, Truth
from lib.stats import Estimate, bootstrap, bootstrap_ratio, difference
from lib.studies.main_table import narrow, worded
from lib.studies.two_by_two import CELLS

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
    ceiling : from :func:`ceilings`, of these latents and maybe others; None where nobody knows the truth.
    """
    rows: list[dict[str, object]] = []
    if ceiling is not None:
        shown = pd.MultiIndex.from_frame(scored.drop_duplicates(["dictionary", "latent"])[KEYS])
        ceiling = ceiling[ceiling.index.isin(shown)]
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


def without_judges(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`control_table` as it fits on a page: the measures of the truth, where it is known."""
    known = [c for c in ("explanation", "patch F1", "correctness", "share of ceiling", "n") if c in table]
    return table[known] if "patch F1" in table else table


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


def means_of(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`table6` as it fits on a page: means, published ones in a line of their own, controls in words."""
    order = {"steering": 0, "top-k": 1, "hybrid": 2}
    rows = sorted(
        table.to_dict("records"),
        key=lambda r: (
            next(place for stem, place in order.items() if r["method"].startswith(stem)),
            list(METHODS).index(r["method"]),
            list(CELLS).index(r["control"].strip("-")),
        ),
    )
    titles = [c.removesuffix(", paper") for c in table if c.endswith(", paper")]
    titles += [c for c in table if c not in ("method", "control", "n", *titles) and not c.endswith(", paper")]
    shown = []
    for row in rows:
        method = METHODS[row["method"]]
        direction, images = CELLS[row["control"].strip("-")]
        about = {
            "method": worded(method),
            "direction": direction if method.steer else "none",
            "images": "blank" if method.evidence == "blank" else images,
        }
        shown.append({**about, **{narrow(t): row[t].split()[0] for t in titles}, "n": f"{row['n']}"})
        theirs = {narrow(t): row.get(f"{t}, paper", "-") for t in titles}
        if set(theirs.values()) != {"-"}:
            shown.append({"method": "published", "direction": "", "images": "", **theirs, "n": ""})
    return pd.DataFrame(shown)


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


def beside(table: pd.DataFrame, rows: list[str], columns: str, heads: dict[str, str]) -> pd.DataFrame:
    """A table of effects as it fits on a page: a column with an interval in it for each of some values of a column.

    Parameters
    ----------
    rows : columns that name a row.
    columns, heads : the column whose values stand side by side, and what they are called; others are left out.
    """
    part = table[table[columns].isin(heads)]
    part = part.assign(estimate=[number(e) for e in as_estimates(part)])
    known = [head for head in heads if head in set(part[columns])]
    return side_by_side(part, rows, columns, "estimate")[[*rows, *known]].rename(columns=heads)


def findings(steering: pd.DataFrame, hybrid: pd.DataFrame, four: pd.DataFrame) -> list[str]:
    """Whether it is the direction, and what that rests on.

    Parameters
    ----------
    steering, hybrid, four : from :func:`control_effects` of Steering, :func:`own_direction` and :func:`two_by_two`.
    """
    own = steering[steering.what == "Steering - control"].set_index(["control", "metric"])
    given = hybrid.set_index(["evidence", "metric"])
    known = [COMPOSITE, *(m for m in ("correctness",) if m in set(steering.metric))]

    def of(table: pd.DataFrame, *key: str) -> Estimate:
        return as_estimates(table.loc[[key]])[0]

    lines = [answer(of(own, ALL, COMPOSITE), {mode: of(given, mode, COMPOSITE) for mode in MODES})]
    lines += [contrast(_unit(m), "Steering", "the mean of its controls", of(own, ALL, m)) for m in known]
    chance = steering[(steering.what == "control") & (steering.control == ALL) & (steering.metric == "auroc")]
    lines.append(f"AUROC of Steering's controls, where chance has 0.5: {number(*as_estimates(chance))}.")
    pair = ("the hybrid with its own direction", "with another latent's")
    lines += [contrast(f"{_unit(m)}, both kinds of evidence", *pair, of(given, BOTH, m)) for m in known]
    for (mode, what), part in four[four.metric == COMPOSITE].groupby(["evidence", "what"], sort=False):
        if what == "own images, beside the own direction":
            pair = ("the hybrid with its own images", "with another latent's")
            lines.append(contrast(f"{_unit(COMPOSITE)}, {mode}", *pair, *as_estimates(part)))
    return lines


def answer(steering: Estimate, hybrid: dict[str, Estimate]) -> str:
    """Whether it is the direction, in a sentence.

    Parameters
    ----------
    steering : Steering minus the mean of its controls, in the composite.
    hybrid : by kind of evidence, the hybrid with its own direction minus with another latent's.
    """
    told = {True: "yes", False: "this is not shown"}
    parts = [f"{mode} {told[side(e) > 0]} ({number(e)})" for mode, e in hybrid.items()]
    return (
        f"Is it the direction? For Steering {told[side(steering) > 0]}: own minus control is {number(steering)} "
        f"standard deviations of the composite. For the hybrid, own minus another's direction: {', '.join(parts)}."
    )


def _unit(metric: str) -> str:
    """A metric as sentences call it."""
    return f"{titled(metric)}{' (standard deviations)' * (metric == COMPOSITE)}"
