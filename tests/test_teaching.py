"""What the models were taught is a factor of its own: the model is swapped, and nothing else."""

from dataclasses import replace
from pathlib import Path

from tiny_tables import scores

from lib.desk.subjects import SUBJECTS, studied
from lib.findings import unsupported
from lib.profile import load
from lib.run import Run
from lib.studies.teaching import PAIRS, findings, ranking, subjects


def test_only_the_model_differs_between_what_was_taught_otherwise():
    run = Run(load("desk"))
    found = subjects(run)
    assert list(found) == ["default", "whole pictures", "patch labels", "taught"] and found["default"] is run
    models = {one.profile.subject.model for one in found.values()}
    assert len(models) == 4 and {one.profile.subject.layer for one in found.values()} == {3}


def test_of_the_four_subjects_neighbours_differ_in_one_thing_that_was_taught():
    default, whole, patches, taught = (
        studied(recipe.encoder, recipe.explainer)
        for one in subjects(Run(load("desk"))).values()
        for recipe in [SUBJECTS[Path(one.profile.subject.model).name]]
    )
    assert whole == replace(default, altered=0) and whole != default
    assert patches == replace(default, encoder=patches.encoder) and patches.encoder != default.encoder
    assert taught == replace(patches, altered=0, views=taught.views) and taught.views > 0 == patches.views
    assert (default.encoder.learns, patches.encoder.learns) == ("captions", "patches")


def test_the_ranking_of_each_is_told_by_its_own_table():
    table = ranking({"default": scores(0, hybrid=0.5, Steering=-0.5), "taught": scores(1, Steering=2.0)})
    own = table[(table.metric == "composite") & (table.evidence == "both")].set_index(["taught", "comparison"]).estimate
    assert own["default", PAIRS[0]] < 0 < own["default", PAIRS[1]] and own["taught", PAIRS[0]] > 0
    for metric in ("correctness", "composite"):  # photographs have no truth
        lines = findings(table[table.metric.isin([metric, "composite"])])
        word = metric.capitalize()
        assert any(x.startswith(f"{word}, taught, both: Steering is higher") for x in lines)
        assert any(x.startswith(f"{word}, default, heatmaps: hybrid is higher") for x in lines)
        assert all(x.startswith(word) for x in lines) and len(lines) == 2 * (1 + 2)
        assert not any("masks: Steering" in x or unsupported(x) for x in lines)
