"""What runs when, and what is known to have been made."""

import multiprocessing
from pathlib import Path

import nbformat
import pandas as pd
import pytest

from lib import runner
from lib.figures import save_table
from lib.profile import load
from lib.runner import KINDS, Done, Job, Lines, cells_for, fits, kind, notebooks, run_all
from lib.store import MADE, ROOT, add_rows


def test_every_notebook_says_what_it_is_and_the_verdict_comes_last():
    kinds = {path.stem: kind(path) for path in notebooks().values()}
    assert set(kinds.values()) == set(KINDS)
    assert kinds["02_sae"] == "station" and [n for n, k in kinds.items() if k == "verdict"] == ["18_claims"]


def test_photographs_leave_out_what_needs_the_truth():
    photographs, scenes = load("laptop"), load("desk")
    left_out = {n for n, path in notebooks().items() if not fits(path, photographs)}
    assert left_out == {"00", "01", "17"} and all(fits(path, scenes) for path in notebooks().values())
    tagged = 0
    for path in notebooks().values():
        whole, part = cells_for(path, True).cells, cells_for(path, False).cells
        gone = [c for c in whole if c not in part]
        assert all("scenes" in c.metadata["tags"] for c in gone)
        tagged += len(gone)
    assert tagged >= 6


class Inline:
    """A pool that runs a job when it is waited for, and notes what was running meanwhile."""

    def __init__(self, workers, mp_context):
        self.workers = workers

    def __enter__(self):
        return self

    def __exit__(self, *_):
        return False

    def submit(self, function, job):
        return job


@pytest.fixture
def schedule(monkeypatch, tmp_path):
    """Runs notebooks of given kinds without running them; returns what ran beside what."""

    def run(kinds: dict[str, str], failing: str = "", side_by_side: int = 2, fresh: tuple[str, ...] = ()):
        together = []

        class Future:
            def __init__(self, job):
                self.job = job

            def result(self):
                return Done(self.job.notebook, error="broken" if self.job.notebook.name == failing else "")

        monkeypatch.setattr(runner, "ProcessPoolExecutor", Inline)
        monkeypatch.setattr(Inline, "submit", lambda self, function, job: Future(job))
        monkeypatch.setattr(runner, "kind", lambda path: kinds[path.name])
        monkeypatch.setattr(Job, "fresh", lambda self: 3 if self.notebook.name in fresh else None)

        def wait(running, return_when):
            together.append({f.job.notebook.name for f in running})
            first = min(running, key=lambda f: f.job.notebook.name)
            return {first}, running - {first}

        monkeypatch.setattr(runner, "wait", wait)
        jobs = [Job(Path(name), {}, tmp_path / name, "k", 1) for name in kinds]
        return together, list(run_all(jobs, side_by_side, False))

    return run


KINDS_OF = {"0": "station", "1": "study", "2": "station", "3": "study", "4": "study", "5": "verdict"}


def test_stations_run_alone_and_first_studies_side_by_side_the_verdict_last(schedule):
    together, done = schedule(KINDS_OF)
    assert together == [{"0"}, {"2"}, {"1", "3"}, {"3", "4"}, {"4"}, {"5"}]
    assert [d.notebook.name for d in done] == ["0", "2", "1", "3", "4", "5"]


def test_after_an_error_nothing_starts_and_what_runs_may_end(schedule):
    together, done = schedule(KINDS_OF, failing="1")
    assert together == [{"0"}, {"2"}, {"1", "3"}, {"3"}]
    assert [d.error for d in done] == ["", "", "broken", ""]


def test_what_is_fresh_is_not_run(schedule):
    together, done = schedule(KINDS_OF, side_by_side=1, fresh=("0", "3"))
    assert together == [{"2"}, {"1"}, {"4"}, {"5"}]
    assert {d.notebook.name for d in done if d.cached} == {"0", "3"}


def test_lines_of_two_notebooks_do_not_mix(capsys):
    a, b = Lines("07"), Lines("12")
    a.write("explain:  10%")
    b.write("score:  5%\r")
    a.write("\rexplain:  20%\n")
    assert capsys.readouterr().out == "12 | score:  5%\n07 | explain:  10%\n07 | explain:  20%\n"


def test_files_are_noted_for_the_runner(tmp_path, monkeypatch):
    monkeypatch.setenv(MADE, str(tmp_path / "made"))
    folder = ROOT / "figures" / "smoke+test"
    try:
        save_table(pd.DataFrame({"a": [1.0]}), folder, "t", "note")
    finally:
        for path in folder.glob("*"):
            path.unlink()
        folder.rmdir()
    assert (tmp_path / "made").read_text().split() == ["figures/smoke+test/t.csv", "figures/smoke+test/t.md"]


def test_an_error_in_a_notebook_reaches_the_runner(tmp_path, monkeypatch):
    monkeypatch.setenv(MADE, "")
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    book = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell("raise ValueError('no such layer')")])
    nbformat.write(book, tmp_path / "00_x.ipynb")
    done = runner.execute(Job(tmp_path / "00_x.ipynb", {}, tmp_path / "out" / "00_x.json", "k", 1))
    assert done.error == "ValueError: no such layer" and not (tmp_path / "out" / "00_x.json").exists()


def _add(path, start):
    for i in range(start, start + 20):
        add_rows(path, pd.DataFrame({"latent": [i], "text": [str(i)]}), ["latent"])


def test_two_processes_may_add_to_one_table(tmp_path):
    path, context = tmp_path / "t.parquet", multiprocessing.get_context("spawn")
    workers = [context.Process(target=_add, args=(path, start)) for start in (0, 10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(pd.read_parquet(path).latent) == list(range(30))
