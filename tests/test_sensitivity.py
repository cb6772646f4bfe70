"""One choice changed at a time: each variation is asked for by what it is, and what is there is read."""

import numpy as np
import pandas as pd
import pytest
from stand_in import stand_in

from lib.images import BLANK
from lib.methods import HYBRID, STEERING
from lib.studies import sensitivity
from lib.studies.sensitivity import base_images, by_base_image, by_coefficient, by_k, by_layer


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
    assert run.asked - asked == len(latents) * len(STEERING) * 3
    assert len(table) == len(latents) * len(STEERING) * 4 and set(table.steer) == {"add", "replace"}


@pytest.mark.parametrize("pixel", [(0, 0), (223, 223)])
def test_a_base_picture_that_is_edited_is_explained_anew_and_no_other(run, monkeypatch, pixel):
    before, asked = by_base_image(run, run.some_latents), run.asked
    edited = base_images(run.profile.seed)
    red, green, blue = edited["noise"].getpixel(pixel)
    edited["noise"].putpixel(pixel, (255 - red, green, blue))
    monkeypatch.setattr(sensitivity, "base_images", lambda seed: edited)
    after = by_base_image(run, run.some_latents)
    assert set(after[after.explanation != before.explanation].base) == {"noise"}
    assert run.asked - asked == len(run.some_latents) * len(STEERING)


def test_every_coefficient_of_the_grid_is_tried(run):
    for method in (STEERING.replace, HYBRID.heatmaps_add):
        table = by_coefficient(run, run.some_latents, method)
        grid = run.profile.explain.steering if method in STEERING else run.profile.explain.hybrid
        assert tuple(dict.fromkeys(table.coefficient)) == grid and set(table.method) == {method.key}


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
