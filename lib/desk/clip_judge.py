"""Train the CLIP judge: a small open_clip model on scenes, independent of the subjects.

It has its own architecture, seed and data, so that it does not share the subject's errors.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import open_clip
import torch
from tokenizers.processors import TemplateProcessing
from torch import Tensor, nn
from transformers import PreTrainedTokenizerFast

from lib.desk.encoder import to_tensor
from lib.desk.training import fit
from lib.desk.views import MIX, view
from lib.desk.words import word_tokenizer, words
from lib.scenes.catalogue import ATOMS, elements, membership
from lib.scenes.drawing import SIZE, draw
from lib.scenes.language import caption
from lib.scenes.sampling import sample
from lib.store import write_json, write_tensors


@dataclass(frozen=True)
class ClipRecipe:
    """How the judge is built and trained."""

    embed: int = 64
    width: int = 128
    layers: int = 4
    text_layers: int = 2
    patch: int = 12
    context: int = 24
    steps: int = 600
    batch: int = 128
    lr: float = 1.5e-3
    seed: int = 21


def config(recipe: ClipRecipe) -> dict:
    """The open_clip model configuration."""
    r, width = recipe, recipe.width
    seen = {"image_size": SIZE, "layers": r.layers, "width": width, "head_width": 32, "patch_size": r.patch}
    text = {"context_length": r.context, "vocab_size": len(_words()), "width": width, "heads": width // 32}
    text |= {"layers": r.text_layers, "hf_tokenizer_name": "word-level", "tokenizer_kwargs": {}}
    return {"embed_dim": r.embed, "vision_cfg": seen, "text_cfg": text}


def _words() -> list[str]:
    """The subject's words; the end-of-text token comes last, where open_clip's pooling looks for it."""
    return ["<pad>", "<unk>", *words(), "<eot>"]


def tokenizer() -> PreTrainedTokenizerFast:
    """Word-level, with an end-of-text token appended."""
    out = word_tokenizer(_words())
    out.post_processor = TemplateProcessing(single="$A <eot>", special_tokens=[("<eot>", len(_words()) - 1)])
    return PreTrainedTokenizerFast(tokenizer_object=out, pad_token="<pad>", unk_token="<unk>", eos_token="<eot>")


def batch(step: int, recipe: ClipRecipe) -> tuple[Tensor, list[str]]:
    """Pictures and texts: half whole scenes with captions, half masked views with the name of what is seen."""
    rng = np.random.default_rng([recipe.seed, step])
    table, catalogue = membership(), list(elements().values())
    pictures, texts = [], []
    for i in range(recipe.batch):
        if i % 2:
            scene = draw(sample(rng, MIX))
            pictures.append(scene.pixels)
            texts.append(caption(scene.layout, ("specific", "specific", "category")[int(rng.integers(3))]))
        else:
            shown = view(ATOMS[int(rng.integers(len(ATOMS)))], "masks", rng)
            names = np.flatnonzero(table[:, ATOMS.index(shown.atom)])  # from dog to animal
            pictures.append(shown.pixels)
            texts.append(catalogue[int(names[0] if rng.random() < 0.7 else rng.choice(names))].phrase)
    return to_tensor(np.stack(pictures)), texts


class Contrast(nn.Module):
    """A CLIP model with its contrastive loss."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.clip = model

    def forward(self, pixels: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Loss and accuracy. Equal texts in a batch are all right answers, and share the target."""
        # In float32: on a CPU the fused attention's backward pass is far slower in bfloat16.
        image = self.clip.encode_image(pixels, normalize=True)
        text = self.clip.encode_text(tokens, normalize=True)
        logits = self.clip.logit_scale.exp().clamp_max(100) * image @ text.T
        same = (tokens[:, None] == tokens[None]).all(-1).float()
        target = same / same.sum(1, keepdim=True)
        loss = (nn.functional.cross_entropy(logits, target) + nn.functional.cross_entropy(logits.T, target)) / 2
        best = logits.argmax(1)
        return loss, same[torch.arange(len(best)), best].mean()


def train(recipe: ClipRecipe, folder: Path, out: Path) -> list[dict[str, float]]:
    """Train the judge, resuming from ``folder``, and write it to ``out`` as open_clip loads it."""
    torch.manual_seed(recipe.seed)
    model = Contrast(open_clip.CLIP(**config(recipe)))
    words = tokenizer()

    def loss(step: int) -> tuple[Tensor, dict[str, float]]:
        pixels, texts = batch(step, recipe)
        tokens = words(texts, padding="max_length", max_length=recipe.context, truncation=True, return_tensors="pt")
        value, right = model(pixels, tokens.input_ids)
        return value, {"retrieval": round(right.item(), 4)}

    log = fit(model, loss, steps=recipe.steps, lr=recipe.lr, folder=folder, name="clip-judge")
    half = {name: t.half() if t.is_floating_point() else t for name, t in model.clip.state_dict().items()}
    write_tensors(out / "open_clip_model.safetensors", half)
    pixels = {"size": SIZE, "mean": [0.5] * 3, "std": [0.5] * 3, "interpolation": "bicubic", "resize_mode": "squash"}
    write_json(out / "open_clip_config.json", {"model_cfg": config(recipe), "preprocess_cfg": pixels})
    words.save_pretrained(out)
    return log
