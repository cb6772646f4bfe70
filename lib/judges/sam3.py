"""Masks of what a text names, by SAM 3: from phrases to masks in one model."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import numpy as np
import torch
from PIL import Image

from lib.device import DEVICE, autocast
from lib.hub import Asset
from lib.judges.masks import Latest, PhraseSegmenter, model_and_processor


@cache  # loading takes seconds, and several segmenters share one set of weights
def _loaded(name: Asset) -> tuple[Any, Any, Latest[Any]]:
    """Model, processor, and what embeds a picture."""
    from transformers import Sam3Model, Sam3Processor

    model, processor = model_and_processor(Sam3Model, Sam3Processor, name)

    def embed(picture: Image.Image) -> Any:
        pixels = processor(images=picture, return_tensors="pt")["pixel_values"].to(DEVICE)
        return model.get_vision_features(pixel_values=pixels)

    return model, processor, Latest(embed)


@dataclass(frozen=True)
class Sam3Segmenter(PhraseSegmenter):
    """Finds all instances of phrases; SAM 3 loads when first used.

    Attributes
    ----------
    model : SAM 3.
    threshold : lowest score of an instance.
    """

    model: Asset
    threshold: float = 0.5

    def masks(self, picture: Image.Image, phrases: Sequence[str]) -> Iterator[np.ndarray]:
        """Masks of all instances of each phrase, in the model's order: ``[n, H, W]`` bool."""
        for phrase in phrases:
            yield self.instances(picture, phrase)

    @torch.inference_mode()
    def instances(self, picture: Image.Image, phrase: str) -> np.ndarray:
        """Masks of all instances of a short noun phrase in a picture (RGB): ``[n, H, W]`` bool."""
        model, processor, embedding = _loaded(self.model)
        size = (picture.height, picture.width)
        with autocast():
            seen = embedding(picture)
            words = processor(text=phrase, return_tensors="pt").to(DEVICE)
            out = model(vision_embeds=seen, input_ids=words["input_ids"], attention_mask=words["attention_mask"])
        for name in ("pred_logits", "pred_boxes", "pred_masks", "presence_logits"):
            out[name] = out[name].float()
        found = processor.post_process_instance_segmentation(
            out, threshold=self.threshold, mask_threshold=0.5, target_sizes=[size]
        )[0]["masks"]
        # Without any instance the masks keep the model's own size.
        return found.bool().cpu().numpy() if len(found) else np.zeros((0, *size), bool)
