"""Train a desk encoder: a small SigLIP or InternViT that learns to see what scenes show.

It learns from ``captions`` alone: which of the catalogue's names stand in a picture's caption. No patch is ever
labelled; a name is due if any patch deserves it (multiple-instance learning). Or, for comparison, it learns from
``patches``: each must say which object or surface it shows, or that it is occluded, in pictures of which a third are
masked or heat-mapped.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from torch import Tensor, nn

from lib.desk import gemma3, internvl
from lib.desk.training import Ahead, fit
from lib.device import products
from lib.overlay import heatmap_overlay, occlude
from lib.scenes.catalogue import ATOM_INDEX, ATOMS, OBJECTS
from lib.scenes.drawing import GRID, Scene
from lib.scenes.sampling import Mix, scenes

OCCLUDED = len(ATOMS)  # the label of a blackened patch
FAMILIES = {"gemma3": gemma3, "internvl": internvl}  # each has vision(), processor() and build()


@dataclass(frozen=True)
class EncoderRecipe:
    """How the encoder is built and trained.

    ``learns``: from ``captions`` of whole pictures, or from labels of ``patches``, highlighted views among them.
    """

    family: str = "gemma3"
    learns: Literal["captions", "patches"] = "captions"
    width: int = 192
    layers: int = 6
    heads: int = 6
    steps: int = 1200
    batch: int = 128
    lr: float = 1.5e-3
    seed: int = 11
    mix: Mix = Mix(cooccurrence=0.5, closeup=0.1, wallpaper=0.1, empty=0.05, smallest=26)


class PatchReader(nn.Module):
    """The encoder with a linear probe on its output; the probe is thrown away after training."""

    def __init__(self, recipe: EncoderRecipe) -> None:
        super().__init__()
        self.encoder = FAMILIES[recipe.family].vision(recipe.width, recipe.layers, recipe.heads)
        self.probe = nn.Linear(recipe.width, len(ATOMS) + 1)
        nn.init.constant_(self.probe.bias, -4.0)  # few names are due: about as few as this says

    def forward(self, pixels: Tensor) -> Tensor:
        """``[n, 3, SIZE, SIZE]`` in [-1, 1] to logits of every patch, ``[n, GRID * GRID, atoms + 1]``."""
        with products("bfloat16", "cpu"):
            tokens = self.encoder(pixel_values=pixels).last_hidden_state
            return self.probe(tokens[:, -GRID * GRID :]).float()  # without a class token


def to_tensor(images: np.ndarray) -> Tensor:
    """``[n, H, W, 3]`` uint8 to ``[n, 3, H, W]`` float in [-1, 1], as SigLIP's processor scales."""
    return torch.from_numpy(images).permute(0, 3, 1, 2).float().div_(127.5).sub_(1)


def augment(scene: Scene, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Show some scenes as the explainer will see them: partly occluded, or under a heatmap."""
    labels, draw = scene.patches().astype(np.int64), rng.random()
    if draw > 0.35:
        return scene.pixels, labels
    atom = rng.choice(np.unique(labels))
    if draw > 0.2:
        heat = rng.random((GRID, GRID)) * (labels == atom)
        return heatmap_overlay(scene.pixels, heat), labels
    keep = (rng.random((GRID, GRID)) < rng.uniform(0.4, 1)) & (labels == atom)
    return occlude(scene.pixels, keep), np.where(keep, labels, OCCLUDED)


def batch(step: int, recipe: EncoderRecipe) -> tuple[Tensor, Tensor]:
    """Training batch ``step``: pixels ``[n, 3, SIZE, SIZE]``, and what is to be learnt.

    That is the label of each patch, ``[n, GRID * GRID]``; or, from captions, whether each atom is named, ``[n,
    atoms]``. The first fifth shows large single objects; smaller ones and company follow.
    """
    mix = recipe.mix
    if step < recipe.steps // 5:
        mix = Mix(mix.cooccurrence, mix.closeup, mix.wallpaper, mix.empty, most_objects=1, smallest=50)
    drawn = list(scenes(recipe.batch, recipe.seed, mix, step * recipe.batch))
    if recipe.learns == "captions":
        return to_tensor(np.stack([s.pixels for s in drawn])), torch.from_numpy(np.stack([*map(named, drawn)]))
    rng = np.random.default_rng([recipe.seed, 1, step])
    images, labels = zip(*[augment(s, rng) for s in drawn])
    return to_tensor(np.stack(images)), torch.from_numpy(np.stack(labels)).flatten(1)


def named(scene: Scene) -> np.ndarray:
    """Which atoms a scene's caption names: ``[atoms]`` bool."""
    out = np.zeros(len(ATOMS), bool)
    out[[ATOM_INDEX[name] for name in (*scene.layout.object_names, scene.layout.surface)]] = True
    return out


def patch_loss(logits: Tensor, labels: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of every patch's label, and the share of object and of surface patches that are right."""
    weight = torch.where(labels < len(OBJECTS), 2.0, 1.0)  # objects are fewer and harder
    value = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
    right = logits.argmax(-1) == labels
    objects, surfaces = labels < len(OBJECTS), (labels >= len(OBJECTS)) & (labels < OCCLUDED)
    return (value * weight.flatten()).sum() / weight.sum(), {
        "object_patches": round(right[objects].float().mean().item(), 4),
        "surface_patches": round(right[surfaces].float().mean().item(), 4),
    }


def caption_loss(logits: Tensor, names: Tensor) -> tuple[Tensor, dict[str, float]]:
    """Cross-entropy of every name's presence, and the share of names that are among the likeliest.

    A picture's logit of a name is a soft maximum over its patches. For the figures, as many objects (surfaces) are
    guessed as the caption names.
    """
    logits = logits[..., : len(ATOMS)].logsumexp(1) - math.log(GRID * GRID)  # [n, atoms]
    value = nn.functional.binary_cross_entropy_with_logits(logits, names.float(), reduction="none").sum(1).mean()
    figures = {}
    for what, part in (("object_names", slice(0, len(OBJECTS))), ("surface_names", slice(len(OBJECTS), None))):
        due = names[:, part]
        place = logits[:, part].argsort(1, descending=True).argsort(1)
        found = (place < due.sum(1, keepdim=True)) & due
        figures[what] = round((found.sum() / due.sum()).item(), 4)
    return value, figures


def train(recipe: EncoderRecipe, folder: Path) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train the encoder; resumes from ``folder``. Returns it with its training log."""
    torch.manual_seed(recipe.seed)
    model = PatchReader(recipe)

    ahead = Ahead(partial(batch, recipe=recipe), recipe.steps)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        pixels, wanted = ahead.of(step)
        return (caption_loss if recipe.learns == "captions" else patch_loss)(model(pixels), wanted)

    log = fit(model, loss, steps=recipe.steps, lr=recipe.lr, folder=folder, name="encoder")
    return model.encoder, log
