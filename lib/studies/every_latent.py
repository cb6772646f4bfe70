"""Every latent that fires often enough, explained in every way and scored: what the explorer shows.

The tables of the paper are about test latents. Here are all others, too, by the same stages, so what is there is read.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np
import pandas as pd

from lib.judges import Reader
from lib.judges.sentences import SentenceEmbedder
from lib.methods import HYBRID, NOTHING, STEERING, TOP_K, Method
from lib.metrics import METRICS, voters
from lib.run import Run
from lib.studies.feature_map import feature_map
from lib.studies.latents import concept_of, exchanged, explained, neighbours, roles


@dataclass(frozen=True)
class Way:
    """How an explanation was made.

    Attributes
    ----------
    id, label : short name for data, and the name that people read.
    method : what the model looks at, and how it is steered.
    control : empty; or ``random``, ``permuted`` or ``nothing``: it is made with nothing of the latent's own.
    about : what is done, in one sentence.
    """

    id: str
    label: str
    method: Method
    control: str
    about: str


_BOTH = "The model looks at the latent's top pictures, {}, and the latent's direction is added on the active patches."
WAYS: tuple[Way, ...] = (
    Way(
        "steering", "Steering", STEERING.add, "",
        "The model looks at a white picture while the latent's direction is added on every patch.",
    ),
    Way(
        "steering-random", "Steering, random direction", STEERING.add, "random",
        "A control: as Steering, with a random direction of the same length.",
    ),
    Way(
        "steering-permuted", "Steering, another latent's direction", STEERING.add, "permuted",
        "A control: as Steering, with the direction of another latent.",
    ),
    Way(
        "top-k-masks", "Top-k, masks", TOP_K.masks, "",
        "The model looks at the latent's top pictures, of which only the active patches are shown.",
    ),
    Way(
        "top-k-heatmaps", "Top-k, heatmaps", TOP_K.heatmaps, "",
        "The model looks at the latent's top pictures with the activation drawn over them in colours.",
    ),
    Way("hybrid-masks", "Hybrid, masks", HYBRID.masks_add, "", _BOTH.format("only their active patches shown")),
    Way("hybrid-heatmaps", "Hybrid, heatmaps", HYBRID.heatmaps_add, "", _BOTH.format("with heatmaps over them")),
    Way(
        "nothing", "Blank picture, no steering", NOTHING, "nothing",
        "A control: the model looks at a white picture and is not steered, so it says the same for every latent.",
    ),
)  # fmt: skip
PLACE = {way.id: place for place, way in enumerate(WAYS)}
RIVALS = [place for place, way in enumerate(WAYS) if not way.control]  # ways that have a vote in what is best


@dataclass(frozen=True)
class EveryLatent:
    """All that is known of a subject's latents.

    Attributes
    ----------
    explanations : from :func:`scored`, with :func:`votes` as ``vote``.
    latents : from :func:`latent_table`.
    clusters : ``number, name, size``; a row for each cluster of the map.
    """

    explanations: pd.DataFrame
    latents: pd.DataFrame
    clusters: pd.DataFrame

    @property
    def known(self) -> pd.DataFrame:
        """What a list of the latents says of each: ``latent, words, role, concept, fit, other``.

        Words are Steering's; ``other`` is the latent whose direction is the control, -1 if there is none.
        """
        words = _words(self.explanations, "steering").rename("words")
        found = self.latents.rename(columns={"permuted": "other"}).join(words).fillna({"words": ""}).reset_index()
        found["fit"] = found.fit.astype(object).where(found.fit.notna(), None)
        return found[["latent", "words", "role", "concept", "fit", "other"]]


@cache
def every_latent(run: Run) -> EveryLatent:
    """Explain every latent that fires often enough, score what was said, and gather what is known of all latents.

    Raises
    ------
    lib.evidence.TooFewLatents
        If the dictionary has too few active latents for the profile's validation and test latents.
    """
    table = scored(run)
    table["vote"] = votes(table)
    embedder = SentenceEmbedder(run.profile.score.sentences)
    dots = mapped(table, embedder, run.world.reader)
    latents = latent_table(run, table).join(dots).join(agreement(table, embedder))
    latents["cluster"] = latents.cluster.fillna(-1).astype(int)
    groups = latents[latents.cluster >= 0].groupby("cluster").name.agg(["first", "size"])
    clusters = pd.DataFrame({"number": groups.index + 1, "name": groups["first"], "size": groups["size"]})
    return EveryLatent(table, latents.drop(columns="name"), clusters.reset_index(drop=True))


# -- explanations ----------------------------------------------------------------------------------


def said(run: Run) -> pd.DataFrame:
    """What is said of every latent that fires often enough: ``latent, way, coefficient, chosen, explanation``.

    A way is its place in :data:`WAYS`. Steering has a row for every coefficient of the profile's grid; ``chosen`` is 1
    at the coefficient that the profile chose, and for what has none. What earlier stages lack is made first.
    """
    run.results(tuple(way.method for way in WAYS if not way.control))
    latents, test, best = explained(run), run.latents["test"], run.choice(STEERING.add).best
    asked = []  # way, chosen, what is asked
    for way in (way for way in WAYS if way.method != NOTHING):
        control = run.control(way.control, latents) if way.control else None
        asked.append((way, 1, run.variation(run.at_best(way.method), control=control)))
    more = [STEERING.add.at(c) for c in run.profile.explain.steering if c != best]
    asked += [(WAYS[PLACE["steering"]], 0, run.variation(method)) for method in more]
    variations = [variation for _, _, variation in asked]
    run.answers(variations, test)  # first, so that they are asked about together, as in the notebooks
    parts = [
        table[["latent", "coefficient", "explanation"]].assign(way=PLACE[way.id], chosen=chosen)
        for (way, chosen, _), table in zip(asked, run.answers(variations, latents))
    ]
    silence = run.explanations(NOTHING, test[:1]).explanation.iloc[0]  # one answer, whichever the latent
    parts.append(pd.DataFrame({"latent": latents, "explanation": silence, "way": PLACE["nothing"], "chosen": 1}))
    table = pd.concat(parts, ignore_index=True)
    steered = table.way.isin([place for place, way in enumerate(WAYS) if way.method.steer])
    table["coefficient"] = table.coefficient.where(steered)
    table = table.sort_values(["latent", "way", "coefficient"], ignore_index=True)
    return table[["latent", "way", "coefficient", "chosen", "explanation"]]


def scored(run: Run) -> pd.DataFrame:
    """:func:`said` with a column for every metric: NaN where it is undefined, or the truth is not known."""
    table = said(run)
    return run.score(table).reindex(columns=[*table.columns, *METRICS])


def votes(table: pd.DataFrame) -> pd.Series:
    """How well each explanation stands among the chosen ones of its latent: 1 if it is the best by every proxy.

    It is the mean over the metrics that vote of (rank - 1) / (explanations - 1); equal scores share a rank, undefined
    ones come last. NaN for controls, and for other coefficients than the chosen one.

    Parameters
    ----------
    table : ``latent, way, chosen``, and the metrics.
    """
    own = table[(table.chosen == 1) & table.way.isin(RIVALS)]
    ranks = own[voters()].fillna(-np.inf).groupby(own.latent).rank().mean(axis=1)  # 1: the worst
    rivals = own.groupby("latent").way.transform("size")
    vote = ((ranks - 1) / (rivals - 1).clip(lower=1)).where(rivals > 1, 1.0)
    return vote.round(9).reindex(table.index)


# -- latents ---------------------------------------------------------------------------------------


def latent_table(run: Run, table: pd.DataFrame) -> pd.DataFrame:
    """What is known of every latent of a dictionary; a row for each, silent ones too.

    Parameters
    ----------
    table : from :func:`scored`, with ``vote``.

    Returns
    -------
    ``role`` (``validation``, ``test``, ``other`` or ``silent``); ``fired``, the share of the pictures shown to
    explainers on which the latent is active, and ``patches``, in how many patches of such a picture; ``strength``, its
    highest activation in its top pictures; ``concept``, the element that explains it best, with its ``kind`` and
    ``fit``, the F1 of that element on patches (empty where nobody knows, or where the latent never fires); ``best``,
    the row of ``table`` with the best vote, else -1; ``neighbours``, pairs of latent and cosine; ``permuted``, whose
    direction the control used, else -1.
    """
    top = run.shown.top
    every = range(len(top.fired))
    role = {latent: name for name, some in roles(run).items() for latent in some}
    concepts = [concept_of(run, latent) for latent in every]
    winners = table.loc[table.dropna(subset="vote").groupby("latent").vote.idxmax()]
    who, cosines = neighbours(run.sae.directions.cpu().numpy())
    return pd.DataFrame(
        {
            "role": [role[latent] for latent in every],
            "fired": (top.fired / len(run.shown.images)).tolist(),
            "patches": (top.patches / top.fired.clamp_min(1)).tolist(),
            "strength": top.heat.flatten(1).amax(1).tolist(),
            "concept": [name for name, _, _ in concepts],
            "kind": [kind for _, kind, _ in concepts],
            "fit": [fit for _, _, fit in concepts],
            "best": pd.Series(winners.index, winners.latent).reindex(every, fill_value=-1),
            "neighbours": [[[int(i), float(c)] for i, c in zip(*pair)] for pair in zip(who, cosines)],
            "permuted": exchanged(run),
        },
        index=pd.RangeIndex(len(every), name="latent"),
    )


def _words(table: pd.DataFrame, way: str) -> pd.Series:
    """What a way says at its chosen coefficient, by latent."""
    own = table[(table.way == PLACE[way]) & (table.chosen == 1)]
    return own.set_index("latent").explanation


def mapped(table: pd.DataFrame, embedder: SentenceEmbedder, reader: Reader) -> pd.DataFrame:
    """Each latent's place on the map of what Steering says: ``x, y, cluster, name``, by latent.

    It is the map of notebook 14, of all latents that Steering says anything of. Clusters are numbered from 0.
    """
    words = _words(table, "steering").rename("explanation").reset_index()
    dots = feature_map(words[words.explanation != ""], embedder, reader)
    dots = dots.rename(columns={"cluster": "name", "number": "cluster"})
    return words.merge(dots, on="explanation").set_index("latent")[["x", "y", "cluster", "name"]]


def agreement(table: pd.DataFrame, embedder: SentenceEmbedder) -> pd.Series:
    """How alike Steering's and Top-k's (masks) explanations are, by latent: the cosine of their sentence embeddings.

    NaN where one of them says nothing.
    """
    steering, top_k = _words(table, "steering"), _words(table, "top-k-masks")
    a, b = embedder.embed(steering.tolist()), embedder.embed(top_k[steering.index].tolist())  # [latents, d] each
    cosine = pd.Series((a * b).sum(1).numpy(), steering.index, name="agreement")
    return cosine.where((steering != "") & (top_k[steering.index] != ""))
