"""What the metrics need from the outside world, and nothing more.

At desk scale the segmenter and the generator are exact, since Emoji Scenes can be read and drawn;
with photographs their places are taken by models.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor


class Segmenter(Protocol):
    """Finds what a text describes (the segmentation model of Eq. 7)."""

    def prepare(self, texts: Iterable[str]) -> None:
        """Told that many texts will be looked for."""

    def segment(self, text: str, image: int, first_only: bool = False) -> np.ndarray:
        """Mask of all that ``text`` names in picture ``image`` of a set: ``[H, W]`` bool.

        Parameters
        ----------
        first_only : of the first thing that is found alone, as in the published protocol.

        Raises
        ------
        UnreadableImage
            If the picture cannot be read.
        """


class Generator(Protocol):
    """Draws what a text describes (the diffusion model of section 4.1)."""

    def generate(self, text: str, n: int) -> list[Image.Image]:
        """``n`` pictures of ``text``, the same at every call; fewer or none if they cannot be drawn."""


class ImageTextModel(Protocol):
    """Embeds pictures and texts in one space (the CLIP model of Eq. 9)."""

    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit embeddings ``[n, d]``."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings ``[n, d]``."""


class Reader(Protocol):
    """Understands explanations: what they name, and what they are about."""

    def prepare(self, kind: str, texts: Iterable[str]) -> None:
        """Told that many texts will be read: ``kind`` is phrases, label, level or blank."""

    def phrases(self, text: str) -> list[str]:
        """Short noun phrases for what a text names, as a detector wants them; none if it names nothing."""

    def label(self, text: str) -> str:
        """``background``, ``animal`` or ``other`` (the paper's Table 2)."""

    def level(self, text: str) -> str:
        """``object``, ``place``, ``low-level``, or ``unreadable``."""

    def is_blank(self, text: str) -> bool:
        """Whether a text calls a picture empty (appendix G.2)."""

    def cluster_name(self, inside: Sequence[str], outside: Sequence[str]) -> str:
        """A short name for what the texts ``inside`` a cluster share, and those ``outside`` do not (Figure 6)."""
