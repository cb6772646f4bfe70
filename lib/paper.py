"""What ``data/paper`` holds: the paper's numbers, its claims and models, and what is known of things on the hub."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import pandas as pd

from lib.contents import verify_shipped
from lib.settings import parse
from lib.store import ROOT, Damaged, note, short

FOLDER = ROOT / "data" / "paper"
T = TypeVar("T")


def yaml_of(name: str, folder: Path = FOLDER) -> Any:
    """The keys and values, or the list, in ``<name>.yaml``; a key that stands twice is refused.

    Raises
    ------
    Damaged
        If it is not as it was shipped, or cannot be read; claims and index are the user's to edit.
    """

    def tree(path: Path) -> Any:
        found = parse(path.read_text(encoding="utf-8"), "YAML")
        if not isinstance(found, (dict, list)):
            raise ValueError("neither keys and values nor a list")
        return found

    return _read(folder / f"{name}.yaml", tree)


def csv_of(name: str, folder: Path = FOLDER) -> pd.DataFrame:
    """The table in ``<name>.csv``; raises as :func:`yaml_of`."""
    return _read(folder / f"{name}.csv", pd.read_csv)


def _read(path: Path, reader: Callable[[Path], T]) -> T:
    verify_shipped(path)
    try:
        found = reader(path)
    except (OSError, ValueError) as error:  # what YAML and pandas raise are ValueErrors
        remedy = f"Mend it, or bring it back: `git checkout -- {short(path)}`"
        raise Damaged(f"{short(path)} cannot be read ({error}). {remedy}") from error
    note("used", path)
    return found
