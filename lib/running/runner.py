"""Execute notebooks through papermill: what is fresh is left, what does not build on each other runs side by side."""

from __future__ import annotations

import os
import shutil
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess
from pathlib import Path
from resource import RUSAGE_CHILDREN, getrusage
from typing import Any

import papermill
from nbclient.exceptions import DeadKernelError

from lib.profile import Profile
from lib.running import freshness
from lib.running.collection import KINDS, SIDE_BY_SIDE, cells_for, fits, kind, long, notebooks, number_of
from lib.running.process import discard, end_with, need_folder
from lib.running.warm import Kernels, context, limit_threads
from lib.store import MADE, ROOT, RUNS


@dataclass(frozen=True)
class Job:
    """One notebook to be run.

    Attributes
    ----------
    notebook : the file.
    kind : one of :data:`KINDS`.
    parameters : for papermill.
    record : JSON file that keeps what the results depend on; the executed notebook lies beside it.
    identity : all that the results depend on and that is known before they are made.
    threads : of the numerical libraries.
    scenes : whether the images are Emoji Scenes, of which the truth is known.
    long : whether it is started before others of its kind.
    """

    notebook: Path
    kind: str
    parameters: dict[str, Any]
    record: Path
    identity: dict[str, Any]
    threads: int
    scenes: bool = True
    long: bool = False

    @property
    def number(self) -> str:
        """The notebook's number."""
        return number_of(self.notebook)

    @property
    def executed(self) -> Path:
        """The notebook with its outputs."""
        return self.record.with_suffix(".ipynb")

    def reasons(self) -> list[str]:
        """Why it must be run; empty if it is fresh."""
        return freshness.reasons(self.record, self.executed, self.identity)


def jobs_for(profile: Profile, parameters: dict[str, Any], cores: int) -> list[Job]:
    """A job for each notebook that fits a profile, in order; what may run side by side shares the ``cores``."""
    records, scenes = RUNS / profile.name / "notebooks" / profile.label, profile.images.source == "scenes"
    material, jobs = freshness.material(profile), []
    for notebook in notebooks().values():
        if not fits(notebook, profile):
            continue
        sources = [cell.source for cell in cells_for(notebook, scenes).cells if cell.cell_type == "code"]
        threads = max(1, cores // profile.jobs)
        identity = {**material, **freshness.code(sources)}
        record = records / f"{notebook.stem}.json"
        jobs.append(Job(notebook, kind(notebook), parameters, record, identity, threads, scenes, long(notebook)))
    return jobs


@dataclass(frozen=True)
class Done:
    """How a job ended: ``files`` made in ``seconds``, with at most ``peak`` GiB of memory; or an ``error``."""

    notebook: Path
    seconds: float = 0.0
    files: int = 0
    peak: float = 0.0
    error: str = ""
    cached: bool = False


class Lines:
    """Prints what a notebook says in whole lines, each with the notebook's number: several may speak at once."""

    def __init__(self, number: str) -> None:
        self.number, self.rest = number, ""

    def write(self, text: str) -> None:
        """Take in text; a progress bar's carriage return ends a line, too."""
        *lines, self.rest = (self.rest + text).replace("\r", "\n").split("\n")
        for line in lines:
            if line.strip():
                sys.stdout.write(f"{self.number} | {line}\n")
        sys.stdout.flush()

    def flush(self) -> None:
        """Nothing to do: a line that is not complete waits for its end."""


def _through_papermill(job: Job, out: Lines) -> None:
    papermill.execute_notebook(
        cells_for(job.notebook, job.scenes),
        job.executed,
        job.parameters,
        kernel_name="python3",
        language="python",
        kernel_manager_class=Kernels,
        cwd=ROOT,
        progress_bar=False,
        stdout_file=out,
        stderr_file=out,
        start_timeout=600,  # seconds: on a busy machine imports take long
        extra_arguments=["--IPKernelApp.log_level=40"],
    )


def execute(job: Job) -> Done:
    """Run one notebook, in a process of its own; what it makes is recorded once it has run to its end."""
    begun, out = time.perf_counter(), Lines(job.number)
    own = job.record.with_suffix(".kernel")  # the kernel's own folder while it runs
    notes = own / "notes"
    limit_threads(job.threads)
    # Read by the kernel. A user's own IPython set-up and backend of matplotlib must not change results.
    os.environ |= {
        MADE: str(notes),
        "MPLBACKEND": "module://matplotlib_inline.backend_inline",
        "IPYTHONDIR": str(own / "ipython"),
        "JUPYTER_RUNTIME_DIR": str(own / "jupyter"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")])),
    }
    try:
        need_folder(job.record.parent)
        for path in (own, job.record, *((job.executed,) if job.executed.is_dir() else ())):
            discard(path)  # a run that is stopped half-way counts as none
        own.mkdir()
        notes.touch()
        _through_papermill(job, out)
        seconds, peak = time.perf_counter() - begun, getrusage(RUSAGE_CHILDREN).ru_maxrss
        peak /= 2**20 if sys.platform == "linux" else 2**30  # from KiB, or bytes, to GiB
        files = freshness.write(job.record, job.identity, notes.read_text(encoding="utf-8"), seconds, peak)
        return Done(job.notebook, seconds, files, peak)
    except papermill.PapermillExecutionError as error:
        return Done(job.notebook, error=f"{error.ename}: {error.evalue}")
    except DeadKernelError as error:
        return Done(job.notebook, error=f"{error} (out of memory?)")
    except (OSError, RuntimeError) as error:  # a full disk, a kernel that does not start
        return Done(job.notebook, error=f"{type(error).__name__}: {error}")
    finally:
        shutil.rmtree(own, ignore_errors=True)


class Worker:
    """A process that runs one job; it dies with the runner, and its kernel with it."""

    def __init__(self, job: Job) -> None:
        self.job = job
        how = context(job.scenes)
        self.answer, theirs = how.Pipe(duplex=False)
        self.process: BaseProcess = how.Process(target=_work, args=(job, theirs, os.getpid()))
        self.process.start()
        theirs.close()

    def done(self) -> Done:
        """How the job ended, once ``answer`` is ready."""
        try:
            return self.answer.recv()
        except EOFError:
            self.process.join()
            why = " (out of memory?)" if self.process.exitcode == -9 else f" with exit code {self.process.exitcode}"
            return Done(self.job.notebook, error=f"Its process died{why}")
        finally:
            self.process.join()

    def kill(self) -> None:
        """End the process, and with it the kernel."""
        self.process.kill()
        self.process.join()


def _work(job: Job, answer: Connection, runner: int) -> None:
    os.setsid()  # Ctrl-C in a terminal is for the runner, which then ends its workers
    end_with(runner)
    answer.send(execute(job))


def run_all(jobs: list[Job], side_by_side: int, force: bool) -> Iterator[Done]:
    """Run jobs by kind, long ones first; after an error none is started, and those that run may end.

    Parameters
    ----------
    jobs : in the order of their numbers.
    side_by_side : branches, or studies, that run at once.
    force : run what is fresh, too.
    """
    running: list[Worker] = []
    failed = False
    # Read by Python when it starts: a user's own must not change results, and there are no widgets to show.
    os.environ.pop("PYTHONSTARTUP", None)
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")
    try:
        for phase in KINDS:
            waiting = sorted((job for job in jobs if job.kind == phase), key=lambda job: not job.long)
            while running or (waiting and not failed):
                while waiting and not failed and len(running) < (side_by_side if phase in SIDE_BY_SIDE else 1):
                    job = waiting.pop(0)
                    why = job.reasons()
                    if not why and not force:
                        files = len(freshness.kept(job.record)["made"])
                        yield Done(job.notebook, files=files, cached=True)
                        continue
                    print(f"\n== {job.notebook.name}{f' ({shortly(why)})' if why else ''}", flush=True)
                    running.append(Worker(job))
                ready = wait([worker.answer for worker in running]) if running else []
                for worker in [w for w in running if w.answer in ready]:
                    running.remove(worker)
                    done = worker.done()
                    failed |= bool(done.error)
                    yield done
            if failed:
                return
    finally:
        for worker in running:
            worker.kill()


def shortly(reasons: list[str], most: int = 3) -> str:
    """Reasons in one line: the first few, and how many more there are."""
    more = [f"and {len(reasons) - most} more"] if len(reasons) > most else []
    return "; ".join([r if len(r) <= 100 else f"{r[:97]}..." for r in reasons[:most]] + more)
