"""A stage: results that are made once and kept in a folder which is named by all that they depend on."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, is_dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

from lib import identity
from lib.store import Damaged, MissingStage, note, read, write_json

WHY, COST = "stage.json", "cost.json"


@dataclass(frozen=True)
class Home:
    """Where a run keeps its stages, and what a user types to make them.

    Attributes
    ----------
    folder : holds a folder for each stage.
    command : ``./run_all.sh`` with the run's profile and settings.
    """

    folder: Path
    command: str


@dataclass(frozen=True)
class Stage:
    """The base of all stages. A subclass adds what it depends on as fields, and makes itself from nothing else.

    Attributes
    ----------
    home : where it is kept; of no influence on what it holds.
    title : what its folders are called (class attribute).
    notebook : number of the notebook that makes it (class attribute).
    """

    home: Home = field(metadata=identity.NOT_PART, compare=False, repr=False)
    title: ClassVar[str] = ""
    notebook: ClassVar[str] = ""
    is_stage: ClassVar[bool] = True

    def identity(self) -> str:
        """What a later stage notes of this one: the name of its folder, which stands for all that it depends on."""
        return self.folder.name

    @cached_property
    def why(self) -> dict[str, Any]:
        """All that the results depend on, in full: what ``stage.json`` holds."""
        return {"stage": self.title, **identity.of(self)}

    @cached_property
    def folder(self) -> Path:
        """Where the results are: the name carries the digest of :attr:`why`."""
        return self.home.folder / f"{self.title}-{identity.digest(self.why)}"

    def path(self, name: str) -> Path:
        """Where a result is, or will be."""
        return self.folder / name

    def need(self, name: str) -> Path:
        """Where a result is.

        Raises
        ------
        MissingStage
            If it has not been made, or was made with other settings, files or code.
        """
        if not self.path(name).exists():
            raise self.missing(name)
        note("stage", self.folder)
        return self.path(name)

    def missing(self, what: str) -> MissingStage:
        """The error that something has not been made; it names the notebook of the first stage that is not there."""
        first = next((stage for stage in _stages(self) if not stage.made), self)
        return MissingStage(
            f"{self.title}: {what} has not been made with these settings yet. Run {self.home.command} "
            f"--from {first.notebook}"
        )

    def read(self, name: str) -> Any:
        """A result, read by its suffix.

        Raises
        ------
        MissingStage
            If it has not been made.
        Damaged
            If it cannot be read.
        """
        return read(self.need(name))

    @contextmanager
    def making(self) -> Iterator[Stage]:
        """Around all that makes results: notes why they are what they are, and what they cost in seconds."""
        before, begun = self.seconds, time.perf_counter()
        write_json(self.path(WHY), self.why)
        self._note(before, done=False)
        yield self
        self._note(before + time.perf_counter() - begun, done=True)
        note("stage", self.folder)

    def _note(self, seconds: float, done: bool) -> None:
        write_json(self.path(COST), {"seconds": round(seconds, 1), "files": self.files, "done": done})

    @property
    def made(self) -> bool:
        """Whether the results are there, all of them: made to the end, and none lost since."""
        return bool(self._cost.get("done")) and all(self.path(name).exists() for name in self.files)

    @property
    def seconds(self) -> float:
        """What making it has cost so far."""
        return float(self._cost.get("seconds", 0))

    @property
    def _cost(self) -> dict[str, Any]:
        return _cost(self.folder)

    @property
    def files(self) -> list[str]:
        """The results that there must be; none where each is asked for by its own name."""
        return []

    def stale(self) -> list[str] | None:
        """What changed since those results of this stage that are nearest to these; None if there are none."""
        changes = []
        for path in self.home.folder.glob(f"{self.title}-*/{WHY}"):
            try:
                changes.append(identity.differences(read(path), self.why))
            except Damaged:
                continue
        return min((lines for lines in changes if lines), key=len, default=None)


def _cost(folder: Path) -> dict[str, Any]:
    try:
        found = read(folder / COST)
        return found if isinstance(found["seconds"], float) and isinstance(found["files"], list) else {}
    except (FileNotFoundError, Damaged, KeyError, TypeError):
        return {}


def lost(folder: Path) -> list[str]:
    """Results of a stage that are not there any more; its record, if that is gone."""
    known = _cost(folder)
    return [name for name in known["files"] if not (folder / name).exists()] if known else [COST]


def _stages(value: Any) -> Iterator[Stage]:
    """The stages inside a value, and itself if it is one, each after those that it depends on."""
    if is_dataclass(value):
        for part in identity.parts(value):
            yield from _stages(getattr(value, part.name))
    if isinstance(value, Stage):
        yield value
