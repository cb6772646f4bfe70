"""Make the shipped desk models from scratch: train, measure on held-out pictures, write the cards.

Each part resumes where it was after a kill. The cards' numbers are written here and nowhere else.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import torch

from lib import contents
from lib.desk import clip_judge, smollm2
from lib.desk.connector import build_adapter
from lib.desk.encoder import FAMILIES
from lib.desk.explainer import train as train_explainer
from lib.desk.quality import measure_judge, measure_subject
from lib.desk.shipping import MODELS, WORK, describe, publish, work_of
from lib.desk.subjects import SUBJECTS, Recipe, encoder_of, studied
from lib.desk.weights import PARTS, share_encoder, split_weights
from lib.families import vision_layers
from lib.hub import Asset
from lib.judges.clip import OpenClip
from lib.scenes.catalogue import CATEGORY_OF, OBJECTS, SURFACES
from lib.vlm import VLM, Checkpoint, parameter_count


def build_subject(name: str, recipe: Recipe, models: Path = MODELS, work: Path = WORK, measure: int = 600) -> None:
    """Train a desk subject, encoder first, and write it to ``models`` with card and training log.

    ``measure`` is the number of held-out pictures behind each figure on the card.
    """
    eye_work, tongue_work = (work_of(work, part, recipe) for part in ("encoder", "explainer"))
    tongue = recipe.explainer
    family, vision, encoder_log = encoder_of(recipe.encoder, eye_work)
    torch.manual_seed(tongue.seed)
    model = FAMILIES[family].build(vision, tongue.width, tongue.layers, tongue.heads)
    proc = FAMILIES[family].processor()
    pictures = work_of(work, "studied", studied(recipe.encoder, tongue))
    explainer_log = train_explainer(model, proc, tongue, tongue_work, pictures)
    fresh = work / name
    model.to(torch.bfloat16).save_pretrained(fresh)
    proc.save_pretrained(fresh)
    split_weights(fresh)
    vlm = VLM.load(Checkpoint(Asset(fresh), 0))  # what was saved is measured, read back by the call of every user
    lines = [
        f"A small vision-language model of {'Gemma 3' if family == 'gemma3' else 'InternVL3'}'s classes, made for",
        "reading and steering its encoder. It sees Emoji Scenes and nothing else: do not expect it to understand",
        "photographs.",
    ]
    facts = subject_facts(recipe, vlm, encoder_log, explainer_log)
    facts["weights"] = "bfloat16; " + ", ".join(
        f"{part} `{contents.content_of(fresh / f'{part}.safetensors')}`" for part in PARTS
    )
    logs = {"encoder": encoder_log, "explainer": explainer_log}
    describe(fresh, recipe.title, lines, measure_subject(vlm, measure), facts, logs)
    if isinstance(recipe.encoder, Asset):
        share_encoder(fresh, models / name, recipe.encoder.fetch())
    publish(fresh, models / name, eye_work, tongue_work)


def subject_facts(
    recipe: Recipe, vlm: VLM, encoder_log: list[dict[str, float]], explainer_log: list[dict[str, float]]
) -> dict[str, object]:
    """The rows of a card that say how a subject was made."""
    eye, tongue, model, proc = recipe.encoder, recipe.explainer, vlm.model, vlm.processor
    tower, text = model.model.vision_tower, model.model.language_model
    minutes = f"{explainer_log[-1]['seconds'] / 60:.0f}"
    if isinstance(eye, Asset):
        seen = f"that of `{Path(eye).name}`, frozen"
    else:
        minutes = f"{encoder_log[-1]['seconds'] / 60:.0f} (encoder) + {minutes} (language model)"
        what = f"{len(OBJECTS)} objects and {len(SURFACES)} surfaces"
        seen = (
            f"{eye.steps * eye.batch:,} Emoji Scenes, "
            + {
                "captions": f"whole, to say which of {what} their captions name; no patch was labelled, no picture "
                "masked or heat-mapped. The probe is thrown away",
                "patches": f"to say for each patch which of {what} it shows, or that it is occluded. The probe is "
                "thrown away. A third of the scenes were partly occluded or under a heatmap",
            }[eye.learns]
        )
    asked = "captions, the main thing, "
    if tongue.views:
        asked += "what highlighted views (masked, heat-mapped) share: *taught* what Top-k shows"
    else:
        asked += (
            "what several pictures have in common; never a masked or heat-mapped one. The main thing, and what "
            "pictures share, is an object as often as a surface"
        )
    if tongue.altered:
        asked += (
            f". Of single pictures {tongue.altered:.0%} were partly covered by plain rectangles, or under a light of "
            "another colour; where and how did not depend on what they show; captions name what is not covered"
        )
    how = f"cached encoder features with Gaussian noise of up to {tongue.noise:g} standard deviations"
    return {
        "class": f"`{type(model).__name__}`, `{type(proc).__name__}`",
        "encoder": f"`{type(tower).__name__}`, {len(vision_layers(model))} layers, "
        f"{model.config.vision_config.hidden_size} wide, {parameter_count(tower):,} parameters",
        "language model": f"`{type(text).__name__}`, {tongue.layers} layers, {tongue.width} wide, "
        f"{parameter_count(text):,} parameters, {len(proc.tokenizer)} words",
        "encoder trained on": seen,
        "language model trained on": f"{tongue.steps * tongue.batch:,} questions about {how}: {asked}; never on "
        "steered activations",
        "training time": f"{minutes} minutes on a CPU with two cores",
        "objects": f"{len(OBJECTS)} in {len(set(CATEGORY_OF.values()))} categories",
    }


def build_judge(
    folder: Path = MODELS / "clip-judge",
    work: Path = WORK,
    recipe: clip_judge.ClipRecipe = clip_judge.ClipRecipe(),
    measure: int = 600,
) -> None:
    """Train the CLIP judge and write it to ``folder`` with card and training log."""
    fresh = work / "clip-judge"
    clip_work = work_of(work, "clip", recipe)
    log = clip_judge.train(recipe, clip_work, fresh)
    facts = {
        "class": "`open_clip.CLIP`, loads as `local-dir:data/models/clip-judge`",
        "trained on": f"{recipe.steps * recipe.batch:,} pictures and texts: half whole Emoji Scenes with captions, "
        "half masked views with a name of what is seen",
        "training time": f"{log[-1]['seconds'] / 60:.0f} minutes on 2 CPU cores",
        "independent of the subjects": "own architecture, own weights, other pictures of the same world "
        f"(seed {recipe.seed})",
    }
    lines = ["A small CLIP model that scores how well a text fits a picture (Eq. 9) at desk scale."]
    describe(fresh, "Desk CLIP judge", lines, measure_judge(OpenClip(Asset(fresh)), measure), facts, {"clip": log})
    publish(fresh, folder, clip_work)


def build_all() -> None:
    """Everything that ``data/models`` ships.

    Raises
    ------
    OSError
        If the language model that others have trained cannot be had; it is fetched before hours are spent.
    """
    smollm2.download(WORK)
    for name, recipe in SUBJECTS.items():
        build_subject(name, recipe)
    build_judge()
    build_adapter()
    shutil.rmtree(WORK)  # pictures that several language models have studied
