"""Where photographs come from: a folder of pictures, or one split of a data set on the hub."""

from __future__ import annotations

import glob
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from PIL import Image

from lib.hub import Asset
from lib.identity import NOT_PART
from lib.images import UnreadableImage
from lib.photos.decode import read
from lib.photos.folders import folder
from lib.photos.layout import contents, refuse_mixed, split_files

# What a split may be called inside a folder, best first; the long names are ImageNet's own.
_IMAGENET = "ILSVRC/Data/CLS-LOC"
SUBFOLDERS = {
    "train": ("train", f"{_IMAGENET}/train"),
    "validation": ("validation", "val", f"{_IMAGENET}/val"),
    "val": ("val", "validation", f"{_IMAGENET}/val"),
    "test": ("test", f"{_IMAGENET}/test"),
}


class SourceUnavailable(OSError):
    """Pictures that cannot be had; the message says what to do."""


class Source(Protocol):
    """Pictures in a fixed order.

    Attributes
    ----------
    left_out : name and reason of what lies there and is not among them.
    """

    left_out: Sequence[tuple[str, str]]

    def __len__(self) -> int:
        """How many there are, broken ones included."""

    def name(self, i: int) -> str:
        """What picture ``i`` is called: no two pictures share a name, in whatever source they are."""

    def read(self, i: int) -> Image.Image:
        """Picture ``i``; raises :class:`UnreadableImage`."""

    def identity(self, order: np.ndarray | None = None) -> dict[str, Any]:
        """What decides which pictures stand at these places (None: at all), in plain values."""


@dataclass(frozen=True)
class Hub:
    """One split of a data set of the ``datasets`` library.

    Attributes
    ----------
    dataset : map-style, its image column not decoded.
    column : the image column.
    asset : what the profile calls it.
    commit, configuration, split : which state and which part of it.
    """

    dataset: Any = field(metadata=NOT_PART)  # see `identity`
    column: str
    asset: str = "row"
    commit: str | None = None
    configuration: str | None = None
    split: str | None = None
    left_out = ()

    def __len__(self) -> int:
        return len(self.dataset)

    def name(self, i: int) -> str:
        """Data set, configuration, split and row of picture ``i``."""
        within = None if self.configuration == "default" else self.configuration
        return "/".join(str(part) for part in (self.asset, within, self.split, i) if part is not None)

    def read(self, i: int) -> Image.Image:
        """Picture in row ``i``; raises :class:`UnreadableImage`."""
        cell, name = self.dataset[int(i)][self.column], self.name(i)
        if not cell or (cell["bytes"] is None and cell["path"] is None):
            raise UnreadableImage(name, "the row holds no picture")
        return read(Path(cell["path"]) if cell["bytes"] is None else cell["bytes"], name)

    def identity(self, order: np.ndarray | None = None) -> dict[str, Any]:
        """Data set, commit, configuration, split, column, rows, and a digest of the places."""
        places = np.arange(len(self)) if order is None else order
        return {
            "dataset": Asset(self.asset).id,
            "commit": self.commit,
            "configuration": self.configuration,
            "split": self.split,
            "column": self.column,
            "rows": len(self),
            "n": len(places),
            "order": hashlib.sha256(places.astype("<i8").tobytes()).hexdigest()[:16],
        }


def hub(asset: Asset, split: str | None, configuration: str | None = None) -> Hub:
    """A split of an image data set on the Hugging Face hub.

    Its files are fetched once and read from disk after that. Of a data set in Parquet files, as most are, the split
    alone is fetched; of others all splits are.

    Parameters
    ----------
    asset : the data set: ``id``, or ``id@revision``.
    split : its whole name; None if the data set has only one.
    configuration : its name; None if the data set has only one.

    Raises
    ------
    SourceUnavailable
        If it cannot be fetched: no network, gated, or unknown.
    ValueError
        If it has no such split or configuration, several configurations and none is named, or no image column.
    """
    import datasets  # takes seconds, and a folder needs none
    from huggingface_hub.errors import HFValidationError, HTTPError

    try:
        commit = asset.commit("dataset")
        pinned = Asset(f"{asset.id}@{commit}")
        card, listing, complete = contents(pinned)
        configuration, files = split_files(listing, card, split, configuration)
        if files:
            total = re.search(r"-of-0*(\d+)\b", files[0])
            if total and not complete and len(files) < int(total[1]):
                raise FileNotFoundError(
                    f"{len(files)} of {total[1]} files of {split} are here, and the hub is not reached"
                )
            place = pinned.fetch(*map(glob.escape, files), kind="dataset")
            paths = [str(place / name) for name in files]
            data = datasets.load_dataset("parquet", data_files={"pictures": paths}, split="pictures")
        else:
            builder = datasets.load_dataset_builder(asset.id, configuration, revision=commit)
            taken = builder.config.data_files or {}
            there = [str(name) for name in builder.info.splits or taken]
            split = there[0] if split is None and len(there) == 1 else split
            if split is None or (there and split not in there):  # said before anything large is fetched
                raise ValueError(f"there is no split {split!r}; name one of {', '.join(there) or 'unknown'}")
            if not card:
                refuse_mixed(taken.get(split, ()), datasets.data_files.SPLIT_KEYWORDS.get(split, [split]))
            data = datasets.load_dataset(asset.id, configuration, revision=commit, split=split)
    except (OSError, HTTPError, HFValidationError, datasets.exceptions.DatasetsError) as error:
        raise SourceUnavailable(
            f"the data set {asset} could not be fetched ({type(error).__name__}: {error}). If it is gated, accept the "
            f"terms on https://huggingface.co/datasets/{asset.id} and log in with `hf auth login`; without a network, "
            "give a local folder of pictures instead"
        ) from error
    except ValueError as error:
        raise ValueError(f"the data set {asset}: {error}") from error
    columns = [name for name, kind in data.features.items() if isinstance(kind, datasets.Image)]
    if not columns:
        raise ValueError(f"the data set {asset} has no column of images; its columns: {', '.join(data.column_names)}")
    # Undecoded: a broken picture then fails in our own `read`, where it is noted.
    data = data.select_columns(columns[:1]).cast_column(columns[0], datasets.Image(decode=False))
    return Hub(data, columns[0], asset, commit, configuration, split)


def open_source(asset: Asset, split: str | None, configuration: str | None = None) -> Source:
    """Find pictures by what a profile calls them.

    Parameters
    ----------
    asset : a folder (relative to the project, absolute, or with ``~``), or a data set on the hub.
    split : of the data set; of a folder, the sub-folder of that name if it has one (or of ImageNet's name for it),
        else the whole folder.
    configuration : of the data set; of no meaning for a folder.

    Raises
    ------
    FileNotFoundError
        If ``asset`` looks like a folder and is none, or holds no pictures.
    SourceUnavailable, ValueError
        As :func:`hub`.
    """
    place = asset.local
    if place and place.is_dir():
        inside = SUBFOLDERS.get(split, (split,)) if split else ()
        return folder(next((place / sub for sub in inside if (place / sub).is_dir()), place))
    if asset.looks_local:
        raise FileNotFoundError(
            f"there is no folder {asset}; give an existing folder of pictures, or the id of a data set on the hub"
        )
    return hub(asset, split, configuration)
