"""Train a desk encoder: a small SigLIP or InternViT that learns to see, patch by patch, what scenes show.

Every patch must say which object or surface it shows, or that it is occluded. Exact labels are free
here, and twenty minutes of them are worth an hour of captions.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from lib.desk import gemma3, internvl
from lib.desk.training import fit
from lib.device import products
from lib.overlay import heatmap_overlay, occlude
from lib.scenes.catalogue import ATOMS, OBJECTS
from lib.scenes.drawing import GRID, Scene
from lib.scenes.sampling import Mix, scenes

OCCLUDED = len(ATOMS)  # the label of a blackened patch
FAMILIES = {"gemma3": gemma3, "internvl": internvl}  # each has vision(), processor() and build()


@dataclass(frozen=True)
class EncoderRecipe:
    """How the encoder is built and trained."""

    family: str = "gemma3"
    width: int = 192
    layers: int = 6
    heads: int = 6
    steps: int = 1600
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

    def forward(self, pixels: Tensor) -> Tensor:
        """``[n, 3, SIZE, SIZE]`` in [-1, 1] to label logits ``[n, GRID * GRID, n_labels]``."""
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
    """Training batch ``step``: pixels ``[n, 3, SIZE, SIZE]`` and labels ``[n, GRID * GRID]``.

    The first fifth shows large single objects; smaller ones and company follow.
    """
    mix = recipe.mix
    if step < recipe.steps // 5:
        mix = Mix(mix.cooccurrence, mix.closeup, mix.wallpaper, mix.empty, most_objects=1, smallest=50)
    rng = np.random.default_rng([recipe.seed, 1, step])
    pairs = [augment(s, rng) for s in scenes(recipe.batch, recipe.seed, mix, step * recipe.batch)]
    images, labels = zip(*pairs)
    return to_tensor(np.stack(images)), torch.from_numpy(np.stack(labels)).flatten(1)


def accuracy(logits: Tensor, labels: Tensor) -> dict[str, float]:
    """Share of object patches and of surface patches named right."""
    right = logits.argmax(-1) == labels
    objects, surfaces = labels < len(OBJECTS), (labels >= len(OBJECTS)) & (labels < OCCLUDED)
    return {
        "object_patches": round(right[objects].float().mean().item(), 4),
        "surface_patches": round(right[surfaces].float().mean().item(), 4),
    }


def train(recipe: EncoderRecipe, folder: Path) -> tuple[nn.Module, list[dict[str, float]]]:
    """Train the encoder; resumes from ``folder``. Returns it with its training log."""
    torch.manual_seed(recipe.seed)
    model = PatchReader(recipe)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        pixels, labels = batch(step, recipe)
        logits = model(pixels)
        weight = torch.where(labels < len(OBJECTS), 2.0, 1.0)  # objects are fewer and harder
        value = nn.functional.cross_entropy(logits.flatten(0, 1), labels.flatten(), reduction="none")
        return (value * weight.flatten()).sum() / weight.sum(), accuracy(logits, labels)

    log = fit(model, loss, steps=recipe.steps, lr=recipe.lr, folder=folder, name="encoder")
    return model.encoder, log
