"""Show where a feature is active: everything else blackened, or a heatmap on top (section 3.1)."""

from __future__ import annotations

import matplotlib
import numpy as np
from PIL import Image

HEATMAP_ALPHA = 0.35
_VIRIDIS = (matplotlib.colormaps["viridis"](np.arange(256))[:, :3] * 255).astype(np.float32)


def upsample(values: np.ndarray, shape: tuple[int, int], resample: Image.Resampling) -> np.ndarray:
    """Patch values ``[rows, columns]`` to pixels ``[H, W]``, float32."""
    image = Image.fromarray(np.asarray(values, np.float32))
    return np.asarray(image.resize((shape[1], shape[0]), resample))


def occlude(pixels: np.ndarray, keep: np.ndarray) -> np.ndarray:
    """Blacken the patches that are not kept (nearest-neighbour upsampling).

    Parameters
    ----------
    pixels : ``[H, W, 3]`` uint8.
    keep : ``[rows, columns]`` bool, the patches to keep: those with code > 0.
    """
    mask = upsample(keep, pixels.shape[:2], Image.Resampling.NEAREST) > 0.5
    return pixels * mask[..., None]


def heatmap_overlay(pixels: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Lay a viridis heatmap over an image: bicubic upsampling, min-max scaling, alpha 0.35.

    Parameters
    ----------
    pixels : ``[H, W, 3]`` uint8.
    values : ``[rows, columns]``, the activation of each patch.
    """
    heat = upsample(values, pixels.shape[:2], Image.Resampling.BICUBIC)
    low, high = float(heat.min()), float(heat.max())
    scaled = (heat - low) / (high - low) if high > low else np.zeros_like(heat)
    colours = _VIRIDIS[(np.clip(scaled, 0, 1) * 255).astype(np.uint8)]
    return (pixels * (1 - HEATMAP_ALPHA) + colours * HEATMAP_ALPHA).astype(np.uint8)
