"""The best of three, the map, and the search."""

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_tables import scores

from lib.judges.sentences import SentenceEmbedder
from lib.metrics import voters
from lib.profile import load
from lib.scenes.catalogue import ATOM_INDEX, ATOMS
from lib.scenes.judges import SceneReader
from lib.scenes.truth import Truth
from lib.studies.feature_space import (
    CANDIDATES,
    Search,
    best_of,
    best_of_table,
    clusters,
    feature_map,
    interpretable,
    level_table,
    project,
    retrieval_effects,
    retrieve,
)

READER = SceneReader()
STEERING, TOP_K, HYBRID = CANDIDATES


@pytest.fixture(scope="module")
def embedder():
    return SentenceEmbedder(load("desk").score.sentences)


def truth_of(*surfaces: str) -> Truth:
    """Latents that are active on one surface each."""
    mass = torch.zeros(len(surfaces), len(ATOMS), dtype=torch.float64)
    mass[range(len(surfaces)), [ATOM_INDEX[name] for name in surfaces]] = 1
    ones = torch.ones(len(ATOMS), dtype=torch.float64)
    return Truth(mass, mass, mass, ones, ones)


@pytest.fixture
def table() -> pd.DataFrame:
    """Top-k is the best of the first two latents; of the third the other two are equally good."""
    table = scores(0, 3, CANDIDATES)
    high = {TOP_K.key: [1.0, 1.0, 0.0], STEERING.key: [0.1, 0.0, 0.5], HYBRID.key: [0.1, 0.0, 0.5]}
    value = [high[method][latent] for method, latent in zip(table.method, table.latent)]
    said = [("water", "sand", "grass")[latent] for latent in table.latent]
    return table.assign(explanation=said, **dict.fromkeys(voters(), value))


def test_the_vote_and_the_filter(table):
    best = best_of(table)
    assert best.method.tolist()[:2] == [TOP_K.key] * 2 and best.method[2] != TOP_K.key
    kept = interpretable(best)
    assert kept.latent.tolist() == [0, 1, 2] and kept.alone.tolist() == [True, True, False]
    shares, effects = best_of_table(best, kept)
    assert shares.estimate.sum() == pytest.approx(1)
    estimates = effects.set_index("what").estimate
    assert estimates["share that passes the filter"] == 1 and estimates["Steering - Top-k"] == pytest.approx(-0.5)
    none = best_of_table(best, kept[:0])
    assert none[0].estimate.tolist() == shares.estimate.tolist()
    assert none[1].set_index("what").estimate["share that passes the filter"] == 0


def test_controls_have_no_vote_and_an_undefined_score_never_wins(table):
    control = table[table.method == STEERING.key].assign(control="random", **dict.fromkeys(voters(), 9.0))
    pd.testing.assert_frame_equal(best_of(pd.concat([table, control])), best_of(table))
    undefined = table.assign(iou=table.iou.where(table.method != TOP_K.key))
    assert best_of(undefined).method.tolist()[:2] == [TOP_K.key] * 2  # by its three other votes


def test_levels_stand_beside_the_truth_where_it_is_known(table):
    levels, differences = level_table(table, READER, truth_of("water", "sand", "grass"))
    assert (levels.place.str.startswith("1.000")).all() and (differences.estimate == 0).all()
    assert levels.method.tolist()[-1] == "truth" and set(differences.what) == {
        "Steering - Top-k", "hybrid - Top-k", "truth - Top-k",
    }  # fmt: skip
    levels, differences = level_table(table, READER, None)
    assert "truth" not in set(levels.method) and len(set(differences.what)) == 2


@pytest.mark.slow(8)
def test_the_map_puts_like_explanations_together(embedder):
    texts = ["a dog", "a cow", "a fox", "an elephant", "red stripes", "blue stripes", "green stripes", "stripes"] * 3
    vectors = embedder.embed(texts).numpy()
    group = clusters(vectors, 2)
    assert len({(g, "stripes" in t) for g, t in zip(group, texts)}) == 2
    where = project(vectors)
    assert where.shape == (24, 2) and np.isfinite(where).all() and (where == project(vectors)).all()
    assert READER.cluster_name(["justice"], ["a dog"]) == "mixed: justice"


@pytest.mark.parametrize("n", [pytest.param(8, marks=pytest.mark.slow(2)), 3, 1])
def test_a_dot_of_the_map_is_a_sentence_and_knows_its_latents(embedder, n):
    texts = ["red stripes", "a dog", "a cow", "a fox", "an elephant", "blue stripes", "green stripes", "stripes"][:n]
    best = pd.DataFrame({"latent": range(n + 2), "explanation": [*texts, texts[0], texts[0]]})
    dots = feature_map(best, embedder, READER, k=2)
    assert list(dots) == ["explanation", "size", "cluster", "x", "y", "number"]
    assert dots["size"].tolist() == [3] + [1] * (n - 1) and dots.explanation[0] == texts[0]
    assert dots.groupby("number").cluster.nunique().eq(1).all() and dots.number.max() < 2
    if n == 8:
        assert set(dots.cluster) == {"mammal", "stripes"}


def test_search_finds_by_meaning(embedder):
    table = pd.DataFrame({"latent": [1, 2, 3, 4], "method": "m", "explanation": ["a guitar", "water", "", "a pizza"]})
    search = Search(table, embedder)
    found = search("musical instrument", 2)
    assert found.latent[0] == 1 and found.similarity.is_monotonic_decreasing and 3 not in search("x", 9).latent.tolist()
    with pytest.raises(ValueError, match="empty"):
        search("  ")


def test_each_method_is_searched_alone_and_what_it_finds_is_checked_against_the_truth(embedder, table):
    queries = {"sea": ("the sea", "water")}
    found = retrieve(table, embedder, queries, n=1)
    assert found.method.tolist() == [m.key for m in CANDIDATES] and found.latent.eq(0).all()
    shares, effects = retrieval_effects(found, truth_of("water", "sand", "grass"), [0, 1, 2], queries, 0)
    assert shares.share.eq(1).all()
    assert effects.estimate.between(0.6, 0.73).all()  # one minus a third


def test_equal_sentences_have_equal_embeddings(embedder):
    a = embedder.embed(["a dog", "water", "a dog"])
    assert torch.equal(a[0], a[2]) and torch.allclose(a.norm(dim=1), torch.ones(3), atol=1e-5)
