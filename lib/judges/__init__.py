"""What the metrics need from the outside world, and nothing more.

At desk scale the segmenter and the generator are exact, since Emoji Scenes can be read and drawn;
with photographs their places are taken by models.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol

import numpy as np
from PIL import Image
from torch import Tensor


class Segmenter(Protocol):
    """Finds what a text describes (the segmentation model of Eq. 7)."""

    def segment(self, text: str, image: int) -> np.ndarray:
        """Mask of all that ``text`` names in picture ``image`` of the evaluation set: ``[H, W]`` bool."""


class Generator(Protocol):
    """Draws what a text describes (the diffusion model of section 4.1)."""

    def generate(self, text: str, n: int) -> list[Image.Image]:
        """``n`` pictures of ``text``, the same at every call; none if it says nothing that can be drawn."""


class ImageTextModel(Protocol):
    """Embeds pictures and texts in one space (the CLIP model of Eq. 9)."""

    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit embeddings ``[n, d]``."""

    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings ``[n, d]``."""
