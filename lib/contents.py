"""Digests of local files: read in chunks, once, and remembered by size and time; checksums of what is shipped."""

from __future__ import annotations

import hashlib
import os
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from filelock import FileLock

from lib.store import ROOT, RUNS, Damaged, read, short, write_json

REMEMBERED = RUNS / "contents.json"  # path -> size, times of change in ns, digest
LARGE = 4 << 20  # bytes; smaller files are read again rather than remembered
SHIPPED = ROOT / "data" / "checksums.json"  # file -> SHA-256, of all that ships and is not meant to be edited


def file_digest(path: Path) -> str:
    """SHA-256 of a file, in hexadecimal digits; a large one that has not changed since is not read again."""
    stat = path.stat()
    if stat.st_size < LARGE:
        return _whole(path)
    # Names that are no UTF-8 cannot be written as they are.
    key = os.fsencode(path.resolve()).decode("utf-8", "backslashreplace")
    known, seen = _remembered().get(key), [stat.st_size, stat.st_mtime_ns, stat.st_ctime_ns]
    if isinstance(known, list) and known[:-1] == seen:
        return known[-1]
    found = _whole(path)
    with suppress(OSError):  # a memory that is lost, or cannot be kept, costs time and nothing else
        REMEMBERED.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{REMEMBERED}.lock"):
            write_json(REMEMBERED, {**_remembered(), key: [*seen, found]})
    return found


def _whole(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()  # in chunks


def _remembered() -> dict[str, Any]:
    try:
        found = read(REMEMBERED)
    except (FileNotFoundError, Damaged):
        return {}
    return found if isinstance(found, dict) else {}


def visible(folder: Path) -> list[Path]:
    """All files below a folder, sorted; hidden and compiled ones are left out; links are followed, never back up."""
    found = []
    for here, folders, files in os.walk(folder, followlinks=True):
        place = Path(here)
        if any(os.path.samefile(place, above) for above in place.parents if above.is_relative_to(folder)):
            folders.clear()
            continue
        folders[:] = [name for name in folders if not name.startswith(".") and name != "__pycache__"]
        found += [path for name in files if not name.startswith(".") and (path := place / name).is_file()]
    return sorted(found)


def content_of(path: Path) -> str:
    """Sixteen digits that change with the content of a file, or with the names and contents of a folder's files.

    Raises
    ------
    FileNotFoundError
        If there is neither.
    """
    if not path.is_dir():
        return file_digest(path)[:16]
    lines = [f"{file.relative_to(path).as_posix()} {file_digest(file)}" for file in visible(path)]
    return hashlib.sha256("\n".join(lines).encode("utf-8", "surrogateescape")).hexdigest()[:16]


@cache
def shipped() -> dict[str, str]:
    """``data/checksums.json``: file, relative to the project -> SHA-256.

    Raises
    ------
    Damaged
        If it cannot be read.
    """
    try:
        return dict(read(SHIPPED)) if SHIPPED.is_file() else {}
    except (Damaged, TypeError, ValueError) as error:
        raise Damaged(_bring_back(short(SHIPPED))) from error


def verify_shipped(path: Path) -> Path:
    """Check a file, or the files of a folder, against the checksums that ship with the project.

    Files that are not listed pass: they are the user's own.

    Raises
    ------
    Damaged
        If a file is missing, or is not as it was shipped.
    """
    real = path.resolve()
    for name, digest in shipped().items():
        file = ROOT / name
        # Read whole, whatever its time says: a flipped bit need not change that.
        if real in (file, *file.parents) and not (file.is_file() and _whole(file) == digest):
            raise Damaged(
                f"{_bring_back(name)}, or, if you changed it on purpose, take its line out of {short(SHIPPED)}"
            )
    return path


def _bring_back(name: str) -> str:
    return f"{name} is not as it was shipped. Bring it back (`git checkout -- {name}`)"
