"""The paper's tables, figures and claims: each has a notebook, files, and a published counterpart."""

import json
from pathlib import Path

import pandas as pd
import pytest
import yaml

from lib import claims
from lib.claims import ClaimError, evaluate, findings, outcome
from lib.runner import notebooks
from lib.store import ROOT, MissingStage

PAPER = ROOT / "data" / "paper"
INDEX = yaml.safe_load((PAPER / "index.yaml").read_text())
CLAIMS = claims.load()


def test_the_index_names_all_tables_and_figures_of_the_paper():
    """As they are mentioned in its text: Tables 1 to 6, Figures 1, 3 (two), 4, 5 (two), 6, 8 (two)."""
    numbers = [item.split(",")[0] for item in INDEX]
    for table in range(1, 7):
        assert numbers.count(f"table {table}") == (2 if table == 1 else 1)  # Table 1 has two models
    assert {n: numbers.count(f"figure {n}") for n in (1, 3, 4, 5, 6, 8)} == {1: 1, 3: 2, 4: 1, 5: 2, 6: 1, 8: 2}
    assert {f"appendix {a}" for a in ("A", "C", "D", "E", "F", "G.1", "G.2")} <= set(numbers)
    assert {"footnote 4", "footnote 5"} <= set(numbers)


@pytest.mark.parametrize("item", INDEX)
def test_every_table_and_figure_has_notebook_files_and_counterpart(item):
    entry = INDEX[item]
    source = notebooks()[entry["notebook"]].read_text()
    for name in entry["files"]:
        assert f'\\"{name}\\"' in source, f"{name} is not written by notebook {entry['notebook']}"
        committed = [p for p in (ROOT / "figures" / "desk").glob(f"{name}.*")]
        kinds = {p.suffix for p in committed}
        assert {".csv", ".md"} <= kinds or {".png", ".pdf"} <= kinds, f"figures/desk/{name} is missing"
        if item.startswith("figure"):
            assert {".png", ".pdf"} <= kinds
    assert ("csv" in entry) != ("text" in entry)
    if "csv" in entry:
        published = pd.read_csv(PAPER / entry["csv"])
        assert len(published) and (published.table == int(item.replace(",", "").split()[1])).all()


def test_published_numbers_are_those_of_the_paper():
    """Sums of the published columns, added up apart: a typing slip would move them."""
    sums = {
        "table1": {"iou": 2.115, "auroc": 7.669, "synthetic": 3.001, "clip": 1.912},
        "table2": {"count": 550, "percent": 189.3},
        "table3": {"iou": 0.963, "auroc": 4.130, "synthetic": 8.382, "clip": 0.933},
        "table6": {"iou": 0.906, "auroc": 3.124, "synthetic": 1.252, "clip": 0.909},
    }
    for name, columns in sums.items():
        table = pd.read_csv(PAPER / f"{name}.csv")
        for column, total in columns.items():
            assert table[column].sum() == pytest.approx(total, abs=1e-6), (name, column)


def test_every_claim_can_be_decided_from_what_the_notebooks_write():
    written = "".join(path.read_text() for path in notebooks().values())
    assert len(CLAIMS) >= 20
    for claim in CLAIMS:
        for check in claim.get("checks", []):
            assert f'\\"{check["table"]}\\"' in written
            assert findings(check, ROOT / "figures" / "desk", claim["id"])


def test_committed_verdicts_follow_from_committed_tables():
    page = pd.read_csv(ROOT / "figures" / "desk" / "claims.csv")
    fresh = claims.summary([evaluate(claim, ROOT / "figures" / "desk") for claim in CLAIMS])
    assert page.verdict.tolist() == fresh.verdict.tolist() and page.checks.tolist() == fresh.checks.tolist()


@pytest.mark.parametrize(
    ("interval", "side", "value", "expected"),
    [
        ((0.2, 0.1, 0.3), "above", 0, "supports"),
        ((0.2, -0.1, 0.3), "above", 0, "undecided"),
        ((-0.2, -0.3, -0.1), "above", 0, "contradicts"),
        ((-0.2, -0.3, -0.1), "below", 0, "supports"),
        ((0.5, 0.4, 0.6), "below", 0.5, "undecided"),
        ((0.5, 0.45, 0.55), "within", [0.4, 0.6], "supports"),
        ((0.5, 0.35, 0.55), "within", [0.4, 0.6], "undecided"),
        ((0.3, 0.25, 0.35), "within", [0.4, 0.6], "contradicts"),
    ],
)
def test_where_an_interval_lies(interval, side, value, expected):
    assert outcome(*interval, side, value) == expected


@pytest.fixture
def folder():
    path = ROOT / "figures" / "test-claims"
    path.mkdir(parents=True, exist_ok=True)
    yield path
    for file in path.glob("*"):
        file.unlink()
    path.rmdir()


def claim(**more):
    return {"id": "c", "section": "1", "claim": "c", "published": "p", **more}


@pytest.mark.parametrize(
    ("lows", "verdict"),
    [
        ([0.1, 0.1], "holds"),
        ([0.1, -0.1], "holds in part"),
        ([-0.5, -0.5], "does not hold"),
        ([0.1, -0.5], "does not hold"),  # no fewer against it than for it
        ([-0.1, -0.1], "cannot be tested at this scale"),  # nothing is decided
    ],
)
def test_verdicts(folder, lows, verdict):
    rows = [{"metric": str(i), "estimate": a + 0.2, "low": a, "high": a + 0.3, "n": 5} for i, a in enumerate(lows)]
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    out = evaluate(claim(checks=[{"table": "t", "is": "above"}]), folder)
    assert out.verdict == verdict and out.headline.n == 5


def test_a_profile_with_fewer_tables_leaves_claims_undecided(folder):
    """Photographs have no truth and some profiles one model; the desk must have everything."""
    row = {"metric": "iou", "estimate": 0.2, "low": 0.1, "high": 0.3, "n": 5}
    pd.DataFrame([row]).to_csv(folder / "t.csv", index=False)
    for check in ({"table": "none", "is": "above"}, {"table": "t", "where": {"metric": "clip"}, "is": "above"}):
        out = evaluate(claim(checks=[check]), folder, strict=False)
        assert out.verdict == "cannot be tested at this scale" and "nothing that would decide it" in out.counts
        both = evaluate(claim(checks=[check, {"table": "t", "is": "above"}]), folder, strict=False)
        assert both.verdict == evaluate(claim(checks=[{"table": "t", "is": "above"}]), folder).verdict


def test_bad_claims_are_refused(folder, tmp_path: Path):
    with pytest.raises(MissingStage, match="run the notebooks"):
        evaluate(claim(checks=[{"table": "none", "is": "above"}]), folder)
    pd.DataFrame([{"metric": "iou", "estimate": 1, "low": 1, "high": 1}]).to_csv(folder / "t.csv", index=False)
    with pytest.raises(ClaimError, match="no column 'metrik'"):
        evaluate(claim(checks=[{"table": "t", "where": {"metrik": "iou"}, "is": "above"}]), folder)
    with pytest.raises(ClaimError, match="no row"):
        evaluate(claim(checks=[{"table": "t", "where": {"metric": "clip"}, "is": "above"}]), folder)
    with pytest.raises(ClaimError, match="must say"):
        evaluate(claim(checks=[{"table": "t", "is": "over"}]), folder)
    for wrong, message in (
        ([claim()], "either checks"),
        ([claim(cannot="x", checks=[])], "either checks"),
        ([claim(cannot="x"), claim(cannot="y")], "two claims"),
        ([claim(cannot="x", verdict="holds")], "unknown keys verdict"),
        ([{"id": "c", "cannot": "x"}], "lacks claim"),
    ):
        (tmp_path / "c.yaml").write_text(json.dumps(wrong))
        with pytest.raises(ClaimError, match=message):
            claims.load(tmp_path / "c.yaml")
