"""What an explanation costs (appendix F): FLOPs of the three methods, item by item, from real shapes.

One multiplication and one addition count as two FLOPs. Only matrix products are counted (they are
all but a few per cent); norms, activations and soft-max are left out, as in the counted pass that
the tests compare with. The paper's estimate, 2 x parameters x tokens (Kaplan et al.), is there too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from lib.families import is_chat, text_of, vision_layers
from lib.images import BLANK
from lib.methods import COMPARED, STEERING, TOP_K
from lib.paper import yaml_of
from lib.vlm import VLM

METHODS = tuple(dict.fromkeys(method.family for method in COMPARED))  # the paper's three


@dataclass(frozen=True)
class Shape:
    """The shape of a vision-language model.

    Attributes
    ----------
    vision_layers, vision_width, vision_mlp : the encoder.
    tokens : positions of the encoder per image, with a class token if there is one.
    image_tokens : soft tokens per image in the language model.
    pixels : numbers in one patch (3 x patch x patch; a family that takes films for twice as many).
    layers, width, mlp, heads, kv_heads, head_dim : the language model; its MLPs are gated.
    vocabulary : tokens.
    projector : weights of the products between encoder and language model, per soft token.
    tables : embedding tables: 1 if input and output share theirs, else 2.
    """

    vision_layers: int
    vision_width: int
    vision_mlp: int
    tokens: int
    image_tokens: int
    pixels: int
    layers: int
    width: int
    mlp: int
    heads: int
    kv_heads: int
    head_dim: int
    vocabulary: int
    projector: int
    tables: int = 1

    @property
    def vision_parameters(self) -> int:
        """Weights of the encoder's matrices."""
        d = self.vision_width
        return self.pixels * d + self.vision_layers * (4 * d * d + 2 * d * self.vision_mlp)

    @property
    def block_parameters(self) -> int:
        """Weights of one layer of the language model."""
        attention = self.width * self.head_dim * (2 * self.heads + 2 * self.kv_heads)
        return attention + 3 * self.width * self.mlp

    @property
    def parameters(self) -> int:
        """Weights of all matrices."""
        text = self.layers * self.block_parameters + self.tables * self.vocabulary * self.width
        return self.vision_parameters + text + self.projector

    def see(self, layers: int | None = None) -> int:
        """One image through the encoder, up to ``layers`` layers."""
        d, n = self.vision_width, self.tokens
        patches = math.isqrt(n) ** 2  # a class token is not made of pixels
        block = 2 * n * (4 * d * d + 2 * d * self.vision_mlp) + 4 * n * n * d  # products, then attention
        return 2 * patches * self.pixels * d + (self.vision_layers if layers is None else layers) * block

    def encode(self, latents: int) -> int:
        """One image's positions into the codes of a dictionary."""
        return 2 * self.tokens * self.vision_width * latents

    def learn(self, active: int) -> int:
        """What a dictionary learns from one image, once it is encoded, with ``active`` latents at each position.

        Reconstruction, and the gradients of codes, directions and encoder: of the active latents alone.
        """
        return 4 * self.encode(active)

    def project(self) -> int:
        """Soft tokens of one image."""
        return 2 * self.image_tokens * self.projector

    def read(self, tokens: int, cached: int = 0) -> int:
        """``tokens`` positions through the language model, after ``cached`` ones; no logits."""
        attention = 4 * tokens * (cached + tokens) * self.heads * self.head_dim
        return self.layers * (2 * tokens * self.block_parameters + attention)

    def logits(self) -> int:
        """Scores of the vocabulary at one position."""
        return 2 * self.width * self.vocabulary

    def hear(self, prompt: int) -> int:
        """A prompt of so many tokens, and the first token of the answer."""
        return self.read(prompt) + self.logits()

    def speak(self, prompt: int, answer: int) -> int:
        """The other tokens of an answer, one at a time."""
        return sum(self.read(1, prompt + i) + self.logits() for i in range(1, answer))


@dataclass(frozen=True)
class Job:
    """What is to be explained, and how.

    Attributes
    ----------
    features : features explained.
    images : images searched for the top images.
    k : top images shown.
    prompt, answer : text tokens.
    layer : layers of the encoder that an activation needs; the next one is the first that sees what is steered.
    latents : size of the dictionary.
    validation : features on which a coefficient is chosen; 0 leaves that search out.
    steering, hybrid : coefficients tried on each of them, by Steering and by the hybrid.
    """

    features: int
    images: int
    k: int
    prompt: int
    answer: int
    layer: int
    latents: int
    validation: int = 0
    steering: int = 0
    hybrid: int = 0

    def scope(self, method: str) -> tuple[int, int]:
        """Images searched, and images shown for each feature, by a method of this family."""
        return (0, 1) if method == STEERING.add.family else (self.images, self.k)


def items(shape: Shape, job: Job, method: str) -> dict[str, float]:
    """FLOPs of explaining all features, by item: what the code computes, which does nothing twice.

    A blank picture is the same for all features up to the layer that is steered, a picture of the top images never.

    Raises
    ------
    KeyError
        If there is no such method.
    """
    if method not in METHODS:
        raise KeyError(f"no method {method!r}; there are {', '.join(METHODS)}")
    search, shown = job.scope(method)
    prefill = shown * shape.image_tokens + job.prompt
    shared = shape.see(job.layer) if method == STEERING.add.family else 0
    own = shown * (shape.see() + shape.project()) - shared
    return {
        "search: encode images": search * shape.see(job.layer),
        "search: dictionary": search * shape.encode(job.latents),
        "explain: encode shown images": shared + job.features * own,
        "explain: read prompt": job.features * shape.hear(prefill),
        "explain: speak": job.features * shape.speak(prefill, job.answer),
    }


def kaplan(shape: Shape, job: Job, method: str) -> float:
    """The paper's estimate: 2 x parameters x tokens, the whole model for every token that it meets."""
    search, shown = job.scope(method)
    explain = 2 * shape.parameters * (shown * shape.tokens + job.prompt + job.answer)
    dictionary = 2 * shape.vision_width * job.latents
    return job.features * explain + search * shape.tokens * (2 * shape.parameters + 2 * dictionary)


def break_even(shape: Shape, job: Job) -> float:
    """How many features one could steer for the price of searching the images alone."""
    found = items(shape, job, TOP_K.masks.family)
    search = sum(v for name, v in found.items() if name.startswith("search"))
    one, two = (sum(items(shape, replace(job, features=n), STEERING.add.family).values()) for n in (1, 2))
    return 1 + (search - one) / (two - one)


def asked(vlm: VLM, prompt: str) -> int:
    """Text tokens of a question about pictures, as a model is asked it."""
    text, special = text_of(vlm.processor, 0, prompt), not is_chat(vlm.processor)
    return len(vlm.processor.tokenizer(text, add_special_tokens=special).input_ids)


def published() -> dict[str, Shape]:
    """Shapes of the paper's models, from their published configurations: ``data/paper/models.yaml``."""
    return {name: Shape(**fields["shape"]) for name, fields in yaml_of("models").items()}


def shape_of(vlm: VLM) -> Shape:
    """The shape of a loaded model, of whatever family, or of its :func:`outline`."""
    vision, text = vlm.model.config.vision_config, vlm.model.config.get_text_config()
    d, matrices = vlm.width, sum(p.numel() for p in vlm.layer.parameters() if p.ndim == 2)
    between = ("projector", "connector", "merger")  # what families call it
    shared = vlm.model.get_input_embeddings().weight is vlm.model.get_output_embeddings().weight
    return Shape(
        vision_layers=vision.num_hidden_layers,
        vision_width=d,
        vision_mlp=(matrices - 4 * d * d) // (2 * d),  # gated ones have three matrices; they count as two wider ones
        tokens=vlm.tokens,
        image_tokens=vlm.image_tokens,
        pixels=next(p for p in vlm.model.parameters() if p.ndim > 3).numel() // d,  # the convolution of the patches
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        mlp=text.intermediate_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocabulary=text.vocab_size,
        projector=sum(
            p.numel() for name, p in vlm.model.named_parameters() if p.ndim == 2 and any(b in name for b in between)
        ),
        tables=1 if shared else 2,
    )


def outline(folder: Path) -> VLM:
    """A model from its configuration alone: all weights are one zero, which takes no memory and no time to load.

    One layer of its encoder computes. What it says means nothing, but has the shape of what the real model says.

    Raises
    ------
    OSError, ValueError
        If the folder holds no configuration of a vision-language model.
    """
    from accelerate import init_empty_weights  # seconds to import, and few need it
    from transformers import AutoConfig, AutoModelForImageTextToText, AutoProcessor

    with init_empty_weights(include_buffers=False):
        model = AutoModelForImageTextToText.from_config(AutoConfig.from_pretrained(folder), dtype=torch.float32)
    thin = {p: nn.Parameter(torch.zeros(()).expand(p.shape), requires_grad=False) for p in model.parameters()}
    for module in model.modules():
        module._parameters.update({name: thin[p] for name, p in module._parameters.items() if p is not None})
    model.tie_weights()
    for layer in vision_layers(model)[1:]:
        layer.forward = lambda stream, *_, **__: stream
    return VLM(model, AutoProcessor.from_pretrained(folder), 0, folder.name)


def counted(vlm: VLM) -> int:
    """One image through encoder and projector, as PyTorch counts it.

    Attention is computed plainly meanwhile: the counter does not see into fused kernels on a CPU.
    """
    before = vlm.model.config._attn_implementation
    vlm.model.set_attn_implementation("eager")
    try:
        with FlopCounterMode(display=False) as counter, torch.inference_mode():
            vlm.model.get_image_features(**vlm.inputs([BLANK]))
    finally:
        vlm.model.set_attn_implementation(before)
    return counter.get_total_flops()
