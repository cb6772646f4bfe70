"""CLIP through open_clip: any model that it loads, local or from the hub."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from PIL import Image
from torch import Tensor, nn

from lib.store import ROOT


class OpenClip:
    """An open_clip model with its own preprocessing and tokenizer.

    Parameters
    ----------
    name : an open_clip model name, or a folder with ``open_clip_config.json`` and
        ``open_clip_model.safetensors``.

    Raises
    ------
    FileNotFoundError
        If ``name`` looks like a folder and is none.
    """

    def __init__(self, name: str) -> None:
        import open_clip  # takes seconds, and one notebook alone needs it

        if (ROOT / name).is_dir():
            name = f"local-dir:{ROOT / name}"
        elif name.startswith(("data/", ".", "/")):
            raise FileNotFoundError(f"no CLIP model in {name}; ./run_all.sh --from-scratch trains the desk models")
        self.model, self.preprocess = open_clip.create_model_from_pretrained(name, precision="fp32")
        self.model.eval()
        self.tokenize = open_clip.get_tokenizer(name)

    @torch.inference_mode()
    def embed_images(self, images: Sequence[Image.Image]) -> Tensor:
        """Unit embeddings of pictures: ``[n, d]``."""
        parts = [
            self.model.encode_image(torch.stack([self.preprocess(image) for image in images[i : i + 256]]))
            for i in range(0, len(images), 256)
        ]
        return nn.functional.normalize(torch.cat(parts), dim=-1)

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings of texts, cut at the model's context length: ``[n, d]``."""
        parts = [self.model.encode_text(self.tokenize(list(texts[i : i + 256]))) for i in range(0, len(texts), 256)]
        return nn.functional.normalize(torch.cat(parts), dim=-1)
