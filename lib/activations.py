"""Streams of patch activations: what a dictionary is trained on."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor

from lib.images import ImageSet, readable
from lib.vlm import VLM


class Pool:
    """Keeps what an encoder says of pictures, for other streams of the same ones.

    Parameters
    ----------
    most : bytes that are kept; what comes after is encoded each time.
    """

    def __init__(self, most: int = 2 * 1024**3) -> None:
        self._kept: dict[Hashable, Tensor] = {}
        self._left = most

    def of(self, pictures: Hashable, encode: Callable[[], Tensor]) -> Tensor:
        """What is kept under the name of some pictures, or is encoded now."""
        if pictures in self._kept:
            return self._kept[pictures]
        made = encode()
        if made.nbytes <= self._left:
            self._kept[pictures] = made
            self._left -= made.nbytes
        return made


def activations(
    vlm: VLM, images: ImageSet, order: Sequence[int], size: int, pool: Pool | None = None
) -> Iterator[Tensor]:
    """The residual stream at every patch of some images, ``size`` images at a time: ``[size * patches, d]``.

    Pictures that cannot be read are left out.

    Parameters
    ----------
    pool : keeps them for others of this encoder, if given.

    Raises
    ------
    ValueError
        If none of them can be read.
    """
    some = False
    for part in _encoded(vlm, images, order, size, pool):
        some = True
        yield part
    if len(order) and not some:
        raise ValueError(f"none of {len(order)} pictures can be read; the run's skipped.csv says why")


def _encoded(vlm: VLM, images: ImageSet, order: Sequence[int], size: int, pool: Pool | None = None) -> Iterator[Tensor]:
    def encode(part: Sequence[int]) -> Tensor:
        _, pictures = readable(images, part)
        return vlm.residual(pictures).flatten(0, 1) if pictures else torch.empty(0)

    for first in range(0, len(order), size):
        part = order[first : first + size]
        made = pool.of((images, tuple(part)), partial(encode, part)) if pool else encode(part)
        if len(made):
            yield made


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
    pool : keeps activations for other streams of the same pictures, if given.

    Raises
    ------
    ValueError
        If all patches, or all that can be read, are fewer than one batch.
    """

    vlm: VLM
    images: ImageSet
    batch: int
    size: int
    buffer: int
    seed: int
    dtype: torch.dtype = torch.float32
    pool: Pool | None = None

    def __post_init__(self) -> None:
        self._enough(len(self.images) * self.vlm.patches)

    def _enough(self, patches: int) -> None:
        if patches < self.batch:
            raise ValueError(
                f"{patches} patches of {len(self.images)} pictures are fewer than one batch of {self.batch}: raise "
                "images.train, lower sae.batch, or mend the pictures that skipped.csv names"
            )

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

    def _filled(self, here: range) -> Tensor:
        """Patches of some images, at least a batch: where too many cannot be read, those of the next ones as well."""
        others = [*range(here.stop, len(self.images)), *range(here.start)]
        parts = [part.to(self.dtype) for part in _encoded(self.vlm, self.images, here, self.size, self.pool)]
        more = _encoded(self.vlm, self.images, others, self.size)
        while sum(map(len, parts)) < self.batch and (part := next(more, None)) is not None:
            parts.append(part.to(self.dtype))
        self._enough(sum(map(len, parts)))
        return torch.cat(parts)  # [patches, d]

    def batches(self, start: int = 0) -> Iterator[Tensor]:
        """Batches ``[batch, d]`` from number ``start`` on."""
        n, done = self._per_buffer, 0
        for first in range(0, len(self.images), n):
            here = range(first, min(first + n, len(self.images)))
            count = self._batches(len(here))
            if done + count > start:
                buffer = self._filled(here)
                generator = torch.Generator().manual_seed(self.seed + first)
                order = torch.randperm(len(buffer), generator=generator)
                # Where pictures could not be read, a few patches are seen twice.
                order = order.repeat(-(-count * self.batch // len(order)))[: count * self.batch].to(buffer.device)
                for place, part in enumerate(order.split(self.batch), done):
                    if place >= start:
                        yield buffer[part].float()
            done += count
