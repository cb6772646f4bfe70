"""Controls: explanations made with what belongs to another latent, or to none (appendix J)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
from torch import Tensor

from lib.kept import Evidence


@dataclass(frozen=True)
class Control:
    """What belongs to another latent, or to none.

    Attributes
    ----------
    name : ``random``: random directions; ``permuted``: another latent's direction; ``images``: another latent's
        images; ``both``: both from the same other latent, which is then all it explains.
    seed : of the exchange.
    among : the latents that swap; empty for random directions.
    """

    name: Literal["random", "permuted", "images", "both"]
    seed: int
    among: tuple[int, ...] = ()

    @property
    def swaps_images(self) -> bool:
        """Whether images are another latent's."""
        return self.name in ("images", "both")

    def directions(self, own: Tensor) -> Tensor:
        """The directions under this control: ``[latents, d]``."""
        if self.name == "random":
            return random_directions(own, self.seed)
        return permuted_directions(own, self.among, self.seed) if self.name in ("permuted", "both") else own

    def evidence(self, own: Evidence) -> Evidence:
        """The top images under this control."""
        return permuted_evidence(own, self.among, self.seed) if self.swaps_images else own


def random_directions(directions: Tensor, seed: int) -> Tensor:
    """Control: random directions of the same norms, ``[latents, d]`` (appendix J).

    They are drawn on the CPU, so that they are the same on every device.
    """
    generator = torch.Generator().manual_seed(seed)
    noise = torch.randn(directions.shape, generator=generator).to(directions.device)
    return torch.nn.functional.normalize(noise, dim=1) * directions.norm(dim=1, keepdim=True)


def permuted_directions(directions: Tensor, latents: Sequence[int], seed: int) -> Tensor:
    """Control: every one of ``latents`` gets the direction of another of them (appendix J).

    A random cyclic order guarantees that no latent keeps its own.
    """
    order = np.random.default_rng(seed).permutation(np.asarray(latents))
    out = directions.clone()
    out[order] = directions[np.roll(order, 1)]
    return out


def permuted_evidence(evidence: Evidence, latents: Sequence[int], seed: int) -> Evidence:
    """Control: every one of ``latents`` gets the top images of another of them, and their heatmaps.

    With the seed of :func:`permuted_directions`, images and direction come from the same other latent.
    """
    order = np.random.default_rng(seed).permutation(np.asarray(latents))
    changed = {name: tensor.clone() for name, tensor in vars(evidence).items()}
    for name, tensor in vars(evidence).items():
        changed[name][order] = tensor[np.roll(order, 1)]
    return Evidence(**changed)
