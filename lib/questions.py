"""What many questions share is made once: the text of equal prompts, a picture's pixels, its stream below the layer."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor

T = TypeVar("T")

KEPT = 2**28  # bytes that are kept of pictures' streams: all of a desk run's, or a few of a large encoder's


@dataclass(frozen=True)
class Question:
    """A prompt about some images."""

    images: tuple[Image.Image, ...]
    prompt: str


def content(image: Image.Image) -> Hashable:
    """What tells a picture from all others: its size, mode and pixels."""
    return image.size, image.mode, hashlib.blake2b(image.tobytes(), digest_size=16).digest()


def distinct(items: Sequence[T], key: Callable[[T], Hashable]) -> tuple[list[T], list[int]]:
    """The different ones among some items, in order; and for each item, which of them it is."""
    place: dict[Hashable, int] = {}
    rows = [place.setdefault(key(item), len(place)) for item in items]
    first = {row: i for i, row in reversed(list(enumerate(rows)))}
    return [items[first[row]] for row in range(len(place))], rows


def take(inputs: Mapping[str, Any], n: int, rows: Sequence[int]) -> dict[str, Any]:
    """Rows of what a processor has made of ``n`` pictures, in any order and number.

    A tensor has a row for each picture, or several where patches are packed; SmolVLM's has one axis more in front.
    """

    def chosen(value: Tensor) -> Tensor:
        if value.shape[0] == 1 < n == value.shape[1]:
            return value[:, list(rows)]
        return value.unflatten(0, (n, -1))[list(rows)].flatten(0, 1)

    return {name: chosen(value) for name, value in inputs.items()}


class Kept:
    """What a model computes of a picture alone, kept for the latest pictures.

    Parameters
    ----------
    compute : from pictures to what is computed of them, ``[n, ...]``.
    most : bytes that are kept; the latest pictures that were asked for are, whatever their size, since the next
        question may well be about the same ones.
    """

    def __init__(self, compute: Callable[[Sequence[Image.Image]], Tensor], most: int = KEPT) -> None:
        self._compute, self._most = compute, most
        self._kept: OrderedDict[Hashable, Tensor] = OrderedDict()
        self._size = 0

    def of(self, pictures: Sequence[Image.Image]) -> Tensor:
        """What is computed of each picture, ``[n, ...]``; what is not kept is computed together, equal ones once."""
        keys = [content(picture) for picture in pictures]
        new = {key: picture for key, picture in zip(keys, pictures) if key not in self._kept}
        if new:
            for key, made in zip(new, self._compute(list(new.values()))):
                self._kept[key] = made.clone()  # a view would hold its whole batch
                self._size += made.nbytes
        found = torch.stack([self._kept[key] for key in keys])
        for key in keys:
            self._kept.move_to_end(key)
        while self._size > self._most and len(self._kept) > len(set(keys)):
            self._size -= self._kept.popitem(last=False)[1].nbytes
        return found
