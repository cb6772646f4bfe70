"""Exact judges for Emoji Scenes: read the text, then look up its masks or draw it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lib.scenes.catalogue import ATOMS, MAN_MADE, NATURAL, OBJECTS, elements, membership
from lib.scenes.drawing import draw
from lib.scenes.images import SceneImages
from lib.scenes.instances import largest_instance
from lib.scenes.language import read
from lib.scenes.sampling import Mix, arrange


@dataclass(frozen=True)
class SceneSegmenter:
    """Looks up the masks of the elements that a text names.

    Attributes
    ----------
    images : the scenes.
    """

    images: SceneImages

    def prepare(self, texts: Iterable[str]) -> None:
        """Nothing to do: reading is quick."""

    def segment(self, text: str, image: int, first_only: bool = False) -> np.ndarray:
        """Pixels of ``image`` that show anything ``text`` names: ``[H, W]`` bool; empty if it names nothing.

        With ``first_only``, those of one instance alone, as in the published protocol: of the first element named that
        can be seen, the placed object with the largest visible area, or the whole surface. That is the order in which a
        detector would return them, as far as one can say without one.
        """
        scene, named = self.images.scene(image), read(text).elements
        if first_only:
            masks = (largest_instance(scene.layout, element.atoms) for element in named)
            return next((mask for mask in masks if mask.any()), np.zeros(scene.atoms.shape, bool))
        return np.isin(scene.atoms, [atom for element in named for atom in element.atoms])


@dataclass(frozen=True)
class SceneGenerator:
    """Draws scenes of what a text names.

    What the text leaves open is filled in as the world does: a named object stands in one of its
    habitats, a named group is represented by any member, a surface alone is empty.

    Attributes
    ----------
    mix : the world.
    seed : of the drawings; the same text gives the same pictures.
    """

    mix: Mix
    seed: int

    def generate(self, text: str, n: int) -> list[Image.Image]:
        """``n`` scenes; none if the text names nothing that can be drawn."""
        named = read(text).elements
        if not named:
            return []
        rng = np.random.default_rng([self.seed, zlib.crc32(text.encode())])
        pictures = []
        for _ in range(n):
            # One atom for each element named; of several surfaces, any one can be behind.
            atoms = [ATOMS[int(rng.choice(sorted(element.atoms)))] for element in named]
            objects = [a for a in atoms if a in OBJECTS]
            surfaces = [a for a in atoms if a not in OBJECTS]
            ground = surfaces[int(rng.integers(len(surfaces)))] if surfaces else None
            pictures.append(draw(arrange(rng, self.mix, objects, ground)).image)
        return pictures


_OBJECT_ATOMS = frozenset(range(len(OBJECTS)))
_PLACES = frozenset(ATOMS.index(name) for name in NATURAL + MAN_MADE)


@dataclass(frozen=True)
class SceneReader:
    """Reads sentences by the catalogue, where the paper asks a language model."""

    def prepare(self, kind: str, texts: Iterable[str]) -> None:
        """Nothing to do: reading is quick."""

    def phrases(self, text: str) -> list[str]:
        """The elements that a text names."""
        return [element.phrase for element in read(text).elements]

    def label(self, text: str) -> str:
        """An animal anywhere in the sentence makes it ``animal``; ``background`` names surfaces alone."""
        named = read(text).elements
        if any(e.atoms <= elements()["animal"].atoms for e in named):
            return "animal"
        return "background" if named and self.level(text) != "object" else "other"

    def level(self, text: str) -> str:
        """``object``, ``place`` or ``low-level`` (pattern, colour, blur, lines): the highest that a sentence names."""
        named = read(text).elements
        if not named:
            return "unreadable"
        if any(e.atoms & _OBJECT_ATOMS for e in named):
            return "object"
        return "place" if any(e.atoms & _PLACES for e in named) else "low-level"

    def is_blank(self, text: str) -> bool:
        """Whether it names plain white and nothing else."""
        return [e.name for e in read(text).elements] == ["plain white"]

    def cluster_name(self, inside: Sequence[str], outside: Sequence[str]) -> str:
        """The element that tells a cluster's explanations best from all others (highest F1), if one does.

        Otherwise the cluster is mixed, and its first two explanations stand for it.
        """

        def within(text: str) -> np.ndarray:
            """Elements that cover something that the text names, and all of it."""
            named = list(read(text).atoms)
            return membership()[:, named].all(1) if named else np.zeros(len(membership()), bool)

        hits = np.sum([within(t) for t in inside], 0)
        false = np.sum([within(t) for t in outside], 0) if outside else np.zeros(len(membership()))
        f1 = 2 * hits / (hits + false + len(inside))
        if f1.max() < 0.5:  # no one name tells it from the rest
            return "mixed: " + ", ".join(inside[:2])
        return list(elements())[int(f1.argmax())]
