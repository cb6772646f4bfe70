"""Results on disk: written atomically, read with an error that says what to do, added to under a lock."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from filelock import FileLock
from safetensors import SafetensorError

if TYPE_CHECKING:
    import torch

ROOT = Path(__file__).resolve().parents[1]  # the project's folder
RUNS = ROOT / "data" / "runs"  # all that can be made again

MADE = "STEERING_COMPANION_MADE"  # environment variable: file in which tables, figures and stages are noted


class MissingStage(RuntimeError):
    """A result that an earlier notebook must make first."""


class Damaged(RuntimeError):
    """A file of results that cannot be read; the message says what to remove."""


def write_atomically(path: Path, write: Callable[[Path], object]) -> Path:
    """Let ``write`` fill a temporary file beside ``path``, then move it there in one step.

    A run that is killed leaves the old file or the new one, never half of either.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{os.getpid()}-{path.name}")
    try:
        write(temporary)
        os.replace(temporary, path)
    finally:
        temporary.unlink(missing_ok=True)
    return path


def write_text(path: Path, text: str) -> Path:
    """Write UTF-8 text atomically."""
    return write_atomically(path, lambda target: target.write_text(text, encoding="utf-8"))


def write_json(path: Path, value: Any) -> Path:
    """Write JSON atomically."""
    return write_text(path, json.dumps(value, indent=1, ensure_ascii=False) + "\n")


def write_table(path: Path, table: pd.DataFrame) -> Path:
    """Write a table as Parquet, atomically."""
    return write_atomically(path, lambda target: table.to_parquet(target, index=False))


def write_array(path: Path, values: np.ndarray) -> Path:
    """Write an array as ``.npy``, atomically."""

    def write(target: Path) -> None:
        with target.open("wb") as file:  # np.save would add a suffix to a name
            np.save(file, values)

    return write_atomically(path, write)


def write_tensors(path: Path, tensors: dict[str, torch.Tensor], metadata: dict[str, str] | None = None) -> Path:
    """Write named tensors as safetensors, atomically."""
    from safetensors.torch import save_file  # imports torch, for which who reads tables need not wait

    whole = {name: tensor.contiguous() for name, tensor in tensors.items()}
    return write_atomically(path, lambda target: save_file(whole, target, metadata=metadata))


def _tensors(path: Path) -> dict[str, torch.Tensor]:
    from safetensors.torch import load_file

    return load_file(path)


_READERS: dict[str, Callable[[Path], Any]] = {
    ".json": lambda path: json.loads(path.read_text(encoding="utf-8")),
    ".parquet": pd.read_parquet,
    ".npy": lambda path: np.load(path, allow_pickle=False),
    ".safetensors": _tensors,
    ".csv": pd.read_csv,
}


def read(path: Path) -> Any:
    """What one of the writers above has left: JSON, a table, an array, or tensors, by the file's suffix.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    Damaged
        If it is empty, truncated, or otherwise not what its suffix says.
    """
    try:
        return _READERS[path.suffix](path)
    except FileNotFoundError:
        raise
    except (OSError, ValueError, EOFError, SafetensorError) as error:  # Arrow's and JSON's errors are ValueErrors
        why = " ".join(str(error).split())[:200]
        raise Damaged(f"{short(path)} is damaged ({why}). Remove it and run again: it is then made anew") from error


def add_rows(path: Path, new: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Add rows to a table on disk (Parquet), where it has none of these ``names`` yet; returns the whole table.

    Notebooks that run side by side may add to one table; under a lock none loses what another has added.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            known = read(path)
            there = pd.MultiIndex.from_frame(new[names]).isin(pd.MultiIndex.from_frame(known[names]))
            new = pd.concat([known, new[~there]], ignore_index=True)
        write_table(path, new)
    return new


def short(path: Path) -> str:
    """A path as messages show it: relative to the project if it is inside."""
    return str(path.relative_to(ROOT)) if path.is_relative_to(ROOT) else str(path)


def note(kind: str, path: Path) -> Path:
    """Tell the runner, if there is one, of a file that was ``made`` or ``used``, or of a ``stage``'s folder."""
    if MADE in os.environ:
        with open(os.environ[MADE], "a", encoding="utf-8") as notes:
            notes.write(f"{kind}\t{short(path)}\n")
    return path
