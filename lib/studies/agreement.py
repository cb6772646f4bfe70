"""Do Steering and Top-k say the same, and is Top-k better where they do (section 5.1, Figure 3)?"""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lib.effects import effect
from lib.judges.sentences import SentenceEmbedder
from lib.methods import STEERING, TOP_K
from lib.metrics import METRICS, metrics_of
from lib.run import Run
from lib.stats import bootstrap

FEWEST = 5  # latents behind a point of a curve


def qualities(table: pd.DataFrame) -> dict[str, str]:
    """What :func:`agreement`'s table tells of how good an explanation is, with titles: Figure 3's panels come first.

    ``synthetic_norm`` takes the place of the synthetic activation: a latent's scale says nothing about its explanation.
    """
    first = {"synthetic_norm": f"{METRICS['synthetic'].title}, normalised", "auroc": METRICS["auroc"].title}
    return first | {name: title for name, title in metrics_of(table).items() if name != "synthetic"}


def agreement(run: Run, scored: pd.DataFrame, embedder: SentenceEmbedder) -> pd.DataFrame:
    """Top-k's explanations (masks) with Steering's beside them and the ``similarity`` of the two.

    ``synthetic_norm`` is the synthetic activation divided by the latent's mean activation on its own held-out top
    images.
    """
    own = scored[scored.control == ""]
    table = own[own.method == TOP_K.masks.key].sort_values("latent").reset_index(drop=True)
    other = own[own.method == STEERING.add.key].sort_values("latent").explanation.tolist()
    a, b = embedder.embed(table.explanation.tolist()), embedder.embed(other)  # [latents, d] each
    # Rounded: the last digits of a cosine are noise, and would rank the many pairs that say the same.
    similarity = (a * b).sum(1).numpy().round(5)
    peak = run.held_out.top.score[table.latent.tolist(), : run.profile.explain.k].mean(1).numpy()
    return table.assign(steering=other, similarity=similarity, synthetic_norm=table.synthetic / peak.clip(1e-12))


def above_thresholds(table: pd.DataFrame, thresholds: Sequence[float]) -> pd.DataFrame:
    """Quality of the explanations whose similarity is at least each threshold; thin samples are left out."""
    rows = []
    for threshold in thresholds:
        part = table[table.similarity >= threshold]
        if len(part) >= FEWEST:
            where = {"threshold": round(float(threshold), 3)}
            rows += [{"metric": m, **where, **effect(bootstrap(part[m]))} for m in qualities(table)]
    return pd.DataFrame(rows)
