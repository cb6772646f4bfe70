"""Contextual bias: a background feature that is explained by what stands in front of it (section 5.1)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.effects import BOTH, column, effect, of_family, values
from lib.judges import Reader
from lib.methods import MODES, PUBLISHED, STEERING, Mode, trio
from lib.run import Run
from lib.scenes.truth import Truth
from lib.stats import bootstrap, difference
from lib.studies.context import OUTCOMES, background_latents, top_objects

LABELS = ("background", "animal", "other")
LEVELS = ("low-level", "place", "object", "unreadable")
SELECTED = 300  # latents of the paper's Table 2
RANDOM = "Steering, random directions"
LARGER = "Steering's IoU larger"

# -- the paper's selection (Table 2) ---------------------------------------------------------------


def ahead(scored: pd.DataFrame, mode: Mode) -> pd.Series:
    """IoU of Steering minus IoU of Top-k of every latent of one dictionary, largest first."""
    steering, top_k, _ = trio(mode)
    wide = scored[scored.control == ""].pivot(index="latent", columns="method", values="iou")
    return (wide[steering.key] - wide[top_k.key]).sort_values(ascending=False, kind="stable")


def largest_differences(scored: pd.DataFrame, mode: Mode, n: int = SELECTED) -> list[int]:
    """The latents with the largest IoU of Steering minus IoU of Top-k (section 5.1), at most a third of all.

    The paper takes 300 of several thousand; a third keeps it a selection when there are few.
    """
    order = ahead(scored, mode).index
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
            lead, chosen = ahead(table, mode), largest_differences(table, mode)
            steering, top_k, _ = trio(mode)
            own = table[(table.control == "") & table.latent.isin(chosen)]
            said = own.pivot(index="latent", columns="method", values="explanation")
            larger = {latent for latent in chosen if lead[latent] > 0}
            row = {"model": model, "evidence": mode, "selected": len(chosen), "of": len(lead)}
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
