"""What segmenters that are models share: a text becomes phrases, and the masks of all that they name are united."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from PIL import Image

from lib.device import DEVICE
from lib.hub import Asset, load_whole
from lib.images import ImageSet
from lib.judges import Reader

T = TypeVar("T")


@dataclass(frozen=True)
class PhraseSegmenter:
    """Finds what a text names; the mask is the union over all that its phrases name.

    Attributes
    ----------
    images : the pictures.
    reader : turns a text into short phrases; long sentences make detectors fail.
    first_only : stop at the first mask, as the published protocol does.
    """

    images: ImageSet
    reader: Reader
    first_only: bool = field(default=False, kw_only=True)

    def prepare(self, texts: Iterable[str]) -> None:
        """Have the reader read all texts at once, which is quicker than one by one."""
        self.reader.prepare("phrases", texts)

    def segment(self, text: str, image: int) -> np.ndarray:
        """Pixels of ``image`` that show anything ``text`` names: ``[H, W]`` bool; empty if nothing is found.

        Raises
        ------
        UnreadableImage
            If the picture cannot be read.
        """
        picture = self.images[image].convert("RGB")
        union = np.zeros((picture.height, picture.width), bool)
        phrases = self.reader.phrases(text)
        for masks in self.masks(picture, phrases) if phrases else ():
            if self.first_only and len(masks):
                return masks[0]
            union |= masks.any(0)
        return union

    def masks(self, picture: Image.Image, phrases: Sequence[str]) -> Iterator[np.ndarray]:
        """Masks of all that the phrases name in a picture (RGB), some at a time: ``[n, H, W]`` bool."""
        raise NotImplementedError


class Latest(Generic[T]):
    """Embeds pictures and keeps the latest embedding: texts about one picture come in a row."""

    def __init__(self, embed: Callable[[Image.Image], T]) -> None:
        self._embed = embed
        self._seen: tuple[np.ndarray, T] | None = None

    def __call__(self, picture: Image.Image) -> T:
        """The embedding of a picture."""
        pixels = np.array(picture)
        if self._seen is None or not np.array_equal(self._seen[0], pixels):
            self._seen = None  # until the embedding is whole
            self._seen = pixels, self._embed(picture)
        return self._seen[1]


def model_and_processor(model: Any, processor: Any, name: Asset) -> tuple[Any, Any]:
    """A judge from a checkpoint, in float32, with what prepares its inputs; ``model`` and ``processor`` are classes."""
    source, revision = name.pretrained()
    found = load_whole(model, source, dtype=torch.float32, use_safetensors=True, **revision)
    return found.eval().to(DEVICE), processor.from_pretrained(source, **revision)
