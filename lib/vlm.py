"""Any Hugging Face image-text-to-text model, seen as: a vision encoder with layers, and an explainer."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor, nn

from lib.device import DEVICE, halved
from lib.families import is_chat, settle, text_of, whole_pictures
from lib.hooks import Intervention, edit, reaches, read_up_to
from lib.hub import Asset, load_whole
from lib.images import BLANK
from lib.packed import Packed
from lib.ranges import Count, Precision, Some


class VisionLayersNotFound(ValueError):
    """The encoder's layers could not be located."""


def vision_layers(model: nn.Module, path: str | None = None) -> nn.ModuleList:
    """The encoder's transformer layers: the longest list of modules inside the vision tower.

    Parameters
    ----------
    model : any image-text-to-text model.
    path : where the list is (``model.vision_tower.encoder.layers``), if it is not where one would look.

    Raises
    ------
    VisionLayersNotFound
        If no module list lies below a module whose name says vision, or none is at ``path``.
    """
    if path:
        try:
            layers = model.get_submodule(path)
        except AttributeError as error:
            raise VisionLayersNotFound(f"subject.layers: {type(model).__name__} has no {path} ({error})") from error
        if not isinstance(layers, nn.ModuleList):
            raise VisionLayersNotFound(f"subject.layers: {path} is a {type(layers).__name__}, not a list of layers")
        return layers
    found = {
        name: module
        for name, module in model.named_modules()
        if isinstance(module, nn.ModuleList) and "vis" in name.rpartition(".")[0]
    }
    if not found:
        lists = [name for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
        raise VisionLayersNotFound(
            f"{type(model).__name__} has no list of layers below a module named vision...; name one as subject.layers; "
            f"its lists are: {', '.join(lists) or 'none'}"
        )
    return max(found.values(), key=len)


def parameter_count(model: nn.Module) -> int:
    """Number of parameters, tied ones once."""
    return sum(p.numel() for p in {id(p): p for p in model.parameters()}.values())


@dataclass(frozen=True)
class Checkpoint:
    """What a :class:`VLM` is loaded from, and how its encoder is read.

    Attributes
    ----------
    model : a folder, or ``id@revision`` on the hub.
    layer : index of the encoder layer; the residual stream after it is read and steered.
    layers : path of the list of encoder layers, where it is not found.
    dtype : of the weights.
    batch : pictures that the encoder is given at a time.
    """

    model: Asset
    layer: Count
    layers: str | None = None
    dtype: Precision = "float32"
    batch: Some = 64


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
    layers : path of the list of encoder layers, where it is not found.

    Raises
    ------
    VisionLayersNotFound
        If the encoder's layers cannot be located.
    IndexError
        If the encoder has no such layer.
    """

    def __init__(self, model: nn.Module, processor, layer: int, name: str, layers: str | None = None) -> None:
        self.layers = vision_layers(model, layers)
        if not 0 <= layer < len(self.layers):
            last = len(self.layers) - 1
            raise IndexError(f"layer {layer} of an encoder with {last + 1} layers; choose 0 to {last}")
        self.model, self.processor, self.name = model.eval(), processor, name
        self.layer = self.layers[layer]
        settle(model, processor)
        self._whole = whole_pictures(processor.image_processor)
        vision, images = model.config.vision_config, processor.image_processor
        self._packed = Packed(vision, images) if Packed.fits(vision, images) else None
        self._shape: tuple[int, int] | None = None
        if getattr(processor, "patch_size", 0) is None:  # LLaVA's, as it was saved before it counted image tokens
            processor.patch_size = vision.patch_size
            processor.vision_feature_select_strategy = model.config.vision_feature_select_strategy
            processor.num_additional_image_tokens = self.extra_tokens

    @classmethod
    def load(cls, checkpoint: Checkpoint) -> VLM:
        """Load a model from a local folder, or from the hub.

        With a GPU it goes there; a model too large for one is spread over several, and over main memory.

        Raises
        ------
        FileNotFoundError
            If the checkpoint names a folder that is not there.
        Damaged
            If weights are missing, or a model that ships with the project is not as it was shipped.
        ValueError
            If the language model does not see what is done to the layer.
        """
        from transformers import AutoModelForImageTextToText, AutoProcessor

        source, revision = checkpoint.model.pretrained()
        where = {"device_map": "auto"} if DEVICE == "cuda" else {}
        dtype = getattr(torch, checkpoint.dtype)
        model = load_whole(AutoModelForImageTextToText, source, dtype=dtype, **revision, **where)
        processor = AutoProcessor.from_pretrained(source, **revision)
        known = checkpoint.model.identity()
        name = f"{checkpoint.model.id}@{known.get('content') or known['commit']}"
        vlm = cls(model, processor, checkpoint.layer, name, checkpoint.layers)
        vlm._check_that_steering_acts(checkpoint.layer)
        return vlm

    @torch.inference_mode()
    def _check_that_steering_acts(self, layer: int) -> None:
        inputs = self.inputs([BLANK])

        def shown() -> Tensor:
            parts = self.model.get_image_features(**inputs).pooler_output
            return torch.cat([part.flatten() for part in parts])

        if reaches(self.layer, shown):
            return
        below = [i for i in range(layer) if reaches(self.layers[i], shown)]
        raise ValueError(
            f"subject.layer: what is done to layer {layer} never reaches the language model, which is shown an earlier "
            f"one; choose {f'0 to {below[-1]}' if below else 'others with subject.layers: none of these reaches it'}"
        )

    @property
    def width(self) -> int:
        """Width of the encoder's residual stream; its configuration may mean another by ``hidden_size``."""
        return self._measured[1]

    @property
    def language_parameters(self) -> int:
        """Parameters of the language model alone."""
        return parameter_count(self.model.get_decoder())

    def inputs(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        """What ``get_image_features`` is given: ``pixel_values``, and whatever else the family's encoder wants."""
        from transformers import BatchFeature

        shown = self._packed.square(images) if self._packed else list(images)
        made = self.processor.image_processor(images=shown, return_tensors="pt", **self._whole)
        wanted = inspect.signature(self.model.get_image_features).parameters
        return dict(
            BatchFeature({k: v for k, v in made.items() if k in wanted}).to(self.model.device, self.model.dtype)
        )

    def residual(self, images: Sequence[Image.Image], change: Intervention | None = None) -> Tensor:
        """The residual stream after the layer: ``[n_images, patches, d]``, float32, class token dropped.

        With ``change``, what the stream is after the intervention.

        Raises
        ------
        ValueError
            If the processor makes several rows of an image.
        """
        if change:  # one vector for each image: the batch stays whole
            return self._residual(images, change)
        return torch.cat(halved(lambda part: [self._residual(part, None)], images))

    @torch.inference_mode()
    def _residual(self, images: Sequence[Image.Image], change: Intervention | None) -> Tensor:
        with self._edited(change), read_up_to(self.layer) as seen:
            self.model.get_image_features(**self.inputs(images))
        stream = self._packed.rows(seen[0]) if self._packed else seen[0]
        if len(stream) != len(images):
            raise ValueError(
                f"{len(images)} images became {len(stream)} rows in the encoder: each image must be one row; switch "
                "off image splitting (do_image_splitting, crop_to_patches, pan and scan) in the processor"
            )
        self._shape = stream.shape[1], stream.shape[2]
        return stream[:, self.extra_tokens :].float()

    def _edited(self, change: Intervention | None) -> AbstractContextManager:
        if change is None:
            return nullcontext()
        return edit(self.layer, self._packed.change(change) if self._packed else change)

    @property
    def _measured(self) -> tuple[int, int]:
        if self._shape is None:
            self.residual([BLANK])
        return self._shape

    @property
    def tokens(self) -> int:
        """Positions of the encoder per image, the class token included."""
        return self._measured[0]

    @cached_property
    @torch.inference_mode()
    def image_tokens(self) -> int:
        """Soft tokens that one image is for the language model."""
        return self.model.get_image_features(**self.inputs([BLANK])).pooler_output[0].shape[-2]

    @property
    def patches(self) -> int:
        """Patches of an image."""
        return self.tokens - self.extra_tokens

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
        from transformers import BatchFeature

        texts = [text_of(self.processor, len(q.images), q.prompt) for q in questions]
        # A chat template writes special tokens itself.
        how = {"padding": True, "return_tensors": "pt", "add_special_tokens": not is_chat(self.processor)}
        if any(q.images for q in questions):
            shown = [self._packed.square(q.images) if self._packed else list(q.images) for q in questions]
            inputs = self.processor(images=shown, text=texts, **how, **self._whole)
        else:  # some processors refuse prompts without pictures
            inputs = self.processor.tokenizer(texts, **how)
            inputs.pop("token_type_ids", None)
            inputs = BatchFeature(inputs)
        inputs = inputs.to(self.model.device, self.model.dtype)
        with self._edited(change):
            out = self.model.generate(**inputs, max_new_tokens=max_new_tokens)
        return self.processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
