"""A subject as three ONNX graphs, which run where there is no PyTorch: in the reader's browser.

The cut is where steering is: ``below`` gives the residual stream after the steered layer, the feature's direction is
added to it outside of any graph (Eq. 5), and ``above`` makes of it what the language model is shown. ``speaker`` is the
language model with its cache of keys and values.
"""

from __future__ import annotations

import logging
import warnings
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import onnx
import torch
from torch import Tensor, nn

from lib.families import is_chat, text_of
from lib.hub import load_whole
from lib.images import BLANK
from lib.vlm import VLM, Checkpoint

LONGEST = 512  # tokens: of a longer text the graphs' mask, which knows no sliding window, would be wrong


class NoGraphs(ValueError):
    """A subject whose classes are not known here."""


class _Past:
    """Keys and values of earlier tokens, ``[layers, batch, heads, tokens, d]`` each, as transformers asks for them."""

    def __init__(self, keys: Tensor, values: Tensor) -> None:
        self.before = keys, values
        self.after: list[tuple[Tensor, Tensor]] = []

    def update(self, keys: Tensor, values: Tensor, layer: int, *_more: Any) -> tuple[Tensor, Tensor]:
        """What a layer attends to: what was there, and what is new."""
        both = tuple(torch.cat([old[layer], new], dim=2) for old, new in zip(self.before, (keys, values)))
        self.after.append(both)
        return both


def _above(vlm: VLM) -> int:
    """The first layer above the one that is steered."""
    return list(vlm.layers).index(vlm.layer) + 1


class Below(nn.Module):
    """Pixels ``[n, 3, height, width]`` to the residual stream after the steered layer, ``[n, patches, d]``."""

    def __init__(self, vlm: VLM) -> None:
        super().__init__()
        tower = vlm.model.model.vision_tower
        self.embeddings, self.layers = tower.embeddings, vlm.layers[: _above(vlm)]

    def forward(self, pixels: Tensor) -> Tensor:
        """See the class."""
        hidden = self.embeddings(pixels)
        for layer in self.layers:
            hidden = layer(hidden, None)
        return hidden


class Above(nn.Module):
    """The residual stream after the steered layer to what the language model is shown, ``[n, image tokens, width]``."""

    def __init__(self, vlm: VLM) -> None:
        super().__init__()
        model = vlm.model.model
        self.layers, self.norm = vlm.layers[_above(vlm) :], model.vision_tower.post_layernorm
        self.projector = model.multi_modal_projector

    def forward(self, stream: Tensor) -> Tensor:
        """See the class."""
        for layer in self.layers:
            stream = layer(stream, None)
        return self.projector(self.norm(stream))


class Speaker(nn.Module):
    """The language model: tokens, what it is shown, and what it remembers, to the next token's logits.

    Parameters
    ----------
    block : the image's tokens in the prompt, from the first to behind the last; all of them see each other.
    """

    def __init__(self, vlm: VLM, block: tuple[int, int]) -> None:
        super().__init__()
        self.model, self.head = vlm.model.model.language_model, vlm.model.lm_head
        self.image, self.block = vlm.model.config.image_token_id, block

    def forward(self, ids: Tensor, shown: Tensor, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Read some more tokens.

        Parameters
        ----------
        ids : ``[n, new tokens]``.
        shown : ``[n, image tokens, width]``, from :class:`Above`.
        keys, values : ``[layers, n, heads, earlier tokens, d]``.

        Returns
        -------
        Logits of the next token ``[n, words]``, and keys and values of all tokens so far.
        """
        is_image = ids == self.image
        which = (is_image.long().cumsum(1) - 1).clamp(0, shown.shape[1] - 1)
        pictured = shown.gather(1, which[..., None].expand(-1, -1, shown.shape[2]))
        hidden = torch.where(is_image[..., None], pictured, self.model.embed_tokens(ids))
        earlier, new = keys.shape[3], ids.shape[1]
        reader = torch.arange(new)[:, None] + earlier
        read = torch.arange(earlier + new)[None, :]
        first, end = self.block
        inside = (reader >= first) & (reader < end) & (read >= first) & (read < end)
        mask = torch.where((read <= reader) | inside, 0.0, torch.finfo(torch.float32).min)[None, None]
        places = reader.T
        kinds, past = self.model.config.layer_types, _Past(keys, values)
        turned = {kind: self.model.rotary_emb(hidden, places, kind) for kind in sorted(set(kinds))}
        for kind, layer in zip(kinds, self.model.layers):
            hidden = layer(
                hidden, attention_mask=mask, position_embeddings=turned[kind], position_ids=places, past_key_values=past
            )
        logits = self.head(self.model.norm(hidden[:, -1]))
        return logits, *(torch.stack(kept) for kept in zip(*past.after))


@dataclass(frozen=True)
class Graph:
    """A graph as ONNX, and the weights that it reads from beside it (``<name>.onnx.data``)."""

    model: bytes
    weights: bytes


def prompted(vlm: VLM, prompt: str) -> list[int]:
    """The ids of a prompt about one picture, its image tokens included: ``[tokens]``."""
    made = vlm.processor(
        images=[BLANK],
        text=text_of(vlm.processor, 1, prompt),
        return_tensors="pt",
        add_special_tokens=not is_chat(vlm.processor),
    )
    return made["input_ids"][0].tolist()


def export(checkpoint: Checkpoint, prompt: str) -> dict[str, Graph]:
    """The three graphs of a subject, float32, with any number of rows: ``below``, ``above``, ``speaker``.

    Raises
    ------
    NoGraphs
        If the subject is not of Gemma 3's classes, or thinks in other numbers than float32.
    """
    vlm = _loaded(checkpoint)
    kind, c = type(vlm.model).__name__, vlm.model.config.text_config
    if kind != "Gemma3ForConditionalGeneration" or checkpoint.dtype != "float32":
        raise NoGraphs(f"graphs are made of Gemma 3's classes in float32, not of {kind} in {checkpoint.dtype}")
    if (c.sliding_window or LONGEST) < LONGEST:
        raise NoGraphs(f"a sliding window of {c.sliding_window} tokens is less than {LONGEST}")
    vlm.model.set_attn_implementation("eager")
    ids = torch.tensor(prompted(vlm, prompt))
    block = torch.nonzero(ids == vlm.model.config.image_token_id).flatten().tolist()
    vision = vlm.model.config.vision_config
    # Any number that is not 1 stands for all; what is the same everywhere is left as it is.
    pixels = torch.zeros(2, 3, vision.image_size, vision.image_size)
    stream, shown = torch.zeros(2, vlm.tokens, vlm.width), torch.zeros(2, len(block), c.hidden_size)
    past = torch.zeros(c.num_hidden_layers, 2, c.num_key_value_heads, 7, c.head_dim)
    some = torch.export.Dim.DYNAMIC
    rows = {0: some}
    speaker = Speaker(vlm, (block[0], block[-1] + 1)), (ids[:5].repeat(2, 1), shown, past, past.clone())
    return {
        "below": _graph("below", Below(vlm), (pixels,), ["pixels"], ["stream"], (rows,)),
        "above": _graph("above", Above(vlm), (stream,), ["stream"], ["shown"], (rows,)),
        "speaker": _graph(
            "speaker",
            *speaker,
            ["ids", "shown", "keys", "values"],
            ["logits", "keys_out", "values_out"],
            ({0: some, 1: some}, rows, {1: some, 3: some}, {1: some, 3: some}),
        ),
    }


def _loaded(checkpoint: Checkpoint) -> VLM:
    """A subject of its own, as how it computes attention is changed; on the processor, whatever else there is."""
    from transformers import AutoModelForImageTextToText, AutoProcessor

    source, revision = checkpoint.model.pretrained()
    model = load_whole(AutoModelForImageTextToText, source, dtype=getattr(torch, checkpoint.dtype), **revision)
    processor = AutoProcessor.from_pretrained(source, **revision)
    return VLM(model, processor, checkpoint.layer, source, checkpoint.layers, checkpoint.batch)


def _graph(
    name: str, module: nn.Module, inputs: tuple[Tensor, ...], takes: list[str], gives: list[str], free: tuple
) -> Graph:
    for chatty in ("onnx_ir", "onnxscript", "torch.onnx"):
        logging.getLogger(chatty).setLevel(logging.ERROR)
    with TemporaryDirectory() as folder, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        path = Path(folder) / f"{name}.onnx"
        made = torch.onnx.export(
            module.eval(),
            inputs,
            dynamo=True,
            verbose=False,
            input_names=takes,
            output_names=gives,
            dynamic_shapes=free,
        )
        made.save(path, external_data=True)
        model = onnx.load(path, load_external_data=False)
        for part in (model, model.graph, *model.graph.node, *model.graph.value_info, *model.functions):
            part.ClearField("metadata_props")  # where each node comes from, with paths of this machine
            part.ClearField("doc_string")
        return Graph(model.SerializeToString(deterministic=True), path.with_name(f"{name}.onnx.data").read_bytes())
