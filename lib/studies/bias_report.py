"""Contextual bias as people read it: tables that fit a page, figures with captions, and the answer in words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from lib.effects import BOTH, as_estimates
from lib.figures import COLOURS, intervals
from lib.findings import contrast, number, side
from lib.methods import MODES, STEERING, TOP_K, trio
from lib.run import Run
from lib.stats import Estimate
from lib.studies.bias import LARGER, RANDOM, ahead, largest_differences
from lib.studies.context import background_latents, judge, named_objects, top_objects
from lib.studies.gallery import quality_of

SHOWN_FROM = 0.05  # a row of Figure 4 is a case only if one of its explanations is at least so right
CONTEXT, ERROR, NAMED, NONE = "context", "error", "Top-k names", "no case"  # how labels of Figure 4's rows begin

# -- tables ----------------------------------------------------------------------------------------


def _said_by(table: pd.DataFrame) -> list[str]:
    """The method of each row with its evidence, where it sees any: ``Top-k, masks``."""
    return [name if seen == "blank" else f"{name}, {seen}" for name, seen in zip(table.method, table.evidence)]


def wide(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`lib.studies.bias.bias_truth` for a page: a row for each method, a column for each outcome."""
    cells = table.assign(cell=[str(e) for e in as_estimates(table)], explanation=_said_by(table))
    shown = cells.pivot(index="explanation", columns="what", values="cell")[["context", "error"]]
    means = cells.pivot(index="explanation", columns="what", values="estimate").map("{:.3f}".format)
    shown = shown.assign(coincidence=means.elsewhere, **{"no object": means["no object"]})
    shown = shown.reindex(list(dict.fromkeys(cells.explanation))).rename(index={RANDOM: "random directions"})
    return shown.reset_index().rename_axis(columns=None)


def table2_shown(table: pd.DataFrame) -> pd.DataFrame:
    """Table 2 for a page: without ``other``, which is what the two shares leave, and without the paper's counts."""
    shown = table.assign(explanation=_said_by(table.assign(evidence=table.evidence)))
    return shown[["model", "explanation", "animal", "background", "animal, paper", "n"]]


def selection_shown(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`lib.studies.bias.bias_selection` for a page: whole numbers, ``-`` where nobody knows."""
    chosen = [f"{n} of {of}" for n, of in zip(table.selected, table.of)]
    known = table.drop(columns=["selected", "of"]).map(lambda x: f"{x:.0f}" if isinstance(x, float) else x)
    known.insert(2, "selected", chosen)
    return known.replace("nan", "-")


# -- figures ---------------------------------------------------------------------------------------


def outcomes_figure(table: pd.DataFrame) -> Figure:
    """What each method says of backgrounds: shares of context and of error, with coincidence beside the former."""
    fig, axes = plt.subplots(1, 2, figsize=(8.6, 2.7), sharey=True)
    titles = {"context": "context: names an object of its top images", "error": "error: names an object of none"}
    for axis, (what, title) in zip(axes, titles.items()):
        part = table[table.what == what]
        labels = [label.replace(RANDOM, "random directions") for label in _said_by(part)]
        colours = [COLOURS["Random direction" if m == RANDOM else m] for m in part.method]
        intervals(axis, labels, as_estimates(part), colours)
        axis.set(title=title, xlabel="share of background latents")
    chance = table[table.what == "elsewhere"].estimate
    mark = {"ls": "", "marker": "|", "ms": 11, "mew": 1.8, "mec": COLOURS["Ceiling"]}
    axes[0].plot(chance, range(len(chance))[::-1], **mark)
    fig.legend(handles=[Line2D([], [], **mark, label="coincidence")], loc="outside lower center")
    return fig


def outcomes_caption(table: pd.DataFrame) -> str:
    """What :func:`outcomes_figure` shows, for those who see nothing else."""
    n = " to ".join(map(str, sorted({table.n.min(), table.n.max()})))
    return (
        f"Shares of true background latents (n = {n}, over all dictionaries) that each method explains by an object: "
        "left, one that stood in at least one of the latent's own top images (context); right, one that stood in none "
        "(error). Points are means, bars 95 % intervals over dictionaries, concepts and latents (their ends may lie "
        "below 0, where no share can); colours are methods, grey the prior (random directions). Upright marks: "
        "coincidence, the share of other background latents' top images that would have made the same words context."
    )


def gallery_cases(run: Run, own: pd.DataFrame, count: int = 4) -> dict[int, str]:
    """Latents for Figure 4, each with what it is a case of; not chosen by eye.

    They are true backgrounds of which Steering names no object, and Top-k (heatmaps) names one, if one of the
    explanations is at all right (:data:`SHOWN_FROM`). First come those whose object stood in the top images; then, if
    these are few, those whose object stood in none, as errors. In the order of the IoU difference. For photographs,
    where nobody knows either, any latent of the paper's selection can be one.

    Parameters
    ----------
    own : scored explanations of this run.
    """
    own = own[own.control == ""]
    order = list(ahead(own, "heatmaps").index)
    said = own.pivot(index="latent", columns="method", values="explanation")
    best = own[own.method.isin([m.key for m in trio("heatmaps")])].groupby("latent")[quality_of(own)].max()
    if run.truth is None:
        level = {m: said[m.key].map(run.world.reader.level) == "object" for m in (STEERING.add, TOP_K.heatmaps)}
        order = largest_differences(own, "heatmaps")
        cases = [i for i in order if level[TOP_K.heatmaps][i] and not level[STEERING.add][i]]
        return dict.fromkeys(cases[:count], f"{NAMED} an object") or _none(order[:count])
    tops = top_objects(run.shown, background_latents(run.truth, sorted(order)), run.profile.explain.k)
    outcomes = judge(own, tops).set_index(["latent", "method"])
    context, error = {}, {}
    for latent in (int(i) for i in order if i in tops and best[i] >= SHOWN_FROM):
        if outcomes.loc[(latent, STEERING.add.key), "object"]:
            continue
        found = outcomes.loc[(latent, TOP_K.heatmaps.key)]
        if found.context:
            named = frozenset().union(*named_objects(found.explanation))
            times = sum(bool(named & objects) for objects in tops[latent])
            context[latent] = f"{CONTEXT}: what Top-k names stands in {times} of these {len(tops[latent])} images"
        elif found.error:
            error[latent] = f"{ERROR}, not context: what Top-k names stands in none of these images"
    return dict([*context.items(), *error.items()][:count]) or _none(order[:count])


def _none(latents: Sequence[int]) -> dict[int, str]:
    return {int(latent): f"{NONE} of bias: a large IoU difference alone" for latent in latents}


def gallery_of(runs: Sequence[Run], scored: pd.DataFrame) -> tuple[Run, pd.DataFrame, dict[int, str]]:
    """The one of several dictionaries with the most cases of context, the first of these; what it says, and its cases.

    Parameters
    ----------
    runs, scored : as for :func:`lib.studies.context.judged`.
    """
    found = []
    for run in runs:
        own = scored[scored.dictionary == run.profile.sae.seed]
        found.append((run, own, gallery_cases(run, own)))
    return max(found, key=lambda one: count_of(one[2], CONTEXT))


def count_of(cases: Mapping[int, str], kind: str) -> int:
    """How many of Figure 4's rows are cases of a kind: :data:`CONTEXT`, :data:`ERROR`, :data:`NAMED`, :data:`NONE`."""
    return sum(label.startswith(kind) for label in cases.values())


def gallery_caption(run: Run, cases: Mapping[int, str], dictionaries: int = 1) -> str:
    """What Figure 4 shows, for those who see nothing else: how many rows are context, and how many are plain errors."""
    k, counts = run.profile.explain.k, {kind: count_of(cases, kind) for kind in (CONTEXT, ERROR)}
    known, lead = run.truth is not None and not count_of(cases, NONE), "Steering's lead in IoU"
    whose = f" (of {dictionaries} dictionaries the one with most cases of context)" if dictionaries > 1 else ""
    if known:
        chosen = (
            f"{len(cases)} background latents{whose} that Top-k, seeing heatmaps, explains by an object, and Steering "
            f"does not: context first, then by {lead}. By their titles {counts[CONTEXT]} are contextual bias and "
            f"{counts[ERROR]} plain errors."
        )
    elif count_of(cases, NONE):
        chosen = f"No case of contextual bias was found: {len(cases)} latents{whose} by {lead}."
    else:
        chosen = (
            f"{len(cases)} latents of the paper's selection that Top-k, seeing heatmaps, explains by an object, and "
            f"Steering does not, by {lead}."
        )
    quality = "correctness" if run.truth else "IoU"
    best = "; last, the best sentence found" if run.truth else ""
    return (
        f"{chosen} Left: each latent's {k} top images, yellow where it is most active. Right: {quality}, from 0 to 1, "
        f"and explanation by Top-k (blue), Steering (orange) and both at once (green){best}."
    )


# -- findings --------------------------------------------------------------------------------------


def answer(effects: pd.DataFrame, slopes: pd.DataFrame) -> str:
    """Do the pictures make Top-k name what stands in front of a background? By three signs, with their intervals.

    Parameters
    ----------
    effects : from :func:`lib.studies.bias.bias_truth_effects`.
    slopes : from :func:`lib.studies.dose.dose_effects`; without its rows the third sign is missing.
    """
    sides = dict(zip(zip(effects.what, effects.evidence), as_estimates(effects)))
    signs = {
        "Top-k names objects of the top images beyond coincidence": sides["context: Top-k - coincidence", BOTH],
        "it does so beyond Steering, which sees no images": sides["context: Top-k - Steering", BOTH],
    }
    for e in _slope(slopes, "Top-k, both"):
        signs["its share grows with the co-occurrence"] = e
    seen = [e for e in signs.values() if side(e) > 0]
    verdict = "is shown" if len(seen) == len(signs) else "is not established" if seen else "is not shown"
    tell = {1: "seen", 0: "not shown", -1: "the opposite is seen"}
    parts = "; ".join(f"{sign}, {tell[side(e)]} ({number(e)}, n = {e.n})" for sign, e in signs.items())
    return (
        f"That its pictures make Top-k name what stands in front of a background {verdict} here. "
        f"Of {len(signs)} signs, {len(seen)} seen: {parts}."
    )


def by_evidence(effects: pd.DataFrame, slopes: pd.DataFrame) -> str:
    """Two of the signs for each kind of evidence alone."""
    sides = dict(zip(zip(effects.what, effects.evidence), as_estimates(effects)))
    parts = []
    for mode, method in zip(MODES, TOP_K):
        told = [f"Top-k minus Steering {number(sides['context: Top-k - Steering', mode])}"]
        told += [f"most minus least co-occurrence {number(e)}" for e in _slope(slopes, method.key)]
        parts.append(f"{mode}, {', '.join(told)}")
    return f"Context by kind of evidence, which no claim named in advance: {'; '.join(parts)}."


def _slope(slopes: pd.DataFrame, method: str) -> list[Estimate]:
    """The response to the dose of one method with the dictionary fixed, if there is one."""
    if slopes.empty:
        return []
    return as_estimates(slopes[(slopes.dictionary == "fixed") & (slopes.method == method)])


def findings(effects: pd.DataFrame, base: pd.DataFrame) -> list[str]:
    """What the answer rests on, in words: from ``bias_truth_effects`` and ``base_rates`` of :mod:`lib.studies.bias`."""
    sides = dict(zip(zip(effects.what, effects.evidence), as_estimates(effects)))
    rates = dict(zip(base.what, base.estimate))
    anything, context = "Background latents explained by any object", "Background latents explained by context"
    lines = [
        contrast(f"{anything}, {mode}", "Top-k", "Steering", sides["object: Top-k - Steering", mode]) for mode in MODES
    ]
    hybrid = sides["context: Top-k - hybrid", BOTH]
    lines.append(contrast(f"{context}, both kinds of evidence", "Top-k", "Steering-informed Top-k", hybrid))
    blind = sides["context: Steering - coincidence", "blank"]
    lines.append(contrast(context, "Steering, which sees no images,", "coincidence", blind))
    prior = contrast(anything, "Steering", "the prior", sides["object: Steering - random directions", "blank"])
    names, places = (rates[f"random directions: {level}"] for level in ("object", "place"))
    lines.append(
        f"{prior} The prior names an object in a share of {names:.3f} of all answers, a place in {places:.3f}."
    )
    return lines


def selection_findings(selection: pd.DataFrame, effects: pd.DataFrame) -> list[str]:
    """What Table 2's selection shows, and what it holds, in words: of the first model.

    Parameters
    ----------
    selection, effects : from ``bias_selection`` and ``bias_table`` of :mod:`lib.studies.bias`.
    """
    model = selection.model.iloc[0]
    own = effects[(effects.model == model) & (effects.what == "animal: Top-k - Steering")]
    shares = "; ".join(f"{mode} {number(e)}, n = {e.n}" for mode, e in zip(own.evidence, as_estimates(own)))
    lines = [f"The paper's selection, share explained by an animal, Top-k minus Steering: {shares}."]
    held = selection[selection.model == model]
    parts = []
    for row in held.to_dict("records"):
        ground = row.get("true backgrounds", np.nan)
        truth = "" if np.isnan(ground) else f", {ground:.0f} are true backgrounds"
        parts.append(
            f"{row['evidence']}: of {row['selected']} latents {row[LARGER]} have a strictly larger IoU under Steering, "
            f"{row['same text']} the same text by both{truth}"
        )
    return [*lines, f"What it holds: {'; '.join(parts)}."]
