"""A map of features by what their explanations mean (section 5.3, Figure 6)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.bias import LEVELS
from lib.effects import effect
from lib.judges import Reader
from lib.judges.sentences import SentenceEmbedder
from lib.scenes.catalogue import ATOMS
from lib.search import Search
from lib.stats import Estimate, bootstrap, difference, rank_vote
from lib.truth import Truth

METRICS = ("iou", "auroc", "synthetic", "clip")  # those that vote; correctness is not known in practice
MIN_IOU, MIN_SYNTHETIC = 0.2, 0.3  # the paper's filter


def best_of(scored: pd.DataFrame, methods: list[str], seed: int = 0) -> pd.DataFrame:
    """The explanation that wins the rank vote of the metrics, for each latent: one row each, in latent order.

    A tie is decided by lot. Columns ``vote <method>`` hold the chance that each method had;
    ``alone`` says that the winner had no equal.
    """
    own = scored[(scored.control == "") & scored.method.isin(methods)].sort_values("latent", kind="stable")
    cube = np.stack([own[own.method == m][list(METRICS)].to_numpy() for m in methods], 1)
    vote = rank_vote(np.nan_to_num(cube, nan=-np.inf))
    rng = np.random.default_rng(seed)
    winner = np.array([rng.choice(len(methods), p=chance) for chance in vote])
    rows = {m: own[own.method == m].reset_index(drop=True) for m in methods}
    best = pd.DataFrame([rows[methods[w]].iloc[i] for i, w in enumerate(winner)]).reset_index(drop=True)
    return best.assign(alone=vote.max(1) == 1, **{f"vote {m}": vote[:, i] for i, m in enumerate(methods)})


def interpretable(best: pd.DataFrame) -> pd.DataFrame:
    """The paper's filter: IoU of at least 0.2 and synthetic activation of at least 0.3."""
    return best[(best.iou >= MIN_IOU) & (best.synthetic >= MIN_SYNTHETIC)].reset_index(drop=True)


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


def best_of_table(best: pd.DataFrame, kept: pd.DataFrame, methods: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How often each method wins the vote among the latents that remain (ties shared), and the differences.

    Parameters
    ----------
    best, kept : from :func:`best_of` and :func:`interpretable`; if none is kept, the winners among all are counted.
    methods : key -> name.
    """
    passed = best.latent.isin(kept.latent).to_numpy(float)
    kept = kept if len(kept) else best
    won = {name: kept[f"vote {key}"].to_numpy(float) for key, name in methods.items()}
    rows = [
        {"method": name, **effect(bootstrap(share)), "alone": int(kept[kept.method == key].alone.sum())}
        for (key, name), share in zip(methods.items(), won.values())
    ]
    hybrid, topk, steering = won["Steering-informed Top-k"], won["Top-k"], won["Steering"]
    pairs = {
        "hybrid - Top-k": (hybrid, topk),
        "hybrid - Steering": (hybrid, steering),
        "Steering - Top-k": (steering, topk),
    }
    effects = [{"what": what, **effect(difference(a, b))} for what, (a, b) in pairs.items()]
    effects.append({"what": "share that passes the filter", **effect(bootstrap(passed))})
    return pd.DataFrame(rows), pd.DataFrame(effects)


def level_table(
    scored: pd.DataFrame, methods: dict[str, str], reader: Reader, truth: Truth | None
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Share of low-level, place and object explanations per method, in truth where it is known; and differences."""
    own = scored[(scored.control == "") & scored.method.isin(methods)].sort_values("latent")
    reader.prepare("level", own.explanation)
    levels = {name: own[own.method == key].explanation.map(reader.level).to_numpy() for key, name in methods.items()}
    if truth:
        best = [truth.best_element(i)[0].phrase for i in sorted(set(own.latent))]
        levels["truth"] = np.array([reader.level(phrase) for phrase in best])
    rows = [
        {"method": name, **{what: str(bootstrap(found == what)) for what in LEVELS}, "n": len(found)}
        for name, found in levels.items()
    ]
    effects = []
    for what in LEVELS:
        share = {name: (found == what).astype(float) for name, found in levels.items()}
        for short, name in (("Steering", "Steering"), ("hybrid", "Steering-informed Top-k"), ("truth", "truth")):
            if name in share:
                e = difference(share[name], share["Top-k"])
                effects.append({"level": what, "what": f"{short} - Top-k", **effect(e)})
    return pd.DataFrame(rows), pd.DataFrame(effects)


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
    shares = truth.mass / truth.mass.sum(1, keepdim=True).clamp_min(1e-12)
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
