"""How many images does Top-k need, and does Steering make up for a small set (section 5.2, Figure 5)?"""

from __future__ import annotations

import pandas as pd

from lib.effects import COMPOSITE, as_estimates, column, effect, titled, with_composites
from lib.figures import with_intervals
from lib.findings import contrast, number, side
from lib.methods import HYBRID, METHODS, TOP_K
from lib.metrics import metrics_of
from lib.run import Run
from lib.stats import Estimate, difference

SHOWN_SETS = (TOP_K.heatmaps, HYBRID.heatmaps_add)  # the two that look at top images, as the paper's figure has them


def by_set_size(run: Run, latents: list[int]) -> pd.DataFrame:
    """Methods with the top images of smaller sets, scored; column ``images`` is the set's size."""
    whole, methods = run.profile.images.explain, list(map(run.at_best, SHOWN_SETS))
    pairs = [(n, method) for n in dict.fromkeys((*run.profile.images.sizes, whole)) for method in methods]
    wanted = [run.variation(method, limit=n if n != whole else None) for n, method in pairs]
    tables = [made.assign(images=n) for made, (n, _) in zip(run.answers(wanted, latents), pairs)]
    return run.score(pd.concat(tables, ignore_index=True))


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """Means by set size as people read them: one row for each size, two metrics of both methods.

    Parameters
    ----------
    table : ``method, images, metric, estimate, low, high``. Of its metrics the first is shown, and the last one, which
        is correctness where that is known.
    """
    metrics = list(dict.fromkeys(table.metric))
    shown = with_intervals(table)
    rows = {n: {"images": n} for n in dict.fromkeys(table.images)}
    for metric in dict.fromkeys((metrics[0], metrics[-1])):
        for row in shown[shown.metric == metric].itertuples():
            rows[row.images][f"{METHODS[row.method].short}, {titled(metric)}"] = row.estimate
    return pd.DataFrame(rows.values())


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


def _answer(found: dict[str, Estimate]) -> str:
    """How quality grows with the set, and if Steering makes up for a small one. Only what is shown has a number."""
    grown = found.get("Top-k: whole set - smallest")
    if grown is None:
        return "There is a single image set, so nothing is known of the size of sets."
    less = next(e for name, e in found.items() if name.startswith("diminishing"))
    name, part = next((name, e) for name, e in found.items() if name.startswith("hybrid on"))
    share = name.removeprefix("hybrid on ").split(" - ")[0]
    growth = {
        1: f"Top-k explains better with the whole set than with the smallest ({number(grown)})",
        0: "It is not shown that the size of the set matters to Top-k",
        -1: f"Top-k explains worse with the whole set than with the smallest ({number(grown)})",
    }[side(grown)]
    returns = {
        1: f"the first step between sets adds more than the last one ({number(less)})",
        0: "whether the first step between sets adds as much as the last one stays open",
        -1: f"the first step between sets adds less than the last one ({number(less)})",
    }[side(less)]
    steered = {
        1: f"Steering makes up for images: on {share} of them the hybrid is ahead of Top-k on all ({number(part)})",
        0: f"The hybrid on {share} of the images and Top-k on all are not told apart",
        -1: f"Steering does not replace images: on {share} of them the hybrid is behind Top-k on all ({number(part)})",
    }[side(part)]
    return f"{growth}; {returns}. {steered}."


def findings(effects: pd.DataFrame) -> list[str]:
    """Sentences for notebook 13, from the composite rows of :func:`size_effects`: the answer, and what it rests on."""
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
    unit = "composite, in standard deviations"
    lines = [contrast(f"{sides[name][0]} ({unit})", *sides[name][1:], e) for name, e in found.items() if name in sides]
    return [_answer(found), *lines]
