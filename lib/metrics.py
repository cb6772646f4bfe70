"""The four metrics of section 4.1, and what only a drawn world knows: each scores one explanation of one latent.

An explanation that says nothing the judge can use is a failure and is scored as one: IoU 0, no
synthetic activation, AUROC of chance, CLIP score 0. Failures never drop out of a mean.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from torch import Tensor

from lib.evidence import Gathered
from lib.explain import pictures
from lib.images import ImageSet
from lib.judges import Generator, ImageTextModel, Segmenter
from lib.kept import Evidence
from lib.overlap import mean_ious
from lib.stage import Stage
from lib.store import add_rows, read
from lib.synthetic import SyntheticImages
from lib.vlm import VLM

CHANCE = 0.5


def auroc(positives: Sequence[float] | np.ndarray, negatives: Sequence[float] | np.ndarray) -> float:
    """Chance that a positive scores higher than a negative, ties counted half; 0.5 without positives.

    Raises
    ------
    ValueError
        If there is no negative, or a score is not finite.
    """
    if not len(negatives) or not (np.isfinite(positives).all() and np.isfinite(negatives).all()):
        raise ValueError("AUROC needs negatives, and finite scores; an encoder in half precision may overflow")
    if not len(positives):
        return CHANCE
    sides = (np.searchsorted(np.sort(negatives), positives, side) for side in ("left", "right"))  # ties: between both
    return float(sum(below.mean() for below in sides) / (2 * len(negatives)))


def masked_embeddings(
    latents: Sequence[int], evidence: Evidence, images: ImageSet, k: int, clip: ImageTextModel
) -> dict[int, Tensor]:
    """Embeddings of each latent's top images, masked by its activity: latent -> ``[<= k, d]``."""
    shown = {latent: pictures(evidence, images, latent, k, "masks") for latent in latents}
    flat = clip.embed_images([picture for latent in latents for picture in shown[latent].values()])
    return dict(zip(latents, flat.split([len(shown[latent]) for latent in latents])))


@dataclass(frozen=True)
class Bench:
    """What explanations are scored with: held-out evidence, and the judges.

    Attributes
    ----------
    evidence, images : top images of the *evaluation* set, and that set.
    k : held-out top images used (5 in the paper).
    negatives : scores of random held-out images, ``[n, latents]``.
    segmenter, synthetic, clip : the judges.
    truth : says how right a text is about a latent, where that is known.
    """

    evidence: Evidence
    images: ImageSet
    k: int
    negatives: Tensor
    segmenter: Segmenter
    synthetic: SyntheticImages
    clip: ImageTextModel
    truth: Any | None = None

    def drawn(self, table: pd.DataFrame) -> list[list[float]]:
        """Scores of the drawings of each explanation, about its latent; none where nothing could be drawn."""
        self.synthetic.prepare(table.explanation)
        return [self.synthetic.scores(text, latent) for text, latent in zip(table.explanation, table.latent)]


def _iou(bench: Bench, table: pd.DataFrame) -> np.ndarray:
    return mean_ious(table, [(bench.evidence, bench.segmenter, range(bench.k))])


def _auroc(bench: Bench, table: pd.DataFrame) -> list[float]:
    pairs = zip(bench.drawn(table), table.latent)
    return [auroc(drawn, bench.negatives[:, latent].numpy()) for drawn, latent in pairs]


def _synthetic(bench: Bench, table: pd.DataFrame) -> list[float]:
    return [float(np.mean(drawn)) if drawn else 0.0 for drawn in bench.drawn(table)]


def _clip(bench: Bench, table: pd.DataFrame) -> list[float]:
    shown = masked_embeddings(sorted(set(table.latent)), bench.evidence, bench.images, bench.k, bench.clip)
    return clip_scores(table, shown, [not drawn for drawn in bench.drawn(table)], bench.clip)


def clip_scores(
    table: pd.DataFrame, shown: dict[int, Tensor], failed: Iterable[bool], clip: ImageTextModel
) -> list[float]:
    """Mean cosine of each explanation with pictures of its latent (Eq. 9); 0 for a failure.

    Parameters
    ----------
    shown : embeddings of each latent's pictures, from :func:`masked_embeddings`.
    """
    texts = list(dict.fromkeys(table.explanation))
    text_of = dict(zip(texts, clip.embed_texts([text or "." for text in texts])))
    rows = zip(table.latent, table.explanation, failed)
    return [0.0 if bad else float((shown[latent] @ text_of[text]).mean()) for latent, text, bad in rows]


def _measure(name: str) -> Callable[[Bench, pd.DataFrame], list[float]]:
    def score(bench: Bench, table: pd.DataFrame) -> list[float]:
        return [bench.truth.score(latent, text, name) for latent, text in zip(table.latent, table.explanation)]

    return score


@dataclass(frozen=True)
class Metric:
    """A metric, as every table, vote, filter, figure and claim reads it.

    Attributes
    ----------
    title : for heads and axes.
    low, high : its range; a score outside of it is an error.
    score : from a bench and explanations (``latent, explanation``) to a score for each, NaN where it is undefined.
    votes : whether it has a vote in the choice of the best explanation (section 5.3).
    needs : ``judges``, which there always are, or the ``truth``, which is known for scenes alone.
    main : whether the main tables show it.
    """

    title: str
    low: float
    high: float
    score: Callable[[Bench, pd.DataFrame], Sequence[float]]
    votes: bool = True
    needs: Literal["judges", "truth"] = "judges"
    main: bool = True


METRICS: dict[str, Metric] = {
    "iou": Metric("IoU", 0, 1, _iou),
    "auroc": Metric("AUROC", 0, 1, _auroc),
    "synthetic": Metric("Synthetic activation", 0, np.inf, _synthetic),
    "clip": Metric("CLIP score", -1, 1, _clip),
    "correctness": Metric("Correctness", 0, 1, _measure("correctness"), votes=False, needs="truth"),
    "patch_f1": Metric("patch F1", 0, 1, _measure("patch_f1"), votes=False, needs="truth", main=False),
}


def metrics_of(scored: pd.DataFrame) -> dict[str, str]:
    """The metrics that the main tables show of scored explanations, with their titles."""
    return {name: metric.title for name, metric in METRICS.items() if metric.main and name in scored}


def voters() -> list[str]:
    """The metrics that vote: correctness does not, as it is not known in practice."""
    return [name for name, metric in METRICS.items() if metric.votes]


def score_table(explanations: pd.DataFrame, bench: Bench) -> pd.DataFrame:
    """Explanations (``latent, explanation``) with a column for every metric, and ``failed``.

    Raises
    ------
    ValueError
        If a score lies outside of its metric's range: a judge or a metric is broken.
    """
    table = explanations.reset_index(drop=True)
    for name, metric in METRICS.items():
        if metric.needs == "truth" and bench.truth is None:
            continue
        scores = np.asarray(metric.score(bench, explanations), float)
        wrong = (scores < metric.low - 1e-4) | (scores > metric.high + 1e-4)
        if wrong.any():
            raise ValueError(
                f"{metric.title} of {explanations.explanation.to_numpy()[wrong][0]!r} is {scores[wrong][0]:g}: "
                f"it must lie between {metric.low:g} and {metric.high:g}"
            )
        table[name] = scores
    return table.assign(failed=[not drawn for drawn in bench.drawn(explanations)])


@dataclass(frozen=True)
class Scores(Stage):
    """Scores of explanations. One depends on the latent and the words alone, so each pair is scored once.

    Attributes
    ----------
    held_out : evidence that no explainer has seen.
    segmenter, generator, clip : the judges.
    k : held-out top images used.
    drawings : pictures drawn of every text.
    """

    title: ClassVar[str] = "scores"
    notebook: ClassVar[str] = "05"
    held_out: Gathered
    segmenter: Segmenter
    generator: Generator
    clip: ImageTextModel
    k: int
    drawings: int

    def synthetic(self, load: Callable[[], VLM]) -> SyntheticImages:
        """Draws explanations and encodes the drawings; what was encoded before is read, and needs no model."""
        return SyntheticImages(self.generator, self.drawings, load, self.held_out.dictionary, self.path("synthetic"))

    def bench(self, load: Callable[[], VLM], truth: Any | None) -> Bench:
        """What explanations are scored with."""
        held_out = self.held_out
        return Bench(
            held_out.top, held_out.images, self.k, held_out.negative_scores, self.segmenter, self.synthetic(load),
            self.clip, truth,
        )  # fmt: skip

    def make(self, explained: pd.DataFrame, load: Callable[[], VLM], truth: Any | None) -> pd.DataFrame:
        """Explanations with their scores; what is new is scored, the rest is read.

        Parameters
        ----------
        explained : a table with columns ``latent`` and ``explanation``, and any others.
        load : gives the subject, whose encoder looks at the drawings.
        truth : of scenes, else None.
        """
        path, names = self.path("scores.parquet"), ["latent", "explanation"]
        known = read(path) if path.exists() else pd.DataFrame(columns=names)
        wanted = explained[names].drop_duplicates()
        new = wanted[~pd.MultiIndex.from_frame(wanted).isin(pd.MultiIndex.from_frame(known[names]))]
        if len(new):
            with self.making():
                known = add_rows(path, score_table(new, self.bench(load, truth)), names)
        return explained.merge(known, on=names, how="left", validate="many_to_one")
