"""What a run looks at, and what judges its explanations: drawn scenes with exact judges, or photographs with models.

Everything else in the project is the same for both.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import Protocol

from PIL import Image

from lib.evidence import Observer
from lib.images import SceneImages, split
from lib.judges import Generator, Reader, Segmenter
from lib.judges.scenes import SceneGenerator, SceneReader, SceneSegmenter
from lib.photos import Photographs, photo_sets
from lib.profile import Profile, ProfileError
from lib.scenes.sampling import Mix
from lib.store import hub_id
from lib.truth import TruthCounter
from lib.vlm import VLM, Question


class World(Protocol):
    """Images and judges that belong together."""

    sets: dict[str, Sequence[Image.Image]]
    reader: Reader

    def segmenter(self, images: Sequence[Image.Image], first_only: bool = False) -> Segmenter:
        """Finds what a text names in a set; ``first_only`` stops at the first thing found."""

    def generator(self, folder: Path) -> Generator:
        """Draws texts; what takes long to draw is kept in ``folder``."""

    def counter(self, latents: int, images: Sequence[Image.Image]) -> Observer | None:
        """Counts what every latent is really active on; None where nobody knows."""


class SceneWorld:
    """Emoji Scenes: every judge is exact, and the truth is known."""

    def __init__(self, profile: Profile) -> None:
        c = profile.images
        self.mix = Mix(c.cooccurrence, c.closeup, c.wallpaper, c.empty)
        self.sets = split(profile.seed + 1, self.mix, train=c.train, explain=c.explain, evaluate=c.evaluate)
        self.reader = SceneReader()
        self._seed = profile.seed + 7

    def segmenter(self, images: SceneImages, first_only: bool = False) -> SceneSegmenter:
        """Looks up masks."""
        return SceneSegmenter(images, first_only)

    def generator(self, folder: Path) -> SceneGenerator:
        """Draws at once, so nothing is kept."""
        return SceneGenerator(self.mix, self._seed)

    def counter(self, latents: int, images: SceneImages) -> TruthCounter:
        """Counts activity on every element."""
        return TruthCounter(latents, images)


class PhotoWorld:
    """Photographs: judges are models, as in the paper, and nobody knows the truth.

    Parameters
    ----------
    profile : names the images and the judges.
    language_model : loads the model that reads explanations, when it is first needed.
    folder : keeps what the language model has read.

    Raises
    ------
    ProfileError
        If the profile names no segmenter or no generator.
    """

    def __init__(self, profile: Profile, language_model: Callable[[], VLM], folder: Path) -> None:
        for name in ("segmenter", "generator"):
            if getattr(profile.score, name) is None:
                raise ProfileError(f"photographs need a model as score.{name}; scenes alone have exact judges")
        self._profile, self._language_model, self._folder = profile, language_model, folder

    @cached_property
    def sets(self) -> dict[str, Photographs]:
        """The sets, opened when first needed; pictures that cannot be read are listed in ``skipped.csv``."""
        c = self._profile.images
        return photo_sets(
            *hub_id(c.source),
            c.train_split,
            c.split,
            self._profile.seed + 1,
            self._folder / "skipped.csv",
            train=c.train,
            explain=c.explain,
            evaluate=c.evaluate,
        )

    @cached_property
    def reader(self) -> Reader:
        """The language model itself reads explanations, as in the paper (section 5.1); its answers are kept."""
        from lib.judges.reader import LanguageModelReader

        def ask(prompts: Sequence[str], max_new_tokens: int) -> list[str]:
            return self._language_model().answer([Question((), prompt) for prompt in prompts], max_new_tokens)

        return LanguageModelReader(ask, self._folder / "reader")

    def segmenter(self, images: Photographs, first_only: bool = False) -> Segmenter:
        """Grounding DINO and SAM 2; or SAM 3 alone, where the profile names no detector."""
        c = self._profile.score
        if c.detector is None:
            from lib.judges.sam3 import Sam3Segmenter

            return Sam3Segmenter(images, self.reader, *hub_id(c.segmenter), first_only=first_only)
        from lib.judges.grounding import GroundedSegmenter

        models = (*hub_id(c.detector), *hub_id(c.segmenter), c.sam2_config, c.sam2_overrides)
        return GroundedSegmenter(images, self.reader, *models, first_only=first_only)

    def generator(self, folder: Path) -> Generator:
        """A diffusion model."""
        from lib.judges.diffusion import Diffusion

        c = self._profile.score
        return Diffusion(
            *hub_id(c.generator),
            folder=folder,
            seed=self._profile.seed + 7,
            steps=c.steps,
            guidance=c.guidance,
            size=c.size,
            without_t5=c.without_t5,
        )

    def counter(self, latents: int, images: Photographs) -> None:
        """Nobody knows."""
        return None
