"""What an image set is to everybody else, whether its pictures are drawn or photographs."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

from PIL import Image

BLANK = Image.new("RGB", (224, 224), "white")
"""The empty image of Eq. 5: uniformly white; the model's own processor resizes it."""


class UnreadableImage(ValueError):
    """A file that cannot be read as a picture.

    Attributes
    ----------
    name, reason : which file, and why not.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"cannot read {name}: {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self):
        return type(self), (self.name, self.reason)  # so that it can cross processes


class ImageSet(Protocol):
    """Pictures in a fixed order; a slice is a smaller set.

    Its ``identity`` (or its fields, where it is a dataclass) names the pictures: whoever keeps an index into a set
    keeps it under that identity.
    """

    def __len__(self) -> int:
        """How many there are, unreadable ones included."""

    def __getitem__(self, index: int) -> Image.Image:
        """Picture ``index``; raises :class:`UnreadableImage`."""

    @property
    def ids(self) -> Sequence[Any]:
        """What each picture is called: two sets share a picture if they share an id."""

    def counter(self, latents: int) -> Any | None:
        """An observer that counts what every latent is really active on; None where nobody knows."""


def kept_picture(path: Path) -> Image.Image | None:
    """A picture (PNG) that was made and kept before; None if it was not, or if its file is damaged."""
    try:
        Image.open(path).verify()  # the checksums; reading pixels does not look at them
        picture = Image.open(path)
        picture.load()
        return picture
    except (OSError, SyntaxError, ValueError):  # what PIL raises for files that are cut short or garbled
        return None


def readable(images: ImageSet, wanted: Sequence[int]) -> tuple[list[int], list[Image.Image]]:
    """Those of the ``wanted`` pictures of a set that can be read: their indices, and the pictures, in that order."""
    indices, pictures = [], []
    for index in wanted:
        try:
            picture = images[int(index)]
        except UnreadableImage:
            continue  # the set has noted it
        indices.append(int(index))
        pictures.append(picture)
    return indices, pictures
