"""What all explanations say together: the best of three, and the levels that they speak of (section 5.3, Figure 8)."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.effects import BOTH, KEYS, as_estimates, column, effect, of_family, values
from lib.findings import contrast, number, side
from lib.judges import Reader
from lib.methods import STEERING, TOP_K, trio
from lib.metrics import voters
from lib.paper import csv_of
from lib.scenes.catalogue import elements
from lib.scenes.truth import Truth
from lib.stats import Estimate, bootstrap, difference, rank_vote
from lib.studies.bias import LEVELS

MIN_IOU, MIN_SYNTHETIC = 0.2, 0.3  # the paper's filter, in the paper's units
PASSES, AS_PUBLISHED = "share that passes the filter", "share that passes the filter, as published in our units"
DECIDED = "share decided without a tie"
CANDIDATES = trio("masks")  # those whose explanations are compared here
NOTHING_KNOWN = Estimate(0.0, -1.0, 1.0, 0, 1.0)  # a difference of shares without any latent


# -- the best of three -----------------------------------------------------------------------------


def best_of(scored: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The explanation that wins the rank vote of the metrics: one row for each latent of each dictionary, in order.

    A tie is decided by lot. Columns ``vote <method>`` hold the chance that each method had;
    ``alone`` says that the winner had no equal.
    """
    keys = [key for key in KEYS if key in scored]
    own = scored[scored.control == ""].sort_values(keys, kind="stable")
    rows = [own[own.method == m.key].reset_index(drop=True) for m in CANDIDATES]
    cube = np.stack([part[voters()].to_numpy() for part in rows], 1)  # [latents, methods, metrics]
    vote = rank_vote(np.nan_to_num(cube, nan=-np.inf))  # [latents, methods]
    rng = np.random.default_rng(seed)
    winner = np.array([rng.choice(len(CANDIDATES), p=chance) for chance in vote])
    best = pd.concat(rows).iloc[winner * len(vote) + np.arange(len(vote))].reset_index(drop=True)
    return best.assign(alone=vote.max(1) == 1, **{f"vote {m.key}": vote[:, i] for i, m in enumerate(CANDIDATES)})


def multiple(model: str) -> float:
    """The paper's least synthetic activation, as a multiple of its Top-k's (masks) mean for a model.

    A model that Table 1 has no row of takes that of Gemma 3.
    """
    table = csv_of("table1")
    top_k = table[(table.method == TOP_K.masks.family) & (table.evidence == TOP_K.masks.evidence)]
    means = top_k.set_index("model").synthetic
    return MIN_SYNTHETIC / float(means[model if model in means else "Gemma 3"])


def filtered(best: pd.DataFrame, scored: pd.DataFrame, model: str) -> pd.DataFrame:
    """The paper's filter, as columns of :func:`best_of`'s table: IoU of at least 0.2, and enough synthetic activation.

    ``passes`` asks for the :func:`multiple` of the mean that Top-k (masks) has in the same dictionary, as codes of
    different dictionaries have different units; ``as_published`` for the paper's 0.3, whatever the unit.
    """
    top_k = scored[(scored.method == TOP_K.masks.key) & (scored.control == "")]
    if "dictionary" in best:
        least = multiple(model) * best.dictionary.map(top_k.groupby("dictionary").synthetic.mean())
    else:
        least = multiple(model) * top_k.synthetic.mean()
    named = best.iou >= MIN_IOU
    return best.assign(passes=named & (best.synthetic >= least), as_published=named & (best.synthetic >= MIN_SYNTHETIC))


def remaining(best: pd.DataFrame) -> pd.DataFrame:
    """The latents that pass :func:`filtered`; all of them, if none does."""
    return (best[best.passes] if best.passes.any() else best).reset_index(drop=True)


def best_of_table(best: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How often each method wins the vote among the latents that remain (ties shared), and the differences.

    Parameters
    ----------
    best : from :func:`filtered`; if no latent passes, the winners among all are counted.

    Returns
    -------
    Shares by method, with ``alone``: the latents that it wins without a tie. And effects, with ``decided``: the latents
    whose sole winner is one of the two methods (of a share, all latents).
    """
    kept = remaining(best)
    won = {m: column(kept, f"vote {m.key}") for m in CANDIDATES}
    sole = {m: int((won[m] == 1).sum()) for m in CANDIDATES}
    rows = [{"method": m.family, **effect(bootstrap(share)), "alone": sole[m]} for m, share in won.items()]
    steering, top_k, hybrid = CANDIDATES
    effects = [
        {"what": f"{a.short} - {b.short}", **effect(difference(won[a], won[b])), "decided": sole[a] + sole[b]}
        for a, b in ((hybrid, top_k), (hybrid, steering), (steering, top_k))
    ]
    shares = {PASSES: (best, "passes"), AS_PUBLISHED: (best, "as_published"), DECIDED: (kept, "alone")}
    for what, (table, name) in shares.items():
        e = bootstrap(column(table, name).astype(float))
        effects.append({"what": what, **effect(e), "decided": e.n})
    return pd.DataFrame(rows), pd.DataFrame(effects)


# -- low-level and high-level ----------------------------------------------------------------------


def level_counts(scored: pd.DataFrame, reader: Reader) -> pd.DataFrame:
    """What explanations are about, right or wrong: shares by method, and of the best element where it is known."""
    own = scored[(scored.control == "") & scored.method.isin([m.key for m in CANDIDATES])]
    reader.prepare("level", own.explanation)
    named = {m.family: column(own[own.method == m.key], "explanation").map(reader.level) for m in CANDIDATES}
    catalogue = elements()
    if set(own.concept) <= set(catalogue):
        truly = own[own.method == TOP_K.masks.key]
        phrases = truly.concept.map(lambda name: catalogue[name].phrase)
        named["truth"] = column(truly.assign(phrase=phrases), "phrase").map(reader.level)
    return pd.DataFrame(
        [
            {
                "method": name,
                **{what: str(bootstrap((found == what).astype(float))) for what in LEVELS},
                "n": len(found),
            }
            for name, found in named.items()
        ]
    )


def level_effects(scored: pd.DataFrame, reader: Reader, truths: Mapping[int, Truth]) -> pd.DataFrame:
    """Who names the level of a latent *rightly*, among the latents that truly have it.

    A latent's level is that of its best element (column ``concept``). It is named rightly if the explanation is of the
    same level, and at least half as correct as the best sentence that was found for the latent.

    Parameters
    ----------
    scored : the main comparison with its controls. Of Top-k and the hybrid both kinds of evidence count, by half.
    truths : of each dictionary.

    Returns
    -------
    ``level, what, estimate, low, high, n, p``; an interval from -1 to 1 where no latent has the level.
    """
    own = scored[scored.control.isin(["", "random"])]
    catalogue, reach = elements(), {}
    for d, latent in dict.fromkeys(zip(own.dictionary, own.latent)):
        reach[d, latent] = truths[d].best_sentence(latent)[1]
    level = own.concept.map(lambda name: reader.level(catalogue[name].phrase))
    enough = np.array([reach[key] / 2 for key in zip(own.dictionary, own.latent)])
    right = (own.explanation.map(reader.level) == level) & (own.correctness >= enough) & (own.correctness > 0)
    own = own.assign(level=level, right=right.astype(float))

    rows = []
    for what in LEVELS[:3]:
        part = own[own.level == what]

        steering, top_k, hybrid = (of_family(part, family, "right", BOTH) for family in ("Steering", "Top-k", "hybrid"))
        pairs = {
            "Steering - Top-k": (steering, top_k),
            "hybrid - Top-k": (hybrid, top_k),
            "Steering - random directions": (steering, values(part, STEERING.add.key, "right", "random")),
        }
        for name, (a, b) in pairs.items():
            rows.append({"level": what, "what": name, **effect(difference(a, b) if len(part) else NOTHING_KNOWN)})
    return pd.DataFrame(rows)


# -- in words --------------------------------------------------------------------------------------


def _row(table: pd.DataFrame, **where: str) -> Estimate:
    """The one estimate in a table of effects that a description fits."""
    return as_estimates(table[np.logical_and.reduce([table[name] == value for name, value in where.items()])])[0]


def _answer(best_of: pd.DataFrame, retrieval: pd.DataFrame | None) -> str:
    """Which explanation to keep, and whether a description finds a feature. Only what is shown has a number."""
    e = _row(best_of, what="hybrid - Top-k")
    vote = {
        1: f"The hybrid wins more of the rank votes than Top-k ({number(e)})",
        0: "The rank vote does not tell the hybrid from Top-k",
        -1: f"The hybrid wins fewer of the rank votes than Top-k ({number(e)})",
    }[side(e)]
    if retrieval is None:
        return f"{vote}. Whether a description finds a feature cannot be counted where the truth is not known."
    chance, top_k = (
        _row(retrieval, what=f"Steering - {other}", concepts="all", measure="share")
        for other in ("random ranking", "Top-k")
    )
    found = {
        1: f"A description finds features: search in Steering's explanations is better than chance ({number(chance)})",
        0: "It is not shown that a search in Steering's explanations finds features",
        -1: f"A search in Steering's explanations is worse than chance ({number(chance)})",
    }[side(chance)]
    than = {
        1: f"and better than one in Top-k's ({number(top_k)})",
        0: "and is not told apart from one in Top-k's",
        -1: f"and worse than one in Top-k's ({number(top_k)})",
    }[side(top_k)]
    return f"{found}, {than}. {vote}."


def findings(
    best_of: pd.DataFrame, levels: pd.DataFrame | None = None, retrieval: pd.DataFrame | None = None
) -> list[str]:
    """Notebook 14 in sentences, the answer first, from its tables of effects; the last two where the truth is known."""
    decided = best_of.set_index("what").decided
    lines = [_answer(best_of, retrieval)]
    for a, b in (("hybrid", "Top-k"), ("Steering", "Top-k")):
        what = f"{a} - {b}"
        sentence = contrast("Share of rank votes won", a, b, _row(best_of, what=what))
        lines.append(f"{sentence} {decided[what]} of these latents have one of the two as sole winner.")
    scaled, unscaled = (number(_row(best_of, what=what)) for what in (PASSES, AS_PUBLISHED))
    lines.append(
        f"The filter, scaled to the unit of each dictionary, lets a share of {scaled} pass; with the published number "
        f"and our units it would be {unscaled}."
    )
    if levels is not None:
        for first, second in (("Steering", "Top-k"), ("Steering", "random directions")):
            e = _row(levels, level="low-level", what=f"{first} - {second}")
            lines.append(contrast("Share of truly low-level latents named rightly", first, second, e))
    if retrieval is not None:
        wanted = [("depth and perspective", "Steering", "random directions")]
        wanted += [("all", "Steering", other) for other in ("random directions", "Top-k")]
        for concepts, first, second in wanted:
            e = _row(retrieval, what=f"{first} - {second}", concepts=concepts, measure="share")
            lines.append(contrast(f"Search for {concepts}, activation on what was sought", first, second, e))
    return lines
