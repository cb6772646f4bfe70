"""Scaling on paper: hours, money and storage of explaining *all* latents of ever larger dictionaries on ever more GPUs.

The prices of the stages are those of the plan (:mod:`lib.plan.hours`), for a profile whose machine is one GPU.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import pandas as pd

from lib.kept import KEEP
from lib.methods import STEERING, TOP_K, Method
from lib.plan.hours import MEANING, Prices, explanation_cost, told, training_cost
from lib.profile import Profile, load
from lib.settings import find
from lib.store import note

LATENTS = (8192, 65_536, 1_048_576)
GPUS = (1, 4, 64)
COMPARED = (STEERING.add, TOP_K.masks)  # the hybrid costs as much as Top-k, but for the sweep of its coefficient
# Assumptions: no fact among them. Change them here.
USD = (2.0, 4.0)  # an H100 for an hour, rented without commitment: from, to, in US dollars (November 2026)
TRAINING = 1_281_167  # images to train on, where the profile has a released dictionary: ImageNet once (appendix A)
BATCH = 8192  # patches in a training step (appendix A)
PAPER = 6.0  # hours that a Gemma 3 dictionary of 8192 latents took to train on one H100, "approximately" (the paper)


class Stages(NamedTuple):
    """GPU-hours of each stage."""

    dictionary: float
    evidence: float
    explanations: float
    scores: float

    def wall(self, gpus: int) -> float:
        """Hours until all is done: one GPU trains the dictionary, then all share images and latents alike."""
        return self.dictionary + self.spread / gpus

    @property
    def spread(self) -> float:
        """GPU-hours of what any number of GPUs can share."""
        return sum(self[1:])

    @property
    def enough(self) -> float:
        """So many GPUs take as long for what they share as one takes for the dictionary; more hardly help."""
        return self.spread / self.dictionary


def priced(name: str) -> Profile:
    """A profile by name, to be priced; a page that shows its prices is out of date when its file changes."""
    note("used", find(name))
    return load(name)


def stages(profile: Profile, latents: int, method: Method) -> Stages:
    """What it takes to train a dictionary, and to explain and score all of its latents by one method.

    Evidence: a method that shows top images searches the explanation set; the held-out set, from which scores come,
    is searched for every method.

    Raises
    ------
    ValueError
        If the shape of the profile's model is not known.
    """
    p, images = _prices(profile, latents), profile.images
    searched = images.evaluate + (0 if method.evidence == "blank" else images.explain)
    flops = (
        training_cost(p, _learnt_from(profile)),
        searched * p.see,
        explanation_cost(p, (method,), latents),
        latents * p.score,
    )
    return Stages(*(f / (profile.hardware.tflops * 3.6e15) for f in flops))


def _learnt_from(profile: Profile) -> int:
    return profile.images.train or TRAINING


def _prices(profile: Profile, latents: int) -> Prices:
    p = Prices.of(profile.variant({"sae.latents": latents}))
    if p is None:
        raise ValueError(f"the shape of {profile.subject.model} is not known: data/paper/assets.yaml has no row for it")
    return p


def hours(profile: Profile) -> pd.DataFrame:
    """A row for each method, size and number of GPUs: hours of each stage, and GPU-hours.

    ``hours``: until all is done. ``speedup``: over one GPU. ``gpu_hours``: of GPUs that work; ``held_gpu_hours``: of
    all GPUs, if they are held while one of them trains the dictionary. Dollars: the same, from and to.
    """
    rows = []
    for method in COMPARED:
        for latents in LATENTS:
            s = stages(profile, latents, method)
            for gpus in GPUS:
                shared = {stage: value / gpus for stage, value in s._asdict().items()}
                rows.append(
                    {
                        "method": method.family,
                        "latents": latents,
                        "gpus": gpus,
                        **shared | {"dictionary": s.dictionary},
                        "hours": s.wall(gpus),
                        "speedup": s.wall(1) / s.wall(gpus),
                        **_paid("", sum(s)),
                        **_paid("held_", gpus * s.wall(gpus)),
                    }
                )
    return pd.DataFrame(rows)


def _paid(which: str, hours: float) -> dict[str, float]:
    return {f"{which}gpu_hours": hours, f"{which}usd_low": hours * USD[0], f"{which}usd_high": hours * USD[1]}


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """What :func:`hours` returns as people read it: two digits, and dollars from low to high."""
    shown = table.assign(**table.loc[:, "latents":].map(told))
    for which in ("", "held_"):
        low, high = f"{which}usd_low", f"{which}usd_high"
        shown[low] = shown[low] + " to " + shown[high]
        shown = shown.drop(columns=high).rename(columns={low: f"{which}usd"})
    return shown


def assumptions(profile: Profile) -> str:
    """What the numbers of :func:`hours` rest on: the note under the table."""
    return (
        f"Profile {profile.name}: every latent of the dictionary is explained and scored. Assumed: "
        f"{profile.hardware.tflops:g} TFLOP/s sustained on each GPU; {USD[0]:g} to {USD[1]:g} US dollars for a "
        f"GPU-hour (November 2026); {_learnt_from(profile):,} images train a dictionary, whatever its size, on one "
        f"GPU; all else spreads over all GPUs without loss. {MEANING}"
    )


def storage(profile: Profile) -> pd.DataFrame:
    """10^9 bytes that grow with the dictionary, in single precision, a row for each size.

    ``dictionary_gb``: encoder and directions; ``training_gb``: with gradients and Adam's two moments; ``codes_gb``: of
    the patches of one step, before the largest are chosen; ``evidence_gb``: heatmaps of the top images of one set.
    """
    shape, rows = _prices(profile, LATENTS[0]).shape, []
    for latents in LATENTS:
        weights, patches = 2 * latents * shape.vision_width, math.isqrt(shape.tokens) ** 2  # no class token
        entries = {
            "dictionary_gb": weights,
            "training_gb": 4 * weights,
            "codes_gb": BATCH * latents,
            "evidence_gb": latents * KEEP * patches,
        }
        rows.append({"latents": latents, **{name: 4 * n / 1e9 for name, n in entries.items()}})
    return pd.DataFrame(rows)
