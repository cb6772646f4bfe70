"""A map of features by what their explanations mean (section 5.3, Figure 6)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from lib.judges import Reader
from lib.judges.sentences import SentenceEmbedder
from lib.scenes.catalogue import elements
from lib.scenes.language import read

MOST = 12  # clusters, as the paper has them
EACH = 3  # sentences in a cluster, about, where there are too few for so many
WRITTEN = 40  # sentences, and letters of the longest, up to which a map has room for words
LOOKS = [(c, m) for m in "osD" for c in ("#E69F00", "#56B4E9", "#009E73", "#0072B2", "#CC79A7")]  # of clusters
LEVELS = {
    "object": "objects",
    "place": "places",
    "low-level": "patterns and textures",
}  # a cluster of such is called so


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


def cluster_count(sentences: int) -> int:
    """How many clusters so many different sentences make."""
    return min(MOST, max(1, sentences // EACH))


def _covers(name: str, text: str) -> bool:
    """Whether an element of the catalogue covers all that a text names."""
    named = read(text).atoms
    return bool(named) and named <= elements()[name].atoms


def cluster_name(inside: Mapping[str, int], outside: list[str], reader: Reader) -> str:
    """What a cluster is called: by what more than half of its latents share.

    That is the reader's name for it; or else the level (objects, places, patterns and textures) that they speak of.
    Behind a level, or ``mixed`` where they share none, stand the two commonest things.

    Parameters
    ----------
    inside : the cluster's sentences, and how many latents share each.
    """
    name, half = reader.cluster_name(list(inside), outside), sum(inside.values()) / 2
    shared = name not in elements() or sum(size for text, size in inside.items() if _covers(name, text)) > half
    if shared and not name.startswith("mixed"):
        return name
    things: Counter[str] = Counter()
    levels: Counter[str] = Counter()
    for text, size in inside.items():
        things.update(dict.fromkeys(reader.phrases(text), size))
        levels[reader.level(text)] += size
    level, size = levels.most_common(1)[0]
    called = LEVELS[level] if level in LEVELS and size > half else "mixed"
    more = ", ..." if len(things) > 2 else ""
    return f"{called}: " + ", ".join(thing for thing, _ in things.most_common(2)) + more if things else name


def feature_map(best: pd.DataFrame, embedder: SentenceEmbedder, reader: Reader, k: int | None = None) -> pd.DataFrame:
    """Every different explanation on the plane: ``explanation, size, cluster, x, y, number``, the commonest first.

    ``size`` is how many latents share the sentence; ``cluster`` the name of one of ``k`` clusters (by default
    :func:`cluster_count`), ``number`` its place by size.
    """
    found = best.groupby("explanation").latent.agg(["size", "first"])
    found = found.sort_values(["size", "first"], ascending=[False, True])
    sentences = found.index.tolist()
    vectors = embedder.embed(sentences).numpy()  # [sentences, d]
    group = clusters(vectors, k or cluster_count(len(vectors)))  # [sentences]
    where = project(vectors)  # [sentences, 2]
    inside = [found["size"][group == g].to_dict() for g in range(group.max() + 1)]
    names = [cluster_name(texts, [t for t in sentences if t not in texts], reader) for texts in inside]
    table = found.reset_index().drop(columns="first")
    return table.assign(cluster=[names[g] for g in group], x=where[:, 0], y=where[:, 1], number=group)


def cluster_table(dots: pd.DataFrame) -> pd.DataFrame:
    """The map as people read it: a row for each cluster, with its commonest sentences.

    Parameters
    ----------
    dots : from :func:`feature_map`.
    """
    rows = []
    for number, part in dots.groupby("number"):
        said = "; ".join(part.explanation[:4]) + ("; ..." if len(part) > 4 else "")
        about = {"latents": part["size"].sum(), "different sentences": len(part), "commonest sentences": said}
        rows.append({"": number + 1, "cluster": part.cluster.iloc[0], **about})
    return pd.DataFrame(rows)


def draw(dots: pd.DataFrame) -> Figure:
    """The map: a mark for each sentence, by cluster, and its words below it where they are few and short enough.

    Parameters
    ----------
    dots : from :func:`feature_map`.
    """
    fig, axis = plt.subplots(figsize=(9.4, 4.8))
    for number, part in dots.groupby("number"):
        colour, marker = LOOKS[number % len(LOOKS)]
        label = f"{number + 1}  {part.cluster.iloc[0]} ({part['size'].sum()})"
        area = np.minimum(24 + 12 * part["size"], 160)
        axis.scatter(part.x, part.y, s=area, label=label, color=colour, marker=marker, lw=0)
    axis.margins(0.07, 0.1)
    axis.set_axis_off()
    beside = {"loc": "center left", "bbox_to_anchor": (1, 0.5), "scatteryoffsets": [0.5], "alignment": "left"}
    axis.legend(**beside, title="cluster (latents)", markerscale=0.7, fontsize=9)
    few = len(dots) <= WRITTEN and dots.explanation.str.len().max() <= WRITTEN
    taken = _write(axis, dots) if few else np.empty((0, 2))
    for place in label_places(dots, 0.06, taken).itertuples():
        axis.plot([place.x, place.dot_x], [place.y, place.dot_y], color="#999999", lw=0.7, zorder=0)
        text = {"fontsize": 10, "ha": "center", "va": "center", "weight": "bold"}
        paper = {"boxstyle": "circle,pad=0.1", "fc": "white", "lw": 0}  # ends the line at the number
        axis.text(place.x, place.y, str(place.number + 1), bbox=paper, **text)
    return fig


def _write(axis: Axes, dots: pd.DataFrame) -> np.ndarray:
    """The sentences below their marks; returns places that they take up, ``[places, 2]``."""
    below = {"xytext": (0, -7), "textcoords": "offset points", "ha": "center", "va": "top", "fontsize": 7.5}
    texts = [axis.annotate(dot.explanation, (dot.x, dot.y), **below) for dot in dots.itertuples()]
    axis.figure.canvas.draw()  # how large a text is, is known when it has been drawn
    boxes = [text.get_window_extent().transformed(axis.transData.inverted()) for text in texts]
    return np.array([(x, y) for box in boxes for x in np.linspace(box.x0, box.x1, 5) for y in (box.y0, box.y1)])


def label_places(dots: pd.DataFrame, gap: float = 0.05, taken: Sequence[tuple[float, float]] = ()) -> pd.DataFrame:
    """Where the number of each cluster can stand without covering anything: ``number, x, y, dot_x, dot_y``.

    Parameters
    ----------
    dots : from :func:`feature_map`.
    gap : the least distance to any dot, and half the one to another number, as a share of a side of the map.
    taken : other places that are to be kept free, ``[places, 2]``, at half that distance.

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
    if len(taken):
        others = (np.asarray(taken) - low) / span
        room = np.minimum(room, np.linalg.norm(grid[:, None] - others, axis=2).min(1) / (gap / 2))
    rows = []
    for cluster in sorted(set(dots.number)):
        own = np.flatnonzero(dots.number == cluster)
        middle = own[np.linalg.norm(points[own] - np.median(points[own], 0), axis=1).argmin()]
        away = np.linalg.norm(grid - points[middle], axis=1)
        best = np.where(room >= 1, away, np.inf).argmin() if (room >= 1).any() else room.argmax()
        room = np.minimum(room, np.linalg.norm(grid - grid[best], axis=1) / (2 * gap))
        rows.append([cluster, *(grid[best] * span + low), *dots[["x", "y"]].iloc[middle]])
    return pd.DataFrame(rows, columns=["number", "x", "y", "dot_x", "dot_y"]).astype({"number": int})
