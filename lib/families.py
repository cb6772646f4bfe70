"""What families of models and their processors do differently, brought to one behaviour: where the encoder's layers
are, one row for each picture, greedy answers, and a prompt in the model's own format.
"""

from __future__ import annotations

from typing import Any

from torch import nn

# Switches of image processors that make several rows of one image; steering needs one row each.
SPLITTING = ("crop_to_patches", "do_image_splitting", "do_pan_and_scan")
# What a checkpoint's generation settings say about tokens. The rest (beams, sampling, penalties) would not be greedy.
TOKENS = ("bos_token_id", "eos_token_id", "pad_token_id", "suppress_tokens", "bad_words_ids")


def whole_pictures(image_processor: Any) -> dict[str, Any]:
    """Settings with which an image processor makes one row of each picture, and leaves nothing of it out."""
    out: dict[str, Any] = {name: False for name in SPLITTING if hasattr(image_processor, name)}
    if getattr(image_processor, "do_center_crop", False):
        # What is cut off has no patch; the whole picture is squeezed instead.
        side = {"height": image_processor.crop_size["height"], "width": image_processor.crop_size["width"]}
        out |= {"do_center_crop": False, "size": side}
    return out


def settle(model: nn.Module, processor: Any) -> None:
    """Make a model answer greedily whatever its checkpoint says, and a processor pad so that answers begin together."""
    from transformers import GenerationConfig  # takes seconds, and a notebook that reads results needs no model

    tokenizer, stored = processor.tokenizer, model.generation_config
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.eos_token
    kept = {name: getattr(stored, name, None) for name in TOKENS}
    if kept["pad_token_id"] is None:
        kept["pad_token_id"] = tokenizer.pad_token_id
    model.generation_config = GenerationConfig(**kept, do_sample=False, num_beams=1)


def is_chat(processor: Any) -> bool:
    """Whether the model was published with a chat template; that writes special tokens itself."""
    return bool(processor.chat_template or processor.tokenizer.chat_template)


def text_of(processor: Any, images: int, prompt: str) -> str:
    """A prompt about so many images as the model is to read it: by its chat template; else images, then the prompt."""
    if processor.chat_template:
        writer, content = processor, [*({"type": "image"} for _ in range(images)), {"type": "text", "text": prompt}]
    else:  # a tokenizer's template knows text alone
        writer, content = processor.tokenizer, str(processor.image_token) * images + prompt
    if not is_chat(processor):
        return content
    return writer.apply_chat_template(
        [{"role": "user", "content": content}], add_generation_prompt=True, tokenize=False
    )


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
