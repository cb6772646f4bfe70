"""What is known of latents before anything is said of them: which are explained, and what they are active on."""

from __future__ import annotations

import numpy as np
import torch

from lib.evidence import TooFewLatents
from lib.run import Run
from lib.scenes.catalogue import elements

NEIGHBOURS = 6  # of a latent, that are kept


def explained(run: Run) -> list[int]:
    """Latents that fire on enough pictures of both sets, in order; :class:`lib.evidence.Active` takes the first."""
    least = run.profile.explain.min_images
    fires = (run.shown.top.fired >= least) & (run.held_out.top.fired >= least)
    return torch.nonzero(fires).flatten().tolist()


def roles(run: Run) -> dict[str, list[int]]:
    """All latents of a dictionary by role, each in order: ``validation``, ``test``, ``other``, ``silent``.

    If too few fire often enough, none chooses or reports.
    """
    latents = explained(run)
    try:
        named = run.latents
    except TooFewLatents:
        named = {}
    taken = {latent for some in named.values() for latent in some}
    silent = sorted(set(range(len(run.shown.top.fired))) - set(latents))
    return {**named, "other": [latent for latent in latents if latent not in taken], "silent": silent}


def concept_of(run: Run, latent: int) -> tuple[str, str, float]:
    """The element of the catalogue that explains a latent best, its level, and its F1 on patches.

    Two empty texts and NaN where nobody knows, or where the latent never fires.
    """
    if run.truth is None or not float(run.truth.mass[latent].sum()):
        return "", "", np.nan
    element = elements()[run.concept(latent)]
    return element.name, element.level, run.truth.score(latent, element.phrase, "patch_f1")


def neighbours(directions: np.ndarray, n: int = NEIGHBOURS) -> tuple[np.ndarray, np.ndarray]:
    """The ``n`` other latents whose decoder directions are most alike: which, and their cosines, ``[latents, n]`` each.

    Parameters
    ----------
    directions : ``[latents, d]``, of any length but 0.
    """
    unit = directions.astype(float) / np.linalg.norm(directions, axis=1, keepdims=True)
    cosine = unit @ unit.T
    np.fill_diagonal(cosine, -np.inf)  # nobody is their own neighbour
    who = np.argsort(-cosine, axis=1, kind="stable")[:, : min(n, len(unit) - 1)]
    return who, np.take_along_axis(cosine, who, 1)


def exchanged(run: Run) -> list[int]:
    """Of each latent, whose direction it gets in the control ``permuted`` among all that are explained; -1 if none."""
    own = torch.arange(len(run.sae.directions))
    other = run.control("permuted", explained(run)).directions(own[:, None])[:, 0]  # numbers are moved as they are
    return torch.where(other == own, -1, other).tolist()
