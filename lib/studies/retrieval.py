"""Can a feature be found by describing it, in words that nobody used for it (section 5.3, Figure 8)?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lib.effects import effect
from lib.explain import pictures
from lib.figures import colour_of
from lib.judges.sentences import SentenceEmbedder
from lib.methods import HYBRID, STEERING, TOP_K
from lib.run import Run
from lib.scenes.catalogue import elements
from lib.scenes.truth import Truth
from lib.stats import difference

# What is searched for: an element of the catalogue, in words that its names, its phrase and its synonyms do not have.
CONCEPTS: dict[str, tuple[str, str, str]] = {
    "blur": ("out of focus", "hazy and soft", "no sharp edges"),
    "perspective": ("depth into the distance", "a long tunnel seen from inside", "rails that run to the horizon"),
    "stripes": ("parallel bands", "zebra markings", "bars side by side"),
    "checkers": ("a game of chess", "squares in two alternating shades", "gingham cloth"),
    "dots": ("small circles everywhere", "a speckled surface", "round freckles"),
    "water": ("a lake", "a swimming pool", "something wet and liquid"),
    "snow": ("a winter landscape", "ice and frost", "a ski slope"),
    "forest": ("a jungle", "dense foliage", "wilderness full of leaves"),
    "night": ("outer space", "darkness after sunset", "constellations and the moon"),
    "bricks": ("masonry", "blocks joined with mortar", "a facade of baked clay"),
}
SETS = {"all": tuple(CONCEPTS), "depth and perspective": ("blur", "perspective")}  # the second is the paper's search
TOP = 5  # latents retrieved
RELEVANT = 0.5  # from this share of its activation on, a latent is what was sought
MEASURES = ("share", "precision")
RANKED = {  # what is searched: explanations by a method, with its own direction or with a random one
    "Steering": (STEERING.add.key, ""),
    "Top-k": (TOP_K.masks.key, ""),
    "hybrid": (HYBRID.masks_add.key, ""),
    "random directions": (STEERING.add.key, "random"),
}
RANDOM, WORDS, CEILING = "random ranking", "best words", "ceiling"
RANKINGS = (*RANKED, RANDOM, WORDS, CEILING)
PAIRS = (("Steering", "random directions"), ("Steering", "Top-k"), ("hybrid", "Top-k"), ("Steering", RANDOM))


class Search:
    """Explanations that can be searched by any text.

    Parameters
    ----------
    explained : a table with columns ``latent, method, explanation``; empty explanations are left out.
    embedder : embeds explanations and queries.
    seed : of the lot that orders what is equally near, as equal sentences are.
    """

    def __init__(self, explained: pd.DataFrame, embedder: SentenceEmbedder, seed: int = 0) -> None:
        said = explained[explained.explanation != ""]
        self.table = said.sample(frac=1, random_state=seed).reset_index(drop=True)
        self.embedder = embedder
        self.embeddings = embedder.embed(self.table.explanation.tolist())  # [explanations, d]

    def __call__(self, query: str, n: int = 10) -> pd.DataFrame:
        """The ``n`` explanations nearest to ``query``, best first, with their cosine ``similarity``.

        Raises
        ------
        ValueError
            If the query is empty.
        """
        if not query.strip():
            raise ValueError("search for what? The query is empty")
        similarity = self.embeddings @ self.embedder.embed([query])[0]
        best = torch.argsort(similarity, descending=True, stable=True)[:n].tolist()
        return self.table.iloc[best].assign(similarity=similarity[best].tolist()).reset_index(drop=True)


def nearest(
    explained: pd.DataFrame, embedder: SentenceEmbedder, queries: Sequence[str], n: int, seed: int = 0
) -> pd.DataFrame:
    """The ``n`` latents whose explanations come nearest to each query: ``query, latent, method, explanation...``."""
    search = Search(explained, embedder, seed)
    found = pd.concat([search(query, n).assign(query=query) for query in queries], ignore_index=True)
    return found[["query", "latent", "method", "explanation", "similarity"]]


def sheet(run: Run, found: pd.DataFrame, width: float = 4.5) -> Figure:
    """What each query finds: the latents' top images under masks, below what is said of each; a block for each query.

    Parameters
    ----------
    found : from :func:`nearest`.
    width : of a block, in inches.
    """
    k, blocks = run.profile.explain.k, [part for _, part in found.groupby("query", sort=False)]
    rows = max(map(len, blocks))
    side = width / k  # of a picture
    fig = plt.figure(figsize=(width * len(blocks), rows * (side + 0.3) + 0.3))
    for block, part in zip(np.atleast_1d(fig.subfigures(1, len(blocks), wspace=0.03)), blocks):
        block.suptitle(f"“{part['query'].iloc[0]}”", x=0.02, ha="left", fontsize=10)
        axes = block.subplots(rows, k, squeeze=False)
        for axis in axes.flat:
            axis.axis("off")
        for row, item in zip(axes, part.itertuples()):
            for place, picture in pictures(run.shown.top, run.shown.images, item.latent, k, "masks").items():
                row[place].imshow(picture)
            said = item.explanation if len(item.explanation) < 64 else f"{item.explanation[:61]}..."
            row[0].set_title(" ", fontsize=8, pad=3)  # as high as the words, which are wider than their picture
            where = {"xytext": (0, 3), "xycoords": "axes fraction", "textcoords": "offset points", "fontsize": 8}
            text = f"{said}  ({item.similarity:.2f}, latent {item.latent})"
            row[0].annotate(text, (0, 1), color=colour_of(item.method), **where).set_in_layout(False)
    return fig


def readable(table: pd.DataFrame) -> pd.DataFrame:
    """What :func:`retrieval_table` returns as people read it: shares of every concept, precision of all, two digits."""
    shown = table[(table.measure == "share") | (table.concept == "all")]
    names = [f"{c}, {m}" if c == "all" else c for c, m in zip(shown.concept, shown.measure)]
    return (
        shown.drop(columns=["measure", "concept"])
        .map("{:.2f}".format)
        .assign(concept=names)
        .set_index("concept")
        .reset_index()
    )


def chances(similarity: np.ndarray, n: int) -> np.ndarray:
    """Each item's chance to be among the ``n`` nearest, when ties are broken by lot: ``[items]``, of sum ``n``.

    So what a ranking is worth does not hang on the order of equal texts. Of ``n`` items or fewer all are taken.
    """
    n = min(n, len(similarity))
    last = np.sort(similarity)[len(similarity) - n]  # the n-th nearest
    nearer, tied = similarity > last, similarity == last
    return nearer + tied * (n - nearer.sum()) / tied.sum()


def shares_of(truth: Truth, latents: Sequence[int]) -> dict[str, np.ndarray]:
    """For each concept the share of every latent's activation that lies on it: ``[latents]``."""
    mass = truth.mass[list(latents)].numpy()  # [latents, atoms]
    total = np.maximum(mass.sum(1), 1e-12)
    return {name: mass[:, sorted(elements()[name].atoms)].sum(1) / total for name in CONCEPTS}


def retrieval(
    scored: pd.DataFrame, truths: Mapping[int, Truth], embedder: SentenceEmbedder, n: int = TOP
) -> pd.DataFrame:
    """What the latents that a query retrieves are really active on, averaged exactly over ties.

    Each dictionary is searched alone, and each kind of explanation alone. An empty explanation comes last.

    Parameters
    ----------
    scored : the main comparison with its controls, of all dictionaries.
    truths : of each dictionary.
    n : latents retrieved for a query.

    Returns
    -------
    Columns ``dictionary, concept, query, ranking``, and of the latents retrieved the mean ``share`` of activation on
    the concept, and ``precision``, the share of them that are relevant. Three more rankings are for comparison: a
    random one, which gives the base rate; a search in the names of the elements that fit the latents best, which only
    the embedder can fail; and the ceiling, which ranks by the truth.
    """
    queries = [query for texts in CONCEPTS.values() for query in texts]
    phrases = {name: elements()[name].phrase for name in set(scored.concept)}
    texts = list(dict.fromkeys(text for text in (*scored.explanation, *sorted(phrases.values())) if text))
    vectors = embedder.embed([*texts, *queries])  # each text once: equal texts are equally near
    similar = (vectors[: len(texts)] @ vectors[len(texts) :].T).numpy()  # [texts, queries]
    near = pd.DataFrame(similar, texts, queries)
    near.loc[""] = -np.inf
    rows = []
    for dictionary, part in scored.groupby("dictionary"):
        latents = sorted(set(part.latent))
        shares = shares_of(truths[dictionary], latents)
        said = {
            name: part[(part.method == method) & (part.control == control)].set_index("latent").explanation[latents]
            for name, (method, control) in RANKED.items()
        }
        said[WORDS] = part.drop_duplicates("latent").set_index("latent").concept[latents].map(phrases)
        for concept, words in CONCEPTS.items():
            share = shares[concept]
            worth = np.stack([share, share >= RELEVANT], 1)  # [latents, measures]
            for query in words:
                ranked = {name: near[query].reindex(sentences).to_numpy() for name, sentences in said.items()}
                ranked |= {RANDOM: np.zeros(len(latents)), CEILING: share}
                for name, similarity in ranked.items():
                    got = chances(similarity, n) @ worth / min(n, len(latents))
                    about = {"dictionary": dictionary, "concept": concept, "query": query, "ranking": name}
                    rows.append({**about, **dict(zip(MEASURES, got))})
    return pd.DataFrame(rows)


def retrieval_table(found: pd.DataFrame) -> pd.DataFrame:
    """Means by concept, over queries and dictionaries, and over all concepts: a column for each ranking."""
    rows = []
    for measure in MEASURES:
        wide = found.pivot_table(measure, "concept", "ranking")[list(RANKINGS)]
        rows += [{"measure": measure, "concept": name, **wide.loc[name]} for name in CONCEPTS]
        rows.append({"measure": measure, "concept": "all", **wide.mean()})
    return pd.DataFrame(rows)


def retrieval_effects(found: pd.DataFrame) -> pd.DataFrame:
    """Differences between rankings, averaged over queries and then over concepts: ``what, concepts, measure...``.

    A unit is one concept in one dictionary. All concepts together are a sample, and are resampled as concepts are
    everywhere. Depth and perspective are named by the claim, and no sample of anything: there each unit stands alone.

    Parameters
    ----------
    found : from :func:`retrieval`.
    """
    cells = found.groupby(["ranking", "dictionary", "concept"])[list(MEASURES)].mean()
    rows = []
    for concepts, names in SETS.items():
        part = cells[cells.index.get_level_values("concept").isin(names)].reset_index()
        if concepts != "all":
            part["concept"] += " in dictionary " + part.dictionary.astype(str)
        part = part.set_index(["ranking", "dictionary", "concept"])
        for first, second in PAIRS:
            for measure in MEASURES:
                e = difference(part.loc[first][measure], part.loc[second][measure])
                rows.append({"what": f"{first} - {second}", "concepts": concepts, "measure": measure, **effect(e)})
    return pd.DataFrame(rows)
