"""Proxy metrics against a truth that one of them is, or is not."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_tables import scores

from lib.effects import estimates
from lib.evidence import Gathered
from lib.findings import unsupported
from lib.kept import Evidence
from lib.methods import PUBLISHED, STEERING, TOP_K, trio
from lib.metrics import METRICS, voters
from lib.overlap import mean_ious
from lib.scenes.catalogue import ATOM_INDEX, ATOMS, elements
from lib.scenes.drawing import Layout, Placed, Scene, draw
from lib.scenes.images import SceneImages
from lib.scenes.judges import SceneSegmenter
from lib.scenes.noisy import NoisySegmenter
from lib.scenes.truth import Truth
from lib.studies import failures as failing
from lib.studies import fresh
from lib.studies.failures import failure_sheet, failures
from lib.studies.feature_space import best_of
from lib.studies.proxies import (
    NOISY,
    SAME,
    TRUTH,
    across,
    best,
    circularity,
    method_bias,
    noise,
    preferences,
    proxies,
    with_errors,
    within,
)
from lib.studies.proxies_page import advice, correctness_shown, findings, lean_shown, trust

THREE = trio("masks")
NAMED = {**{m: METRICS[m].title for m in voters()}, "vote": "the rank vote"}


def replicated(seed: int, latents: int, methods: tuple, dictionaries: int = 3) -> pd.DataFrame:
    """Scores of several dictionaries, whose latents have the same numbers, without any meaning yet."""
    parts = [scores(seed + d, latents, methods).assign(dictionary=d) for d in range(dictionaries)]
    table = pd.concat(parts, ignore_index=True)
    return table.assign(concept=(table.latent % 40).astype(str) + "/" + table.dictionary.astype(str))


@pytest.fixture(scope="module")
def table() -> pd.DataFrame:
    """IoU and synthetic activation are the truth, CLIP is its contrary, and AUROC is noise."""
    rng = np.random.default_rng(0)
    table = replicated(0, 150, THREE)
    truth, blur = rng.random((2, len(table)))
    return table.assign(iou=truth, synthetic=truth, correctness=truth, clip=-truth, auroc=blur, correctness_fresh=truth)


@pytest.fixture(scope="module")
def circular() -> pd.DataFrame:
    """Fresh correctness is the truth; IoU follows held-out correctness, errors and all, AUROC the truth itself."""
    rng, table = np.random.default_rng(1), replicated(5, 80, PUBLISHED)
    truth, errors, other, faults, blur = rng.normal(size=(5, len(table)))
    held_out = truth + errors
    judged = {"iou": held_out, "auroc": truth + other, "synthetic": blur, "clip": -blur, NOISY: held_out + 2 * faults}
    return table.assign(**judged, correctness=held_out, correctness_fresh=truth)


# -- agreement with the truth ----------------------------------------------------------------------


def test_across_latents_a_proxy_that_is_the_truth_follows_it(table):
    over = across(table, THREE).pivot(index="method", columns="proxy", values="estimate")
    assert np.allclose(over.iou, 1) and np.allclose(over["clip"], -1) and (over.auroc.abs() < 0.2).all()
    assert across(table, THREE).n.eq(450).all()  # latents of one number and several dictionaries are several


def test_within_a_latent_it_prefers_what_is_right_and_equals_ask_nothing(table):
    inside = within(table, THREE).set_index("proxy")
    assert inside.estimate["iou"] == 1 and inside.estimate["clip"] == 0 and abs(inside.estimate["auroc"] - 0.5) < 0.15
    assert inside.pairs["iou"] == 3 * 450 and inside.n["iou"] == 450
    equal = replicated(0, 3, THREE)
    equal = equal.assign(correctness=equal.latent / 10, correctness_fresh=equal.latent / 10)
    assert within(equal, THREE).pairs.eq(0).all()


def test_a_latent_of_which_nothing_is_known_is_asked_about_nowhere(table):
    gone = table.assign(correctness_fresh=table.correctness_fresh.mask(table.latent == 7))
    assert within(gone, THREE).pairs.eq(3 * 447).all() and across(gone, THREE).n.eq(447).all()
    assert not failures(gone, THREE).latent.eq(7).any()
    assert circularity(gone, THREE).query("aspect == 'across'").n.eq(447).all()


def test_a_truth_can_be_chosen_and_the_fresh_one_is_the_default(circular):
    held_out, new = (within(circular, PUBLISHED, t).set_index("proxy").estimate for t in (SAME, TRUTH))
    assert held_out["iou"] == 1 and new["iou"] < 0.8
    pd.testing.assert_frame_equal(within(circular, PUBLISHED), within(circular, PUBLISHED, TRUTH))


def test_the_noisy_segmenter_is_one_more_proxy_where_a_table_has_it(table, circular):
    assert NOISY not in proxies(table) and [*proxies(circular)][-1] == NOISY
    assert set(across(circular, PUBLISHED).proxy) == set(within(circular, PUBLISHED).proxy) == {*proxies(circular)}
    lost = noise(circular, PUBLISHED)
    assert lost.aspect.tolist() == ["across", "within"] and (lost.low > 0).all()
    same = noise(circular.assign(iou_noisy=circular.iou), PUBLISHED)
    assert same.estimate.eq(0).all()


def test_circularity_is_what_agreement_loses_on_fresh_scenes_and_only_where_it_was_circular(circular):
    drop = circularity(circular, PUBLISHED).set_index(["proxy", "aspect"])
    for aspect, low in (("across", 0.2), ("within", 0.15)):
        iou, auroc, most = (drop.loc[(proxy, aspect)] for proxy in ("iou", "auroc", SAME))
        assert iou.same == pytest.approx(1) and iou.low > low and iou.estimate == pytest.approx(iou.same - iou.fresh)
        assert auroc.high < 0  # held-out errors hide how well it follows the truth
        assert most.fresh == pytest.approx(iou.fresh) and most.n == 240
    # As ranks are taken within each method, the correlation is the mean over methods.
    over = across(circular, PUBLISHED).groupby("proxy").estimate.mean()
    assert drop.loc[("iou", "across")].fresh == pytest.approx(over["iou"], abs=1e-3)


# -- which one to use ------------------------------------------------------------------------------


def test_a_winner_is_named_only_if_it_is_ahead_of_every_other(circular):
    better = best(circular, PUBLISHED)
    assert better.groupby("segmenter").best.first().to_dict() == {"exact": better.best.iloc[0], "noisy": "auroc"}
    assert not better.eq(NOISY).any(axis=None) and len(better) == 2 * 4
    assert set(better[better.segmenter == "noisy"].other) == {"iou", "synthetic", "clip", "vote"}
    line = advice(better, NAMED)
    assert "should use AUROC" in line and "noisy segmenter" in line and not unsupported(line)
    assert line.count(". ") == 0  # one sentence

    equal = circular.assign(synthetic=circular.correctness_fresh, iou_noisy=circular.correctness_fresh)
    equal = equal.assign(synthetic=equal.synthetic + 1e-9 * np.random.default_rng(3).normal(size=len(equal)))
    line = advice(best(equal, PUBLISHED), NAMED)
    assert "No single metric" in line and "IoU" in line and "Synthetic activation" in line and "AUROC" not in line
    assert not unsupported(line) and line.count(". ") == 0


def test_trust_is_a_matter_of_beating_a_coin(circular):
    shares = within(with_errors(circular), PUBLISHED)
    line = trust(shares, 0.938, NAMED)
    assert (
        "can be trusted up to a point, but for Synthetic activation and CLIP score" in line
        and "held-out scenes 94" in line
    )
    assert "AUROC" not in line
    assert f"they put {100 * shares.estimate.min():.0f} to {100 * shares.estimate.max():.0f} in the right" in line
    assert trust(shares[shares.low > 0.5], 0.9, NAMED).startswith("The proxies can be trusted up to a point: of")
    blind = trust(shares[shares.low <= 0.5], 0.9, NAMED)
    assert blind.startswith("None of the proxies is shown to beat a coin")
    assert all(text.count(". ") == 0 and not unsupported(text) for text in (line, blind))


def test_with_errors_iou_is_the_noisy_one_in_the_vote_too(circular, table):
    shares = within(with_errors(circular), PUBLISHED).set_index("proxy").estimate
    assert shares["iou"] == within(circular, PUBLISHED).set_index("proxy").estimate[NOISY] and NOISY not in shares
    assert shares["vote"] != within(circular, PUBLISHED).set_index("proxy").estimate["vote"]
    assert with_errors(table) is table


def test_differences_between_proxies_are_those_of_their_shares(circular):
    shares = within(circular, PUBLISHED).set_index("proxy").estimate
    for row in best(circular, PUBLISHED).query("segmenter == 'exact'").itertuples():
        assert row.estimate == pytest.approx(shares[row.best] - shares[row.other]) and row.estimate >= 0


# -- leaning towards a method ----------------------------------------------------------------------


def test_a_proxy_that_adds_to_one_method_leans_towards_it_and_noise_does_not():
    rng, table = np.random.default_rng(2), replicated(9, 120, PUBLISHED)
    truth = rng.normal(size=len(table)) - 0.8 * table.method.eq(STEERING.add.key)  # Steering is worse
    gift = 0.7 * table.method.eq(STEERING.add.key)
    made = {"iou": truth, "auroc": truth + gift, "synthetic": truth - gift, "clip": truth + rng.normal(size=len(table))}
    lean = method_bias(table.assign(**made, correctness=truth, correctness_fresh=truth)).set_index(["proxy", "measure"])
    for measure in ("standardised", "right"):
        assert lean.estimate["iou", measure] == pytest.approx(0, abs=1e-9)
        assert lean.low["auroc", measure] > 0 and lean.high["synthetic", measure] < 0
    assert lean.low["clip", "standardised"] > 0  # diluted, as everything is that is noisy
    assert lean.low["clip", "right"] < lean.low["auroc", "right"] and abs(lean.estimate["clip", "right"]) < 0.2
    assert lean.n.eq(360).all()


def test_pairs_are_those_of_steering_and_both_kinds_of_evidence():
    table = replicated(9, 20, PUBLISHED).assign(correctness=0.0, correctness_fresh=0.0)
    rest = ~table.method.isin([STEERING.add.key, *(m.key for m in TOP_K)])
    wild = table.assign(iou=table.iou.where(~rest, 100.0))
    pd.testing.assert_frame_equal(method_bias(table), method_bias(wild))


# -- in words --------------------------------------------------------------------------------------


def words(table: pd.DataFrame) -> list[str]:
    shares = within(with_errors(table), PUBLISHED)
    about = (study(table, PUBLISHED) for study in (circularity, noise, best))
    return findings(shares, *about, method_bias(table))


def test_findings_say_what_the_tables_do_and_no_direction_without_an_interval(circular):
    lines = words(circular)
    assert not any(map(unsupported, lines)) and len(lines) <= 1 + 8
    assert all(sum(name in line for line in lines[5:]) == 1 for name in ("AUROC", "Synthetic activation", "CLIP score"))
    assert lines[0].startswith("The proxies can be trusted") and lines[0].count(". ") == 1  # two sentences
    assert sum("held-out scenes is higher than that by fresh scenes" in line for line in lines) == 2
    assert sum("exact segmenter is higher than that of the noisy one" in line for line in lines) == 2
    gift = 2.0 * circular.method.eq(STEERING.add.key)
    leaning = words(circular.assign(auroc=circular.auroc + gift, synthetic=circular.correctness_fresh - gift))
    assert any("AUROC leans towards Steering" in line for line in leaning)
    assert any("Synthetic activation leans towards Top-k" in line for line in leaning)

    fair = circular.assign(iou=circular.auroc, iou_noisy=circular.auroc, correctness=circular.correctness_fresh)
    lines = words(fair)
    assert not any(map(unsupported, lines))
    assert sum("are not told apart" in line for line in lines[1:]) == 4 and "No single metric" in lines[0]


def test_people_see_which_way_both_measures_point(circular):
    gift = 2.0 * circular.method.eq(STEERING.add.key)
    lean = method_bias(circular.assign(auroc=circular.auroc + gift, synthetic=circular.correctness_fresh - gift))
    seen = lean_shown(lean, proxies(circular)).set_index("proxy")["leans to"]
    assert seen.to_dict() | {"AUROC": "Steering", "Synthetic": "Top-k"} == seen.to_dict() and len(seen) == 6


def test_people_see_a_row_for_each_method(circular):
    wide = correctness_shown(estimates(circular, ["method"], [SAME, TRUTH]))
    assert wide.columns.tolist() == ["method", "correctness, held-out", "correctness, fresh", "n"]
    assert len(wide) == len(PUBLISHED) and wide.method[0] == "Steering" and wide.n.eq(240).all()


# -- where each goes wrong -------------------------------------------------------------------------


def test_failures_are_the_largest_gaps_of_rank(table):
    worst = failures(table, THREE)
    assert len(worst) == 4 * 2
    top = worst[(worst.proxy == "clip") & (worst.kind == "overrates")].iloc[0]
    assert top.correctness_fresh == table.correctness_fresh.min()
    assert worst[worst.proxy == "iou"].gap.abs().max() == 0
    seen = failing.shown(worst)
    row = seen[seen.metric == "CLIP overrates"].iloc[0]
    assert (row.score, row.truth, row.latent) == (f"{top['clip']:.2f}", f"{top[TRUTH]:.2f}", top.latent)


def test_the_sheet_of_failures_fills_its_width(table, monkeypatch):
    class Desk:
        """A run of which the sheet asks for pictures alone."""

        class profile:
            class explain:
                k = 3

        class held_out:
            top = images = None

    white = np.full((8, 8, 3), 255, np.uint8)
    monkeypatch.setattr(failing, "pictures", lambda *about: {0: white, 1: white})
    fig = failure_sheet(Desk, failures(table, THREE))
    fig.canvas.draw()
    assert len(fig.axes) == 4 * 2 * 3 and sum(len(axis.images) for axis in fig.axes) == 4 * 2 * 2
    right = max(axis.get_position().x1 * axis.figure.bbox.width + axis.figure.bbox.x0 for axis in fig.axes)
    assert right > 0.9 * fig.bbox.width


def test_the_methods_that_are_asked_about_are_all_and_no_others(table):
    assert across(table, THREE[:2]).method.unique().tolist() == [m.key for m in THREE[:2]]
    assert set(failures(replicated(0, 20, PUBLISHED), THREE, truth=SAME).method) <= {m.key for m in THREE}


def test_a_metric_that_is_added_becomes_a_proxy_and_has_a_vote(table, monkeypatch):
    assert list(proxies(table).values()) == ["IoU", "AUROC", "Synthetic", "CLIP", "rank vote"]
    one = table[table.dictionary == 0]
    before = best_of(one)
    monkeypatch.setitem(METRICS, "taste", METRICS["iou"])
    wise = one.assign(taste=one.method.eq(THREE[0].key) * 1.0)
    assert set(across(wise, THREE).proxy) == {*proxies(wise)} and "taste" in set(failures(wise, THREE).proxy)
    assert within(wise, THREE).proxy.tolist() == [*proxies(wise)] and "taste" in preferences(wise, THREE)
    assert (best_of(wise).method == THREE[0].key).sum() > (before.method == THREE[0].key).sum()


# -- a segmenter that errs -------------------------------------------------------------------------


class One(SceneImages):
    """One scene under many numbers: a fox and a dog, apart, and a cookie, on grass."""

    def scene(self, index: int) -> Scene:
        placed = (("fox", 20, 20), ("dog", 74, 22), ("dog", 30, 74), ("cookie", 74, 74))
        sides = (28, 28, 40, 28)
        return draw(Layout("grass", tuple(Placed(name, x, y, s) for (name, x, y), s in zip(placed, sides))))


MANY = One(0, 0, 400)
NO_FAULT = {"miss": 0.0, "confuse": 0.0, "single": 0.0}
EXACT = SceneSegmenter(MANY)


def shown(name: str) -> np.ndarray:
    return np.isin(MANY.scene(0).atoms, list(elements()[name].atoms))


def test_without_faults_it_is_the_exact_segmenter():
    plain = NoisySegmenter(MANY, **NO_FAULT)
    for text in ("a dog", "a dog and a cookie on grass", "an animal", "a shark", "", "grass"):
        for first_only in (False, True):
            assert np.array_equal(plain.segment(text, 3, first_only), EXACT.segment(text, 3, first_only))


def test_it_misses_as_often_as_it_says_and_the_same_every_time():
    blind = NoisySegmenter(MANY, **{**NO_FAULT, "miss": 0.3})
    found = [blind.segment("a dog", i).any() for i in range(400)]
    assert np.mean(found) == pytest.approx(0.7, abs=0.07)
    assert found == [NoisySegmenter(MANY, **{**NO_FAULT, "miss": 0.3}).segment("a puppy", i).any() for i in range(400)]
    assert found != [replace(blind, seed=1).segment("a dog", i).any() for i in range(400)]
    assert not any(NoisySegmenter(MANY, **{**NO_FAULT, "miss": 1.0}).segment("a dog", i).any() for i in range(9))


def test_a_fault_of_one_element_is_the_same_whatever_else_is_named():
    blind = NoisySegmenter(MANY, **{**NO_FAULT, "miss": 0.5})
    for i in range(40):
        both = blind.segment("a dog and a cookie", i)
        assert np.array_equal(both, blind.segment("a dog", i) | blind.segment("a cookie", i))
    kinds = {(blind.segment("a dog", i).any(), blind.segment("a cookie", i).any()) for i in range(40)}
    assert len(kinds) == 4  # and faults of two elements are independent


def test_it_takes_a_relative_for_what_it_confuses_or_else_anything_else_that_is_there():
    wrong = NoisySegmenter(MANY, **{**NO_FAULT, "confuse": 1.0})
    for i in range(9):
        assert np.array_equal(wrong.segment("a dog", i), shown("fox"))
        assert np.array_equal(wrong.segment("a panda", i), shown("fox")) or np.array_equal(
            wrong.segment("a panda", i), shown("dog")
        )
        assert np.array_equal(wrong.segment("a parrot", i) & ~(shown("fox") | shown("dog")), np.zeros((96, 96), bool))
    others = {next(a for a in ATOMS if (wrong.segment("grass", i) & shown_atom(a)).any()) for i in range(60)}
    assert others == {"fox", "dog", "cookie"}
    rare = NoisySegmenter(MANY, **{**NO_FAULT, "confuse": 0.15})
    share = np.mean([not np.array_equal(rare.segment("a dog", i), shown("dog")) for i in range(400)])
    assert share == pytest.approx(0.15, abs=0.06)


def shown_atom(name: str) -> np.ndarray:
    return MANY.scene(0).atoms == ATOM_INDEX[name]


def test_one_instance_is_the_largest_and_a_single_one_stays():
    alone = NoisySegmenter(MANY, **{**NO_FAULT, "single": 1.0})
    mask = alone.segment("a dog", 0)
    assert 0 < mask.sum() < shown("dog").sum() and not mask[:48, 48:].any() and mask[60:90, 15:45].any()
    assert alone.segment("a cookie", 0).sum() > 0.95 * shown("cookie").sum()
    half = NoisySegmenter(MANY, **{**NO_FAULT, "single": 0.5})
    sizes = [half.segment("a dog", i).sum() for i in range(200)]
    assert np.mean(np.array(sizes) == mask.sum()) == pytest.approx(0.5, abs=0.1)


def test_iou_falls_under_a_segmenter_that_errs():
    scene = MANY.scene(0).patches() == ATOM_INDEX["dog"]
    heat = torch.from_numpy(scene.ravel().astype(np.float32)).expand(1, 10, -1)
    evidence = Evidence(torch.ones(1, 10), torch.arange(10)[None], heat, torch.tensor([10]), torch.tensor([10]))
    said = pd.DataFrame({"latent": [0, 0], "explanation": ["a dog", "a rose"]})
    exact, noisy = (mean_ious(said, [(evidence, s, range(10))]) for s in (EXACT, NoisySegmenter(MANY)))
    assert exact[0] > noisy[0] > 0 and exact[1] == 0


# -- fresh scenes ----------------------------------------------------------------------------------


class Studied:
    """A run of which the study of fresh scenes asks for sets, dictionaries and truths."""

    def __init__(self, seed: int, truth: Truth) -> None:
        self.sets = {
            "explain": SceneImages(5, 10, 30),
            "evaluate": SceneImages(5, 40, 20),
            "train": SceneImages(5, 0, 10),
        }
        self.profile = type("P", (), {"sae": type("S", (), {"seed": seed}), "explain": type("E", (), {"k": 2})})
        self.truth, self.latents, self.replicas = truth, {"test": [0, 1]}, [self]

    def concept(self, latent: int) -> str:
        return f"concept {latent}"


def counted(*names: str) -> Truth:
    """Each latent is active on all of one atom, wholly; an empty name: on nothing."""
    mass = torch.zeros(len(names), len(ATOMS), dtype=torch.float64)
    for latent, name in enumerate(names):
        if name:
            mass[latent, ATOM_INDEX[name]] = 4.0
    return Truth(mass, mass, mass, *torch.full((2, len(ATOMS)), 4.0, dtype=torch.float64))


def test_fresh_scenes_are_in_no_set_of_the_run():
    run = Studied(0, counted("dog"))
    images = fresh.fresh_images(run)
    assert len(images) == 10 and images.seed == 5
    assert not {*images.ids} & {i for part in run.sets.values() for i in part.ids}
    assert len(fresh.fresh_images(run, share=2)) == 40


def test_explanations_are_scored_by_their_own_dictionary_and_unknown_where_nothing_fires():
    truths = {0: counted("dog", "grass", ""), 1: counted("grass", "dog", "dog")}
    said = pd.DataFrame({"dictionary": [0, 0, 1, 1, 0, 0], "latent": [0, 1, 0, 1, 2, 0], "method": "m"})
    said = said.assign(explanation=["a dog", "a dog", "a dog", "a dog", "a dog", "a dog"])
    made = fresh.with_fresh(said, truths)
    assert made.correctness_fresh.round(6).tolist()[:4] == [1, 0, 0, 1] and np.isnan(made.correctness_fresh[4])
    assert made.patch_f1_fresh[0] == 1 and len(made) == 6 and made.latent.tolist() == said.latent.tolist()


def test_the_ceiling_is_found_on_held_out_scenes_and_measured_on_fresh_ones():
    run = Studied(3, counted("dog", "grass"))
    found = fresh.ceilings(run, {3: counted("dog", "")})
    assert found.correctness.tolist() == [1, 1] and found.correctness_fresh[0] == 1
    assert np.isnan(found.correctness_fresh[1]) and found.dictionary.eq(3).all()
    moved = fresh.ceilings(run, {3: counted("fox", "grass")})
    assert moved.correctness_fresh.tolist() == [0, 1]


def test_one_pass_counts_the_truth_for_all_dictionaries(tiny_vlm, tiny_sae, tmp_path, monkeypatch):
    from lib.dictionary import Dictionary
    from lib.profile import load
    from lib.run import Run
    from lib.stage import Home
    from lib.store import write_json

    run = Run(load("smoke", {"study.dictionaries": 2}))
    run.vlm = tiny_vlm
    passes = []
    monkeypatch.setattr(fresh, "gather_all", lambda stages, vlm: [passes.append(stages), real(stages, vlm)])
    for one in run.replicas:
        home, p = Home(tmp_path, "./run_all.sh"), one.profile
        images = SceneImages(5, 0, 20)
        one.dictionary = Dictionary(home, p.subject.checkpoint, images, images, p.sae, 0)
        tiny_sae.save(one.dictionary.path("sae.safetensors"))
        write_json(one.dictionary.path("report.json"), {"norm": 1.0})
    truths = fresh.fresh_truth(run, SceneImages(5, 20, 12))
    assert [*truths] == [0, 1] and len(passes) == 1 and len(passes[0]) == 2
    assert float(truths[0].occurrences[: len(ATOMS)].sum()) > 0 and torch.equal(truths[0].mass, truths[1].mass)
    assert all(isinstance(stage, Gathered) and stage.truth and not stage.negatives for stage in passes[0])


real = fresh.gather_all
