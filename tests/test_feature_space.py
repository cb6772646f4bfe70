"""The best of three, the levels, the map, and the search."""

import re
from collections.abc import Sequence
from types import SimpleNamespace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
import torch
from tiny_tables import scores

from lib.findings import unsupported
from lib.judges.sentences import SentenceEmbedder
from lib.methods import METHODS, PUBLISHED, STEERING, TOP_K
from lib.metrics import voters
from lib.paper import csv_of
from lib.profile import load
from lib.scenes.catalogue import ATOM_INDEX, ATOMS, elements
from lib.scenes.judges import SceneReader
from lib.scenes.language import read
from lib.scenes.truth import Truth
from lib.studies import retrieval
from lib.studies.feature_map import (
    cluster_count,
    cluster_name,
    cluster_table,
    clusters,
    draw,
    feature_map,
    label_places,
    project,
)
from lib.studies.feature_space import (
    AS_PUBLISHED,
    CANDIDATES,
    DECIDED,
    PASSES,
    best_of,
    best_of_table,
    filtered,
    findings,
    level_counts,
    level_effects,
    multiple,
    remaining,
)
from lib.studies.retrieval import (
    CEILING,
    CONCEPTS,
    MEASURES,
    PAIRS,
    RANDOM,
    RANKED,
    RANKINGS,
    SETS,
    WORDS,
    Search,
    chances,
    nearest,
)

READER = SceneReader()
STEERED, SHOWN, BOTH = CANDIDATES
NAMES = ("water", "sand", "grass")


@pytest.fixture(scope="module")
def embedder():
    return SentenceEmbedder(load("desk").score.sentences)


def truth_of(*surfaces: str) -> Truth:
    """Latents that are active on one surface each, wherever it is."""
    mass = torch.zeros(len(surfaces), len(ATOMS), dtype=torch.float64)
    mass[range(len(surfaces)), [ATOM_INDEX[name] for name in surfaces]] = 1
    ones = torch.ones(len(ATOMS), dtype=torch.float64)
    return Truth(mass, mass, mass, ones, ones)


@pytest.fixture
def table() -> pd.DataFrame:
    """Top-k is the best of the first two latents; of the third the other two are equally good."""
    table = scores(0, 3, CANDIDATES)
    high = {SHOWN.key: [1.0, 1.0, 0.0], STEERED.key: [0.1, 0.0, 0.5], BOTH.key: [0.1, 0.0, 0.5]}
    value = [high[method][latent] for method, latent in zip(table.method, table.latent)]
    said = [NAMES[latent] for latent in table.latent]
    names = {"dictionary": 0, "concept": said, "explanation": said}
    return table.assign(**names, **dict.fromkeys(voters(), value))


def pooled(*tables: pd.DataFrame) -> pd.DataFrame:
    """The same latents' numbers in several dictionaries."""
    return pd.concat([table.assign(dictionary=d) for d, table in enumerate(tables)], ignore_index=True)


def said_by(words: dict[tuple[str, str], Sequence[str]], concepts: Sequence[str], dictionary: int = 0) -> pd.DataFrame:
    """Explanations as scored: from method and control to what is said of each latent; right ones are wholly correct."""
    rows = [
        {"dictionary": dictionary, "latent": i, "concept": concepts[i], "method": method, "control": control,
         "explanation": text, "correctness": float(text == elements()[concepts[i]].phrase)}
        for (method, control), texts in words.items()
        for i, text in enumerate(texts)
    ]  # fmt: skip
    return pd.DataFrame(rows)


class TestBestOf:
    def test_the_vote_counts_sole_winners(self, table):
        best = filtered(best_of(table), table, "Gemma 3")
        assert best.method.tolist()[:2] == [SHOWN.key] * 2 and best.method[2] != SHOWN.key
        assert best.alone.tolist() == [True, True, False]
        shares, effects = best_of_table(best.assign(passes=True))
        assert shares.estimate.sum() == pytest.approx(1) and shares.alone.tolist() == [0, 2, 0]
        by = effects.set_index("what")
        assert by.estimate["Steering - Top-k"] == pytest.approx(-0.5) and by.p["Steering - Top-k"] > 0.05
        assert by.decided[["Steering - Top-k", "hybrid - Top-k", "hybrid - Steering"]].tolist() == [2, 2, 0]
        assert by.estimate[DECIDED] == pytest.approx(2 / 3)

    def test_a_latent_of_another_dictionary_is_another_latent(self, table):
        other = table.assign(**dict.fromkeys(voters(), (table.method == STEERED.key).astype(float)))
        best = best_of(pooled(table, other))
        assert best.dictionary.tolist() == [0] * 3 + [1] * 3 and best.latent.tolist() == [0, 1, 2] * 2
        assert best.method.tolist()[3:] == [STEERED.key] * 3 and best.method[0] == SHOWN.key
        _, effects = best_of_table(filtered(best, pooled(table, other), "Gemma 3").assign(passes=True))
        by = effects.set_index("what")
        assert by.estimate["Steering - Top-k"] == pytest.approx(0.25) and by.n["Steering - Top-k"] == 6

    def test_if_none_passes_the_winners_among_all_are_counted(self, table):
        none = filtered(best_of(table), table, "Gemma 3").assign(passes=False)
        assert len(remaining(none)) == 3 and len(remaining(none.assign(passes=none.latent < 2))) == 2
        assert best_of_table(none)[0].equals(best_of_table(none.assign(passes=True))[0])
        assert best_of_table(none)[1].set_index("what").estimate[PASSES] == 0

    def test_controls_have_no_vote_and_an_undefined_score_never_wins(self, table):
        control = table[table.method == STEERED.key].assign(control="random", **dict.fromkeys(voters(), 9.0))
        pd.testing.assert_frame_equal(best_of(pd.concat([table, control])), best_of(table))
        undefined = table.assign(iou=table.iou.where(table.method != SHOWN.key))
        assert best_of(undefined).method.tolist()[:2] == [SHOWN.key] * 2  # by its three other votes


class TestFilter:
    def test_the_multiple_is_that_of_the_papers_own_table(self):
        own = csv_of("table1").set_index(["model", "method", "evidence"]).synthetic
        for model in ("Gemma 3", "InternVL3"):
            assert multiple(model) == pytest.approx(0.3 / own[model, "Top-k", "masks"])
        assert multiple("nobody") == multiple("Gemma 3") != multiple("InternVL3")

    def test_the_threshold_follows_the_unit_of_each_dictionary(self, table):
        tenfold = table.assign(synthetic=10 * table.synthetic)
        both = pooled(table, tenfold)
        best = filtered(best_of(both), both, "Gemma 3").set_index("dictionary")
        # Top-k's mean is 2/3 (20/3), so the threshold is 0.61 (6.1): the third latent, at 0.5 (5), fails
        assert best.passes[0].tolist() == best.passes[1].tolist() == [True, True, False]
        assert best.as_published[0].tolist() == [True, True, True] == best.as_published[1].tolist()
        small = filtered(best_of(table), table.assign(synthetic=table.synthetic / 10), "Gemma 3")
        assert small.passes.all()

    def test_iou_has_a_unit_of_its_own(self, table):
        best = best_of(table).assign(iou=[0.19, 0.2, 0.2])
        assert filtered(best, table, "Gemma 3").passes.tolist() == [False, True, False]

    def test_both_shares_are_shown(self, table):
        both = pooled(table, table)
        _, effects = best_of_table(filtered(best_of(both), both, "Gemma 3"))
        by = effects.set_index("what").estimate
        assert by[PASSES] == pytest.approx(2 / 3) and by[AS_PUBLISHED] == 1


class TestLevels:
    KEYS = [(m.key, "") for m in PUBLISHED] + [(STEERING.add.key, "random")]

    def test_counts_stand_beside_the_truth_where_it_is_known(self, table):
        levels = level_counts(table, READER)
        assert (levels.place.str.startswith("1.000")).all() and levels.method.tolist()[-1] == "truth"
        assert "truth" not in set(level_counts(table.assign(concept="latent 3 of dictionary 0"), READER).method)

    def test_only_truly_low_level_latents_count_and_only_right_words(self):
        concepts = ["blur", "red stripes", "water", "dog"]
        right = [elements()[name].phrase for name in concepts]
        wrong = ["a dog", "blue stripes", "a dog", "grass"]  # of the second, the level is right and the words are not
        words = dict.fromkeys(self.KEYS, wrong) | {(STEERING.add.key, ""): right, (TOP_K.masks.key, ""): right}
        table = level_effects(said_by(words, concepts), READER, {0: truth_of(*concepts)})
        by = table.set_index(["level", "what"])
        assert by.estimate["low-level", "Steering - Top-k"] == pytest.approx(0.5)  # Top-k by masks alone: one half
        assert by.estimate["low-level", "hybrid - Top-k"] == pytest.approx(-0.5)
        assert by.estimate["low-level", "Steering - random directions"] == 1
        assert by.n["low-level", "Steering - Top-k"] == 2 and by.n["place", "Steering - Top-k"] == 1

    def test_low_level_words_for_a_latent_that_is_not_gain_nothing(self):
        words = {key: ["water", "grass"] for key in self.KEYS} | {(STEERING.add.key, ""): ["red stripes", "dots"]}
        table = level_effects(said_by(words, ["water", "grass"]), READER, {0: truth_of("water", "grass")})
        low = table[table.level == "low-level"]
        assert (low.estimate == 0).all() and (low.n == 0).all() and (low.low == -1).all() and (low.high == 1).all()
        places = table[table.level == "place"].set_index("what").estimate
        assert places["Steering - Top-k"] == -1

    def test_each_dictionary_has_its_own_truth(self):
        words = {key: ["dots"] for key in self.KEYS} | {(STEERING.add.key, ""): ["a blurred background"]}
        both = pd.concat([said_by(words, ["blur"], 0), said_by(words, ["dots"], 1)])
        table = level_effects(both, READER, {0: truth_of("blur"), 1: truth_of("red dots")})
        by = table.set_index(["level", "what"]).estimate
        assert by["low-level", "Steering - Top-k"] == 0


class TestMap:
    @pytest.mark.slow(8)
    def test_the_map_puts_like_explanations_together(self, embedder):
        texts = [
            "a dog",
            "a cow",
            "a fox",
            "an elephant",
            "red stripes",
            "blue stripes",
            "green stripes",
            "stripes",
        ] * 3
        vectors = embedder.embed(texts).numpy()
        group = clusters(vectors, 2)
        assert len({(g, "stripes" in t) for g, t in zip(group, texts)}) == 2
        where = project(vectors)
        assert where.shape == (24, 2) and np.isfinite(where).all() and (where == project(vectors)).all()

    def test_a_cluster_is_named_by_what_most_of_it_shares(self):
        assert cluster_name({"a dog": 1, "a cow": 1}, ["water"], READER) == "mammal"
        outside = ["a dog", "a guitar", "red stripes"]
        places = {"a tent": 1, "a pizza on grass": 3, "water": 2, "grass": 3}
        assert cluster_name(places, outside, READER) == "places: grass, a pizza, ..."
        assert (
            cluster_name({"water": 1, "grass": 1, "bricks": 1}, [], READER) == "places: water, grass, ..."
        )  # no third
        assert cluster_name({"a dog": 1, "water": 1}, outside, READER) == "mixed: a dog, water"
        assert cluster_name({"justice": 1}, ["a dog"], READER) == "mixed: justice"

    def test_a_name_by_a_language_model_stays(self):
        reader = SimpleNamespace(cluster_name=lambda inside, outside: "Four-legged friends")
        assert cluster_name({"a dog": 1}, [], reader) == "Four-legged friends"

    def test_few_sentences_make_few_clusters(self):
        assert [cluster_count(n) for n in (1, 5, 23, 500)] == [1, 1, 7, 12]

    def test_readers_see_each_cluster_with_its_commonest_sentences(self):
        dots = pd.DataFrame(
            {
                "explanation": list("abcdef"),
                "size": [9, 8, 7, 3, 2, 1],
                "cluster": ["A"] * 5 + ["B"],
                "number": [0] * 5 + [1],
            }
        )
        table = cluster_table(dots)
        assert table.latents.tolist() == [29, 1] and table.cluster.tolist() == ["A", "B"]
        assert table["commonest sentences"].tolist() == ["a; b; c; d; ...", "f"]

    @pytest.mark.parametrize("n", [pytest.param(8, marks=pytest.mark.slow(2)), 3, 1])
    def test_a_dot_of_the_map_is_a_sentence_and_knows_its_latents(self, embedder, n):
        texts = ["red stripes", "a dog", "a cow", "a fox", "an elephant", "blue stripes", "green stripes", "stripes"][
            :n
        ]
        best = pd.DataFrame({"latent": range(n + 2), "explanation": [*texts, texts[0], texts[0]]})
        dots = feature_map(best, embedder, READER, k=2)
        assert list(dots) == ["explanation", "size", "cluster", "x", "y", "number"]
        assert dots["size"].tolist() == [3] + [1] * (n - 1) and dots.explanation[0] == texts[0]
        assert dots.groupby("number").cluster.nunique().eq(1).all() and dots.number.max() < 2
        assert len(label_places(dots)) == dots.number.nunique()
        if n == 8:
            assert set(dots.cluster) == {"mammal", "stripes"}

    @pytest.mark.parametrize("letters", [8, 80])
    def test_the_map_shows_sentences_that_are_short_and_every_cluster(self, letters):
        rng = np.random.default_rng(0)
        said = [f"{i:0{letters}}" for i in range(12)]
        dots = pd.DataFrame({"explanation": said, "size": 1, "number": [0] * 6 + [1] * 6, "cluster": "water"})
        fig = draw(dots.assign(x=rng.random(12), y=rng.random(12)))
        (axis,) = fig.axes
        shown = {text.get_text() for text in axis.texts}
        assert {"1", "2"} <= shown and (set(said) <= shown) == (letters == 8)
        assert [t.get_text() for t in axis.get_legend().get_texts()] == ["1  water (6)", "2  water (6)"]
        plt.close(fig)

    def test_a_number_covers_no_dot_and_no_other_number(self):
        rng = np.random.default_rng(0)
        group = np.repeat(np.arange(10), 8)
        where = rng.normal(size=(10, 2))[group] * [30, 2] + rng.normal(size=(80, 2)) * [3, 0.2]
        dots = pd.DataFrame({"x": where[:, 0], "y": where[:, 1], "number": group})
        places, span = label_places(dots, 0.05), np.ptp(where, 0)
        at = places[["x", "y"]].to_numpy() / span
        assert np.linalg.norm(at[:, None] - where / span, axis=2).min() >= 0.05 - 1e-9
        between = np.linalg.norm(at[:, None] - at, axis=2)[~np.eye(10, dtype=bool)]
        assert between.min() >= 0.1 - 1e-9
        own = np.linalg.norm(at - places[["dot_x", "dot_y"]].to_numpy() / span, axis=1)
        assert np.median(own) < 0.12  # beside its cluster
        free = label_places(dots, 0.05, taken=places[["x", "y"]].to_numpy())[["x", "y"]].to_numpy() / span
        assert np.linalg.norm(free[:, None] - at, axis=2).min() >= 0.025 - 1e-9
        assert all((row.dot_x, row.dot_y) in set(map(tuple, where[group == row.number])) for row in places.itertuples())


def content(text: str) -> set[str]:
    """The words of a text that carry meaning, in the singular."""
    dull = set("a an the of with and or on in at to from by for no that into small two everywhere background".split())
    return {re.sub("(?<=[^s])s$", "", word) for word in re.findall(r"[a-z]+", text.lower())} - dull


class TestQueries:
    def test_no_query_shares_a_word_with_what_the_catalogue_calls_its_concept(self):
        for concept, queries in CONCEPTS.items():
            atoms = elements()[concept].atoms
            named = [e for e in elements().values() if e.atoms & atoms]  # and what it is a part of, or has as parts
            words = set().union(*(content(t) for e in named for t in (e.name, e.phrase, *e.synonyms)))
            for query in queries:
                assert not read(query).atoms & atoms, query
                pairs = [(a, b) for a in content(query) for b in words if a == b or (len(b) > 3 and (a in b or b in a))]
                assert not pairs, (concept, query, pairs)

    def test_the_search_for_a_shared_word_would_be_noticed(self):
        assert content("Converging lines, a line") & content("rails in a line") == {"line"}

    def test_there_are_several_concepts_and_queries_and_each_query_is_its_own(self):
        queries = [query for words in CONCEPTS.values() for query in words]
        assert len(queries) == len(set(queries)) == 3 * len(CONCEPTS) and len(CONCEPTS) >= 8
        assert all(name in elements() for name in CONCEPTS) and set(SETS["depth and perspective"]) <= set(CONCEPTS)


class TestSearch:
    def test_search_finds_by_meaning(self, embedder):
        texts = ["a guitar", "water", "", "a pizza"]
        search = Search(pd.DataFrame({"latent": [1, 2, 3, 4], "method": "m", "explanation": texts}), embedder)
        found = search("musical instrument", 2)
        assert found.latent[0] == 1 and found.similarity.is_monotonic_decreasing
        assert 3 not in search("x", 9).latent.tolist()
        with pytest.raises(ValueError, match="empty"):
            search("  ")

    def test_equal_sentences_are_ordered_by_lot(self, embedder):
        same = pd.DataFrame({"latent": range(20), "method": "m", "explanation": "water"})
        one, other = (Search(same, embedder, seed)("sea").latent.tolist() for seed in (0, 1))
        assert one != other and one == Search(same, embedder, 0)("sea").latent.tolist()

    def test_each_query_has_its_nearest_latents(self, embedder, table):
        found = nearest(table[table.method == STEERED.key], embedder, ["the sea", "a lawn"], 1)
        assert found[["query", "latent"]].to_numpy().tolist() == [["the sea", 0], ["a lawn", 2]]

    def test_equal_sentences_have_equal_embeddings(self, embedder):
        a = embedder.embed(["a dog", "water", "a dog"])
        assert torch.equal(a[0], a[2]) and torch.allclose(a.norm(dim=1), torch.ones(3), atol=1e-5)


class TestChances:
    def test_ties_share_the_places_that_are_left(self):
        assert chances(np.array([3.0, 1.0, 2.0, 0.0]), 2).tolist() == [1, 0, 1, 0]
        assert chances(np.array([2.0, 1.0, 1.0, 1.0, 0.0]), 3).tolist() == pytest.approx([1, 2 / 3, 2 / 3, 2 / 3, 0])
        assert chances(np.zeros(10), 5).tolist() == [0.5] * 10
        assert chances(np.array([1.0, -np.inf]), 5).tolist() == [1, 1]

    def test_they_are_what_a_lot_gives_on_average(self):
        similarity, rng = np.array([2.0, 1.0, 1.0, 0.0, 1.0]), np.random.default_rng(0)
        hits = np.zeros(5)
        for _ in range(4000):
            hits[np.lexsort((rng.random(5), -similarity))[:2]] += 1 / 4000
        assert hits == pytest.approx(chances(similarity, 2), abs=0.03)


class FakeEmbedder:
    """Knows that a query means its concept, and what sentences name: one dimension for each concept."""

    def embed(self, texts) -> torch.Tensor:
        of = {query: name for name, words in CONCEPTS.items() for query in words}
        of |= {elements()[name].phrase: name for name in CONCEPTS} | {name: name for name in CONCEPTS}
        return torch.tensor([[float(of.get(text) == name) for name in CONCEPTS] for text in texts])


class TestRetrieval:
    """Two dictionaries, of which each has two latents for every concept that is searched for."""

    LATENTS = tuple(name for name in CONCEPTS for _ in range(2))
    SURFACES = tuple(f"red {name}" if f"red {name}" in ATOMS else name for name in LATENTS)

    def found(self, steering: Sequence[str], other: str = "justice", n: int = 2) -> pd.DataFrame:
        silent = [other] * len(self.LATENTS)
        words = dict.fromkeys(RANKED.values(), silent) | {RANKED["Steering"]: steering}
        both = pd.concat([said_by(words, self.LATENTS, d) for d in (0, 1)])
        truths = dict.fromkeys((0, 1), truth_of(*self.SURFACES))
        return retrieval.retrieval(both, truths, FakeEmbedder(), n)

    def test_right_words_find_and_equal_words_find_by_chance(self):
        found = self.found(self.LATENTS)
        assert len(found) == 2 * 3 * len(CONCEPTS) * len(RANKINGS)
        mean = found.groupby("ranking")[list(MEASURES)].mean()
        assert all((mean.loc[name] == 1).all() for name in ("Steering", WORDS, CEILING))
        rate = 1 / len(CONCEPTS)
        for blind in ("Top-k", "hybrid", "random directions", RANDOM):
            assert mean.loc[blind].tolist() == pytest.approx([rate, rate])

    def test_what_is_found_is_judged_by_the_truth_and_not_by_its_words(self):
        wrong = self.LATENTS[2:] + self.LATENTS[:2]  # each is called by the next concept's name
        found = self.found(wrong)
        assert found[found.ranking == "Steering"].share.eq(0).all()

    def test_an_empty_explanation_comes_last(self):
        some = [name if i % 2 else "" for i, name in enumerate(self.LATENTS)]
        found = self.found(some, other="", n=1)
        assert found[found.ranking == "Steering"].precision.eq(1).all()
        assert found[found.ranking == "Top-k"].share.to_numpy() == pytest.approx(1 / len(CONCEPTS))

    def test_effects_have_one_row_for_the_claim(self):
        effects = retrieval.retrieval_effects(self.found(self.LATENTS))
        assert len(effects) == len(PAIRS) * len(SETS) * len(MEASURES)
        claim = {"what": "Steering - random directions", "concepts": "depth and perspective", "measure": "share"}
        row = effects[np.logical_and.reduce([effects[name] == value for name, value in claim.items()])]
        assert len(row) == 1 and row.n.item() == 4 and row.estimate.item() == pytest.approx(1 - 1 / len(CONCEPTS))
        alike = effects[(effects.what == "hybrid - Top-k")]
        assert (alike.estimate == 0).all() and (alike.p == 1).all()
        every = effects[(effects.concepts == "all") & (effects.what == "Steering - Top-k")]
        assert (every.n == 2 * len(CONCEPTS)).all() and (every.p < 0.05).all() and (every.low > 0).all()

    def test_one_concept_of_two_decides_nothing(self):
        half = [name if name == "blur" else "justice" for name in self.LATENTS]
        effects = retrieval.retrieval_effects(self.found(half))
        claim = effects[(effects.concepts == "depth and perspective") & (effects.measure == "share")]
        e = claim.set_index("what").loc["Steering - random directions"]
        assert e.estimate > 0 and e.p > 0.05

    def test_tables_have_every_concept_and_every_ranking(self):
        found = self.found(self.LATENTS)
        table = retrieval.retrieval_table(found)
        assert len(table) == len(MEASURES) * (len(CONCEPTS) + 1) and table.Steering.eq(1).all()
        assert list(table) == ["measure", "concept", *RANKINGS]
        assert table["Top-k"].to_numpy() == pytest.approx(1 / len(CONCEPTS))


class TestFindings:
    @staticmethod
    def effects(rows: list[dict], sign: float) -> pd.DataFrame:
        numbers = {"estimate": sign * 0.3, "low": sign * 0.3 - 0.1, "high": sign * 0.3 + 0.1, "n": 40, "decided": 12}
        return pd.DataFrame([{**row, **numbers} for row in rows])

    def tables(self, sign: float) -> tuple[pd.DataFrame, ...]:
        votes = ["hybrid - Top-k", "hybrid - Steering", "Steering - Top-k", PASSES, AS_PUBLISHED]
        versus = [f"{a} - {b}" for a, b in PAIRS]
        found = [{"what": w, "concepts": c, "measure": m} for w in versus for c in SETS for m in MEASURES]
        levels = [{"level": "low-level", "what": what} for what in versus]
        return tuple(self.effects(rows, sign) for rows in ([{"what": w} for w in votes], levels, found))

    @pytest.mark.parametrize(("sign", "word"), [(1, "higher"), (-1, "lower"), (0, "not told apart")])
    def test_sentences_follow_their_intervals(self, sign, word):
        lines = findings(*self.tables(sign))
        assert sum(word in line for line in lines[1:]) == 7 and not any(map(unsupported, lines))
        assert any("12 of these latents" in line for line in lines)
        assert len(findings(self.tables(sign)[0])) == 4  # photographs: nobody knows the truth

    def test_the_first_sentence_answers_and_says_no_more_than_is_shown(self):
        up, down, level = (findings(*self.tables(sign))[0] for sign in (1, -1, 0))
        assert "A description finds features" in up and "better than one in Top-k's" in up and "wins more" in up
        assert "is worse than chance" in down and "not shown that a search" in level and "does not tell" in level
        assert "cannot be counted" in findings(self.tables(1)[0])[0]

    def test_every_row_that_a_sentence_needs_is_made(self, table):
        both = pooled(table, table)
        _, effects = best_of_table(filtered(best_of(both), both, "Gemma 3"))
        assert len(findings(effects)) == 4


def test_every_ranking_is_of_a_method_that_is_scored():
    assert {method for method, _ in RANKED.values()} <= set(METHODS) & {m.key for m in PUBLISHED}
