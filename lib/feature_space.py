"""A map of features by what their explanations mean (section 5.3, Figure 6)."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.bias import LEVELS, level
from lib.effects import effect
from lib.judges.sentences import SentenceEmbedder
from lib.run import Run
from lib.scenes.catalogue import ATOMS, elements, membership
from lib.scenes.language import read
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
    drawn at random, so that two runs differ.
    """
    from umap import UMAP  # compiles for seconds; one notebook alone needs it

    settings = {"n_neighbors": min(15, len(embeddings) - 1), "min_dist": 0.1, "metric": "euclidean", "init": "pca"}
    return UMAP(**settings, random_state=seed, n_jobs=1).fit_transform(embeddings)


def clusters(embeddings: np.ndarray, k: int, seed: int = 42) -> np.ndarray:
    """k-means labels ``[n]``, numbered by size, largest first."""
    from sklearn.cluster import KMeans  # takes a second, and most notebooks read tables alone

    labels = KMeans(min(k, len(embeddings)), n_init=10, random_state=seed).fit_predict(embeddings)
    order = np.argsort(-np.bincount(labels), kind="stable")
    return np.argsort(order)[labels]


def name_cluster(texts: list[str], others: list[str]) -> str:
    """The element that tells a cluster's explanations best from all others (highest F1), if one does.

    Otherwise the cluster is mixed, and its first two explanations stand for it.

    The paper lets Gemma 3 27B name clusters; the desk's language model knows no such question, but
    its catalogue knows every name.
    """

    def within(text: str) -> np.ndarray:
        """Elements that cover something that the text names, and all of it."""
        named = list(read(text).atoms)
        return membership()[:, named].all(1) if named else np.zeros(len(membership()), bool)

    inside = np.sum([within(t) for t in texts], 0)
    outside = np.sum([within(t) for t in others], 0) if others else np.zeros(len(membership()))
    f1 = 2 * inside / (inside + outside + len(texts))
    if f1.max() < 0.5:  # no one name tells it from the rest
        return "mixed: " + ", ".join(texts[:2])
    return list(elements())[int(f1.argmax())]


def best_of_table(best: pd.DataFrame, kept: pd.DataFrame, methods: dict[str, str]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """How often each method wins the vote among the latents that remain (ties shared), and the differences.

    Parameters
    ----------
    best, kept : from :func:`best_of` and :func:`interpretable`.
    methods : key -> name.
    """
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
    passed = best.latent.isin(kept.latent).to_numpy(float)
    effects.append({"what": "share that passes the filter", **effect(bootstrap(passed))})
    return pd.DataFrame(rows), pd.DataFrame(effects)


def level_table(scored: pd.DataFrame, methods: dict[str, str], truth: Truth) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Share of low-level, place and object explanations per method and in truth; differences from Top-k."""
    own = scored[(scored.control == "") & scored.method.isin(methods)].sort_values("latent")
    levels = {name: own[own.method == key].explanation.map(level).to_numpy() for key, name in methods.items()}
    levels["truth"] = np.array([level(truth.best_element(i)[0].phrase) for i in sorted(set(own.latent))])
    rows = [
        {"method": name, **{what: str(bootstrap(found == what)) for what in LEVELS}, "n": len(found)}
        for name, found in levels.items()
    ]
    effects = []
    for what in LEVELS:
        share = {name: (found == what).astype(float) for name, found in levels.items()}
        for short, name in (("Steering", "Steering"), ("hybrid", "Steering-informed Top-k"), ("truth", "truth")):
            e = difference(share[name], share["Top-k"])
            effects.append({"level": what, "what": f"{short} - Top-k", **effect(e)})
    return pd.DataFrame(rows), pd.DataFrame(effects)


def retrieval(
    run: Run, explained: pd.DataFrame, embedder: SentenceEmbedder, queries: dict[str, tuple[str, str]], n: int = 3
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Search for latents by a text, and see what they are really active on.

    Parameters
    ----------
    explained : explanations of several methods; each is searched alone.
    queries : name -> (text, surface sought).
    n : latents retrieved.

    Returns
    -------
    What Steering's explanations retrieve; and for each method and query the mean share of the
    retrieved latents' activation on the surface, minus that of random latents, with the interval
    over random draws.
    """
    shown, effects = [], []
    mass = run.truth.mass
    for name, (text, surface) in queries.items():
        share = (mass[:, ATOMS.index(surface)] / mass.sum(1).clamp_min(1e-12)).numpy()
        for method, part in explained.groupby("method", sort=False):
            hits = Search(part, embedder)(text, n)
            latents = part.latent.to_numpy()
            rng = np.random.default_rng(run.profile.seed)
            chance = np.array([share[rng.choice(latents, n, replace=False)].mean() for _ in range(2000)])
            got = share[hits.latent.to_numpy()].mean()
            low, high = got - np.quantile(chance, [0.975, 0.025])
            e = Estimate(float(got - chance.mean()), float(low), float(high), n)
            effects.append({"query": name, "method": method, **effect(e)})
            if method == "steering-add":
                shown.append(hits.assign(query=name, share=share[hits.latent.to_numpy()]))
    columns = ["query", "latent", "method", "explanation", "similarity", "share"]
    return pd.concat(shown, ignore_index=True)[columns], pd.DataFrame(effects)
