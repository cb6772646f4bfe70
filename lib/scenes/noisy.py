"""A segmenter that errs: the exact one's sibling, with the faults of models that find things in photographs.

Its rates were chosen in advance, as round numbers that no one would call mild, and no result has changed them.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from scipy import ndimage

from lib.scenes.catalogue import elements, membership
from lib.scenes.images import SceneImages
from lib.scenes.instances import largest_instance
from lib.scenes.language import read


@dataclass(frozen=True)
class NoisySegmenter:
    """Looks up masks as :class:`lib.scenes.judges.SceneSegmenter` does, and gets some of them wrong.

    It is asked for one element at a time, as a detector is for one phrase. The same element has the same fault in the
    same picture, whatever else the text names; faults in different pictures are independent.

    Attributes
    ----------
    images : the scenes.
    miss : chance that an element is not found in a picture.
    confuse : chance that another thing in the picture is taken for an element that was not missed: one of its own
        category or kind if there is any, else whatever the picture shows.
    single : chance that of what is found only the largest connected region is marked, as if it were the one instance.
    seed : of the faults.
    """

    images: SceneImages
    miss: float = 0.3
    confuse: float = 0.15
    single: float = 0.5
    seed: int = 0

    def prepare(self, texts: Iterable[str]) -> None:
        """Nothing to do: reading is quick."""

    def segment(self, text: str, image: int, first_only: bool = False) -> np.ndarray:
        """Pixels of ``image`` marked for what ``text`` names: ``[H, W]`` bool; empty if it names nothing.

        With ``first_only``, those of one instance of the first thing that it finds, as the exact segmenter has it.
        """
        scene = self.images.scene(image)
        masks = (_found(self, name, image) for name in _named(text))
        none = np.zeros(scene.atoms.shape, bool)
        if not first_only:
            return np.logical_or.reduce([none, *masks])
        mask = next((mask for mask in masks if mask.any()), none)
        one = mask & largest_instance(scene.layout, frozenset(np.unique(scene.atoms[mask]).tolist()))
        return one if one.any() else mask  # of a mask that is one region already, perhaps of another instance


@lru_cache(maxsize=4096)  # what is said of one latent names the same elements again and again; 40 MB
def _found(segmenter: NoisySegmenter, name: str, image: int) -> np.ndarray:
    """The mask of one element: ``[H, W]`` bool. Each fault has its own draw, so that a rate changes no other fault."""
    atoms = segmenter.images.scene(image).atoms
    rng = np.random.default_rng([segmenter.seed, zlib.crc32(name.encode()), image])
    missed, confused, alone, which = rng.random(4)
    if missed < segmenter.miss:
        return np.zeros(atoms.shape, bool)
    wanted = membership()[_rows()[name]]
    if confused < segmenter.confuse:
        wanted = _mistaken(name, atoms, which)
    mask = wanted.take(atoms)
    return _largest(mask) if alone < segmenter.single else mask


@lru_cache(maxsize=50_000)
def _named(text: str) -> tuple[str, ...]:
    return tuple(element.name for element in read(text).elements)


@cache
def _rows() -> dict[str, int]:
    return {name: row for row, name in enumerate(elements())}


@cache
def _relatives(name: str) -> tuple[np.ndarray, ...]:
    """Atoms that an element may be taken for, closest circle first, each ``[atoms]`` bool; the last is all others."""
    own = elements()[name].atoms
    wider = sorted((e for e in elements().values() if own < e.atoms), key=lambda e: len(e.atoms))
    table, mine = membership(), membership()[_rows()[name]]
    return (*(table[_rows()[e.name]] & ~mine for e in wider), ~mine)


def _mistaken(name: str, atoms: np.ndarray, draw: float) -> np.ndarray:
    """The one atom of a picture that is taken for an element, ``[atoms]`` bool; none if it shows nothing else.

    Parameters
    ----------
    draw : chooses among equals, in [0, 1).
    """
    shown = np.bincount(atoms.ravel(), minlength=membership().shape[1]) > 0
    taken = np.zeros(len(shown), bool)
    for circle in _relatives(name):
        candidates = np.flatnonzero(shown & circle)
        if len(candidates):
            taken[candidates[int(draw * len(candidates))]] = True
            break
    return taken


def _largest(mask: np.ndarray) -> np.ndarray:
    """The largest connected region of a mask."""
    regions, number = ndimage.label(mask)
    if number < 2:
        return mask
    return regions == 1 + np.bincount(regions.ravel())[1:].argmax()
