"""Any Hugging Face image-text-to-text model, seen as: a vision encoder with layers, and an explainer."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import dataclass

import torch
from PIL import Image
from torch import Tensor, nn

from lib.hooks import Intervention, edit, read_up_to
from lib.store import ROOT, model_digest

# Switches of image processors that make several rows of one image; steering needs one row each.
SPLITTING = ("crop_to_patches", "do_image_splitting", "do_pan_and_scan")


class VisionLayersNotFound(ValueError):
    """The encoder's layers could not be located."""


def vision_layers(model: nn.Module) -> nn.ModuleList:
    """The encoder's transformer layers: the longest list of modules inside the vision tower.

    Raises
    ------
    VisionLayersNotFound
        If no module list lies below a module whose name says vision.
    """
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and "vis" in name.rpartition(".")[0]
    }
    if not found:
        lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
        raise VisionLayersNotFound(
            f"{type(model).__name__} has no list of layers below a module named vision...; its lists are: "
            f"{', '.join(lists) or 'none'}"
        )
    return max(found.values(), key=len)


def parameter_count(model: nn.Module) -> int:
    """Number of parameters, tied ones once."""
    return sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())


@dataclass(frozen=True)
class Question:
    """A prompt about some images."""

    images: tuple[Image.Image, ...]
    prompt: str


class VLM:
    """A vision-language model, its processor, and the layer of its encoder that is studied.

    Parameters
    ----------
    model, processor : from ``from_pretrained``.
    layer : index of the encoder layer; the residual stream after it is read and steered.
    name : what the model is called in results: id or folder, and revision.

    Raises
    ------
    VisionLayersNotFound
        If the encoder's layers cannot be located.
    IndexError
        If the encoder has no such layer.
    """

    def __init__(self, model: nn.Module, processor, layer: int, name: str) -> None:
        layers = vision_layers(model)
        if not 0 <= layer < len(layers):
            raise IndexError(f"layer {layer} of an encoder with {len(layers)} layers; choose 0 to {len(layers) - 1}")
        self.model, self.processor, self.name = model.eval(), processor, name
        self.layer = layers[layer]
        self.processor.tokenizer.padding_side = "left"  # answers start where prompts end
        self._whole = {name: False for name in SPLITTING if hasattr(processor.image_processor, name)}
        self._tokens: int | None = None

    @classmethod
    def load(cls, model_id: str, layer: int, revision: str | None = None, dtype: str = "float32") -> VLM:
        """Load a model from the hub or a local folder.

        Raises
        ------
        FileNotFoundError
            If ``model_id`` looks like a folder and is none.
        """
        if model_id.startswith(("data/", ".", "/")) and not (ROOT / model_id).is_dir():
            raise FileNotFoundError(f"no model in {model_id}; ./run_all.sh --from-scratch trains the desk models")
        # Takes seconds, and a notebook that reads results needs no model.
        from transformers import AutoModelForImageTextToText, AutoProcessor

        source = str(ROOT / model_id) if (ROOT / model_id).is_dir() else model_id
        model = AutoModelForImageTextToText.from_pretrained(source, revision=revision, dtype=getattr(torch, dtype))
        processor = AutoProcessor.from_pretrained(source, revision=revision)
        commit = getattr(model.config, "_commit_hash", None)  # None for a local folder
        return cls(model, processor, layer, f"{model_id}@{commit or model_digest(model_id)}")

    @property
    def width(self) -> int:
        """Width of the encoder's residual stream."""
        return self.model.config.vision_config.hidden_size

    def pixels(self, images: Sequence[Image.Image]) -> Tensor:
        """What the encoder is given, one row per image: ``[n_images, 3, height, width]``."""
        made = self.processor.image_processor(images=list(images), return_tensors="pt", **self._whole)
        return made["pixel_values"].to(self.model.device, self.model.dtype)

    @torch.inference_mode()
    def residual(self, images: Sequence[Image.Image], change: Intervention | None = None) -> Tensor:
        """The residual stream after the layer: ``[n_images, patches, d]``, float32, class token dropped.

        With ``change``, what the stream is after the intervention.

        Raises
        ------
        ValueError
            If the processor makes several rows of an image.
        """
        with edit(self.layer, change) if change else nullcontext(), read_up_to(self.layer) as seen:
            self.model.get_image_features(pixel_values=self.pixels(images))
        if len(seen[0]) != len(images):
            raise ValueError(
                f"{len(images)} images became {len(seen[0])} rows in the encoder: each image must be one row; switch "
                "off image splitting (do_image_splitting, crop_to_patches, pan and scan) in the processor"
            )
        self._tokens = seen[0].shape[1]
        return seen[0][:, self.extra_tokens :].float()

    @property
    def tokens(self) -> int:
        """Positions of the encoder per image, the class token included."""
        if self._tokens is None:
            self.residual([Image.new("RGB", (224, 224), "white")])
        return self._tokens

    @property
    def extra_tokens(self) -> int:
        """Tokens that precede the patches in the encoder: 1 for InternVL's class token, else 0."""
        return self.tokens - math.isqrt(self.tokens) ** 2  # a grid of patches is square

    def positions(self, patches: Tensor) -> Tensor:
        """From patches ``[n_images, patches]`` bool to encoder positions ``[n_images, tokens]``.

        The class token, where there is one, is left out: it is not a patch.
        """
        return nn.functional.pad(patches, (self.extra_tokens, 0), value=False)

    @torch.inference_mode()
    def answer(
        self, questions: Sequence[Question], max_new_tokens: int, change: Intervention | None = None
    ) -> list[str]:
        """Answer a batch of questions, greedily.

        Parameters
        ----------
        questions : prompts, each with its images.
        max_new_tokens : length of an answer, at the most.
        change : intervention on the encoder, with one vector for each image of each question, in
            order. The encoder runs once, before the first token, so the prefill alone is changed.

        Returns
        -------
        The raw completions.
        """
        texts = [
            self.processor.apply_chat_template(
                [
                    {
                        "role": "user",
                        "content": [*({"type": "image"} for _ in q.images), {"type": "text", "text": q.prompt}],
                    }
                ],
                add_generation_prompt=True,
                tokenize=False,
            )
            for q in questions
        ]
        inputs = self.processor(
            images=[list(q.images) for q in questions],
            text=texts,
            padding=True,
            return_tensors="pt",
            add_special_tokens=False,
            **self._whole,
        ).to(self.model.device, self.model.dtype)
        with edit(self.layer, change) if change else nullcontext():
            out = self.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        return self.processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
