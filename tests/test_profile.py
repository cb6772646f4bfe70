"""Profiles are strict: what is misspelt is named, with what was meant."""

import dataclasses

import pytest

from lib.notebook import begin
from lib.profile import PROFILES, ProfileError, keys, load
from lib.store import MissingStage, files_digest


@pytest.mark.parametrize("name", [p.stem for p in PROFILES.glob("*.yaml")])
def test_shipped_profiles_load(name):
    profile = load(name)
    assert profile.name == name
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.seed = 3


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sae.latent": 9}, "unknown key 'sae.latent' .did you mean 'sae.latents'"),
        ({"latents": 9}, "did you mean 'sae.latents'"),
        ({"sae.k": "many"}, "sae.k must be int, not 'many'"),
        ({"sae.k": True}, "sae.k must be int, not True"),
        ({"sae.lr": "fast"}, "sae.lr must be float"),
        ({"sae.latents": -4}, "sae.latents must not be negative"),
        ({"name": "desk"}, "unknown key 'name'"),
        ({"subject.dtype": "float"}, "float32 or bfloat16"),
        ({"explain.steering": 4}, "must be a list such as"),
        ({"explain.steering": []}, "must be a list such as"),
        ({"subject": 4}, "unknown key 'subject'"),
    ],
)
def test_wrong_overrides(overrides, message):
    with pytest.raises(ProfileError, match=message):
        load("smoke", overrides)


def test_overrides_reach_the_profile():
    assert load("smoke", {"sae.lr": "1e-3"}).sae.lr == 1e-3  # YAML reads this number as text
    profile = load("smoke", {"sae.latents": 64, "explain.steering": [1, 2.5], "subject.published": None})
    assert profile.sae.latents == 64 and profile.explain.steering == (1.0, 2.5)
    assert profile.label.startswith("smoke+") and load("smoke").label == "smoke"
    assert "sae.latents" in keys() and "seed" in keys()


def test_yaml_is_strict_too(tmp_path):
    text = (PROFILES / "smoke.yaml").read_text()
    path = tmp_path / "mine.yaml"
    path.write_text(text.replace("latents:", "latent:"))
    with pytest.raises(ProfileError, match="unknown key 'sae.latent' .did you mean 'latents'"):
        load(str(path))
    path.write_text(text.replace("  k: 8\n", ""))
    with pytest.raises(ProfileError, match="missing key sae.k"):
        load(str(path))
    path.write_text("sae:\n")
    with pytest.raises(ProfileError, match="sae must hold keys"):
        load(str(path), {"sae.k": 3})
    path.write_text("sae: [")
    with pytest.raises(ProfileError, match="not valid YAML"):
        load(str(path))
    with pytest.raises(ProfileError, match="no profile 'smok' .did you mean 'smoke'"):
        load("smok")


def test_a_stray_papermill_parameter_is_refused():
    with pytest.raises(ProfileError, match="unknown parameter 'profle' .did you mean 'profile'"):
        begin({"profile": "smoke", "overrides": {}, "profle": "desk", "begin": begin, "__name__": "x", "In": []})
    run = begin({"profile": "smoke", "overrides": {"sae.k": 4}})
    assert run.profile.sae.k == 4
    # A cell that is run again by hand finds its own variables, and is not refused for them.
    assert begin({"profile": "smoke", "overrides": {}, "run": run, "latent": 3}).profile.sae.k == 8


def test_a_missing_stage_says_what_to_type():
    run = begin({"profile": "smoke", "overrides": {"sae.latents": 99, "explain.hybrid": [1, 2]}})
    with pytest.raises(
        MissingStage, match="profile smoke --set sae.latents=99 --set 'explain.hybrid=.1, 2.' --from 02"
    ):
        _ = run.sae
    with pytest.raises(ProfileError, match=r"explain.k must lie between 1 and 10"):
        begin({"profile": "smoke", "overrides": {"explain.k": 11}})


def test_explainers_see_one_set_and_scores_come_from_another():
    """The wiring, not only the ranges: no picture that is shown is ever scored, pixel by pixel."""
    run = begin({"profile": "smoke", "overrides": {"images.explain": 1500, "images.evaluate": 1500}})
    assert run.segmenter.images is run.sets["evaluate"]
    pixels = [{s.scene(i).pixels.tobytes() for i in range(len(s))} for s in (run.sets["explain"], run.sets["evaluate"])]
    assert not pixels[0] & pixels[1]


def test_digests_ignore_compiled_files(tmp_path):
    (tmp_path / "a.py").write_text("x = 1")
    before = files_digest.__wrapped__((tmp_path,))
    (tmp_path / "__pycache__").mkdir()
    (tmp_path / "__pycache__" / "a.pyc").write_text("compiled")
    assert files_digest.__wrapped__((tmp_path,)) == before
    (tmp_path / "a.py").write_text("x = 2")
    assert files_digest.__wrapped__((tmp_path,)) != before
