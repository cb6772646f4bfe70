"""Memory of the streaming stages at the paper's size: is it flat in the number of images?"""

from __future__ import annotations

import json
import resource
import subprocess
import sys

import torch

from lib.codes import CodeBatch
from lib.kept import Scores, TopImages
from lib.sae import TopKSAE, quality
from tests.benchmarks.timing import Row

TITLE = "Memory of the streaming stages"
TEXT = """
Peak memory of the pass that gathers evidence, at the paper's size, against the number of images: it should not grow
with them. Each number of images runs in a process of its own. Activations are synthetic, since what the encoder needs
is another matter; dictionary and observers are the real ones.
"""

PAPER = {"latents": 8192, "k": 25, "patches": 4096, "width": 1152, "keep": 10, "batch": 4}
TINY = {"latents": 32, "k": 2, "patches": 16, "width": 8, "keep": 2, "batch": 4}


@torch.inference_mode()
def measure(images: int, latents: int, k: int, patches: int, width: int, keep: int, batch: int) -> Row:
    """Stream ``images`` pictures' worth of activations; the peak is this process's."""
    torch.manual_seed(0)
    sae = TopKSAE(width, latents, k)
    top, scores = TopImages(latents, keep, patches), Scores(latents, range(0, images, 7))
    for first in range(0, images, batch):
        acts = torch.randn(batch, patches, width)
        values, indices = sae.encode_sparse(acts)
        codes = CodeBatch(torch.arange(first, first + batch), values, indices)
        top.see(codes)
        scores.see(codes)
    quality(sae, iter([acts[0]]))
    return {
        "table": f"{latents} latents, k {k}, {patches} patches, {width} wide",
        "images": images,
        "peak GiB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20,
        "kept heatmaps GiB": top.result().heat.numel() * 4 / 2**30,
        "all codes would be GiB": images * patches * latents * 4 / 2**30,
    }


def run(tiny: bool = False) -> list[Row]:
    """The peak at two numbers of images."""
    rows = []
    for images in (4, 8) if tiny else (40, 120):
        asked = json.dumps({"images": images, **(TINY if tiny else PAPER)})
        made = subprocess.run(
            [sys.executable, "-m", "tests.benchmarks.streaming_memory", asked], check=True, stdout=subprocess.PIPE
        )
        rows.append(json.loads(made.stdout))
    return rows


if __name__ == "__main__":
    print(json.dumps(measure(**json.loads(sys.argv[1]))))
