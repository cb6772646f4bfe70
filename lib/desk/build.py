"""Make the shipped desk models from scratch: train, measure on held-out pictures, write the cards.

Each part resumes where it was after a kill. The cards' numbers are written here and nowhere else.
"""

from __future__ import annotations

import json
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from transformers import AutoModelForImageTextToText

from lib import prompts
from lib.desk import clip_judge
from lib.desk.encoder import FAMILIES, EncoderRecipe
from lib.desk.encoder import train as train_encoder
from lib.desk.explainer import ExplainerRecipe
from lib.desk.explainer import train as train_explainer
from lib.desk.views import view
from lib.judges.clip import OpenClip
from lib.scenes.catalogue import ATOMS, CATEGORY_OF, OBJECTS, SURFACES, elements
from lib.scenes.language import caption, read
from lib.scenes.sampling import scenes
from lib.stats import Estimate, bootstrap
from lib.store import ROOT, code, digest, files_digest, write_atomically, write_json
from lib.vlm import VLM, Question, parameter_count, vision_layers

MODELS = ROOT / "data" / "models"
WORK = ROOT / "data" / "runs" / "from-scratch"
_HELD_OUT = 99_991  # seed of pictures that no training has seen

LICENCE = """\
The weights were trained on pictures composed of OpenMoji drawings (https://openmoji.org, "All emojis
designed by OpenMoji - the open-source emoji and icon project. License: CC BY-SA 4.0") and are shared
under the same licence, CC BY-SA 4.0.
"""


def ask(vlm: VLM, pictures: list[list[Image.Image]], prompt: str, batch: int = 64) -> list[str]:
    """The cleaned answers to one prompt about many groups of pictures."""
    answers: list[str] = []
    for first in range(0, len(pictures), batch):
        answers += vlm.answer([Question(tuple(p), prompt) for p in pictures[first : first + batch]], 24)
    return [prompts.clean(answer) for answer in answers]


def measure_subject(vlm: VLM, n: int) -> dict[str, Estimate]:
    """Held-out quality of a subject, each figure with its 95 % interval.

    ``object recall``: share of a scene's visible objects that its caption names; ``background
    accuracy``: whether it names the right surface; ``masks``/``heatmaps``, ``k images``: whether
    the highlighted element is named exactly.
    """
    held_out = list(scenes(n, _HELD_OUT))
    captions = ask(vlm, [[s.image] for s in held_out], prompts.DESCRIBE)
    recall, background = [], []
    for scene, text in zip(held_out, captions):
        named = {e.name for e in read(text).elements}
        visible = [ATOMS[i] for i in np.unique(scene.patches()) if i < len(OBJECTS)]
        recall.append(np.mean([v in named for v in visible]) if visible else np.nan)
        background.append(scene.layout.surface in named)
    out = {"object recall": bootstrap(np.array(recall)), "background accuracy": bootstrap(np.array(background))}
    for mode in ("masks", "heatmaps"):
        for k in (1, 5):
            rng = np.random.default_rng([_HELD_OUT, k])
            atoms = [ATOMS[int(rng.integers(len(ATOMS)))] for _ in range(n)]
            groups = [[Image.fromarray(view(atom, mode, rng).pixels) for _ in range(k)] for atom in atoms]
            answers = ask(vlm, groups, prompts.TOP_K[mode])
            right = [[e.name for e in read(a).elements] == [atom] for a, atom in zip(answers, atoms)]
            out[f"naming one highlighted element, {mode}, {k} image{'s' * (k > 1)}"] = bootstrap(np.array(right))
    return out


def measure_judge(judge: OpenClip, n: int) -> dict[str, Estimate]:
    """Held-out quality of the CLIP judge: how often it picks the right one of many texts."""
    rng = np.random.default_rng([_HELD_OUT, 7])
    atoms = rng.integers(0, len(ATOMS), n)
    pictures = [Image.fromarray(view(ATOMS[i], "masks", rng).pixels) for i in atoms]
    names = judge.embed_texts([elements()[a].phrase for a in ATOMS])
    masked = (judge.embed_images(pictures) @ names.T).argmax(1).numpy() == atoms
    held_out = list(scenes(n, _HELD_OUT))
    texts = [caption(s.layout) for s in held_out]
    unique = list(dict.fromkeys(texts))
    best = (judge.embed_images([s.image for s in held_out]) @ judge.embed_texts(unique).T).argmax(1).tolist()
    whole = [unique[i] == text for i, text in zip(best, texts)]
    return {
        f"naming a masked element (of {len(ATOMS)})": bootstrap(masked),
        f"matching a scene to its caption (of {len(unique)})": bootstrap(np.array(whole)),
    }


def card(title: str, lines: list[str], quality: dict[str, Estimate], facts: dict[str, object]) -> str:
    """A model card: what it is, how good it is, how it was made."""
    rows = "\n".join(f"| {name} | {e.mean:.3f} | {e.low:.3f} to {e.high:.3f} | {e.n} |" for name, e in quality.items())
    made = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    body = "\n".join(lines)
    return (
        f"---\nlicense: cc-by-sa-4.0\n---\n\n# {title}\n\n{body}\n\n## Quality on held-out pictures\n\n"
        f"| what | mean | 95 % interval | n |\n|---|---|---|---|\n{rows}\n\n"
        f"## How it was made\n\n| | |\n|---|---|\n{made}\n\n`training.json` holds the training log; "
        f"`./run_all.sh --from-scratch` makes the model anew.\n\n## Licence\n\n{LICENCE}"
    )


@dataclass(frozen=True)
class Recipe:
    """How one subject is made.

    Attributes
    ----------
    title : for its card.
    explainer : how its language model is trained.
    encoder : how its encoder is trained; None takes that of ``subject-a`` as it ships, frozen, as
        Gemma 3 4B, 12B and 27B share one.
    """

    title: str
    explainer: ExplainerRecipe
    encoder: EncoderRecipe | None = None


SUBJECTS = {
    "subject-a": Recipe("Desk subject A, after Gemma 3", ExplainerRecipe(), EncoderRecipe()),
    "subject-a-small": Recipe(
        "Desk subject A with a small language model", ExplainerRecipe(width=128, layers=3, heads=4, seed=13)
    ),
    "subject-a-large": Recipe(
        "Desk subject A with a large language model", ExplainerRecipe(width=384, layers=4, heads=6, seed=14)
    ),
    "subject-b": Recipe(
        "Desk subject B, after InternVL3",
        ExplainerRecipe(steps=700, batch=48, lr=1e-3, seed=32, scenes=16_000, views=100, joint=True),
        EncoderRecipe(family="internvl", steps=1000, seed=31),
    ),
}


def _encoder(recipe: Recipe, work: Path) -> tuple[str, torch.nn.Module, list[dict[str, float]]]:
    """Family, trained encoder and log."""
    if recipe.encoder is not None:
        vision, log = train_encoder(recipe.encoder, work)
        return recipe.encoder.family, vision, log
    shipped = MODELS / "subject-a"
    model = AutoModelForImageTextToText.from_pretrained(shipped, dtype=torch.float32, attn_implementation="eager")
    return "gemma3", model.model.vision_tower, json.loads((shipped / "training.json").read_text())["encoder"]


def build_subject(name: str, recipe: Recipe, models: Path = MODELS, work: Path = WORK, measure: int = 600) -> None:
    """Train a desk subject, encoder first, and write it to ``models`` with card and training log.

    ``measure`` is the number of held-out pictures behind each figure on the card.
    """
    # Checkpoints and caches are kept by recipe and code: a changed recipe never resumes from another's.
    source, tongue = code("scenes", "overlay", "prompts", "training", "desk"), recipe.explainer
    eye_work = work / f"encoder-{digest(asdict(recipe), source)}"
    tongue_work = work / f"explainer-{digest(asdict(recipe), source)}"
    family, vision, encoder_log = _encoder(recipe, eye_work)
    torch.manual_seed(tongue.seed)
    model = FAMILIES[family].build(vision, tongue.width, tongue.layers, tongue.heads)
    model.model.vision_tower.requires_grad_(tongue.joint)
    proc = FAMILIES[family].processor()
    explainer_log = train_explainer(model, proc, tongue, tongue_work)
    fresh = work / name
    model.to(torch.bfloat16).save_pretrained(fresh)
    proc.save_pretrained(fresh)
    # What is measured is what was saved, read back by the call that every user makes.
    model = AutoModelForImageTextToText.from_pretrained(fresh, dtype=torch.float32)
    quality = measure_subject(VLM(model, proc, 0, name), measure)
    write_json(
        fresh / "training.json",
        {"encoder": encoder_log, "explainer": explainer_log, "quality": {k: asdict(v) for k, v in quality.items()}},
    )
    lines = [
        f"A small vision-language model of {'Gemma 3' if family == 'gemma3' else 'InternVL3'}'s classes, made for",
        "reading and steering its encoder. It sees Emoji Scenes and nothing else: do not expect it to understand",
        "photographs.",
    ]
    facts = subject_facts(recipe, model, proc, encoder_log, explainer_log)
    facts["weights"] = f"bfloat16, digest `{files_digest((fresh / 'model.safetensors',))}`"
    write_atomically(fresh / "README.md", lambda p: p.write_text(card(recipe.title, lines, quality, facts)))
    _publish(fresh, models / name, eye_work, tongue_work)


def subject_facts(recipe: Recipe, model, proc, encoder_log: list[dict], explainer_log: list[dict]) -> dict[str, object]:
    """The rows of a card that say how a subject was made."""
    eye, tongue = recipe.encoder, recipe.explainer
    tower, text = model.model.vision_tower, model.model.language_model
    seen = (
        "that of `subject-a`, frozen"
        if eye is None
        else (
            f"{eye.steps * eye.batch:,} Emoji Scenes, to say for each patch which of {len(OBJECTS)} "
            f"objects or {len(SURFACES)} surfaces it shows, or that it is occluded; the probe is thrown away. A third "
            "of the scenes were partly occluded or under a heatmap"
        )
    )
    how = (
        "pictures, together with the encoder (at a tenth of the learning rate)"
        if tongue.joint
        else f"cached encoder features with Gaussian noise of up to {tongue.noise:g} standard deviations"
    )
    minutes = f"{explainer_log[-1]['seconds'] / 60:.0f}"
    if eye is not None:
        minutes = f"{encoder_log[-1]['seconds'] / 60:.0f} (encoder) + {minutes} (language model)"
    return {
        "class": f"`{type(model).__name__}`, `{type(proc).__name__}`",
        "encoder": f"`{type(tower).__name__}`, {len(vision_layers(model))} layers, "
        f"{model.config.vision_config.hidden_size} wide, {parameter_count(tower):,} parameters",
        "language model": f"`{type(text).__name__}`, {tongue.layers} layers, {tongue.width} wide, "
        f"{parameter_count(text):,} parameters, {len(proc.tokenizer)} words",
        "encoder trained on": seen,
        "language model trained on": f"{tongue.steps * tongue.batch:,} questions about {how}: captions, the main "
        "thing, what highlighted views share. Never on steered activations",
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
    clip_work = work / f"clip-{digest(asdict(recipe), code('scenes', 'overlay', 'training', 'desk'))}"
    log = clip_judge.train(recipe, clip_work, fresh)
    quality = measure_judge(OpenClip(str(fresh)), measure)
    write_json(fresh / "training.json", {"clip": log, "quality": {k: asdict(v) for k, v in quality.items()}})
    facts = {
        "class": "`open_clip.CLIP`, loads as `local-dir:data/models/clip-judge`",
        "trained on": f"{recipe.steps * recipe.batch:,} pictures and texts: half whole Emoji Scenes with captions, "
        "half masked views with a name of what is seen",
        "training time": f"{log[-1]['seconds'] / 60:.0f} minutes on 2 CPU cores",
        "independent of the subjects": "own architecture, own weights, other pictures of the same world "
        f"(seed {recipe.seed})",
    }
    lines = ["A small CLIP model that scores how well a text fits a picture (Eq. 9) at desk scale."]
    write_atomically(fresh / "README.md", lambda p: p.write_text(card("Desk CLIP judge", lines, quality, facts)))
    _publish(fresh, folder, clip_work)


def _publish(fresh: Path, folder: Path, *done: Path) -> None:
    """Put a finished model where it ships from, then drop its checkpoints and caches.

    The old model stays until the new one is complete.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = folder.with_name(f".{folder.name}-new")
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(fresh, staged)
    if folder.exists():
        shutil.rmtree(folder)
    staged.rename(folder)
    for path in (fresh, *done):
        if path.exists():  # a subject with another's encoder has no checkpoint of its own
            shutil.rmtree(path)


def build_all() -> None:
    """Everything that ``data/models`` ships."""
    for name, recipe in SUBJECTS.items():
        build_subject(name, recipe)
    build_judge()
