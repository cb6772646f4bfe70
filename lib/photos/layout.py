"""Which files of a data set on the hub hold one split of one configuration: by its card, else by their names."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import PurePosixPath
from typing import Any

from lib.contents import visible
from lib.hub import Asset

_SHARD = re.compile(r"([-_.]\d+)*(-of-\d+)?(-[0-9a-f]{8,})?$")  # train-00000-of-00002-a09b74b3ef9c3b56


def contents(pinned: Asset) -> tuple[list[dict[str, Any]], list[str], bool]:
    """``configs`` of a data set's card; its files; and whether these are all, or what has been fetched before."""
    from huggingface_hub import DatasetCard, HfApi
    from huggingface_hub.errors import HTTPError

    place = pinned.fetch("README.md", kind="dataset")
    try:
        listing, complete = HfApi().list_repo_files(pinned.id, repo_type="dataset", revision=pinned.revision), True
    except (OSError, HTTPError):  # no network
        listing, complete = [file.relative_to(place).as_posix() for file in visible(place)], False
    text = (place / "README.md").read_text(encoding="utf-8") if (place / "README.md").is_file() else ""
    card = DatasetCard(text, ignore_metadata_errors=True).data.get("configs") or []
    return [part for part in card if isinstance(part, dict) and "config_name" in part], listing, complete


def split_files(
    listing: Sequence[str], card: Sequence[dict[str, Any]], split: str | None, configuration: str | None
) -> tuple[str | None, list[str]]:
    """The Parquet files of one split.

    Parameters
    ----------
    listing : all files of the data set.
    card : ``configs`` of its card; empty if that says nothing of files.
    split : its whole name: ``test`` is not ``test_ood``. None is left to the ``datasets`` library.
    configuration : its name; None if there is only one.

    Returns
    -------
    The configuration, and its files, sorted; none if the split is not kept in Parquet files, or not named so.

    Raises
    ------
    ValueError
        If there are several configurations and none is named, or none of that name.
    """
    there = _by_card(listing, card, split) if card else _by_name(listing, split)
    if configuration is None and len(there) > 1:
        raise ValueError(f"there are several configurations: name one as images.configuration: {', '.join(there)}")
    if there and configuration not in (None, *there):
        raise ValueError(f"there is no configuration {configuration!r}; name one of {', '.join(there)}")
    configuration = configuration or next(iter(there), None)
    files = there.get(configuration, [])
    return configuration, sorted(files) if all(name.endswith(".parquet") for name in files) else []


def _by_card(listing: Sequence[str], card: Sequence[dict[str, Any]], split: str | None) -> dict[str, list[str]]:
    out = {}
    for part in card:
        wanted = part.get("data_files") or ()
        if not isinstance(wanted, dict):  # else a list; patterns without the name of a split are all of "train"
            wanted = {w["split"]: w["path"] for w in wanted if isinstance(w, dict)}
        patterns = wanted.get(split, ())
        patterns = [patterns] if isinstance(patterns, str) else patterns
        full = [str(PurePosixPath(part.get("data_dir") or ".", pattern)) for pattern in patterns]
        out[str(part["config_name"])] = [name for name in listing if any(_glob(p).fullmatch(name) for p in full)]
    return out


def _glob(pattern: str) -> re.Pattern[str]:
    """A pattern of a card as ``datasets`` reads it: a star stays in its folder, two of them do not."""
    signs = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
    parts = re.split(r"(\*\*/|\*\*|\*|\?)", pattern)
    return re.compile("".join(signs.get(part, re.escape(part)) for part in parts))


def _by_name(listing: Sequence[str], split: str | None) -> dict[str, list[str]]:
    """Files that are called like the split, or else lie in a folder of that name; a folder above is a configuration."""
    called: dict[str, list[str]] = {}
    inside: dict[str, list[str]] = {}
    for path in map(PurePosixPath, listing):
        if path.suffix == ".parquet" and _SHARD.sub("", path.stem) == split:
            called.setdefault(_folder(path.parent), []).append(str(path))
        elif path.suffix == ".parquet" and path.parent.name == split:
            inside.setdefault(_folder(path.parent.parent), []).append(str(path))
    return called or inside


def _folder(path: PurePosixPath) -> str:
    return "default" if str(path) in (".", "data") else str(path)


def refuse_mixed(files: Iterable[str], words: Sequence[str]) -> None:
    """Raise ``ValueError`` if files of one split are called both like it and longer.

    The ``datasets`` library takes ``test_ood.zip`` for a part of ``test``, where no card says otherwise.

    Parameters
    ----------
    files : what the library takes for the split.
    words : what the split may be called.
    """
    called = re.compile(rf"/({'|'.join(map(re.escape, words))})(?![A-Za-z])([-_][A-Za-z][^/.]*)?")
    names = {match[0][1:] for file in files if (match := called.search(f"/{file}"))}
    if len(names) > 1 and names & set(words):
        raise ValueError(
            f"files called {' and '.join(sorted(names))} would be taken for one split; give a local folder with the "
            "pictures of one of them instead"
        )
