"""The surfaces of Emoji Scenes, drawn with NumPy: lawns, bricks, stripes, a vanishing point."""

from __future__ import annotations

from functools import cache

import numpy as np
from PIL import Image

from lib.scenes.catalogue import COLOURS, PATTERNS, SURFACES

TILE = 160  # side of a drawn surface, pixels; a scene crops its own window from it
VARIANTS = 12  # drawings of each surface


def _noise(rng: np.random.Generator, cells: tuple[int, int]) -> np.ndarray:
    """Smooth noise in [0, 1], ``[TILE, TILE]``, with ``cells`` bumps down and across."""
    coarse = Image.fromarray(rng.random(cells, dtype=np.float32))
    return np.clip(np.asarray(coarse.resize((TILE, TILE), Image.Resampling.BICUBIC)), 0, 1)


def _mix(a: tuple[int, ...], b: tuple[int, ...], weight: np.ndarray) -> np.ndarray:
    """``a`` where weight is 0, ``b`` where it is 1: ``[TILE, TILE, 3]``, float."""
    w = weight[..., None]
    return np.asarray(a, np.float32) * (1 - w) + np.asarray(b, np.float32) * w


def _spots(rng: np.random.Generator, n: int, radius: tuple[float, float]) -> np.ndarray:
    """``n`` discs at random places, 1 inside."""
    ys, xs = np.mgrid[:TILE, :TILE].astype(np.float32)
    out = np.zeros((TILE, TILE), np.float32)
    for y, x, r in zip(rng.uniform(0, TILE, n), rng.uniform(0, TILE, n), rng.uniform(*radius, n)):
        out[(ys - y) ** 2 + (xs - x) ** 2 < r * r] = 1
    return out


def _natural(name: str, rng: np.random.Generator) -> np.ndarray:
    ys, xs = np.mgrid[:TILE, :TILE].astype(np.float32)
    if name == "grass":
        return _mix((58, 128, 36), (142, 200, 80), _noise(rng, (24, 90)))
    if name == "sand":
        ripple = 0.5 + 0.5 * np.sin(ys / 3.2 + 5 * _noise(rng, (5, 5)))
        return _mix((226, 192, 128), (196, 156, 92), 0.6 * ripple + 0.4 * _noise(rng, (80, 80)))
    if name == "water":
        wave = np.sin(ys / 3.0 + 2.5 * np.sin(xs / 11 + rng.uniform(0, 6)) + 4 * _noise(rng, (6, 4)))
        return _mix((20, 104, 168), (120, 205, 232), np.clip(wave * 0.6 + 0.25, 0, 1))
    if name == "sky":
        cloud = np.clip((_noise(rng, (7, 5)) - 0.55) * 4, 0, 1)
        return _mix((118, 186, 244), (250, 252, 255), cloud)
    if name == "snow":
        flakes = _spots(rng, 110, (1.0, 2.6))
        drift = _noise(rng, (6, 4))
        return _mix((198, 214, 236), (232, 240, 250), drift) * (1 - flakes[..., None]) + 255 * flakes[..., None]
    if name == "forest":
        trunk = (np.sin(xs / 4.5 + 3 * _noise(rng, (2, 9))) > 0.72).astype(np.float32)
        leaves = _mix((12, 52, 30), (38, 96, 46), _noise(rng, (30, 30)))
        return leaves * (1 - trunk[..., None]) + np.float32((84, 54, 34)) * trunk[..., None]
    if name == "night":
        dark = _mix((14, 16, 48), (34, 34, 84), _noise(rng, (3, 3)))
        stars = _spots(rng, 70, (0.8, 1.7))[..., None]
        return dark * (1 - stars) + np.float32((250, 244, 200)) * stars
    # rocks: grey stones, each pixel shaded by its distance to the nearest two of random centres
    centres = rng.uniform(0, TILE, (60, 2)).astype(np.float32)
    distance = np.sort(np.hypot(ys[..., None] - centres[:, 0], xs[..., None] - centres[:, 1]), -1)
    edge = np.clip((distance[..., 1] - distance[..., 0]) / 5, 0, 1)
    return _mix((66, 64, 62), (158, 152, 146), edge * (0.75 + 0.25 * _noise(rng, (30, 30))))


def _man_made(name: str, rng: np.random.Generator) -> np.ndarray:
    ys, xs = np.mgrid[:TILE, :TILE].astype(np.float32)
    if name == "bricks":
        row = ys // 10
        mortar = ((ys % 10 < 1.8) | ((xs + (row % 2) * 11) % 22 < 1.8)).astype(np.float32)
        wall = _mix((150, 66, 46), (186, 92, 66), _noise(rng, (16, 8)))
        return wall * (1 - mortar[..., None]) + np.float32((214, 204, 192)) * mortar[..., None]
    if name == "wood":
        grain = 0.5 + 0.5 * np.sin(ys * 0.9 + 6 * _noise(rng, (14, 3)))
        board = _mix((168, 112, 60), (206, 152, 94), grain)
        return board * np.where(ys % 26 < 1.6, 0.45, 1.0)[..., None]
    if name == "road":
        dashes = ((np.abs(ys % 54 - 27) < 2.5) & (xs % 30 < 18)).astype(np.float32)
        asphalt = _mix((72, 74, 80), (100, 102, 108), _noise(rng, (80, 80)))
        return asphalt * (1 - dashes[..., None]) + np.float32((250, 226, 120)) * dashes[..., None]
    grout = ((ys % 20 < 1.8) | (xs % 20 < 1.8)).astype(np.float32)  # tiles
    tile = _mix((158, 208, 200), (186, 226, 218), _noise(rng, (8, 8)))
    return tile * (1 - grout[..., None]) + np.float32((245, 245, 240)) * grout[..., None]


def _texture(name: str, rng: np.random.Generator) -> np.ndarray:
    if name == "blur":
        palette = np.float32([(206, 168, 140), (140, 168, 150), (168, 150, 190), (224, 206, 170)])
        weights = np.stack([_noise(rng, (4, 4)) for _ in palette], -1) ** 3 + 1e-3
        return (weights / weights.sum(-1, keepdims=True)) @ palette
    ys, xs = np.mgrid[:TILE, :TILE].astype(np.float32)  # perspective: rays from a vanishing point
    y, x = rng.uniform(TILE * 0.35, TILE * 0.65, 2)
    angle = np.arctan2(ys - y, xs - x)
    rays = (np.sin(angle * 14 + rng.uniform(0, 6)) > 0.55).astype(np.float32)
    depth = np.clip(np.hypot(ys - y, xs - x) / TILE, 0, 1)
    return _mix((150, 140, 132), (238, 228, 214), depth) * (1 - 0.7 * rays[..., None])


def _pattern(colour: str, pattern: str, rng: np.random.Generator) -> np.ndarray:
    """A coloured pattern on white, at a random period; stripes also at a random angle."""
    ys, xs = np.mgrid[:TILE, :TILE].astype(np.float32)
    period = rng.uniform(13, 22)
    if pattern == "stripes":
        angle = rng.choice([0, np.pi / 4, np.pi / 2, 3 * np.pi / 4]) + rng.normal(0, 0.08)
        ink = np.sin(2 * np.pi * (xs * np.cos(angle) + ys * np.sin(angle)) / period) > 0
    elif pattern == "checkers":
        ink = (ys // (period * 0.6) + xs // (period * 0.6)) % 2 == 0
    else:
        offset = np.where(ys // period % 2 == 0, 0, period / 2)
        ink = np.hypot(ys % period - period / 2, (xs + offset) % period - period / 2) < period * 0.3
    return _mix((250, 250, 250), COLOURS[colour], ink.astype(np.float32))


@cache
def surface(name: str, variant: int) -> np.ndarray:
    """Drawing ``variant`` (0 to ``VARIANTS - 1``) of a surface: ``[TILE, TILE, 3]`` uint8, read-only.

    Raises
    ------
    KeyError
        If ``name`` is not one of the catalogue's surfaces.
    """
    if name not in SURFACES:
        raise KeyError(f"no surface named {name!r}; the surfaces are {', '.join(SURFACES)}")
    rng = np.random.default_rng([SURFACES.index(name), variant])
    first, _, last = name.partition(" ")
    if last in PATTERNS:
        pixels = _pattern(first, last, rng)
    elif first == "plain":
        # A little unevenness: without it two empty pictures of one colour would be the same picture.
        shade = (1.0 if last == "white" else rng.uniform(0.88, 1.1)) - 0.05 * _noise(rng, (5, 5))
        pixels = np.float32(COLOURS.get(last, (255, 255, 255))) * shade[..., None]
    elif name in ("bricks", "wood", "road", "tiles"):
        pixels = _man_made(name, rng)
    elif name in ("blur", "perspective"):
        pixels = _texture(name, rng)
    else:
        pixels = _natural(name, rng)
    out = np.clip(pixels, 0, 255).astype(np.uint8)
    out.setflags(write=False)
    return out
