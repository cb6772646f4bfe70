"""Explanations by Steering, Top-k and Steering-informed Top-k (section 3, Eq. 4 to 6).

The three differ in two things alone: which pictures the model looks at, and whether its encoder is
steered meanwhile. A :class:`Method` says which.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import torch
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from lib import prompts
from lib.evidence import Evidence
from lib.hooks import Intervention
from lib.images import BLANK
from lib.overlay import heatmap_overlay, occlude
from lib.store import add_rows
from lib.vlm import VLM, Question, halved


@dataclass(frozen=True)
class Method:
    """One way to ask for an explanation.

    Attributes
    ----------
    evidence : ``blank`` (a white image), or the top images under ``masks`` or ``heatmaps``.
    steer : ``add`` the feature's direction, ``replace`` the residual stream by it, or None.
    coefficient : length of the added vector, in units of the residual stream's mean norm.
    """

    evidence: Literal["blank", "masks", "heatmaps"]
    steer: Literal["add", "replace"] | None = None
    coefficient: float = 0.0

    @property
    def family(self) -> str:
        """The paper's name of the method."""
        if self.evidence == "blank":
            return "Steering" if self.steer else "No intervention"
        return "Steering-informed Top-k" if self.steer else "Top-k"

    @property
    def key(self) -> str:
        """Short name for files and tables: ``steering-add``, ``top-k-masks``, ``hybrid-masks-add``..."""
        stem = {"Steering": "steering", "Top-k": f"top-k-{self.evidence}", "No intervention": "blank"}.get(
            self.family, f"hybrid-{self.evidence}"
        )
        return f"{stem}-{self.steer}" if self.steer else stem


NOTHING = Method("blank")
TOP_K = tuple(Method(e) for e in ("masks", "heatmaps"))
STEERING = tuple(Method("blank", s) for s in ("add", "replace"))
HYBRID = tuple(Method(e, s) for e in ("masks", "heatmaps") for s in ("add", "replace"))
PUBLISHED = tuple(m for m in (*STEERING, *TOP_K, *HYBRID) if m.steer != "replace")  # what Table 1 has rows for


def pictures(evidence: Evidence, images: Sequence[Image.Image], latent: int, k: int, mode: str) -> list[Image.Image]:
    """The top images of a latent, with its activity shown by ``masks`` or ``heatmaps``; at most ``k``."""
    show = {"masks": lambda pixels, heat: occlude(pixels, heat > 0), "heatmaps": heatmap_overlay}[mode]
    places = [p for p in range(k) if evidence.image[latent, p] >= 0]
    return [
        Image.fromarray(
            show(np.asarray(images[int(evidence.image[latent, p])].convert("RGB")), evidence.grid(latent, p).numpy())
        )
        for p in places
    ]


@dataclass(frozen=True)
class Explainer:
    """Everything that stays the same between methods.

    Attributes
    ----------
    vlm : subject and explainer.
    directions : ``[latents, d]`` unit rows: the dictionary's, or a control's.
    evidence, images : the top images, and the set that they come from.
    norm : mean norm of the residual stream, the unit of coefficients.
    k : top images shown.
    batch : questions asked at a time.
    max_new_tokens : length of an answer, at the most.
    blank : the picture that Steering looks at (white in the paper; footnote 4 tries others).
    """

    vlm: VLM
    directions: Tensor
    evidence: Evidence
    images: Sequence[Image.Image]
    norm: float
    k: int = 5
    batch: int = 32
    max_new_tokens: int = 16
    blank: Image.Image = field(default_factory=lambda: BLANK)

    def explain(self, latents: Sequence[int], method: Method, desc: str | None = None) -> pd.DataFrame:
        """Explain latents by one method.

        Returns
        -------
        One row per latent, in order: ``latent, method, coefficient, prompt, raw, explanation,
        model``. An explanation is empty where the model said nothing, or where the latent has no
        top image to show.
        """
        rows = []
        for part in tqdm(list(_batches(latents, self.batch)), desc=desc or method.key, mininterval=5):
            rows += halved(lambda latents: self._ask(latents, method), part)
        return pd.DataFrame(rows)

    def _ask(self, latents: Sequence[int], method: Method) -> list[dict]:
        blank = method.evidence == "blank"
        prompt = prompts.STEERING if blank else prompts.TOP_K[method.evidence]
        shown = {
            latent: [self.blank] if blank else pictures(self.evidence, self.images, latent, self.k, method.evidence)
            for latent in latents
        }
        asked = [latent for latent in latents if shown[latent]]
        answers = {}
        if asked:
            questions = [Question(tuple(shown[latent]), prompt) for latent in asked]
            change = self._change(asked, method, [len(shown[latent]) for latent in asked]) if method.steer else None
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

    def _change(self, latents: Sequence[int], method: Method, counts: list[int]) -> Intervention:
        """Steer every image of every prompt; with top images, only where the latent is active (Eq. 6)."""
        vectors = self.directions[list(latents)] * method.coefficient * self.norm  # [latents, d]
        where = None
        if method.evidence != "blank":
            heat = torch.cat([self.evidence.heat[latent, :n] for latent, n in zip(latents, counts)])
            where = self.vlm.positions(heat > 0)  # [images, tokens]
        return Intervention(vectors.repeat_interleave(torch.tensor(counts), 0), method.steer, where)


def _batches(latents: Sequence[int], size: int) -> Iterator[Sequence[int]]:
    for first in range(0, len(latents), size):
        yield latents[first : first + size]


def kept(
    explainer: Explainer, latents: Sequence[int], method: Method, path: Path, desc: str | None = None
) -> pd.DataFrame:
    """Explain, or read what earlier calls have left at ``path`` (Parquet); what is missing is added to it."""
    known = pd.read_parquet(path) if path.exists() else None
    new = [i for i in latents if known is None or i not in set(known.latent)]
    if new:
        made = explainer.explain(new, method, desc)
        known = add_rows(path, made, ["latent"])
    return known.set_index("latent").loc[list(latents)].reset_index()


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
