"""Contextual bias by the truth: which latents are backgrounds, and did an object that is named stand in pictures?"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from lib.evidence import Gathered
from lib.run import Run
from lib.scenes.catalogue import ATOM_INDEX, OBJECTS
from lib.scenes.drawing import Layout
from lib.scenes.images import SceneImages
from lib.scenes.language import read
from lib.scenes.sampling import sample
from lib.scenes.truth import Truth

OUTCOMES = ("no object", "context", "error")  # of one explanation of a background latent; see :func:`judge`
Pictures = tuple[frozenset[int], ...]  # the objects (atoms) that stand in each of a latent's top images

_OBJECTS = frozenset(range(len(OBJECTS)))  # the first atoms are the objects


def background_latents(truth: Truth, latents: Sequence[int], purity: float = 0.8) -> list[int]:
    """The latents of which at least ``purity`` of the activation lies on surfaces, not on objects."""
    mass = truth.mass[list(latents)]  # [latents, atoms]
    share = mass[:, len(OBJECTS) :].sum(1) / mass.sum(1).clamp_min(1e-12)
    return [latent for latent, s in zip(latents, share.tolist()) if s >= purity]


def layout_of(images: SceneImages, index: int) -> Layout:
    """The plan of picture ``index``: as in ``images.scene(index)``, which also draws it."""
    return sample(np.random.default_rng([images.seed, images.start + index]), images.mix)


def top_objects(shown: Gathered, latents: Sequence[int], k: int) -> dict[int, Pictures]:
    """The objects that stand in the ``k`` top images of some latents, picture by picture; fewer if fewer activate one.

    Only scenes know them. An object counts wherever it stands, under the latent's mask or not.
    """
    tops = {latent: [i for i in shown.top.image[latent, :k].tolist() if i >= 0] for latent in latents}
    standing = {
        i: frozenset(ATOM_INDEX[name] for name in layout_of(shown.images, i).object_names)
        for i in {i for top in tops.values() for i in top}
    }
    return {latent: tuple(standing[i] for i in top) for latent, top in tops.items()}


def named_objects(text: str) -> list[frozenset[int]]:
    """The atoms of each object, category or kind of objects that a text names, in order."""
    return [atoms for element in read(text).elements if (atoms := element.atoms & _OBJECTS)]


def judge(explained: pd.DataFrame, pictures: Mapping[int, Pictures]) -> pd.DataFrame:
    """Explanations of latents of one dictionary, with their outcomes: the rows whose latents are in ``pictures``.

    One of three columns is 1 and the others are 0. ``context``: the text names an object that stood in a top image; a
    category (mammal) stood there if any of its members did. ``error``: it names objects, and none of them stood in any.
    ``no object``: all else, also what cannot be read. ``object`` is ``context`` or ``error``.

    ``elsewhere`` is the share of *other* latents of ``pictures`` whose top images would have made the same text
    ``context``: how often an object stands there by coincidence. NaN if there are no others.
    """
    own = explained[explained.latent.isin(list(pictures))]
    place = {latent: row for row, latent in enumerate(pictures)}
    standing = np.zeros((len(place), len(OBJECTS)), int)  # [latents, objects]
    for latent, row in place.items():
        standing[row, list(frozenset().union(*pictures[latent]))] = 1
    named = np.zeros((len(own), len(OBJECTS)), int)  # [rows, objects]
    for row, text in enumerate(own.explanation):
        named[row, list(frozenset().union(*named_objects(text)))] = 1
    hits = named @ standing.T > 0  # [rows, latents]
    context = hits[np.arange(len(own)), own.latent.map(place).to_numpy(int)]
    anything = named.any(1)
    others = (hits.sum(1) - context) / (len(place) - 1) if len(place) > 1 else np.full(len(own), np.nan)
    flags = {"no object": ~anything, "context": context, "error": anything & ~context, "object": anything}
    return own.assign(**{name: flag.astype(float) for name, flag in flags.items()}, elsewhere=others)


def judged(runs: Sequence[Run], scored: pd.DataFrame) -> pd.DataFrame:
    """All that is said of the true background latents of several dictionaries, with its outcomes.

    Parameters
    ----------
    runs : one for each dictionary (``run.replicas``); of scenes, since nobody knows the truth of photographs.
    scored : ``run.replicate()``: explanations with columns ``dictionary``, ``latent``, ``concept``.

    Returns
    -------
    The rows of background latents, controls included, with the columns of :func:`judge`.
    """
    tables = []
    for run in runs:
        own = scored[scored.dictionary == run.profile.sae.seed]
        latents = background_latents(run.truth, sorted(own.latent.unique()))
        tables.append(judge(own, top_objects(run.shown, latents, run.profile.explain.k)))
    return pd.concat(tables, ignore_index=True)
