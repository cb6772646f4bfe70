"""One choice changed at a time: each variation is asked for by what it is, and what is there is read."""

import numpy as np
import pandas as pd
import pytest
import torch
from stand_in import stand_in
from tiny_tables import scores

from lib.findings import unsupported
from lib.hooks import Intervention
from lib.images import BLANK
from lib.methods import HYBRID, STEERING
from lib.metrics import voters
from lib.studies import sensitivity
from lib.studies.sensitivity import (
    base_effects,
    base_images,
    by_base_image,
    by_coefficient,
    by_k,
    by_layer,
    findings,
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


@pytest.mark.parametrize("up", [1, -1])
def test_findings_say_what_the_effects_say(up):
    bases = base_effects(shifted(black=0.2 * up, grey=0.0, noise=0.4 * up))
    rows = {"estimate": 0.2 * up, "low": 0.2 * up - 0.1, "high": 0.2 * up + 0.1, "n": 9, "metric": "iou"}
    steers = pd.DataFrame([{"first": "steering-replace", "second": "steering-add", **rows}])
    layers = pd.DataFrame([{"method": "steering-add", "layer": n, **rows, "n": 9 + n} for n in (1, 3)])
    lines = findings(bases, steers, layers)
    assert not any(map(unsupported, lines)) and len(lines) == 4 + 1 + 1
    side = "higher" if up > 0 else "lower"
    assert f"true black is {side} than white" in lines[0] and f"steering-replace is {side} than" in lines[-2]
    assert "grey (called black in the paper's code) and white are not told apart" in lines[1]
    assert "layer 1" in lines[-1] and "(n = 12)" in lines[-1]
