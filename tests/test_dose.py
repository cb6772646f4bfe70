"""Dose and response: worlds of other co-occurrence, dictionaries fixed and refitted, and the slope between the ends."""

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest
from stand_in import stand_in

from lib.effects import as_estimates
from lib.evidence import Active
from lib.findings import side, unsupported
from lib.methods import STEERING, TOP_K
from lib.studies import dose
from lib.studies.dose import (
    BEYOND,
    DOSED,
    TOGETHER,
    apart,
    dose_caption,
    dose_effects,
    dose_figure,
    dose_response,
    dose_table,
    effects_shown,
    findings,
    shown,
    shown_at,
    together,
    worlds,
)


@pytest.fixture
def run(tmp_path, tiny_vlm, tiny_sae, monkeypatch):
    return stand_in(tmp_path, tiny_vlm, tiny_sae, monkeypatch)


def test_evidence_of_a_dose_is_a_stage_of_its_own(run):
    none, all_ = shown_at(run, 0.0), shown_at(run, 1.0)
    folders = {gathered.folder for gathered in (none, all_, run.shown)}
    assert len(folders) == 3 and none.folder.parent == run.shown.folder.parent
    mix = none.why["parts"]["images"]["mix"]
    assert [mix[name] for name in ("cooccurrence", "empty", "wallpaper", "closeup")] == [0, 0, 0, 0]
    assert none.images.seed not in {images.seed for images in run.sets.values()}  # other pictures than any set's
    assert shown_at(run, 0.0).folder == none.folder
    assert all(none.images.scene(i).layout.object_names for i in range(20))


def test_steering_is_asked_once_and_top_k_at_every_dose(run):
    table = dose_response(run, [1, 2, 3])
    assert len(table) == 3 * len(DOSED) * 2 and sorted(set(table.dose)) == [0, 1]
    assert run.asked == 3 * (1 + 2 * (len(DOSED) - 1))
    steered = table[table.method == STEERING.add.key].pivot(index="latent", columns="dose", values="explanation")
    assert (steered[0.0] == steered[1.0]).all()
    assert table["no object"].eq(1).all() and table.dictionary.eq(run.profile.sae.seed).all()
    assert table.concept.tolist() == [run.concept(latent) for latent in table.latent]
    again = dose_response(run, [1, 2, 3])
    pd.testing.assert_frame_equal(again, table)


def test_every_world_has_latents_of_its_own_and_sets_none_apart(run, monkeypatch):
    monkeypatch.setattr(dose, "background_latents", lambda truth, latents: latents)
    table = worlds(run)
    ordinary = {f"images.{name}": 0.0 for name in ("empty", "wallpaper", "closeup")}
    sizes = {"images.train": 40, "images.explain": 20, "images.evaluate": 20}
    world = run.changed({"images.cooccurrence": 1.0, **ordinary, **sizes})
    active = Active(world.shown, world.held_out, 1, 0, 8).latents["test"]
    assert table.latent.unique().tolist() == active[:4] and set(table.dose) == {1.0}
    assert world.shown.folder != run.shown.folder and not table.object.any()


def said(shares: dict, n: int = 40, first: int = 0) -> pd.DataFrame:
    """Latents of which a share has context errors: (method, dose) -> share; 0 where nothing is said."""
    rows = []
    for method in DOSED:
        for at in (0.0, 0.5, 1.0):
            for i in range(n):
                c = float(i < n * shares.get((method, at), 0))
                key = {"dictionary": 0, "latent": first + i, "concept": f"c{i}", "method": method.key, "dose": at}
                rows.append({**key, "context": c, "error": 0.0, "object": c})
    return pd.DataFrame(rows)


def test_both_kinds_of_evidence_are_pooled_latent_by_latent():
    table = together(said({(TOP_K.masks, 1.0): 0.5, (TOP_K.heatmaps, 1.0): 1.0}))
    both = table[(table.method == TOGETHER) & (table.dose == 1)]
    assert len(both) == 40 and both.context.mean() == 0.75 and set(both.context) == {0.5, 1.0}


@pytest.mark.parametrize(("low", "high", "word"), [(0.1, 0.7, "rises"), (0.7, 0.1, "falls"), (0.3, 0.3, "no trend")])
def test_the_slope_compares_the_ends_and_its_words_follow(low, high, word):
    shares = {(m, d): s for m in TOP_K for d, s in ((0.0, low), (1.0, high))} | {(STEERING.add, 1.0): 0.1}
    fixed = said(shares | {(m, 0.5): 1.0 for m in TOP_K})  # what is between the ends does not count
    refitted = pd.concat([fixed[fixed.dose == 0], fixed[fixed.dose == 1].assign(latent=lambda t: t.latent + 500)])
    effects = dose_effects({"fixed": fixed, "refitted": refitted})
    assert effects.what.eq("slope").all() and {"estimate", "low", "high", "n", "p"} <= set(effects)
    by = effects.set_index(["dictionary", "method"])
    for dictionary, n in (("fixed", 40), ("refitted", 80)):
        assert by.loc[(dictionary, TOGETHER), "estimate"] == pytest.approx(high - low)
        assert by.loc[(dictionary, BEYOND), "estimate"] == pytest.approx(high - low - 0.1)
        assert by.loc[(dictionary, TOP_K.masks.key), "estimate"] == pytest.approx(high - low)
        assert by.loc[(dictionary, TOGETHER), "n"] == n
    lines = findings(effects)
    assert len(lines) == 2 and all("Top-k's share of context errors, beyond Steering's" in line for line in lines)
    words = {1: "rises", -1: "falls", 0: "no trend"}
    told = [words[side(e)] for e in as_estimates(effects[effects.method == BEYOND])]
    assert all(word in line for word, line in zip(told, lines)) and not any(map(unsupported, lines))
    assert {words[side(e)] for e in as_estimates(effects[effects.method == TOGETHER])} == {word}
    page = effects_shown(effects)
    assert list(page) == ["dictionary", "explanation", "slope", "p", "n"] and len(page) == len(effects)
    assert {m.label for m in DOSED} < set(page.explanation)


def test_a_single_dose_has_no_slope():
    table = said({})
    assert dose_effects({"fixed": table, "refitted": table[table.dose == 1]}).dictionary.unique().tolist() == ["fixed"]


def column(values: list[float], concepts: list[str] | None = None) -> pd.Series:
    concepts = concepts or [f"c{i}" for i in range(len(values))]
    keys = [[0] * len(values), range(len(values)), concepts]
    return pd.Series(values, pd.MultiIndex.from_arrays(keys, names=["dictionary", "latent", "concept"]))


def test_latents_of_two_worlds_are_compared_by_resampling_each():
    rng = np.random.default_rng(0)
    a, b = (column((rng.random(n) < share).astype(float).tolist()) for n, share in ((100, 0.6), (60, 0.2)))
    e = apart(a, b)
    assert e.mean == pytest.approx(a.mean() - b.mean()) and e.n == 160 and e.p < 0.001
    error = np.sqrt(a.var() / 100 + b.var() / 60)  # of a difference of independent means
    assert (e.high - e.low) / (2 * 1.96) == pytest.approx(error, rel=0.15)
    same = apart(a, a)
    assert same.low < 0 < same.high and same.p == 1
    few = [f"c{i % 5}" for i in range(100)]  # latents that share a concept are drawn together
    together_ = apart(column(sorted(a), sorted(few)), b)
    assert together_.high - together_.low > 1.3 * (e.high - e.low)


def test_the_figure_explains_all_its_marks():
    fixed = said({(TOP_K.masks, 1.0): 0.5})
    table = dose_table({"fixed": fixed, "refitted": fixed[fixed.dose != 0.5]})
    page = shown(table)
    assert len(page) == len(DOSED) * (3 + 2) and list(page) == ["dictionary", "method", "dose", "context", "error", "n"]
    assert page.context[(page.method == TOP_K.masks.label) & (page.dose == 1)].str.startswith("0.500").all()
    caption = dose_caption(table, 0.8)
    assert "n = 40 latents" in caption and "Diamonds" in caption and "(0.8)" in caption
    assert "Diamonds" not in dose_caption(table[table.dictionary == "fixed"], 0.8)
    assert set(table.metric) == {"context", "error", "object"} and set(table.method) >= {TOGETHER}
    fig = dose_figure(table, 0.8)
    (legend,) = fig.legends
    words = " ".join(text.get_text() for text in legend.get_texts())
    for mark in (
        *(m.label for m in DOSED),
        "trained in each world",
        "world of the other notebooks",
        "95 % band",
        "95 % bar",
    ):
        assert " ".join(mark.split()) in " ".join(words.split())
    assert [line.get_marker() for line in legend.get_lines()].count("D") == 1
    plt.close(fig)
    alone = dose_figure(dose_table({"fixed": fixed}), 0.8)
    assert "D" not in [line.get_marker() for line in alone.legends[0].get_lines()]
    plt.close(alone)
