"""Drawings of explanations, and what they activate (Eq. 10)."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

import numpy as np
from tqdm import tqdm

from lib.evidence import encode
from lib.identity import digest
from lib.judges import Generator
from lib.sae import TopKSAE
from lib.store import read, write_array
from lib.vlm import VLM


class SyntheticImages:
    """Draws explanations and measures what the drawings activate; each text is drawn once.

    Parameters
    ----------
    generator : draws.
    n : pictures per text (3 in the paper).
    load, sae : give the subject's encoder, which is loaded only if there is something to encode, and its dictionary.
    folder : where the scores of every text that was drawn are kept, a file for each.
    """

    def __init__(self, generator: Generator, n: int, load: Callable[[], VLM], sae: TopKSAE, folder: Path) -> None:
        self.generator, self.n, self.load, self.sae, self.folder = generator, n, load, sae, folder
        self._load = lru_cache(maxsize=2048)(read)  # a text is asked for once per latent

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
            scores = (
                encode(self.load(), self.sae, pictures).scores(m).cpu().numpy() if pictures else np.zeros((0, m), "f4")
            )
            ends = np.cumsum([len(some) for some in drawn])
            for text, rows in zip(part, np.split(scores, ends[:-1])):
                write_array(self._path(text), rows)

    def scores(self, text: str, latent: int) -> list[float]:
        """Image activation scores of a latent on the drawings of a text (Eq. 10); none if undrawable."""
        self.prepare([text])
        return self._load(self._path(text))[:, latent].tolist()
