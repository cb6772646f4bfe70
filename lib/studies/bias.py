"""Contextual bias: a background feature that is explained by what stands in front of it (section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.effects import BOTH, as_estimates, column, effect, of_family, values
from lib.findings import contrast, number
from lib.judges import Reader
from lib.methods import MODES, PUBLISHED, STEERING, TOP_K, Mode, trio
from lib.run import Run
from lib.scenes.truth import Truth
from lib.stats import bootstrap, difference
from lib.studies.context import OUTCOMES, background_latents, judge, named_objects, top_objects
from lib.studies.gallery import quality_of

LABELS = ("background", "animal", "other")
LEVELS = ("low-level", "place", "object", "unreadable")
SELECTED = 300  # latents of the paper's Table 2
SHOWN_FROM = 0.05  # a row of Figure 4 shows contextual bias only if one of its explanations is at least so right
RANDOM = "Steering, random directions"
LARGER = "Steering's IoU larger"

# -- the paper's selection (Table 2) ---------------------------------------------------------------


def _ahead(scored: pd.DataFrame, mode: Mode) -> pd.Series:
    """IoU of Steering minus IoU of Top-k of every latent of one dictionary, largest first."""
    steering, top_k, _ = trio(mode)
    wide = scored[scored.control == ""].pivot(index="latent", columns="method", values="iou")
    return (wide[steering.key] - wide[top_k.key]).sort_values(ascending=False, kind="stable")


def largest_differences(scored: pd.DataFrame, mode: Mode, n: int = SELECTED) -> list[int]:
    """The latents with the largest IoU of Steering minus IoU of Top-k (section 5.1), at most a third of all.

    The paper takes 300 of several thousand; a third keeps it a selection when there are few.
    """
    order = _ahead(scored, mode).index
    return [int(latent) for latent in order[: min(n, max(1, len(order) // 3))]]


def bias_table(
    scored: dict[str, pd.DataFrame], paper: pd.DataFrame, reader: Reader
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table 2 for several models: shares of each label, and the differences of the animal shares.

    Parameters
    ----------
    scored : model -> scored explanations of one dictionary.
    paper : the published Table 2; it need not have every model. Its counts over 300 stand beside its percentages.
    reader : says what an explanation is about.
    """
    rows, effects = [], []
    for model, table in scored.items():
        for mode in MODES:
            chosen, methods = largest_differences(table, mode), trio(mode)
            own = table[(table.control == "") & table.latent.isin(chosen)]
            reader.prepare("label", own.explanation)
            labels = {
                m: column(part.assign(label=part.explanation.map(reader.label)), "label")
                for m in methods
                for part in [own[own.method == m.key]]
            }
            theirs = paper[(paper.model == model) & (paper.evidence == mode)].set_index("method")
            for method, found in labels.items():
                shares = {what: str(bootstrap((found == what).astype(float))) for what in LABELS}
                published = {"animal, paper": "-", "animal, paper's count": "-"}
                if method.family in theirs.index:
                    cell = theirs.loc[method.family]
                    published = dict(zip(published, (f"{cell.percent / 100:.3f}", f"{cell['count'] / SELECTED:.3f}")))
                names = {"model": model, "evidence": mode, "method": method.family}
                rows.append({**names, **shares, **published, "n": len(found)})
            steering, top_k, hybrid = methods
            animal = {m: (found == "animal").astype(float) for m, found in labels.items()}
            for other in (steering, hybrid):
                what = {"what": f"animal: Top-k - {other.short}", "model": model, "evidence": mode}
                effects.append({**what, **effect(difference(animal[top_k], animal[other]))})
    return pd.DataFrame(rows), pd.DataFrame(effects)


def misprints(paper: pd.DataFrame) -> list[str]:
    """Where the published Table 2 contradicts itself: a percentage that is not that of its count among 300."""
    found = []
    for cell in paper.to_dict("records"):
        of_count = 100 * cell["count"] / SELECTED
        if abs(of_count - cell["percent"]) > 0.0501:  # more than rounding
            where = f"{cell['model']}, {cell['evidence']}, {cell['method']}"
            found.append(f"{where}: {cell['count']} of {SELECTED} is {of_count:.1f} %, printed {cell['percent']:.1f} %")
    return found


def bias_selection(scored: dict[str, pd.DataFrame], truths: Mapping[str, Truth | None]) -> pd.DataFrame:
    """What the selection of Table 2 holds: how many latents of it are what the claim is about.

    Returns
    -------
    For each model and kind of evidence: latents ``selected``, ``of`` how many; on how many Steering's IoU is strictly
    larger, how many have the same text by both; and where the truth is known, how many are true backgrounds, and are
    so with Steering's IoU strictly larger.
    """
    rows = []
    for model, table in scored.items():
        for mode in MODES:
            ahead, chosen = _ahead(table, mode), largest_differences(table, mode)
            steering, top_k, _ = trio(mode)
            own = table[(table.control == "") & table.latent.isin(chosen)]
            said = own.pivot(index="latent", columns="method", values="explanation")
            larger = {latent for latent in chosen if ahead[latent] > 0}
            row = {"model": model, "evidence": mode, "selected": len(chosen), "of": len(ahead)}
            row |= {LARGER: len(larger), "same text": sum(said[steering.key] == said[top_k.key])}
            if truth := truths[model]:
                ground = set(background_latents(truth, chosen))
                row |= {"true backgrounds": len(ground), "both": len(ground & larger)}
            rows.append(row)
    return pd.DataFrame(rows)


# -- all latents that truly are backgrounds --------------------------------------------------------


def bias_truth(said: pd.DataFrame) -> pd.DataFrame:
    """Shares of outcomes of the explanations of true background latents: ``method, evidence, what, estimate...``.

    Parameters
    ----------
    said : from :func:`lib.studies.context.judged`. Beside the methods, random directions show what the explainer says
        when there is nothing to explain.
    """
    groups = [(m.family, m.evidence, m.key, "") for m in PUBLISHED]
    groups.append((RANDOM, "blank", STEERING.add.key, "random"))
    return pd.DataFrame(
        [
            {"method": name, "evidence": evidence, "what": what, **effect(bootstrap(values(said, key, what, control)))}
            for name, evidence, key, control in groups
            for what in (*OUTCOMES, "elsewhere")
        ]
    )


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`bias_truth` as people read it: a row for each method, a column for each outcome."""
    names = ["method", "evidence"]
    cells = table.assign(cell=[str(e) for e in as_estimates(table)])
    shown = cells.pivot(index=names, columns="what", values="cell")[list(dict.fromkeys(table.what))]
    order = table[[*names, "n"]].drop_duplicates(names).set_index(names)
    shown = shown.rename(columns={"elsewhere": "context by coincidence"}).reindex(order.index)
    return shown.assign(n=order.n).reset_index().rename_axis(columns=None)


def bias_truth_effects(said: pd.DataFrame, model: str) -> pd.DataFrame:
    """Differences over the same true background latents: ``what, model, evidence, estimate, low, high, n, p``.

    ``context`` and ``object``: Top-k minus Steering, and minus the hybrid, under each kind of evidence, and (``both``)
    in the mean of the two. ``coincidence``: the share of context errors, less what others' top images would give.
    ``object: Steering - random directions``: whether the direction keeps the explainer from its prior.
    """
    rows = []

    def add(what: str, evidence: str, first: pd.Series, second: pd.Series) -> None:
        rows.append({"what": what, "model": model, "evidence": evidence, **effect(difference(first, second))})

    for what in ("context", "object"):
        for other in ("Steering", "hybrid"):
            for mode in (*MODES, BOTH):
                sides = (of_family(said, family, what, mode) for family in ("Top-k", other))
                add(f"{what}: Top-k - {other}", mode, *sides)
    for family, mode in (("Top-k", BOTH), ("hybrid", BOTH), ("Steering", "blank")):
        sides = (of_family(said, family, what, BOTH) for what in ("context", "elsewhere"))
        add(f"context: {family} - coincidence", mode, *sides)
    sides = (values(said, STEERING.add.key, "object", control) for control in ("", "random"))
    add("object: Steering - random directions", "blank", *sides)
    return pd.DataFrame(rows)


def base_rates(runs: Sequence[Run], scored: pd.DataFrame) -> pd.DataFrame:
    """What the outcomes are to be compared with: ``what, estimate, low, high, n``.

    Of background latents, whether any top image holds an object, and which share of them does; and what the explainer
    names under random directions, over all test latents: its prior, which Steering's errors may follow.

    Parameters
    ----------
    runs, scored : as for :func:`lib.studies.context.judged`.
    """
    tables = []
    for run in runs:
        own = scored[scored.dictionary == run.profile.sae.seed].drop_duplicates("latent")
        own = own.set_index("latent", drop=False)
        tops = top_objects(run.shown, background_latents(run.truth, sorted(own.index)), run.profile.explain.k)
        filled = {latent: [bool(objects) for objects in top] for latent, top in tops.items()}
        shares = {"any": [float(any(f)) for f in filled.values()], "share": [np.mean(f) for f in filled.values()]}
        tables.append(own.loc[list(filled)].assign(**shares))
    ground = pd.concat(tables)
    random = scored[(scored.method == STEERING.add.key) & (scored.control == "random")]
    level = column(random.assign(level=random.explanation.map(runs[0].world.reader.level)), "level")
    found = {
        "background latents with an object in a top image": column(ground, "any"),
        "top images of background latents that hold an object": column(ground, "share"),
        **{f"random directions: {name}": (level == name).astype(float) for name in LEVELS},
    }
    return pd.DataFrame([{"what": what, **effect(bootstrap(share))} for what, share in found.items()])


# -- Figure 4 and findings -------------------------------------------------------------------------


def gallery_cases(run: Run, own: pd.DataFrame, count: int = 4) -> dict[int, str]:
    """Latents for Figure 4, each with what it is a case of; not chosen by eye.

    They are true backgrounds of which Steering names no object, and Top-k (heatmaps) names one. First come those whose
    object stood in the top images, if one of the explanations is at all right (:data:`SHOWN_FROM`); then, if these are
    few, those whose object stood in none, as errors. In the order of the IoU difference. For photographs, where nobody
    knows either, any latent of the paper's selection can be one.

    Parameters
    ----------
    own : scored explanations of this run.
    """
    own = own[own.control == ""]
    order = list(_ahead(own, "heatmaps").index)
    said = own.pivot(index="latent", columns="method", values="explanation")
    best = own[own.method.isin([m.key for m in trio("heatmaps")])].groupby("latent")[quality_of(own)].max()
    if run.truth is None:
        level = {m: said[m.key].map(run.world.reader.level) == "object" for m in (STEERING.add, TOP_K.heatmaps)}
        order = largest_differences(own, "heatmaps")
        cases = [i for i in order if level[TOP_K.heatmaps][i] and not level[STEERING.add][i]]
        return dict.fromkeys(cases[:count], "Top-k names an object") or _none(order[:count])
    tops = top_objects(run.shown, background_latents(run.truth, sorted(order)), run.profile.explain.k)
    outcomes = judge(own, tops).set_index(["latent", "method"])
    context, error = {}, {}
    for latent in (int(i) for i in order if i in tops):
        if outcomes.loc[(latent, STEERING.add.key), "object"]:
            continue
        found = outcomes.loc[(latent, TOP_K.heatmaps.key)]
        if found.context and best[latent] >= SHOWN_FROM:
            named = frozenset().union(*named_objects(found.explanation))
            times = sum(bool(named & objects) for objects in tops[latent])
            context[latent] = f"context: what Top-k names stands in {times} of {len(tops[latent])} top images"
        elif found.error:
            error[latent] = "error, not context: what Top-k names stands in none of the top images"
    return dict([*context.items(), *error.items()][:count]) or _none(order[:count])


def _none(latents: Sequence[int]) -> dict[int, str]:
    return {int(latent): "no case of bias: a large IoU difference alone" for latent in latents}


def findings(effects: pd.DataFrame, base: pd.DataFrame) -> list[str]:
    """Contextual bias in words, from :func:`bias_truth_effects` and :func:`base_rates`."""
    sides = dict(zip(zip(effects.what, effects.evidence), as_estimates(effects)))
    rates = dict(zip(base.what, as_estimates(base)))
    context = "Background latents explained by an object that stood in their top images, both kinds of evidence"
    lines = [
        contrast(context, "Top-k", other, sides[f"context: Top-k - {name}", "both"])
        for name, other in (("Steering", "Steering"), ("hybrid", "Steering-informed Top-k"))
    ]
    anything = "Background latents explained by any object"
    lines.append(contrast(anything, "Top-k", "Steering", sides["object: Top-k - Steering", "both"]))
    for name in ("Top-k", "Steering"):
        mode = "both" if name == "Top-k" else "blank"
        coincidence = "what other background latents' top images would give"
        e = sides[f"context: {name} - coincidence", mode]
        lines.append(contrast("Share with an object from the top images", name, coincidence, e))
    prior = "random directions on the same latents"
    e = sides["object: Steering - random directions", "blank"]
    lines.append(contrast(anything, "Steering", prior, e))
    names, places = (number(rates[f"random directions: {level}"]) for level in ("object", "place"))
    lines.append(f"Under random directions a share of {names} of the answers name an object, and {places} a place.")
    return lines


def selection_findings(selection: pd.DataFrame) -> list[str]:
    """What Table 2's selection holds, in words, from :func:`bias_selection`: the first model."""
    lines = []
    for row in selection[selection.model == selection.model.iloc[0]].to_dict("records"):
        ground = row.get("true backgrounds", np.nan)
        truth = "" if np.isnan(ground) else f", and {ground:.0f} are true backgrounds"
        lines.append(
            f"Of the {row['selected']} latents with the largest IoU difference ({row['evidence']}), "
            f"{row[LARGER]} have a strictly larger IoU under Steering, {row['same text']} the same text by both{truth}."
        )
    return lines
