"""One choice changed at a time: each variation is asked for by what it is, and what is there is read."""

import numpy as np
import pandas as pd
import pytest
import torch
from stand_in import stand_in
from tiny_tables import scores

from lib.effects import estimates
from lib.findings import unsupported
from lib.hooks import Intervention
from lib.images import BLANK
from lib.methods import HYBRID, METHODS, STEERING, TOP_K
from lib.metrics import METRICS, voters
from lib.studies import sensitivity
from lib.studies.sensitivity import (
    base_effects,
    base_images,
    by_base_image,
    by_coefficient,
    by_k,
    by_layer,
    findings,
    layers_of,
    most,
    named,
    spread,
    spreads,
    wide,
)


@pytest.fixture
def run(tmp_path, tiny_vlm, tiny_sae, monkeypatch):
    return stand_in(tmp_path, tiny_vlm, tiny_sae, monkeypatch)


def test_base_images_are_empty_and_the_noise_is_seeded():
    pictures = {name: np.asarray(picture) for name, picture in base_images(0).items()}
    assert list(pictures) == ["white", "black", "grey", "noise"]
    assert all((pixels == pixels[0, 0]).all() for name, pixels in pictures.items() if name != "noise")
    assert np.array_equal(pictures["noise"], np.asarray(base_images(0)["noise"]))
    assert not np.array_equal(pictures["noise"], np.asarray(base_images(1)["noise"]))
    assert np.array_equal(pictures["white"], np.asarray(BLANK))


def test_the_white_picture_is_the_main_runs_own(run):
    latents = run.some_latents
    for method in STEERING:
        run.explanations(run.at_best(method), latents)
    asked = run.asked
    table = by_base_image(run, latents)
    assert run.asked - asked == len(latents) * 3
    assert len(table) == len(latents) * 5
    assert table[table.steer == "replace"].base.unique().tolist() == ["any"]
    assert table[table.steer == "add"].base.unique().tolist() == ["white", "black", "grey", "noise"]


@pytest.mark.parametrize("pixel", [(0, 0), (223, 223)])
def test_a_base_picture_that_is_edited_is_explained_anew_and_no_other(run, monkeypatch, pixel):
    before, asked = by_base_image(run, run.some_latents), run.asked
    edited = base_images(run.profile.seed)
    red, green, blue = edited["noise"].getpixel(pixel)
    edited["noise"].putpixel(pixel, (255 - red, green, blue))
    monkeypatch.setattr(sensitivity, "base_images", lambda seed: edited)
    after = by_base_image(run, run.some_latents)
    assert set(after[after.explanation != before.explanation].base) == {"noise"}
    assert run.asked - asked == len(run.some_latents)


def test_every_coefficient_of_the_grid_is_tried(run):
    methods = (STEERING.replace, HYBRID.heatmaps_add)
    run.choose(methods)
    for method in methods:
        table = by_coefficient(run, run.some_latents, method)
        grid = run.profile.explain.steering if method in STEERING else run.profile.explain.hybrid
        tried = tuple(dict.fromkeys(table.coefficient))
        assert tried == run.choice(method).tried and set(grid) <= set(tried) and set(table.method) == {method.key}


def test_numbers_of_images_are_tried_in_order_with_the_runs_own_among_them(run):
    table = by_k(run, run.some_latents)
    assert list(dict.fromkeys(table.k)) == [1, 5, 10]


def test_layers_are_those_of_the_same_subject(run, monkeypatch):
    asked = []

    def results(self, methods):
        asked.append(self)
        return pd.DataFrame({"method": [m.key for m in methods[:1]]})

    monkeypatch.setattr(type(run), "results", results)
    table = by_layer(run)
    assert table.layer.tolist() == [1, 3, 4]
    assert [one.profile.subject.layer for one in asked] == [1, 3, 4] and asked[1] is run
    assert {one.profile.subject.model for one in asked} == {run.profile.subject.model}
    assert list(layers_of(run)) == [1, 3, 4] and layers_of(run)[3] is run


@pytest.mark.parametrize("name", ["tiny_vlm", "tiny_internvl"])
def test_nothing_of_the_picture_is_left_above_a_replacement(name, request):
    vlm, pictures = request.getfixturevalue(name), list(base_images(0).values())
    v = torch.randn(vlm.width, generator=torch.Generator().manual_seed(0)).expand(len(pictures), -1)
    for mode, same in (("replace", True), ("add", False)):
        stream = vlm._stream(pictures, Intervention(v, mode))  # class token included
        assert torch.allclose(stream, stream[:1].expand_as(stream), atol=1e-5) == same


def shifted(**by_base: float) -> pd.DataFrame:
    """Scores of Steering by base image, each moved by so much."""
    one = scores(0, 30, (STEERING.add,)).assign(steer="add")
    moved = [
        one.assign(base=base, **{m: one[m] + by for m in voters()}) for base, by in {"white": 0.0, **by_base}.items()
    ]
    replaced = scores(1, 30, (STEERING.replace,)).assign(steer="replace", base="any")
    return pd.concat([*moved, replaced], ignore_index=True)


def test_base_effects_are_minus_white_and_pool_two_pictures():
    table = base_effects(shifted(black=0.2, grey=-0.5, noise=0.4)).set_index(["base", "metric"])
    assert table.estimate["black", "iou"] == pytest.approx(0.2) and table.estimate["grey", "iou"] == pytest.approx(-0.5)
    assert table.estimate["black and noise", "iou"] == pytest.approx(0.3)
    assert set(table.steer) == {"add"} and table.n.eq(30).all()
    deviations = shifted(black=0.2, grey=-0.5, noise=0.4).query("steer == 'add'").iou.std()
    assert table.estimate["black and noise", "composite"] == pytest.approx(0.3 / deviations, rel=1e-6)


def tried(seed: int, n: int = 60, **by_value: float) -> pd.DataFrame:
    """Noisy scores of a method under values of a choice, each moved by so much."""
    one, rng = scores(seed, n, (STEERING.add,)), np.random.default_rng(seed)
    moved = [
        one.assign(value=value, **{m: one[m] + by + rng.normal(size=n) for m in METRICS})
        for value, by in by_value.items()
    ]
    return pd.concat(moved, ignore_index=True)


def test_the_spread_is_that_of_the_best_and_the_worst_value():
    e = spread(tried(0, 200, a=0.0, b=3.0, c=1.0), "value", "iou")
    assert e.low < 3 < e.high and e.high - e.low < 1.5 and e.n == 200


def test_luck_alone_spreads_nothing_where_the_largest_mean_minus_the_smallest_always_does():
    """Over many tables: what is seen lies above nothing in each, the spread about nothing, and covered as said."""
    tables = [tried(seed, 40, **dict.fromkeys("abcde", 0.0)) for seed in range(60)]
    found = [spread(table, "value", "iou") for table in tables]
    seen = [np.ptp(table.groupby("value").iou.mean()) for table in tables]
    assert min(seen) > 0 and np.mean(seen) > 0.2
    assert abs(np.mean([e.mean for e in found])) < 0.1
    assert np.mean([e.low <= 0 <= e.high for e in found]) > 0.9


def test_values_need_not_share_latents_and_a_value_that_changes_nothing_spreads_nothing():
    one, other = (part for _, part in tried(1, 200, a=0.0, b=2.0).groupby("value"))
    apart = pd.concat([one, other[:100].assign(latent=other.latent + 200)])
    e = spread(apart, "value", "iou")
    assert e.n == 100 and 1 < e.mean < 3 and e.low > 0
    same = pd.concat([scores(0, 20, (STEERING.add,)).assign(value=v) for v in "ab"])
    e = spread(same, "value", "iou")
    assert (e.mean, e.low, e.high) == (0, 0, 0)
    alone = spread(same.assign(concept="one"), "value", "iou")
    assert alone.mean == 0 and np.isinf(alone.high)


def a_few() -> pd.DataFrame:
    table, scale = tried(2, 100, a=0.0, b=3.0), scores(0, 100)
    flat = pd.concat([scores(0, 40, (STEERING.add,)).assign(value=v) for v in "ab"])
    tables = [("image", STEERING.add, flat), ("coefficient", STEERING.add, table), ("image", TOP_K.masks, flat)]
    tables.append(("layer", STEERING.add, flat[flat.value == "a"]))  # a single one, and no choice
    return spreads([sensitivity.Tried(*one, "value") for one in tables], scale)


def test_choices_are_compared_on_the_scale_of_the_main_comparison():
    table, scale = a_few(), scores(0, 100)
    assert list(table)[:5] == ["choice", "method", "values", "metric", "seen"] and len(table) == 15
    one = table[table.metric == "composite"].set_index("choice").loc["coefficient"]
    by_hand = np.mean([3 / scale[m].std() for m in voters()])
    assert one["values"] == 2 and one.seen == pytest.approx(by_hand, rel=0.2) and one.low < by_hand < one.high
    assert most(table).choice.tolist() == ["coefficient", "image"]


def test_tables_are_read_by_group_with_words_for_methods():
    table = tried(3, 20, a=0.0, b=1.0)
    shown = wide(estimates(table, ["value"]), {"value": "choice"})
    assert list(shown) == ["choice", "IoU", "AUROC", "Synthetic", "CLIP", "Correctness"] and len(shown) == 2
    assert "[" in shown.IoU[0] and "[" not in shown.AUROC[0]
    assert [named(METHODS[k]) for k in ("steering-add", "top-k-masks", "hybrid-heatmaps-replace")] == [
        "Steering, adding", "Top-k, masks", "hybrid, heatmaps, replacing"
    ]  # fmt: skip


@pytest.mark.parametrize("up", [1, -1])
def test_findings_say_what_the_effects_say(up):
    bases = base_effects(shifted(black=0.2 * up, grey=0.0, noise=0.4 * up))
    rows = {"estimate": 0.2 * up, "low": 0.2 * up - 0.1, "high": 0.2 * up + 0.1, "n": 9, "metric": "iou"}
    steers = pd.DataFrame([{"first": "steering-replace", "second": "steering-add", **rows}])
    layers = pd.DataFrame([{"method": "steering-add", "layer": n, **rows, "n": 9 + n} for n in (1, 3)])
    gaps = a_few()
    lines = findings(gaps, bases, steers, layers)
    assert not any(map(unsupported, lines)) and len(lines) == 2 + 1 + 1 + 1
    assert lines[0].startswith("The choice that matters most is the coefficient (Steering: ")
    assert lines[0].endswith("Not shown to matter: image.") and lines[1].startswith("IoU, best value minus worst")
    side = "higher" if up > 0 else "lower"
    assert f"black and noise is {side} than white" in lines[2] and lines[3].startswith(
        f"IoU of Steering: replacing is {side} than"
    )
    assert "layer 1" in lines[-1] and "(n = 12)" in lines[-1]
    moved = gaps.copy()
    moved.loc[(moved.choice == "image") & (moved.metric == "clip"), ["estimate", "low", "high"]] = 0.3, 0.2, 0.4
    moved.loc[len(moved)] = {**moved.iloc[0], "choice": "layer"}
    lines = findings(moved, bases, steers, layers)
    assert lines[0].endswith("Not shown to matter: image, layer. Each layer has latents of its own.")
    hidden = "The mean hides what a choice does to one metric, best value minus worst: image and CLIP score (Steering: "
    assert lines[2].startswith(hidden) and "0.300 [0.200, 0.400]" in lines[2]
    nothing = findings(gaps[gaps.choice == "image"], bases, steers, layers)
    assert nothing[0].startswith("No choice is shown to matter by itself")
