"""Memory of the streaming stages at the paper's size: is it flat in the number of images?

Run: python tests/benchmarks/streaming_memory.py [images ...]     (default: 40 120; half a second an image)
Each number of images runs in a process of its own: 8192 latents, k = 25, 4096 patches, 1152 wide. Activations are
synthetic, since what the encoder needs is another matter; dictionary and observers are the real ones.
"""

import resource
import subprocess
import sys

import torch

from lib.codes import CodeBatch
from lib.kept import Scores, TopImages
from lib.sae import TopKSAE, quality

LATENTS, K, PATCHES, WIDTH, KEEP, BATCH = 8192, 25, 4096, 1152, 10, 4


def gib() -> float:
    """Peak memory of this process so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20


@torch.inference_mode()
def measure(images: int) -> None:
    """Stream ``images`` pictures' worth of activations, and print the peak."""
    torch.manual_seed(0)
    sae = TopKSAE(WIDTH, LATENTS, K)
    top, scores = TopImages(LATENTS, KEEP, PATCHES), Scores(LATENTS, range(0, images, 7))
    for first in range(0, images, BATCH):
        acts = torch.randn(BATCH, PATCHES, WIDTH)
        values, indices = sae.encode_sparse(acts)
        codes = CodeBatch(torch.arange(first, first + BATCH), values, indices)
        top.see(codes)
        scores.see(codes)
    quality(sae, iter([acts[0]]))
    result = top.result()
    dense = images * PATCHES * LATENTS * 4 / 2**30
    print(
        f"{images:5} images: peak {gib():.2f} GiB; kept heatmaps {result.heat.numel() * 4 / 2**30:.2f} GiB; "
        f"all codes of all patches would be {dense:,.0f} GiB"
    )


if __name__ == "__main__":
    if len(sys.argv) == 3 and sys.argv[1] == "--one":
        measure(int(sys.argv[2]))
    else:
        for images in sys.argv[1:] or ["40", "120"]:
            subprocess.run([sys.executable, __file__, "--one", images], check=True)
