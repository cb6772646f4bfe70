"""Tests, corrections, votes and effects do what their names say."""

import numpy as np
import pandas as pd
import pytest
from scipy import stats as scipy_stats
from tiny_tables import scores

from lib.effects import as_estimates, differences, effect, estimates, values
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


@pytest.mark.parametrize("n", [1, 2, 6, 40])
def test_resampling_all_at_once_is_resampling_one_by_one_to_the_last_bit(n):
    rng = np.random.default_rng(n)
    a = rng.integers(0, 9, n).astype(float)  # with ties
    b = a + rng.normal(size=n)
    e, draws, rhos = rank_correlation(a, b), np.random.default_rng(0), []
    for _ in range(1000):
        rows = draws.integers(0, n, n)
        x, y = scipy_stats.rankdata(a[rows]), scipy_stats.rankdata(b[rows])
        rhos.append(np.corrcoef(x, y)[0, 1] if x.std() and y.std() else 0.0)
    assert [e.low, e.high] == np.quantile(rhos, [0.025, 0.975]).tolist()


def test_a_paired_interval_is_narrower_than_an_unpaired_one():
    rng = np.random.default_rng(3)
    a = rng.normal(size=100)
    b = a + 0.1 + 0.01 * rng.normal(size=100)
    e = difference(b, a)
    assert e.mean == pytest.approx(0.1, abs=0.01) and e.high - e.low < 0.01
    with pytest.raises(ValueError, match="no latent"):
        bootstrap_pairs(lambda x: x.mean(1), np.array([np.nan]))


def test_rank_vote_takes_the_lowest_mean_rank_and_shares_ties():
    scores = np.array([[[3.0, 3, 1, 3], [2, 2, 2, 2], [1, 1, 3, 1]]])  # first in three metrics of four
    assert rank_vote(scores).tolist() == [[1, 0, 0]]
    tied = np.zeros((1, 2, 4))
    assert rank_vote(tied).tolist() == [[0.5, 0.5]]
    assert rank_vote(np.concatenate([tied, tied - 1], 1)[:, :3]).tolist() == [[0.5, 0.5, 0]]


def test_an_effect_goes_to_a_table_and_back():
    e = Estimate(0.5, 0.25, 0.75, 9)
    assert as_estimates(pd.DataFrame([effect(e)])) == [e]
    grouped = estimates(scores(6), ["method"], ["iou"])
    assert len(grouped) == 5 and grouped.n.eq(60).all()


def test_values_are_in_the_order_of_latents_and_of_one_control():
    own = scores(3)
    mixed = pd.concat([own.assign(control="random", iou=9.0), own.sample(frac=1, random_state=0)])
    part = own[own.method == "top-k-masks"].set_index("latent").iou
    assert values(mixed, "top-k-masks", "iou").tolist() == part.tolist()
    assert set(values(mixed, "top-k-masks", "iou", "random")) == {9.0}


def test_differences_pair_latents_not_rows():
    scored = pd.DataFrame({"latent": [1, 2, 2, 1], "base": ["a", "a", "b", "b"], "iou": [1.0, 2.0, 1.5, 0.5]})
    out = differences(scored, "base", [("a", "b")]).iloc[0]
    assert (out.estimate, out.low, out.high) == (0.5, 0.5, 0.5)


def test_bootstrap_interval_covers():
    rng = np.random.default_rng(8)
    covered = [e.low <= 0 <= e.high for e in (bootstrap(rng.normal(size=50), draws=400) for _ in range(200))]
    assert 0.88 < np.mean(covered) < 0.99
