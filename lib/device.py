"""Where models run, in which number format, and what is done when a batch does not fit into memory."""

from __future__ import annotations

import ctypes
import os
import platform
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

import torch

T, R = TypeVar("T"), TypeVar("R")
DEVICE = "cuda" if torch.cuda.is_available() else "cpu"  # where one model or dictionary goes


def reuse_memory() -> None:
    """Have the C library keep what tensors leave, for the tensors that come next; glibc alone is told.

    It gives large blocks back to the system at once, and gets them anew, page by page: up to a third of a small
    encoder's time. Blocks of more than a GiB are given back as ever, and of what is free no more than a GiB is kept.
    """
    if sys.platform == "linux" and (mallopt := getattr(ctypes.CDLL(None), "mallopt", None)):
        mallopt(-3, 2**30)  # M_MMAP_THRESHOLD
        mallopt(-1, 2**30)  # M_TRIM_THRESHOLD


reuse_memory()


def half() -> torch.dtype:
    """The number format of judges on a GPU: bfloat16, or float16 where it has none."""
    return torch.bfloat16 if DEVICE == "cpu" or torch.cuda.is_bf16_supported() else torch.float16


def autocast() -> torch.autocast:
    """Half precision on a GPU, float32 on a processor; weights stay in float32."""
    return torch.autocast(DEVICE, half(), enabled=DEVICE == "cuda")


def quick_half(where: str = DEVICE) -> bool:
    """Whether products in bfloat16 are quicker than in float32; without units for them a processor is far slower."""
    return where != "cpu" or torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()


def products(dtype: str, where: str = DEVICE) -> torch.autocast:
    """Matrix products in ``dtype``, ``float32`` or ``bfloat16``; in float32 where bfloat16 would be slower."""
    return torch.autocast(where, torch.bfloat16, enabled=dtype == "bfloat16" and quick_half(where))


def halved(work: Callable[[Sequence[T]], list[R]], batch: Sequence[T]) -> list[R]:
    """``work(batch)``; if it does not fit into memory, the two halves of the batch one after the other.

    Raises
    ------
    torch.OutOfMemoryError
        If not even a single item fits.
    """
    try:
        return work(batch)
    except torch.OutOfMemoryError:
        if len(batch) == 1:
            raise
    # Outside of the handler, whose traceback would keep the tensors of the failed attempt alive.
    if DEVICE == "cuda":
        torch.cuda.empty_cache()
    middle = len(batch) // 2
    warnings.warn(f"a batch of {len(batch)} does not fit into memory: halved", stacklevel=2)
    return halved(work, batch[:middle]) + halved(work, batch[middle:])


def machine() -> str:
    """The processor and how many cores there are, in words."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.machine()}, {os.cpu_count()} cores"
