"""Every notebook runs at smoke scale through the real runner, twice with the same tables."""

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from itertools import groupby

import nbformat
import papermill
import pytest

from lib.__main__ import main, overrides
from lib.notebook import refuse_unknown
from lib.running.collection import notebooks, put_back
from lib.settings import ProfileError
from lib.store import ROOT

FIGURES, RUNS = ROOT / "figures" / "smoke", ROOT / "data" / "runs" / "smoke"
DESK = ROOT / "figures" / "desk"


def run(*arguments: str) -> subprocess.CompletedProcess:
    return subprocess.run(
        [sys.executable, "-m", "lib", "--profile", "smoke", *arguments], cwd=ROOT, capture_output=True, text=True
    )


def tables() -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in FIGURES.glob("*") if p.suffix in (".csv", ".md")}


@pytest.fixture(scope="module")
def first_run():
    """A complete run from nothing."""
    shutil.rmtree(RUNS, ignore_errors=True)
    shutil.rmtree(FIGURES, ignore_errors=True)
    done = run()
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done


def test_every_notebook_runs_and_makes_its_tables_and_figures(first_run):
    for notebook in notebooks().values():
        assert f"| {notebook.name} | done |" in first_run.stdout
    made = {p.name for p in FIGURES.glob("*")}
    assert made == {p.name for p in DESK.glob("*")}  # what is committed is what a run makes, no more and no less
    assert {n for n in made if n.endswith(".csv")} == {n.replace(".md", ".csv") for n in made if n.endswith(".md")}
    assert {n for n in made if n.endswith(".png")} == {n.replace(".pdf", ".png") for n in made if n.endswith(".pdf")}


def test_a_second_run_takes_seconds(first_run):
    begun = time.perf_counter()
    done = run()
    assert done.returncode == 0 and done.stdout.count("up to date") == len(notebooks())
    assert time.perf_counter() - begun < 30


def test_the_status_of_a_whole_run_is_fresh(first_run):
    done = run("--status")
    assert done.returncode == 0 and done.stdout.count(" fresh ") > len(notebooks())
    assert not {"stale", "missing", "unfinished"} & set(done.stdout.split())


def test_missing_figures_come_back(first_run):
    before = tables()
    (FIGURES / "table1.csv").unlink()
    done = run()
    assert done.stdout.count("| done |") == 1 and tables() == before


def test_two_complete_runs_give_the_same_tables(first_run):
    before = tables()
    shutil.rmtree(RUNS)
    shutil.rmtree(FIGURES)
    assert run().returncode == 0
    assert tables() == before


def test_a_stage_that_is_missing_names_the_notebook_that_makes_it(first_run):
    done = run("--only", "05", "--set", "sae.latents=64", "--set", "explain.test=4")
    assert done.returncode == 1
    assert "MissingStage" in done.stderr and "--set sae.latents=64 --set explain.test=4 --from 02" in done.stderr
    assert not list(ROOT.glob("figures/smoke+*/table1.csv"))


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


@pytest.mark.parametrize("notebook", notebooks().values(), ids=lambda p: p.stem)
def test_committed_notebooks_are_fit_to_read(notebook):
    """Executed, without errors, with short cells and no path of the machine they ran on."""
    cells = [c for c in nbformat.read(notebook, 4).cells if c.cell_type == "code"]
    for code in stretches(nbformat.read(notebook, 4).cells):
        assert any(c.outputs for c in code), code[-1].source
    assert not [o for c in cells for o in c.outputs if o.output_type == "error" or o.get("name") == "stderr"]
    assert max(len(c.source.splitlines()) for c in cells) <= 15
    assert max(len(line) for c in cells for line in c.source.splitlines()) <= 100
    assert str(ROOT) not in notebook.read_text() and "/root/" not in notebook.read_text()
    assert json.loads(notebook.read_text())["cells"][0]["cell_type"] == "markdown"
