"""Results on disk: written atomically, kept under a digest of everything they depend on."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]  # the project's folder


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


def write_json(path: Path, value: Any) -> Path:
    """Write JSON atomically."""
    return write_atomically(path, lambda target: target.write_text(json.dumps(value, indent=1) + "\n"))


def digest(*parts: Any) -> str:
    """Twelve hexadecimal digits that change whenever any of the parts does."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()[:12]


@cache
def files_digest(files: Iterable[Path]) -> str:
    """Digest of the contents of files; a folder stands for all files in it."""
    total = hashlib.sha256()
    for path in files:
        for file in sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]:
            total.update(file.name.encode() + b"\0" + file.read_bytes())
    return total.hexdigest()[:12]


def code(*modules: str) -> str:
    """Digest of the library's modules (``"sae"``) and packages (``"scenes"``) that make a result."""
    return files_digest(tuple(ROOT / "lib" / (m if (ROOT / "lib" / m).is_dir() else f"{m}.py") for m in modules))


def model_digest(model: str, revision: str | None = None) -> str:
    """What identifies a model: the contents of a local folder, or the id and revision on the hub."""
    local = ROOT / model
    return files_digest((local,)) if local.is_dir() else digest(model, revision)


@dataclass(frozen=True)
class Stage:
    """The folder of one stage's results.

    Attributes
    ----------
    folder : where results are kept; its name carries the digest of all they depend on.
    notebook : number and name of the notebook that makes them.
    profile : name of the profile, for messages.
    """

    folder: Path
    notebook: str
    profile: str

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
            raise MissingStage(
                f"{name} is missing: needs {self.notebook} first. "
                f"Run ./run_all.sh --profile {self.profile} --only {self.notebook[:2]}"
            )
        return path
