"""The three methods differ in what they should, and in nothing else."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from stand_in import StandIn, stand_in

from lib import prompts, spread
from lib.codes import watch
from lib.controls import Control, permuted_directions, permuted_evidence, random_directions
from lib.evidence import stream
from lib.explain import Explainer, batches
from lib.explain import pictures as top_pictures
from lib.images import BLANK, UnreadableImage
from lib.kept import TopImages
from lib.methods import COMPARED, HYBRID, METHODS, STEERING, TOP_K, Method, trio
from lib.overlay import heatmap_overlay, occlude
from lib.scenes.images import split
from lib.scenes.sampling import Mix


class Recorder:
    """Stands in for the model: keeps what it was asked."""

    name = "recorder"

    def __init__(self):
        self.asked, self.changes = [], []

    def answer(self, questions, max_new_tokens, change=None):
        self.asked += questions
        self.changes.append(change)
        return [f"It shows thing {len(q.images)}." for q in questions]

    def positions(self, patches):
        return torch.nn.functional.pad(patches, (1, 0))  # as with a class token


@pytest.fixture
def evidence(tiny_vlm, tiny_sae, pictures):
    top = TopImages(24, 5, 64)
    watch(stream(tiny_vlm, tiny_sae, pictures, 7, "test"), top)
    return top.result()


@pytest.fixture
def explainer(tiny_sae, evidence, pictures):
    return Explainer(Recorder(), tiny_sae.directions, 10.0, evidence, pictures, k=3, batch=12)


def busy(evidence, n=6):
    return [i for i in range(24) if (evidence.image[i, :3] >= 0).all()][:n]


def test_steering_looks_at_a_blank_image_and_steers_everywhere(explainer, tiny_sae, evidence):
    latents = busy(evidence)
    table = explainer.explain(latents, Method("blank", "add", 2.0))
    assert all(q.images == (BLANK,) and q.prompt == prompts.STEERING for q in explainer.vlm.asked)
    change = explainer.vlm.changes[0]
    assert change.where is None and change.mode == "add"
    assert torch.allclose(change.vectors, tiny_sae.directions[latents] * 20)  # a batch counts pictures
    assert table.latent.tolist() == latents
    assert table.raw[0] == "It shows thing 1." and table.explanation[0] == "thing 1"
    assert {"prompt", "coefficient", "model"} <= set(table.columns)


def test_a_batch_counts_pictures_however_many_a_question_shows():
    assert [len(part) for part in batches(range(30), 12, 0)] == [10, 10, 10]
    assert [len(part) for part in batches(range(9), 13, 3)] == [3, 3, 3]
    assert [len(part) for part in batches(range(2), 12, 30)] == [1, 1]
    assert batches([], 12, 3) == [] and [i for part in batches(range(17), 12, 3) for i in part] == list(range(17))


def test_top_k_is_not_steered(explainer, evidence):
    explainer.explain(busy(evidence), Method("masks"))
    assert explainer.vlm.changes == [None, None]
    assert all(len(q.images) == 3 for q in explainer.vlm.asked)


def test_hybrid_steers_only_where_the_latent_is_active(explainer, evidence, tiny_sae):
    latents = busy(evidence, 2)
    explainer.explain(latents, Method("heatmaps", "replace", 0.5))
    change = explainer.vlm.changes[0]
    expected = torch.cat([evidence.heat[i, :3] for i in latents]) > 0
    assert change.mode == "replace"
    assert torch.equal(change.where[:, 1:], expected) and not change.where[:, 0].any()
    assert torch.allclose(change.vectors, tiny_sae.directions[[latents[0]] * 3 + [latents[1]] * 3] * 5)


def test_prompts_of_top_k_and_hybrid_are_the_same(explainer, evidence):
    for steer in (None, "add"):
        explainer.explain(busy(evidence, 1), Method("masks", steer, 1.0))
    a, b = explainer.vlm.asked
    assert a.prompt == b.prompt == prompts.TOP_K["masks"]
    assert [i.tobytes() for i in a.images] == [i.tobytes() for i in b.images]


def test_masks_show_active_patches_only():
    pixels = np.full((96, 96, 3), 200, np.uint8)
    heat = np.zeros((8, 8))
    heat[2, 3] = 0.7
    masked = occlude(pixels, heat > 0)
    assert (masked[24:36, 36:48] == 200).all() and masked.sum() == 200 * 12 * 12 * 3
    glow = heatmap_overlay(pixels, heat).astype(int)
    assert glow[30, 42].sum() > glow[80, 80].sum() > 0


def test_a_latent_without_top_images_gets_an_empty_explanation(explainer, evidence):
    evidence.image[0] = -1
    table = explainer.explain([0, busy(evidence)[-1]], Method("masks", "add", 1.0))
    assert table.explanation.tolist()[0] == "" and table.explanation.tolist()[1] != ""


def test_steering_changes_what_a_real_model_says(tiny_vlm, tiny_sae, evidence, pictures):
    real = Explainer(tiny_vlm, tiny_sae.directions, 10.0, evidence, pictures, k=2, batch=6, max_new_tokens=4)
    plain, steered = (real.explain(range(6), Method("blank", s, c)) for s, c in ((None, 0.0), ("add", 20.0)))
    assert plain.raw.nunique() == 1
    assert steered.raw.nunique() > 1


def test_controls():
    directions = (
        torch.nn.functional.normalize(torch.randn(30, 8, generator=torch.Generator().manual_seed(0)), dim=1) * 3
    )
    noise = random_directions(directions, 1)
    assert torch.allclose(noise.norm(dim=1), directions.norm(dim=1))
    assert random_directions(directions.to("meta"), 1).device.type == "meta"  # wherever the dictionary is
    assert (torch.nn.functional.cosine_similarity(noise, directions).abs() < 0.99).all()
    latents = list(range(5, 25))
    moved = permuted_directions(directions, latents, 1)
    owners = [int((directions == row).all(1).nonzero()) for row in moved[latents]]
    assert sorted(owners) == latents and all(a != b for a, b in zip(owners, latents))
    assert torch.equal(moved[:5], directions[:5])


def test_controls_change_the_direction_and_nothing_else(explainer, evidence, tiny_sae):
    """Same pictures, same prompt, same places: only the vectors are another latent's (trap: permuting images too)."""
    latents = busy(evidence)
    moved = permuted_directions(tiny_sae.directions, latents, 1)
    control = replace(explainer, vlm=Recorder(), directions=moved)
    for one in (explainer, control):
        one.explain(latents, Method("masks", "add", 1.0))
    for a, b in zip(explainer.vlm.asked, control.vlm.asked):
        assert a.prompt == b.prompt and [i.tobytes() for i in a.images] == [i.tobytes() for i in b.images]
    for a, b in zip(explainer.vlm.changes, control.vlm.changes):
        assert torch.equal(a.where, b.where) and a.mode == b.mode
        assert not (a.vectors == b.vectors).all(1).any()


def test_explanation_and_evaluation_pictures_are_disjoint():
    sets = split(0, Mix(), train=30, explain=20, evaluate=20)
    assert not set(sets["explain"].ids) & set(sets["evaluate"].ids)


def test_pictures_stop_where_evidence_does(evidence, pictures):
    evidence.image[1, 2:] = -1
    shown = top_pictures(evidence, pictures, 1, 3, "masks")
    assert len(shown) == int((evidence.image[1, :3] >= 0).sum()) <= 2


def test_names():
    assert [m.key for m in COMPARED] == [
        "steering-add",
        "steering-replace",
        "top-k-masks",
        "top-k-heatmaps",
        "hybrid-masks-add",
        "hybrid-masks-replace",
        "hybrid-heatmaps-add",
        "hybrid-heatmaps-replace",
    ]
    assert METHODS["blank"].family == "No intervention" and METHODS["top-k-masks"] == Method("masks")
    assert [m.key for m in trio("heatmaps")] == ["steering-add", "top-k-heatmaps", "hybrid-heatmaps-add"]


@pytest.mark.parametrize(
    ("raw", "clean"),
    [
        ("It shows a dog.", "a dog"),
        ("it shows  a dog", "a dog"),
        ("A dog.", "A dog"),
        ("It shows", ""),
        ("", ""),
        ("It shows: Red Stripes", "Red Stripes"),
    ],
)
def test_completions_are_cleaned_but_not_lower_cased(raw, clean):
    assert prompts.clean(raw) == clean


def test_another_blank_image_is_what_steering_looks_at(explainer, evidence):
    black = Image.new("RGB", (224, 224), "black")
    replace(explainer, blank=black).explain(busy(evidence)[:2], Method("blank", "add", 2.0))
    assert all(q.images == (black,) for q in explainer.vlm.asked)


def test_a_top_picture_that_cannot_be_read_any_more_leaves_pictures_and_places_in_step(explainer, evidence, pictures):
    """The vectors and positions of the hybrid belong to the pictures that are left."""
    latent = busy(evidence, 1)[0]
    gone = int(evidence.image[latent, 1])

    class Holes:
        def __getitem__(self, index):
            if index == gone:
                raise UnreadableImage(str(index), "gone")
            return pictures[index]

    replace(explainer, images=Holes()).explain([latent], Method("masks", "add", 1.0))
    assert len(explainer.vlm.asked[0].images) == 2 == len(explainer.vlm.changes[0].vectors)
    assert torch.equal(explainer.vlm.changes[0].where[:, 1:], evidence.heat[latent, [0, 2]] > 0)


def test_permuted_evidence_moves_images_with_their_heatmaps_and_the_same_partner(evidence, tiny_sae):
    latents = [2, 5, 7, 11]
    other, directions = permuted_evidence(evidence, latents, 3), permuted_directions(tiny_sae.directions, latents, 3)
    for latent in latents:
        partner = next(i for i in latents if torch.equal(directions[latent], tiny_sae.directions[i]))
        assert partner != latent
        assert torch.equal(other.image[latent], evidence.image[partner])
        assert torch.equal(other.heat[latent], evidence.heat[partner])
    untouched = [i for i in range(24) if i not in latents]
    assert torch.equal(other.image[untouched], evidence.image[untouched])


def test_what_shows_the_same_pictures_is_asked_together_whoever_is_steered(tmp_path, tiny_vlm, tiny_sae, monkeypatch):
    monkeypatch.setattr(StandIn, "model", lambda self, explainer: tiny_vlm)
    run = stand_in(tmp_path, tiny_vlm, tiny_sae, monkeypatch)
    test, given = run.latents["test"], []
    swapped, turned = (Control(name, 0, tuple(test)) for name in ("images", "permuted"))
    wanted = [
        run.variation(STEERING.add.at(1)),
        run.variation(TOP_K.masks),
        run.variation(HYBRID.masks_add.at(1), control=swapped),
        run.variation(HYBRID.masks_add.at(2)),
        run.variation(TOP_K.heatmaps),
        run.variation(STEERING.add.at(2)),
        run.variation(HYBRID.masks_add.at(2), control=turned),
        run.variation(TOP_K.masks, k=1),
    ]
    do = spread.spread
    monkeypatch.setattr(
        "lib.explain.spread", lambda work, shards, *rest: given.extend(shards) or do(work, shards, *rest)
    )
    together = run.answers(wanted, test)
    assert sorted({numbers for numbers, _ in given}) == [(0,), (1, 3, 6), (2,), (4,), (5,), (7,)]
    alone = stand_in(tmp_path / "alone", tiny_vlm, tiny_sae, monkeypatch)
    assert len({tuple(table.raw) for table in together}) == len(wanted)
    for variation, table in zip(wanted, together):
        (other,) = alone.answers([variation], test)
        pd.testing.assert_frame_equal(table, other)
