"""Tests, corrections, votes and effects do what their names say."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats

from lib.effects import (
    as_estimates,
    comparisons,
    control_effects,
    differences,
    dose_effects,
    effect,
    estimates,
    size_effects,
    step_effects,
    winners,
)
from lib.stats import (
    Estimate,
    bootstrap,
    bootstrap_pairs,
    difference,
    holm,
    mann_whitney,
    normality,
    rank_correlation,
    rank_vote,
    wilcoxon,
)

KEYS = ("steering-add", "top-k-masks", "top-k-heatmaps", "hybrid-masks-add", "hybrid-heatmaps-add")


def table(rng, n=60, **lift):
    """Scores of five methods on the same latents; ``lift`` is added to a method's."""
    latent_quality = rng.normal(size=n)
    rows = []
    for key in KEYS:
        for latent in range(n):
            value = latent_quality[latent] + lift.get(key.split("-")[0], 0) + 0.01 * rng.normal()
            metrics = dict.fromkeys(("iou", "auroc", "synthetic", "clip", "correctness"), value)
            rows.append({"latent": latent, "method": key, "control": "", **metrics})
    return pd.DataFrame(rows)


def test_holm_against_a_worked_example():
    # Holm 1979: compare the i-th smallest of m with alpha / (m - i + 1).
    assert holm([0.01, 0.04, 0.03, 0.005]).tolist() == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.9, 0.8]).max() <= 1


def test_the_papers_test_ignores_pairs_and_the_paired_one_uses_them(rng=np.random.default_rng(0)):
    quality = rng.normal(size=80)
    better = quality + 0.05 + 0.01 * rng.normal(size=80)
    assert mann_whitney(better, quality) > 0.2
    assert wilcoxon(better, quality) < 1e-6
    assert wilcoxon(quality, quality) == 1.0
    assert mann_whitney(quality + 3, quality) < 1e-6 < 0.99 < mann_whitney(quality, quality + 3)


def test_normality_tells_normal_from_not():
    rng = np.random.default_rng(1)
    assert normality(rng.normal(size=200)) > 0.01 > normality(rng.exponential(size=200))


def test_rank_correlation_is_spearmans_with_an_interval_around_it():
    rng = np.random.default_rng(2)
    a = rng.normal(size=100)
    b = a + rng.normal(size=100)
    e = rank_correlation(a, b)
    assert e.mean == pytest.approx(scipy_stats.spearmanr(a, b).statistic)
    assert e.low < e.mean < e.high and e.n == 100
    assert rank_correlation(a, np.ones(100)).mean == 0
    assert rank_correlation(np.append(a, np.nan), np.append(b, 1.0)).n == 100


def test_a_paired_interval_is_narrower_than_an_unpaired_one():
    rng = np.random.default_rng(3)
    a = rng.normal(size=100)
    b = a + 0.1 + 0.01 * rng.normal(size=100)
    e = difference(b, a)
    assert e.mean == pytest.approx(0.1, abs=0.01) and e.high - e.low < 0.01
    with pytest.raises(ValueError, match="no latent"):
        bootstrap_pairs(lambda x: x.mean(), np.array([np.nan]))


def test_rank_vote_takes_the_lowest_mean_rank_and_shares_ties():
    scores = np.array([[[3.0, 3, 1, 3], [2, 2, 2, 2], [1, 1, 3, 1]]])  # first in three metrics of four
    assert rank_vote(scores).tolist() == [[1, 0, 0]]
    tied = np.zeros((1, 2, 4))
    assert rank_vote(tied).tolist() == [[0.5, 0.5]]
    assert rank_vote(np.concatenate([tied, tied - 1], 1)[:, :3]).tolist() == [[0.5, 0.5, 0]]


def test_comparisons_and_winners_agree_with_how_the_table_was_made():
    pairs = comparisons(table(np.random.default_rng(4), hybrid=0.5, steering=-0.5), "M")
    pairs["p_holm"] = holm(pairs.p_wilcoxon)
    assert len(pairs) == 2 * 3 * 5
    row = pairs[(pairs.comparison == "hybrid - Top-k") & (pairs.metric == "iou") & (pairs.evidence == "masks")].iloc[0]
    assert row.estimate == pytest.approx(0.5, abs=0.02) and row.low > 0.4 and row.n == 60
    won = winners(pairs)
    assert (won["paired, Holm"] == "hybrid").all() and len(won) == 10
    level = comparisons(table(np.random.default_rng(5)), "M")
    level["p_holm"] = holm(level.p_wilcoxon)
    assert (winners(level)["paper's rule"] == "-").all()


def test_an_effect_goes_to_a_table_and_back():
    e = Estimate(0.5, 0.25, 0.75, 9)
    assert as_estimates(pd.DataFrame([effect(e)])) == [e]
    grouped = estimates(table(np.random.default_rng(6)), ["method"], ["iou"])
    assert len(grouped) == 5 and grouped.n.eq(60).all()


def test_differences_pair_latents_not_rows():
    scored = pd.DataFrame({"latent": [1, 2, 2, 1], "base": ["a", "a", "b", "b"], "iou": [1.0, 2.0, 1.5, 0.5]})
    out = differences(scored, "base", [("a", "b")]).iloc[0]
    assert (out.estimate, out.low, out.high) == (0.5, 0.5, 0.5)


def test_controls_are_compared_over_the_same_latents():
    own = table(np.random.default_rng(7))
    control = own[own.method == "steering-add"].assign(control="random", iou=0.25)
    out = control_effects(pd.concat([own, control]), "steering-add")
    mine = out[(out.metric == "iou") & (out.what == "control")].iloc[0]
    assert mine.estimate == 0.25 and mine.control == "random" and len(out) == 10


def test_slope_of_a_dose():
    rows = [
        {"latent": i, "method": "top-k-masks", "dose": d, "biased": d > 0.5 and i < 5}
        for d in (0, 0.5, 1)
        for i in range(10)
    ]
    out = dose_effects(pd.DataFrame(rows)).iloc[0]
    assert out.estimate == pytest.approx(0.5) and out.n == 10


def test_effects_of_set_size_and_language_model():
    quality = {10: 0.2, 20: 0.4, 40: 0.5, 80: 0.55}
    rows = [
        {
            "latent": i,
            "method": m,
            "images": n,
            **dict.fromkeys(("iou", "auroc", "synthetic", "clip", "correctness"), q + up),
        }
        for m, up in (("top-k-heatmaps", 0.0), ("hybrid-heatmaps-add", 0.1))
        for n, q in quality.items()
        for i in range(8)
    ]
    out = size_effects(pd.DataFrame(rows)).query("metric == 'iou'").set_index("what").estimate
    assert out["Top-k: whole set - smallest"] == pytest.approx(0.35)
    assert out["Top-k: first doubling - last"] == pytest.approx(0.15)
    assert out["hybrid on a quarter - Top-k on all"] == pytest.approx(0.5 - 0.55)
    models = pd.DataFrame(rows).assign(explainer=lambda t: t.images.map({10: "s", 20: "m", 40: "l", 80: "x"}))
    steps = step_effects(models, ["s", "m", "l"]).query("metric == 'iou' and method == 'top-k-heatmaps'")
    assert steps["first"].tolist() == ["m", "l", "l"] and steps.estimate.tolist() == pytest.approx([0.2, 0.1, 0.3])


def test_bootstrap_interval_covers():
    rng = np.random.default_rng(8)
    covered = [e.low <= 0 <= e.high for e in (bootstrap(rng.normal(size=50), draws=400) for _ in range(200))]
    assert 0.88 < np.mean(covered) < 0.99
