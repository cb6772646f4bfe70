"""What the models were taught is a factor of its own: the model is swapped, and nothing else."""

from dataclasses import replace
from pathlib import Path

from tiny_tables import scores

from lib.desk.build import SUBJECTS, studied
from lib.findings import unsupported
from lib.profile import load
from lib.run import Run
from lib.studies.teaching import PAIRS, findings, ranking, subjects


def test_only_the_model_differs_between_what_was_taught_otherwise():
    run = Run(load("desk"))
    found = subjects(run)
    assert list(found) == ["default", "whole pictures", "taught"] and found["default"] is run
    models = {one.profile.subject.model for one in found.values()}
    assert len(models) == 3 and {one.profile.subject.layer for one in found.values()} == {3}


def test_the_subjects_differ_in_what_they_were_taught_alone():
    default, whole, taught = (
        studied(SUBJECTS[Path(one.profile.subject.model).name]) for one in subjects(Run(load("desk"))).values()
    )
    assert whole == replace(default, altered=0) and default.altered and not default.views
    assert taught.views and not taught.altered
    assert (default.encoder.learns, taught.encoder.learns) == ("captions", "patches")


def test_the_ranking_of_each_is_told_by_its_own_table():
    table = ranking({"default": scores(0, hybrid=0.5, Steering=-0.5), "taught": scores(1, Steering=2.0)})
    own = table[(table.metric == "composite")].set_index(["taught", "comparison"]).estimate
    assert own["default", PAIRS[0]] < 0 < own["default", PAIRS[1]] and own["taught", PAIRS[0]] > 0
    lines = findings(table)
    assert any(x.startswith("Composite, taught: Steering is higher") for x in lines) and not any(
        map(unsupported, lines)
    )
