"""What if we had chosen otherwise? One thing changed at a time, on test latents; nothing is chosen here."""

from __future__ import annotations

import numpy as np
import pandas as pd
from PIL import Image

from lib.images import BLANK
from lib.methods import STEERING, TOP_K, Method, trio
from lib.run import Run


def by_coefficient(run: Run, latents: list[int], method: Method) -> pd.DataFrame:
    """A steered method at every coefficient, scored: how much does the choice matter?"""
    tables = [run.explanations(method.at(c), latents) for c in run.choice(method).grid]
    return run.score(pd.concat(tables, ignore_index=True))


def by_k(run: Run, latents: list[int]) -> pd.DataFrame:
    """Top-k (masks) with other numbers of top images, scored; column ``k``."""
    numbers = sorted({*run.profile.study.k, run.profile.explain.k})
    tables = [run.explanations(TOP_K.masks, latents, k=k).assign(k=k) for k in numbers]
    return run.score(pd.concat(tables, ignore_index=True))


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
    """What Steering may look at: nothing, in white, black and grey, or noise (footnote 4)."""
    noise = np.random.default_rng([seed, 11]).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    plain = {name: Image.new("RGB", BLANK.size, name) for name in ("white", "black", "grey")}
    return {**plain, "noise": Image.fromarray(noise)}


def by_base_image(run: Run, latents: list[int]) -> pd.DataFrame:
    """Steering on different empty pictures, both kinds of intervention, scored; columns ``base``, ``steer``."""
    tables = [
        run.explanations(method, latents, blank=picture).assign(base=base, steer=method.steer)
        for base, picture in base_images(run.profile.seed).items()
        for method in map(run.at_best, STEERING)
    ]
    return run.score(pd.concat(tables, ignore_index=True))
