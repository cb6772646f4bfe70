"""Streams of patch activations: what a dictionary is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from PIL import Image
from torch import Tensor

from lib.vlm import VLM


def activations(vlm: VLM, images: Sequence[Image.Image], order: Sequence[int], size: int) -> Iterator[Tensor]:
    """The residual stream at every patch of some images, ``size`` images at a time: ``[size * patches, d]``."""
    for first in range(0, len(order), size):
        yield vlm.residual([images[i] for i in order[first : first + size]]).flatten(0, 1)


def shuffled(
    vlm: VLM, images: Sequence[Image.Image], batch: int, size: int, buffer: int, seed: int
) -> Iterator[Tensor]:
    """Batches of activations in random order, each patch of each image once.

    A buffer is filled, shuffled, and spent by half before it is filled again, so memory depends on
    ``buffer`` alone and neighbouring patches seldom meet. What does not fill a last batch is dropped.

    Parameters
    ----------
    vlm, images : where activations come from.
    batch : patches per batch.
    size : images encoded at a time.
    buffer : patches held, about.
    seed : of the shuffling.
    """
    generator = torch.Generator().manual_seed(seed)
    pool: list[Tensor] = []
    held = 0
    for acts in activations(vlm, images, range(len(images)), size):
        pool.append(acts)
        held += len(acts)
        if held >= buffer:
            mixed = torch.cat(pool)[torch.randperm(held, generator=generator)]
            spend = max(batch, held // 2 // batch * batch)
            yield from mixed[:spend].split(batch)
            pool, held = [mixed[spend:]], held - spend
    mixed = torch.cat(pool)[torch.randperm(held, generator=generator)]
    yield from mixed[: held // batch * batch].split(batch)
