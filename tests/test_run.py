"""The facade: what a change touches is made anew, and the rest is shared."""

import pytest

from lib.profile import ProfileError, load
from lib.run import Run

STAGES = ("dictionary", "shown", "held_out", "explained", "scores")


@pytest.fixture(scope="module")
def run():
    return Run(load("smoke"))


def shared(one: Run, other: Run) -> set[str]:
    return {name for name in STAGES if getattr(one, name).folder == getattr(other, name).folder}


def test_variants_share_what_they_do_not_change(run):
    later = run.changed("later layer")
    assert later.profile.subject.layer == 4 and later.figures == run.figures and not shared(run, later)
    assert shared(run, run.changed({"explain.max_new_tokens": 9})) == set(STAGES) - {"explained"}
    assert shared(run, run.changed({"images.sizes": [30]})) == set(STAGES)
    assert shared(run, run.changed({"score.synthetic_images": 1})) == set(STAGES) - {"scores"}


def test_a_variant_that_is_not_there_or_cannot_be_is_refused(run):
    with pytest.raises(ProfileError, match="no variant 'earlier'"):
        run.changed("earlier")
    with pytest.raises(ProfileError, match="unknown key 'subject.lair' .did you mean 'subject.layer'"):
        load("smoke", {"variants": {"x": {"subject.lair": 3}}})


def test_models_are_this_run_and_the_variants_that_the_paper_has(run):
    assert list(run.models) == ["Gemma 3", "Gemma 3 later layer", "InternVL3"] and run.models["Gemma 3"] is run


def test_some_latents_are_the_first_that_report(run, monkeypatch):
    monkeypatch.setattr(Run, "latents", {"validation": [1], "test": list(range(2, 30))})
    assert run.some_latents == list(range(2, 2 + run.profile.study.latents))
