"""What is made once for all tests, whichever worker needs it first: copies of the project, runs, checkpoints."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
from filelock import FileLock

from lib.store import ROOT


def once(factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]) -> Path:
    """A folder of this test session that the first of its workers to ask fills, while others that ask wait."""
    own = factory.getbasetemp()
    folder = (own.parent if "PYTEST_XDIST_WORKER" in os.environ else own) / name
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = folder.with_name(f"{name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


@dataclass(frozen=True)
class Project:
    """A copy of the project, so that a test's run meets neither another one's nor what a user has made."""

    folder: Path

    @classmethod
    def copied(cls, folder: Path) -> Project:
        """All that a run needs, without results."""
        skip = shutil.ignore_patterns("runs", "__pycache__")
        for part in ("lib", "notebooks", "data"):
            shutil.copytree(ROOT / part, folder / part, ignore=skip)
        for part in ("environment.yml", "README.md"):
            shutil.copy(ROOT / part, folder)
        return cls(folder)

    def run(self, *arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
        """``./run_all.sh`` in the copy, after its environment."""
        env = os.environ | {"PYTHONPATH": str(self.folder)} | environment
        command = [sys.executable, "-m", "lib", *arguments]
        return subprocess.run(command, cwd=self.folder, env=env, capture_output=True, text=True)

    def python(self, code: str) -> subprocess.CompletedProcess[str]:
        """Some lines of Python in the copy."""
        env = os.environ | {"PYTHONPATH": str(self.folder)}
        return subprocess.run([sys.executable, "-c", code], cwd=self.folder, env=env, capture_output=True, text=True)

    def figures(self, label: str) -> Path:
        """Where the run of a profile leaves tables and figures."""
        return self.folder / "figures" / label

    def tables(self, label: str) -> dict[str, bytes]:
        """The bytes of every table, by its name."""
        return {p.name: p.read_bytes() for p in self.figures(label).glob("*") if p.suffix in (".csv", ".md")}


@dataclass(frozen=True)
class WholeRun:
    """A complete run of the smoke profile from nothing: what it printed, its tables then, and the project it is in."""

    project: Project
    stdout: str
    tables: dict[str, bytes]


def whole_run(factory: pytest.TempPathFactory) -> WholeRun:
    """The one run that all tests share. They may change its project and run again there; ``tables`` stay."""

    def make(folder: Path) -> None:
        project = Project.copied(folder / "project")
        done = project.run("--profile", "smoke")
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        (folder / "stdout").write_text(done.stdout)
        (folder / "tables.json").write_text(json.dumps({n: t.decode() for n, t in project.tables("smoke").items()}))

    folder = once(factory, "whole_run", make)
    tables = {name: text.encode() for name, text in json.loads((folder / "tables.json").read_text()).items()}
    return WholeRun(Project(folder / "project"), (folder / "stdout").read_text(), tables)
