"""What the explainer studies: scenes, some of them partly covered; if taught, views with one element highlighted.

A view shows one atom as a feature's evidence would: the patches that show it stay, or glow, with
gaps, missing parts and strays, since no feature is active exactly where a thing is.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from lib.overlay import heatmap_overlay, occlude
from lib.scenes.catalogue import ATOMS, CATEGORY_OF, KIND_OF, OBJECTS, Element
from lib.scenes.drawing import GRID, PATCH, SIZE, Layout, Scene, draw
from lib.scenes.language import common_element
from lib.scenes.sampling import Mix, crowd, sample

MIX = Mix(cooccurrence=0.6, closeup=0.15, wallpaper=0.15, empty=0.1, smallest=26)
EVERYWHERE = np.ones((GRID, GRID), bool)  # all patches of a picture of which nothing is covered
_CROWDS = 0.15  # share of the scenes that are crowded with several objects of a category or kind


@dataclass(frozen=True)
class View:
    """A picture with one atom highlighted: ``pixels`` ``[SIZE, SIZE, 3]`` uint8, and its name."""

    pixels: np.ndarray
    atom: str


def layout(seed: int, index: int) -> Layout:
    """Training scene ``index``: any scene of the mix, or a crowd of related objects."""
    rng = np.random.default_rng([seed, index])
    if rng.random() < _CROWDS:
        group = CATEGORY_OF if rng.random() < 0.5 else {o: KIND_OF[c] for o, c in CATEGORY_OF.items() if c in KIND_OF}
        name = sorted(set(group.values()))[int(rng.integers(len(set(group.values()))))]
        members = [o for o in OBJECTS if group.get(o) == name]
        return crowd(tuple(rng.permutation(members)[: int(rng.integers(2, 5))].tolist()), rng)
    return sample(rng, MIX)


def main_element(scene: Scene, seen: np.ndarray = EVERYWHERE) -> Element:
    """What a scene mainly shows: its objects, if they fill a third of what is seen, else its surface.

    Several objects are named by what they share (mammal), or by the largest if they share nothing. ``seen``: patches
    that are not covered, ``[GRID, GRID]`` bool.
    """
    patches = scene.patches()[seen]
    owners, counts = np.unique(patches, return_counts=True)
    objects = owners < len(OBJECTS)
    if counts[objects].sum() >= patches.size / 3:
        names = [ATOMS[i] for i in owners[objects]]
        shared = common_element(names)
        largest = common_element([ATOMS[owners[objects][counts[objects].argmax()]]])
        return shared or largest
    return common_element([scene.layout.surface])


def alter(pixels: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Cover parts of a picture with a plain colour, black as often as not, or lay a colour cast over it.

    Where and how does not depend on what the picture shows: these are the cards, margins, holes and lights of any
    collection of pictures, from which a model learns that a plain cover is not a thing, and that colours may be off.

    Returns
    -------
    The picture, and the patches of which at least half is not covered: ``[GRID, GRID]`` bool, at least two.
    """
    colour = np.zeros(3) if rng.random() < 0.5 else rng.uniform(0, 255, 3)
    if rng.random() < 0.25:  # light of one colour, or from one colour to another
        other, along = rng.uniform(0, 255, 3), np.linspace(0, 1, SIZE)[:, None, None]
        cast = colour + (other - colour) * along
        cast = np.rot90(np.broadcast_to(cast, pixels.shape), int(rng.integers(4)))
        strength = rng.uniform(0.1, 0.5)
        return (pixels * (1 - strength) + cast * strength).astype(np.uint8), EVERYWHERE
    holes = rng.random() < 0.6  # all is covered but some rectangles; or the rectangles are
    while True:
        covered = np.full((SIZE, SIZE), holes)
        for _ in range(int(rng.integers(1, 5))):
            (top, left), (high, wide) = rng.integers(-12, SIZE - 12, 2), rng.integers(12, 66, 2)
            covered[max(top, 0) : top + high, max(left, 0) : left + wide] = not holes
        seen = covered.reshape(GRID, PATCH, GRID, PATCH).mean((1, 3)) <= 0.5
        if seen.sum() >= 2:
            return np.where(covered[..., None], colour.astype(np.uint8), pixels), seen


def region(owned: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Patches where a feature of this element might be active: ``[GRID, GRID]`` bool, never empty.

    Half of the regions have gaps at random, half are a part: the patches around one of them.
    Strays are added to a third.
    """
    places = np.argwhere(owned)
    if rng.random() < 0.5:
        keep = owned & (rng.random(owned.shape) < rng.uniform(0.3, 1))
    else:
        centre = places[rng.integers(len(places))]
        grid = np.indices(owned.shape).transpose(1, 2, 0)
        keep = owned & (np.hypot(*(grid - centre).transpose(2, 0, 1)) <= rng.uniform(0.9, 5))
    if rng.random() < 0.33:
        strays = rng.integers(0, GRID, (int(rng.integers(1, 4)), 2))
        keep[strays[:, 0], strays[:, 1]] = True
    if not (keep & owned).any():
        keep[tuple(places[rng.integers(len(places))])] = True
    return keep


def view(atom: str, mode: str, rng: np.random.Generator) -> View:
    """A random scene with ``atom`` in it, highlighted by ``mode`` (``masks`` or ``heatmaps``)."""
    index = ATOMS.index(atom)
    while True:
        wanted = {"obj": atom} if atom in OBJECTS else {"surface": atom}
        scene = draw(sample(rng, MIX, **wanted))
        owned = scene.patches() == index
        if owned.any():
            keep = region(owned, rng)
            if mode == "masks":
                return View(occlude(scene.pixels, keep), atom)
            heat = keep * rng.uniform(0.3, 1, keep.shape)
            return View(heatmap_overlay(scene.pixels, heat), atom)
