"""One streaming pass over an image set: what activates every latent, and where (section 3.1, Eq. 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from lib.codes import CodeBatch, watch
from lib.device import DEVICE
from lib.dictionary import Dictionary
from lib.identity import NOT_PART
from lib.images import ImageSet, readable
from lib.kept import KEEP, Evidence, Scores, Seen, TopImages
from lib.sae import TopKSAE
from lib.spread import spread
from lib.stage import Stage
from lib.store import write_array, write_table
from lib.vlm import VLM, Checkpoint

STRETCH = 1024  # pictures in a shard, about: what is kept of them must be small beside the work of encoding them


@torch.inference_mode()
def encode(vlm: VLM, sae: TopKSAE, images: Sequence[Image.Image]) -> CodeBatch:
    """Codes of a handful of images, held in memory."""
    values, indices = sae.encode_sparse(vlm.residual(images).to(sae.b_dec.device))
    return CodeBatch(torch.arange(len(images), device=values.device), values, indices)


def stream(
    vlm: VLM, sae: TopKSAE, images: ImageSet, batch: int, desc: str, part: range | None = None
) -> Iterator[CodeBatch]:
    """Codes of an image set, or of a ``part`` of it, batch by batch; pictures that cannot be read are left out."""
    part = range(len(images)) if part is None else part
    for first in tqdm(range(0, len(part), batch), desc=desc, mininterval=5):
        indices, pictures = readable(images, part[first : first + batch])
        if pictures:
            yield replace(encode(vlm, sae, pictures), images=torch.tensor(indices, device=DEVICE))


@dataclass(frozen=True)
class Gathered(Stage):
    """What one pass over an image set has left of every latent of a dictionary.

    Attributes
    ----------
    dictionary : whose latents.
    images : the set; indices into it are kept, and under its listing.
    sizes : smaller sets, each a stretch at the start of the whole, whose top images are kept, too.
    negatives : random pictures of which all scores are kept, for AUROC.
    truth : whether it is counted what every latent is really active on, where that is known.
    seed : chooses the negatives.
    """

    title: ClassVar[str] = "evidence"
    notebook: ClassVar[str] = "03"
    dictionary: Dictionary
    images: ImageSet
    sizes: tuple[int, ...] = field(default=(), metadata=NOT_PART)  # one more is one more file, and changes no other
    negatives: int = 0
    truth: bool = False
    seed: int = 0

    def make(self, load: Callable[[], VLM]) -> None:
        """Encode every picture once, under the eyes of all who keep something of it; unless that is done.

        Parameters
        ----------
        load : gives the subject.
        """
        if self.made:
            return
        with self.making():
            size = self.dictionary.subject.batch
            step = size * -(-STRETCH // size)  # whole batches: every picture is in the same one whoever encodes it
            n = len(self.images)
            parts = spread(Look(self), [range(i, min(i + step, n)) for i in range(0, n, step)], load, "evidence")
            seen = next(parts)
            scores = Scores(seen.scores.scores.shape[1], self.negative_images)
            scores.merge(seen.scores)
            seen.scores = scores
            for part in parts:
                seen.merge(part)
            for n, part in seen.smaller.items():
                part.result().save(self.path(f"top-{n}.safetensors"))
            if seen.truth:
                seen.truth.result().save(self.path("truth.safetensors"))
            write_array(self.path("negatives.npy"), seen.scores.scores.numpy())
            write_table(self.path("pictures.parquet"), pd.DataFrame({"picture": [str(i) for i in self.images.ids]}))
            seen.top.result().save(self.path("top.safetensors"))

    @property
    def files(self) -> list[str]:
        """Top images of all sets, negatives, what the pictures are called, and the truth if it is counted."""
        truth = ["truth.safetensors"] if self.truth else []
        return [
            "top.safetensors",
            *(f"top-{n}.safetensors" for n in self.sizes),
            "negatives.npy",
            "pictures.parquet",
            *truth,
        ]

    @cached_property
    def top(self) -> Evidence:
        """The top images of every latent."""
        return Evidence.load(self.need("top.safetensors"))

    def top_of(self, n: int | None) -> Evidence:
        """The top images among the first ``n`` pictures (one of ``sizes``); None for the whole set."""
        return self.top if n is None else Evidence.load(self.need(f"top-{n}.safetensors"))

    @cached_property
    def negative_images(self) -> list[int]:
        """The pictures that are negatives of AUROC, by index."""
        n = len(self.images)
        rng = np.random.default_rng([self.seed, 5])
        return sorted(rng.choice(n, min(self.negatives, n), replace=False).tolist())

    @cached_property
    def negative_scores(self) -> Tensor:
        """Image activation scores of the negatives, ``[n, latents]``."""
        return torch.from_numpy(self.read("negatives.npy"))


@dataclass(frozen=True)
class Look:
    """Looking at stretches of an image set.

    Attributes
    ----------
    gathered : what the set is, and what is kept of it.
    """

    gathered: Gathered

    @property
    def model(self) -> Checkpoint:
        """The subject."""
        return self.gathered.dictionary.subject

    def __call__(self, shard: range, load: Callable[[], VLM]) -> Seen:
        """What is kept of one stretch."""
        stage, vlm = self.gathered, load()
        sae = stage.dictionary.sae
        m, patches = sae.encoder.out_features, vlm.patches
        seen = Seen(
            TopImages(m, KEEP, patches, device=DEVICE),
            {n: TopImages(m, KEEP, patches, n, DEVICE) for n in stage.sizes},
            Scores(m, [i for i in stage.negative_images if i in shard]),
            stage.images.counter(m) if stage.truth else None,
        )
        codes = stream(vlm, sae, stage.images, stage.dictionary.subject.batch, "look", shard)
        watch(codes, seen.top, *seen.smaller.values(), seen.scores, *([seen.truth] if seen.truth else []))
        return seen


class TooFewLatents(ValueError):
    """A dictionary with fewer active latents than are to be explained."""


@dataclass(frozen=True)
class Active:
    """Which latents are explained: those that fire on enough pictures of both sets, in order.

    Attributes
    ----------
    shown, held_out : the evidence that explainers see, and that which scores come from.
    min_images : pictures of each set on which a latent must fire.
    validation, test : how many choose coefficients, and how many report.
    """

    shown: Gathered
    held_out: Gathered
    min_images: int
    validation: int
    test: int = field(metadata=NOT_PART)  # of no influence on those that choose

    @cached_property
    def latents(self) -> dict[str, list[int]]:
        """The first choose coefficients (``validation``), the next report (``test``).

        Raises
        ------
        TooFewLatents
            If the dictionary has too few active latents.
        """
        seen = (self.shown.top.fired >= self.min_images) & (self.held_out.top.fired >= self.min_images)
        active = torch.nonzero(seen).flatten().tolist()
        if len(active) < self.validation + self.test:
            raise TooFewLatents(
                f"{len(active)} active latents for {self.validation} validation and {self.test} test latents: lower "
                "explain.test, or raise sae.latents, images.explain or images.evaluate"
            )
        return {"validation": active[: self.validation], "test": active[self.validation : self.validation + self.test]}
