"""The desk subjects: how each is made, whose encoder it has, and what its language model studies."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from transformers import AutoModelForImageTextToText

from lib.desk.encoder import EncoderRecipe, train
from lib.desk.explainer import ExplainerRecipe
from lib.hub import Asset, load_whole
from lib.store import read


@dataclass(frozen=True)
class Recipe:
    """How one subject is made.

    Attributes
    ----------
    title : for its card.
    explainer : how its language model is trained.
    encoder : how its encoder is trained; or a subject whose encoder it takes, frozen, as Gemma 3 4B,
        12B and 27B share one.
    """

    title: str
    explainer: ExplainerRecipe
    encoder: EncoderRecipe | Asset = Asset("data/models/subject-a")


_SIZES = {"tiny": {"width": 48, "layers": 1, "heads": 2}, "small": {"width": 96, "layers": 2, "heads": 3}}

SUBJECTS = {
    "subject-a": Recipe("Desk subject A, after Gemma 3", ExplainerRecipe(), EncoderRecipe()),
    **{
        f"subject-a-{size}-{seed}": Recipe(
            f"Desk subject A with a {size} language model, seed {seed}", ExplainerRecipe(seed=seed, **sizes)
        )
        for size, sizes in _SIZES.items()
        for seed in (1, 2, 3)
    },
    "subject-a-whole": Recipe("Desk subject A, taught about whole pictures alone", ExplainerRecipe(altered=0)),
    "subject-a-taught": Recipe(
        "Desk subject A, taught what Top-k shows",
        ExplainerRecipe(width=256, heads=4, steps=1400, altered=0, views=160),
        EncoderRecipe(learns="patches", steps=1600),
    ),
    "subject-a-patches": Recipe(
        "Desk subject A with an encoder that learned from patches",
        ExplainerRecipe(),
        Asset("data/models/subject-a-taught"),
    ),
    "subject-b": Recipe(
        "Desk subject B, after InternVL3",
        ExplainerRecipe(seed=32),
        EncoderRecipe("internvl", steps=1000, seed=31),
    ),
}


def encoder_of(recipe: EncoderRecipe | Asset, work: Path) -> tuple[str, torch.nn.Module, list[dict[str, float]]]:
    """Family, trained encoder and log."""
    if isinstance(recipe, EncoderRecipe):
        vision, log = train(recipe, work)
        return recipe.family, vision.to(torch.bfloat16).float(), log  # as it ships: all language models see the same
    folder = recipe.fetch()
    model = load_whole(AutoModelForImageTextToText, str(folder), dtype=torch.float32, attn_implementation="eager")
    return "gemma3", model.model.vision_tower, read(folder / "training.json")["encoder"]


@dataclass(frozen=True)
class Studied:
    """What decides the pictures that a language model studies, and the features that it sees of them."""

    encoder: EncoderRecipe | Asset
    scenes: int
    altered: float
    views: int


def studied(encoder: EncoderRecipe | Asset, lessons: ExplainerRecipe) -> Studied:
    """What a language model studies: the same as that of the subject whose encoder it takes, if lessons are alike."""
    if isinstance(encoder, Asset) and (maker := SUBJECTS.get(Path(encoder).name)):
        encoder = maker.encoder
    return Studied(encoder, lessons.scenes, lessons.altered, lessons.views)
