"""Folders of pictures, of any depth and size."""

from __future__ import annotations

import hashlib
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lib.identity import NOT_PART
from lib.photos.decode import OTHERS, SUFFIXES, read
from lib.store import ROOT


def _text(path: str) -> str:
    """A path as text; names are bytes, and what is no UTF-8 is spelled out (``caf\\xe9.jpg``)."""
    return path.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


@dataclass(frozen=True)
class Folder:
    """Picture files.

    Attributes
    ----------
    paths : absolute; text, since a million ``Path`` objects fill half a gigabyte.
    root : the folder itself.
    left_out : files and folders below it that cannot be used, and why.
    """

    paths: tuple[str, ...] = field(metadata=NOT_PART)  # see `identity`
    root: str = ""
    left_out: tuple[tuple[str, str], ...] = field(default=(), metadata=NOT_PART)

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, i: int) -> str:
        """Path of file ``i``, relative to the project if it is inside."""
        return _text(self.paths[i].removeprefix(f"{ROOT}{os.sep}"))

    def read(self, i: int) -> Image.Image:
        """Picture in file ``i``; raises :class:`UnreadableImage`."""
        return read(Path(self.paths[i]), self.name(i))

    def identity(self, order: np.ndarray | None = None) -> dict[str, Any]:
        """The folder's name, and a digest of names, sizes and times of exactly these pictures, in order.

        Names are relative to the folder, which may move. No file is opened: five seconds for a million.
        """
        places = range(len(self)) if order is None else order.tolist()
        inside, lines = self.root + os.sep, []
        for path in map(self.paths.__getitem__, places):
            try:
                stat = os.stat(path)
                seen = f"{stat.st_size} {stat.st_mtime_ns}"
            except OSError:
                seen = "gone since it was listed"
            lines.append(f"{path.removeprefix(inside)}\0{seen}")
        told = "\n".join(lines).encode("utf-8", "surrogateescape")
        name = _text(os.path.basename(self.root))
        return {"folder": name, "n": len(lines), "pictures": hashlib.sha256(told).hexdigest()[:16]}


def folder(path: Path) -> Folder:
    """All picture files below a folder, sorted; hidden ones are left out, links are followed, no file comes twice.

    What cannot be looked into, leads nowhere, or is a picture of a format that is not decoded, is left out and named.

    Raises
    ------
    FileNotFoundError
        If there are none.
    """
    found: set[str] = set()
    missed: dict[str, str] = {}
    seen, todo = set(), [os.path.realpath(path)]
    root = todo[0]
    while todo:
        here = todo.pop()
        if here in seen:
            continue  # a link led here, or back here
        seen.add(here)
        try:
            with os.scandir(here) as entries:
                for entry in entries:
                    if not entry.name.startswith("."):
                        _sort(entry, found, todo, missed)
        except OSError as error:  # no permission, as for a disk's lost+found; or it is gone
            missed[_text(here)] = error.strerror or str(error)
    left_out = tuple(sorted(missed.items()))
    if not found:
        why = "".join(f"; left out: {len(left_out)}, the first {name}: {reason}" for name, reason in left_out[:1])
        raise FileNotFoundError(
            f"no pictures below {path}: looked for {' '.join(SUFFIXES)} (any case, in all sub-folders, none hidden)"
            + why
        )
    return Folder(tuple(sorted(found)), root, left_out)


def _sort(entry: os.DirEntry[str], found: set[str], todo: list[str], missed: dict[str, str]) -> None:
    """Put what a folder holds where it belongs."""
    suffix = os.path.splitext(entry.name)[1].lower()
    try:
        target = os.path.realpath(entry.path) if entry.is_symlink() else entry.path
        if entry.is_dir():
            todo.append(target)
        elif suffix in SUFFIXES and entry.is_file():
            found.add(target)
        elif suffix in SUFFIXES:
            missed[_text(entry.path)] = "no file, or a link that leads nowhere"
        elif suffix in OTHERS:
            missed[_text(entry.path)] = f"{suffix[1:].upper()} is not decoded: convert it to JPEG or PNG"
    except OSError as error:  # a link to itself
        missed[_text(entry.path)] = error.strerror or str(error)
