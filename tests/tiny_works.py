"""Work that can be watched, and that fails, on the workers of a cluster."""

from __future__ import annotations

import os
import signal
from dataclasses import dataclass
from pathlib import Path

import torch


@dataclass(frozen=True)
class Square:
    """Squares numbers; says nothing of who does it."""

    model: None = None

    def __call__(self, shard, load):
        return shard**2


@dataclass(frozen=True)
class Who:
    """Says which process it is, and how many threads it has."""

    model: None = None

    def __call__(self, shard, load):
        return os.getpid(), torch.get_num_threads()


@dataclass(frozen=True)
class Fail:
    """Raises, at one shard."""

    at: int
    model: None = None

    def __call__(self, shard, load):
        if shard == self.at:
            raise ArithmeticError(f"shard {shard} is bad")
        return shard


@dataclass(frozen=True)
class Die:
    """Ends its worker at one shard, every time; the tries are files in a folder."""

    folder: Path
    at: int
    model: None = None

    def __call__(self, shard, load):
        if shard == self.at:
            (self.folder / str(os.getpid())).touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return shard**2
