"""A step of SAE training beside peers', and what the dictionaries are worth after the same number of steps."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

import torch
from torch import Tensor
from torch.nn.functional import embedding_bag, linear, normalize

from lib.activations import ShuffledActivations
from lib.profile import load
from lib.run import Run
from lib.sae import fvu
from tests.benchmarks.peers import OTHERS, OWN, Shape, Trainer
from tests.benchmarks.timing import Row, compare

TITLE = "Training a dictionary"
TEXT = """
Milliseconds of one training step: gradients, clipping, Adam, unit directions. `times limit` is over the encoder's
product `linear(x, W, b)` alone, forward, which no implementation avoids; a second limit is one fused Adam step on the
four weights. `times ours` is how much faster ours is. FVU and alive latents are on held-out patches after the same
number of steps on the same patches, scaled alike, at the same learning rate, warm-up and decay; at the paper's shape
with a smaller batch, since a step of the peers takes so long. Ours is the library's `TopKStep`; the plain dense step
is what it equals to rounding (tests/test_topk_step.py). Patches at desk shape are the desk subject's residual stream;
at the paper's shape they are sparse sums of 8192 fixed directions, whose frequencies follow a power law.
`ours, bfloat16` multiplies in bfloat16 if the processor has units for it, and else is the same as `ours`.
"""

DESK = Shape(d=192, m=512, k=8, batch=2048, steps=300, lr=1e-3, dead_after=100_000)
PAPER = Shape(d=1152, m=8192, k=25, batch=4096, steps=30, lr=3e-4, dead_after=10_000_000)
SMALLER = 512  # patches per step where quality is measured at the paper's shape
TINY = Shape(d=16, m=32, k=2, batch=64, steps=4, lr=1e-3, dead_after=100)


def sums(s: Shape, batch: int) -> Iterator[Tensor]:
    """Patches ``[batch, d]`` without end: sums of ``k`` of ``m`` directions, and a mean."""
    generator = torch.Generator().manual_seed(0)
    atoms = normalize(torch.randn(s.m, s.d, generator=generator), dim=1)
    mean, often = torch.randn(s.d, generator=generator), 1 / torch.arange(10, s.m + 10).float()
    while True:
        indices = torch.multinomial(often.expand(batch, -1), s.k, generator=generator)
        z = 1 + torch.rand(batch, s.k, generator=generator) * 4
        yield embedding_bag(indices, atoms, per_sample_weights=z, mode="sum") + mean


def stream(s: Shape) -> Iterator[Tensor]:
    """Patches ``[batch, d]`` without end: the desk subject's residual stream, on its training pictures."""
    run = Run(load("desk"))
    pictures = run.sets["train"][:2000]
    held = ShuffledActivations(run.vlm, pictures, s.batch, 64, len(pictures) * run.vlm.patches, 0)
    batches = list(held.batches())
    while True:
        yield from batches


def trained(trainer: Trainer, batches: list[Tensor], held_out: Tensor) -> Row:
    """Train, and measure on held-out patches."""
    for x in batches:
        trainer.step(x)
    with torch.no_grad():
        x_hat, active = trainer.code(held_out)
    return {"FVU": fvu(held_out, x_hat), "alive": int(active.any(0).sum())}


def measured(table: str, s: Shape, patches: Iterator[Tensor], learn: Iterator[Tensor], repeats: int) -> list[Row]:
    """The rows of one shape: times on ``patches``, and quality after ``s.steps`` steps on ``learn``."""
    x = next(patches)
    norm = x.square().mean().sqrt()
    x = x / norm
    *batches, held_out = [part / norm for part in islice(learn, s.steps + 1)]
    rows: dict[str, Row] = {}
    trainers: dict[str, Trainer] = {}
    for name, build in (OWN | OTHERS).items():
        try:
            trainers[name] = build(s, x)
            rows[name] = trained(build(s, x), batches, held_out)
        except Exception as error:  # whatever a peer raises is its result
            if name in OWN:
                raise
            trainers.pop(name, None)
            rows[name] = {"note": f"absent: {type(error).__name__}: {' '.join(str(error).split())[:80]}"}
    weights, bias = torch.randn(s.m, s.d), torch.zeros(s.m)
    state = [torch.nn.Parameter(torch.randn(size)) for size in ((s.m, s.d), (s.m, s.d), (s.m,), (s.d,))]
    for parameter in state:
        parameter.grad = torch.randn_like(parameter)
    limits = {
        "limit: encoder's product": lambda: linear(x, weights, bias),
        "limit: Adam's state": torch.optim.Adam(state, fused=True).step,
    }
    work = {name: (lambda t=t: t.step(x)) for name, t in trainers.items()}
    times = compare(work | limits, repeats, warmup=1)
    ours, limit = (times[name]["median ms"] for name in ("ours", "limit: encoder's product"))
    out = []
    for name in [*OWN, *OTHERS, *limits]:
        row: Row = {"table": table, "contender": name}
        if name in times:
            median = times[name]["median ms"]
            row |= times[name] | {"times limit": median / limit, "times ours": median / ours}
        out.append(row | rows.get(name, {}))
    return out


def run(tiny: bool = False) -> list[Row]:
    """Both shapes."""
    if tiny:
        return measured("Tiny", TINY, sums(TINY, TINY.batch), sums(TINY, TINY.batch), 1)
    rows = []
    desk = stream(DESK)
    name = "Desk shape: {s.d} x {s.m}, k {s.k}, batch {s.batch}; quality after {s.steps} steps"
    rows += measured(name.format(s=DESK), DESK, desk, desk, 21)
    name = "Paper's shape: {s.d} x {s.m}, k {s.k}, batch {s.batch}; quality after {s.steps} steps of " + str(SMALLER)
    return rows + measured(name.format(s=PAPER), PAPER, sums(PAPER, PAPER.batch), sums(PAPER, SMALLER), 3)
