"""Any Hugging Face image-text-to-text model, seen as: a vision encoder with layers, and an explainer."""

from __future__ import annotations

import inspect
import math
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from functools import cached_property

import torch
from PIL import Image
from torch import Tensor, nn

from lib.device import DEVICE, halved
from lib.families import is_chat, settle, text_of, vision_layers, whole_pictures
from lib.hooks import Intervention, edit, reaches, read_up_to, resumed, resumes
from lib.hub import Asset, load_whole
from lib.images import BLANK
from lib.packed import Packed
from lib.questions import Kept, Question, content, distinct, take
from lib.ranges import Count, Precision, Some


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


class VLM:
    """A vision-language model, its processor, and the layer of its encoder that is studied.

    Parameters
    ----------
    model, processor : from ``from_pretrained``.
    layer : index of the encoder layer; the residual stream after it is read and steered.
    name : what the model is called in results: id or folder, and revision.
    layers : path of the list of encoder layers, where it is not found.
    batch : pictures that the encoder is given at a time.

    Raises
    ------
    VisionLayersNotFound
        If the encoder's layers cannot be located.
    IndexError
        If the encoder has no such layer.
    """

    def __init__(
        self, model: nn.Module, processor, layer: int, name: str, layers: str | None = None, batch: int = 64
    ) -> None:
        self.layers = vision_layers(model, layers)
        if not 0 <= layer < len(self.layers):
            last = len(self.layers) - 1
            raise IndexError(f"layer {layer} of an encoder with {last + 1} layers; choose 0 to {last}")
        self.model, self.processor, self.name = model.eval(), processor, name
        self._up_to, self.layer = self.layers[: layer + 1], self.layers[layer]
        self._streams = Kept(lambda pictures: self._in_parts(pictures, batch))
        settle(model, processor)
        self._whole = whole_pictures(processor.image_processor)
        vision = model.config.vision_config, processor.image_processor
        self._packed = Packed(*vision) if Packed.fits(*vision) else None
        self._shape: tuple[int, int] | None = None
        if getattr(processor, "patch_size", 0) is None:  # LLaVA's, as it was saved before it counted image tokens
            processor.patch_size = model.config.vision_config.patch_size
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
        vlm = cls(model, processor, checkpoint.layer, name, checkpoint.layers, checkpoint.batch)
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
        wanted = inspect.signature(self.model.get_image_features).parameters
        return {name: value for name, value in self._processed(images).items() if name in wanted}

    def _processed(self, images: Sequence[Image.Image]) -> dict[str, Tensor]:
        shown = self._packed.square(images) if self._packed else list(images)
        return self._moved(self.processor.image_processor(images=shown, return_tensors="pt", **self._whole))

    def _moved(self, made: Mapping[str, Tensor]) -> dict[str, Tensor]:
        from transformers import BatchFeature

        return dict(BatchFeature(dict(made)).to(self.model.device, self.model.dtype))

    def residual(self, images: Sequence[Image.Image], change: Intervention | None = None) -> Tensor:
        """The residual stream after the layer: ``[n_images, patches, d]``, float32, class token dropped.

        With ``change``, what the stream is after the intervention.

        Raises
        ------
        ValueError
            If the processor makes several rows of an image.
        """
        if change:  # one vector for each image: the batch stays whole
            stream = self._stream(images, change)
        else:
            stream = torch.cat(halved(lambda part: [self._stream(part)], images))
        return (self._packed.rows(stream) if self._packed else stream)[:, self.extra_tokens :].float()

    @torch.inference_mode()
    def _stream(self, images: Sequence[Image.Image], change: Intervention | None = None) -> Tensor:
        """The stream after the layer as the encoder orders it, class token included: ``[n_images, tokens, d]``."""
        with self._edited(change), read_up_to(self.layer) as seen:
            self.model.get_image_features(**self.inputs(images))
        stream = seen[0].unflatten(0, (len(images), -1)) if self._packed else seen[0]
        if len(stream) != len(images):
            raise ValueError(
                f"{len(images)} images became {len(stream)} rows in the encoder: each image must be one row; switch "
                "off image splitting (do_image_splitting, crop_to_patches, pan and scan) in the processor"
            )
        self._shape = stream.shape[1], stream.shape[2]
        return stream

    def _in_parts(self, images: Sequence[Image.Image], size: int) -> Tensor:
        parts = (images[first : first + size] for first in range(0, len(images), size))
        return torch.cat([stream for part in parts for stream in halved(lambda some: [self._stream(some)], part)])

    def _from_layer(self, pictures: Sequence[Image.Image], rows: Sequence[int]) -> AbstractContextManager:
        """The encoder started at its layer, with what is known of each row's picture; whole, if it cannot be."""
        if not (pictures and self._resumes):
            return nullcontext()
        stream = self._streams.of(pictures)[list(rows)]
        return resumed(self._up_to, stream.flatten(0, 1) if self._packed else stream)

    @cached_property
    @torch.inference_mode()
    def _resumes(self) -> bool:
        """Whether the layers above see all that those below do through the stream alone: it is tried.

        They do not in Qwen3-VL, which shows the language model what earlier layers say, too.
        """
        noise = torch.rand(48 * 64 * 3, generator=torch.Generator().manual_seed(0)).mul(255).byte().numpy()
        pictures = [Image.fromarray(noise.reshape(*shape, 3)) for shape in ((48, 64), (64, 48))]
        inputs, stream = self.inputs(pictures), self._in_parts(pictures, 1)
        shaped = stream.flatten(0, 1) if self._packed else stream
        return resumes(self._up_to, shaped, lambda: self.model.get_image_features(**inputs))

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

        What questions share is made once: equal questions, unless they are steered; the text of equal prompts; a
        picture's pixels, and its stream below the layer.

        Parameters
        ----------
        questions : prompts, each with its images.
        max_new_tokens : length of an answer, at the most.
        change : intervention on the encoder, with one vector for each image of each question, in
            order. The encoder runs once, before the first token: the prefill alone is changed.

        Returns
        -------
        The raw completions.
        """
        if change is None:
            asked, rows = distinct(questions, lambda q: (q.prompt, *map(content, q.images)))
            said = self._answer(asked, max_new_tokens, None)
            return [said[row] for row in rows]
        return self._answer(questions, max_new_tokens, change)

    def _answer(self, questions: Sequence[Question], max_new_tokens: int, change: Intervention | None) -> list[str]:
        pictures, rows = distinct([image for q in questions for image in q.images], content)
        inputs = self._inputs(questions, pictures, rows)
        with self._from_layer(pictures, rows), self._edited(change):
            out = self.model.generate(**inputs, max_new_tokens=max_new_tokens)
        return self.processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    def _inputs(
        self, questions: Sequence[Question], pictures: Sequence[Image.Image], rows: Sequence[int]
    ) -> dict[str, Tensor]:
        """What ``generate`` is given: token ids and their like by question, and pixels by image of each question."""
        kinds, alike = distinct(questions, lambda q: (q.prompt, len(q.images)))  # their texts are the same
        texts = [text_of(self.processor, len(q.images), q.prompt) for q in kinds]
        # A chat template writes special tokens itself.
        how = {"padding": True, "return_tensors": "pt", "add_special_tokens": not is_chat(self.processor)}
        if pictures:
            shown = [self._packed.square(q.images) if self._packed else list(q.images) for q in kinds]
            made, seen = self.processor(images=shown, text=texts, **how, **self._whole), self._processed(pictures)
        else:  # some processors refuse prompts without pictures
            made, seen = self.processor.tokenizer(texts, **how), {}
            made.pop("token_type_ids", None)
        text = self._moved({name: value[alike] for name, value in made.items() if name not in seen})
        return text | take({name: seen[name] for name in made if name in seen}, len(pictures), rows)
