"""Sets of Emoji Scenes: stretches of one endless stream, so that they cannot overlap."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from PIL import Image

from lib.scenes.drawing import Scene
from lib.scenes.sampling import Mix, scenes
from lib.scenes.truth import TruthCounter


@dataclass(frozen=True)
class SceneImages(Sequence):
    """A stretch of an endless stream of scenes.

    Attributes
    ----------
    seed : names the stream.
    start, n : the scenes ``start`` to ``start + n - 1`` of it.
    mix : what kinds of scene the stream holds.
    """

    seed: int
    start: int
    n: int
    mix: Mix = Mix()

    def __len__(self) -> int:
        return self.n

    def __getitem__(self, index: int | slice) -> Image.Image | SceneImages:
        """Picture ``index`` of the set; a slice is a smaller set."""
        if isinstance(index, slice):
            picked = range(self.n)[index]
            if picked.step != 1:
                raise ValueError("a stretch of scenes has no steps: use images[a:b]")
            return SceneImages(self.seed, self.start + picked.start, len(picked), self.mix)
        return self.scene(index).image

    def scene(self, index: int) -> Scene:
        """The scene behind picture ``index``, with its exact masks.

        Raises
        ------
        IndexError
            If the set has no such picture.
        """
        if not 0 <= index < self.n:
            raise IndexError(f"picture {index} of a set of {self.n}")
        return _scene(self.seed, self.start + int(index), self.mix)

    def counter(self, latents: int) -> TruthCounter:
        """Counts what every latent is really active on."""
        return TruthCounter(latents, self.scene)

    @property
    def ids(self) -> range:
        """Positions in the stream: two sets with one seed share a picture if they share an id."""
        return range(self.start, self.start + self.n)


@lru_cache(maxsize=20_000)  # the sets of a desk run, below a gigabyte
def _scene(seed: int, index: int, mix: Mix) -> Scene:
    return next(scenes(1, seed, mix, index))


def split(seed: int, mix: Mix, **sizes: int) -> dict[str, SceneImages]:
    """Consecutive, hence disjoint, sets of one stream: ``split(7, mix, train=100, explain=50)``."""
    starts = np.cumsum([0, *sizes.values()])
    return {name: SceneImages(seed, int(start), n, mix) for (name, n), start in zip(sizes.items(), starts)}
