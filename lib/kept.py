"""What is kept of pictures whose codes go by: small, whatever their number, and stretches merge to the whole."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.codes import CodeBatch
from lib.store import read, write_tensors

KEEP = 10  # top images kept per latent; up to as many can be shown


class TopImages:
    """Keeps, for every latent, the images with the highest scores, and their heatmaps.

    Memory does not depend on the number of images: ``latents x keep x patches``.

    Parameters
    ----------
    latents, keep, patches : sizes.
    limit : images beyond this index are not looked at.
    """

    def __init__(self, latents: int, keep: int, patches: int, limit: int | None = None) -> None:
        self.limit = limit
        self.score = torch.full((latents, keep), -1.0)  # -1: no image yet
        self.image = torch.full((latents, keep), -1, dtype=torch.long)
        self.heat = torch.zeros(latents, keep, patches)
        self.fired = torch.zeros(latents, dtype=torch.long)  # images in which the latent is active
        self.patches = torch.zeros(latents, dtype=torch.long)  # patches in which it is

    def see(self, codes: CodeBatch) -> None:
        """Merge a batch into the kept images; of equal scores the earlier image wins."""
        if self.limit is not None:
            codes = codes.part(codes.images < self.limit)
        latents, keep = self.score.shape
        new = codes.scores(latents).T  # [latents, n]
        self.fired += (new > 0).sum(1)
        self.patches += torch.bincount(codes.indices[codes.values > 0], minlength=latents)
        order = self._rank(new, codes.images.expand(latents, new.shape[1]))
        # Most batches change few latents' images, and the heatmaps are by far the largest thing here.
        changed = torch.nonzero((order != torch.arange(keep)).any(1)).flatten()
        for rows in changed.split(512):
            kept = order[rows].clamp_max(keep - 1)[..., None].expand(-1, -1, self.heat.shape[-1])
            self.heat[rows] = self.heat[rows].gather(1, kept)
        latent, place = torch.nonzero((order >= keep) & (self.score > 0), as_tuple=True)
        for latents_, places in zip(latent.split(4096), place.split(4096)):  # bounds the memory
            self.heat[latents_, places] = codes.heatmap(order[latents_, places] - keep, latents_)

    def _rank(self, score: Tensor, image: Tensor) -> Tensor:
        """Rank later images ``[latents, n]`` among those that are kept; returns where each came from."""
        keep = self.score.shape[1]
        best, order = torch.cat([self.score, score], 1).sort(dim=1, descending=True, stable=True)
        order = order[:, :keep]
        self.score = best[:, :keep]
        self.image = torch.cat([self.image, image], 1).gather(1, order)
        return order

    def merge(self, later: TopImages) -> None:
        """Take in what was kept of images that all come later: exactly as if they had been seen here."""
        self.fired += later.fired
        self.patches += later.patches
        order = self._rank(later.score, later.image)
        for rows in torch.arange(len(order)).split(512):
            both = torch.cat([self.heat[rows], later.heat[rows]], 1)
            self.heat[rows] = both.gather(1, order[rows][..., None].expand(-1, -1, both.shape[-1]))

    def __getstate__(self) -> dict[str, Any]:
        """For its way from one process to another: of the heatmaps, nearly all of which is 0, what is not."""
        heat = self.heat.flatten()
        at = heat.nonzero().flatten()
        return vars(self) | {"heat": (self.heat.shape, at, heat[at])}

    def __setstate__(self, state: dict[str, Any]) -> None:
        shape, at, values = state["heat"]
        heat = torch.zeros(shape)
        heat.view(-1)[at] = values
        vars(self).update(state, heat=heat)

    def result(self) -> Evidence:
        """What was kept; places for which no image activated the latent hold image -1."""
        empty = self.score <= 0
        return Evidence(
            self.score.clamp_min(0),
            self.image.masked_fill(empty, -1),
            self.heat.masked_fill(empty[..., None], 0),
            self.fired,
            self.patches,
        )


class Scores:
    """Keeps all image activation scores of a few images, for the negatives of AUROC.

    Parameters
    ----------
    latents : size of the dictionary.
    wanted : indices of the images.
    """

    def __init__(self, latents: int, wanted: Sequence[int]) -> None:
        self.row = {int(image): row for row, image in enumerate(wanted)}
        self.scores = torch.zeros(len(self.row), latents)

    def see(self, codes: CodeBatch) -> None:
        """Take the wanted images out of a batch."""
        rows = [i for i, image in enumerate(codes.images.tolist()) if image in self.row]
        if rows:
            part = codes.part(rows).scores(self.scores.shape[1])
            self.scores[[self.row[int(codes.images[i])] for i in rows]] = part

    def merge(self, other: Scores) -> None:
        """Take in the scores of images that were wanted here, too, and have been seen elsewhere."""
        self.scores[[self.row[image] for image in other.row]] = other.scores


@dataclass
class Seen:
    """All that is kept of a stretch of an image set; stretches that follow each other merge to the whole.

    Attributes
    ----------
    top : the top images.
    smaller : those of smaller sets, as far as they reach into the stretch.
    scores : of the negatives in it.
    truth : counts what latents are really active on, if anybody knows.
    """

    top: TopImages
    smaller: dict[int, TopImages]
    scores: Scores
    truth: Any | None

    def merge(self, later: Seen) -> None:
        """Take in the stretch that comes next."""
        self.top.merge(later.top)
        for n, part in later.smaller.items():
            self.smaller[n].merge(part)
        self.scores.merge(later.scores)
        if self.truth:
            self.truth.merge(later.truth)


@dataclass(frozen=True)
class Evidence:
    """The top images of every latent, best first.

    Attributes
    ----------
    score : image activation scores (Eq. 3), ``[latents, keep]``.
    image : indices into the image set, -1 where there is none, ``[latents, keep]``.
    heat : codes of every patch of those images, ``[latents, keep, patches]``.
    fired : number of images in which each latent is active, ``[latents]``.
    patches : number of patches in which each latent is active, ``[latents]``.
    """

    score: Tensor
    image: Tensor
    heat: Tensor
    fired: Tensor
    patches: Tensor

    def save(self, path: Path) -> Path:
        """Write as safetensors."""
        return write_tensors(path, vars(self))

    @classmethod
    def load(cls, path: Path) -> Evidence:
        """Read what :meth:`save` wrote."""
        return cls(**read(path))

    def grid(self, latent: int, place: int) -> Tensor:
        """Heatmap of one top image as a square: ``[rows, columns]``."""
        heat = self.heat[latent, place]
        side = round(len(heat) ** 0.5)
        return heat.reshape(side, side)
