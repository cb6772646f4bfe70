"""Image sets of photographs: any folder of pictures, or a data set on the hub, in splits that cannot overlap.

Large collections hold broken files. Such a file is named in a log and left out; it never stops a run.
"""

from __future__ import annotations

import csv
import os
import struct
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from filelock import FileLock
from PIL import ExifTags, Image, UnidentifiedImageError

from lib.store import ROOT, write_atomically

LARGEST = 1024  # pixels of the longest side; encoders see fewer

FORMATS = ("BMP", "GIF", "JPEG", "PNG", "TIFF", "WEBP")  # no others: PIL would run Ghostscript for some
SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp", ".tif", ".tiff")

# What a split may be called inside a folder, best first; the long names are ImageNet's own.
_IMAGENET = "ILSVRC/Data/CLS-LOC"
SUBFOLDERS = {
    "train": ("train", f"{_IMAGENET}/train"),
    "validation": ("validation", "val", f"{_IMAGENET}/val"),
    "val": ("val", "validation", f"{_IMAGENET}/val"),
    "test": ("test", f"{_IMAGENET}/test"),
}

# What PIL raises for broken files. It takes some of these for signs of one itself, but only while it opens a file.
_BROKEN = (
    OSError,
    SyntaxError,
    ValueError,
    struct.error,
    zlib.error,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    MemoryError,
    Image.DecompressionBombError,
)

_TURNS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # EXIF orientation -> what puts the picture upright


class UnreadableImage(ValueError):
    """A file that cannot be read as a picture.

    Attributes
    ----------
    name, reason : which file, and why not.
    """

    def __init__(self, name: str, reason: str) -> None:
        super().__init__(f"cannot read {name}: {reason}")
        self.name, self.reason = name, reason

    def __reduce__(self):
        return type(self), (self.name, self.reason)  # so that it can cross processes


class SourceUnavailable(OSError):
    """A data set that could not be fetched; the message says what to do."""


def read(data: bytes | Path, name: str) -> Image.Image:
    """Decode a picture: RGB, upright, its longest side at most ``LARGEST`` pixels.

    Grey of 16 bits is scaled to 8; transparent pictures are laid on white; of animations the first frame is taken.

    Parameters
    ----------
    data : the file's contents, or where it is.
    name : what it is called in messages.

    Raises
    ------
    UnreadableImage
        If the file is missing, empty, truncated, otherwise broken, larger than PIL dares to decode, or no picture.
    """
    try:
        data = data.read_bytes() if isinstance(data, Path) else data
        if not data:
            raise UnreadableImage(name, "the file is empty")
        with Image.open(BytesIO(data), formats=FORMATS) as picture:
            if min(picture.size) < 1:
                raise UnreadableImage(name, f"it has no pixels ({picture.width} x {picture.height})")
            scale = LARGEST / max(picture.size)
            if scale < 1:  # a JPEG is then decoded at a fraction of its size; other formats ignore it
                picture.draft("RGB", (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))))
            picture.load()
            out = _rgb(_upright(picture))
    except UnreadableImage:
        raise
    except UnidentifiedImageError as error:
        raise UnreadableImage(name, f"it is none of {', '.join(FORMATS)}") from error
    except _BROKEN as error:
        raise UnreadableImage(name, " ".join(str(error).split()) or type(error).__name__) from error
    out.thumbnail((LARGEST, LARGEST))
    out.info = {}  # colour profiles and notes of the camera are no part of the pixels
    return out


def _upright(picture: Image.Image) -> Image.Image:
    try:
        orientation = picture.getexif().get(ExifTags.Base.Orientation)
    except _BROKEN:
        return picture  # broken notes of the camera are no reason to lose the picture
    return picture.transpose(_TURNS[orientation]) if orientation in _TURNS else picture


def _rgb(picture: Image.Image) -> Image.Image:
    """Any mode as RGB, and a picture of its own that holds no file."""
    if picture.mode.startswith("I;16"):
        return _grey(np.asarray(picture) / 65535)  # PIL itself would clip at 255
    if picture.mode in ("I", "F"):  # 32 bits: there is no agreed white, so the brightest pixel is
        values = np.asarray(picture, dtype=np.float64)
        finite = values[np.isfinite(values)]
        if not finite.size:
            raise ValueError("no pixel holds a finite number")
        low, high = finite.min(), finite.max()
        values = np.nan_to_num(values, nan=low, posinf=high, neginf=low)
        return _grey((values - low) / ((high - low) or 1))
    if picture.has_transparency_data:
        picture = picture.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", picture.size, "white"), picture).convert("RGB")
    return picture.convert("RGB")


def _grey(values: np.ndarray) -> Image.Image:
    return Image.fromarray(np.round(values * 255).astype(np.uint8)).convert("RGB")


class Source(Protocol):
    """Pictures in a fixed order."""

    def __len__(self) -> int:
        """How many there are, broken ones included."""

    def name(self, i: int) -> str:
        """What picture ``i`` is called: no two pictures share a name, in whatever source they are."""

    def read(self, i: int) -> Image.Image:
        """Picture ``i``; raises :class:`UnreadableImage`."""


@dataclass(frozen=True)
class Folder:
    """Picture files.

    Attributes
    ----------
    paths : absolute; text, since a million ``Path`` objects fill half a gigabyte.
    """

    paths: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.paths)

    def name(self, i: int) -> str:
        """Path of file ``i``, relative to the project if it is inside."""
        return str(self.paths[i]).removeprefix(f"{ROOT}{os.sep}")

    def read(self, i: int) -> Image.Image:
        """Picture in file ``i``; raises :class:`UnreadableImage`."""
        return read(Path(self.paths[i]), self.name(i))


def folder(path: Path) -> Folder:
    """All picture files below a folder, sorted; hidden ones are left out, links are followed, no file comes twice.

    Raises
    ------
    FileNotFoundError
        If there are none.
    """
    found: set[str] = set()
    seen, todo = set(), [os.path.realpath(path)]
    while todo:
        here = todo.pop()
        if here in seen:
            continue  # a link led here, or back here
        seen.add(here)
        with os.scandir(here) as entries:
            for entry in entries:
                if entry.name.startswith("."):
                    continue
                if entry.is_dir():
                    todo.append(os.path.realpath(entry.path) if entry.is_symlink() else entry.path)
                elif entry.name.lower().endswith(SUFFIXES) and entry.is_file():
                    found.add(os.path.realpath(entry.path) if entry.is_symlink() else entry.path)
    if not found:
        raise FileNotFoundError(
            f"no pictures below {path}: looked for {' '.join(SUFFIXES)} (any case, in all sub-folders, none hidden)"
        )
    return Folder(tuple(sorted(found)))


@dataclass(frozen=True)
class Hub:
    """One split of a data set of the ``datasets`` library.

    Attributes
    ----------
    dataset : map-style, its image column not decoded.
    column : the image column.
    label : what names of pictures begin with: id, revision and split.
    """

    dataset: Any
    column: str
    label: str = "row"

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, i: int) -> str:
        """Data set, split and row of picture ``i``."""
        return f"{self.label}/{i}"

    def read(self, i: int) -> Image.Image:
        """Picture in row ``i``; raises :class:`UnreadableImage`."""
        cell, name = self.dataset[int(i)][self.column], self.name(i)
        if not cell or (cell["bytes"] is None and cell["path"] is None):
            raise UnreadableImage(name, "the row holds no picture")
        return read(Path(cell["path"]) if cell["bytes"] is None else cell["bytes"], name)


def hub(id: str, revision: str | None, split: str | None) -> Hub:
    """A split of an image data set on the Hugging Face hub (or of a folder in one of its formats).

    Its files are fetched once and read from disk after that. Of a data set in Parquet files named after their splits,
    as most are, that split alone is fetched; of others all splits are.

    Parameters
    ----------
    id, revision : the data set, and which state of it.
    split : its name; None if the data set has only one.

    Raises
    ------
    SourceUnavailable
        If it cannot be fetched: no network, gated, or unknown.
    ValueError
        If it has no such split, or no image column.
    """
    import datasets  # takes seconds, and a folder needs none
    from huggingface_hub.errors import HTTPError

    try:
        files = _parquet_files(id, revision, split)
        if files:
            data = datasets.load_dataset("parquet", data_files={"pictures": files}, split="pictures")
        else:
            builder = datasets.load_dataset_builder(id, revision=revision)
            there = [str(name) for name in builder.info.splits or builder.config.data_files or ()]
            split = there[0] if split is None and len(there) == 1 else split
            if split is None or (there and split not in there):  # said before anything large is fetched
                raise ValueError(
                    f"the data set {id} has no split {split!r}; its splits: {', '.join(there) or 'unknown'}"
                )
            data = datasets.load_dataset(id, revision=revision, split=split)
    except (OSError, HTTPError, datasets.exceptions.DatasetsError) as error:
        raise SourceUnavailable(
            f"the data set {id} could not be fetched ({type(error).__name__}: {error}). If it is gated, accept the "
            f"terms on https://huggingface.co/datasets/{id} and log in with `hf auth login`; without a network, give "
            "a local folder of pictures instead"
        ) from error
    columns = [name for name, kind in data.features.items() if isinstance(kind, datasets.Image)]
    if not columns:
        raise ValueError(f"the data set {id} has no column of images; its columns: {', '.join(data.column_names)}")
    # Undecoded: a broken picture then fails in our own `read`, where it is noted.
    data = data.select_columns(columns[:1]).cast_column(columns[0], datasets.Image(decode=False))
    return Hub(data, columns[0], f"{id}@{revision}/{split}" if revision else f"{id}/{split}")


def _parquet_files(id: str, revision: str | None, split: str | None) -> list[str]:
    """Parquet files of one split, fetched; none if the data set is not kept so."""
    from huggingface_hub import snapshot_download

    if split is None or Path(id).is_dir():
        return []
    pattern = f"*{split}*.parquet"
    folder = snapshot_download(id, repo_type="dataset", revision=revision, allow_patterns=[pattern])
    return sorted(str(path) for path in Path(folder).rglob(pattern))


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
    skipped: Path

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
            return Photographs(self.source, self.order[picked.start : picked.start + len(picked)], self.skipped)
        if not 0 <= index < len(self):
            raise IndexError(f"picture {index} of a set of {len(self)}")
        try:
            return self.source.read(int(self.order[index]))
        except UnreadableImage as error:
            _note(self.skipped, error)
            raise

    @property
    def ids(self) -> list[str]:
        """Names of the pictures: two sets share a picture if they share an id."""
        return [self.source.name(int(i)) for i in self.order]


def _note(path: Path, error: UnreadableImage) -> None:
    """Add a row to the log, unless the picture is there already; notebooks that run side by side may share it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_name(f".{path.name}.lock")):
        rows = [["name", "reason"]]
        if path.exists():
            with path.open(newline="", encoding="utf-8", errors="surrogateescape") as file:
                rows = list(csv.reader(file))
        if any(row[:1] == [error.name] for row in rows[1:]):
            return
        write_atomically(path, lambda target: _write(target, [*rows, [error.name, error.reason]]))


def _write(path: Path, rows: list[list[str]]) -> None:
    # File names need not be text; what is not is kept as the bytes it was.
    with path.open("w", newline="", encoding="utf-8", errors="surrogateescape") as file:
        csv.writer(file).writerows(rows)


def readable(images: Sequence, wanted: Sequence[int]) -> tuple[list[int], list[Image.Image]]:
    """Those of the ``wanted`` pictures of a set that can be read: their indices, and the pictures, in that order."""
    indices, pictures = [], []
    for index in wanted:
        try:
            picture = images[index]
        except UnreadableImage:
            continue  # the set has noted it
        indices.append(int(index))
        pictures.append(picture)
    return indices, pictures


def open_source(name: str, revision: str | None, split: str | None) -> Source:
    """Find pictures by what a profile calls them.

    Parameters
    ----------
    name : a folder (relative to the project, absolute, or with ``~``), or a data set on the hub.
    revision : of the data set; of no meaning for a folder.
    split : of the data set; of a folder, the sub-folder of that name if it has one (or of ImageNet's name for it),
        else the whole folder.

    Raises
    ------
    FileNotFoundError
        If ``name`` looks like a folder and is none, or holds no pictures.
    SourceUnavailable, ValueError
        As :func:`hub`.
    """
    place = ROOT / Path(name).expanduser()
    if place.is_dir():
        inside = SUBFOLDERS.get(split, (split,)) if split else ()
        return folder(next((place / sub for sub in inside if (place / sub).is_dir()), place))
    if name.startswith((".", "/", "~", "data/")):
        raise FileNotFoundError(
            f"there is no folder {place}; give an existing folder of pictures, or the id of a data set on the hub"
        )
    return hub(name, revision, split)


def photo_sets(
    name: str,
    revision: str | None,
    train_split: str | None,
    split: str | None,
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
    name, revision : as for :func:`open_source`.
    train_split, split : of the training pictures (None: the same), and of the held-out ones.
    seed : of the permutations.
    skipped : CSV log of pictures that cannot be read.
    train, explain, evaluate : how many pictures each set has.

    Raises
    ------
    ValueError
        If there are too few pictures: how many, and which settings to lower.
    FileNotFoundError, SourceUnavailable
        As :func:`open_source`.
    """
    held_out = open_source(name, revision, split)
    one = train == 0 or train_split in (None, split)
    source = held_out if one else open_source(name, revision, train_split)
    shared = source == held_out  # two names of splits may both stand for the whole folder
    order = np.random.default_rng([seed, 0]).permutation(len(held_out))
    held = explain + evaluate
    _enough(
        f"{name}, {split or 'all of it'}",
        len(held_out),
        {"train": train if shared else 0, "explain": explain, "evaluate": evaluate},
    )
    if shared:
        training = order[held : held + train]
    else:
        taken = {held_out.name(int(i)) for i in order[:held]}  # one folder may lie inside the other
        mixed = np.random.default_rng([seed, 1]).permutation(len(source))
        training = np.array([i for i in mixed if source.name(int(i)) not in taken], dtype=order.dtype)
        _enough(f"{name}, {train_split or 'all of it'}, held-out pictures apart", len(training), {"train": train})
        training = training[:train]
    return {
        "train": Photographs(source, training, skipped),
        "explain": Photographs(held_out, order[:explain], skipped),
        "evaluate": Photographs(held_out, order[explain:held], skipped),
    }


def _enough(where: str, there: int, sizes: dict[str, int]) -> None:
    asked = sum(sizes.values())
    if asked > there:
        settings = " or ".join(f"images.{name} ({n})" for name, n in sizes.items() if n)
        raise ValueError(f"{where}: {there} pictures, but {asked} are asked for; lower {settings}")
