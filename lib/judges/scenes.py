"""Exact judges for Emoji Scenes: read the text, then look up its masks or draw it."""

from __future__ import annotations

import zlib
from dataclasses import dataclass

import numpy as np
from PIL import Image

from lib.images import SceneImages
from lib.scenes.catalogue import ATOMS, OBJECTS
from lib.scenes.drawing import draw
from lib.scenes.language import read
from lib.scenes.sampling import Mix, arrange


@dataclass(frozen=True)
class SceneSegmenter:
    """Looks up the masks of the elements that a text names."""

    images: SceneImages

    def segment(self, text: str, image: int) -> np.ndarray:
        """Pixels of ``image`` that show anything ``text`` names: ``[H, W]`` bool; empty if it names nothing."""
        return np.isin(self.images.scene(image).atoms, list(read(text).atoms))


@dataclass(frozen=True)
class FirstElement:
    """A segmenter that stops at the first thing that a text names, as the published protocol does."""

    segmenter: SceneSegmenter

    def segment(self, text: str, image: int) -> np.ndarray:
        """Pixels of ``image`` that show the first element of ``text``: ``[H, W]`` bool."""
        named = read(text).elements
        return self.segmenter.segment(named[0].phrase if named else "", image)


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
