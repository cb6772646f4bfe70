"""What segmenters that are models share: a text becomes phrases, and the masks of all that they name are united."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Generic, TypeVar

import numpy as np
import torch
from PIL import Image

from lib import identity
from lib.device import DEVICE
from lib.hub import Asset, load_whole
from lib.images import ImageSet, kept_picture
from lib.judges import Reader
from lib.store import write_atomically

T = TypeVar("T")

_ANY, _FIRST = 1, 2  # of a pixel in the file of masks


@dataclass(frozen=True)
class PhraseSegmenter:
    """Finds what a text names; the mask is the union over all that its phrases name.

    Attributes
    ----------
    images : the pictures.
    reader : turns a text into short phrases; long sentences make detectors fail.
    folder : where masks are kept, below a folder that is named by all they depend on.
    """

    images: ImageSet
    reader: Reader
    folder: Path = field(metadata=identity.NOT_PART, compare=False)

    def prepare(self, texts: Iterable[str]) -> None:
        """Have the reader read all texts at once, which is quicker than one by one."""
        self.reader.prepare("phrases", texts)

    def segment(self, text: str, image: int, first_only: bool = False) -> np.ndarray:
        """Pixels of ``image`` that show anything ``text`` names: ``[H, W]`` bool; empty if nothing is found.

        Both masks are found together, once for each text and picture, whoever asks.

        Parameters
        ----------
        first_only : the first mask alone, as in the published protocol, instead of the union.

        Raises
        ------
        UnreadableImage
            If the picture cannot be read.
        """
        path = self._masks / f"{image}-{identity.digest(text)}.png"
        picture = kept_picture(path)
        if picture is None:
            picture = Image.fromarray(self._both(text, image))
            write_atomically(path, lambda target: picture.save(target, format="PNG"))
        return np.asarray(picture) > (_ANY if first_only else 0)

    @cached_property
    def _masks(self) -> Path:
        return self.folder / identity.digest(identity.of(self))

    def _both(self, text: str, image: int) -> np.ndarray:
        """Union and first mask in one: ``[H, W]`` uint8, :data:`_ANY` or :data:`_FIRST` where something is."""
        picture = self.images[image].convert("RGB")
        both = np.zeros((picture.height, picture.width), np.uint8)
        phrases = self.reader.phrases(text)
        first = True
        for masks in self.masks(picture, phrases) if phrases else ():
            both[masks.any(0) & (both == 0)] = _ANY
            if first and len(masks):  # it counts even if it is empty
                both[masks[0]] = _FIRST
                first = False
        return both

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
