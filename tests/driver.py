"""The runner on notebooks of a test's own, in processes that are forked from one that has its libraries in memory."""

from __future__ import annotations

import multiprocessing
import os
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from lib.store import ROOT

FORKS = multiprocessing.get_context("forkserver")
FORKS.set_forkserver_preload(["lib.__main__", "lib.running.runner"])


def await_true(condition: Callable[[], object], seconds: float = 60) -> None:
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def _drive(folder: Path, arguments: list[str], environment: dict[str, str], said: list[str], server: bool) -> None:
    """``./run_all.sh --profile smoke`` with the notebooks and the results of ``folder``."""
    os.setsid()
    os.chdir(ROOT)
    for number, path in enumerate(said, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), number)
    os.environ.update(environment)
    from lib import __main__ as command
    from lib.running import collection, runner

    collection.NOTEBOOKS, runner.RUNS, command.RUNS = folder / "notebooks", folder / "runs", folder / "runs"
    # Notebooks of a line need no server that has imported all that others do: seconds for each run.
    runner.context = lambda scenes: multiprocessing.get_context("forkserver" if server else "fork")
    sys.exit(command.main(["--profile", "smoke", *arguments]))


class Started:
    """A run that goes on beside the test; ``server``: its processes descend from each other as they do for users."""

    def __init__(self, folder: Path, *arguments: str, server: bool = True, **environment: str) -> None:
        self.said = [Path(tempfile.mkdtemp(dir=folder)) / name for name in ("out", "err")]
        given = folder, list(arguments), {**os.environ, **environment}, list(map(str, self.said)), server
        self.process = FORKS.Process(target=_drive, args=given)
        self.process.start()
        self.pid = self.process.pid

    def ended(self, seconds: float = 120) -> tuple[int, str, str]:
        """Exit code and output, once it has ended."""
        self.process.join(seconds)
        assert self.process.exitcode is not None, "it still runs"
        out, err = (path.read_text() if path.exists() else "" for path in self.said)
        return self.process.exitcode, out, err

    def first_line(self) -> str:
        """What it says first, as soon as it has said it."""
        await_true(lambda: self.said[0].exists() and "\n" in self.said[0].read_text())
        return self.said[0].read_text().splitlines()[0]
