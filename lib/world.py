"""What a run looks at, and what judges its explanations: drawn scenes with exact judges, or photographs with models.

Everything else in the project is the same for both.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from typing import Protocol

import pandas as pd

from lib.evidence import Gathered
from lib.images import ImageSet
from lib.judges import Generator, Reader, Segmenter
from lib.photos.sets import Photographs, photo_sets
from lib.profile import Profile
from lib.scenes.images import SceneImages, split
from lib.scenes.judges import SceneGenerator, SceneReader, SceneSegmenter
from lib.scenes.sampling import Mix
from lib.scenes.truth import Truth
from lib.store import read
from lib.vlm import VLM

NONE_SKIPPED = pd.DataFrame(columns=["name", "reason"])


class World(Protocol):
    """Images and judges that belong together.

    Attributes
    ----------
    sets : the disjoint sets ``train``, ``explain`` and ``evaluate``.
    reader : understands explanations.
    generator : draws them.
    skipped : pictures that could not be read so far, and why.
    """

    sets: dict[str, ImageSet]
    reader: Reader
    generator: Generator
    skipped: pd.DataFrame

    def segmenter(self, images: ImageSet) -> Segmenter:
        """Finds what a text names in a set."""

    def truth(self, held_out: Gathered) -> Truth | None:
        """What every latent is really active on; None where nobody knows."""


class SceneWorld:
    """Emoji Scenes: every judge is exact, and the truth is known."""

    def __init__(self, profile: Profile) -> None:
        c = profile.images
        self.mix = Mix(c.cooccurrence, c.closeup, c.wallpaper, c.empty)
        self.sets = split(profile.seed + 1, self.mix, train=c.train, explain=c.explain, evaluate=c.evaluate)
        self.reader = SceneReader()
        self.generator = SceneGenerator(self.mix, profile.seed + 7)
        self.skipped = NONE_SKIPPED

    def segmenter(self, images: SceneImages) -> SceneSegmenter:
        """Looks up masks."""
        return SceneSegmenter(images)

    def truth(self, held_out: Gathered) -> Truth:
        """As it was counted over the held-out set."""
        return Truth.load(held_out.need("truth.safetensors"))


class PhotoWorld:
    """Photographs: judges are models, as in the paper, and nobody knows the truth.

    Parameters
    ----------
    profile : names the images and the judges.
    language_model : loads the model that reads explanations, when it is first needed.
    folder : keeps what judges have drawn and read, which outlives a change of all else.
    """

    def __init__(self, profile: Profile, language_model: Callable[[], VLM], folder: Path) -> None:
        self._profile, self._language_model, self._folder = profile, language_model, folder

    @property
    def skipped(self) -> pd.DataFrame:
        """Pictures that could not be read so far, and why: ``name, reason``."""
        path = self._folder / "skipped.csv"
        return read(path) if path.exists() else NONE_SKIPPED

    @cached_property
    def sets(self) -> dict[str, Photographs]:
        """The sets, opened when first needed."""
        c = self._profile.images
        sizes = {"train": c.train, "explain": c.explain, "evaluate": c.evaluate}
        return photo_sets(
            c.source,
            c.train_split,
            c.split,
            c.configuration,
            self._profile.seed + 1,
            self._folder / "skipped.csv",
            **sizes,
        )

    @cached_property
    def reader(self) -> Reader:
        """The language model itself reads explanations, as in the paper (section 5.1); its answers are kept."""
        from lib.judges.reader import LanguageModelReader

        return LanguageModelReader(self._profile.subject.checkpoint, self._folder / "answers", self._language_model)

    def segmenter(self, images: Photographs) -> Segmenter:
        """Grounding DINO and SAM 2; or SAM 3 alone, where the profile names no detector."""
        c, what = self._profile.score, (images, self.reader, self._folder / "masks")
        if c.detector is None:
            from lib.judges.sam3 import Sam3Segmenter

            return Sam3Segmenter(*what, c.segmenter)
        from lib.judges.grounding import GroundedSegmenter

        models = (c.detector, c.segmenter, c.sam2_config, c.sam2_overrides)
        return GroundedSegmenter(*what, *models)

    @cached_property
    def generator(self) -> Generator:
        """A diffusion model."""
        from lib.judges.diffusion import Diffusion

        c = self._profile.score
        settings = (self._profile.seed + 7, c.steps, c.guidance, c.size, c.without_t5)
        return Diffusion(c.generator, *settings, folder=self._folder / "drawings")

    def truth(self, held_out: Gathered) -> None:
        """Nobody knows."""
        return None
