"""The protocol as published: what each trap in the paper's public release does to the numbers.

The rest of the project scores by the corrected protocol. Here each deviation of the release can be
switched on alone, or all together, over the same explanations.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from lib.metrics import auroc, masked_embeddings, mean_ious
from lib.run import Run

TRAPS = {
    "shared images": "3 of the 5 evaluation images are those that the explainer saw (IoU, CLIP)",
    "first mask": "IoU takes the first mask that the segmenter returns, not the union",
    "failures dropped": "explanations that say nothing leave the mean",
    "CLIP by position": "images and latents are joined by their place in an alphabetical listing",
    "pooled AUROC": "raw activations of all latents are ranked together",
}
_SHARED = 3


@dataclass(frozen=True)
class Protocol:
    """Which traps are on; with none of them it is the corrected protocol."""

    traps: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if unknown := self.traps - set(TRAPS):
            raise KeyError(f"no trap {sorted(unknown)[0]!r}; there are {', '.join(TRAPS)}")


def rescore(run: Run, scored: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Score again under a protocol: the table with ``iou``, ``clip`` and ``auroc`` replaced.

    ``auroc`` is then one number per method, the same in every row, if it is pooled.
    """
    table, k = scored.copy(), run.profile.explain.k
    on = protocol.traps
    if {"shared images", "first mask"} & on:
        first_only = "first mask" in on
        held_out = (run.evaluate_evidence, run.world.segmenter(run.sets["evaluate"], first_only))
        sets = [(*held_out, range(k))]
        if "shared images" in on:
            seen = (run.explain_evidence, run.world.segmenter(run.sets["explain"], first_only))
            sets = [(*seen, range(_SHARED)), (*held_out, range(k - _SHARED))]
        table["iou"] = mean_ious(table, sets)
    if {"shared images", "CLIP by position"} & on:
        table["clip"] = _clip(run, table, on)
    if "failures dropped" in on:
        table = table[~table.failed]
    if "pooled AUROC" in on:
        table["auroc"] = table.groupby(["method", "control"]).latent.transform(lambda _: np.nan)
        for _, part in table.groupby(["method", "control"]):
            table.loc[part.index, "auroc"] = pooled_auroc(run, part)
    return table


def pooled_auroc(run: Run, part: pd.DataFrame) -> float:
    """AUROC over the raw activations of all latents of a table together."""
    drawn = [run.synthetic.scores(text, latent) for text, latent in zip(part.explanation, part.latent)]
    negatives = run.negatives[:, part.latent.to_numpy()].T.flatten().tolist()
    positives = [score for scores in drawn for score in scores]
    return auroc(positives, negatives)


def _clip(run: Run, table: pd.DataFrame, on: frozenset[str]) -> list[float]:
    latents, k = sorted(set(table.latent)), run.profile.explain.k
    images = masked_embeddings(latents, run.evaluate_evidence, run.sets["evaluate"], k, run.clip)
    if "shared images" in on:
        seen = masked_embeddings(latents, run.explain_evidence, run.sets["explain"], _SHARED, run.clip)
        images = {i: torch.cat([seen[i], images[i][: k - _SHARED]]) for i in latents}
    if "CLIP by position" in on:
        listed = sorted(latents, key=str)  # a directory lists latent_10 before latent_2
        images = {latent: images[other] for latent, other in zip(latents, listed)}
    texts = list(dict.fromkeys(table.explanation))
    text_of = dict(zip(texts, run.clip.embed_texts([text or "." for text in texts])))
    return [
        0.0 if failed else float((images[latent] @ text_of[text]).mean())
        for latent, text, failed in zip(table.latent, table.explanation, table.failed)
    ]
