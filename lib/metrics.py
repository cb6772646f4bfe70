"""The four metrics of section 4.1. Each scores one explanation of one latent.

An explanation that says nothing the judge can use is a failure and is scored as one: IoU 0, no
synthetic activation, AUROC of chance, CLIP score 0. Failures never drop out of a mean.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from PIL import Image
from torch import Tensor
from tqdm import tqdm

from lib.evidence import Evidence, encode
from lib.explain import pictures
from lib.judges import Generator, ImageTextModel, Segmenter
from lib.overlay import upsample
from lib.sae import TopKSAE
from lib.store import digest, write_atomically
from lib.vlm import VLM

CHANCE = 0.5


def iou(a: np.ndarray, b: np.ndarray) -> float:
    """Intersection over union of two boolean masks (Eq. 8); 0 if both are empty."""
    union = np.logical_or(a, b).sum()
    return float(np.logical_and(a, b).sum() / union) if union else 0.0


Where = tuple[Evidence, Segmenter, Sequence[int]]  # top images, what finds things in them, and which places count


def mean_ious(explanations: pd.DataFrame, sets: Sequence[Where]) -> np.ndarray:
    """IoU between what each text names and where its latent is active, the mean over the latent's top images: ``[n]``.

    The latent's mask is code > 0, upsampled to pixels (Eq. 7 and 8). NaN if no image activates the latent. It goes
    latent by latent and image by image, since a segmenter that embeds pictures then embeds each of them once.

    Parameters
    ----------
    explanations : a table with columns ``latent`` and ``explanation``; equal rows are scored once.
    sets : the images are those of all sets together.
    """
    found: dict[tuple[int, str], float] = {}
    for latent, part in explanations.groupby("latent", sort=False):
        scores: dict[str, list[float]] = {text: [] for text in part.explanation}
        for evidence, segmenter, places in sets:
            for place in places:
                image = int(evidence.image[latent, place])
                if image < 0:
                    continue
                active = evidence.grid(latent, place).numpy() > 0
                for text in scores:
                    mask = segmenter.segment(text, image)
                    scores[text].append(iou(mask, upsample(active, mask.shape, Image.Resampling.NEAREST) > 0.5))
        found |= {(latent, text): float(np.mean(values or [np.nan])) for text, values in scores.items()}
    return np.array([found[pair] for pair in zip(explanations.latent, explanations.explanation)])


def iou_score(text: str, latent: int, evidence: Evidence, segmenter: Segmenter, k: int) -> float:
    """:func:`mean_ious` of one explanation over the top ``k`` images."""
    one = pd.DataFrame({"latent": [latent], "explanation": [text]})
    return float(mean_ious(one, [(evidence, segmenter, range(k))])[0])


def auroc(positives: Iterable[float], negatives: Iterable[float]) -> float:
    """Chance that a positive scores higher than a negative, ties counted half; 0.5 without positives."""
    from sklearn.metrics import roc_auc_score  # takes a second, and a notebook that reads scores needs none

    positives, negatives = list(positives), list(negatives)
    if not positives:
        return CHANCE
    return float(roc_auc_score([1] * len(positives) + [0] * len(negatives), positives + negatives))


def masked_embeddings(
    latents: Sequence[int], evidence: Evidence, images: Sequence[Image.Image], k: int, clip: ImageTextModel
) -> dict[int, Tensor]:
    """Embeddings of each latent's top images, masked by its activity: latent -> ``[<= k, d]``."""
    shown = {latent: pictures(evidence, images, latent, k, "masks") for latent in latents}
    flat = clip.embed_images([picture for latent in latents for picture in shown[latent]])
    return dict(zip(latents, flat.split([len(shown[latent]) for latent in latents])))


class SyntheticImages:
    """Draws explanations and measures what the drawings activate; each text is drawn once.

    Parameters
    ----------
    generator : draws.
    n : pictures per text (3 in the paper).
    vlm, sae : the subject.
    folder : where the scores of every text that was drawn are kept, a file for each.
    """

    def __init__(self, generator: Generator, n: int, vlm: VLM, sae: TopKSAE, folder: Path) -> None:
        self.generator, self.n, self.vlm, self.sae, self.folder = generator, n, vlm, sae, folder
        self._load = lru_cache(maxsize=2048)(np.load)  # a text is asked for once per latent

    def _path(self, text: str) -> Path:
        return self.folder / f"{digest(text)}.npy"

    def prepare(self, texts: Iterable[str], batch: int = 64) -> None:
        """Draw and encode all texts not seen before, about ``batch`` pictures at a time."""
        new = [text for text in dict.fromkeys(texts) if not self._path(text).exists()]
        step = max(1, batch // self.n)
        for first in tqdm(range(0, len(new), step), desc="draw", mininterval=5, disable=not new):
            part = new[first : first + step]
            drawn = [self.generator.generate(text, self.n) for text in part]
            pictures = [picture for some in drawn for picture in some]
            m = self.sae.encoder.out_features
            scores = encode(self.vlm, self.sae, pictures).scores(m).numpy() if pictures else np.zeros((0, m), "f4")
            ends = np.cumsum([len(some) for some in drawn])
            for text, rows in zip(part, np.split(scores, ends[:-1])):
                write_atomically(self._path(text), lambda path, rows=rows: _save(path, rows))

    def scores(self, text: str, latent: int) -> list[float]:
        """Image activation scores of a latent on the drawings of a text (Eq. 10); none if undrawable."""
        self.prepare([text])
        return self._load(self._path(text))[:, latent].tolist()


def _save(path: Path, rows: np.ndarray) -> None:
    with path.open("wb") as file:  # np.save would add a suffix
        np.save(file, rows)


def score_table(
    explanations: pd.DataFrame,
    *,
    evidence: Evidence,
    images: Sequence[Image.Image],
    k: int,
    segmenter: Segmenter,
    synthetic: SyntheticImages,
    negatives: Tensor,
    clip: ImageTextModel,
) -> pd.DataFrame:
    """Score explanations by all four metrics, on held-out images.

    Parameters
    ----------
    explanations : a table with columns ``latent`` and ``explanation``.
    evidence, images : top images of the *evaluation* set, and that set.
    k : held-out top images used (5 in the paper).
    segmenter, synthetic, clip : the judges.
    negatives : scores of random held-out images, ``[n, latents]``.

    Returns
    -------
    The explanations with columns ``iou, auroc, synthetic, clip`` and ``failed``.
    """
    latents = sorted(set(explanations.latent))
    embedded = masked_embeddings(latents, evidence, images, k, clip)
    texts = list(dict.fromkeys(explanations.explanation))
    text_of = dict(zip(texts, clip.embed_texts([text or "." for text in texts])))
    synthetic.prepare(texts)
    ious = mean_ious(explanations, [(evidence, segmenter, range(k))])
    rows = []
    for text, latent, overlap in zip(explanations.explanation, explanations.latent, ious):
        drawn = synthetic.scores(text, latent)
        rows.append(
            {
                "iou": float(overlap),
                "auroc": auroc(drawn, negatives[:, latent].tolist()),
                "synthetic": float(np.mean(drawn)) if drawn else 0.0,
                "clip": float((embedded[latent] @ text_of[text]).mean()) if drawn else 0.0,
                "failed": not drawn,
            }
        )
    return pd.concat([explanations.reset_index(drop=True), pd.DataFrame(rows)], axis=1)
