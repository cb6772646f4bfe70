"""One streaming pass over an image set: what activates every latent, and where (section 3.1, Eq. 3)."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import ClassVar

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from lib.codes import CodeBatch
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


def encode(vlm: VLM, sae: TopKSAE, images: Sequence[Image.Image]) -> CodeBatch:
    """Codes of a handful of images, held in memory."""
    return _coded(sae, vlm.residual(images))


@torch.inference_mode()
def _coded(sae: TopKSAE, residual: Tensor) -> CodeBatch:
    values, indices = sae.encode_sparse(residual.to(sae.b_dec.device))
    return CodeBatch(torch.arange(len(residual), device=values.device), values, indices)


def streams(
    vlm: VLM, saes: Sequence[TopKSAE], images: ImageSet, batch: int, desc: str, part: range | None = None
) -> Iterator[list[CodeBatch]]:
    """Codes of an image set, or of a ``part`` of it, batch by batch, by each dictionary.

    However many there are, a picture is encoded once; pictures that cannot be read are left out.
    """
    part = range(len(images)) if part is None else part
    for first in tqdm(range(0, len(part), batch), desc=desc, mininterval=5):
        indices, pictures = readable(images, part[first : first + batch])
        if pictures:
            residual = vlm.residual(pictures)
            yield [replace(_coded(sae, residual), images=torch.tensor(indices, device=DEVICE)) for sae in saes]


def stream(
    vlm: VLM, sae: TopKSAE, images: ImageSet, batch: int, desc: str, part: range | None = None
) -> Iterator[CodeBatch]:
    """As :func:`streams`, by one dictionary."""
    return (codes for (codes,) in streams(vlm, [sae], images, batch, desc, part))


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
        make_all([self], load)

    def keep(self, seen: Seen) -> None:
        """Write what was seen of the whole set."""
        for n, part in seen.smaller.items():
            part.result().save(self.path(f"top-{n}.safetensors"))
        if seen.truth:
            seen.truth.result().save(self.path("truth.safetensors"))
        write_array(self.path("negatives.npy"), seen.scores.scores.numpy())
        write_table(self.path("pictures.parquet"), pd.DataFrame({"picture": [str(i) for i in self.images.ids]}))
        seen.top.result().save(self.path("top.safetensors"))

    def look(self, latents: int, patches: int, shard: range) -> Seen:
        """What will keep something of a stretch: nothing seen yet."""
        return Seen(
            TopImages(latents, KEEP, patches, device=DEVICE),
            {n: TopImages(latents, KEEP, patches, n, DEVICE) for n in self.sizes},
            Scores(latents, [i for i in self.negative_images if i in shard]),
            self.images.counter(latents) if self.truth else None,
        )

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


def make_all(gathered: Sequence[Gathered], load: Callable[[], VLM]) -> None:
    """Gather for several dictionaries of one encoder in one pass over their common pictures; those that are not made.

    Parameters
    ----------
    load : gives the subject.

    Raises
    ------
    ValueError
        If they are about different pictures or encoders.
    """
    new = tuple(stage for stage in gathered if not stage.made)
    if not new:
        return
    first = new[0]
    if any((s.images, s.dictionary.subject) != (first.images, first.dictionary.subject) for s in new):
        raise ValueError("one pass gathers for dictionaries of one encoder, over one set of pictures")
    with ExitStack() as stack:
        for stage in new:
            stack.enter_context(stage.making())
        size = first.dictionary.subject.batch
        step = size * -(-STRETCH // size)  # whole batches: every picture is in the same one whoever encodes it
        n = len(first.images)
        parts = spread(Look(new), [range(i, min(i + step, n)) for i in range(0, n, step)], load, "evidence")
        whole = next(parts)
        for stage, seen in zip(new, whole):
            scores = Scores(seen.scores.scores.shape[1], stage.negative_images)
            scores.merge(seen.scores)
            seen.scores = scores
        for part in parts:
            for seen, later in zip(whole, part):
                seen.merge(later)
        for stage, seen in zip(new, whole):
            stage.keep(seen)


@dataclass(frozen=True)
class Look:
    """Looking at stretches of an image set, with the latents of one or several dictionaries.

    Attributes
    ----------
    gathered : what the set is, and what is kept of it, for each dictionary.
    """

    gathered: tuple[Gathered, ...]

    @property
    def model(self) -> Checkpoint:
        """The subject."""
        return self.gathered[0].dictionary.subject

    def __call__(self, shard: range, load: Callable[[], VLM]) -> list[Seen]:
        """What is kept of one stretch, for each dictionary."""
        vlm, first = load(), self.gathered[0]
        saes = [stage.dictionary.sae for stage in self.gathered]
        kept = [stage.look(sae.encoder.out_features, vlm.patches, shard) for stage, sae in zip(self.gathered, saes)]
        for batch in streams(vlm, saes, first.images, first.dictionary.subject.batch, "look", shard):
            for codes, seen in zip(batch, kept):
                seen.see(codes)
        return kept


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
