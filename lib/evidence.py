"""One streaming pass over an image set: what activates every latent, and where (section 3.1, Eq. 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
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
from lib.sae import TopKSAE
from lib.stage import Stage
from lib.store import read, write_array, write_table, write_tensors
from lib.vlm import VLM

KEEP = 10  # top images kept per latent; up to as many can be shown


@torch.inference_mode()
def encode(vlm: VLM, sae: TopKSAE, images: Sequence[Image.Image]) -> CodeBatch:
    """Codes of a handful of images, held in memory."""
    values, indices = sae.encode_sparse(vlm.residual(images).to(sae.b_dec.device))
    return CodeBatch(torch.arange(len(images), device=values.device), values, indices)


def stream(vlm: VLM, sae: TopKSAE, images: ImageSet, batch: int, desc: str) -> Iterator[CodeBatch]:
    """Codes of an image set, batch by batch; pictures that cannot be read are left out."""
    for first in tqdm(range(0, len(images), batch), desc=desc, mininterval=5):
        indices, pictures = readable(images, range(first, min(first + batch, len(images))))
        if pictures:
            yield replace(encode(vlm, sae, pictures), images=torch.tensor(indices, device=DEVICE))


class TopImages:
    """Keeps, for every latent, the images with the highest scores, and their heatmaps.

    Memory does not depend on the number of images: ``latents x keep x patches``. A heatmap stays where it was
    written until its image falls out: only ``slot`` says which place it has, since most batches change little.

    Parameters
    ----------
    latents, keep, patches : sizes.
    limit : images beyond this index are not looked at.
    device : where it is kept; that of the codes.
    """

    def __init__(
        self, latents: int, keep: int, patches: int, limit: int | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.limit = limit
        self.score = torch.zeros(latents, keep, device=device)
        self.image = torch.full((latents, keep), -1, device=device)  # -1: no image yet
        self.slot = torch.arange(keep, device=device).repeat(latents, 1)  # of each place: its row of `heat`
        self.heat = torch.zeros(latents, keep, patches, device=device)
        self.fired = torch.zeros(latents, dtype=torch.long, device=device)  # images in which the latent is active
        self.patches = torch.zeros(latents, dtype=torch.long, device=device)  # patches in which it is

    def see(self, codes: CodeBatch) -> None:
        """Merge a batch into the kept images; of equal scores the earlier image wins."""
        if self.limit is not None:
            codes = codes.part(codes.images < self.limit)
        latents, keep = self.score.shape
        new = codes.scores(latents).T  # [latents, n]
        self.fired += (new > 0).sum(1)
        self.patches += torch.bincount(codes.indices[codes.values > 0], minlength=latents)
        if not len(codes.images):
            return
        some = torch.nonzero(new.amax(1) > self.score[:, -1]).flatten()  # latents of which an image is replaced
        image = codes.images.expand(len(some), -1)
        score, order = torch.cat([self.score[some], new[some]], 1).sort(dim=1, descending=True, stable=True)
        score, order = score[:, :keep], order[:, :keep]
        fresh = (order >= keep) & (score > 0)
        self.score[some] = score
        self.image[some] = torch.cat([self.image[some], image], 1).gather(1, order).masked_fill(score <= 0, -1)
        self.slot[some] = slot = _slots(self.slot[some], order)
        latent, place = torch.nonzero(fresh, as_tuple=True)
        rows = some[latent] * keep + slot[latent, place]
        codes.draw(self.heat.flatten(0, 1), order[latent, place] - keep, some[latent], rows)

    def result(self) -> Evidence:
        """What was kept; places for which no image activated the latent hold image -1."""
        heat = self.heat.gather(1, self.slot[..., None].expand_as(self.heat)).masked_fill_(self.image[..., None] < 0, 0)
        kept = (self.score, self.image, heat, self.fired, self.patches)
        return Evidence(*(tensor.cpu() for tensor in kept))


def _slots(old: Tensor, order: Tensor) -> Tensor:
    """Which row of the heatmaps each place has after a merge: kept images keep theirs, others take what is free.

    Parameters
    ----------
    old : ``[latents, keep]``, rows before.
    order : ``[latents, keep]``, which one each place's image was: of the old places, or, from ``keep`` on, a new one.
    """
    keep = old.shape[1]
    kept = order < keep
    slot = old.gather(1, order.clamp_max(keep - 1))
    taken = torch.zeros_like(old).scatter_add(1, slot, kept.long())
    free = taken.argsort(dim=1, stable=True)  # those of which none is taken come first
    return torch.where(kept, slot, free.gather(1, ((~kept).cumsum(1) - 1).clamp_min(0)))


class Scores:
    """Keeps all image activation scores of a few images, for the negatives of AUROC.

    Parameters
    ----------
    latents : size of the dictionary.
    wanted : indices of the images.
    """

    def __init__(self, latents: int, wanted: Sequence[int]) -> None:
        self.row = {int(image): row for row, image in enumerate(wanted)}
        self.scores = torch.zeros(len(self.row), latents)

    def see(self, codes: CodeBatch) -> None:
        """Take the wanted images out of a batch."""
        here = codes.images.tolist()
        rows = [i for i, image in enumerate(here) if image in self.row]
        if rows:
            self.scores[[self.row[here[i]] for i in rows]] = codes.part(rows).scores(self.scores.shape[1]).cpu()


@dataclass(frozen=True)
class Evidence:
    """The top images of every latent, best first.

    Attributes
    ----------
    score : image activation scores (Eq. 3), ``[latents, keep]``.
    image : indices into the image set, -1 where there is none, ``[latents, keep]``.
    heat : codes of every patch of those images, ``[latents, keep, patches]``.
    fired : number of images in which each latent is active, ``[latents]``.
    patches : number of patches in which each latent is active, ``[latents]``.
    """

    score: Tensor
    image: Tensor
    heat: Tensor
    fired: Tensor
    patches: Tensor

    def save(self, path: Path) -> Path:
        """Write as safetensors."""
        return write_tensors(path, vars(self))

    @classmethod
    def load(cls, path: Path) -> Evidence:
        """Read what :meth:`save` wrote."""
        return cls(**read(path))

    def grid(self, latent: int, place: int) -> Tensor:
        """Heatmap of one top image as a square: ``[rows, columns]``."""
        heat = self.heat[latent, place]
        side = round(len(heat) ** 0.5)
        return heat.reshape(side, side)


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

    def make(self, vlm: VLM) -> None:
        """Encode every picture once, under the eyes of all who keep something of it; unless that is done."""
        if self.made:
            return
        with self.making():
            sae, patches = self.dictionary.sae, vlm.patches
            m = sae.encoder.out_features
            top, *smaller = (TopImages(m, KEEP, patches, n, DEVICE) for n in (None, *self.sizes))
            scores = Scores(m, self.negative_images)
            counter = self.images.counter(m) if self.truth else None
            codes = stream(vlm, sae, self.images, self.dictionary.subject.batch, "evidence")
            watch(codes, top, *smaller, scores, *([counter] if counter else []))
            for n, part in zip(self.sizes, smaller):
                part.result().save(self.path(f"top-{n}.safetensors"))
            if counter:
                counter.result().save(self.path("truth.safetensors"))
            write_array(self.path("negatives.npy"), scores.scores.numpy())
            write_table(self.path("pictures.parquet"), pd.DataFrame({"picture": [str(i) for i in self.images.ids]}))
            top.result().save(self.path("top.safetensors"))

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
