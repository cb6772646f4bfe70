"""Several language models behind one encoder."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from stand_in import stand_in
from tiny_tables import scores

from lib.hub import Asset
from lib.methods import NOTHING, STEERING, TOP_K
from lib.metrics import METRICS
from lib.profile import load
from lib.run import Run
from lib.studies import sensitivity
from lib.studies.language_model import (
    OtherEncoder,
    by_language_model,
    explainers,
    language_model,
    no_intervention,
    step_effects,
)


@pytest.fixture
def run(tmp_path, tiny_vlm, tiny_sae, monkeypatch):
    return stand_in(tmp_path, tiny_vlm, tiny_sae, monkeypatch)


def test_another_encoder_is_refused():
    run = Run(load("smoke"))
    assert type(language_model(run, "small").model).__name__ == "Gemma3ForConditionalGeneration"
    odd = replace(run.profile, explainers={"odd": Asset("data/models/subject-b")})
    with pytest.raises(OtherEncoder, match="another encoder"):
        language_model(Run(odd), "odd")


def test_an_encoder_with_other_patches_is_refused(run):
    run.model(explainers(run)["small"]).residual = lambda images: torch.zeros(1, 9, 32)
    with pytest.raises(OtherEncoder, match="explainer 'small' has another encoder"):
        by_language_model(run, run.some_latents)
    assert not run.asked


def test_every_explainer_is_read_at_the_layer_that_is_studied(run):
    later = run.changed({"subject.layer": 4})
    assert {checkpoint.layer for checkpoint in explainers(later).values()} == {4}
    assert explainers(run)["medium"] == run.profile.subject.checkpoint


def test_each_explainer_speaks_for_itself_with_a_coefficient_of_its_own(run):
    table = by_language_model(run, run.some_latents)
    assert list(dict.fromkeys(table.explainer)) == ["small", "medium", "large"]
    assert set(table.method) == {NOTHING.key, STEERING.add.key, TOP_K.masks.key}
    for name, model in run.profile.explainers.items():
        assert table[table.explainer == name].explanation.str.startswith(f"{model.rpartition('/')[2]} ").all()
        assert run.choice(STEERING.add, explainers(run)[name]).made
    folders = {run.choice(STEERING.add, explainer).folder for explainer in explainers(run).values()}
    assert len(folders) == 3


def test_explainers_swapped_among_their_names_take_their_answers_with_them(run):
    first = by_language_model(run, run.some_latents)
    own = run.profile.explainers
    other = run.swapped({"small": own["large"], "medium": own["medium"], "large": own["small"]})
    second = by_language_model(other, run.some_latents)
    assert other.asked == 0  # nothing has changed but names
    for mine, theirs in {"small": "large", "medium": "medium", "large": "small"}.items():
        now, before = (t[t.explainer == n].explanation.tolist() for t, n in ((second, mine), (first, theirs)))
        assert now == before


def test_what_is_said_to_empty_pictures_is_kept_for_each_model_and_picture(run, monkeypatch):
    said = no_intervention(run)
    assert len(said) == 3 * 4 and said.says.nunique() == 12
    asked = run.asked
    assert no_intervention(run).equals(said) and run.asked == asked
    other = sensitivity.base_images(run.profile.seed + 1)
    monkeypatch.setattr("lib.studies.language_model.base_images", lambda seed: other)
    again = no_intervention(run)
    assert set(again[again.says != said.says].picture) == {"noise"} and run.asked == asked + 3


def sized(names: list[str]) -> pd.DataFrame:
    """Explainers of which each is better by one than the last."""
    one = scores(0, 8, (NOTHING, STEERING.add))
    tables = [one.assign(explainer=name, **{m: one[m] + n for m in METRICS}) for n, name in enumerate(names)]
    return pd.concat(tables)


def test_steps_lead_from_each_size_to_the_next_and_all_the_way():
    sizes = ["small", "medium", "large"]
    table = step_effects(sized(sizes), sizes)
    steps = list(dict.fromkeys(zip(table["first"], table["second"])))
    assert steps == [("medium", "small"), ("large", "medium"), ("large", "small")]
    assert set(table.method) == {STEERING.add.key} and table.estimate.round(6).tolist().count(2) == 5
    assert step_effects(sized(sizes[:2]), sizes[:2]).estimate.round(6).eq(1).all()
