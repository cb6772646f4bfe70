"""What is kept of pictures whose codes go by: small, whatever their number, and stretches merge to the whole."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lib.codes import CodeBatch, watch
from lib.store import read, write_tensors

KEEP = 10  # top images kept per latent; up to as many can be shown


class TopImages:
    """Keeps, for every latent, the images with the highest scores, and their heatmaps.

    Memory does not depend on the number of images: ``latents x keep x patches``. A heatmap stays where it was
    written until its image falls out: only ``slot`` says where each place has its own, since most batches change few.

    Parameters
    ----------
    latents, keep, patches : sizes.
    limit : images beyond this index are not looked at.
    device : where it is kept; that of the codes.
    """

    def __init__(
        self, latents: int, keep: int, patches: int, limit: int | None = None, device: torch.device | str = "cpu"
    ) -> None:
        self.limit = limit
        self.score = torch.zeros(latents, keep, device=device)
        self.image = torch.full((latents, keep), -1, device=device)  # -1: no image yet
        self.slot = torch.arange(keep, device=device).repeat(latents, 1)
        self.heat = torch.zeros(latents, keep, patches, device=device)
        self.fired = torch.zeros(latents, dtype=torch.long, device=device)  # images in which the latent is active
        self.patches = torch.zeros(latents, dtype=torch.long, device=device)  # patches in which it is

    def see(self, codes: CodeBatch) -> None:
        """Take in a batch of later images; of equal scores the earlier image wins."""
        if self.limit is not None:
            codes = codes.part(codes.images < self.limit)
        latents, keep = self.score.shape
        new = codes.scores(latents).T  # [latents, n]
        self.fired += (new > 0).sum(1)
        self.patches += torch.bincount(codes.indices[codes.values > 0], minlength=latents)
        for latent, slot, came in self._ranked(new, codes.images.expand(latents, -1)):
            codes.draw(self.heat.flatten(0, 1), came, latent, latent * keep + slot)

    def merge(self, later: TopImages) -> None:
        """Take in what was kept of images that all come later: exactly as if they had been seen here."""
        self.fired += later.fired
        self.patches += later.patches
        for latent, slot, came in self._ranked(later.score, later.image):
            self.heat[latent, slot] = later.heat[latent, later.slot[latent, came]]

    def _ranked(self, new: Tensor, image: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Rank later images, ``[latents, n]``, among those that are kept.

        Yields those that are kept now, some at a time, which bounds the memory of copies: latent, slot for the
        heatmap, and place among the new, each ``[pairs]``.
        """
        if not new.shape[1]:
            return
        keep = self.score.shape[1]
        some = torch.nonzero(new.amax(1) > self.score[:, -1]).flatten()  # latents that drop an image
        score, order = torch.cat([self.score[some], new[some]], 1).sort(dim=1, descending=True, stable=True)
        score, order = score[:, :keep], order[:, :keep]
        images = torch.cat([self.image[some], image[some]], 1).gather(1, order)
        slot = _slots(self.slot[some], order)
        self.score[some], self.slot[some], self.image[some] = score, slot, images.masked_fill(score <= 0, -1)
        for pairs in torch.nonzero((order >= keep) & (score > 0)).split(4096):
            row, place = pairs.unbind(1)
            yield some[row], slot[row, place], order[row, place] - keep

    def __getstate__(self) -> dict[str, Any]:
        """For its way from one process to another: of the heatmaps, nearly all of which is 0, what is not."""
        state = {name: value.cpu() if isinstance(value, Tensor) else value for name, value in vars(self).items()}
        heat = state["heat"].flatten()
        at = heat.nonzero().flatten()
        return state | {"heat": (self.heat.shape, at, heat[at])}

    def __setstate__(self, state: dict[str, Any]) -> None:
        shape, at, values = state["heat"]
        heat = torch.zeros(shape)
        heat.view(-1)[at] = values
        vars(self).update(state, heat=heat)

    def result(self) -> Evidence:
        """What was kept; places for which no image activated the latent hold image -1."""
        heat = self.heat.gather(1, self.slot[..., None].expand_as(self.heat)).masked_fill_(self.image[..., None] < 0, 0)
        kept = (self.score, self.image, heat, self.fired, self.patches)
        return Evidence(*(tensor.cpu() for tensor in kept))


def _slots(old: Tensor, order: Tensor) -> Tensor:
    """Where each place has its heatmap after a merge: kept images keep theirs, others take what is free.

    Parameters
    ----------
    old : ``[latents, keep]``, slots before.
    order : ``[latents, keep]``, which one each place's image was: of the old places, or, from ``keep`` on, a new one.
    """
    keep = old.shape[1]
    kept = order < keep
    slot = old.gather(1, order.clamp_max(keep - 1))
    taken = torch.zeros_like(old).scatter_add(1, slot, kept.long())
    free = taken.argsort(dim=1, stable=True)  # those of which none is taken come first
    return torch.where(kept, slot, free.gather(1, ((~kept).cumsum(1) - 1).clamp_min(0)))


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
        here = codes.images.tolist()
        rows = [i for i, image in enumerate(here) if image in self.row]
        if rows:
            self.scores[[self.row[here[i]] for i in rows]] = codes.part(rows).scores(self.scores.shape[1]).cpu()

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

    def see(self, codes: CodeBatch) -> None:
        """Show one batch to all who keep something of it."""
        watch([codes], self.top, *self.smaller.values(), self.scores, *([self.truth] if self.truth else []))

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
