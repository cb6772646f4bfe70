"""One streaming pass over an image set: what activates every latent, and where (section 3.1, Eq. 3)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm import tqdm

from lib.photos import readable
from lib.sae import TopKSAE
from lib.store import write_atomically
from lib.vlm import VLM


@dataclass(frozen=True)
class CodeBatch:
    """Sparse codes of a batch of images.

    Attributes
    ----------
    images : index of each image within its set, ``[n_images]``, growing.
    values, indices : active latents of every patch, each ``[n_images, patches, k]``.
    """

    images: Tensor
    values: Tensor
    indices: Tensor

    def scores(self, latents: int) -> Tensor:
        """Image activation scores (Eq. 3), the mean code over patches: ``[n_images, latents]``."""
        n, patches, _ = self.values.shape
        total = torch.zeros(n, latents).scatter_add_(1, self.indices.flatten(1), self.values.flatten(1))
        return total / patches

    def part(self, rows: Tensor | Sequence[int]) -> CodeBatch:
        """Some of the images."""
        return CodeBatch(self.images[rows], self.values[rows], self.indices[rows])

    def heatmap(self, image: Tensor, latent: Tensor) -> Tensor:
        """Codes of pairs of an image in the batch and a latent: ``[pairs]``, ``[pairs]`` to ``[pairs, patches]``."""
        _, patches, k = self.indices.shape
        out = self.values.new_zeros(len(image), patches)
        patch = torch.arange(patches)[:, None].expand(-1, k)
        size = 1 + int(max(latent.max(), self.indices.max())) if len(latent) else 0
        for one in image.unique():
            pairs = torch.nonzero(image == one).flatten()
            # Rows of `out` by latent, so that each code of the image is looked up once, however many pairs there are.
            row = torch.full((size,), -1)
            row[latent[pairs]] = pairs
            rows = row[self.indices[one]]
            out[rows[rows >= 0], patch[rows >= 0]] = self.values[one][rows >= 0]
        return out


@torch.inference_mode()
def encode(vlm: VLM, sae: TopKSAE, images: Sequence[Image.Image]) -> CodeBatch:
    """Codes of a handful of images, held in memory."""
    values, indices = sae.encode_sparse(vlm.residual(images).to(sae.b_dec.device))
    return CodeBatch(torch.arange(len(images)), values.cpu(), indices.cpu())


def stream(vlm: VLM, sae: TopKSAE, images: Sequence[Image.Image], batch: int, desc: str) -> Iterator[CodeBatch]:
    """Codes of an image set, batch by batch; pictures that cannot be read are left out."""
    for first in tqdm(range(0, len(images), batch), desc=desc, mininterval=5):
        indices, pictures = readable(images, range(first, min(first + batch, len(images))))
        if pictures:
            yield replace(encode(vlm, sae, pictures), images=torch.tensor(indices))


class Observer(Protocol):
    """Something that watches codes go by."""

    def see(self, codes: CodeBatch) -> None:
        """Take in one batch."""


def watch(codes: Iterator[CodeBatch], *observers: Observer) -> None:
    """Show every batch to every observer: however many there are, images are encoded once."""
    for batch in codes:
        for observer in observers:
            observer.see(batch)


class TopImages:
    """Keeps, for every latent, the images with the highest scores, and their heatmaps.

    Memory does not depend on the number of images: ``latents x keep x patches``.

    Parameters
    ----------
    latents, keep, patches : sizes.
    limit : images beyond this index are not looked at.
    """

    def __init__(self, latents: int, keep: int, patches: int, limit: int | None = None) -> None:
        self.limit = limit
        self.score = torch.full((latents, keep), -1.0)  # -1: no image yet
        self.image = torch.full((latents, keep), -1, dtype=torch.long)
        self.heat = torch.zeros(latents, keep, patches)
        self.fired = torch.zeros(latents, dtype=torch.long)  # images in which the latent is active
        self.patches = torch.zeros(latents, dtype=torch.long)  # patches in which it is

    def see(self, codes: CodeBatch) -> None:
        """Merge a batch into the kept images; of equal scores the earlier image wins."""
        if self.limit is not None:
            codes = codes.part(codes.images < self.limit)
        latents, keep = self.score.shape
        new = codes.scores(latents).T  # [latents, n]
        self.fired += (new > 0).sum(1)
        self.patches += torch.bincount(codes.indices[codes.values > 0], minlength=latents)
        n = new.shape[1]
        image = codes.images.expand(latents, n)
        score, order = torch.cat([self.score, new], 1).sort(dim=1, descending=True, stable=True)
        order = order[:, :keep]
        self.score = score[:, :keep]
        self.image = torch.cat([self.image, image], 1).gather(1, order)
        # Most batches change few latents' images, and the heatmaps are by far the largest thing here.
        changed = torch.nonzero((order != torch.arange(keep)).any(1)).flatten()
        for rows in changed.split(512):
            kept = order[rows].clamp_max(keep - 1)[..., None].expand(-1, -1, self.heat.shape[-1])
            self.heat[rows] = self.heat[rows].gather(1, kept)
        latent, place = torch.nonzero((order >= keep) & (self.score > 0), as_tuple=True)
        for latents_, places in zip(latent.split(4096), place.split(4096)):  # bounds the memory
            self.heat[latents_, places] = codes.heatmap(order[latents_, places] - keep, latents_)

    def result(self) -> Evidence:
        """What was kept; places for which no image activated the latent hold image -1."""
        empty = self.score <= 0
        return Evidence(
            self.score.clamp_min(0),
            self.image.masked_fill(empty, -1),
            self.heat.masked_fill(empty[..., None], 0),
            self.fired,
            self.patches,
        )


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
        rows = [i for i, image in enumerate(codes.images.tolist()) if image in self.row]
        if rows:
            part = codes.part(rows).scores(self.scores.shape[1])
            self.scores[[self.row[int(codes.images[i])] for i in rows]] = part


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
        return write_atomically(
            path, lambda target: save_file({name: tensor.contiguous() for name, tensor in vars(self).items()}, target)
        )

    @classmethod
    def load(cls, path: Path) -> Evidence:
        """Read what :meth:`save` wrote."""
        return cls(**load_file(path))

    def grid(self, latent: int, place: int) -> Tensor:
        """Heatmap of one top image as a square: ``[rows, columns]``."""
        heat = self.heat[latent, place]
        side = round(len(heat) ** 0.5)
        return heat.reshape(side, side)
