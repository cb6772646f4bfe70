"""Streams of patch activations: what a dictionary is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor

from lib.photos import readable
from lib.vlm import VLM


def activations(vlm: VLM, images: Sequence[Image.Image], order: Sequence[int], size: int) -> Iterator[Tensor]:
    """The residual stream at every patch of some images, ``size`` images at a time: ``[size * patches, d]``.

    Pictures that cannot be read are left out.
    """
    for first in range(0, len(order), size):
        _, pictures = readable(images, order[first : first + size])
        if pictures:
            yield vlm.residual(pictures).flatten(0, 1)


@dataclass(frozen=True)
class ShuffledActivations:
    """Batches of activations in random order, each patch of each image once.

    A buffer is filled with the patches of the next images, shuffled, and spent whole. So memory depends on
    ``buffer`` alone, and a stream can start anywhere at the price of filling one buffer: a training run that
    was killed goes on where it was. The images themselves must come in random order.

    Attributes
    ----------
    vlm, images : where activations come from.
    batch : patches per batch.
    size : images encoded at a time.
    buffer : patches held.
    seed : of the shuffling.
    dtype : in which they are held.
    """

    vlm: VLM
    images: Sequence[Image.Image]
    batch: int
    size: int
    buffer: int
    seed: int
    dtype: torch.dtype = torch.float32

    @property
    def _per_buffer(self) -> int:
        """Images whose patches fill a buffer."""
        return min(len(self.images), max(1, -(-max(self.buffer, self.batch) // self.vlm.patches)))

    def _batches(self, images: int) -> int:
        return images * self.vlm.patches // self.batch

    def __len__(self) -> int:
        """Batches in all; what does not fill a buffer's last batch is dropped."""
        whole, rest = divmod(len(self.images), self._per_buffer)
        return whole * self._batches(self._per_buffer) + self._batches(rest)

    def batches(self, start: int = 0) -> Iterator[Tensor]:
        """Batches ``[batch, d]`` from number ``start`` on."""
        n, done = self._per_buffer, 0
        for first in range(0, len(self.images), n):
            here = range(first, min(first + n, len(self.images)))
            count = self._batches(len(here))
            if done + count > start:
                pool = torch.cat([part.to(self.dtype) for part in activations(self.vlm, self.images, here, self.size)])
                generator = torch.Generator().manual_seed(self.seed + first)
                order = torch.randperm(len(pool), generator=generator)
                # Where pictures could not be read, a few patches are seen twice.
                order = order.repeat(-(-count * self.batch // len(order)))[: count * self.batch].to(pool.device)
                for place, part in enumerate(order.split(self.batch), done):
                    if place >= start:
                        yield pool[part].float()
            done += count
