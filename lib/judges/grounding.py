"""Masks of what a text names: Grounding DINO finds boxes for its phrases, SAM 2 fills them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache, cached_property
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from lib.judges import Reader
from lib.store import ROOT
from lib.vlm import DEVICE

BOXES = 16  # masks of so many boxes are made at a time; each takes the picture's size in float32


def half() -> torch.dtype:
    """The number format of judges on a GPU: bfloat16, or float16 where it has none."""
    return torch.bfloat16 if DEVICE == "cpu" or torch.cuda.is_bf16_supported() else torch.float16


def autocast() -> torch.autocast:
    """Half precision on a GPU, float32 on a processor; weights stay in float32."""
    return torch.autocast(DEVICE, half(), enabled=DEVICE == "cuda")


def source(model: str) -> str:
    """What ``from_pretrained`` should load: a folder of the project, or an id on the hub.

    Raises
    ------
    FileNotFoundError
        If ``model`` looks like a folder and is none.
    """
    if (ROOT / model).is_dir():
        return str(ROOT / model)
    if model.startswith(("data/", ".", "/")):
        raise FileNotFoundError(f"no model in {model}; name an id on the Hugging Face hub, or an existing folder")
    return model


class Detector:
    """Grounding DINO, or another zero-shot detector with its processor; loads when first used.

    Parameters
    ----------
    name, revision : folder, or id and revision on the hub.
    threshold : lowest score of a box.
    text_threshold : lowest score of a word; a box that no word reaches it for is left out.
    """

    def __init__(self, name: str, revision: str | None, threshold: float, text_threshold: float) -> None:
        self.name, self.revision = name, revision
        self.threshold, self.text_threshold = threshold, text_threshold

    @cached_property
    def _loaded(self) -> tuple:
        # Takes seconds, and a notebook that reads results needs no model.
        from transformers import AutoModelForZeroShotObjectDetection, AutoProcessor

        place = source(self.name)
        model = AutoModelForZeroShotObjectDetection.from_pretrained(
            place, revision=self.revision, dtype=torch.float32, use_safetensors=True
        )
        return model.eval().to(DEVICE), AutoProcessor.from_pretrained(place, revision=self.revision)

    @staticmethod
    def prompt(phrases: Sequence[str]) -> str:
        """Phrases as the detector was trained to read them: lower case, each ended by a full stop."""
        return " ".join(f"{' '.join(phrase.lower().replace('.', ' ').split())}." for phrase in phrases)

    @torch.inference_mode()
    def boxes(self, picture: Image.Image, phrases: Sequence[str]) -> np.ndarray:
        """Boxes of all that the phrases name, in the detector's order.

        Returns
        -------
        ``[n, 4]``, float32: left, top, right, bottom in pixels.
        """
        model, processor = self._loaded
        inputs = processor(images=picture, text=self.prompt(phrases), return_tensors="pt").to(DEVICE)
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


class BoxFiller:
    """SAM 2, from boxes to masks; loads when first used and keeps the embedding of its last picture.

    Parameters
    ----------
    name, revision : folder or repository that holds one ``sam2.1_*.pt`` in the official format.
    config : the package's configuration for it, such as ``configs/sam2.1/sam2.1_hiera_l.yaml``.
    overrides : Hydra overrides of that configuration.
    """

    def __init__(self, name: str, revision: str | None, config: str, overrides: Sequence[str]) -> None:
        self.name, self.revision, self.config, self.overrides = name, revision, config, overrides
        self._last: np.ndarray | None = None

    def checkpoint(self) -> Path:
        """The file of weights, downloaded if need be.

        Raises
        ------
        FileNotFoundError
            If there is none, or if there are several.
        """
        folder = source(self.name)
        if not Path(folder).is_dir():
            from huggingface_hub import snapshot_download  # a local folder needs no hub

            folder = snapshot_download(folder, revision=self.revision, allow_patterns="sam2.1_*.pt")
        files = sorted(Path(folder).glob("sam2.1_*.pt"))
        if len(files) != 1:
            raise FileNotFoundError(
                f"{self.name} holds {len(files)} files sam2.1_*.pt, not one; "
                "name a repository such as facebook/sam2.1-hiera-large"
            )
        return files[0]

    @cached_property
    def _predictor(self):
        # Takes seconds, and a notebook that reads results needs no model.
        from sam2.build_sam import build_sam2
        from sam2.sam2_image_predictor import SAM2ImagePredictor

        # Reads the file with weights_only=True, so nothing in it can run, and wants every weight to fit.
        model = build_sam2(
            self.config, str(self.checkpoint()), device=DEVICE, hydra_overrides_extra=list(self.overrides)
        )
        return SAM2ImagePredictor(model)

    @torch.inference_mode()
    def fill(self, picture: Image.Image, boxes: np.ndarray) -> np.ndarray:
        """Union of the masks in the boxes.

        Parameters
        ----------
        picture : RGB.
        boxes : ``[n, 4]``, left, top, right, bottom in pixels.

        Returns
        -------
        ``[H, W]`` bool.
        """
        pixels = np.array(picture)
        mask = np.zeros(pixels.shape[:2], bool)
        with autocast():
            if self._last is None or not np.array_equal(self._last, pixels):
                self._last = None  # until the embedding is whole
                self._predictor.set_image(pixels)
                self._last = pixels
            for first in range(0, len(boxes), BOXES):
                made, _, _ = self._predictor.predict(box=boxes[first : first + BOXES], multimask_output=False)
                mask |= (made > 0).reshape(-1, *mask.shape).any(0)
        return mask


# Several segmenters (for other pictures, or for the first mask alone) share one set of weights.
_shared_detector, _shared_filler = cache(Detector), cache(BoxFiller)


class GroundedSegmenter:
    """Finds what a text names, by boxes and masks; the mask is the union over all boxes of all phrases.

    Parameters
    ----------
    images : the pictures.
    reader : turns a text into short phrases; long sentences make the detector fail.
    detector, detector_revision : Grounding DINO: folder, or id and revision on the hub.
    segmenter, segmenter_revision, config, overrides : SAM 2, see :class:`BoxFiller`.
    threshold, text_threshold : lowest scores of a box and of a word in it, see :class:`Detector`.
    first_only : stop at the first mask, as the published protocol does.
    """

    def __init__(
        self,
        images: Sequence[Image.Image],
        reader: Reader,
        detector: str,
        detector_revision: str | None,
        segmenter: str,
        segmenter_revision: str | None,
        config: str,
        overrides: Sequence[str],
        threshold: float = 0.3,
        text_threshold: float = 0.25,
        first_only: bool = False,
    ) -> None:
        self.images, self.reader, self.first_only = images, reader, first_only
        self.detector = _shared_detector(detector, detector_revision, threshold, text_threshold)
        self.filler = _shared_filler(segmenter, segmenter_revision, config, tuple(overrides))

    def segment(self, text: str, image: int) -> np.ndarray:
        """Pixels of ``image`` that show anything ``text`` names: ``[H, W]`` bool; empty if nothing is found."""
        picture = self.images[image].convert("RGB")
        phrases = self.reader.phrases(text)
        boxes = self.detector.boxes(picture, phrases) if phrases else np.zeros((0, 4), np.float32)
        if not len(boxes):
            return np.zeros((picture.height, picture.width), bool)
        return self.filler.fill(picture, boxes[:1] if self.first_only else boxes)
