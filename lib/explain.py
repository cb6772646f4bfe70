"""Explanations by Steering, Top-k and Steering-informed Top-k (section 3, Eq. 4 to 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from itertools import pairwise
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from lib import prompts
from lib.controls import Control
from lib.device import halved
from lib.dictionary import Dictionary
from lib.evidence import Gathered
from lib.hooks import Intervention
from lib.identity import digest, plain
from lib.images import BLANK, ImageSet, readable
from lib.kept import Evidence
from lib.methods import Method
from lib.overlay import heatmap_overlay, occlude
from lib.questions import Question
from lib.spread import spread
from lib.stage import Stage
from lib.store import add_rows, note, read, write_json
from lib.vlm import VLM, Checkpoint


def pictures(evidence: Evidence, images: ImageSet, latent: int, k: int, mode: str) -> dict[int, Image.Image]:
    """The top images of a latent, with its activity shown by ``masks`` or ``heatmaps``: place -> picture.

    At most ``k``; a picture that cannot be read (any more) is left out.
    """
    show = {"masks": lambda pixels, heat: occlude(pixels, heat > 0), "heatmaps": heatmap_overlay}[mode]
    found = {int(evidence.image[latent, p]): p for p in range(k) if evidence.image[latent, p] >= 0}
    return {
        found[index]: Image.fromarray(
            show(np.asarray(picture.convert("RGB")), evidence.grid(latent, found[index]).numpy())
        )
        for index, picture in zip(*readable(images, list(found)))
    }


def batches(latents: Sequence[int], pictures: int, k: int) -> list[Sequence[int]]:
    """Latents as they are asked about together: at most so many ``pictures``, ``k`` each (0 for the blank one).

    Batches are as few as can be, and as equal: those who work on them end together.
    """
    count = -(-len(latents) // max(1, pictures // max(1, k)))
    cuts = [len(latents) * i // max(1, count) for i in range(count + 1)]
    return [latents[first:last] for first, last in pairwise(cuts)]


@dataclass(frozen=True)
class Explainer:
    """Everything that stays the same between methods.

    Attributes
    ----------
    vlm : subject and explainer.
    directions : ``[latents, d]`` unit rows: the dictionary's, or a control's.
    norm : mean norm of the residual stream, the unit of coefficients.
    evidence, images : the top images, and the set that they come from; None where only a blank picture is shown.
    k : top images shown.
    batch : pictures shown at a time: of questions about one picture, more are asked together than about five.
    max_new_tokens : length of an answer, at the most.
    blank : the picture that Steering looks at (white in the paper; footnote 4 tries others).
    """

    vlm: VLM
    directions: Tensor
    norm: float
    evidence: Evidence | None = None
    images: ImageSet | None = None
    k: int = 5
    batch: int = 160
    max_new_tokens: int = 16
    blank: Image.Image = field(default_factory=lambda: BLANK)

    def explain(self, latents: Sequence[int], method: Method) -> pd.DataFrame:
        """Explain latents by one method.

        Returns
        -------
        One row per latent, in order: ``latent, method, coefficient, prompt, raw, explanation,
        model``. An explanation is empty where the model said nothing, or where the latent has no
        top image to show.
        """
        parts = batches(latents, self.batch, 0 if method.evidence == "blank" else self.k)
        name = f"{method.key} {method.coefficient:g}" if method.steer else method.key
        rows = []
        for part in tqdm(parts, desc=name, mininterval=5, disable=len(parts) < 2):
            rows += halved(lambda latents: self._ask(latents, method), part)
        return pd.DataFrame(rows)

    def _ask(self, latents: Sequence[int], method: Method) -> list[dict]:
        blank = method.evidence == "blank"
        prompt = prompts.STEERING if blank else prompts.TOP_K[method.evidence]
        shown = {
            latent: {0: self.blank} if blank else pictures(self.evidence, self.images, latent, self.k, method.evidence)
            for latent in latents
        }
        asked = [latent for latent in latents if shown[latent]]
        answers = {}
        if asked:
            questions = [Question(tuple(shown[latent].values()), prompt) for latent in asked]
            change = self._change(method, {latent: list(shown[latent]) for latent in asked}) if method.steer else None
            answers = dict(zip(asked, self.vlm.answer(questions, self.max_new_tokens, change)))
        return [
            {
                "latent": latent,
                "method": method.key,
                "coefficient": method.coefficient,
                "prompt": prompt,
                "raw": answers.get(latent, ""),
                "explanation": prompts.clean(answers.get(latent, "")),
                "model": self.vlm.name,
            }
            for latent in latents
        ]

    def _change(self, method: Method, places: dict[int, list[int]]) -> Intervention:
        """Steer every image of every prompt; with top images, only where the latent is active (Eq. 6)."""
        vectors = self.directions[list(places)] * method.coefficient * self.norm  # [latents, d]
        where = None
        if method.evidence != "blank":
            heat = torch.cat([self.evidence.heat[latent, shown] for latent, shown in places.items()])
            where = self.vlm.positions(heat > 0)  # [images, tokens]
        counts = torch.tensor([len(shown) for shown in places.values()])
        return Intervention(vectors.repeat_interleave(counts, 0), method.steer, where)


@dataclass(frozen=True)
class Variation:
    """All by which two explanations of one latent can differ. Its digest names the file that holds them.

    Attributes
    ----------
    method : what the model looks at, how it is steered, and how strongly.
    explainer : the model that speaks.
    shown : where top images come from; None for a blank picture.
    limit : only the first so many pictures of that set; None for all.
    k : top images shown; 0 for a blank picture.
    control : what belongs to another latent.
    blank : the picture that is blank; None for top images.
    """

    method: Method
    explainer: Checkpoint
    shown: Gathered | None
    limit: int | None = None
    k: int = 0
    control: Control | None = None
    blank: Image.Image | None = None

    @classmethod
    def of(
        cls, method: Method, explainer: Checkpoint, shown: Gathered, k: int, blank: Image.Image = BLANK, **more
    ) -> Variation:
        """A variation without what its method does not use: a blank picture knows no top images, nor they it."""
        if method.evidence == "blank":
            more.pop("limit", None)
            return cls(method, explainer, None, blank=blank, **more)
        return cls(method, explainer, shown, k=k, **more)

    @property
    def pictures(self) -> Variation | None:
        """Equal for variations that show the same pictures of a latent, whatever is done meanwhile; None if blank."""
        if self.shown is None:
            return None
        exchanged = self.control if self.control and self.control.swaps_images else None
        return replace(self, method=Method(self.method.evidence), control=exchanged)

    @property
    def file(self) -> str:
        """Name of the table that holds its explanations."""
        return f"{self.method.key}-{digest(plain(self))}"


@dataclass(frozen=True)
class Explanations(Stage):
    """Explanations of a dictionary's latents, a table for each variation; each is made once.

    Attributes
    ----------
    dictionary : whose latents.
    batch : pictures shown at a time.
    max_new_tokens : length of an answer, at the most.
    """

    title: ClassVar[str] = "explanations"
    notebook: ClassVar[str] = "04"
    dictionary: Dictionary
    batch: int
    max_new_tokens: int

    def make(self, variations: Sequence[Variation], latents: Sequence[int], load: Callable[[], VLM]) -> None:
        """Explain what has not been explained yet of several variations by one model; each batch is kept at once.

        Variations with the same pictures are asked about them one after the other, by the same worker: what its encoder
        says of a picture below the layer is computed once.

        Parameters
        ----------
        load : gives the explainer; called only if there is something to explain.
        """
        together: dict[Any, list[int]] = {}
        for number, variation in enumerate(variations):
            known = self._known(variation)
            there = set() if known is None else set(known.latent)
            new = tuple(i for i in latents if i not in there)
            together.setdefault((variation.pictures or number, new), []).append(number)
        shards = []
        for (_, new), numbers in together.items():
            shards += [(tuple(numbers), part) for part in batches(new, self.batch, variations[numbers[0]].k)]
        if not shards:
            return
        with self.making():
            for number in {number for numbers, _ in shards for number in numbers}:
                write_json(self.path(f"{variations[number].file}.json"), plain(variations[number]))
            for tables, (numbers, _) in zip(spread(Ask(self, tuple(variations)), shards, load, "explain"), shards):
                for number, made in zip(numbers, tables):
                    add_rows(self.path(f"{variations[number].file}.parquet"), made, ["latent"])

    def table(self, variation: Variation, latents: Sequence[int]) -> pd.DataFrame:
        """What :meth:`make` has left, one row per latent, in order, with a column ``control``.

        Raises
        ------
        MissingStage
            If a latent has not been explained.
        """
        known = self._known(variation)
        if known is None or not set(latents) <= set(known.latent):
            raise self.missing(f"one of the explanations by {variation.method.label}")
        note("stage", self.folder)
        control = variation.control.name if variation.control else ""
        return known.set_index("latent").loc[list(latents)].reset_index().assign(control=control)

    def _known(self, variation: Variation) -> pd.DataFrame | None:
        path = self.path(f"{variation.file}.parquet")
        return read(path) if path.exists() else None


@dataclass(frozen=True)
class Ask:
    """Asking one model about latents, a batch at a time.

    Attributes
    ----------
    explanations : the dictionary, and how it is asked about.
    variations : what is asked; a shard is the numbers of those with the same pictures, and latents.
    """

    explanations: Explanations
    variations: tuple[Variation, ...]

    @property
    def model(self) -> Checkpoint:
        """The model that speaks."""
        return self.variations[0].explainer

    @cached_property
    def _latest(self) -> dict[tuple[int, ...], list[dict[str, Any]]]:
        return {}

    def _settings(self, numbers: tuple[int, ...]) -> list[dict[str, Any]]:
        """What an :class:`Explainer` is given for each variation, beside its model; those of the latest are kept."""
        if numbers not in self._latest:
            self._latest.clear()
            self._latest[numbers] = [self._made(self.variations[number]) for number in numbers]
        return self._latest[numbers]

    def _made(self, v: Variation) -> dict[str, Any]:
        stage = self.explanations
        directions = stage.dictionary.sae.directions
        out = {
            "directions": v.control.directions(directions) if v.control else directions,
            "norm": stage.dictionary.report["norm"],
            "batch": stage.batch,
            "max_new_tokens": stage.max_new_tokens,
        }
        if v.shown is None:
            return out | {"blank": v.blank}
        top = v.shown.top_of(v.limit)
        return out | {"evidence": v.control.evidence(top) if v.control else top, "images": v.shown.images, "k": v.k}

    def __call__(self, shard: tuple[tuple[int, ...], Sequence[int]], load: Callable[[], VLM]) -> list[pd.DataFrame]:
        """Explanations of some latents, a table for each variation."""
        numbers, latents = shard
        pairs = zip(numbers, self._settings(numbers))
        return [Explainer(load(), **how).explain(latents, self.variations[i].method) for i, how in pairs]
