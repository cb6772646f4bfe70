"""Pairs of methods are compared over the same latents, and who wins follows from the tests."""

import numpy as np
import pandas as pd
import pytest
from tiny_tables import scores

from lib.effects import COMPOSITES
from lib.findings import unsupported
from lib.methods import METHODS, MODES, PUBLISHED
from lib.metrics import metrics_of
from lib.stats import holm
from lib.studies.significance import (
    answer,
    called,
    comparisons,
    comparisons_shown,
    findings,
    normality_shown,
    normality_table,
    p_text,
    pairs_of,
    winners,
)


def test_comparisons_and_winners_agree_with_how_the_table_was_made():
    scored = scores(4, hybrid=0.5, Steering=-0.5)
    pairs = comparisons(scored, "M")
    pairs["p_holm"] = holm(pairs.p_wilcoxon)
    assert len(pairs) == (len(MODES) + 1) * 3 * (len(metrics_of(scored)) + len(COMPOSITES))
    row = pairs[(pairs.comparison == "hybrid - Top-k") & (pairs.metric == "iou") & (pairs.evidence == "masks")].iloc[0]
    assert row.estimate == pytest.approx(0.5, abs=0.02) and row.low > 0.4 and row.n == 60
    won = winners(pairs)
    assert (won["paired, Holm"] == "hybrid").all() and len(won) == len(MODES) * len(metrics_of(scored))
    level = comparisons(scores(5), "M")
    level["p_holm"] = holm(level.p_wilcoxon)
    assert (winners(level)["paper's rule"] == "-").all()


def test_the_papers_rule_needs_a_lead_over_both_others():
    pairs = comparisons(scores(6, hybrid=3.0, Steering=3.0), "M")
    pairs["p_holm"] = holm(pairs.p_wilcoxon)
    assert (winners(pairs)["paper's rule"] == "-").all()
    pairs = comparisons(scores(6, Steering=3.0), "M")
    pairs["p_holm"] = holm(pairs.p_wilcoxon)
    assert (winners(pairs)["paper's rule"] == "Steering").all()


@pytest.mark.parametrize("mode", MODES)
def test_a_comparison_names_its_two_methods(mode):
    for name, (first, second) in pairs_of(mode).items():
        assert name == f"{first.short} - {second.short}" and first != second
        assert {m.evidence for m in (first, second)} <= {mode, "blank"}


def test_normality_is_tested_for_every_model_metric_and_method_without_controls():
    scored = scores(7)
    models = {"A": scored, "B": scored.assign(iou=np.random.default_rng(0).exponential(size=len(scored)))}
    table = normality_table({**models, "A": scored.assign(control="random")}, PUBLISHED[:0])
    assert table.empty
    table = normality_table(models, PUBLISHED)
    assert len(table) == 2 * len(metrics_of(scored)) * len(PUBLISHED) and table.n.eq(60).all()
    assert (table[(table.model == "B") & (table.metric == "iou")].p < 0.01).all()
    brief = normality_shown(table)
    assert len(brief) == 2 * len(metrics_of(scored)) and brief["n each"].eq(60).all()
    counted = brief.set_index(["model", "metric"])["not normal"]
    assert counted["B", "IoU"] == len(PUBLISHED) and counted.sum() == (table.p < 0.05).sum()


def test_both_evidences_are_the_mean_of_each_latents_two_and_findings_follow_the_intervals():
    pairs = comparisons(scores(8, hybrid=0.5), "M")
    row = pairs[(pairs.comparison == "hybrid - Top-k") & (pairs.metric == "iou")].set_index("evidence").estimate
    assert row["both"] == pytest.approx((row["masks"] + row["heatmaps"]) / 2)
    lines = findings(pairs, "M")
    assert [line for line in lines if "hybrid is higher than Top-k" in line and line.startswith("IoU")]
    level = scores(9)
    level.loc[level.method == "steering-add", "iou"] += np.random.default_rng(0).normal(size=60)
    assert [x for x in findings(comparisons(level, "M"), "M") if x.startswith("IoU") and "not told apart" in x]


def test_the_answer_is_that_of_the_composite_and_says_no_more():
    leading = answer(comparisons(scores(8, hybrid=0.5), "M"), "M")
    assert "lead over Top-k in M is more than noise" in leading and leading.count("[") == 3
    table = scores(8)
    hybrid = table.method.str.startswith("hybrid")
    table.loc[hybrid, list(metrics_of(table))] += np.random.default_rng(0).normal(size=(hybrid.sum(), 1))
    level = answer(comparisons(table, "M"), "M")
    assert "is not shown to lead" in level
    half = answer(comparisons(scores(8).pipe(lifted_under, "heatmaps"), "M"), "M")
    assert "more than noise" in half and "taken alone, heatmaps would show it" in half
    assert not any(map(unsupported, (leading, level, half)))


def lifted_under(table, mode):
    """Under one kind of evidence the hybrid is ahead by much; under the other it is noise around Top-k."""
    rng, names = np.random.default_rng(1), list(metrics_of(table))
    for key in {m.key for m in PUBLISHED if m.short == "hybrid"}:
        own = table.method == key
        gain = rng.normal(3.0 if METHODS[key].evidence == mode else 0.0, 0.3, (own.sum(), 1))
        table.loc[own, names] += gain - (0 if METHODS[key].evidence == mode else gain.mean())
    return table


def test_people_see_the_first_model_and_every_kind_of_p():
    pairs = comparisons(scores(4, hybrid=0.5, Steering=-0.5), "M")
    pairs["p_holm"] = holm(pairs.p_wilcoxon)
    other = pairs.assign(model="N")
    seen = comparisons_shown(pd.concat([other, pairs]), "M")
    assert len(seen) == 2 * len(MODES) * len(metrics_of(scores(4)))
    row = seen[(seen["method less Top-k"] == "hybrid, masks") & (seen.metric == "IoU")].iloc[0]
    assert row.difference.startswith("0.5") and row["p, Holm"] == "<0.001"
    assert p_text(0.04999) == "0.050" and p_text(0.0) == "<0.001"


def test_methods_have_short_names_of_their_own():
    names = [called(key) for key in METHODS]
    assert len(set(names)) == len(names) and called("hybrid-heatmaps-replace") == "hybrid, heatmaps, replace"
    assert called("steering-add") == "Steering" and called("blank") == "No intervention"
