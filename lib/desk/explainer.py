"""Train the language model of a desk subject, on cached features of its frozen encoder.

It learns to describe scenes, to say what a scene mainly shows, and to name what several scenes have in common. Some
single scenes are partly covered, or under coloured light, as pictures in any large collection are; where and how has
nothing to do with what they show. It sees neither a steered activation nor a picture in which one element is
highlighted: like the paper's models, it was taught none of the methods. A *taught* explainer, for comparison, answers
half of its questions about highlighted views instead.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from tqdm import tqdm
from transformers import PreTrainedModel, ProcessorMixin
from transformers.modeling_outputs import BaseModelOutput, BaseModelOutputWithPooling

from lib import prompts
from lib.desk.encoder import to_tensor
from lib.desk.groups import alike, evenly, shared
from lib.desk.training import fit
from lib.desk.views import EVERYWHERE, alter, layout, main_element, view
from lib.device import products
from lib.families import text_of, whole_pictures
from lib.scenes.catalogue import ATOMS, membership
from lib.scenes.drawing import SIZE, draw
from lib.scenes.language import caption
from lib.store import read, write_array, write_json

MODES = ("masks", "heatmaps")
_PICTURES = 12  # seed of what is studied


@dataclass(frozen=True)
class ExplainerRecipe:
    """How the language model is built and trained.

    ``altered``: of single scenes, how many are partly covered or under coloured light (see
    :func:`lib.desk.views.alter`). ``views``: highlighted views of each atom, in each mode, that a *taught* explainer
    answers half of its questions about; without any, that half is about what scenes have in common, none of them
    altered.
    """

    width: int = 192
    layers: int = 4
    heads: int = 6
    steps: int = 1200
    batch: int = 64
    lr: float = 1.5e-3
    seed: int = 12
    scenes: int = 24_000
    altered: float = 0.4  # share of the scenes
    views: int = 0
    noise: float = 0.3  # at the most, in standard deviations of the features


@dataclass(frozen=True)
class Study:
    """The training pictures, as cached encoder features, with what they show.

    Attributes
    ----------
    scenes : ``[n_scenes, patches, d]`` float16; with a class token in front, if the encoder has one.
    views : mode -> ``[n_atoms, n_views, patches, d]``; empty if none are taught.
    answers : for each prompt about a whole scene, the right answer for each scene.
    shows : which elements each scene shows, ``[n_scenes, n_elements]`` bool.
    """

    scenes: np.ndarray
    views: dict[str, np.ndarray]
    answers: dict[str, list[str]]
    shows: np.ndarray


@torch.inference_mode()
def encode(vision: nn.Module, pictures: Iterable[np.ndarray], total: int, path: Path) -> np.ndarray:
    """Features of pictures ``[SIZE, SIZE, 3]``, kept in ``path``: ``[total, patches, d]`` float16."""
    if not path.exists():
        stream, blocks = iter(pictures), []
        with tqdm(total=total, desc=f"encode {path.stem}", mininterval=5) as bar:
            while block := list(islice(stream, 128)):
                with products("bfloat16", "cpu"):
                    features = vision(pixel_values=to_tensor(np.stack(block))).last_hidden_state
                blocks.append(features.half().numpy())
                bar.update(len(block))
        write_array(path, np.concatenate(blocks))
    return read(path)


def study(vision: nn.Module, recipe: ExplainerRecipe, folder: Path) -> Study:
    """Draw and encode everything a language model will study; cached in ``folder``.

    The pictures are the same for all language models: those that share an encoder can share the folder, too.
    """
    path, about = folder / "scenes.npy", folder / "about.json"
    if not about.exists():  # killed before it was written
        path.unlink(missing_ok=True)
    names: dict[str, list[str]] = {p: [] for p in (prompts.DESCRIBE, prompts.DESCRIBE_GENERALLY, prompts.STEERING)}
    shown: list[list[int]] = []
    rng, rng_alter = (np.random.default_rng([_PICTURES, n]) for n in (2, 4))

    def pictures() -> Iterator[np.ndarray]:
        for i in range(recipe.scenes):
            scene = draw(layout(_PICTURES, i))
            altered = rng_alter.random() < recipe.altered
            pixels, seen = alter(scene.pixels, rng_alter) if altered else (scene.pixels, EVERYWHERE)
            atoms = np.unique(scene.patches()[seen]).tolist()
            visible = [ATOMS[a] for a in atoms] if altered else ATOMS
            detail = ("category", "kind")[int(rng.integers(2))]
            names[prompts.DESCRIBE].append(caption(scene.layout, seen=visible))
            names[prompts.DESCRIBE_GENERALLY].append(caption(scene.layout, detail, visible))
            names[prompts.STEERING].append(main_element(scene, seen).phrase)
            shown.append([] if altered else atoms)  # what pictures have in common is asked about whole ones alone
            yield pixels

    scenes = encode(vision, pictures(), recipe.scenes, path)
    if shown:
        write_json(about, {"answers": names, "shown": shown})
    known = read(about)
    shows = np.zeros((recipe.scenes, len(ATOMS)), bool)
    for row, atoms in enumerate(known["shown"]):
        shows[row, atoms] = True
    views = {}
    for number, mode in enumerate(MODES if recipe.views else ()):
        rng_view = np.random.default_rng([_PICTURES, 3, number])
        stream = (view(atom, mode, rng_view).pixels for atom in ATOMS for _ in range(recipe.views))
        flat = encode(vision, stream, len(ATOMS) * recipe.views, folder / f"{mode}.npy")
        views[mode] = flat.reshape(len(ATOMS), recipe.views, *flat.shape[1:])
    return Study(scenes, views, known["answers"], shows @ membership().T)


def examples(step: int, recipe: ExplainerRecipe, data: Study) -> tuple[str, Tensor, list[str]]:
    """Batch ``step``: a prompt, features ``[batch, k, patches, d]``, and the answers.

    All examples of a batch have one prompt and one number of images, hence one length. Features
    carry a little noise, so that the language model learns things and not pictures by heart.
    """
    rng = np.random.default_rng([recipe.seed, 4, step])
    kind = rng.random()
    mode, k = MODES[step % 2], int(rng.choice([1, 1, 2, 3, 5, 5]))
    if kind < 0.5:
        prompt = prompts.DESCRIBE if kind < 0.2 else prompts.STEERING if kind < 0.45 else prompts.DESCRIBE_GENERALLY
        rows = rng.integers(0, len(data.scenes), recipe.batch)
        if prompt == prompts.STEERING:
            rows = evenly(rng, data.answers[prompt], recipe.batch)
        features, answers = data.scenes[rows][:, None], [data.answers[prompt][r] for r in rows]
    else:
        prompt = prompts.TOP_K[mode]
        groups = [shared(rng, k) if data.views else alike(rng, k, data.shows) for _ in range(recipe.batch)]
        rows, answers = np.array([rows for rows, _ in groups]), [answer for _, answer in groups]
        features = (
            data.views[mode][rows, rng.integers(0, recipe.views, rows.shape)] if data.views else data.scenes[rows]
        )
    features = torch.from_numpy(features).float()
    noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(step))
    return prompt, features + noise * features.std() * rng.uniform(0, recipe.noise), answers


def prefix_ids(proc: ProcessorMixin, images: int, prompt: str) -> Tensor:
    """Token ids of a prompt about some images, up to where the answer starts: ``[length]``."""
    blank = [[Image.new("RGB", (SIZE, SIZE))] * images]
    how = {"add_special_tokens": False, "return_tensors": "pt", **whole_pictures(proc.image_processor)}
    return proc(images=blank, text=[text_of(proc, images, prompt)], **how).input_ids[0]


def answer_loss(
    model: PreTrainedModel, proc: ProcessorMixin, prompt: str, soft: Tensor, k: int, answers: list[str]
) -> tuple[Tensor, Tensor]:
    """Cross-entropy of the answers given the pictures' features, and the share of exact answers.

    Parameters
    ----------
    prompt : the question, the same for all.
    soft : soft tokens of ``n`` times ``k`` pictures, output of the projector, ``[n * k, image_tokens, width]``.
    k : pictures of each question.
    answers : ``n`` noun phrases; each is spoken after the fixed opening.
    """
    n = len(answers)
    prefix = prefix_ids(proc, k, prompt)
    end = proc.tokenizer.convert_ids_to_tokens(model.generation_config.eos_token_id)
    turns = [f"{prompts.OPENING} {answer}.{end}" for answer in answers]
    padded = {"padding": "longest", "padding_side": "right", "pad_to_multiple_of": 8}
    spoken = proc.tokenizer(turns, add_special_tokens=False, return_tensors="pt", **padded)
    ids = torch.cat([prefix.expand(n, -1), spoken.input_ids], 1)
    attention = torch.cat([torch.ones(n, len(prefix), dtype=torch.long), spoken.attention_mask], 1)
    # Gemma 3 must be told which tokens are images: they see one another.
    types = {"token_type_ids": (ids == proc.image_token_id).long()} if model.config.model_type == "gemma3" else {}
    with products("bfloat16", "cpu"):
        logits = (
            model(
                input_ids=ids,
                attention_mask=attention,
                mm_encoder_outputs={"image": BaseModelOutputWithPooling(pooler_output=soft)},
                logits_to_keep=spoken.input_ids.shape[1] + 1,
                **types,
            )
            .logits[:, :-1]
            .float()
        )
    target = spoken.input_ids.masked_fill(spoken.attention_mask == 0, -100)
    value = nn.functional.cross_entropy(logits.flatten(0, 1), target.flatten(), ignore_index=-100)
    right = ((logits.argmax(-1) == target) | (target == -100)).all(1).float().mean()
    return value, right


class Encoded(nn.Module):
    """Stands in for an encoder where its features are at hand: what it is shown is what it would say."""

    def forward(self, pixel_values: Tensor, **_: object) -> BaseModelOutput:
        """Features ``[n, patches, d]`` as they are."""
        return BaseModelOutput(last_hidden_state=pixel_values)


def train(
    model: PreTrainedModel, proc: ProcessorMixin, recipe: ExplainerRecipe, folder: Path, pictures: Path
) -> list[dict[str, float]]:
    """Train in place the language model and the projector; returns the log.

    Resumes from ``folder``; what is studied is kept in ``pictures``.
    """
    data = study(model.model.vision_tower, recipe, pictures)

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        prompt, shown, answers = examples(step, recipe, data)
        soft = model.get_image_features(pixel_values=shown.flatten(0, 1)).pooler_output
        value, right = answer_loss(model, proc, prompt, soft, shown.shape[1], answers)
        return value, {"exact": round(right.item(), 4), "images": shown.shape[1]}

    with patch.object(model.model, "vision_tower", Encoded()):
        return fit(model, loss, steps=recipe.steps, lr=recipe.lr, folder=folder, name="explainer")
