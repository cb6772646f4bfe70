"""Contextual bias: what an explanation is about, which latents are looked at, and worlds of other co-occurrence."""

import pandas as pd
import pytest
import torch
from stand_in import stand_in

from lib.evidence import Active
from lib.methods import HYBRID, STEERING, TOP_K, trio
from lib.paper import csv_of
from lib.scenes.catalogue import ATOM_INDEX, ATOMS
from lib.scenes.judges import SceneReader
from lib.scenes.truth import Truth
from lib.studies import bias
from lib.studies.bias import (
    DOSED,
    background_latents,
    bias_table,
    dose_effects,
    dose_response,
    largest_differences,
    shown_at,
    worlds,
)

READER = SceneReader()


@pytest.fixture
def run(tmp_path, tiny_vlm, tiny_sae, monkeypatch):
    return stand_in(tmp_path, tiny_vlm, tiny_sae, monkeypatch)


@pytest.mark.parametrize(
    ("text", "about", "at"),
    [
        ("a shark in water", "animal", "object"),
        ("animals", "animal", "object"),
        ("water", "background", "place"),
        ("red stripes", "background", "low-level"),
        ("something red", "background", "low-level"),
        ("converging lines", "background", "low-level"),
        ("stripes on sand", "background", "place"),
        ("a guitar on red stripes", "other", "object"),
        ("", "other", "unreadable"),
        ("justice", "other", "unreadable"),
    ],
)
def test_what_an_explanation_is_about(text, about, at):
    assert READER.label(text) == about and READER.level(text) == at


def test_background_latents_are_those_active_on_surfaces():
    mass = torch.zeros(3, len(ATOMS), dtype=torch.float64)
    for latent, atoms in enumerate(({"water": 9, "shark": 1}, {"water": 1, "shark": 1}, {"shark": 1})):
        for name, value in atoms.items():
            mass[latent, ATOM_INDEX[name]] = value
    ones = torch.ones(len(ATOMS), dtype=torch.float64)
    truth = Truth(mass, mass, mass.clamp_max(1), ones, ones)
    assert background_latents(truth, [0, 1, 2]) == [0]
    assert background_latents(truth, [0, 1, 2], purity=0.5) == [0, 1]


def scored(said: dict, iou: dict) -> pd.DataFrame:
    rows = [
        {"latent": latent, "method": method.key, "control": "", "explanation": text, "iou": iou[method][latent]}
        for method, texts in said.items()
        for latent, text in enumerate(texts)
    ]
    return pd.DataFrame(rows)


def test_the_largest_differences_are_steerings_lead_and_a_third_at_most():
    iou = {STEERING.add: [0.9, 0.1, 0.5, 0.2, 0.0, 0.3], TOP_K.masks: [0.1, 0.9, 0.0, 0.2, 0.5, 0.3]}
    table = scored({method: ["water"] * 6 for method in iou}, iou)
    assert largest_differences(table, "masks") == [0, 2]
    assert largest_differences(table, "masks", n=1) == [0]


def test_the_table_counts_labels_of_the_chosen_latents_beside_the_published_ones():
    steering, top_k, hybrid = trio("masks")
    said = {steering: ["water"] * 6, top_k: ["a shark", "a shark", "water", "a dog", "a dog", "a dog"]}
    said |= {hybrid: ["a shark", *["water"] * 5], TOP_K.heatmaps: ["water"] * 6, HYBRID.heatmaps_add: ["water"] * 6}
    iou = {method: [0.0] * 6 for method in said} | {steering: [0.9, 0.8, 0.1, 0.1, 0.1, 0.1]}
    table, effects = bias_table({"Gemma 3": scored(said, iou), "mine": scored(said, iou)}, csv_of("table2"), READER)
    masks = table[table.evidence == "masks"].set_index(["model", "method"])
    assert masks.loc[("Gemma 3", "Top-k")].animal.startswith("1.000") and masks.n.eq(2).all()
    assert masks.loc[("Gemma 3", "Top-k"), "animal, paper"] == "0.077"
    assert masks.loc["mine", "animal, paper"].eq("-").all()
    effects = effects[(effects.model == "mine") & (effects.evidence == "masks")].set_index("what").estimate
    assert effects.to_dict() == {"animal: Top-k - Steering": 1.0, "animal: Top-k - hybrid": 0.5}


def test_evidence_of_a_dose_is_a_stage_of_its_own(run):
    none, all_ = shown_at(run, 0.0), shown_at(run, 1.0)
    folders = {gathered.folder for gathered in (none, all_, run.shown)}
    assert len(folders) == 3 and none.folder.parent == run.shown.folder.parent
    assert none.why["parts"]["images"]["mix"]["cooccurrence"] == 0
    assert none.images.seed not in {images.seed for images in run.sets.values()}  # other pictures than any set's
    assert shown_at(run, 0.0).folder == none.folder


def test_steering_is_asked_once_and_top_k_at_every_dose(run):
    table = dose_response(run, [1, 2, 3])
    assert len(table) == 3 * len(DOSED) * 2 and sorted(set(table.dose)) == [0, 1]
    assert run.asked == 3 * (1 + 2 * (len(DOSED) - 1))
    steered = table[table.method == STEERING.add.key].pivot(index="latent", columns="dose", values="explanation")
    assert (steered[0.0] == steered[1.0]).all()
    again = dose_response(run, [1, 2, 3])
    pd.testing.assert_frame_equal(again, table)


def test_every_world_has_latents_of_its_own_and_sets_none_apart(run, monkeypatch):
    monkeypatch.setattr(bias, "background_latents", lambda truth, latents: latents)
    table = worlds(run)
    world = run.changed({"images.cooccurrence": 1.0, "images.train": 40, "images.explain": 20, "images.evaluate": 20})
    active = Active(world.shown, world.held_out, 1, 0, 8).latents["test"]
    assert table.latent.unique().tolist() == active[:4] and set(table.dose) == {1.0}
    assert world.shown.folder != run.shown.folder and not table.biased.any()


def test_the_slope_compares_the_ends_over_the_same_latents():
    rows = [(dose, latent, dose >= 0.4 + latent / 2) for dose in (0, 0.4, 1) for latent in (1, 0)]
    table = pd.DataFrame(rows, columns=["dose", "latent", "biased"]).assign(method=TOP_K.masks.key)
    slope = dose_effects(table).iloc[0]
    assert slope.estimate == 1.0 and slope.n == 2 and slope.what == "slope"
