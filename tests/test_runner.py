"""What runs when, what is known to have been made, and what a run survives."""

import json
import os
import shutil
import signal
import subprocess
import textwrap
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
from driver import FORKS, Started, await_true
from PIL import Image

from lib import __main__ as main
from lib import device
from lib.figures import save_table
from lib.profile import load
from lib.running import collection, freshness, runner, status
from lib.running.collection import KINDS, cells_for, fits, kind, notebooks, survey
from lib.running.process import alone, cores
from lib.running.runner import Done, Job, Lines, jobs_for, run_all, shortly
from lib.store import MADE, ROOT, Damaged, add_rows, write_json

# -- notebooks -------------------------------------------------------------------------------------


def test_every_notebook_says_what_it_is_and_the_verdict_comes_last():
    kinds = {path.stem: kind(path) for path in notebooks().values()}
    assert set(kinds.values()) == set(KINDS) and survey()[1:] == ({}, [])
    assert kinds["02_sae"] == "station" and [n for n, k in kinds.items() if k == "verdict"] == [
        "18_claims",
        "20_solutions",
    ]


def test_photographs_leave_out_what_needs_the_truth():
    photographs, scenes = load("laptop"), load("desk")
    left_out = {n for n, path in notebooks().items() if not fits(path, photographs)}
    assert left_out == {"00", "01", "17", "20"} and all(fits(path, scenes) for path in notebooks().values())
    tagged = 0
    for path in notebooks().values():
        whole, part = cells_for(path, True).cells, cells_for(path, False).cells
        gone = [c for c in whole if c not in part]
        assert all("scenes" in c.metadata["tags"] for c in gone)
        tagged += len(gone)
    assert tagged >= 6


PARAMETERS = nbformat.v4.new_code_cell("profile = ''\noverrides = {}", metadata={"tags": ["parameters"]})


def put(folder: Path, name: str, *cells: str, kind: str | None = "study", of: str | None = None) -> Path:
    """A small notebook, or a copy ``of`` another."""
    book = nbformat.v4.new_notebook(cells=[PARAMETERS, *map(nbformat.v4.new_code_cell, cells)])
    if kind:
        book.metadata["companion"] = {"kind": kind, "name": of or name}
    folder.mkdir(parents=True, exist_ok=True)
    nbformat.write(book, folder / f"{name}.ipynb")
    return folder / f"{name}.ipynb"


@pytest.fixture
def shelf(tmp_path, monkeypatch):
    """A folder of notebooks of the test's own."""
    monkeypatch.setattr(collection, "NOTEBOOKS", tmp_path / "notebooks")
    monkeypatch.setattr(runner, "RUNS", tmp_path / "runs")
    return tmp_path / "notebooks"


def test_a_copy_and_ones_own_notebooks_are_left_out_with_a_line_each(shelf):
    put(shelf, "03_evidence")
    put(shelf, "03_evidence-Copy1", of="03_evidence")
    put(shelf, "03_a", of="03_evidence")
    put(shelf, "03_a_notebook_of_mine", kind=None)
    put(shelf, "20_scratch", kind=None)
    put(shelf, "21_scratch", kind="something")
    put(shelf, "untitled", kind=None)
    found, broken, left_out = survey()
    assert found == {"03": shelf / "03_evidence.ipynb"} and not broken and len(left_out) == 5
    for name in ("03_evidence-Copy1", "03_a", "03_a_notebook_of_mine", "20_scratch", "21_scratch"):
        assert sum(line.startswith(f"{name}.ipynb") for line in left_out) == 1


GOOD = '{"nbformat": 4, "nbformat_minor": 5, "metadata": {"companion": {"kind": "study"}}, "cells": []}'
BROKEN = {
    "truncated": GOOD[:-10],
    "empty": "",
    "merge": f"<<<<<<< HEAD\n{GOOD}\n=======\n{GOOD}\n>>>>>>> other\n",
    "null": "null",
    "list": "[]",
    "number": "3",
    "object": "{}",
    "no cells": '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}}',
    "cells are nothing": '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": null}',
    "a cell is a number": '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [3]}',
    "a cell without source": '{"nbformat": 4, "nbformat_minor": 5, "metadata": {}, "cells": [{"cell_type": "code"}]}',
    "of version 9": '{"nbformat": 9, "nbformat_minor": 0, "metadata": {}, "cells": []}',
}


@pytest.mark.parametrize("text", BROKEN.values(), ids=BROKEN)
def test_a_broken_notebook_is_named_and_no_copy_replaces_it(shelf, text):
    put(shelf, "02_sae")
    put(shelf, "03_evidence_mine", of="03_evidence")
    (shelf / "03_evidence.ipynb").write_text(text)
    found, broken, left_out = survey()
    assert list(found) == ["02"] and list(broken) == ["03"] and len(left_out) == 1
    assert broken["03"].startswith("03_evidence.ipynb is no notebook") and "\n" not in broken["03"]


def test_what_is_no_text_is_no_notebook(shelf):
    put(shelf, "02_sae")
    (shelf / "03_a.ipynb").write_bytes(b"\xff\xfe\x00")
    (shelf / "04_a.ipynb").mkdir()
    (shelf / "05_a.ipynb").symlink_to(shelf / "nowhere")
    assert list(survey()[0]) == ["02"] and list(survey()[1]) == ["03", "04", "05"]


# -- order -----------------------------------------------------------------------------------------


@pytest.fixture
def schedule(monkeypatch, tmp_path):
    """Runs notebooks of given kinds without running them; returns what ran beside what."""

    def run(kinds: dict[str, str], failing: str = "", side_by_side: int = 2, fresh: tuple[str, ...] = ()):
        together = []

        class Instant:
            def __init__(self, job):
                self.job = self.answer = job

            def done(self):
                return Done(self.job.notebook, error="broken" if self.job.notebook.name == failing else "")

        def wait(answers):
            together.append({job.notebook.name for job in answers})
            return [min(answers, key=lambda job: job.notebook.name)]

        monkeypatch.setattr(runner, "Worker", Instant)
        monkeypatch.setattr(runner, "wait", wait)
        monkeypatch.setattr(Job, "reasons", lambda self: [] if self.notebook.name in fresh else ["new"])
        monkeypatch.setattr(freshness, "kept", lambda record: {"made": {}})
        jobs = [Job(Path(name), kind, {}, tmp_path / name, {}, 1) for name, kind in kinds.items()]
        return together, list(run_all(jobs, side_by_side, False))

    return run


KINDS_OF = {"0": "station", "1": "study", "2": "station", "3": "study", "4": "study", "5": "verdict"}


def test_stations_run_alone_and_first_studies_side_by_side_the_verdict_last(schedule):
    together, done = schedule(KINDS_OF)
    assert together == [{"0"}, {"2"}, {"1", "3"}, {"3", "4"}, {"4"}, {"5"}]
    assert [d.notebook.name for d in done] == ["0", "2", "1", "3", "4", "5"]


def test_branches_run_side_by_side_between_stations_and_studies(schedule):
    together, _ = schedule(KINDS_OF | {"1": "branch", "4": "branch"})
    assert together == [{"0"}, {"2"}, {"1", "4"}, {"4"}, {"3"}, {"5"}]
    branches = {n for n, path in notebooks().items() if kind(path) == "branch"}
    assert branches == {"00", "01", "01b", "06", "07", "12", "13", "15", "19"}


def test_long_notebooks_of_a_kind_start_first(tmp_path, monkeypatch):
    started = []
    monkeypatch.setattr(Job, "reasons", lambda self: started.append(self.notebook.name) or [])
    monkeypatch.setattr(freshness, "kept", lambda record: {"made": {}})
    kinds = {"0": "station", "1": "study", "2": "study", "3": "study"}
    jobs = [Job(Path(n), k, {}, tmp_path / n, {}, 1, long=n in "23") for n, k in kinds.items()]
    assert len(list(run_all(jobs, 2, False))) == 4 and started == ["0", "2", "3", "1"]
    assert {n for n, path in notebooks().items() if collection.long(path)} == {"06", "07", "10", "16"}


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


def test_the_cores_of_taskset_and_of_OMP_NUM_THREADS_are_kept_to(monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(6)), raising=False)
    for given, allowed in {"": 6, "4": 4, "99": 6, "2,1": 2, "0": 1, "many": 6}.items():
        monkeypatch.setenv("OMP_NUM_THREADS", given)
        assert cores() == allowed
    monkeypatch.delenv("OMP_NUM_THREADS")
    assert cores() == 6
    for at_once, threads in ((1, 6), (2, 3), (4, 1), (9, 1)):
        assert {job.threads for job in jobs_for(load("smoke", {"jobs": at_once}), {}, 6)} == {threads}


def test_as_many_processes_share_the_work_as_notebooks_run_at_once_unless_someone_says_otherwise(monkeypatch):
    monkeypatch.setattr(main, "cores", lambda: 3)

    def found(jobs, *arguments):
        return main.helpers(main.parse(arguments), load("smoke", {"jobs": jobs}))

    assert [found(jobs) for jobs in (1, 2, 3, 8)] == [None, 2, 3, 3]
    assert found(2, "--cluster", "tcp://a:1") is None
    monkeypatch.setattr(device, "DEVICE", "cuda")
    assert found(2) is None
    monkeypatch.setattr(device, "DEVICE", "cpu")
    monkeypatch.setattr(main, "find_spec", lambda name: None)
    assert found(2) is None


# -- what a notebook depends on -------------------------------------------------------------------


def test_a_notebook_reaches_what_its_cells_import_and_nothing_else():
    modules = freshness.code(["from lib.stats import mean\n", "%matplotlib inline\nimport lib.overlay as o", "x ="])
    names = set(modules["modules"])
    assert {"code cell 1", "code cell 2", "code cell 3", "lib.stats", "lib.overlay"} <= names
    assert not names & {"lib.figures", "lib.running.runner", "lib.run"} and "numpy" in modules["packages"]


def test_no_notebook_depends_on_the_runner_or_on_another_notebook(shelf):
    shutil.copytree(ROOT / "notebooks", shelf)
    jobs = {job.number: job for job in jobs_for(load("smoke"), {}, 1)}
    for job in jobs.values():
        own = "".join(c.source for c in cells_for(job.notebook, True).cells)
        for module in ("__main__", "runner", "status", "freshness", "collection", "process", "plan", "desk"):
            assert f"lib.{module}" not in job.identity["modules"] or f"lib.{module}" in own
    put(shelf, jobs["03"].notebook.stem, "1 + 1", kind="station")
    after = {job.number: job for job in jobs_for(load("smoke"), {}, 1)}
    assert [n for n in jobs if jobs[n].identity != after[n].identity] == ["03"]


def test_settings_and_models_count_for_notebooks_and_hardware_does_not():
    def material(changes):
        return freshness.material(load("smoke", changes))["settings"] | {"changes": ""}

    assert material({"jobs": 7, "hardware.tflops": 3}) == material({})
    assert material({"sae.k": 4}) != material({})
    models = freshness.material(load("smoke"))["models"]
    profile = load("smoke")
    for model in (profile.subject.model, profile.score.clip, *profile.explainers.values(), "data/models/subject-b"):
        assert models[str(model)]["content"]


@pytest.fixture
def kept(tmp_path):
    """A record of a notebook that has run: the record, the executed notebook, and its identity."""
    record, executed, now = tmp_path / "03_a.json", tmp_path / "03_a.ipynb", {"parts": {"sae": {"k": 8}}}
    (tmp_path / "made.csv").write_text("1")
    (tmp_path / "used.csv").write_text("2")
    (tmp_path / "stage").mkdir()
    (tmp_path / "stage" / "result").write_text("3")
    write_json(tmp_path / "stage" / "cost.json", {"seconds": 1.5, "files": ["result"], "done": True})
    executed.write_text(GOOD)
    notes = (
        f"made\t{tmp_path}/made.csv\nused\t{tmp_path}/used.csv\nused\t{tmp_path}/made.csv\nstage\t{tmp_path}/stage\n"
    )
    assert freshness.write(record, now, notes, 1.5, 0.25) == 1
    assert freshness.reasons(record, executed, now) == []
    return record, executed, now


@pytest.mark.parametrize(
    "name", ["03_a.ipynb", "made.csv", "used.csv", "stage", "stage/result", "stage/cost.json", "03_a.json"]
)
def test_what_is_deleted_is_made_again(kept, tmp_path, name):
    path = tmp_path / name
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    (why,) = freshness.reasons(*kept)
    assert why == freshness.NEVER if name == "03_a.json" else (name in why and why.endswith("gone"))


@pytest.mark.parametrize("name", ["made.csv", "used.csv"])
def test_what_is_changed_is_made_again(kept, tmp_path, name):
    (tmp_path / name).write_text("3")
    assert [why.endswith(f"{name} has changed") for why in freshness.reasons(*kept)] == [True]


def test_another_identity_says_what_differs(kept):
    assert freshness.reasons(*kept[:2], {"parts": {"sae": {"k": 16}}}) == ["sae.k: 8, now 16"]
    assert shortly(["a" * 200, "b", "c", "d", "e"]).endswith("...; b; c; and 2 more")


@pytest.mark.parametrize(
    "text", ["", "null", "[]", "3", "{}", '{"identity": {}, "made": []}', '{"identity": {"a"', None]
)
def test_a_damaged_record_is_no_record(kept, text):
    kept[0].unlink()
    kept[0].write_text(text) if text is not None else kept[0].mkdir()
    assert freshness.reasons(*kept) == ["its record is damaged"]


def test_files_are_noted_for_the_runner(tmp_path, monkeypatch):
    monkeypatch.setenv(MADE, str(tmp_path / "made"))
    folder = ROOT / "figures" / "smoke+test"
    try:
        save_table(pd.DataFrame({"a": [1.0]}), folder, "t", "note")
    finally:
        shutil.rmtree(folder)
    lines = (tmp_path / "made").read_text().splitlines()
    assert lines == ["made\tfigures/smoke+test/t.csv", "made\tfigures/smoke+test/t.md"]


def test_pictures_of_a_variant_and_the_order_of_explainers_count_for_notebooks(tmp_path):
    for place in ("own", "other"):
        for n in range(12):
            path = tmp_path / place / f"{n}.png"
            path.parent.mkdir(exist_ok=True)
            Image.new("RGB", (9, 9 + n)).save(path)
    sizes = {"images.train": 4, "images.explain": 4, "images.evaluate": 3, "images.sizes": [2], "sae.batch": 64}
    sizes["explain.min_images"] = 1
    judges = {f"score.{judge}": "data/models/clip-judge" for judge in ("segmenter", "generator")}
    variants = {"v": {"images.source": str(tmp_path / "other"), "subject.published": None}}
    settings = {**sizes, **judges, "images.source": str(tmp_path / "own"), "variants": variants}
    before = freshness.material(load("smoke", settings))
    Image.new("RGB", (3, 3)).save(tmp_path / "other" / "more.png")
    assert freshness.material(load("smoke", settings))["pictures"] != before["pictures"]
    turned = dict(reversed(load("smoke").explainers.items()))
    orders = [freshness.material(load("smoke", {"explainers": e}))["order"] for e in (load("smoke").explainers, turned)]
    assert json.dumps(orders[0]) != json.dumps(orders[1])


# -- real runs, of small notebooks -----------------------------------------------------------------


def run(folder: Path, *arguments: str, **environment: str) -> tuple[int, str, str]:
    """Exit code and output of a whole run."""
    return Started(folder, *arguments, server=False, **environment).ended()


def alive(pid: int) -> bool:
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(pid)], capture_output=True, text=True).stdout
    return bool(state.strip()) and not state.startswith("Z")


SLEEP = """
import os, time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
Path({!r}).write_text(f"{{os.getpid()}} {{os.getppid()}}")
time.sleep(300)
"""


@pytest.mark.slow(14)
def test_a_run_is_recorded_and_neither_start_up_files_nor_a_backend_change_it(tmp_path):
    used, startup = "data/paper/table2.csv", tmp_path / "ipython" / "profile_default" / "startup"
    startup.mkdir(parents=True)
    (startup / "00.py").write_text("sqrt = 'from the start-up file'")
    (tmp_path / "rc.py").write_text("sqrt = 'from PYTHONSTARTUP'")
    cells = (
        "import matplotlib.pyplot as plt\n_ = plt.plot([1, 2])",
        "import pandas as pd\nfrom lib.figures import save_table\nfrom pathlib import Path\n"
        f"table = pd.read_csv('{used}')\n_ = save_table(table, Path('{tmp_path}'), 't', 'note')",
        "print('sqrt' in globals(), repr(profile), overrides)",
    )
    put(tmp_path / "notebooks", "03_a", *cells, kind="station")
    environment = {
        "MPLBACKEND": "TkAgg",
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "PYTHONSTARTUP": str(tmp_path / "rc.py"),
        "JUPYTER_PATH": str(tmp_path),
    }
    code, out, err = run(tmp_path, "--set", "sae.k=4", **environment)
    assert code == 0 and "03 | False 'smoke' {'sae.k': 4}" in out, err
    (record,) = tmp_path.glob("runs/smoke/notebooks/*/03_a.json")
    kept = freshness.kept(record)
    assert list(kept["made"]) == [f"{tmp_path}/t.csv", f"{tmp_path}/t.md"] and list(kept["used"]) == [used]
    assert 0.05 < kept["peak"] < 8 and kept["seconds"] > 0.5
    assert sorted(p.name for p in record.parent.iterdir()) == ["03_a.ipynb", "03_a.json"]
    book = nbformat.read(record.with_suffix(".ipynb"), 4)
    assert ["image/png" in o.get("data", {}) for o in book.cells[2].outputs] == [True]
    code, out, _ = run(tmp_path, "--set", "sae.k=4")
    assert code == 0 and "| 03_a.ipynb | up to date |" in out
    (tmp_path / "t.md").unlink()
    code, out, _ = run(tmp_path, "--set", "sae.k=4")
    assert "t.md is gone)" in out and "| 03_a.ipynb | done |" in out


@pytest.mark.slow(10)
def test_a_broken_notebook_does_not_keep_others_from_running(tmp_path):
    put(tmp_path / "notebooks", "02_a", "1", kind="station")
    put(tmp_path / "notebooks", "20_scratch", kind=None)
    (tmp_path / "notebooks" / "03_b.ipynb").write_text("")
    code, out, err = run(tmp_path)
    assert code == 1 and "| 02_a.ipynb | done |" in out and "20_scratch.ipynb is none" in out
    assert "03_b.ipynb is no notebook" in err and "Traceback" not in out + err
    code, out, err = run(tmp_path, "--only", "02")
    assert code == 0 and not err
    code, out, err = run(tmp_path, "--only", "03")
    assert code == 1 and "03_b.ipynb is no notebook" in err and "Traceback" not in err


@pytest.mark.slow(5)
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_stop_is_one_line_and_ends_all_processes(tmp_path, number):
    put(tmp_path / "notebooks", "04_a", SLEEP.format(str(tmp_path / "pids")), kind="station")
    put(tmp_path / "notebooks", "01_b", "1")
    process = Started(tmp_path)
    await_true(lambda: (tmp_path / "pids").exists() and (tmp_path / "pids").read_text())
    os.killpg(process.pid, number)
    os.kill(process.pid, number)  # twice, as an impatient user does
    code, _, err = process.ended(20)
    assert code == 128 + number
    assert err.strip() == "run_all.sh: stopped at 04; go on with --from 01"
    await_true(lambda: not any(map(alive, map(int, (tmp_path / "pids").read_text().split()))), 5)
    assert (
        not list(tmp_path.glob("runs/smoke/notebooks/smoke/*.json"))
        and not (tmp_path / "runs/smoke.lock.json").exists()
    )


@pytest.mark.slow(5)
@pytest.mark.parametrize("victim", ["runner", "worker", "kernel"])
def test_whatever_is_killed_nothing_computes_on(tmp_path, victim):
    put(tmp_path / "notebooks", "04_a", SLEEP.format(str(tmp_path / "pids")), kind="station")
    process = Started(tmp_path)
    await_true(lambda: (tmp_path / "pids").exists() and len((tmp_path / "pids").read_text().split()) == 2)
    kernel, worker = map(int, (tmp_path / "pids").read_text().split())
    os.kill({"runner": process.pid, "worker": worker, "kernel": kernel}[victim], signal.SIGKILL)
    code, _, err = process.ended(30)
    await_true(lambda: not alive(kernel) and not alive(worker), 5)
    if victim != "runner":
        assert code == 1 and "Traceback" not in err
        assert "04_a.ipynb stopped: " in err and "died (out of memory?)" in err and "go on with --from 04" in err


@pytest.mark.slow(5)
def test_a_kernel_that_is_ended_as_it_answers_says_nothing(tmp_path):
    """Nbclient interrupts kernels to end them, now and then before the last answer's handler has returned."""
    interrupted = """
        handlers = get_ipython().kernel.shell_handlers
        async def late(*request, answer=handlers["execute_request"]):
            await answer(*request)
            raise KeyboardInterrupt
        handlers["execute_request"] = late
    """
    put(tmp_path / "notebooks", "02_a", textwrap.dedent(interrupted), "1", kind="station")
    code, out, err = run(tmp_path)
    assert code == 0 and "| 02_a.ipynb | done |" in out and not err


@pytest.mark.slow(8)
def test_a_second_run_of_a_profile_waits_for_the_first_and_says_for_which(tmp_path):
    put(tmp_path / "notebooks", "04_a", SLEEP.format(str(tmp_path / "pids")), kind="station")
    put(tmp_path / "notebooks", "02_b", "1", kind="station")
    first = Started(tmp_path, "--only", "04")
    await_true(lambda: (tmp_path / "pids").exists())
    second = Started(tmp_path, "--only", "02")
    line = second.first_line()
    assert f"process {first.pid}, since " in line and f"in {tmp_path}/runs/smoke" in line
    os.kill(first.pid, signal.SIGKILL)  # and whatever ends it frees the folder
    code, out, err = second.ended(60)
    assert code == 0 and "| 02_b.ipynb | done |" in out and not err


@pytest.mark.slow(5)
def test_a_full_disk_is_said_in_one_line(tmp_path):
    put(tmp_path / "notebooks", "04_a", "1", kind="station")
    folder = tmp_path / "runs" / "smoke" / "notebooks" / "smoke"
    folder.mkdir(parents=True)
    (folder / "04_a.ipynb").symlink_to("/dev/full")
    code, _, err = run(tmp_path)
    assert code == 1 and "04_a.ipynb stopped: OSError: [Errno 28] No space left on device" in err
    assert "Traceback" not in err


@pytest.mark.slow(5)
def test_an_error_in_a_notebook_is_said_in_one_line_and_leaves_no_record(tmp_path):
    put(tmp_path / "notebooks", "04_a", "raise ValueError('no such layer')", kind="station")
    folder = tmp_path / "runs" / "smoke" / "notebooks" / "smoke"
    write_json(folder / "04_a.json", {"identity": {}})
    code, out, err = run(tmp_path)
    assert code == 1 and "04_a.ipynb stopped: ValueError: no such layer" in err and "Traceback" not in err
    assert "(its record is damaged)" in out and [p.name for p in folder.iterdir()] == ["04_a.ipynb"]


@pytest.mark.parametrize("name", ["runs", "runs/smoke"])
def test_a_file_where_results_belong_is_named(tmp_path, name):
    put(tmp_path / "notebooks", "04_a", "1", kind="station")
    (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / name).write_text("")
    code, _, err = run(tmp_path)
    assert code and f"{tmp_path / name} is a file" in err and "Remove it" in err and "Traceback" not in err


def test_directories_in_the_place_of_record_and_executed_notebook_are_replaced(tmp_path):
    put(tmp_path / "notebooks", "04_a", "1", kind="station")
    folder = tmp_path / "runs" / "smoke" / "notebooks" / "smoke"
    (folder / "04_a.json" / "x").mkdir(parents=True)
    (folder / "04_a.ipynb" / "x").mkdir(parents=True)
    code, out, _ = run(tmp_path)
    assert code == 0 and "(its record is damaged" in out and (folder / "04_a.json").is_file()


def test_the_holder_of_a_folder_that_cannot_be_made_is_told(tmp_path):
    (tmp_path / "runs").write_text("")
    with pytest.raises(Damaged, match="is a file"), alone(tmp_path / "runs" / "desk"):
        pass


# -- tables that several add to --------------------------------------------------------------------


def _add(path, start):
    for i in range(start, start + 20):
        add_rows(path, pd.DataFrame({"latent": [i], "text": [str(i)]}), ["latent"])


@pytest.mark.slow(3)
def test_two_processes_may_add_to_one_table(tmp_path):
    path = tmp_path / "t.parquet"
    workers = [FORKS.Process(target=_add, args=(path, start)) for start in (0, 10)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert sorted(pd.read_parquet(path).latent) == list(range(30))


def test_a_record_is_plain_json(kept):
    assert json.loads(kept[0].read_text())["identity"] == kept[2]


# -- status ----------------------------------------------------------------------------------------


def test_the_status_of_a_stage_says_what_changed_and_what_it_cost(tmp_path):
    def row(made: bool, there: bool, stale: list[str] | None) -> tuple[str, ...]:
        folder = tmp_path / ("there" if there else "nowhere")
        stage = SimpleNamespace(notebook="02", folder=folder, made=made, seconds=7200.0, stale=lambda: stale)
        return status.of_stage(stage)[1:]

    (tmp_path / "there").mkdir()
    assert row(True, True, ["old"]) == ("fresh", "2.0 h", "")
    assert row(False, True, None) == ("unfinished", "2.0 h", "")
    assert row(False, False, ["sae.k: 8, now 4", "b", "c", "d"]) == ("stale", "", "sae.k: 8, now 4; b; c; and 1 more")
    assert row(False, False, None) == ("missing", "", "")


def test_the_status_of_a_notebook_says_what_changed_and_what_it_cost(kept):
    record, executed, now = kept
    job = Job(executed, "study", {}, record, now, 1)
    assert status.of_notebook(job) == ("03_a.ipynb", "fresh", "2 s, 0.2 GiB", "")
    assert status.of_notebook(replace(job, identity={"parts": {"sae": {"k": 4}}}))[1:] == (
        "stale",
        "2 s, 0.2 GiB",
        "sae.k: 8, now 4",
    )
    record.write_text("null")
    assert status.of_notebook(job) == ("03_a.ipynb", "missing", "", "its record is damaged")
    record.unlink()
    assert status.of_notebook(job) == ("03_a.ipynb", "missing", "", "")


def test_the_status_says_what_is_absent_without_a_traceback(shelf, tmp_path, capsys):
    put(shelf, "02_sae", "1", kind="station")
    profile = load("smoke", {"explainers": {"small": str(tmp_path / "nowhere")}})
    assert status.main_status(profile) == 1
    assert "there is no folder" in capsys.readouterr().out
