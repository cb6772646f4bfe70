"""Claims are decided by intervals; what is garbled or missing is named, and never decides anything."""

import json

import pandas as pd
import pytest

from lib.store import Damaged, MissingStage
from lib.studies import claims
from lib.studies.claims import ClaimError, evaluate, findings, outcome

ROW = {"metric": "iou", "estimate": 0.2, "low": 0.1, "high": 0.3, "n": 5}


@pytest.fixture
def folder(tmp_path):
    pd.DataFrame([ROW]).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path


def claim(**more):
    return {"id": "c", "section": "1", "claim": "c", "published": "p", **more}


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
    there = {"table": "t", "is": "above"}
    for check in ({"table": "none", "is": "above"}, {"table": "t", "where": {"metric": "clip"}, "is": "above"}):
        out = evaluate(claim(checks=[check]), folder, strict=False)
        assert out.verdict == "cannot be tested at this scale" and "nothing that would decide it" in out.counts
        both = evaluate(claim(checks=[check, there]), folder, strict=False)
        assert both.verdict == evaluate(claim(checks=[there]), folder).verdict


def test_a_check_that_finds_nothing_is_an_error_where_everything_must_be(folder):
    with pytest.raises(MissingStage, match="none.csv is missing: run the notebooks"):
        evaluate(claim(checks=[{"table": "none", "is": "above"}]), folder)
    with pytest.raises(ClaimError, match="claim c: t.csv has no column 'metrik'; it has metric, estimate"):
        evaluate(claim(checks=[{"table": "t", "where": {"metrik": "iou"}, "is": "above"}]), folder)
    with pytest.raises(ClaimError, match="no column 'ratio'"):
        evaluate(claim(checks=[{"table": "t", "columns": ["ratio", "low", "high"], "is": "above"}]), folder)
    with pytest.raises(ClaimError, match="no row"):
        evaluate(claim(checks=[{"table": "t", "where": {"metric": "clip"}, "is": "above"}]), folder)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("content", [
    b"", b"\x00\x00", b"\xff\xfe\x00", b"a,b\n1,2,3,4\n", b"<<<<<<< HEAD\nmetric,estimate\n1,2,3,4,5\n",
    b"metric,estimate,low,high,n\niou,0.2,oops,0.3,5\n", b"metric,estimate,low,high,n\niou,0.2,0.1,0.3,\n",
    b"metric,estimate,low,high,n\niou,0.2,0.1",
])  # fmt: skip
def test_a_garbled_table_is_named_and_decides_nothing(folder, content, strict):
    (folder / "t.csv").write_bytes(content)
    with pytest.raises((Damaged, ClaimError), match="t.csv"):
        evaluate(claim(checks=[{"table": "t", "is": "above"}]), folder, strict)


def test_tables_that_are_read_are_noted(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("STEERING_COMPANION_MADE", str(tmp_path / "notes"))
    findings({"table": "t", "is": "above"}, folder)
    assert (tmp_path / "notes").read_text() == f"used\t{folder / 't.csv'}\n"


@pytest.mark.parametrize(("wrong", "message"), [
    ([claim()], "claim c must have either checks"),
    ([claim(cannot="x", checks=[{"table": "t", "is": "above"}])], "either checks"),
    ([claim(checks=[])], "either checks"),
    ([claim(checks={"table": "t"})], "either checks"),
    ([claim(cannot="x"), claim(cannot="y")], "two claims are called c"),
    ([claim(cannot="x", verdict="holds")], "unknown keys verdict"),
    ([{"id": "c", "cannot": "x"}], "claim c lacks section, claim, published"),
    ([{**claim(cannot="x"), "section": 5.1}], "must have text as its section"),
    (["text"], "claim 1 must have keys and values"),
    ({"a": 1}, "must be a list of claims"),
    (None, "neither keys and values nor a list"),
    ([claim(checks=["t"])], "a check that is not made of table"),
    ([claim(checks=[{"is": "above"}])], "a check that is not made of table"),
    ([claim(checks=[{"table": "t", "is": "above", "wher": {}}])], "a check that is not made of table"),
    ([claim(checks=[{"table": "t", "is": "above", "where": ["iou"]}])], "a check that is not made of table"),
    ([claim(checks=[{"table": "t", "is": "above", "columns": ["ratio"]}])], "a check that is not made of table"),
    ([claim(checks=[{"table": "t", "is": "over"}])], "must say `is:` above, below, within, not 'over'"),
    ([claim(checks=[{"table": "t", "is": "above", "value": [0, 1]}])], "must be a number, not .0, 1."),
    ([claim(checks=[{"table": "t", "is": "above", "value": "much"}])], "must be a number, not 'much'"),
    ([claim(checks=[{"table": "t", "is": "within", "value": 0.5}])], "must be two numbers, not 0.5"),
])  # fmt: skip
def test_bad_claims_are_refused_by_file_and_name(tmp_path, wrong, message):
    (tmp_path / "mine.yaml").write_text(json.dumps(wrong))
    with pytest.raises((ClaimError, Damaged), match=message) as raised:
        claims.load(tmp_path / "mine.yaml")
    assert "mine.yaml" in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize(
    "text", ["- id: [", "\t- a", "- id: c\n id: d", "{", "- &a *b", "\x00", "- id: c\n<<<<<<< HEAD\n"]
)
def test_a_garbled_file_of_claims_is_named(tmp_path, text):
    (tmp_path / "mine.yaml").write_text(text)
    with pytest.raises((ClaimError, Damaged), match="mine.yaml"):
        claims.load(tmp_path / "mine.yaml")


def test_the_page_shows_the_first_effect_of_every_claim(folder):
    decided, other = claim(checks=[{"table": "t", "is": "above"}]), claim(id="d", cannot="no data")
    page = claims.summary([evaluate(decided, folder), evaluate(other, folder)])
    assert page["first effect"].tolist() == ["0.200 [0.100, 0.300]", "-"] and page.n.tolist() == [5, "-"]
    assert page.checks.tolist() == ["1 of 1 checks for it", "no data"] and page["of"][0] == "t: iou"
