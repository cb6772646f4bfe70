"""Which placed object does each pixel show? Two parrots are one atom, and two instances."""

from __future__ import annotations

from dataclasses import replace
from functools import lru_cache

import numpy as np

from lib.scenes.catalogue import ATOM_INDEX
from lib.scenes.drawing import SIZE, Layout, draw

GROUND = -1


@lru_cache(maxsize=4000)  # below 80 MB; a scene is asked about once for each text
def owners(layout: Layout) -> np.ndarray:
    """The place in ``layout.objects`` of the object that each pixel shows: ``[SIZE, SIZE]`` int16.

    :data:`GROUND` where it shows the surface. Each object is drawn alone, and covers those behind it, so that the atoms
    of the owners are exactly those of the drawn scene.

    Raises
    ------
    KeyError
        If the layout names an object or a surface that the catalogue does not have.
    """
    owner = np.full((SIZE, SIZE), GROUND, np.int16)
    for number, placed in enumerate(layout.objects):
        alone = draw(replace(layout, objects=(placed,))).atoms
        owner[alone == ATOM_INDEX[placed.name]] = number
    owner.setflags(write=False)
    return owner


def largest_instance(layout: Layout, atoms: frozenset[int]) -> np.ndarray:
    """Pixels of the instance of some atoms that shows most of itself: ``[SIZE, SIZE]`` bool; empty if none is seen.

    An instance is one placed object, as far as others do not hide it, or the whole surface. Of two that show equally
    much, the one further back.
    """
    owner = owners(layout)
    masks = [owner == i for i, placed in enumerate(layout.objects) if ATOM_INDEX[placed.name] in atoms]
    masks += [owner == GROUND] * (ATOM_INDEX[layout.surface] in atoms)
    return max(masks, key=np.sum, default=np.zeros((SIZE, SIZE), bool))
