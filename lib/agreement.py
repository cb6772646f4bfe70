"""Do Steering and Top-k say the same, and is Top-k better where they do (section 5.1, Figure 3)?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lib.effects import effect
from lib.judges.sentences import SentenceEmbedder
from lib.run import Run
from lib.stats import bootstrap

QUALITIES = ("synthetic_norm", "auroc", "iou", "clip", "correctness")
FEWEST = 5  # latents behind a point of a curve


def agreement(run: Run, scored: pd.DataFrame, embedder: SentenceEmbedder, top_k: str = "top-k-masks") -> pd.DataFrame:
    """Top-k's explanations with Steering's beside them and the ``similarity`` of the two.

    ``synthetic_norm`` is the synthetic activation divided by the latent's mean activation on its own
    held-out top images, as a latent's scale says nothing about its explanation.
    """
    own = scored[scored.control == ""]
    table = own[own.method == top_k].sort_values("latent").reset_index(drop=True)
    other = own[own.method == "steering-add"].sort_values("latent").explanation.tolist()
    a, b = embedder.embed(table.explanation.tolist()), embedder.embed(other)
    peak = run.evaluate_evidence.score[table.latent.tolist(), : run.profile.explain.k].mean(1).numpy()
    return table.assign(
        steering=other, similarity=(a * b).sum(1).numpy(), synthetic_norm=table.synthetic / peak.clip(1e-12)
    )


def above_thresholds(table: pd.DataFrame, thresholds: Sequence[float]) -> pd.DataFrame:
    """Quality of the explanations whose similarity is at least each threshold; thin samples are left out."""
    rows = []
    for threshold in thresholds:
        part = table[table.similarity >= threshold]
        if len(part) >= FEWEST:
            rows += [
                {"metric": m, "threshold": round(float(threshold), 3), **effect(bootstrap(part[m]))}
                for m in QUALITIES
                if m in part
            ]
    return pd.DataFrame(rows)
