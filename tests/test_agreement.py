"""Agreement of two methods as a sign of quality."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_tables import scores

from lib.methods import STEERING, TOP_K
from lib.metrics import METRICS
from lib.studies.agreement import (
    above_thresholds,
    agreement,
    correlations,
    correlations_shown,
    curves_shown,
    findings,
    qualities,
    within_concepts,
)


class Letters:
    """Embeds a text by its first letter."""

    def embed(self, texts):
        return torch.nn.functional.one_hot(torch.tensor([ord(t[0]) % 32 for t in texts]), 32).float()


def test_the_same_latents_explanations_are_compared_in_any_order():
    table = scores(0, 6)
    said = {STEERING.add.key: "abcdef", TOP_K.masks.key: "abcxyz"}
    own = table[table.method.isin(said)]
    own = own.assign(explanation=[said[m][i] for m, i in zip(own.method, own.latent)]).sample(frac=1, random_state=1)
    top = SimpleNamespace(score=torch.full((6, 10), 2.0))
    settings = SimpleNamespace(explain=SimpleNamespace(k=5), sae=SimpleNamespace(seed=0))
    run = SimpleNamespace(held_out=SimpleNamespace(top=top), profile=settings)
    other = SimpleNamespace(profile=SimpleNamespace(sae=SimpleNamespace(seed=1)))  # of which nothing has been gathered
    run.replicas = [run, other]
    found = agreement(run, pd.concat([own, own.assign(control="random")]), Letters())
    assert found.latent.tolist() == list(range(6)) and found.similarity.tolist() == [1, 1, 1, 0, 0, 0]
    assert found.steering.tolist() == list("abcdef")
    assert found.synthetic_norm.to_numpy() == pytest.approx(found.synthetic / 2)


def test_thin_samples_are_not_shown():
    table = scores(0, 12, (TOP_K.masks,)).assign(similarity=np.linspace(0, 1, 12), synthetic_norm=1.0)
    out = above_thresholds(table, [0, 0.5, 0.9])
    assert sorted(set(out.threshold)) == [0, 0.5] and out[out.threshold == 0].n.eq(12).all()


def test_every_metric_is_a_quality_and_a_new_one_becomes_one(monkeypatch):
    table = scores(0, 6).assign(synthetic_norm=1.0)
    assert list(qualities(table)) == ["synthetic_norm", "auroc", "iou", "clip", "correctness"]
    monkeypatch.setitem(METRICS, "taste", METRICS["iou"])
    assert list(qualities(table.assign(taste=1.0)))[-1] == "taste" and "taste" not in qualities(table)


def test_correlations_are_over_latents_with_a_composite_beside_the_metrics():
    table = scores(1, 40, (TOP_K.masks,)).assign(similarity=np.linspace(0, 1, 40), synthetic_norm=1.0)
    rising = table.assign(iou=table.similarity, composite=table.similarity, correctness=-table.similarity)
    found = correlations({"M": rising})
    assert found.set_index("metric").estimate[["iou", "composite", "correctness"]].round(6).tolist() == [1, 1, -1]
    (line,) = findings(found)
    assert line.startswith("M: ")
    assert "a sign of a good Top-k explanation" in line and "a sign against a right one" in line
    lines = findings(correlations({"first": rising, "M": rising}))
    assert lines[1].startswith("M: Top-k's correctness falls with its similarity")
    assert lines[2].startswith("M: Top-k's quality (composite) rises with its similarity")
    flat = findings(correlations({"M": rising, "N": rising.assign(composite=1.0, correctness=1.0)}))
    assert "Of the other models 0 of 1 show the former and 0 of 1 show the latter." in flat[0]


def test_within_concepts_easy_ones_do_not_make_agreement_a_sign():
    """Where similarity and quality are both the concept's, nothing is left of their correlation; a real one stays."""
    table = scores(1, 40, (TOP_K.masks,)).assign(concept=[f"c{i // 8}" for i in range(40)])
    rng = np.random.default_rng(0)
    easy = np.repeat(np.arange(5.0), 8)
    common = table.assign(similarity=easy + 0.01 * rng.random(40), composite=easy + 0.01 * rng.random(40))
    real = table.assign(similarity=easy + np.tile(np.arange(8.0), 5), composite=easy + np.tile(np.arange(8.0), 5))
    lone = pd.DataFrame([{**common.iloc[0].to_dict(), "concept": "alone", "latent": 99, "similarity": 9.0}])
    found = within_concepts({"common": pd.concat([common, lone]), "real": real}).set_index("model")
    assert found.loc["common", "low"] < 0 < found.loc["common", "high"] and found.loc["common", "n"] == 40
    assert found.loc["real", "estimate"] == pytest.approx(1)
    known = correlations({"real": real.assign(synthetic_norm=1.0)})
    assert any("among latents of one concept" in line for line in findings(known, within_concepts({"real": real})))
    assert within_concepts({"all alone": common.assign(concept=common.latent.astype(str))}).empty


def test_shown_forms_have_a_column_for_each_metric_or_model():
    table = scores(0, 12, (TOP_K.masks,)).assign(similarity=np.linspace(0, 1, 12), synthetic_norm=1.0, composite=0.0)
    curves = above_thresholds(table, [0, 0.1, 0.2, 0.3]).assign(model="M")
    page = curves_shown(curves)
    assert page.threshold.tolist() == [0, 0.3] and page.n.tolist() == [12, 8]
    assert list(page) == ["model", "threshold", "n", "AUROC", "IoU", "Correctness"]
    page = correlations_shown(correlations({"M": table, "N": table}))
    assert list(page)[1:] == ["M, n = 12", "N, n = 12"] and page.iloc[0, 0] == "Synthetic activation, normalised"
