"""Processes of a run: they end together whatever ends one of them, use the cores they may, and run one at a time."""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from select import select
from threading import Thread

from filelock import FileLock, Timeout

from lib.store import Damaged, read, short, write_json

CLUSTER = "STEERING_COMPANION_CLUSTER"  # environment variable: who works for the runner's kernels, if not they
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of Linux's prctl
_STOPPING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)


class Stopped(BaseException):
    """Someone wants the run to end: Ctrl-C, ``kill``, a batch system, a closed terminal."""

    def __init__(self, number: int) -> None:
        super().__init__(signal.Signals(number).name)
        self.exit_code = 128 + number  # as shells count


@contextmanager
def stoppable() -> Iterator[None]:
    """Inside, a signal to stop raises :class:`Stopped`, once: a second one cannot interrupt the clearing up.

    A signal that was ignored before stays so (``nohup``).
    """

    def stop(number: int, _frame: object) -> None:
        for other in before:
            signal.signal(other, signal.SIG_IGN)
        raise Stopped(number)

    before = {s: signal.getsignal(s) for s in _STOPPING if signal.getsignal(s) is not signal.SIG_IGN}
    for number in before:
        signal.signal(number, stop)
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def end_with(other: int) -> None:
    """Let this process end when another does, even if that is killed."""
    if os.getppid() == other:
        if sys.platform == "linux":  # at once, even while one long call computes
            ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)
        wait = _until_orphaned
    else:
        wait = _until_ended

    def watch() -> None:
        wait(other)
        os.kill(os.getpid(), signal.SIGKILL)

    Thread(target=watch, daemon=True).start()


def _until_orphaned(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(0.5)


def _until_ended(process: int) -> None:
    try:
        select([os.pidfd_open(process)], [], [])  # it may have ended and nobody have missed it yet
    except (OSError, AttributeError):  # gone already; or a system that has no such thing
        with suppress(OSError):
            while True:
                os.kill(process, 0)
                time.sleep(0.5)


def cores() -> int:
    """CPU cores that this process may use (``taskset``), and no more than OMP_NUM_THREADS allows."""
    there = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    allowed = os.environ.get("OMP_NUM_THREADS", "").split(",")[0]
    return max(1, min(there, int(allowed) if allowed.isdecimal() else there))


def discard(path: Path) -> None:
    """Remove a file or a folder, if there is one."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def need_folder(folder: Path) -> None:
    """Make a folder for results.

    Raises
    ------
    Damaged
        If there is a file where it belongs.
    """
    for path in (folder, *folder.parents):
        if path.is_file():
            raise Damaged(f"{short(path)} is a file, where a folder of results belongs. Remove it and run again")
    folder.mkdir(parents=True, exist_ok=True)


@contextmanager
def alone(folder: Path) -> Iterator[None]:
    """Inside, no other run works in ``folder``: a second one waits, and says for which.

    Whatever ends the holder frees the folder.
    """
    lock, holder = FileLock(f"{folder}.lock"), folder.with_name(f"{folder.name}.lock.json")
    need_folder(folder.parent)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        try:
            who = "process {pid}, since {since}, in {folder}".format(**read(holder))
        except (FileNotFoundError, Damaged, KeyError, TypeError):
            who = f"in {folder}"  # it has only just begun
        print(f"run_all.sh: {short(folder)} is being made by another run ({who}); waiting for its end", flush=True)
        lock.acquire()
    try:
        write_json(holder, {"pid": os.getpid(), "since": time.strftime("%Y-%m-%d %H:%M:%S"), "folder": str(folder)})
        yield
    finally:
        discard(holder)
        lock.release()
