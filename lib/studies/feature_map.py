"""A map of features by what their explanations mean (section 5.3, Figure 6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping

import numpy as np
import pandas as pd

from lib.judges import Reader
from lib.judges.sentences import SentenceEmbedder


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


def cluster_name(inside: Mapping[str, int], outside: list[str], reader: Reader) -> str:
    """What a cluster is called; a mixed one after the two things that most of its latents are said to be about.

    Parameters
    ----------
    inside : the cluster's sentences, and how many latents share each.
    """
    name = reader.cluster_name(list(inside), outside)
    if not name.startswith("mixed"):
        return name
    common: Counter[str] = Counter()
    for text, size in inside.items():
        common.update(dict.fromkeys(reader.phrases(text), size))
    more = " and others" if len(common) > 2 else ""
    return ", ".join(phrase for phrase, _ in common.most_common(2)) + more if common else name


def feature_map(best: pd.DataFrame, embedder: SentenceEmbedder, reader: Reader, k: int = 12) -> pd.DataFrame:
    """Every different explanation on the plane: ``explanation, size, cluster, x, y, number``, the commonest first.

    ``size`` is how many latents share the sentence; ``cluster`` the name of one of ``k`` clusters, ``number`` its
    place by size.
    """
    found = best.groupby("explanation").latent.agg(["size", "first"])
    found = found.sort_values(["size", "first"], ascending=[False, True])
    sentences = found.index.tolist()
    vectors = embedder.embed(sentences).numpy()  # [sentences, d]
    where, group = project(vectors), clusters(vectors, k)  # [sentences, 2], [sentences]
    inside = [found["size"][group == g].to_dict() for g in range(group.max() + 1)]
    names = [cluster_name(texts, [t for t in sentences if t not in texts], reader) for texts in inside]
    table = found.reset_index().drop(columns="first")
    return table.assign(cluster=[names[g] for g in group], x=where[:, 0], y=where[:, 1], number=group)


def label_places(dots: pd.DataFrame, gap: float = 0.05) -> pd.DataFrame:
    """Where the number of each cluster can stand without covering anything: ``number, x, y, dot_x, dot_y``.

    Parameters
    ----------
    dots : from :func:`feature_map`.
    gap : the least distance to any dot, and half the one to another number, as a share of a side of the map.

    Returns
    -------
    For each cluster the free place nearest to its middlemost dot, and that dot; the place farthest from all dots and
    numbers where none is free.
    """
    points = dots[["x", "y"]].to_numpy(float)  # [dots, 2]
    low, span = points.min(0), np.ptp(points, 0)
    span[span == 0] = 1
    points, side = (points - low) / span, np.linspace(-0.1, 1.1, 73)
    grid = np.stack(np.meshgrid(side, side), -1).reshape(-1, 2)  # [places, 2]
    room = np.linalg.norm(grid[:, None] - points, axis=2).min(1) / gap  # [places]; a place is free from 1 on
    rows = []
    for cluster in sorted(set(dots.number)):
        own = np.flatnonzero(dots.number == cluster)
        middle = own[np.linalg.norm(points[own] - np.median(points[own], 0), axis=1).argmin()]
        away = np.linalg.norm(grid - points[middle], axis=1)
        best = np.where(room >= 1, away, np.inf).argmin() if (room >= 1).any() else room.argmax()
        room = np.minimum(room, np.linalg.norm(grid - grid[best], axis=1) / (2 * gap))
        rows.append([cluster, *(grid[best] * span + low), *dots[["x", "y"]].iloc[middle]])
    return pd.DataFrame(rows, columns=["number", "x", "y", "dot_x", "dot_y"]).astype({"number": int})
