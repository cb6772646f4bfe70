"""Several language models behind one encoder."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from stand_in import stand_in
from tiny_tables import scores

from lib.effects import estimates
from lib.findings import unsupported
from lib.hub import Asset
from lib.methods import NOTHING, STEERING, TOP_K
from lib.metrics import METRICS
from lib.profile import load
from lib.run import Run
from lib.studies import sensitivity
from lib.studies.language_model import (
    OtherEncoder,
    beyond_naming,
    blank_effects,
    blank_effects_shown,
    blank_shown,
    by_language_model,
    explainers,
    findings,
    language_model,
    no_intervention,
    size_of,
    sizes_shown,
    step_effects,
    steps_shown,
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
    run.model(explainers(run)["tiny"]).residual = lambda images: torch.zeros(1, 9, 32)
    with pytest.raises(OtherEncoder, match="explainer 'tiny' has another encoder"):
        by_language_model(run, run.some_latents)
    assert not run.asked


def test_every_explainer_is_read_at_the_layer_that_is_studied(run):
    later = run.changed({"subject.layer": 4})
    assert {checkpoint.layer for checkpoint in explainers(later).values()} == {4}
    assert explainers(run)["medium"] == run.profile.subject.checkpoint


def test_each_explainer_speaks_for_itself_with_a_coefficient_of_its_own(run):
    table = by_language_model(run, run.some_latents)
    assert list(dict.fromkeys(table.explainer)) == ["tiny", "tiny #2", "small", "medium"]
    assert set(table.method) == {NOTHING.key, STEERING.add.key, TOP_K.masks.key}
    for name, model in run.profile.explainers.items():
        assert table[table.explainer == name].explanation.str.startswith(f"{model.rpartition('/')[2]} ").all()
        assert run.choice(STEERING.add, explainers(run)[name]).made
    folders = {run.choice(STEERING.add, explainer).folder for explainer in explainers(run).values()}
    assert len(folders) == 4


def test_explainers_swapped_among_their_names_take_their_answers_with_them(run):
    first = by_language_model(run, run.some_latents)
    own = run.profile.explainers
    other = run.swapped({**own, "tiny": own["small"], "small": own["tiny"]})
    second = by_language_model(other, run.some_latents)
    assert other.asked == 0  # nothing has changed but names
    for mine, theirs in {"small": "tiny", "medium": "medium", "tiny": "small"}.items():
        now, before = (t[t.explainer == n].explanation.tolist() for t, n in ((second, mine), (first, theirs)))
        assert now == before


def test_what_is_said_to_empty_pictures_is_kept_for_each_model_and_picture(run, monkeypatch):
    said = no_intervention(run)
    assert len(said) == 4 * 4 and said.says.nunique() == 16
    asked = run.asked
    assert no_intervention(run).equals(said) and run.asked == asked
    other = sensitivity.base_images(run.profile.seed + 1)
    monkeypatch.setattr("lib.studies.language_model.base_images", lambda seed: other)
    again = no_intervention(run)
    assert set(again[again.says != said.says].picture) == {"noise"} and run.asked == asked + 4


def sized(names: list[str]) -> pd.DataFrame:
    """Explainers of which each size is better by one than the last; ``#`` and a number tells seeds of a size apart."""
    one = scores(0, 8, (NOTHING, STEERING.add))
    sizes = list(dict.fromkeys(map(size_of, names)))
    tables = []
    for name in names:
        better = {m: one[m] + sizes.index(size_of(name)) for m in METRICS}
        number = [n for n in names if size_of(n) == size_of(name)].index(name)
        tables.append(one.assign(explainer=name, size=size_of(name), dictionary=number, **better))
    return pd.concat(tables, ignore_index=True)


def test_steps_lead_from_each_size_to_the_next_and_all_the_way():
    table = step_effects(sized(["small", "medium", "large"]))
    own = table[table.metric == "iou"].set_index(["first", "second"])
    assert list(own.index) == [("medium", "small"), ("large", "medium"), ("large", "small")]
    assert own.estimate.round(6).tolist() == [1, 1, 2] and own.step.tolist() == ["one size", "one size", "whole way"]
    assert set(table.method) == {STEERING.add.key} and {"composite", *METRICS} - {"patch_f1"} <= set(table.metric)
    two = step_effects(sized(["small", "large"]))
    assert two[two.metric == "iou"].step.tolist() == ["whole way"]


def test_seeds_of_a_size_are_paired_and_widen_the_interval():
    names = ["small #1", "small #2", "small #3", "large"]
    table = sized(names)
    even = step_effects(table).set_index("metric").loc["iou"]
    assert even.n == 3 * 8 and even.estimate == pytest.approx(1)
    table.loc[table.explainer == "small #1", "iou"] -= 0.9
    table.loc[table.explainer == "small #2", "iou"] += 0.9
    uneven = step_effects(table).set_index("metric").loc["iou"]
    assert uneven.estimate == pytest.approx(1) and uneven.high - uneven.low > 10 * (even.high - even.low) + 0.5


def test_findings_name_both_sizes_and_follow_the_interval():
    lines = findings(step_effects(sized(["small", "large"])))
    assert lines[0].startswith("From the small to the large language model, Steering's explanations gain (composite")
    start = "Steering, correctness: the large model is higher than the small one (difference"
    assert [line.startswith(start) for line in lines[1:]] == [True] and not any(map(unsupported, lines))
    steps = step_effects(sized(["small", "medium", "large"]))
    lines = findings(steps)
    assert "Steering, composite: the large model is higher than the medium one (difference" in " ".join(lines[1:])
    one = findings(steps[steps["first"] == "large"])  # of one size alone: against the next
    assert one[0].startswith("From the medium to the large language model") and len(one) == 3


def test_a_single_size_has_no_findings():
    table = sized(["only"])
    assert findings(step_effects(table)) == []


def test_what_top_k_gains_is_taken_from_what_steering_gains():
    steered = sized(["small", "small #2", "large"])
    shown = steered[steered.method == STEERING.add.key].assign(method=TOP_K.masks.key)
    table = pd.concat([steered, shown], ignore_index=True)
    found = beyond_naming(table).set_index("metric")
    assert found.estimate.abs().max() < 1e-9 and found.n.eq(2 * 8).all()
    table.loc[(table.method == STEERING.add.key) & (table["size"] == "large"), "iou"] += 0.5
    found = beyond_naming(table)
    assert found.set_index("metric").estimate["iou"] == pytest.approx(0.5)
    lines = findings(step_effects(table), found)
    assert lines[-1].startswith("Gain in the composite (the large model minus the small one): Steering's")
    assert not any(map(unsupported, lines))


def test_shown_forms_have_a_row_for_each_size_or_step():
    table = sized(["small", "medium", "large"])
    page = steps_shown(step_effects(table))
    assert page.difference.tolist() == ["medium - small", "large - medium", "large - small"]
    assert list(page) == ["method", "difference", "Composite", "AUROC", "Correctness"]
    means = estimates(table[table.method != NOTHING.key], ["method", "size"]).assign(parameters=41424)
    page = sizes_shown(means)
    assert page["size"].tolist() == ["small", "medium", "large"] and page.parameters.eq("41.4 k").all()


def test_models_that_call_an_empty_picture_empty_are_counted_by_size(run):
    said = pd.DataFrame(
        {"explainer": ["small #1", "small #2", "large"], "picture": "white", "says": ["plain white", "a dog", "a dog"]}
    )
    pages = blank_shown(said), blank_effects_shown(blank_effects(run, said))
    assert pages[0].answers.tolist() == ["plain white (1); a dog (1)", "a dog"] and pages[0].models.tolist() == [2, 1]
    assert pages[1].white.tolist() == ["1 of 2", "0 of 1", "1 of 2"]
    table = blank_effects(run, said).set_index("size").estimate
    assert table.to_dict() == {"small": 0.5, "large": 0, "all but the largest": 0.5}
