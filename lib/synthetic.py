"""Drawings of explanations, and what they activate (Eq. 10)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np

from lib.dictionary import Dictionary
from lib.evidence import encode
from lib.identity import digest
from lib.judges import Generator
from lib.spread import spread
from lib.store import read, write_array
from lib.vlm import VLM, Checkpoint

AT_ONCE = 64  # pictures, about, that are drawn and encoded together


@dataclass(frozen=True)
class Draw:
    """Drawing texts, and measuring what the drawings activate.

    Attributes
    ----------
    generator : draws.
    n : pictures per text.
    dictionary : whose latents are looked at, through the encoder of its subject.
    """

    generator: Generator
    n: int
    dictionary: Dictionary

    @property
    def model(self) -> Checkpoint:
        """The subject."""
        return self.dictionary.subject

    def __call__(self, shard: Sequence[str], load: Callable[[], VLM]) -> list[np.ndarray]:
        """Image activation scores of the drawings of some texts, each ``[drawings, latents]``."""
        drawn = [self.generator.generate(text, self.n) for text in shard]
        pictures = [picture for some in drawn for picture in some]
        sae = self.dictionary.sae
        m = sae.encoder.out_features
        scores = np.zeros((0, m), np.float32)
        if pictures:
            scores = encode(load(), sae, pictures).scores(m).cpu().numpy()
        ends = np.cumsum([len(some) for some in drawn])
        return np.split(scores, ends[:-1])


class SyntheticImages:
    """Draws explanations and measures what the drawings activate; each text is drawn once.

    Parameters
    ----------
    generator : draws.
    n : pictures per text (3 in the paper).
    load : gives the subject, which is loaded only if there is something to encode.
    dictionary : whose latents are looked at.
    folder : where the scores of every text that was drawn are kept, a file for each.
    """

    def __init__(
        self, generator: Generator, n: int, load: Callable[[], VLM], dictionary: Dictionary, folder: Path
    ) -> None:
        self.draw, self.load, self.folder = Draw(generator, n, dictionary), load, folder
        self._load = lru_cache(maxsize=2048)(read)  # a text is asked for once per latent

    def _path(self, text: str) -> Path:
        return self.folder / f"{digest(text)}.npy"

    def prepare(self, texts: Iterable[str]) -> None:
        """Draw and encode all texts not seen before, some at a time."""
        new = [text for text in dict.fromkeys(texts) if not self._path(text).exists()]
        step = max(1, AT_ONCE // self.draw.n)
        parts = [new[first : first + step] for first in range(0, len(new), step)]
        for rows, part in zip(spread(self.draw, parts, self.load, "draw"), parts):
            for text, scores in zip(part, rows):
                write_array(self._path(text), scores)

    def scores(self, text: str, latent: int) -> list[float]:
        """Image activation scores of a latent on the drawings of a text (Eq. 10); none if undrawable."""
        self.prepare([text])
        return self._load(self._path(text))[:, latent].tolist()
