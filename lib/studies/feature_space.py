"""A map of features by what their explanations mean, and a search in it (section 5.3, Figures 6 and 8)."""

from __future__ import annotations

import numpy as np
import pandas as pd
import torch

from lib.effects import effect
from lib.judges import Reader
from lib.judges.sentences import SentenceEmbedder
from lib.methods import trio
from lib.metrics import voters
from lib.scenes.catalogue import ATOMS
from lib.scenes.truth import Truth
from lib.stats import Estimate, bootstrap, difference, rank_vote
from lib.studies.bias import LEVELS

MIN_IOU, MIN_SYNTHETIC = 0.2, 0.3  # the paper's filter
CANDIDATES = trio("masks")  # those whose explanations are compared here


# -- the best of three -----------------------------------------------------------------------------


def best_of(scored: pd.DataFrame, seed: int = 0) -> pd.DataFrame:
    """The explanation that wins the rank vote of the metrics, for each latent: one row each, in latent order.

    A tie is decided by lot. Columns ``vote <method>`` hold the chance that each method had;
    ``alone`` says that the winner had no equal.
    """
    own = scored[scored.control == ""].sort_values("latent", kind="stable")
    rows = [own[own.method == m.key].reset_index(drop=True) for m in CANDIDATES]
    cube = np.stack([part[voters()].to_numpy() for part in rows], 1)  # [latents, methods, metrics]
    vote = rank_vote(np.nan_to_num(cube, nan=-np.inf))  # [latents, methods]
    rng = np.random.default_rng(seed)
    winner = [rng.choice(len(CANDIDATES), p=chance) for chance in vote]
    best = pd.DataFrame([rows[w].iloc[i] for i, w in enumerate(winner)]).reset_index(drop=True)
    return best.assign(alone=vote.max(1) == 1, **{f"vote {m.key}": vote[:, i] for i, m in enumerate(CANDIDATES)})


def interpretable(best: pd.DataFrame) -> pd.DataFrame:
    """The paper's filter: IoU of at least 0.2 and synthetic activation of at least 0.3."""
    return best[(best.iou >= MIN_IOU) & (best.synthetic >= MIN_SYNTHETIC)].reset_index(drop=True)


def best_of_table(best: pd.DataFrame, kept: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How often each method wins the vote among the latents that remain (ties shared), and the differences.

    Parameters
    ----------
    best, kept : from :func:`best_of` and :func:`interpretable`; if none is kept, the winners among all are counted.
    """
    passed = best.latent.isin(kept.latent).to_numpy(float)
    kept = kept if len(kept) else best
    won = {m: kept[f"vote {m.key}"].to_numpy(float) for m in CANDIDATES}
    rows = [
        {"method": m.family, **effect(bootstrap(share)), "alone": int(kept[kept.method == m.key].alone.sum())}
        for m, share in won.items()
    ]
    steering, top_k, hybrid = CANDIDATES
    effects = [
        {"what": f"{a.short} - {b.short}", **effect(difference(won[a], won[b]))}
        for a, b in ((hybrid, top_k), (hybrid, steering), (steering, top_k))
    ]
    effects.append({"what": "share that passes the filter", **effect(bootstrap(passed))})
    return pd.DataFrame(rows), pd.DataFrame(effects)


def level_table(scored: pd.DataFrame, reader: Reader, truth: Truth | None) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Share of low-level, place and object explanations per method, in truth where it is known; and differences."""
    own = scored[(scored.control == "") & scored.method.isin([m.key for m in CANDIDATES])].sort_values("latent")
    reader.prepare("level", own.explanation)
    levels = {m.family: own[own.method == m.key].explanation.map(reader.level).to_numpy() for m in CANDIDATES}
    if truth:
        best = [truth.best_element(i)[0].phrase for i in sorted(set(own.latent))]
        levels["truth"] = np.array([reader.level(phrase) for phrase in best])
    rows = [
        {"method": name, **{what: str(bootstrap(found == what)) for what in LEVELS}, "n": len(found)}
        for name, found in levels.items()
    ]
    steering, top_k, hybrid = CANDIDATES
    pairs = {m.short: levels[m.family] for m in (steering, hybrid)} | ({"truth": levels["truth"]} if truth else {})
    effects = [
        {"level": what, "what": f"{short} - Top-k", **effect(difference(found == what, levels[top_k.family] == what))}
        for what in LEVELS
        for short, found in pairs.items()
    ]
    return pd.DataFrame(rows), pd.DataFrame(effects)


# -- the map ---------------------------------------------------------------------------------------


def project(embeddings: np.ndarray, seed: int = 42) -> np.ndarray:
    """UMAP to the plane, ``[n, d]`` to ``[n, 2]``, with the paper's settings.

    It starts from principal components: the usual spectral start can fail on small sets, and is then
    drawn at random, so that two runs differ. Fewer than four points have no neighbourhoods: they keep their first two
    coordinates.
    """
    if len(embeddings) < 4:
        return embeddings[:, :2]
    from umap import UMAP  # compiles for seconds; one notebook alone needs it

    settings = {"n_neighbors": min(15, len(embeddings) - 1), "min_dist": 0.1, "metric": "euclidean", "init": "pca"}
    return UMAP(**settings, random_state=seed, n_jobs=1).fit_transform(embeddings)


def clusters(embeddings: np.ndarray, k: int, seed: int = 42) -> np.ndarray:
    """k-means labels ``[n]``, numbered by size, largest first."""
    from sklearn.cluster import KMeans  # takes a second, and most notebooks read tables alone

    labels = KMeans(min(k, len(embeddings)), n_init=10, random_state=seed).fit_predict(embeddings)
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.argsort(order)[labels]


def feature_map(best: pd.DataFrame, embedder: SentenceEmbedder, reader: Reader, k: int = 12) -> pd.DataFrame:
    """Every different explanation on the plane: ``explanation, size, cluster, x, y, number``, the commonest first.

    ``size`` is how many latents share the sentence; ``cluster`` the name of one of ``k`` clusters, ``number`` its
    place by size.
    """
    found = best.groupby("explanation").latent.agg(["size", "first"])
    found = found.sort_values(["size", "first"], ascending=[False, True])
    sentences = found.index.tolist()
    vectors = embedder.embed(sentences).numpy()  # [sentences, d]
    where, number = project(vectors), clusters(vectors, k)  # [sentences, 2], [sentences]
    inside = [[t for t, c in zip(sentences, number) if c == g] for g in range(number.max() + 1)]
    names = [reader.cluster_name(texts, [t for t in sentences if t not in texts]) for texts in inside]
    cluster = [names[g] for g in number]
    table = found.reset_index().drop(columns="first")
    return table.assign(cluster=cluster, x=where[:, 0], y=where[:, 1], number=number)


# -- the search ------------------------------------------------------------------------------------


class Search:
    """Explanations that can be searched by any text.

    Parameters
    ----------
    explained : a table with columns ``latent, method, explanation``; empty explanations are left out.
    embedder : embeds explanations and queries.
    """

    def __init__(self, explained: pd.DataFrame, embedder: SentenceEmbedder) -> None:
        self.table = explained[explained.explanation != ""].reset_index(drop=True)
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


def retrieve(
    explained: pd.DataFrame, embedder: SentenceEmbedder, queries: dict[str, tuple[str, str]], n: int = 3
) -> pd.DataFrame:
    """The latents whose explanations by each method come nearest to a text.

    Parameters
    ----------
    explained : explanations of several methods; each is searched alone.
    queries : name -> (text, surface sought).
    n : latents retrieved.
    """
    found = [
        Search(part, embedder)(text, n).assign(query=name)
        for name, (text, _) in queries.items()
        for _, part in explained.groupby("method", sort=False)
    ]
    return pd.concat(found, ignore_index=True)[["query", "latent", "method", "explanation", "similarity"]]


def retrieval_effects(
    found: pd.DataFrame, truth: Truth, latents: list[int], queries: dict[str, tuple[str, str]], seed: int
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """What the retrieved latents are really active on.

    Parameters
    ----------
    found : from :func:`retrieve`.
    latents : those that were searched.

    Returns
    -------
    ``found`` with ``share``, that of the latent's activation on the surface sought; and for each method and
    query the mean share minus that of random latents, with the interval over random draws.
    """
    shares = truth.mass / truth.mass.sum(1, keepdim=True).clamp_min(1e-12)  # [latents, atoms]
    effects, share = [], pd.Series(0.0, found.index)
    for (name, method), part in found.groupby(["query", "method"], sort=False):
        surface = shares[:, ATOMS.index(queries[name][1])].numpy()
        share[part.index] = surface[part.latent.to_numpy()]
        rng = np.random.default_rng(seed)
        chance = np.array([surface[rng.choice(latents, len(part), replace=False)].mean() for _ in range(2000)])
        got = share[part.index].mean()
        low, high = got - np.quantile(chance, [0.975, 0.025])
        e = Estimate(float(got - chance.mean()), float(low), float(high), len(part))
        effects.append({"query": name, "method": method, **effect(e)})
    return found.assign(share=share), pd.DataFrame(effects)
