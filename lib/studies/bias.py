"""Contextual bias: a background feature that is explained by what stands in front of it (section 5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pandas as pd

from lib.effects import effect
from lib.evidence import Active, Gathered
from lib.judges import Reader
from lib.methods import HYBRID, MODES, STEERING, TOP_K, Mode, trio
from lib.run import Run
from lib.scenes.catalogue import OBJECTS
from lib.scenes.images import SceneImages
from lib.scenes.truth import Truth
from lib.stats import bootstrap, difference

LABELS = ("background", "animal", "other")
LEVELS = ("low-level", "place", "object", "unreadable")
DOSED = (STEERING.add, *TOP_K, HYBRID.heatmaps_add)  # the methods whose response to the dose is measured


def background_latents(truth: Truth, latents: Sequence[int], purity: float = 0.8) -> list[int]:
    """The latents of which at least ``purity`` of the activation lies on surfaces, not on objects."""
    mass = truth.mass[list(latents)]  # [latents, atoms]
    share = mass[:, len(OBJECTS) :].sum(1) / mass.sum(1).clamp_min(1e-12)
    return [latent for latent, s in zip(latents, share.tolist()) if s >= purity]


def largest_differences(scored: pd.DataFrame, mode: Mode, n: int = 300) -> list[int]:
    """The latents with the largest IoU of Steering minus IoU of Top-k (section 5.1), at most a third of all.

    The paper takes 300 of several thousand; a third keeps it a selection when there are few.
    """
    steering, top_k, _ = trio(mode)
    wide = scored[scored.control == ""].pivot(index="latent", columns="method", values="iou")
    order = (wide[steering.key] - wide[top_k.key]).sort_values(ascending=False, kind="stable").index
    return [int(latent) for latent in order[: min(n, max(1, len(order) // 3))]]


def bias_table(
    scored: dict[str, pd.DataFrame], paper: pd.DataFrame, reader: Reader
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table 2 for several models: shares of each label, and the differences of the animal shares.

    Parameters
    ----------
    scored : model -> scored explanations.
    paper : the published Table 2; it need not have every model.
    reader : says what an explanation is about.
    """
    rows, effects = [], []
    for model, table in scored.items():
        for mode in MODES:
            chosen, methods = largest_differences(table, mode), trio(mode)
            own = table[(table.control == "") & table.latent.isin(chosen)].sort_values("latent")
            reader.prepare("label", own.explanation)
            labels = {m: own[own.method == m.key].explanation.map(reader.label).to_numpy() for m in methods}
            theirs = paper[(paper.model == model) & (paper.evidence == mode)].set_index("method").percent / 100
            for method, found in labels.items():
                published = f"{theirs[method.family]:.3f}" if method.family in theirs else "-"
                shares = {what: str(bootstrap(found == what)) for what in LABELS}
                names = {"model": model, "evidence": mode, "method": method.family}
                rows.append({**names, **shares, "animal, paper": published, "n": len(found)})
            steering, top_k, hybrid = methods
            for other in (steering, hybrid):
                what = {"what": f"animal: Top-k - {other.short}", "model": model, "evidence": mode}
                less = difference(labels[top_k] == "animal", labels[other] == "animal")
                effects.append({**what, **effect(less)})
    return pd.DataFrame(rows), pd.DataFrame(effects)


def shown_at(run: Run, dose: float) -> Gathered:
    """Evidence from a set in which objects stand in their habitats with chance ``dose``; all else is as ever."""
    mix = replace(run.world.mix, cooccurrence=dose)
    images = SceneImages(run.profile.seed + 3, 0, run.profile.study.dose_images, mix)
    return Gathered(run.dictionary.home, run.dictionary, images)


def dose_response(run: Run, latents: list[int]) -> pd.DataFrame:
    """Explanations of background latents when their top images come from worlds of growing co-occurrence.

    The dictionary, the latents and the world's other knobs stay. Steering sees no images, so with a
    fixed dictionary it cannot change; see :func:`worlds` for dictionaries that grew up in the world.

    Returns
    -------
    One row per latent, dose and method, with ``biased``: the explanation names an object.
    """
    tables = []
    for dose in run.profile.study.doses:
        shown = shown_at(run, dose)
        shown.make(lambda: run.vlm)
        for method in map(run.at_best, DOSED):
            tables.append(run.explanations(method, latents, shown=shown).assign(dose=dose))
    return _with_bias(tables, run)


def worlds(run: Run) -> pd.DataFrame:
    """As :func:`dose_response`, with a dictionary trained in each world; its own background latents.

    Coefficients are those of the main run, so that the world alone differs.
    """
    tables, wanted, n = [], run.profile.study.latents, run.profile.study.dose_images
    for dose in run.profile.study.worlds:
        sizes = {"images.train": 2 * n, "images.explain": n, "images.evaluate": n}
        world = run.changed({"images.cooccurrence": dose, **sizes})
        world.dictionary.make(world.vlm)
        world.gather()
        # No coefficient is chosen here, so no latent is set apart for it.
        active = Active(world.shown, world.held_out, world.profile.explain.min_images, 0, 2 * wanted)
        latents = background_latents(world.truth, active.latents["test"])[:wanted]
        for method in map(run.at_best, DOSED):
            tables.append(world.explanations(method, latents).assign(dose=dose))
    return _with_bias(tables, run)


def _with_bias(tables: list[pd.DataFrame], run: Run) -> pd.DataFrame:
    table = pd.concat(tables, ignore_index=True)
    return table.assign(biased=[run.world.reader.level(text) == "object" for text in table.explanation])


def dose_effects(table: pd.DataFrame) -> pd.DataFrame:
    """Share of biased explanations at the highest dose minus that at the lowest, over the same latents."""
    low, high = table.dose.min(), table.dose.max()
    rows = []
    for method, part in table.groupby("method", sort=False):
        a, b = (part[part.dose == d].set_index("latent").biased.astype(float) for d in (high, low))
        rows.append({"what": "slope", "method": method, **effect(difference(a, b.reindex(a.index)))})
    return pd.DataFrame(rows)
