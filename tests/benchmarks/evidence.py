"""Keeping the top images of every latent, beside a loop over latents and beside what the codes themselves cost."""

from __future__ import annotations

import time
from collections.abc import Iterator

import torch
from torch.nn.functional import linear

from lib.codes import CodeBatch
from lib.kept import TopImages
from lib.profile import load
from lib.run import Run
from tests.benchmarks.timing import Row, compare

TITLE = "Gathering evidence"
TEXT = """
Milliseconds of taking one batch of codes into the top images of all latents, after some batches have been seen. The
plain way goes latent by latent: its codes of every patch, their mean over each picture, and the best of old and new.
Both keep the same pictures and heatmaps. The limits: the dictionary's product for these patches, forward, without
which there are no codes; and, at desk shape, the encoder's own time for the same pictures. At the paper's shape the
encoder is left out: it has more than a hundred times the products of the dictionary. Codes are drawn at random from
power-law latents.
"""

# latents, patches, k, width, pictures in a batch, batches seen before
DESK, PAPER, TINY = (512, 64, 8, 192, 64, 40), (8192, 4096, 25, 1152, 8, 12), (16, 4, 2, 8, 4, 2)
KEEP = 10


class Plain:
    """Top images, one latent after the other."""

    def __init__(self, latents: int, patches: int) -> None:
        self.score = torch.zeros(latents, KEEP)
        self.image = torch.full((latents, KEEP), -1)
        self.heat = torch.zeros(latents, KEEP, patches)

    def see(self, codes: CodeBatch, latents: int | None = None) -> None:
        """Take in a batch, for the first so many latents."""
        for latent in range(latents or len(self.score)):
            heat = (codes.values * (codes.indices == latent)).sum(-1)  # [images, patches]
            score = torch.cat([self.score[latent], heat.mean(1)])
            best = score.argsort(descending=True, stable=True)[:KEEP]
            self.image[latent] = torch.cat([self.image[latent], codes.images])[best]
            self.heat[latent] = torch.cat([self.heat[latent], heat])[best]
            self.score[latent] = score[best]


def codes(latents: int, patches: int, k: int, batch: int) -> Iterator[CodeBatch]:
    """Random codes without end: some latents are far more frequent than others."""
    generator = torch.Generator().manual_seed(0)
    often = 1 / torch.arange(10, latents + 10).float()
    first = 0
    while True:
        indices = torch.multinomial(often.expand(batch * patches, -1), k, generator=generator)
        values = torch.rand(batch, patches, k, generator=generator)
        yield CodeBatch(torch.arange(first, first + batch), values, indices.view(batch, patches, k))
        first += batch


def measured(name: str, shape: tuple[int, ...], some: int, repeats: int) -> list[Row]:
    """The rows of one shape; the plain way is timed on ``some`` latents, and its time multiplied."""
    latents, patches, k, width, batch, before = shape
    stream = codes(latents, patches, k, batch)
    ours, plain = TopImages(latents, KEEP, patches), Plain(latents, patches)
    for _ in range(before):
        ours.see(next(stream))
    later = [next(stream) for _ in range(repeats + 1)]
    x, weights = torch.randn(batch * patches, width), torch.randn(latents, width)
    turns = {"ours": iter(later), "plain": iter(later)}
    work = {
        "ours": lambda: ours.see(next(turns["ours"])),
        f"plain, {some} latents": lambda: plain.see(next(turns["plain"]), some),
        "limit: the dictionary's product": lambda: linear(x, weights),
    }
    times = compare(work, repeats)
    mine = times["ours"]["median ms"]
    table = f"{name}: {latents} latents, k {k}, {patches} patches, batches of {batch} pictures"
    rows = []
    for contender, row in times.items():
        whole = latents / some if contender.startswith("plain") else 1
        slower = {"times ours, all latents": whole * row["median ms"] / mine}
        rows.append({"table": table, "contender": contender, **row, **slower})
    return rows


def encoder(shape: tuple[int, ...], ours: float) -> Row:
    """The desk subject's own time for as many pictures."""
    run = Run(load("desk"))
    pictures = [run.sets["explain"][i] for i in range(shape[4])]
    run.vlm.residual(pictures)
    begun = time.perf_counter()
    run.vlm.residual(pictures)
    spent = 1000 * (time.perf_counter() - begun)
    slower = {"times ours, all latents": spent / ours}
    return {"contender": "limit: the encoder up to its layer", "median ms": spent, **slower}


def run(tiny: bool = False) -> list[Row]:
    """Both shapes."""
    if tiny:
        return measured("Tiny", TINY, 16, 1)
    desk = measured("Desk shape", DESK, 512, 7)
    desk.append({"table": desk[0]["table"], **encoder(DESK, desk[0]["median ms"])})
    return desk + measured("Paper's shape", PAPER, 64, 3)
