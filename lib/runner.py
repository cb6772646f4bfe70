"""Execute notebooks through papermill: what is fresh is left, what does not build on each other runs side by side."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import nbformat
import papermill
from nbclient.exceptions import DeadKernelError

from lib import profile as profiles
from lib.store import MADE, ROOT, digest, files_digest, model_digest, write_atomically, write_json

NOTEBOOKS = ROOT / "notebooks"
# A station makes what later notebooks build on, so stations run first, one by one, on all cores. Studies build
# on stations alone and may run side by side. The verdict reads them all.
KINDS = ("station", "study", "verdict")
SCENES = "scenes"  # tag of cells, and need of notebooks


def notebooks() -> dict[str, Path]:
    """The notebooks in order, by number."""
    return {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}


def kind(notebook: Path) -> str:
    """One of :data:`KINDS`, from the notebook's own metadata."""
    return nbformat.read(notebook, 4).metadata["companion"]["kind"]


def fits(notebook: Path, profile: profiles.Profile) -> bool:
    """Whether a notebook has anything to say about a profile's images: some are about Emoji Scenes alone."""
    needs = nbformat.read(notebook, 4).metadata["companion"].get("needs")
    return needs != SCENES or profile.images.source == "scenes"


def cells_for(notebook: Path, scenes: bool) -> nbformat.NotebookNode:
    """The notebook; for photographs without the cells tagged ``scenes``, which need to know the truth."""
    book = nbformat.read(notebook, 4)
    book.cells = [c for c in book.cells if scenes or SCENES not in c.metadata.get("tags", [])]
    return book


@dataclass(frozen=True)
class Job:
    """One notebook to be run.

    Attributes
    ----------
    notebook : the file.
    parameters : for papermill.
    record : JSON file that keeps the key and the digests of what was made; the executed notebook lies beside it.
    key : digest of everything that the notebook's results depend on.
    threads : of the numerical libraries.
    scenes : whether the images are Emoji Scenes, of which the truth is known.
    """

    notebook: Path
    parameters: dict[str, Any]
    record: Path
    key: str
    threads: int
    scenes: bool = True

    @property
    def executed(self) -> Path:
        """The notebook with its outputs."""
        return self.record.with_suffix(".ipynb")

    def fresh(self) -> int | None:
        """Number of files that this job made with this key, if they are all there, unchanged; else None."""
        if not self.record.exists():
            return None
        state = json.loads(self.record.read_text())
        same = all(
            (ROOT / name).is_file() and files_digest((ROOT / name,)) == found for name, found in state["made"].items()
        )
        return len(state["made"]) if same and state["key"] == self.key else None


@dataclass(frozen=True)
class Done:
    """How a job ended: ``files`` made in ``seconds``, or an ``error``."""

    notebook: Path
    seconds: float = 0.0
    files: int = 0
    error: str = ""
    cached: bool = False


def key(notebook: Path, profile: profiles.Profile) -> str:
    """Digest of all that a notebook's results depend on: the notebooks up to it, the library, profile and models."""
    before = [path for path in notebooks().values() if path.name <= notebook.name]
    cells = [(c.cell_type, c.source) for path in before for c in nbformat.read(path, 4).cells]
    library = files_digest((ROOT / "lib", ROOT / "data" / "paper"))
    models = [model_digest(profile.subject.model)]
    others = [changes["subject.model"] for changes in profile.variants.values() if "subject.model" in changes]
    models += [model_digest(m) for m in (profile.score.clip, *profile.explainers.values(), *others)]
    return digest(cells, library, profile.as_dict(), models)


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


def execute(job: Job) -> Done:
    """Run one notebook; what it makes is recorded once it has run to its end."""
    begun, made, out = time.perf_counter(), job.record.with_suffix(".made"), Lines(job.notebook.name[:2])
    job.record.parent.mkdir(parents=True, exist_ok=True)
    made.write_text("")
    # Read by the kernel: where to note its files, and how many threads to use.
    os.environ |= {MADE: str(made), "OMP_NUM_THREADS": str(job.threads)}
    try:
        papermill.execute_notebook(
            cells_for(job.notebook, job.scenes),
            job.executed,
            job.parameters,
            kernel_name="python3",
            cwd=ROOT,
            progress_bar=False,
            stdout_file=out,
            stderr_file=out,
            extra_arguments=["--IPKernelApp.log_level=40"],
        )
    except (papermill.PapermillExecutionError, DeadKernelError) as error:
        why = f"{error.ename}: {error.evalue}" if hasattr(error, "ename") else f"{error} (out of memory?)"
        return Done(job.notebook, error=why)
    names = sorted(set(made.read_text().splitlines()))
    made.unlink()
    files_digest.cache_clear()
    write_json(job.record, {"key": job.key, "made": {name: files_digest((ROOT / name,)) for name in names}})
    return Done(job.notebook, time.perf_counter() - begun, len(names))


def run_all(jobs: list[Job], side_by_side: int, force: bool) -> Iterator[Done]:
    """Run jobs in the order of their kinds; after an error none is started, and those that run may end.

    Parameters
    ----------
    jobs : in the order of their numbers.
    side_by_side : studies that run at once.
    force : run what is fresh, too.
    """
    # Fresh processes: a forked one would share the parent's locks and event loops.
    with ProcessPoolExecutor(side_by_side, mp_context=get_context("spawn")) as pool:
        for phase in KINDS:
            waiting = [job for job in jobs if kind(job.notebook) == phase]
            running, failed = set(), False
            while running or (waiting and not failed):
                while waiting and not failed and len(running) < (side_by_side if phase == "study" else 1):
                    job = waiting.pop(0)
                    if not force and (files := job.fresh()) is not None:
                        yield Done(job.notebook, files=files, cached=True)
                        continue
                    print(f"\n== {job.notebook.name}", flush=True)
                    running.add(pool.submit(execute, job))
                ended, running = wait(running, return_when=FIRST_COMPLETED)
                for future in ended:
                    done = future.result()
                    failed |= bool(done.error)
                    yield done
            if failed:
                return


def put_back(executed: Path, notebook: Path) -> None:
    """Write outputs into the notebook itself, without the traces of this run."""
    source, done = nbformat.read(notebook, 4), nbformat.read(executed, 4)
    outputs = [c for c in done.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    for cell, run in zip(source.cells, outputs, strict=True):
        if cell.cell_type == "code":
            cell.outputs = [o for o in run.outputs if o.get("name") != "stderr"]
            cell.execution_count = None
            for output in cell.outputs:
                output.pop("execution_count", None)
                if output.output_type == "execute_result":
                    output.execution_count = None
    nbformat.validate(source)
    write_atomically(notebook, lambda path: nbformat.write(source, path))
