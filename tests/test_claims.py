"""One effect decides a claim, by a rule that was written first; what is garbled or missing decides nothing."""

import json

import pandas as pd
import pytest

from lib.findings import unsupported
from lib.stats import standard_error
from lib.store import Damaged, MissingStage
from lib.studies import claims, claims_page, old_rule
from lib.studies.claims import CANNOT, CONTRADICTED, HOLDS, NOTHING, UNDECIDED, ClaimError, judge
from lib.studies.old_rule import findings, outcome

ROW = {"metric": "iou", "estimate": 0.2, "low": 0.1, "high": 0.3, "n": 50}
EFFECT = {"table": "t", "is": "above", "matters": 0.05}


@pytest.fixture
def folder(tmp_path):
    pd.DataFrame([ROW]).to_csv(tmp_path / "t.csv", index=False)
    return tmp_path


def claim(**more):
    return {"id": "c", "section": "1", "claim": "c", "published": "p", **more}


def verdict(folder, interval, **effect):
    pd.DataFrame([dict(zip(("estimate", "low", "high"), interval), n=50, what="x")]).to_csv(
        folder / "t.csv", index=False
    )
    (out,) = judge([claim(effect={**EFFECT, **effect})], folder)
    return out


@pytest.mark.parametrize(("interval", "effect", "expected"), [
    ((0.2, 0.1, 0.3), {}, HOLDS),
    ((-0.2, -0.3, -0.1), {}, CONTRADICTED),
    ((-0.2, -0.3, -0.1), {"is": "below"}, HOLDS),
    ((0.2, -0.1, 0.5), {}, UNDECIDED),
    ((0.01, -0.02, 0.04), {}, NOTHING),
    ((0.02, 0.01, 0.03), {}, NOTHING),  # it is there, and too small to matter
    ((-0.02, -0.03, -0.01), {}, NOTHING),
    ((0.04, 0.02, 0.06), {}, UNDECIDED),  # it is there, and may matter or not
    ((0.5, 0.45, 0.55), {"is": "near", "value": 0.5, "matters": 0.07}, HOLDS),
    ((0.5, 0.4, 0.6), {"is": "near", "value": 0.5, "matters": 0.07}, UNDECIDED),
    ((0.8, 0.75, 0.85), {"is": "near", "value": 0.5, "matters": 0.07}, CONTRADICTED),
    ((0.2, 0.15, 0.25), {"is": "near", "value": 0.5, "matters": 0.07}, CONTRADICTED),
    ((0.98, 0.95, 1.01), {"is": "not below", "value": 1, "matters": 0.1}, HOLDS),
    ((1.5, 1.3, 1.7), {"is": "not below", "value": 1, "matters": 0.1}, HOLDS),
    ((0.95, 0.8, 1.1), {"is": "not below", "value": 1, "matters": 0.1}, UNDECIDED),
    ((0.6, 0.5, 0.7), {"is": "not below", "value": 1, "matters": 0.1}, CONTRADICTED),
    ((5.0, 5.0, 5.0), {"value": 1, "matters": 0.1}, HOLDS),  # counted, not sampled
    ((0.5, 0.5, 0.5), {"value": 1, "matters": 0.1}, CONTRADICTED),
])  # fmt: skip
def test_verdicts(folder, interval, effect, expected):
    out = verdict(folder, interval, **effect)
    assert out.verdict == expected
    assert (out.needed is not None) == (expected == UNDECIDED)


def test_many_claims_are_corrected_together(folder):
    pd.DataFrame([{**ROW, "low": 0.02, "high": 0.38}]).to_csv(folder / "t.csv", index=False)
    alone = judge([claim(effect=EFFECT)], folder)
    crowd = judge([claim(id=str(i), effect=EFFECT) for i in range(20)], folder)
    assert alone[0].verdict == HOLDS and {v.verdict for v in crowd} == {UNDECIDED}
    assert crowd[0].p_holm == pytest.approx(20 * alone[0].p_holm)


def test_so_many_latents_would_decide_as_narrow_the_interval_enough(folder):
    out = verdict(folder, (0.15, -0.05, 0.35))
    narrower = 0.1 * (50 / out.needed) ** 0.5 * 2  # half an interval at that n
    assert standard_error(-0.05, 0.35) * (50 / out.needed) ** 0.5 < 0.15 / 2.8 and narrower < 0.15
    again = verdict(folder, (0.15, 0.15 - narrower, 0.15 + narrower))
    assert again.verdict == HOLDS


def test_a_tested_p_value_is_used_before_that_of_the_interval(folder):
    pd.DataFrame([{**ROW, "p": 0.4}]).to_csv(folder / "t.csv", index=False)
    assert judge([claim(effect=EFFECT)], folder)[0].verdict == UNDECIDED


def test_a_profile_with_fewer_tables_cannot_test_a_claim(folder):
    """Photographs have no truth and some profiles one model; the desk must have everything."""
    for effect in ({**EFFECT, "table": "none"}, {**EFFECT, "where": {"metric": "clip"}}):
        (out,) = judge([claim(effect=effect)], folder, strict=False)
        assert out.verdict == CANNOT and "nothing that would decide it" in out.claim["cannot"]
        with pytest.raises((MissingStage, ClaimError)):
            judge([claim(effect=effect)], folder)
    rows = [{"table": "none", "is": "above"}, {"table": "t", "is": "above"}]
    assert (
        judge([claim(effect=EFFECT, rows=rows)], folder, strict=False)[0].old
        == "holds (1 for it, 0 against, 0 undecided)"
    )
    with pytest.raises(MissingStage, match="none.csv is missing: run the notebooks"):
        judge([claim(effect=EFFECT, rows=rows)], folder)


def test_one_row_must_decide(folder):
    pd.DataFrame([ROW, ROW]).to_csv(folder / "t.csv", index=False)
    with pytest.raises(ClaimError, match="claim c: 2 rows of t.csv fit, and one must decide"):
        judge([claim(effect=EFFECT)], folder)
    for wrong, message in (
        ({"where": {"metrik": "iou"}}, "claim c: t.csv has no column 'metrik'; it has metric, estimate"),
        ({"columns": ["ratio", "low", "high"]}, "no column 'ratio'"),
        ({"where": {"metric": "clip"}}, "no row"),
    ):
        with pytest.raises(ClaimError, match=message):
            judge([claim(effect={**EFFECT, **wrong})], folder)


@pytest.mark.parametrize("strict", [True, False])
@pytest.mark.parametrize("content", [
    b"", b"\x00\x00", b"\xff\xfe\x00", b"a,b\n1,2,3,4\n", b"<<<<<<< HEAD\nmetric,estimate\n1,2,3,4,5\n",
    b"metric,estimate,low,high,n\niou,0.2,oops,0.3,5\n", b"metric,estimate,low,high,n\niou,0.2,0.1,0.3,\n",
    b"metric,estimate,low,high,n\niou,0.2,0.1",
])  # fmt: skip
def test_a_garbled_table_is_named_and_decides_nothing(folder, content, strict):
    (folder / "t.csv").write_bytes(content)
    with pytest.raises((Damaged, ClaimError), match="t.csv"):
        judge([claim(effect=EFFECT)], folder, strict)


def test_tables_that_are_read_are_noted(folder, tmp_path, monkeypatch):
    monkeypatch.setenv("STEERING_COMPANION_MADE", str(tmp_path / "notes"))
    judge([claim(effect=EFFECT)], folder)
    assert (tmp_path / "notes").read_text() == f"used\t{folder / 't.csv'}\n"


@pytest.mark.parametrize(("wrong", "message"), [
    ([claim()], "claim c must have either an effect"),
    ([claim(cannot="x", effect=EFFECT)], "either an effect"),
    ([claim(cannot="x"), claim(cannot="y")], "two claims are called c"),
    ([claim(cannot="x", verdict="holds")], "unknown keys verdict"),
    ([{"id": "c", "cannot": "x"}], "claim c lacks section, claim, published"),
    ([{**claim(cannot="x"), "section": 5.1}], "must have text as its section"),
    (["text"], "claim 1 must have keys and values"),
    ({"a": 1}, "must be a list of claims"),
    (None, "neither keys and values nor a list"),
    ([claim(effect="t")], "an effect that is not made of"),
    ([claim(effect={"is": "above", "matters": 1})], "an effect that is not made of"),
    ([claim(effect={**EFFECT, "wher": {}})], "an effect that is not made of"),
    ([claim(effect={**EFFECT, "where": ["iou"]})], "an effect that is not made of"),
    ([claim(effect={**EFFECT, "columns": ["ratio"]})], "an effect that is not made of"),
    ([claim(effect={**EFFECT, "is": "over"})], "must say `is:` above, below, not below, near, not 'over'"),
    ([claim(effect={"table": "t", "is": "above"})], "must be numbers"),
    ([claim(effect={**EFFECT, "matters": -1})], "must be numbers"),
    ([claim(effect={**EFFECT, "value": "much"})], "must be numbers"),
    ([claim(effect=EFFECT, rows={"table": "t"})], "must have a list as its rows"),
    ([claim(effect=EFFECT, rows=["t"])], "a check that is not made of table"),
    ([claim(effect=EFFECT, rows=[{"table": "t", "is": "over"}])], "must say `is:` above, below, within, not 'over'"),
    ([claim(effect=EFFECT, rows=[{"table": "t", "is": "above", "value": [0, 1]}])], "must be a number, not .0, 1."),
    ([claim(effect=EFFECT, rows=[{"table": "t", "is": "within", "value": 0.5}])], "must be two numbers, not 0.5"),
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
def test_the_old_rule_looks_where_an_interval_lies(interval, side, value, expected):
    assert outcome(*interval, side, value) == expected


@pytest.mark.parametrize(
    ("lows", "expected"),
    [
        ([0.1, 0.1], "holds"),
        ([0.1, -0.1], "holds in part"),
        ([-0.5, -0.5], "does not hold"),
        ([0.1, -0.5], "does not hold"),  # no fewer against it than for it
        ([-0.1, -0.1], "cannot be tested at this scale"),  # nothing is decided
    ],
)
def test_the_old_rule_counts_rows(folder, lows, expected):
    rows = [{"metric": str(i), "estimate": a + 0.2, "low": a, "high": a + 0.3, "n": 5} for i, a in enumerate(lows)]
    pd.DataFrame(rows).to_csv(folder / "t.csv", index=False)
    assert old_rule.held(findings({"table": "t", "is": "above"}, folder)) == expected


def test_the_page_shows_the_effect_of_every_claim(folder):
    decided, other = claim(effect=EFFECT), claim(id="d", cannot="no data")
    verdicts = judge([decided, other], folder)
    page = claims.summary(verdicts)
    assert page.effect.tolist() == ["0.200 [0.100, 0.300]", "-"] and page.n.tolist() == [50, "-"]
    assert page.note.tolist() == ["", "no data"] and page["of"][0] == "t: iou"
    short, full = claims_page.in_short(page), claims_page.in_full(page)
    assert list(short) == ["claim", "section", "verdict", "effect [95 % interval]", "n"] and len(short) == 2
    assert full.margin.tolist() == ["0.05", "-"] and full["p (Holm)"].tolist() == page["p, corrected"].tolist()
    below = claims_page.evidence(page).splitlines()
    assert below == ["* **c** (1) Published: p. Decided by `t: iou`.", "* **c** (1) Published: p. no data"]
    none = claims.scaled(verdicts[1:])
    assert none.empty and list(none) == ["claim", "verdict", "estimate", "low", "high"]
    (row,) = claims.scaled(verdicts).itertuples()
    assert (row.estimate, row.low, row.high) == pytest.approx((4, 2, 6))


def test_findings_answer_first_and_quote_the_effects_of_what_the_paper_concludes(folder):
    main = claim(id="hybrid_best", claim="Best.", effect=EFFECT)
    weak = claim(id="w", claim="Weak.", effect={**EFFECT, "is": "below"})
    exact = pd.DataFrame([{**ROW, "low": 0.2, "high": 0.2}])
    exact.to_csv(folder / "exact.csv", index=False)
    counted = claim(id="steering_cheaper", claim="Cheap.", effect={**EFFECT, "table": "exact"})
    verdicts = judge([weak, main, counted, claim(id="d", claim="D", cannot="no data")], folder)
    lines = claims_page.findings(verdicts)
    assert lines == [
        "Of 4 claims 2 hold here, 1 is contradicted here, 1 cannot be tested at this scale. "
        "Of the paper's 2 main conclusions 2 hold here.",
        "Main conclusion, **holds**: “Best” (0.200 [0.100, 0.300], n = 50).",
        "Main conclusion, **holds**: “Cheap” (0.200, without an interval).",
        "Of the others **contradicted here**: “Weak” (0.200 [0.100, 0.300], n = 50).",
    ]
    assert not any(map(unsupported, lines))
    shown = claims.scaled(verdicts)
    assert claims_page.left_out(verdicts, shown) == (
        "Left out of 4 claims: 1 cannot be tested, 1 are counted and have no interval."
    )


def test_main_conclusions_are_claims_of_the_page():
    assert set(claims_page.MAIN) <= {claim["id"] for claim in claims.load()}


def test_two_rules_stand_side_by_side_where_they_differ():
    counts = "1 for it, 0 against, 1 undecided", "0 for it, 2 against, 0 undecided"
    rules = [f"holds in part ({counts[0]})", f"does not hold ({counts[1]})", "-"]
    page = pd.DataFrame({"claim": list("abc"), "verdict": [HOLDS, CONTRADICTED, HOLDS], "by the old rule": rules})
    table = claims_page.counted(page)
    assert table.to_dict("records") == [
        {"claim": "a", "by one effect": HOLDS, "by counting rows": "holds in part", "rows": "1 for, 0 against, 1 open"}
    ]
