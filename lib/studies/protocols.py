"""The protocol as published: what each trap in the paper's public release does to the numbers.

The rest of the project scores by the corrected protocol. Here each deviation of the release can be
switched on alone, or all together, over the same explanations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch

from lib.methods import Method
from lib.metrics import METRICS, Bench, auroc, clip_scores, masked_embeddings, metrics_of
from lib.overlap import mean_ious
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
    """Which traps are on; with none of them it is the corrected protocol.

    Raises
    ------
    KeyError
        If there is no such trap.
    """

    traps: frozenset[str] = frozenset()

    def __post_init__(self) -> None:
        if unknown := self.traps - set(TRAPS):
            raise KeyError(f"no trap {sorted(unknown)[0]!r}; there are {', '.join(TRAPS)}")

    def __contains__(self, trap: str) -> bool:
        return trap in self.traps


PROTOCOLS = {
    "corrected": Protocol(),
    **{trap: Protocol(frozenset([trap])) for trap in TRAPS},
    "as published": Protocol(frozenset(TRAPS)),
}


def rescore(run: Run, scored: pd.DataFrame, protocol: Protocol) -> pd.DataFrame:
    """Score again under a protocol: the table with ``iou``, ``clip`` and ``auroc`` replaced.

    ``auroc`` is then one number per method, the same in every row, if it is pooled.
    """
    table, bench = scored.copy(), run.bench
    if "shared images" in protocol or "first mask" in protocol:
        table["iou"] = _ious(run, bench, table, protocol)
    if "shared images" in protocol or "CLIP by position" in protocol:
        table["clip"] = clip_scores(table, _embeddings(run, bench, table, protocol), table.failed, bench.clip)
    if "failures dropped" in protocol:
        table = table[~table.failed]
    if "pooled AUROC" in protocol:
        table["auroc"] = np.nan
        for _, part in table.groupby(["method", "control"]):
            table.loc[part.index, "auroc"] = pooled_auroc(bench, part)
    return table


def pooled_auroc(bench: Bench, part: pd.DataFrame) -> float:
    """AUROC over the raw activations of all latents of a table together."""
    positives = [score for drawn in bench.drawn(part) for score in drawn]
    return auroc(positives, bench.negatives[:, part.latent.tolist()].T.flatten().tolist())


def protocol_table(run: Run, scored: pd.DataFrame, methods: Sequence[Method]) -> pd.DataFrame:
    """Means of what judges score, by protocol and method: ``protocol, what it does, method``, metrics, ``n``."""
    keys = [method.key for method in methods]
    scored = scored[(scored.control == "") & scored.method.isin(keys)]
    metrics = [name for name in metrics_of(scored) if METRICS[name].needs == "judges"]
    again = {name: rescore(run, scored, protocol) for name, protocol in PROTOCOLS.items()}
    return pd.DataFrame(
        [
            {
                "protocol": name,
                "what it does": TRAPS.get(name, "-"),
                "method": key,
                **part[metrics].mean().to_dict(),
                "n": len(part),
            }
            for name, table in again.items()
            for key in keys
            for part in [table[table.method == key]]
        ]
    )


def _ious(run: Run, bench: Bench, table: pd.DataFrame, protocol: Protocol) -> np.ndarray:
    sets = [(bench.evidence, bench.segmenter, range(bench.k))]
    if "shared images" in protocol:
        seen = (run.shown.top, run.world.segmenter(run.shown.images), range(_SHARED))
        sets = [seen, (bench.evidence, bench.segmenter, range(bench.k - _SHARED))]
    return mean_ious(table, sets, first_only="first mask" in protocol)


def _embeddings(run: Run, bench: Bench, table: pd.DataFrame, protocol: Protocol) -> dict[int, torch.Tensor]:
    latents = sorted(set(table.latent))
    images = masked_embeddings(latents, bench.evidence, bench.images, bench.k, bench.clip)
    if "shared images" in protocol:
        seen = masked_embeddings(latents, run.shown.top, run.shown.images, _SHARED, bench.clip)
        images = {i: torch.cat([seen[i], images[i][: bench.k - _SHARED]]) for i in latents}
    if "CLIP by position" in protocol:
        listed = sorted(latents, key=str)  # a directory lists latent_10 before latent_2
        images = {latent: images[other] for latent, other in zip(latents, listed)}
    return images
