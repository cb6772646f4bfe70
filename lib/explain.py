"""Explanations by Steering, Top-k and Steering-informed Top-k (section 3, Eq. 4 to 6)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import ClassVar, Literal

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from lib import prompts
from lib.device import halved
from lib.dictionary import Dictionary
from lib.evidence import Evidence, Gathered
from lib.hooks import Intervention
from lib.identity import digest, plain
from lib.images import BLANK, ImageSet, readable
from lib.methods import Method
from lib.overlay import heatmap_overlay, occlude
from lib.questions import Question
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
        size = max(1, self.batch // (1 if method.evidence == "blank" else self.k))
        parts = [latents[first : first + size] for first in range(0, len(latents), size)]
        name = f"{method.key} {method.coefficient:g}" if method.steer else method.key
        rows = []
        for part in tqdm(parts, desc=name, mininterval=5):
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


# -- controls (appendix J) -------------------------------------------------------------------------


@dataclass(frozen=True)
class Control:
    """What belongs to another latent, or to none.

    Attributes
    ----------
    name : ``random``: random directions; ``permuted``: another latent's direction; ``images``: another latent's
        images; ``both``: both from the same other latent, which is then all it explains.
    seed : of the exchange.
    among : the latents that swap; empty for random directions.
    """

    name: Literal["random", "permuted", "images", "both"]
    seed: int
    among: tuple[int, ...] = ()

    def directions(self, own: Tensor) -> Tensor:
        """The directions under this control: ``[latents, d]``."""
        if self.name == "random":
            return random_directions(own, self.seed)
        return permuted_directions(own, self.among, self.seed) if self.name in ("permuted", "both") else own

    def evidence(self, own: Evidence) -> Evidence:
        """The top images under this control."""
        return permuted_evidence(own, self.among, self.seed) if self.name in ("images", "both") else own


def random_directions(directions: Tensor, seed: int) -> Tensor:
    """Control: random directions of the same norms, ``[latents, d]`` (appendix J)."""
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(directions.shape, generator=generator)
    return torch.nn.functional.normalize(noise, dim=1) * directions.norm(dim=1, keepdim=True)


def permuted_directions(directions: Tensor, latents: Sequence[int], seed: int) -> Tensor:
    """Control: every one of ``latents`` gets the direction of another of them (appendix J).

    A random cyclic order guarantees that no latent keeps its own.
    """
    order = np.random.default_rng(seed).permutation(np.asarray(latents))
    out = directions.clone()
    out[order] = directions[np.roll(order, 1)]
    return out


def permuted_evidence(evidence: Evidence, latents: Sequence[int], seed: int) -> Evidence:
    """Control: every one of ``latents`` gets the top images of another of them, and their heatmaps.

    With the seed of :func:`permuted_directions`, images and direction come from the same other latent.
    """
    order = np.random.default_rng(seed).permutation(np.asarray(latents))
    changed = {name: tensor.clone() for name, tensor in vars(evidence).items()}
    for name, tensor in vars(evidence).items():
        changed[name][order] = tensor[np.roll(order, 1)]
    return Evidence(**changed)


# -- the stage -------------------------------------------------------------------------------------


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

    def make(self, variation: Variation, latents: Sequence[int], load: Callable[[], VLM]) -> pd.DataFrame:
        """Explain what has not been explained yet, and read it all: one row per latent, in order.

        Parameters
        ----------
        load : gives the explainer; called only if there is something to explain.
        """
        known = self._known(variation)
        new = [i for i in latents if known is None or i not in set(known.latent)]
        if new:
            with self.making():
                write_json(self.path(f"{variation.file}.json"), plain(variation))
                made = self._explainer(variation, load()).explain(new, variation.method)
                add_rows(self.path(f"{variation.file}.parquet"), made, ["latent"])
        return self.table(variation, latents)

    def table(self, variation: Variation, latents: Sequence[int]) -> pd.DataFrame:
        """What :meth:`make` has left, with a column ``control``.

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

    def _explainer(self, v: Variation, vlm: VLM) -> Explainer:
        directions = self.dictionary.sae.directions
        if v.control:
            directions = v.control.directions(directions)
        sizes = {"batch": self.batch, "max_new_tokens": self.max_new_tokens}
        if v.shown is None:
            return Explainer(vlm, directions, self.dictionary.report["norm"], blank=v.blank, **sizes)
        top = v.shown.top_of(v.limit)
        top = v.control.evidence(top) if v.control else top
        return Explainer(vlm, directions, self.dictionary.report["norm"], top, v.shown.images, v.k, **sizes)
