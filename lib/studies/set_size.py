"""How many images does Top-k need, and does Steering make up for a small set (section 5.2, Figure 5)?"""

from __future__ import annotations

import pandas as pd

from lib.effects import COMPOSITE, as_estimates, column, effect, titled, with_composites
from lib.findings import contrast
from lib.methods import HYBRID, TOP_K
from lib.metrics import metrics_of
from lib.run import Run
from lib.stats import difference

SHOWN_SETS = (TOP_K.heatmaps, HYBRID.heatmaps_add)  # the two that look at top images, as the paper's figure has them


def by_set_size(run: Run, latents: list[int]) -> pd.DataFrame:
    """Methods with the top images of smaller sets, scored; column ``images`` is the set's size."""
    whole, methods = run.profile.images.explain, list(map(run.at_best, SHOWN_SETS))
    pairs = [(n, method) for n in dict.fromkeys((*run.profile.images.sizes, whole)) for method in methods]
    wanted = [run.variation(method, limit=n if n != whole else None) for n, method in pairs]
    tables = [made.assign(images=n) for made, (n, _) in zip(run.answers(wanted, latents), pairs)]
    return run.score(pd.concat(tables, ignore_index=True))


def small_part(sizes: list[int]) -> tuple[int, str]:
    """The size that is nearest below a quarter of the largest, and how a row calls it: by the share that it is.

    With no size as small as a quarter, the smallest.
    """
    first, last = min(sizes), max(sizes)
    n = max((n for n in sizes if 4 * n <= last), default=first)
    return n, "a quarter" if 4 * n == last else f"{n / last:.1%}"


def steps(sizes: list[int]) -> str:
    """What the first and the last step between sizes are called: doublings, where both are."""
    doubled = sizes[1] == 2 * sizes[0] and sizes[-1] == 2 * sizes[-2]
    return "first doubling - last doubling" if doubled else "first step - last step"


def size_effects(scored: pd.DataFrame) -> pd.DataFrame:
    """What the paper's Figure 5 claims, as differences over the same latents; less of it with a single set.

    Every row is one effect, on each metric and on their ``composite``, in standard deviations.
    """
    sizes, rows = sorted(set(scored.images)), []
    first, last = sizes[0], sizes[-1]
    part, called = small_part(sizes)
    scored = with_composites(scored)
    for metric in (*metrics_of(scored), COMPOSITE):
        topk, hybrid = (
            {n: column(scored[(scored.method == method.key) & (scored.images == n)], metric) for n in sizes}
            for method in SHOWN_SETS
        )
        wanted = {"hybrid - Top-k, whole set": (hybrid[last], topk[last])}
        if len(sizes) > 1:
            lead, rest = hybrid[first] - topk[first], hybrid[last] - topk[last]
            wanted = {
                "Top-k: whole set - smallest": (topk[last], topk[first]),
                f"diminishing: {steps(sizes)}": (topk[sizes[1]] - topk[first], topk[last] - topk[sizes[-2]]),
                "hybrid - Top-k, smallest set": (hybrid[first], topk[first]),
                **wanted,
                f"hybrid on {called} - Top-k on all": (hybrid[part], topk[last]),
                "hybrid's advantage: smallest set - whole": (lead, rest),
            }
        rows += [{"what": what, "metric": metric, **effect(difference(a, b))} for what, (a, b) in wanted.items()]
    return pd.DataFrame(rows)


def findings(effects: pd.DataFrame) -> list[str]:
    """Sentences for notebook 13, from the composite rows of :func:`size_effects`."""
    rows = effects[effects.metric == COMPOSITE]
    found = dict(zip(rows.what, as_estimates(rows)))
    sides = {
        "Top-k: whole set - smallest": ("Top-k", "with the whole set", "with the smallest"),
        "hybrid - Top-k, smallest set": ("Smallest set", "the hybrid", "Top-k"),
        "hybrid - Top-k, whole set": ("Whole set", "the hybrid", "Top-k"),
        "hybrid's advantage: smallest set - whole": ("The hybrid's advantage", "in the smallest set", "in the whole"),
    }
    for name in found:
        if name.startswith("diminishing"):
            one, two = name.removeprefix("diminishing: ").split(" - ")
            sides[name] = ("What Top-k gains", f"the {one}'s", f"the {two}'s")
        elif name.startswith("hybrid on"):
            sides[name] = ("Few images", name.split(" - ")[0].replace("hybrid", "the hybrid"), "Top-k on all")
    unit = f"{titled(COMPOSITE)}, in standard deviations"
    return [contrast(f"{sides[name][0]} ({unit})", *sides[name][1:], e) for name, e in found.items() if name in sides]
