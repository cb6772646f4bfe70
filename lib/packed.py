"""Encoders that pack all patches of all pictures into one sequence (Qwen-VL), seen as one row per picture.

Their patches come window by window where there are windows (Qwen2.5-VL), in squares that are merged later. Pictures
keep their shape there, so that the number of patches differs; here all are squeezed into one square.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor

LARGEST_SIDE = 448  # pixels; with patches of 14, 32 x 32 of them


class Packed:
    """The order of patches in a packed stream.

    Parameters
    ----------
    vision : the encoder's configuration.
    image_processor : knows how many pixels a picture may have.
    """

    def __init__(self, vision, image_processor) -> None:
        self.vision = vision
        unit = vision.patch_size * vision.spatial_merge_size
        area = dict(image_processor.size or {}).get("longest_edge") or LARGEST_SIDE**2  # an area, whatever its name
        self.side = min(LARGEST_SIDE, math.isqrt(area)) // unit * unit
        self.grid = self.side // vision.patch_size

    @staticmethod
    def fits(vision, image_processor) -> bool:
        """Whether this is such an encoder."""
        return hasattr(vision, "spatial_merge_size") and hasattr(image_processor, "merge_size")

    def square(self, images: Sequence[Image.Image]) -> list[Image.Image]:
        """Pictures in the one shape that all have here."""
        return [image.convert("RGB").resize((self.side, self.side)) for image in images]

    @cached_property
    def order(self) -> Tensor:
        """Which patch (counted row by row) each row of a picture's stream is: ``[patches]``."""
        from transformers.vision_utils import get_vision_window_index

        side, merge = self.grid, self.vision.spatial_merge_size
        corners = torch.arange(side * side).view(side // merge, merge, side // merge, merge)
        squares = corners.transpose(1, 2).reshape(-1, merge * merge)
        if hasattr(self.vision, "window_size"):
            shape = torch.tensor([[1, side, side]])
            windows, _ = get_vision_window_index(shape, merge, self.vision.window_size, self.vision.patch_size)
            squares = squares[windows]
        return squares.flatten()

    def rows(self, stream: Tensor) -> Tensor:
        """``[n_images * patches, d]`` to ``[n_images, patches, d]``, patches row by row."""
        return stream.reshape(-1, len(self.order), stream.shape[-1])[:, self.order.argsort().to(stream.device)]

    def change(self, change: Callable[[Tensor], Tensor]) -> Callable[[Tensor], Tensor]:
        """An intervention on rows as one on the stream."""

        def packed(stream: Tensor) -> Tensor:
            return change(self.rows(stream))[:, self.order.to(stream.device)].reshape(stream.shape)

        return packed
