"""A fresh run is compared with what is committed: bytes, rounding, intervals, verdicts."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest

from lib.running import verify
from lib.running.verify import compare, compare_all, report, verdicts
from lib.settings import ProfileError


def table(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"what": ["a", "b"], "estimate": [0.5, 2.0], "low": [0.4, 1.5], "high": [0.6, 2.5], "n": [9, 9]}
    pd.DataFrame({**columns, **changes}).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("changes", "kind", "outside"),
    [
        ({}, "equal", "-"),
        ({"estimate": [0.5001, 2.0]}, "rounding", "0 of 2"),
        ({"estimate": [0.55, 2.0]}, "other", "0 of 2"),
        ({"estimate": [0.7, 9.0]}, "other", "2 of 2"),
        ({"what": ["a", "c"]}, "shape", "-"),
        ({"more": [1, 2]}, "shape", "-"),
        ({"estimate": [0.5, None]}, "other", "0 of 2"),
    ],
)
def test_tables_are_told_apart_by_what_matters(tmp_path, changes, kind, outside):
    found = compare(table(tmp_path / "a" / "t.csv"), table(tmp_path / "b" / "t.csv", **changes))
    assert (found.kind, found.outside) == (kind, outside)


def test_missing_and_new_tables_are_named(tmp_path):
    table(tmp_path / "a" / "gone.csv")
    table(tmp_path / "b" / "new.csv")
    found = compare_all(tmp_path / "a", tmp_path / "b")
    assert [(c.table, c.kind) for c in found] == [("gone.csv", "missing"), ("new.csv", "new")]
    text = report(found, [])
    assert "2 tables: 1 missing, 1 not committed." in text and "All verdicts are the same." in text


def test_changed_verdicts_are_listed(tmp_path):
    for name, verdict in {"a": ["holds", "holds"], "b": ["holds", "does not hold"]}.items():
        (tmp_path / name).mkdir()
        pd.DataFrame({"claim": ["One.", "Two."], "verdict": verdict}).to_csv(
            tmp_path / name / "claims_short.csv", index=False
        )
    changed = verdicts(tmp_path / "a", tmp_path / "b")
    assert changed == ["Two. committed: holds; now: does not hold"]
    assert "- Two. committed" in report(compare_all(tmp_path / "a", tmp_path / "b"), changed)


def test_an_infinite_number_is_not_within_rounding(tmp_path):
    a = table(tmp_path / "a" / "t.csv")
    for path, values in {"b": [np.inf, 2.0], "c": [-np.inf, 2.0]}.items():
        b = table(tmp_path / path / "t.csv", estimate=values)
        assert compare(a, b).kind == compare(b, a).kind == "other" and compare(b, b).kind == "equal"


@pytest.fixture
def project(tmp_path, monkeypatch):
    """A small project whose runs write one number; returns what was run, and where."""
    for name in ("lib/a.py", "notebooks/00_x.ipynb", "data/d", "data/runs/old", "environment.yml", "README.md"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_text(name)
    claims = {"claim": ["One."], "verdict": ["holds"]}
    (tmp_path / "figures/desk").mkdir(parents=True)
    pd.DataFrame(claims).to_csv(tmp_path / "figures/desk/claims_short.csv", index=False)
    table(tmp_path / "figures/desk/t.csv")
    monkeypatch.setattr(verify, "ROOT", tmp_path)
    monkeypatch.setattr(verify, "COPY", tmp_path / "data/runs/verify")
    ran = []

    def run(command, cwd, **more):
        if command[0] == "git":
            return SimpleNamespace(returncode=1, stdout="")
        ran.append((command[-1], sorted(p.name for p in (cwd / "lib").iterdir()), (cwd / "figures").exists()))
        table(cwd / "figures/desk/t.csv", estimate=[0.5, 2.1])
        pd.DataFrame(claims).to_csv(cwd / "figures/desk/claims_short.csv", index=False)
        return SimpleNamespace(returncode=0)

    monkeypatch.setattr(verify.subprocess, "run", run)
    return tmp_path, ran


def test_a_fresh_run_is_that_of_the_profile_and_starts_from_nothing_every_time(project, capsys):
    folder, ran = project
    for _ in range(2):
        assert verify.main_verify(SimpleNamespace(label="desk")) == 0
        (folder / "lib/a.py").unlink(missing_ok=True)
        (folder / "lib/b.py").write_text("")
    assert ran == [("desk", ["a.py"], False), ("desk", ["b.py"], False)]
    out = capsys.readouterr().out
    assert out.count("1 equal to the byte, 1 with other numbers") == 2 and "All verdicts are the same" in out
    with pytest.raises(ProfileError, match="no figures of profile smoke are committed"):
        verify.main_verify(SimpleNamespace(label="smoke"))


def test_intervals_of_a_table_with_a_column_for_each_number_are_looked_at_too(tmp_path):
    for name, iou in {"a": [0.2, 0.3], "b": [0.2, 0.9]}.items():
        columns = {"method": ["x", "y"], "iou": iou, "iou_low": [0.1, 0.2], "iou_high": [0.3, 0.4], "n": [5, 5]}
        (tmp_path / name).mkdir()
        pd.DataFrame(columns).to_csv(tmp_path / name / "table1.csv", index=False)
    assert compare(tmp_path / "a/table1.csv", tmp_path / "b/table1.csv").outside == "1 of 2"
