"""Where a text and a latent meet: IoU of what the one names and where the other is active (Eq. 7 and 8)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from PIL import Image

from lib.images import UnreadableImage
from lib.judges import Segmenter
from lib.kept import Evidence
from lib.overlay import upsample
from lib.spread import spread


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boolean masks (Eq. 8); 0 if both are empty."""
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 0.0


Where = tuple[Evidence, Segmenter, Sequence[int]]  # top images, what finds things in them, and which places count
AT_ONCE = 8  # latents in a shard: a segmenter that is a model takes minutes for them


@dataclass(frozen=True)
class Places:
    """A latent, what is said of it, and its top images: number of the segmenter, image, and where it is active."""

    latent: int
    texts: tuple[str, ...]
    images: tuple[tuple[int, int, np.ndarray], ...]


@dataclass(frozen=True)
class Overlap:
    """Comparing what texts name with where latents are active.

    Attributes
    ----------
    segmenters : find what texts name.
    first_only : whether the first thing that is found counts alone.
    """

    segmenters: tuple[Segmenter, ...]
    first_only: bool = False
    model: ClassVar[None] = None

    def __call__(self, shard: Sequence[Places], load: Callable[[], Any]) -> dict[tuple[int, str], float]:
        """Mean IoU of every latent and text; NaN if no image that can be read activates the latent."""
        found = {}
        for places in shard:
            scores: dict[str, list[float]] = {text: [] for text in places.texts}
            for number, image, active in places.images:
                try:
                    masks = [self.segmenters[number].segment(text, image, self.first_only) for text in scores]
                except UnreadableImage:
                    continue  # the set has noted it
                active = upsample(active, masks[0].shape, Image.Resampling.NEAREST) > 0.5
                for values, mask in zip(scores.values(), masks):
                    values.append(iou(mask, active))
            found |= {(places.latent, text): float(np.mean(values or [np.nan])) for text, values in scores.items()}
        return found


def mean_ious(explanations: pd.DataFrame, sets: Sequence[Where], first_only: bool = False) -> np.ndarray:
    """IoU between what each text names and where its latent is active, the mean over the latent's top images: ``[n]``.

    The latent's mask is code > 0, upsampled to pixels (Eq. 7 and 8). NaN if no image activates the latent. It goes
    latent by latent and image by image, since a segmenter that embeds pictures then embeds each of them once.

    Parameters
    ----------
    explanations : a table with columns ``latent`` and ``explanation``; equal rows are scored once.
    sets : the images are those of all sets together.
    first_only : whether the first thing that is found counts alone, as in the published protocol.
    """
    for _, segmenter, _ in sets:
        segmenter.prepare(explanations.explanation)
    every = []
    for latent, part in explanations.groupby("latent", sort=False):
        images = tuple(
            (number, image, evidence.grid(latent, place).numpy() > 0)
            for number, (evidence, _, places) in enumerate(sets)
            for place in places
            if (image := int(evidence.image[latent, place])) >= 0
        )
        every.append(Places(int(latent), tuple(dict.fromkeys(part.explanation)), images))
    work = Overlap(tuple(segmenter for _, segmenter, _ in sets), first_only)
    shards = [every[first : first + AT_ONCE] for first in range(0, len(every), AT_ONCE)]
    found: dict[tuple[int, str], float] = {}
    for part in spread(work, shards, lambda: None, "IoU"):
        found |= part
    return np.array([found[pair] for pair in zip(explanations.latent, explanations.explanation)])
