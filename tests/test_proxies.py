"""Proxy metrics against a truth that one of them is."""

import numpy as np
import pandas as pd
import pytest
from tiny_tables import scores

from lib.methods import PUBLISHED, trio
from lib.metrics import METRICS
from lib.studies.feature_space import best_of
from lib.studies.proxies import across, failures, proxies, within

THREE = trio("masks")


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """IoU and synthetic activation are the truth, CLIP is its contrary, and AUROC is noise."""
    rng = np.random.default_rng(0)
    table = scores(0, 400, THREE)
    truth, noise = rng.random((2, len(table)))
    return table.assign(iou=truth, synthetic=truth, correctness=truth, clip=-truth, auroc=noise)


def test_across_latents_a_proxy_that_is_the_truth_follows_it(table):
    over = across(table, THREE).pivot(index="method", columns="proxy", values="estimate")
    assert np.allclose(over.iou, 1) and np.allclose(over["clip"], -1) and (over.auroc.abs() < 0.2).all()


def test_within_a_latent_it_prefers_what_is_right_and_equals_ask_nothing(table):
    inside = within(table, THREE).set_index("proxy")
    assert inside.estimate["iou"] == 1 and inside.estimate["clip"] == 0 and abs(inside.estimate["auroc"] - 0.5) < 0.15
    assert inside.pairs["iou"] == 1200
    equal = scores(0, 3, THREE)
    equal = equal.assign(correctness=equal.latent / 10)
    assert within(equal, THREE).pairs.eq(0).all()


def test_failures_are_the_largest_gaps_of_rank(table):
    worst = failures(table, THREE)
    assert len(worst) == 4 * 2
    top = worst[(worst.proxy == "clip") & (worst.kind == "overrates")].iloc[0]
    assert top.correctness == table.correctness.min()
    assert worst[worst.proxy == "iou"].gap.abs().max() == 0


def test_the_methods_that_are_asked_about_are_all_and_no_others(table):
    assert across(table, THREE[:2]).method.unique().tolist() == [m.key for m in THREE[:2]]
    assert set(failures(scores(0, 20, PUBLISHED), THREE).method) <= {m.key for m in THREE}


def test_a_metric_that_is_added_becomes_a_proxy_and_has_a_vote(table, monkeypatch):
    assert list(proxies().values()) == ["IoU", "AUROC", "Synthetic", "CLIP", "rank vote"]
    before = best_of(table)
    monkeypatch.setitem(METRICS, "taste", METRICS["iou"])
    wise = table.assign(taste=table.method.eq(THREE[0].key) * 1.0)
    assert set(across(wise, THREE).proxy) == {*proxies()} and "taste" in set(failures(wise, THREE).proxy)
    assert within(wise, THREE).proxy.tolist() == [*proxies()] and "taste" in proxies()
    assert (best_of(wise).method == THREE[0].key).sum() > (before.method == THREE[0].key).sum()
