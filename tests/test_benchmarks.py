"""The benchmark runs, and its page says what was measured."""

import re

import pytest

from tests.benchmarks import page, parts
from tests.benchmarks.timing import compare


def test_contenders_take_turns_and_warming_up_does_not_count():
    calls = []
    rows = compare({"a": lambda: calls.append("a"), "b": lambda: calls.append("b")}, repeats=3, warmup=1)
    assert "".join(calls) == "abababab"
    assert all(row["repeats"] == 3 and 0 <= row["min ms"] <= row["median ms"] <= row["max ms"] for row in rows.values())


@pytest.mark.parametrize("part", parts.PARTS)
def test_a_part_runs_and_its_page_is_written(part, tmp_path):
    parts.measure(part, tmp_path, tiny=True)
    found = parts.results(tmp_path)[part]
    assert found["rows"] and found["machine"]["threads"] >= 1
    text = page.write(tmp_path / "page.md", tmp_path).read_text()
    for row in found["rows"]:
        first = next(value for key, value in row.items() if key != "table")
        assert f"### {row['table']}\n" in text and re.search(rf"\| +{re.escape(page.shown(first))} +\|", text)


def test_a_contender_that_cannot_run_says_so(tmp_path, monkeypatch):
    from tests.benchmarks import peers, sae

    def missing(shape, x):
        raise ImportError("no such peer")

    monkeypatch.setattr(sae, "OWN", {"ours": peers.OWN["ours"]})
    monkeypatch.setattr(sae, "OTHERS", {"gone": missing})
    rows = {row["contender"]: row for row in sae.run(tiny=True)}
    assert rows["gone"]["note"] == "absent: ImportError: no such peer" and "note" not in rows["ours"]
    assert rows["ours"]["times ours"] == 1 and 0 < rows["ours"]["FVU"] < 2 and rows["ours"]["alive"] > 0


def test_the_page_is_that_of_the_results(tmp_path):
    assert page.PAGE.read_text() == page.write(tmp_path / "page.md").read_text()


def test_a_fault_of_our_own_is_no_absence(monkeypatch):
    from tests.benchmarks import sae

    monkeypatch.setattr(sae, "OWN", {"ours": lambda shape, x: 1 / 0})
    with pytest.raises(ZeroDivisionError):
        sae.run(tiny=True)
