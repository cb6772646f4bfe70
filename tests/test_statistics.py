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
    difference,
    holm,
    mann_whitney,
    normality,
    p_of,
    rank_correlation,
    rank_vote,
    sign_flip,
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


def kin(values, dictionaries=5, concepts=20, seed=0):
    """Values as a Series that says which dictionary and which concept each belongs to."""
    rng, n = np.random.default_rng(seed), len(values)
    index = [np.arange(n) % dictionaries, np.arange(n), rng.integers(0, concepts, n)]
    return pd.Series(values, pd.MultiIndex.from_arrays(index, names=["dictionary", "latent", "concept"]))


def test_latents_of_a_concept_count_as_one_when_they_are_alike():
    rng = np.random.default_rng(3)
    alike = kin(np.zeros(400))
    alike[:] = rng.normal(size=20)[alike.index.get_level_values("concept")]
    clustered, naive = bootstrap(alike), bootstrap(alike.to_numpy())
    assert clustered.high - clustered.low > 3 * (naive.high - naive.low)
    apart = kin(rng.normal(size=400))
    clustered, naive = bootstrap(apart), bootstrap(apart.to_numpy())
    assert clustered.high - clustered.low == pytest.approx(naive.high - naive.low, rel=0.4)


def test_what_dictionaries_differ_by_widens_the_interval():
    rng = np.random.default_rng(4)
    values = kin(rng.normal(size=400))
    same, moved = bootstrap(values), bootstrap(values + np.array([-3, -1, 0, 1, 3])[np.arange(400) % 5])
    assert moved.high - moved.low > 5 * (same.high - same.low)
    one = kin(rng.normal(size=100), dictionaries=1)
    assert bootstrap(one).n == 100


@pytest.mark.parametrize(("dictionaries", "concepts"), [(0.0, 0.0), (0.0, 0.3), (0.2, 0.0), (0.2, 0.3)])
def test_intervals_over_dictionaries_and_concepts_cover(dictionaries, concepts):
    rng, hits = np.random.default_rng(5), 0
    for i in range(100):
        values = kin(rng.normal(size=200) * 0.5, 5, 40, seed=i)
        labels = values.index.get_level_values
        values += dictionaries * rng.normal(size=5)[labels("dictionary")]
        values += concepts * rng.normal(size=40)[labels("concept")]
        e = bootstrap(values, draws=200)
        hits += e.low <= 0 <= e.high
    assert 89 <= hits <= 100


def test_signs_are_flipped_by_concept_and_ties_decide_nothing():
    assert sign_flip(np.array([1.0] * 4 + [0] * 96)) == pytest.approx(2 / 2**4)  # four that differ: 0.125 at the best
    assert sign_flip(np.zeros(10)) == 1
    assert sign_flip(np.ones(40)) < 1e-3
    of_one = pd.Series(np.ones(40), pd.MultiIndex.from_arrays([[0] * 40, range(40), [0] * 40],
                       names=["dictionary", "latent", "concept"]))  # fmt: skip
    assert sign_flip(of_one) == 1  # one concept, whatever its latents: either sign is as likely
    rng = np.random.default_rng(6)
    low = [sign_flip(rng.normal(size=30), draws=500, seed=i) < 0.05 for i in range(300)]
    assert 0.02 < np.mean(low) < 0.09


def test_a_difference_pairs_by_index_and_refuses_other_latents():
    a = kin(np.arange(40.0))
    e = difference(a, (a - 1).sample(frac=1, random_state=0))
    assert e.mean == 1 and e.low == e.high == 1 and e.p < 0.01
    with pytest.raises(ValueError, match="different latents"):
        difference(a, a[:-1])


def test_a_p_value_is_that_of_its_interval():
    assert p_of(1.96, 0, 3.92) == pytest.approx(0.05, abs=1e-3)
    assert p_of(0.9, 0.8, 1.0, 0.9) == 1 and p_of(2, 2, 2) == 0 and p_of(0, 0, 0) == 1


def test_a_paired_interval_is_narrower_than_an_unpaired_one():
    rng = np.random.default_rng(3)
    a = rng.normal(size=100)
    b = a + 0.1 + 0.01 * rng.normal(size=100)
    e = difference(b, a)
    assert e.mean == pytest.approx(0.1, abs=0.01) and e.high - e.low < 0.01
    with pytest.raises(ValueError, match="no latent"):
        bootstrap(np.array([np.nan]))


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


def test_intervals_of_few_concepts_cover_and_of_a_single_one_nothing_is_known():
    rng = np.random.default_rng(9)
    covered = [e.low <= 0 <= e.high for e in (bootstrap(rng.normal(size=8), draws=400) for _ in range(500))]
    assert 0.93 < np.mean(covered) < 0.98  # without Student's tails it is 0.86
    alone = bootstrap(
        pd.Series([1.0, 1.1], pd.MultiIndex.from_tuples([(0, "dog"), (1, "dog")], names=["dictionary", "concept"]))
    )
    assert (alone.low, alone.high) == (-np.inf, np.inf) and p_of(alone.mean, alone.low, alone.high) == 1
