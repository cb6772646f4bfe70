"""A sentence says no more than its interval does; one that does is refused, wherever it comes from."""

import pytest

from lib.findings import contrast, number, save_findings, side, trend, unsupported
from lib.stats import Estimate
from lib.store import ROOT

UP, DOWN, LEVEL = (Estimate(m, m - 0.1, m + 0.1, 9) for m in (0.3, -0.3, 0.05))


def test_directions_follow_the_interval():
    assert [side(e) for e in (UP, DOWN, LEVEL)] == [1, -1, 0]
    assert contrast("IoU", "A", "B", UP) == "IoU: A is higher than B (difference 0.300 [0.200, 0.400], n = 9)."
    assert "A is lower than B" in contrast("IoU", "A", "B", DOWN) and "not told apart" in contrast(
        "IoU", "A", "B", LEVEL
    )
    assert trend("IoU", "with k", UP).startswith("IoU rises with k (0.300")
    assert (
        trend("IoU", "with k", DOWN).startswith("IoU falls")
        and trend("IoU", "with k", LEVEL).endswith("n = 9).")
        and "no trend" in trend("IoU", "with k", LEVEL)
    )


def test_an_end_near_zero_keeps_its_sign():
    assert number(Estimate(0.02, 0.0004, 0.05, 9)) == "0.0200 [0.0004, 0.0500]"
    for e in (Estimate(0.02, 0.0004, 0.05, 9), Estimate(-0.02, -0.04, -0.00004, 9)):
        assert not unsupported(contrast("IoU", "A", "B", e))


def test_nothing_has_no_sign():
    e = Estimate(-0.0002, -0.02, 0.02, 9)
    assert number(e) == str(e) == "0.000 [-0.020, 0.020]"


@pytest.mark.parametrize(("sentence", "wrong"), [
    ("A is higher than B (0.1 [-0.1, 0.3]).", True),
    ("A is higher than B.", True),
    ("A and B are not told apart (0.1 [-0.1, 0.3]).", False),
    ("A is higher than B (0.2 [0.1, 0.3]).", False),
    ("A is better in one (0.2 [0.1, 0.3]) and in another (0.1 [-0.1, 0.3]).", True),
    ("Undecided: “A needs fewer than B” (0.1 [-0.1, 0.3]).", False),
])  # fmt: skip
def test_sentences_that_their_intervals_do_not_support_are_found(sentence, wrong, tmp_path):
    assert unsupported(sentence) == wrong
    if wrong:
        with pytest.raises(ValueError, match="does not support this sentence: A is"):
            save_findings([sentence], tmp_path, "01")
        assert not list(tmp_path.iterdir())
    else:
        assert f"**In short.** {sentence}" in save_findings([sentence], tmp_path, "01").data
        assert (tmp_path / "findings_01.md").read_text() == f"* {sentence}\n"


def test_no_finding_that_ships_says_more_than_its_interval():
    files = sorted((ROOT / "figures" / "desk").glob("findings_*.md"))
    lines = [line for path in files for line in path.read_text().splitlines()]
    assert lines and not [line for line in lines if unsupported(line)]
