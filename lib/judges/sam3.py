"""Masks of what a text names, by SAM 3: from phrases to masks in one model."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property

import numpy as np
import torch
from PIL import Image

from lib.judges import Reader
from lib.judges.grounding import autocast, source
from lib.vlm import DEVICE


class ConceptMasks:
    """SAM 3; loads when first used and keeps the embedding of its last picture.

    Parameters
    ----------
    name, revision : folder, or id and revision on the hub.
    threshold : lowest score of an instance.
    """

    def __init__(self, name: str, revision: str | None, threshold: float) -> None:
        self.name, self.revision, self.threshold = name, revision, threshold
        self._last: tuple[np.ndarray, object] | None = None

    @cached_property
    def _loaded(self) -> tuple:
        from transformers import Sam3Model, Sam3Processor  # takes seconds; reading results needs no model

        place = source(self.name)
        model = Sam3Model.from_pretrained(place, revision=self.revision, dtype=torch.float32, use_safetensors=True)
        return model.eval().to(DEVICE), Sam3Processor.from_pretrained(place, revision=self.revision)

    @torch.inference_mode()
    def masks(self, picture: Image.Image, phrase: str) -> np.ndarray:
        """Masks of all instances of a phrase, in the model's order.

        Parameters
        ----------
        picture : RGB.
        phrase : a short noun phrase.

        Returns
        -------
        ``[n, H, W]`` bool.
        """
        model, processor = self._loaded
        pixels, size = np.array(picture), (picture.height, picture.width)
        with autocast():
            if self._last is None or not np.array_equal(self._last[0], pixels):
                seen = processor(images=picture, return_tensors="pt")["pixel_values"].to(DEVICE)
                self._last = (pixels, model.get_vision_features(pixel_values=seen))
            words = processor(text=phrase, return_tensors="pt").to(DEVICE)
            out = model(
                vision_embeds=self._last[1], input_ids=words["input_ids"], attention_mask=words["attention_mask"]
            )
        for name in ("pred_logits", "pred_boxes", "pred_masks", "presence_logits"):
            out[name] = out[name].float()
        found = processor.post_process_instance_segmentation(
            out, threshold=self.threshold, mask_threshold=0.5, target_sizes=[size]
        )[0]["masks"]
        # Without any instance the masks keep the model's own size.
        return found.bool().cpu().numpy() if len(found) else np.zeros((0, *size), bool)


_shared = cache(ConceptMasks)  # several segmenters use one set of weights


class Sam3Segmenter:
    """Finds what a text names; the mask is the union over all phrases and instances.

    Parameters
    ----------
    images : the pictures.
    reader : turns a text into short phrases, which are what the model reads.
    model, revision : SAM 3: folder, or id and revision on the hub.
    threshold : lowest score of an instance.
    first_only : stop at the first mask, as the published protocol does.
    """

    def __init__(
        self,
        images: Sequence[Image.Image],
        reader: Reader,
        model: str,
        revision: str | None,
        threshold: float = 0.5,
        first_only: bool = False,
    ) -> None:
        self.images, self.reader, self.first_only = images, reader, first_only
        self.model = _shared(model, revision, threshold)

    def segment(self, text: str, image: int) -> np.ndarray:
        """Pixels of ``image`` that show anything ``text`` names: ``[H, W]`` bool; empty if nothing is found."""
        picture = self.images[image].convert("RGB")
        union = np.zeros((picture.height, picture.width), bool)
        for phrase in self.reader.phrases(text):
            masks = self.model.masks(picture, phrase)
            if self.first_only and len(masks):
                return masks[0]
            union |= masks.any(0)
        return union
