"""A fresh run is compared with what is committed: bytes, rounding, intervals, verdicts."""

import pandas as pd
import pytest

from lib.running.verify import compare, compare_all, report, verdicts


def table(path, **changes):
    path.parent.mkdir(parents=True, exist_ok=True)
    columns = {"what": ["a", "b"], "estimate": [0.5, 2.0], "low": [0.4, 1.5], "high": [0.6, 2.5], "n": [9, 9]}
    pd.DataFrame({**columns, **changes}).to_csv(path, index=False)
    return path


@pytest.mark.parametrize(
    ("changes", "kind", "outside"),
    [
        ({}, "equal", 0),
        ({"estimate": [0.5001, 2.0]}, "rounding", 0),
        ({"estimate": [0.55, 2.0]}, "other", 0),
        ({"estimate": [0.7, 9.0]}, "other", 2),
        ({"what": ["a", "c"]}, "shape", 0),
        ({"more": [1, 2]}, "shape", 0),
        ({"estimate": [0.5, None]}, "other", 0),
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
