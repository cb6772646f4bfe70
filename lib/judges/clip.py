"""CLIP through open_clip: any model that it loads, local or from the hub."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from PIL import Image
from torch import Tensor, nn

from lib.device import DEVICE
from lib.hub import Asset
from lib.questions import Kept
from lib.store import read


@dataclass(frozen=True)
class OpenClip:
    """An open_clip model with its own preprocessing and tokenizer; loads when first used.

    Attributes
    ----------
    name : a folder or repository with ``open_clip_config.json`` and ``open_clip_model.safetensors``.
    """

    name: Asset

    @cached_property
    def _loaded(self) -> tuple[nn.Module, Callable[[Image.Image], Tensor], Callable[[list[str]], Tensor]]:
        """Model, preprocessing, tokenizer.

        Raises
        ------
        FileNotFoundError
            If ``name`` looks like a folder and is none.
        ValueError
            If OpenAI's weights would run with another activation than they were trained with.
        RuntimeError
            If a weight is missing, or is one too many.
        """
        import open_clip  # takes seconds, and one notebook alone needs it

        folder = self.name.fetch("open_clip_model.safetensors", "*.json", "*.txt")
        quick = read(folder / "open_clip_config.json")["model_cfg"].get("quick_gelu")
        if self.name.id.endswith(".openai") and not quick:  # open_clip only warns, and then gives other embeddings
            raise ValueError(
                f"{self.name}: OpenAI's CLIP needs QuickGELU, and its configuration does not say quick_gelu"
            )
        source = f"local-dir:{folder}"
        model, preprocess = open_clip.create_model_from_pretrained(source, precision="fp32")
        return model.eval().to(DEVICE), preprocess, open_clip.get_tokenizer(source)

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit embeddings of pictures: ``[n, d]``; a picture that is asked for again is not embedded again."""
        return self._known.of(images)

    @cached_property
    def _known(self) -> Kept:
        return Kept(self._new)

    def _new(self, images: Sequence[Image.Image]) -> Tensor:
        model, preprocess, _ = self._loaded
        return _embed(lambda part: model.encode_image(torch.stack([preprocess(i) for i in part]).to(DEVICE)), images)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings of texts, cut at the model's context length: ``[n, d]``."""
        model, _, tokenize = self._loaded
        return _embed(lambda part: model.encode_text(tokenize(list(part)).to(DEVICE)), texts)


def _embed(encode: Callable[[Sequence[Any]], Tensor], items: Sequence[Any]) -> Tensor:
    parts = [encode(items[i : i + 256]) for i in range(0, len(items), 256)]
    return nn.functional.normalize(torch.cat(parts), dim=-1).cpu()
