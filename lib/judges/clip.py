"""CLIP through open_clip: any model that it loads, local or from the hub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import torch
from PIL import Image
from torch import Tensor, nn

from lib.store import ROOT, hub_id
from lib.vlm import DEVICE


class OpenClip:
    """An open_clip model with its own preprocessing and tokenizer.

    Parameters
    ----------
    name : a folder with ``open_clip_config.json`` and ``open_clip_model.safetensors``, or
        ``id@revision`` of a hub repository that holds them.

    Raises
    ------
    FileNotFoundError
        If ``name`` looks like a folder and is none.
    ValueError
        If OpenAI's weights would run with another activation than they were trained with.
    """

    def __init__(self, name: str) -> None:
        import open_clip  # takes seconds, and one notebook alone needs it

        folder = ROOT / name
        if not folder.is_dir():
            if name.startswith(("data/", ".", "/")):
                raise FileNotFoundError(f"no CLIP model in {name}; ./run_all.sh --from-scratch trains the desk models")
            from huggingface_hub import snapshot_download

            model, revision = hub_id(name)
            folder = Path(
                snapshot_download(
                    model, revision=revision, allow_patterns=["open_clip_model.safetensors", "*.json", "*.txt"]
                )
            )
            quick = json.loads((folder / "open_clip_config.json").read_text())["model_cfg"].get("quick_gelu")
            if model.endswith(".openai") and not quick:  # open_clip only warns, and then gives other embeddings
                raise ValueError(
                    f"{name}: OpenAI's CLIP needs QuickGELU, and its configuration does not say quick_gelu"
                )
        name = f"local-dir:{folder}"
        self.model, self.preprocess = open_clip.create_model_from_pretrained(name, precision="fp32")
        self.model.eval().to(DEVICE)
        self.tokenize = open_clip.get_tokenizer(name)

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit embeddings of pictures: ``[n, d]``."""
        parts = [
            self.model.encode_image(torch.stack([self.preprocess(image) for image in images[i : i + 256]]).to(DEVICE))
            for i in range(0, len(images), 256)
        ]
        return nn.functional.normalize(torch.cat(parts), dim=-1).cpu()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings of texts, cut at the model's context length: ``[n, d]``."""
        parts = [
            self.model.encode_text(self.tokenize(list(texts[i : i + 256])).to(DEVICE))
            for i in range(0, len(texts), 256)
        ]
        return nn.functional.normalize(torch.cat(parts), dim=-1).cpu()
