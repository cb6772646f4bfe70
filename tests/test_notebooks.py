"""Every notebook runs at smoke scale through the real runner, alone and by two workers with the same tables."""

import ast
import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import groupby

import nbformat
import papermill
import psutil
import pytest
from shared import Project, WholeRun, whole_run

from lib.__main__ import main, overrides
from lib.notebook import refuse_unknown
from lib.running.collection import notebooks, put_back
from lib.settings import ProfileError
from lib.store import ROOT

DESK = ROOT / "figures" / "desk"


@pytest.fixture(scope="session")
def first_run(tmp_path_factory) -> WholeRun:
    """A complete run from nothing."""
    return whole_run(tmp_path_factory)


@pytest.fixture
def first_project(first_run) -> Project:
    """Where it was made, and where tests of one worker run again, one after the other."""
    return first_run.project


@pytest.fixture(scope="session")
def second_run(tmp_path_factory) -> Project:
    """Another complete run from nothing, at another place: by two workers, of which one is killed on the way."""
    project = Project.copied(tmp_path_factory.mktemp("second"))
    with ThreadPoolExecutor(1) as pool:
        run = pool.submit(project.run, "--profile", "smoke", "--workers", "2")
        while not run.done() and not list(project.folder.glob("data/runs/smoke/explanations-*/*.parquet")):
            time.sleep(0.2)
        there = [] if run.done() else workers()
        if there:
            there[0].kill()
        done = run.result()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    assert len(there) == 2 and "Shards go to 2 workers" in done.stdout
    return project


def workers() -> list[psutil.Process]:
    """The cluster's worker processes below this one: spawned by a process that was spawned itself."""
    spawned = {p.pid: p for p in psutil.Process().children(recursive=True) if "spawn_main" in " ".join(p.cmdline())}
    return [p for p in spawned.values() if p.ppid() in spawned]


class TestFirstRun:
    """In one project, so by one worker, one after the other."""

    @pytest.mark.slow(200)
    def test_every_notebook_runs_and_makes_its_tables_and_figures(self, first_run):
        for notebook in notebooks().values():
            assert f"| {notebook.name} | done |" in first_run.stdout
        made = {p.name for p in first_run.project.figures("smoke").glob("*")}
        assert made == {p.name for p in DESK.glob("*")} - {
            "README.md"
        }  # what is committed is what a run makes, no more and no less
        made = {n for n in made if not n.startswith("findings_")}  # sentences, from tables that are here as well
        for one, *others in ((".csv", ".md"), (".pdf", ".dark.png", ".txt")):
            names = {n.removesuffix(one) for n in made if n.endswith(one)}
            assert all(names == {n.removesuffix(other) for n in made if n.endswith(other)} for other in others)
        assert names == {n.removesuffix(".png") for n in made if n.endswith(".png") and ".dark." not in n}

    @pytest.mark.slow(200)
    def test_figures_stand_in_executed_notebooks(self, first_run):
        """A kernel that was forked from a process with matplotlib shows a line of text, if nobody sees to it."""
        executed = list(first_run.project.folder.glob("data/runs/smoke/notebooks/smoke/*.ipynb"))
        drawing = [path for path in executed if "save_figure(" in path.read_text()]
        assert len(drawing) > 15 and all('"image/png"' in path.read_text() for path in drawing)

    @pytest.mark.slow(4)
    def test_a_second_run_takes_seconds(self, first_project):
        begun = time.perf_counter()
        done = first_project.run("--profile", "smoke")
        assert done.returncode == 0 and done.stdout.count("up to date") == len(notebooks())
        assert time.perf_counter() - begun < 30

    @pytest.mark.slow(4)
    def test_the_status_of_a_whole_run_is_fresh(self, first_project):
        done = first_project.run("--profile", "smoke", "--status")
        assert done.returncode == 0 and done.stdout.count(" fresh ") > len(notebooks())
        assert not {"stale", "missing", "unfinished"} & set(done.stdout.split())

    @pytest.mark.slow(12)
    def test_missing_figures_come_back(self, first_run):
        (first_run.project.figures("smoke") / "table1.csv").unlink()
        done = first_run.project.run("--profile", "smoke")
        assert done.stdout.count("| done |") == 1 and first_run.project.tables("smoke") == first_run.tables

    @pytest.mark.slow(10)
    def test_a_stage_that_is_missing_names_the_notebook_that_makes_it(self, first_project):
        changed = ("--set", "sae.latents=64", "--set", "explain.test=4")
        done = first_project.run("--profile", "smoke", "--only", "05", *changed)
        assert done.returncode == 1
        assert "MissingStage" in done.stderr and f"{' '.join(changed)} --from 02" in done.stderr
        assert not list(first_project.folder.glob("figures/smoke+*/table1.csv"))


class TestSecondRun:
    @pytest.mark.slow(200)
    def test_a_run_by_two_workers_of_which_one_is_killed_gives_the_same_tables(self, second_run, first_run):
        """The second comes before the first by name: it is made while another worker makes that, and then compared."""
        assert second_run.tables("smoke") == first_run.tables


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--set", "sae.latent=3"], "did you mean 'sae.latents'"),
        (["--set", "sae.latents"], "takes key=value"),
        (["--set", "sae.k=[1"], "not valid YAML"),
        (["--set", "=3"], "takes key=value"),
        (["--set", "sae.k=\x01"], "not valid YAML"),
        (["--set", "sae.k=2001-02-30"], "not valid YAML"),
        (["--set", "sae.k=2001-02-03"], "sae.k must be a whole number"),
        (["--set", "sae.k={a: 1, a: 2}"], "stands twice"),
        (["--set", "sae.k=4", "--set", "sae.k=8"], "--set sae.k is given twice"),
        (["--profile", "smoke", "--in-place"], "--in-place is for what is committed"),
        (["--profile", "smok"], "did you mean 'smoke'"),
    ],
)
def test_wrong_arguments_are_refused_before_anything_runs(arguments, message, capsys):
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments",
    [
        ["verify", "--only", "02"],
        ["verify", "--status"],
        ["verify", "--set", "sae.k=4"],
        ["--plan", "--status"],
        ["--status", "--force"],
    ],
)
def test_options_that_would_do_nothing_are_refused(arguments, capsys):
    with pytest.raises(SystemExit):
        main(arguments)
    assert "verify" in capsys.readouterr().err


@pytest.mark.parametrize("which", ["--only", "--from"])
def test_unknown_notebook_is_refused(which, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("lib.__main__.RUNS", tmp_path)
    assert main([which, "77"]) == 2
    assert "no notebook '77': choose from 00, 01" in capsys.readouterr().err


def test_settings_are_yaml():
    assert overrides(["a=3", "b=[1, 2.5]", "c=x=y", "d=null"]) == {"a": 3, "b": [1, 2.5], "c": "x=y", "d": None}
    with pytest.raises(ProfileError):
        overrides(["a"])


@pytest.mark.parametrize("name", ["profle", "profile_", "sae"])
def test_a_name_that_is_no_parameter_is_refused(name):
    refuse_unknown("# Parameters\nprofile = 'desk'\noverrides = {}\n")
    refuse_unknown(f"{name} = 3")  # a cell of the notebook itself
    with pytest.raises(ProfileError, match=f"unknown parameter '{name}'.*; a notebook takes profile and overrides"):
        refuse_unknown(f"# Parameters\n{name} = 'desk'\n")


def test_papermill_parameters_are_checked(tmp_path):
    """Called directly, papermill only warns of an unknown parameter; the notebook itself refuses it."""
    with pytest.raises(papermill.PapermillExecutionError, match="did you mean 'profile'"):
        papermill.execute_notebook(
            notebooks()["01"], tmp_path / "out.ipynb", {"profle": "smoke"}, cwd=ROOT, progress_bar=False
        )


def test_outputs_are_put_back_without_traces_of_the_run(tmp_path):
    source, done = nbformat.v4.new_notebook(), nbformat.v4.new_notebook()
    source.cells = [nbformat.v4.new_markdown_cell("# T"), nbformat.v4.new_code_cell("1 + 1")]
    outputs = [
        nbformat.v4.new_output("stream", name="stderr", text="progress"),
        nbformat.v4.new_output("execute_result", {"text/plain": "2"}, execution_count=7),
    ]
    injected = nbformat.v4.new_code_cell("profile = 'smoke'", metadata={"tags": ["injected-parameters"]})
    done.cells = [source.cells[0], injected, nbformat.v4.new_code_cell("1 + 1", outputs=outputs, execution_count=7)]
    nbformat.write(source, tmp_path / "a.ipynb")
    nbformat.write(done, tmp_path / "b.ipynb")
    put_back(tmp_path / "b.ipynb", tmp_path / "a.ipynb")
    cell = nbformat.read(tmp_path / "a.ipynb", 4).cells[1]
    assert len(nbformat.read(tmp_path / "a.ipynb", 4).cells) == 2
    assert [o.output_type for o in cell.outputs] == ["execute_result"] and cell.outputs[0].execution_count is None


def stretches(cells: list) -> Iterator[list]:
    """Code between two pieces of text, which introduce what it shows; but for the parameters, and opening the run."""
    for text, part in groupby(cells, lambda c: c.cell_type == "markdown"):
        code = list(part)
        if not text and not any("parameters" in c.metadata.get("tags", []) for c in code):
            yield code


def saves_figures(source: str) -> bool:
    """Whether a cell saves a figure, and does not only define a function that would."""
    run = [node for node in ast.parse(source).body if not isinstance(node, ast.FunctionDef)]
    calls = [node for part in run for node in ast.walk(part) if isinstance(node, ast.Call)]
    return any(isinstance(call.func, ast.Name) and call.func.id == "save_figure" for call in calls)


@pytest.mark.parametrize("notebook", notebooks().values(), ids=lambda p: p.stem)
def test_committed_notebooks_are_fit_to_read(notebook):
    """Executed, without errors, with short cells and no path of the machine they ran on."""
    cells = [c for c in nbformat.read(notebook, 4).cells if c.cell_type == "code"]
    for cell in cells:
        pictures = ["image/png" in output.get("data", {}) for output in cell.outputs]
        assert any(pictures) or not saves_figures(cell.source), cell.source
        assert not [o for o in cell.outputs if list(o.get("data", {})) == ["text/plain"] and "<Figure" in str(o.data)]
    for code in stretches(nbformat.read(notebook, 4).cells):
        assert any(c.outputs for c in code), code[-1].source
    assert not [o for c in cells for o in c.outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert max(len(c.source.splitlines()) for c in cells) <= 15
    assert max(len(line) for c in cells for line in c.source.splitlines()) <= 100
    assert str(ROOT) not in notebook.read_text() and "/root/" not in notebook.read_text()
    assert json.loads(notebook.read_text())["cells"][0]["cell_type"] == "markdown"
