"""What if we had chosen otherwise? One thing changed at a time, on test latents; nothing is chosen here."""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple

import numpy as np
import pandas as pd
from PIL import Image

from lib.effects import COMPOSITE, COMPOSITES, as_estimates, column, effect, titled, with_composites
from lib.findings import contrast, number, side
from lib.images import BLANK
from lib.methods import METHODS, STEERING, TOP_K, Method, trio
from lib.metrics import METRICS, metrics_of
from lib.run import Run
from lib.stats import Estimate, difference

POOLED = "black and noise"  # the two that footnote 4 names, each latent's mean over both
TOLD = {"black": "true black", "grey": "grey (called black in the paper's code)"}
SPLITS, DRAWS = 20, 1000  # into halves, and resampled, for the spread between the best and the worst value


def by_coefficient(run: Run, latents: list[int], method: Method) -> pd.DataFrame:
    """A steered method at every coefficient, scored: how much does the choice matter?"""
    wanted = [run.variation(method.at(c)) for c in run.choice(method).tried]
    return run.score(pd.concat(run.answers(wanted, latents), ignore_index=True))


def by_k(run: Run, latents: list[int]) -> pd.DataFrame:
    """Top-k (masks) with other numbers of top images, scored; column ``k``."""
    numbers = sorted({*run.profile.study.k, run.profile.explain.k})
    tables = run.answers([run.variation(TOP_K.masks, k=k) for k in numbers], latents)
    return run.score(pd.concat([table.assign(k=k) for table, k in zip(tables, numbers)], ignore_index=True))


def by_layer(run: Run) -> pd.DataFrame:
    """Three methods on every layer of the subject that the profile has a variant for, scored; column ``layer``.

    Each layer has a dictionary of its own, and coefficients chosen for it.
    """
    tables = [one.results(trio("masks")).assign(layer=layer) for layer, one in layers_of(run).items()]
    return pd.concat(tables)


def layers_of(run: Run) -> dict[int, Run]:
    """The run itself and those of its variants that differ in the layer of the same subject, by layer, in order."""
    subject = run.profile.subject
    others = [run.changed(name) for name in run.profile.variants]
    layers = {one.profile.subject.layer: one for one in others if one.profile.subject.model == subject.model}
    layers[subject.layer] = run
    return dict(sorted(layers.items()))


def base_images(seed: int) -> dict[str, Image.Image]:
    """What Steering may look at: nothing, in white, black and grey, or noise (footnote 4).

    The paper's public code calls a picture black whose *normalised* pixels are near zero: that is ``grey``.
    """
    noise = np.random.default_rng([seed, 11]).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    plain = {name: Image.new("RGB", BLANK.size, name) for name in ("white", "black", "grey")}
    return {**plain, "noise": Image.fromarray(noise)}


def by_base_image(run: Run, latents: list[int]) -> pd.DataFrame:
    """Steering on different empty pictures, scored; columns ``base``, ``steer``.

    A replacement overwrites every position of the layer, so that nothing of the picture is left above it: it is asked
    about once, with ``any`` as its base.
    """
    adding, replacing = map(run.at_best, (STEERING.add, STEERING.replace))
    bases = base_images(run.profile.seed)
    wanted = [*(run.variation(adding, blank=picture) for picture in bases.values()), run.variation(replacing)]
    named = zip(run.answers(wanted, latents), (*bases, "any"), wanted)
    tables = [table.assign(base=base, steer=asked.method.steer) for table, base, asked in named]
    return run.score(pd.concat(tables, ignore_index=True))


def base_effects(scored: pd.DataFrame) -> pd.DataFrame:
    """Steering (adding) on every other picture minus on a white one, over the same latents: ``base, steer, metric``...

    The claim's effect is the row ``black and noise`` of the ``composite``: for each latent the mean over both pictures,
    in standard deviations of all scores here.
    """
    table = with_composites(scored[scored.steer == "add"])
    others = [base for base in dict.fromkeys(table.base) if base != "white"]
    rows = []
    for metric in (*metrics_of(table), COMPOSITE):
        on = {base: column(table[table.base == base], metric) for base in ("white", *others)}
        pairs = {base: on[base] for base in others} | {POOLED: (on["black"] + on["noise"]) / 2}
        for base, value in pairs.items():
            rows.append({"base": base, "steer": "add", "metric": metric, **effect(difference(value, on["white"]))})
    return pd.DataFrame(rows)


class Tried(NamedTuple):
    """A choice that was made otherwise: what it is called, of which method, all scores, and the column of its values.

    Latents may differ between the values, as between layers.
    """

    choice: str
    method: Method
    scored: pd.DataFrame
    column: str


def named(method: Method) -> str:
    """A method in words: ``Steering, adding``, ``hybrid, heatmaps, adding``, ``Top-k, masks``."""
    how = {"add": ["adding"], "replace": ["replacing"], None: []}[method.steer]
    return ", ".join([method.short, *([method.evidence] if method.evidence != "blank" else []), *how])


def briefly(method: Method) -> str:
    """A method in words, where adding goes without saying."""
    return named(method).removesuffix(", adding")


def spread(scored: pd.DataFrame, by: str, metric: str) -> Estimate:
    """A metric with the best value of a choice minus that with the worst.

    The best of several means, as they are seen, is partly luck, and so is the worst: their difference is never below
    nothing, even if no value matters. So concepts are split into halves at random, with all their latents; which value
    is best and which is worst is read from one half, and what they differ by from the other; that in both directions,
    for several splits, with the mean. For the interval concepts are resampled, and all of it is done again: a concept
    that is drawn twice stays in one half.

    Parameters
    ----------
    scored : with columns ``concept``, ``by`` and ``metric``, a row for each latent and value.

    Returns
    -------
    ``n`` is that of the value with the fewest latents.
    """
    table = scored.dropna(subset=[metric])
    sums = table.pivot_table(index="concept", columns=by, values=metric, aggfunc="sum").fillna(0).to_numpy()
    counts = table.pivot_table(index="concept", columns=by, values=metric, aggfunc="count").fillna(0).to_numpy()
    concepts, n, rng = len(sums), int(counts.sum(0).min()), np.random.default_rng(0)
    drawn = rng.multinomial(concepts, np.full(concepts, 1 / concepts), DRAWS)
    weights = np.vstack([np.ones(concepts), drawn])  # [1 + draws, concepts]: as they are, and resampled
    gaps = []
    for _ in range(SPLITS):
        half = rng.permutation(concepts) % 2
        one, other = (_means(weights * (half == side), sums, counts) for side in (0, 1))
        gaps += [_picked(one, other), _picked(other, one)]
    known = np.isfinite(gaps)
    gap = np.where(known, gaps, 0).sum(0) / np.maximum(known.sum(0), 1)  # [1 + draws]
    if concepts == 1:
        return Estimate(float(gap[0]), -np.inf, np.inf, n)
    off = (gap[1:] - gap[1:].mean()) * np.sqrt(concepts / (concepts - 1))
    low, high = gap[0] + np.quantile(off, [0.025, 0.975])
    return Estimate(float(gap[0]), float(low), float(high), n)


def _means(weights: np.ndarray, sums: np.ndarray, counts: np.ndarray) -> np.ndarray:
    """Means of each value over weighted concepts, ``[draws, values]``; NaN where a value has none."""
    number = weights @ counts
    return np.where(number > 0, weights @ sums / np.maximum(number, 1), np.nan)


def _picked(seen: np.ndarray, new: np.ndarray) -> np.ndarray:
    """What the best and the worst value by some means differ by in others: ``[draws]``."""
    rows = np.arange(len(seen))
    best, worst = np.where(np.isnan(seen), -np.inf, seen).argmax(1), np.where(np.isnan(seen), np.inf, seen).argmin(1)
    return new[rows, best] - new[rows, worst]


def spreads(tried: Iterable[Tried], scale: pd.DataFrame) -> pd.DataFrame:
    """How much each choice matters, to each method, on one scale: ``choice, method, values, metric, seen``, an effect.

    ``seen`` is the largest mean minus the smallest, over all latents. The metrics are those that vote and the
    composite, in standard deviations of ``scale``, the scores of the main comparison.
    """
    mean, deviation = scale[COMPOSITES[COMPOSITE]].mean(), scale[COMPOSITES[COMPOSITE]].std().clip(lower=1e-12)
    rows = []
    for one in tried:
        if one.scored[one.column].nunique() < 2:  # a profile may have one layer alone
            continue
        whole = ((one.scored[mean.index] - mean) / deviation).mean(axis=1)
        table = one.scored.assign(**{COMPOSITE: whole}).sort_values(one.column, kind="stable")
        about = {"choice": one.choice, "method": one.method.key}
        for metric in (COMPOSITE, *mean.index):
            means = table.groupby(one.column)[metric].mean()
            said = {"values": len(means), "metric": metric, "seen": means.max() - means.min()}
            rows.append({**about, **said, **effect(spread(table, one.column, metric))})
    return pd.DataFrame(rows)


def most(table: pd.DataFrame, metric: str = COMPOSITE) -> pd.DataFrame:
    """Of each choice the method to which it matters most, the choice that matters most first; from :func:`spreads`."""
    part = table[table.metric == metric].sort_values("estimate", ascending=False, kind="stable")
    return part.drop_duplicates("choice")


def wide(table: pd.DataFrame, by: dict[str, str]) -> pd.DataFrame:
    """Means as people read them: a row for each group, the interval of IoU alone, the other metrics' means.

    Parameters
    ----------
    table : from :func:`lib.effects.estimates`.
    by : columns that tell groups apart, with their heads.
    """
    rows = []
    for names, part in table.groupby(list(by), sort=False):
        known = dict(zip(part.metric, as_estimates(part)))
        said = {m: number(e) if m == "iou" else f"{e.mean:.3f}" for m, e in known.items()}
        rows.append({**dict(zip(by.values(), names)), **{_head(m): text for m, text in said.items()}})
    return pd.DataFrame(rows)


def _head(metric: str) -> str:
    return METRICS[metric].title.split()[0]


def findings(gaps: pd.DataFrame, bases: pd.DataFrame, steers: pd.DataFrame, layers: pd.DataFrame) -> list[str]:
    """Sentences for notebook 16; the first says which choice matters most.

    Parameters
    ----------
    gaps : from :func:`spreads`.
    bases : from :func:`base_effects`.
    steers : replacing (``first``) minus adding (``second``): methods' keys, ``metric``, and the effect.
    layers : means by ``method, layer, metric``, of other latents in every layer.
    """
    lines = [_answer(most(gaps)), _by_choice(gaps, "iou"), *_hidden(gaps)]
    pooled = bases[(bases.metric == COMPOSITE) & (bases.base == POOLED)]
    lines += [contrast("Steering, mean of the four metrics", POOLED, "white", e) for e in as_estimates(pooled)]
    part = steers[steers.metric == "iou"]
    for row, e in zip(part.itertuples(), as_estimates(part)):
        lines.append(contrast(f"IoU of {briefly(METHODS[row.second])}", "replacing", "adding", e))
    by_layer = []
    for key, part in layers[layers.metric == "iou"].groupby("method", sort=False):
        pairs = zip(part.itertuples(), as_estimates(part))
        told = ", ".join(f"layer {row.layer} {number(e)} (n = {row.n})" for row, e in pairs)
        by_layer.append(f"{briefly(METHODS[key])}: {told}")
    return [*lines, f"IoU by layer, other latents in each. {'; '.join(by_layer)}."]


def _answer(ranked: pd.DataFrame) -> str:
    """Which choice matters most, and which are not shown to matter."""
    sure = [(row, e) for row, e in zip(ranked.itertuples(), as_estimates(ranked)) if side(e) > 0]
    open_ = [row.choice for row in ranked.itertuples() if row.choice not in {r.choice for r, _ in sure}]
    silent = f" Not shown to matter: {', '.join(open_)}." if open_ else ""
    silent += " Each layer has latents of its own." if "layer" in set(ranked.choice) else ""
    if not sure:
        return f"No choice is shown to matter by itself, of those that were varied.{silent}"
    told = [f"{row.choice} ({briefly(METHODS[row.method])}: {number(e)}, n = {row.n})" for row, e in sure]
    rest = f" Then: {'; '.join(told[1:])}." if told[1:] else ""
    return (
        f"The choice that matters most is the {told[0]}: best value minus worst, mean of the four metrics in standard "
        f"deviations.{rest}{silent}"
    )


def _hidden(gaps: pd.DataFrame) -> list[str]:
    """Single metrics that a choice moves, although it is not shown to move their mean."""
    whole, told = most(gaps), []
    silent = [row.choice for row, e in zip(whole.itertuples(), as_estimates(whole)) if side(e) < 1]
    for choice in silent:
        for metric in COMPOSITES[COMPOSITE]:
            part = most(gaps[gaps.choice == choice], metric)
            for key, e in zip(part.method, as_estimates(part)):
                if side(e) > 0:
                    told.append(f"{choice} and {titled(metric)} ({briefly(METHODS[key])}: {number(e)})")
    what = "The mean hides what a choice does to one metric, best value minus worst"
    return [f"{what}: {'; '.join(told)}."] if told else []


def _by_choice(gaps: pd.DataFrame, metric: str) -> str:
    part = most(gaps, metric)
    told = [f"{row.choice} {number(e)}" for row, e in zip(part.itertuples(), as_estimates(part))]
    return f"{titled(metric)}, best value minus worst, for the method that it concerns most: {'; '.join(told)}."
