"""Explaining latents: everything for every latent, everything for every batch, and what the library does."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from typing import Any

import torch
from torch.nn.functional import normalize

from lib import prompts
from lib.families import is_chat, text_of
from lib.hooks import Intervention
from lib.images import BLANK
from lib.profile import load
from lib.questions import Question
from lib.run import Run
from lib.vlm import VLM
from tests.benchmarks.timing import Row

TITLE = "Explaining latents"
TEXT = """
Seconds of explaining latents with desk subject A, and latents per second. The plain way hands pictures and prompt to
the processor and to `generate`, with the hook that steers, as one would write it down: for each latent alone, or for
a batch. Ours makes once what questions share: texts, pixels, and the stream below the steered layer, which is also
kept for pictures that another method shows again. `same texts` is the share of answers that equal those of the plain
batch. Shown pictures are scenes; directions are random.

Where the time goes: `encode`, the vision encoder with its projector; `prefill`, the first pass of the language model;
`decode`, its other passes; `processor`, pixels and token ids; `rest`, Python around them.
The few words that stand before the first picture are read with the rest (`before`, a share of the prompt's
positions): a cache of their own would save no more than that.
"""

LATENTS, BATCH, SHOWN, LENGTH = 64, 320, 5, 16


def plain(vlm: VLM, questions: list[Question], change: Intervention | None) -> list[str]:
    """Answers without anything shared."""
    texts = [text_of(vlm.processor, len(q.images), q.prompt) for q in questions]
    how = {"padding": True, "return_tensors": "pt", "add_special_tokens": not is_chat(vlm.processor)}
    with torch.inference_mode(), vlm._edited(change):
        inputs = vlm.processor(images=[list(q.images) for q in questions], text=texts, **how, **vlm._whole)
        out = vlm.model.generate(**inputs, max_new_tokens=LENGTH)
    return vlm.processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)


@contextmanager
def watched(vlm: VLM) -> Iterator[dict[str, float]]:
    """Seconds inside the parts of a model."""
    spent: dict[str, float] = defaultdict(float)

    def timed(name: Callable[[Any], str], work: Callable) -> Callable:
        @wraps(work)  # `generate` looks at signatures
        def inner(*args: Any, **more: Any) -> Any:
            begun = time.perf_counter()
            try:
                return work(*args, **more)
            finally:
                spent[name(more)] += time.perf_counter() - begun

        return inner

    def phase(more: dict[str, Any]) -> str:
        return "prefill" if more["inputs_embeds"].shape[1] > 1 else "decode"

    model, images, tokenizer = vlm.model.model, vlm.processor.image_processor, vlm.processor.tokenizer
    places = [(model, "get_image_features", lambda _: "encode"), (model.language_model, "forward", phase)]
    prepares = (tokenizer, "_encode_plus"), (images, "preprocess")
    places += [(place, name, lambda _: "processor") for place, name in prepares]
    before = [(place, name, getattr(place, name)) for place, name, _ in places]
    for place, name, kind in places:
        setattr(place, name, timed(kind, getattr(place, name)))
    try:
        yield spent
    finally:
        for place, name, old in before:
            setattr(place, name, old)


def asked(run: Run, latents: int) -> dict[str, tuple[list[Question], Callable[[list[int]], Intervention | None]]]:
    """Questions of each method, and how some of them are steered."""
    vlm, scenes = run.vlm, run.sets["explain"]
    generator = torch.Generator().manual_seed(0)
    push = 60 * normalize(torch.randn(latents, vlm.width, generator=generator), dim=1)
    shown = [tuple(scenes[SHOWN * i + j] for j in range(SHOWN)) for i in range(latents)]
    where = torch.rand(latents * SHOWN, vlm.patches, generator=generator) < 0.2

    def hybrid(rows: list[int]) -> Intervention:
        pictures = [SHOWN * row + j for row in rows for j in range(SHOWN)]
        return Intervention(push[rows].repeat_interleave(SHOWN, 0), "add", vlm.positions(where[pictures]))

    show = [Question(pictures, prompts.TOP_K["masks"]) for pictures in shown]
    return {
        "Steering": ([Question((BLANK,), prompts.STEERING)] * latents, lambda rows: Intervention(push[rows])),
        "Top-k": (show, lambda rows: None),
        "Steering-informed Top-k, same pictures again": (show, hybrid),
    }


def run(tiny: bool = False) -> list[Row]:
    """All methods, three ways."""
    latents, one = (4, Run(load("smoke"))) if tiny else (LATENTS, Run(load("desk")))
    vlm, rows = one.vlm, []
    vlm.answer([Question((BLANK, BLANK), "What?")], 2)  # imports, first calls
    for method, (questions, steered) in asked(one, latents).items():
        size = max(1, BATCH // len(questions[0].images))
        parts = [list(range(i, min(i + size, latents))) for i in range(0, latents, size)]
        ways = {
            "plain, latent by latent": (plain, [[i] for i in range(latents)]),
            "plain, in batches": (plain, parts),
            "ours": (lambda model, some, change: model.answer(some, LENGTH, change), parts),
        }
        said: dict[str, list[str]] = {}
        for way, (answer, groups) in ways.items():
            begun = time.perf_counter()
            with watched(vlm) as spent:
                said[way] = [t for g in groups for t in answer(vlm, [questions[i] for i in g], steered(g))]
            whole = time.perf_counter() - begun
            inner = {name: spent[name] / whole for name in ("encode", "prefill", "decode", "processor")}
            rows.append(
                {"table": method, "contender": way, "seconds": whole, "latents/s": latents / whole}
                | inner
                | {"rest": 1 - sum(inner.values())}
            )
        for row in rows[-3:]:
            pairs = zip(said[row["contender"]], said["plain, in batches"])
            row["times the loop"] = rows[-3]["seconds"] / row["seconds"]
            row["same texts"] = sum(a == b for a, b in pairs) / latents
            row["before"] = _before(vlm, questions[0])
    return rows


def _before(vlm: VLM, question: Question) -> float:
    """Share of a prompt's positions that come before its first picture."""
    text = text_of(vlm.processor, len(question.images), question.prompt)
    ids = vlm.processor(images=[list(question.images)], text=[text], return_tensors="pt", **vlm._whole)["input_ids"][0]
    return float((ids == vlm.model.config.image_token_id).nonzero()[0, 0]) / len(ids)
