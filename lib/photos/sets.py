"""Sets of photographs that cannot overlap, and the log of those that could not be read."""

from __future__ import annotations

import csv
import warnings
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from filelock import FileLock
from PIL import Image

from lib.hub import Asset
from lib.identity import NOT_PART
from lib.images import UnreadableImage
from lib.photos.source import Source, SourceUnavailable, open_source
from lib.store import short, write_atomically


@dataclass(frozen=True, eq=False)  # arrays have no plain equality; compare ids
class Photographs(Sequence):
    """Some pictures of a source. None is held in memory.

    Attributes
    ----------
    source : where they come from.
    order : their places in it, ``[n]`` integers.
    skipped : CSV log of those that could not be read: ``name,reason``, each once.
    """

    source: Source
    order: np.ndarray
    skipped: Path = field(metadata=NOT_PART)

    def __len__(self) -> int:
        return len(self.order)

    def __getitem__(self, index: int | slice) -> Image.Image | Photographs:
        """Picture ``index`` of the set; a slice is a smaller set.

        Raises
        ------
        UnreadableImage
            If the file is broken; it is noted in the log.
        IndexError
            If the set has no such picture.
        """
        if isinstance(index, slice):
            picked = range(len(self))[index]
            if picked.step != 1:
                raise ValueError("a stretch of photographs has no steps: use images[a:b]")
            return replace(self, order=self.order[picked.start : picked.start + len(picked)])
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of a set of {len(self)}")
        try:
            return self.source.read(int(self.order[index]))
        except UnreadableImage as error:
            log(self.skipped, [(error.name, error.reason)])
            raise

    @property
    def ids(self) -> list[str]:
        """Names of the pictures: two sets share a picture if they share an id."""
        return [self.source.name(int(i)) for i in self.order]

    @cached_property
    def _identity(self) -> dict[str, Any]:
        return self.source.identity(self.order)

    def identity(self) -> dict[str, Any]:
        """What decides which pictures these are, in plain values; files are asked for their sizes once."""
        return self._identity

    def counter(self, latents: int) -> None:
        """Nobody knows what is in a photograph."""


def log(path: Path, rows: Sequence[tuple[str, str]]) -> None:
    """Note what could not be read, and why, each once; notebooks that run side by side may share the log."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        there = [["name", "reason"]]
        if path.exists():
            with path.open(newline="", encoding="utf-8", errors="backslashreplace") as file:
                there = list(csv.reader(file))
        known = {row[0] for row in there if row}
        new = [row for row in rows if row[0] not in known]
        if new:
            write_atomically(path, lambda target: _write(target, [*there, *new]))


def _write(path: Path, rows: list[Sequence[str]]) -> None:
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        csv.writer(file).writerows(rows)


def photo_sets(
    source: Asset,
    train_split: str | None,
    split: str | None,
    configuration: str | None,
    seed: int,
    skipped: Path,
    *,
    train: int,
    explain: int,
    evaluate: int,
) -> dict[str, Photographs]:
    """Disjoint sets of photographs: ``train``, ``explain`` and ``evaluate``.

    The last two are consecutive stretches of one permutation of the held-out split. Training pictures are a stretch of
    a permutation of the training split, without those two sets; of the same permutation if there is one split alone.
    Disjoint means by file or row: copies under other names are not looked for.

    Parameters
    ----------
    source : a folder, or a data set on the hub.
    train_split, split : of the training pictures (None: the same), and of the held-out ones.
    configuration : of the data set, if it has several.
    seed : of the permutations.
    skipped : CSV log of what cannot be read: pictures, when they are asked for; folders and formats, now.
    train, explain, evaluate : how many pictures each set has.

    Raises
    ------
    ValueError
        If there are too few pictures: how many, and which settings to lower.
    FileNotFoundError, SourceUnavailable
        As :func:`open_source`; and if not one picture of a set can be read.
    """
    held_out = open_source(source, split, configuration)
    one = train == 0 or train_split in (None, split)
    training = held_out if one else open_source(source, train_split, configuration)
    shared = training == held_out  # two names of splits may both stand for the whole folder
    order = np.random.default_rng([seed, 0]).permutation(len(held_out))
    held = explain + evaluate
    _enough(
        f"{source}, {split or 'all of it'}",
        len(held_out),
        {"train": train if shared else 0, "explain": explain, "evaluate": evaluate},
    )
    if shared:
        others = order[held : held + train]
    else:
        taken = {held_out.name(int(i)) for i in order[:held]}  # one folder may lie inside the other
        mixed = np.random.default_rng([seed, 1]).permutation(len(training))
        others = np.array([i for i in mixed if training.name(int(i)) not in taken], dtype=order.dtype)
        _enough(f"{source}, {train_split or 'all of it'}, held-out pictures apart", len(others), {"train": train})
        others = others[:train]
    if left_out := dict([*held_out.left_out, *training.left_out]):
        log(skipped, list(left_out.items()))
        warnings.warn(
            f"{source}: {len(left_out)} files or folders are left out; {short(skipped)} says why", stacklevel=2
        )
    sets = {
        "train": Photographs(training, others, skipped),
        "explain": Photographs(held_out, order[:explain], skipped),
        "evaluate": Photographs(held_out, order[explain:held], skipped),
    }
    for name, images in sets.items():
        _some_readable(name, images)
    return sets


def _enough(where: str, there: int, sizes: dict[str, int]) -> None:
    asked = sum(sizes.values())
    if asked > there:
        settings = " or ".join(f"images.{name} ({n})" for name, n in sizes.items() if n)
        raise ValueError(f"{where}: {there} pictures, but {asked} are asked for; lower {settings}")


def _some_readable(name: str, images: Photographs) -> None:
    """Found out now, with the reason, rather than by what is made of no picture at all. Mostly the first one does."""
    first = None
    for i in images.order:
        try:
            images.source.read(int(i))
            return
        except UnreadableImage as error:
            first = first or error
    if first:
        raise SourceUnavailable(f"none of the {len(images)} pictures of images.{name} can be read. The first: {first}")
