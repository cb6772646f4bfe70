"""What ./run_all.sh does before Python begins: it finds its folder and its packages, or says what is missing."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from lib.store import ROOT

HERE = Path(sys.executable).parent  # the Python that runs the tests has the packages
NO_NETWORK = {"PIP_INDEX_URL": "http://127.0.0.1:9/", "PIP_RETRIES": "0"}


def call(script: Path, *arguments: str, cwd: Path = ROOT, prefix: tuple[str, ...] = ()) -> subprocess.CompletedProcess:
    environment = os.environ | NO_NETWORK | {"PATH": f"{HERE}:{os.environ['PATH']}"}
    environment.pop("PYTHONPATH", None)
    command = [*prefix, str(script), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment, capture_output=True, text=True, timeout=120)


@pytest.fixture
def moved(tmp_path) -> Path:
    """A checkout at another place, with a profile of its own."""
    copy = tmp_path / "a checkout"
    copy.mkdir()
    for name in ("run_all.sh", "environment.yml"):
        shutil.copy(ROOT / name, copy)
    shutil.copytree(ROOT / "lib", copy / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "lib" / "profiles" / "smoke.yaml", copy / "lib" / "profiles" / "only_here.yaml")
    return copy


@pytest.mark.slow(2)
def test_a_moved_checkout_runs_its_own_code_without_network(moved):
    done = call(moved / "run_all.sh", "--profile", "nowhere")
    assert done.returncode == 2 and "only_here" in done.stderr and not done.stdout


@pytest.mark.slow(2)
def test_a_checkout_is_reached_through_a_link(moved, tmp_path):
    (tmp_path / "link").symlink_to(moved)
    done = call(tmp_path / "link" / "run_all.sh", "--profile", "nowhere")
    assert done.returncode == 2 and "only_here" in done.stderr and not done.stdout


def test_a_profile_is_looked_up_from_where_the_user_stands(tmp_path):
    (tmp_path / "mine.yaml").write_text("nonsense: 3")
    done = call(ROOT / "run_all.sh", "--profile", "mine.yaml", cwd=tmp_path)
    assert done.returncode == 2 and "unknown key 'nonsense'" in done.stderr


def test_packages_missing_in_a_folder_that_may_not_be_written(moved):
    with (moved / "environment.yml").open("a") as file:
        file.write("      - no-such-package==1.0\n")
    moved.chmod(0o555)
    # Root may write anywhere, unless it gives that up.
    prefix = () if os.getuid() else ("setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override")
    if prefix and not shutil.which(prefix[0]):
        pytest.skip("needs setpriv, to give up root's rights")
    try:
        done = call(moved / "run_all.sh", prefix=prefix)
    finally:
        moved.chmod(0o755)
    assert done.returncode == 1 and "no-such-package==1.0" in done.stderr
    assert "you may not write" in done.stderr and "Copy this folder" in done.stderr and not done.stdout


def test_line_ends_are_kept_whatever_git_is_told():
    asked = ["git", "check-attr", "text", "eol", "--", "run_all.sh", "figures/desk/table1.png"]
    said = subprocess.run(asked, cwd=ROOT, capture_output=True, text=True).stdout
    assert "run_all.sh: eol: lf" in said and "table1.png: text: unset" in said
    assert b"\r" not in (ROOT / "run_all.sh").read_bytes()


def test_help_needs_no_packages():
    done = subprocess.run([str(ROOT / "run_all.sh"), "--help"], env={"PATH": "/usr/bin:/bin"}, capture_output=True)
    assert done.returncode == 0 and b"--status" in done.stdout and b"verify" in done.stdout
