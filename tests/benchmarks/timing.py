"""Times contenders side by side: in one process, one after the other, again and again."""

from __future__ import annotations

import os
import platform
import statistics
import time
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import torch

Row = dict[str, str | int | float | None]


def compare(contenders: dict[str, Callable[[], object]], repeats: int = 5, warmup: int = 1) -> dict[str, Row]:
    """Milliseconds of each contender: ``median``, ``min``, ``max``, and over how many ``repeats``.

    All run once in each round, so that a busy moment of the machine meets everyone; rounds of warm-up do not count.
    """
    times: dict[str, list[float]] = {name: [] for name in contenders}
    for turn in range(warmup + repeats):
        for name, work in contenders.items():
            start = time.perf_counter()
            work()
            if torch.cuda.is_available():
                torch.cuda.synchronize()
            if turn >= warmup:
                times[name].append(1000 * (time.perf_counter() - start))
    return {
        name: {"median ms": statistics.median(t), "min ms": min(t), "max ms": max(t), "repeats": len(t)}
        for name, t in times.items()
    }


def machine() -> Row:
    """What the numbers depend on: processor, what it can, threads, how busy it is, and versions."""
    info = Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    name = next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), platform.processor())
    amx, bf16 = torch.cpu._is_amx_tile_supported(), torch.cpu._is_avx512_bf16_supported()
    return {
        "processor": name,
        "capability": " ".join([torch.backends.cpu.get_cpu_capability(), *["AMX"] * amx, *["AVX512_BF16"] * bf16]),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "load before": round(os.getloadavg()[0], 1),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else "none",
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def version_of(package: str) -> str:
    """The installed version of a package, or ``absent``."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "absent"
