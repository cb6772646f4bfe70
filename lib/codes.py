"""Sparse codes of pictures as they go by, and what may watch them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor


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
        total = self.values.new_zeros(n, latents).scatter_add_(1, self.indices.flatten(1), self.values.flatten(1))
        return total / patches

    def part(self, rows: Tensor | Sequence[int]) -> CodeBatch:
        """Some of the images."""
        return CodeBatch(self.images[rows], self.values[rows], self.indices[rows])

    def cpu(self) -> CodeBatch:
        """The same in main memory."""
        return CodeBatch(self.images.cpu(), self.values.cpu(), self.indices.cpu())

    def draw(self, heat: Tensor, image: Tensor, latent: Tensor, row: Tensor) -> None:
        """Write the codes of pairs of an image in the batch and a latent over rows of ``heat``, ``[rows, patches]``.

        Every code of the batch is looked up once, however many pairs there are.

        Parameters
        ----------
        image, latent, row : of each pair, ``[pairs]``; no pair and no row twice.
        """
        if not len(row):
            return
        n, patches, _ = self.indices.shape
        where = heat.new_full((n, 1 + int(max(latent.max(), self.indices.max()))), -1, dtype=torch.long)
        where[image, latent] = row
        rows = where[torch.arange(n, device=heat.device)[:, None, None], self.indices]  # [n, patches, k]
        wanted = rows >= 0
        patch = torch.arange(patches, device=heat.device)[:, None].expand_as(rows)
        heat[row] = 0
        heat[rows[wanted], patch[wanted]] = self.values[wanted]


class Observer(Protocol):
    """Something that watches codes go by."""

    def see(self, codes: CodeBatch) -> None:
        """Take in one batch."""


def watch(codes: Iterator[CodeBatch], *observers: Observer) -> None:
    """Show every batch to every observer: however many there are, images are encoded once."""
    for batch in codes:
        for observer in observers:
            observer.see(batch)
