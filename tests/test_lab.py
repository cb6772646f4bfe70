"""Notebooks and the live panel in a real JupyterLab, driven by a browser."""

import re
import shutil
from pathlib import Path

import nbformat
import pytest
from playwright.sync_api import expect

from lib.panel import notebook
from lib.running.collection import notebooks
from lib.store import ROOT
from tests.browser import browser
from tests.lab import lab
from tests.shared import WholeRun, whole_run

WALK = [number for number in notebooks() if number < "06"]  # from pictures to scores
SLOWEST = 600.0  # seconds for a notebook, on a busy core


@pytest.fixture(scope="module")
def smoke(tmp_path_factory) -> WholeRun:
    return whole_run(tmp_path_factory)


@pytest.fixture(scope="module")
def here(smoke, tmp_path_factory):
    root = smoke.project.folder
    shutil.copytree(ROOT / "figures" / "where", root / "figures" / "where", dirs_exist_ok=True)  # notebooks show them
    with lab(root, tmp_path_factory.mktemp("lab")) as server, browser() as shown:
        yield server, shown


def as_smoke(source: Path, target: Path) -> Path:
    """A notebook without its outputs, as a reader has it who has changed its first parameter."""
    made = nbformat.read(source, as_version=4)
    for cell in made.cells:
        if cell.cell_type == "code":
            cell.outputs, cell.execution_count = [], None
            if "parameters" in cell.metadata.get("tags", ()):
                assert '"desk"' in cell.source
                cell.source = cell.source.replace('"desk"', '"smoke"')
    target.parent.mkdir(exist_ok=True)
    nbformat.write(made, target)
    return target


def errors(cells: list[dict]) -> list[str]:
    return [f"{o['ename']}: {o['evalue']}" for c in cells for o in c["outputs"] if o["output_type"] == "error"]


@pytest.mark.slow(240)
class TestLab:
    @pytest.mark.parametrize("number", WALK)
    def test_a_notebook_runs_from_top_to_bottom(self, here, number):
        server, shown = here
        path = as_smoke(notebooks()[number], server.root / "inlab" / notebooks()[number].name)
        with server.opened(shown, path) as seen:
            cells = server.run_all(seen.page, path, SLOWEST)
        assert errors(cells) == [] and len(cells) >= 5
        pictured = sum("image/png" in o.get("data", {}) for c in cells for o in c["outputs"])
        assert pictured >= 2
        assert not seen.elsewhere  # what JupyterLab itself says in the console is its own

    def test_the_panel_steers_the_profile_s_subject(self, here):
        server, shown = here
        path = server.root / "inlab" / "panel.ipynb"
        path.parent.mkdir(exist_ok=True)
        nbformat.write(notebook("smoke", {}), path)
        said = set()
        with server.opened(shown, path) as seen:
            assert errors(server.run_all(seen.page, path, SLOWEST)) == []
            panel = seen.page.locator(".steer-panel")
            panel.get_by_test_id("answer").wait_for(timeout=30_000)
            for coefficient in ("0", "8", "2"):
                panel.get_by_test_id("coefficient").fill(coefficient)
                there = re.compile(rf"^\s*at coefficient {coefficient}, in")  # not "At coefficient 2, Steering ..."
                expect(panel.get_by_text(there)).to_be_visible(timeout=30_000)
                said.add(panel.get_by_test_id("answer").inner_text())
        assert len(said) > 1, said
        assert not seen.elsewhere

    def test_what_the_panel_says_is_what_the_subject_says(self, smoke):
        done = smoke.project.python(_PARITY)
        assert done.returncode == 0, done.stderr[-2000:]


_PARITY = """
from lib.profile import load
from lib.run import Run
from lib.panel import Panel
from lib.methods import STEERING

run = Run(load("smoke", {}))
panel, at = Panel(run), run.at_best(STEERING.add)
latents = run.latents["test"]
said = run.explanations(at, latents).explanation.tolist()
for latent, own in zip(latents, said):
    made = panel.answer({"latent": latent, "coefficient": at.coefficient})
    assert made["own"] == own, (latent, made, own)
print(len(said))
"""
