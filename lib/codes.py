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


class Observer(Protocol):
    """Something that watches codes go by."""

    def see(self, codes: CodeBatch) -> None:
        """Take in one batch."""


def watch(codes: Iterator[CodeBatch], *observers: Observer) -> None:
    """Show every batch to every observer: however many there are, images are encoded once."""
    for batch in codes:
        for observer in observers:
            observer.see(batch)
