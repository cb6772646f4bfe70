"""How many images does Top-k need, and does Steering make up for a small set (section 5.2, Figure 5)?"""

from __future__ import annotations

import pandas as pd

from lib.effects import effect
from lib.methods import HYBRID, TOP_K
from lib.metrics import metrics_of
from lib.run import Run
from lib.stats import difference

SHOWN_SETS = (TOP_K.heatmaps, HYBRID.heatmaps_add)  # the two that look at top images, as the paper's figure has them


def by_set_size(run: Run, latents: list[int]) -> pd.DataFrame:
    """Methods with the top images of smaller sets, scored; column ``images`` is the set's size."""
    tables, whole = [], run.profile.images.explain
    for n in dict.fromkeys((*run.profile.images.sizes, whole)):
        for method in map(run.at_best, SHOWN_SETS):
            made = run.explanations(method, latents, limit=n if n != whole else None)
            tables.append(made.assign(images=n))
    return run.score(pd.concat(tables, ignore_index=True))


def size_effects(scored: pd.DataFrame) -> pd.DataFrame:
    """What the paper's Figure 5 claims, as differences over the same latents; less of it with a single set."""
    sizes = sorted(set(scored.images))
    first, last = sizes[0], sizes[-1]
    quarter = max(n for n in sizes if n <= max(last / 4, first))
    rows = []
    for metric in metrics_of(scored):
        wide = scored.pivot(index="latent", columns=["method", "images"], values=metric)
        topk, hybrid = (wide[method.key] for method in SHOWN_SETS)
        wanted = {"hybrid - Top-k, whole set": (hybrid[last], topk[last])}
        if len(sizes) > 1:
            wanted = {
                "Top-k: whole set - smallest": (topk[last], topk[first]),
                "Top-k: first doubling - last": (topk[sizes[1]] - topk[first], topk[last] - topk[sizes[-2]]),
                "hybrid - Top-k, smallest set": (hybrid[first], topk[first]),
                **wanted,
                "hybrid on a quarter - Top-k on all": (hybrid[quarter], topk[last]),
            }
        rows += [{"what": what, "metric": metric, **effect(difference(a, b))} for what, (a, b) in wanted.items()]
    return pd.DataFrame(rows)
