"""Any Hugging Face image-text-to-text model, seen as: a vision encoder with layers, and an explainer."""

from __future__ import annotations

import inspect
import math
import warnings
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeVar

import torch
from PIL import Image
from torch import Tensor, nn

from lib.hooks import Intervention, edit, read_up_to
from lib.packed import Packed
from lib.store import ROOT, hub_id, model_digest

_WHITE = Image.new("RGB", (224, 224), "white")
T, R = TypeVar("T"), TypeVar("R")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # where one model or dictionary goes

# Switches of image processors that make several rows of one image; steering needs one row each.
SPLITTING = ("crop_to_patches", "do_image_splitting", "do_pan_and_scan")


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


def halved(work: Callable[[Sequence[T]], list[R]], batch: Sequence[T]) -> list[R]:
    """``work(batch)``; if it does not fit into memory, the two halves of the batch one after the other.

    Raises
    ------
    torch.OutOfMemoryError
        If not even a single item fits.
    """
    try:
        return work(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    # Outside of the handler, whose traceback would keep the tensors of the failed attempt alive.
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
    middle = len(batch) // 2
    warnings.warn(f"a batch of {len(batch)} does not fit into memory: halved", stacklevel=2)
    return halved(work, batch[:middle]) + halved(work, batch[middle:])


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
    layers : path of the list of encoder layers, where it is not found.

    Raises
    ------
    VisionLayersNotFound
        If the encoder's layers cannot be located.
    IndexError
        If the encoder has no such layer.
    """

    def __init__(self, model: nn.Module, processor, layer: int, name: str, layers: str | None = None) -> None:
        found = vision_layers(model, layers)
        if not 0 <= layer < len(found):
            raise IndexError(f"layer {layer} of an encoder with {len(found)} layers; choose 0 to {len(found) - 1}")
        self.model, self.processor, self.name = model.eval(), processor, name
        self.layer = found[layer]
        self.processor.tokenizer.padding_side = "left"  # answers start where prompts end
        images = processor.image_processor
        self._whole: dict[str, Any] = {name: False for name in SPLITTING if hasattr(images, name)}
        if getattr(
            images, "do_center_crop", False
        ):  # what is cut off has no patch; the whole picture is squeezed instead
            side = {"height": images.crop_size["height"], "width": images.crop_size["width"]}
            self._whole |= {"do_center_crop": False, "size": side}
        vision = model.config.vision_config
        self._packed = Packed(vision, images) if Packed.fits(vision, images) else None
        self._tokens: int | None = None

    @classmethod
    def load(cls, model: str, layer: int, dtype: str = "float32", layers: str | None = None) -> VLM:
        """Load a model from a local folder, or ``id@revision`` from the hub.

        With a GPU it goes there; a model too large for one is spread over several, and over main memory.

        Raises
        ------
        FileNotFoundError
            If ``model`` looks like a folder and is none.
        """
        if model.startswith(("data/", ".", "/")) and not (ROOT / model).is_dir():
            raise FileNotFoundError(f"no model in {model}; ./run_all.sh --from-scratch trains the desk models")
        # Takes seconds, and a notebook that reads results needs no model.
        from huggingface_hub import try_to_load_from_cache
        from transformers import AutoModelForImageTextToText, AutoProcessor

        local = (ROOT / model).is_dir()
        source, revision = (str(ROOT / model), None) if local else hub_id(model)
        where = {"device_map": "auto"} if DEVICE == "cuda" else {}
        loaded = AutoModelForImageTextToText.from_pretrained(
            source, revision=revision, dtype=getattr(torch, dtype), **where
        )
        processor = AutoProcessor.from_pretrained(source, revision=revision)
        config = None if local else try_to_load_from_cache(source, "config.json", revision=revision)
        commit = Path(config).parent.name if isinstance(config, str) else model_digest(model)
        return cls(loaded, processor, layer, f"{source.removeprefix(f'{ROOT}/')}@{commit}", layers)

    @property
    def width(self) -> int:
        """Width of the encoder's residual stream."""
        return self.model.config.vision_config.hidden_size

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
        self._tokens = stream.shape[1]
        return stream[:, self.extra_tokens :].float()

    def _edited(self, change: Intervention | None) -> AbstractContextManager:
        if change is None:
            return nullcontext()
        return edit(self.layer, self._packed.change(change) if self._packed else change)

    @property
    def tokens(self) -> int:
        """Positions of the encoder per image, the class token included."""
        if self._tokens is None:
            self.residual([_WHITE])
        return self._tokens

    @cached_property
    @torch.inference_mode()
    def image_tokens(self) -> int:
        """Soft tokens that one image is for the language model."""
        return self.model.get_image_features(**self.inputs([_WHITE])).pooler_output[0].shape[-2]

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
        if any(q.images for q in questions):
            shown = [self._packed.square(q.images) if self._packed else list(q.images) for q in questions]
            inputs = self.processor(
                images=shown, text=texts, padding=True, return_tensors="pt", add_special_tokens=False, **self._whole
            )
        else:  # some processors refuse prompts without pictures
            inputs = self.processor.tokenizer(texts, padding=True, return_tensors="pt", add_special_tokens=False)
            inputs.pop("token_type_ids", None)
            inputs = BatchFeature(inputs)
        inputs = inputs.to(self.model.device, self.model.dtype)
        with self._edited(change):
            out = self.model.generate(**inputs, max_new_tokens=max_new_tokens, do_sample=False)
        return self.processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
