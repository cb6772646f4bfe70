"""What the models were taught is a factor of its own: the model is swapped, and nothing else."""

from dataclasses import replace
from pathlib import Path

import pytest
from tiny_tables import scores

from lib.desk.subjects import SUBJECTS, studied
from lib.figures import use_style
from lib.findings import unsupported
from lib.profile import load
from lib.run import Run
from lib.studies.teaching import PAIRS, findings, ranking, ranking_figure, subjects, summary, taught, variants


def test_only_the_model_differs_between_what_was_taught_otherwise():
    run = Run(load("desk"))
    found = subjects(run)
    assert list(found) == ["default", "whole pictures", "patch labels", "taught"] and found["default"] is run
    models = {one.profile.subject.model for one in found.values()}
    assert len(models) == 4 and {one.profile.subject.layer for one in found.values()} == {3}


def test_of_the_four_subjects_neighbours_differ_in_one_thing_that_was_taught():
    default, whole, patches, practised = (
        studied(recipe.encoder, recipe.explainer)
        for one in subjects(Run(load("desk"))).values()
        for recipe in [SUBJECTS[Path(one.profile.subject.model).name]]
    )
    assert whole == replace(default, altered=0) and whole != default
    assert patches == replace(default, encoder=patches.encoder) and patches.encoder != default.encoder
    assert practised == replace(patches, altered=0, views=practised.views) and practised.views > 0 == patches.views
    assert (default.encoder.learns, patches.encoder.learns) == ("captions", "patches")


def test_the_ranking_of_each_is_told_by_its_own_table():
    table = ranking({"default": scores(0, hybrid=0.5, Steering=-0.5), "taught": scores(1, Steering=2.0)})
    own = table[(table.metric == "composite") & (table.evidence == "both")].set_index(["taught", "comparison"]).estimate
    assert own["default", PAIRS[0]] < 0 < own["default", PAIRS[1]] and own["taught", PAIRS[0]] > 0
    models = ranking({"A": scores(0, hybrid=0.5, Steering=-0.5), "B": scores(2, hybrid=0.5, Steering=-0.5)})
    for metric in ("correctness", "composite"):  # photographs have no truth
        lines = findings(models, table[table.metric.isin([metric, "composite"])])
        changes, same = lines[0].split("; ")
        assert changes.startswith("By the composite, the order of Steering and Top-k changes with the condition (")
        assert changes.endswith("(Steering leads in 1 of 3 conditions, trails in 2)")
        assert same.startswith("the order of hybrid and Top-k is the same wherever it is shown (")
        assert f"turns the order of Steering and Top-k round: Steering - Top-k in {metric}" in lines[1]
        assert " for taught and -0." in lines[1] and lines[1].endswith(" for default.")
        assert any(x.startswith("Composite (standard deviations), B: hybrid is higher than Top-k") for x in lines)
        assert len(lines) == 2 + 2 * 2 and not [x for x in lines if unsupported(x)]


@pytest.mark.parametrize(
    ("low", "high", "word"),
    [(-2.0, 2.0, "turns the order"), (1.0, 2.0, "moves Steering against"), (1.0, 1.0, "is not shown to move")],
)
def test_what_teaching_does_is_said_as_far_as_intervals_go(low, high, word):
    table = ranking({"a": scores(0, Steering=low), "b": scores(1, Steering=high)})
    said = taught(table[(table.metric == "iou") & (table.evidence == "both")], "iou")
    assert said.startswith(f"What the models were taught {word}") and not unsupported(said)


def test_where_nothing_was_taught_otherwise_nothing_is_said_of_it():
    table = ranking({"default": scores(0)})
    assert findings(table, table)[1] == "In this profile no model was taught otherwise."


def test_a_page_of_the_ranking_puts_the_ways_of_teaching_below_one_another():
    table = ranking({"default": scores(0), "taught": scores(1)})
    page = summary(table)
    assert list(page) == ["comparison", "evidence", "taught", "n", "Composite", "Correctness"]
    assert list(page.taught) == ["default", "taught"] * 6 and list(page.evidence[:6:2]) == ["masks", "heatmaps", "both"]
    first = table[(table.metric == "composite") & (table.evidence == "masks")].iloc[0]
    assert page.Composite[0].startswith(f"{first.estimate:.3f} [")
    use_style()
    fig = ranking_figure(table, "composite", [(PAIRS[0], "both"), (PAIRS[1], "masks"), (PAIRS[1], "heatmaps")])
    assert [axis.get_title(loc="left") for axis in fig.axes][1:] == [
        f"{PAIRS[1]}\n{mode}" for mode in ("masks", "heatmaps")
    ]
    assert fig.axes[0].get_title(loc="left") == f"{PAIRS[0]}\nmean of both kinds of evidence"
    assert [text.get_text() for text in fig.axes[0].get_yticklabels()] == ["default (n = 60)", "taught (n = 60)"]


def test_variants_are_told_by_what_they_change():
    table = variants(Run(load("desk"))).set_index("variant")
    assert table.index[0] == "(this run)" and table.layer["later layer"] == table.layer.iloc[0] + 1
    assert table.model["taught"] == "subject-a-taught" and len(table.columns) < 8
