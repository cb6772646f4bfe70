"""Masks of what a text names: Grounding DINO finds boxes for its phrases, SAM 2 fills them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lib.device import DEVICE, autocast
from lib.hub import Asset
from lib.judges.masks import Latest, PhraseSegmenter, model_and_processor

BOXES = 16  # masks of so many boxes are made at a time; each takes the picture's size in float32


def prompt(phrases: Sequence[str]) -> str:
    """Phrases as the detector was trained to read them: lower case, each ended by a full stop."""
    return " ".join(f"{' '.join(phrase.lower().replace('.', ' ').split())}." for phrase in phrases)


def weights(name: Asset) -> Path:
    """SAM 2's file of weights, in the official format: one ``sam2.1_*.pt``, downloaded if need be.

    Raises
    ------
    FileNotFoundError
        If there is none, or if there are several.
    """
    found = name.fetch("sam2.1_*.pt")
    files = [found] if found.is_file() else sorted(found.glob("sam2.1_*.pt"))
    if len(files) != 1:
        raise FileNotFoundError(
            f"{name} holds {len(files)} files sam2.1_*.pt, not one; "
            "name a repository such as facebook/sam2.1-hiera-large"
        )
    return files[0]


# Loading takes seconds, and who reads results needs no model. Several segmenters, for other pictures, share
# one set of weights.
@cache
def _detector(name: Asset) -> tuple[Any, Any]:
    from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

    return model_and_processor(AutoModelForZeroShotObjectDetection, AutoProcessor, name)


@cache
def _filler(name: Asset, config: str, overrides: tuple[str, ...]) -> Latest[Any]:
    """Given a picture: SAM 2, ready to fill boxes in it."""
    from sam2.build_sam import build_sam2
    from sam2.sam2_image_predictor import SAM2ImagePredictor

    # Reads the file with weights_only=True, so nothing in it can run, and wants every weight to fit.
    model = build_sam2(config, str(weights(name)), device=DEVICE, hydra_overrides_extra=list(overrides))
    predictor = SAM2ImagePredictor(model)

    def embed(picture: Image.Image) -> SAM2ImagePredictor:
        predictor.set_image(np.array(picture))
        return predictor

    return Latest(embed)


@dataclass(frozen=True)
class GroundedSegmenter(PhraseSegmenter):
    """Finds boxes for phrases, and fills them; both models load when first used.

    Attributes
    ----------
    detector : Grounding DINO, or another zero-shot detector with its processor.
    segmenter : SAM 2, a folder or repository that holds one ``sam2.1_*.pt``.
    config : the package's configuration for it, such as ``configs/sam2.1/sam2.1_hiera_l.yaml``.
    overrides : Hydra overrides of that configuration.
    threshold : lowest score of a box.
    text_threshold : lowest score of a word; a box that no word reaches it for is left out.
    """

    detector: Asset
    segmenter: Asset
    config: str
    overrides: tuple[str, ...] = ()
    threshold: float = 0.3
    text_threshold: float = 0.25

    @torch.inference_mode()
    def boxes(self, picture: Image.Image, phrases: Sequence[str]) -> np.ndarray:
        """Boxes of all that the phrases name in a picture (RGB), in the detector's order.

        Returns
        -------
        ``[n, 4]``, float32: left, top, right, bottom in pixels.
        """
        model, processor = _detector(self.detector)
        inputs = processor(images=picture, text=prompt(phrases), return_tensors="pt").to(DEVICE)
        with autocast():
            out = model(**inputs)
        out.logits, out.pred_boxes = out.logits.float(), out.pred_boxes.float()
        found = processor.post_process_grounded_object_detection(
            out,
            inputs["input_ids"],
            threshold=self.threshold,
            text_threshold=self.text_threshold,
            target_sizes=[(picture.height, picture.width)],
        )[0]
        named = [i for i, words in enumerate(found["text_labels"]) if words.strip()]
        return found["boxes"].cpu().numpy().reshape(-1, 4)[named]

    def masks(self, picture: Image.Image, phrases: Sequence[str]) -> Iterator[np.ndarray]:
        """Masks in the boxes of all phrases, ``BOXES`` at a time: ``[n, H, W]`` bool."""
        boxes = self.boxes(picture, phrases)
        for first in range(0, len(boxes), BOXES):
            with torch.inference_mode(), autocast():
                predictor = _filler(self.segmenter, self.config, self.overrides)(picture)
                made, _, _ = predictor.predict(box=boxes[first : first + BOXES], multimask_output=False)
            yield (made > 0).reshape(-1, picture.height, picture.width)
