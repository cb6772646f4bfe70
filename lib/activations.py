"""Streams of patch activations: what a dictionary is trained on."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from lib.images import ImageSet, readable
from lib.vlm import VLM

Pools = dict[range, Tensor]  # by the pictures whose patches they are, ``[patches, d]``
_MOST = 2 * 1024**3  # bytes that pools may hold


def activations(vlm: VLM, images: ImageSet, order: Sequence[int], size: int) -> Iterator[Tensor]:
    """The residual stream at every patch of some images, ``size`` images at a time: ``[size * patches, d]``.

    Pictures that cannot be read are left out.

    Raises
    ------
    ValueError
        If none of them can be read.
    """
    some = False
    for part in _encoded(vlm, images, order, size):
        some = True
        yield part
    if len(order) and not some:
        raise ValueError(f"none of {len(order)} pictures can be read; the run's skipped.csv says why")


def _encoded(vlm: VLM, images: ImageSet, order: Sequence[int], size: int) -> Iterator[Tensor]:
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
    pools : keeps activations for other streams of the same pictures, up to 2 GiB, if given.

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
    pools: Pools | None = None

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

    def _pool(self, here: range) -> Tensor:
        if self.pools is None:
            return self._encode(here)
        if here not in self.pools:
            made = self._encode(here)
            if made.nbytes + sum(pool.nbytes for pool in self.pools.values()) > _MOST:
                return made
            self.pools[here] = made
        return self.pools[here]

    def _encode(self, here: range) -> Tensor:
        """Patches of some images, at least a batch: where too many cannot be read, those of the next ones as well."""
        others = [*range(here.stop, len(self.images)), *range(here.start)]
        parts = [part.to(self.dtype) for part in _encoded(self.vlm, self.images, here, self.size)]
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
                pool = self._pool(here)
                generator = torch.Generator().manual_seed(self.seed + first)
                order = torch.randperm(len(pool), generator=generator)
                # Where pictures could not be read, a few patches are seen twice.
                order = order.repeat(-(-count * self.batch // len(order)))[: count * self.batch].to(pool.device)
                for place, part in enumerate(order.split(self.batch), done):
                    if place >= start:
                        yield pool[part].float()
            done += count
