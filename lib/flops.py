"""What an explanation costs (appendix F): FLOPs of the three methods, item by item, from real shapes.

One multiplication and one addition count as two FLOPs. Only matrix products are counted (they are
all but a few per cent); norms, activations and soft-max are left out, as in the counted pass that
the tests compare with. The paper's estimate, 2 x parameters x tokens (Kaplan et al.), is there too.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import pandas as pd
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from lib.images import BLANK
from lib.store import ROOT
from lib.vlm import VLM


@dataclass(frozen=True)
class Shape:
    """The shape of a vision-language model.

    Attributes
    ----------
    vision_layers, vision_width, vision_mlp : the encoder.
    tokens : positions of the encoder per image, with a class token if there is one.
    image_tokens : soft tokens per image in the language model.
    pixels : numbers in one patch (3 x patch x patch).
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


@dataclass(frozen=True)
class Job:
    """What is to be explained, and how.

    Attributes
    ----------
    features : features explained.
    images : images searched for the top images.
    k : top images shown.
    prompt, answer : text tokens.
    layer : layers of the encoder that an activation needs.
    latents : size of the dictionary.
    """

    features: int
    images: int
    k: int
    prompt: int
    answer: int
    layer: int
    latents: int


METHODS = ("Steering", "Top-k", "Steering-informed Top-k")


def items(shape: Shape, job: Job, method: str) -> dict[str, float]:
    """FLOPs of explaining all features, by item.

    Raises
    ------
    KeyError
        If there is no such method.
    """
    if method not in METHODS:
        raise KeyError(f"no method {method!r}; there are {', '.join(METHODS)}")
    shown = 1 if method == "Steering" else job.k
    prefill = shown * shape.image_tokens + job.prompt
    spoken = sum(shape.read(1, prefill + i) + shape.logits() for i in range(1, job.answer))
    search = 0 if method == "Steering" else job.images
    return {
        "search: encode images": search * shape.see(job.layer),
        "search: dictionary": search * 2 * shape.tokens * shape.vision_width * job.latents,
        "explain: encode shown images": job.features * shown * (shape.see() + shape.project()),
        "explain: read prompt": job.features * (shape.read(prefill) + shape.logits()),
        "explain: speak": job.features * spoken,
    }


def kaplan(shape: Shape, job: Job, method: str) -> float:
    """The paper's estimate: 2 x parameters x tokens, the whole model for every token that it meets."""
    per_answer = job.prompt + job.answer
    shown = 1 if method == "Steering" else job.k
    explain = 2 * shape.parameters * (shown * shape.tokens + per_answer)
    dictionary = 2 * shape.vision_width * job.latents
    search = 0 if method == "Steering" else job.images * shape.tokens * (2 * shape.parameters + 2 * dictionary)
    return job.features * explain + search


def break_even(shape: Shape, job: Job) -> float:
    """How many features one could steer for the price of searching the images alone."""
    search = sum(v for name, v in items(shape, job, "Top-k").items() if name.startswith("search"))
    return search / (sum(items(shape, job, "Steering").values()) / job.features)


def published() -> dict[str, Shape]:
    """Shapes of the paper's models, from their published configurations: ``data/paper/models.yaml``."""
    tree = yaml.safe_load((ROOT / "data" / "paper" / "models.yaml").read_text())
    return {name: Shape(**fields["shape"]) for name, fields in tree.items()}


def shape_of(vlm: VLM) -> Shape:
    """The shape of a loaded model: Gemma 3, InternVL, SmolVLM and their like."""
    config = vlm.model.config
    vision, text = config.vision_config, config.get_text_config()
    side = vision.patch_size if isinstance(vision.patch_size, int) else vision.patch_size[0]
    between = ("projector", "connector", "merger")  # what families call it
    projector = sum(
        p.numel() for name, p in vlm.model.named_parameters() if p.ndim == 2 and any(word in name for word in between)
    )
    return Shape(
        vision_layers=vision.num_hidden_layers,
        vision_width=vision.hidden_size,
        vision_mlp=vision.intermediate_size,
        tokens=vlm.tokens,
        image_tokens=vlm.image_tokens,
        pixels=3 * side * side,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        mlp=text.intermediate_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocabulary=text.vocab_size,
        projector=projector,
    )


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


def cost_effects(jobs: dict[str, tuple[Shape, Job]]) -> pd.DataFrame:
    """Ratios of total costs for every model, itemised and by the paper's estimate. Exact, so without intervals."""
    rows = []
    for model, (shape, job) in jobs.items():
        for count, total in (
            ("itemised", lambda m: sum(items(shape, job, m).values())),
            ("kaplan", lambda m: kaplan(shape, job, m)),
        ):
            for what, a, b in (("Top-k / Steering", "Top-k", "Steering"), ("hybrid / Top-k", METHODS[2], "Top-k")):
                ratio = total(a) / total(b)
                rows.append(
                    {"what": what, "model": model, "count": count, "estimate": ratio, "low": ratio, "high": ratio}
                )
        even = break_even(shape, job)
        rows.append(
            {"what": "break even", "model": model, "count": "itemised", "estimate": even, "low": even, "high": even}
        )
    return pd.DataFrame(rows)
