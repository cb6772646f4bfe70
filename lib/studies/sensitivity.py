"""What if we had chosen otherwise? One thing changed at a time, on test latents; nothing is chosen here."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image

from lib.effects import COMPOSITE, as_estimates, column, effect, with_composites
from lib.findings import contrast, number
from lib.images import BLANK
from lib.methods import STEERING, TOP_K, Method, trio
from lib.metrics import metrics_of
from lib.run import Run
from lib.stats import difference

POOLED = "black and noise"  # the two that footnote 4 names, each latent's mean over both
TOLD = {"black": "true black", "grey": "grey (called black in the paper's code)"}


def by_coefficient(run: Run, latents: list[int], method: Method) -> pd.DataFrame:
    """A steered method at every coefficient, scored: how much does the choice matter?"""
    wanted = [run.variation(method.at(c)) for c in run.choice(method).tried]
    return run.score(pd.concat(run.answers(wanted, latents), ignore_index=True))


def by_k(run: Run, latents: list[int]) -> pd.DataFrame:
    """Top-k (masks) with other numbers of top images, scored; column ``k``."""
    numbers = sorted({*run.profile.study.k, run.profile.explain.k})
    tables = run.answers([run.variation(TOP_K.masks, k=k) for k in numbers], latents)
    return run.score(pd.concat([table.assign(k=k) for table, k in zip(tables, numbers)], ignore_index=True))


def by_layer(run: Run) -> pd.DataFrame:
    """Three methods on every layer of the subject that the profile has a variant for, scored; column ``layer``.

    Each layer has a dictionary of its own, and coefficients chosen for it.
    """
    subject = run.profile.subject
    others = [run.changed(name) for name in run.profile.variants]
    layers = {one.profile.subject.layer: one for one in others if one.profile.subject.model == subject.model}
    layers[subject.layer] = run
    tables = [one.results(trio("masks")).assign(layer=layer) for layer, one in sorted(layers.items())]
    return pd.concat(tables)


def base_images(seed: int) -> dict[str, Image.Image]:
    """What Steering may look at: nothing, in white, black and grey, or noise (footnote 4).

    The paper's public code calls a picture black whose *normalised* pixels are near zero: that is ``grey``.
    """
    noise = np.random.default_rng([seed, 11]).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    plain = {name: Image.new("RGB", BLANK.size, name) for name in ("white", "black", "grey")}
    return {**plain, "noise": Image.fromarray(noise)}


def by_base_image(run: Run, latents: list[int]) -> pd.DataFrame:
    """Steering on different empty pictures, scored; columns ``base``, ``steer``.

    A replacement overwrites every position of the layer, so that nothing of the picture is left above it: it is asked
    about once, with ``any`` as its base.
    """
    adding, replacing = map(run.at_best, (STEERING.add, STEERING.replace))
    bases = base_images(run.profile.seed)
    wanted = [*(run.variation(adding, blank=picture) for picture in bases.values()), run.variation(replacing)]
    named = zip(run.answers(wanted, latents), (*bases, "any"), wanted)
    tables = [table.assign(base=base, steer=asked.method.steer) for table, base, asked in named]
    return run.score(pd.concat(tables, ignore_index=True))


def base_effects(scored: pd.DataFrame) -> pd.DataFrame:
    """Steering (adding) on every other picture minus on a white one, over the same latents: ``base, steer, metric``...

    The claim's effect is the row ``black and noise`` of the ``composite``: for each latent the mean over both pictures,
    in standard deviations of all scores here.
    """
    table = with_composites(scored[scored.steer == "add"])
    others = [base for base in dict.fromkeys(table.base) if base != "white"]
    rows = []
    for metric in (*metrics_of(table), COMPOSITE):
        on = {base: column(table[table.base == base], metric) for base in ("white", *others)}
        pairs = {base: on[base] for base in others} | {POOLED: (on["black"] + on["noise"]) / 2}
        for base, value in pairs.items():
            rows.append({"base": base, "steer": "add", "metric": metric, **effect(difference(value, on["white"]))})
    return pd.DataFrame(rows)


def findings(bases: pd.DataFrame, steers: pd.DataFrame, layers: pd.DataFrame) -> list[str]:
    """Sentences for notebook 16.

    Parameters
    ----------
    bases : from :func:`base_effects`.
    steers : replacing (``first``) minus adding (``second``): methods' keys, ``metric``, and the effect.
    layers : means by ``method, layer, metric``, of other latents in every layer.
    """
    lines = []
    composite = bases[bases.metric == COMPOSITE]
    for row, e in zip(composite.itertuples(), as_estimates(composite)):
        name = TOLD.get(row.base, row.base)
        lines.append(contrast("Steering, all metrics in standard deviations", name, "white", e))
    part = steers[steers.metric == "iou"]
    for row, e in zip(part.itertuples(), as_estimates(part)):
        lines.append(contrast("IoU", row.first, row.second, e))
    for key, part in layers[layers.metric == "iou"].groupby("method", sort=False):
        pairs = zip(part.itertuples(), as_estimates(part))
        told = ", ".join(f"layer {row.layer} {number(e)} (n = {row.n})" for row, e in pairs)
        lines.append(f"IoU of {key} by layer, other latents in each: {told}.")
    return lines
