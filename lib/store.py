"""Results on disk: written atomically, kept under a digest of everything they depend on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd
from filelock import FileLock

ROOT = Path(__file__).resolve().parents[1]  # the project's folder


MADE = "STEERING_COMPANION_MADE"  # environment variable: file in which tables and figures are noted


class MissingStage(RuntimeError):
    """A result that an earlier notebook must make first."""


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


def note_made(path: Path) -> Path:
    """Tell the runner, if there is one, that a table or figure was written."""
    if MADE in os.environ:
        with open(os.environ[MADE], "a") as notes:
            notes.write(f"{path.relative_to(ROOT)}\n")
    return path


def write_json(path: Path, value: Any) -> Path:
    """Write JSON atomically."""
    return write_atomically(path, lambda target: target.write_text(json.dumps(value, indent=1) + "\n"))


def add_rows(path: Path, new: pd.DataFrame, names: list[str]) -> pd.DataFrame:
    """Add rows to a table on disk (Parquet), where it has none of these ``names`` yet; returns the whole table.

    Notebooks that run side by side may add to one table; under a lock none loses what another has added.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        if path.exists():
            known = pd.read_parquet(path)
            there = pd.MultiIndex.from_frame(new[names]).isin(pd.MultiIndex.from_frame(known[names]))
            new = pd.concat([known, new[~there]], ignore_index=True)
        write_atomically(path, lambda target: new.to_parquet(target, index=False))
    return new


def digest(*parts: Any) -> str:
    """Twelve hexadecimal digits that change whenever any of the parts does."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


@cache
def files_digest(files: tuple[Path, ...]) -> str:
    """Digest of the contents of files; a folder stands for all visible files in it, compiled ones left out."""
    total = hashlib.sha256()
    for path in files:
        inside = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
        for file in inside:
            name = file.relative_to(path.parent)
            if "__pycache__" not in name.parts and not any(part.startswith(".") for part in name.parts):
                total.update(str(name).encode() + b"\0" + file.read_bytes())
    return total.hexdigest()[:12]


def code(*modules: str) -> str:
    """Digest of the library's modules (``"sae"``) and packages (``"scenes"``) that make a result."""
    return files_digest(tuple(ROOT / "lib" / (m if (ROOT / "lib" / m).is_dir() else f"{m}.py") for m in modules))


def hub_id(model: str) -> tuple[str, str | None]:
    """``id@revision``, as profiles name what is on the hub, in its two parts; without ``@`` the second is None."""
    name, _, revision = model.partition("@")
    return name, revision or None


def model_digest(model: str) -> str:
    """What identifies a model: the contents of a local folder, or its id and revision on the hub."""
    local = ROOT / model
    return files_digest((local,)) if local.is_dir() else digest(model)


@dataclass(frozen=True)
class Stage:
    """The folder of one stage's results.

    Attributes
    ----------
    folder : where results are kept; its name carries the digest of all they depend on.
    command : what to type to make them.
    """

    folder: Path
    command: str

    def path(self, name: str) -> Path:
        """Where a result is, or will be."""
        return self.folder / name

    def need(self, name: str) -> Path:
        """Where a result is.

        Raises
        ------
        MissingStage
            If it has not been made, or was made with other settings.
        """
        path = self.folder / name
        if not path.exists():
            raise MissingStage(f"{name} has not been made with these settings yet. Run {self.command}")
        return path
