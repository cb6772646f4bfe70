"""Profiles are strict: what is misspelt is named, with what was meant."""

import dataclasses

import pytest

from lib.profile import PROFILES, ProfileError, keys, load
from lib.run import begin


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
        ({"sae.lr": "1e-3"}, "sae.lr must be float"),
        ({"explain.steering": 4}, "must be a list such as"),
        ({"explain.steering": []}, "must be a list such as"),
        ({"subject": 4}, "unknown key 'subject'"),
    ],
)
def test_wrong_overrides(overrides, message):
    with pytest.raises(ProfileError, match=message):
        load("smoke", overrides)


def test_overrides_reach_the_profile():
    profile = load("smoke", {"sae.latents": 64, "explain.steering": [1, 2.5], "subject.revision": None})
    assert profile.sae.latents == 64 and profile.explain.steering == (1.0, 2.5)
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
    path.write_text("sae: [")
    with pytest.raises(ProfileError, match="not valid YAML"):
        load(str(path))
    with pytest.raises(ProfileError, match="no profile 'smok' .did you mean 'smoke'"):
        load("smok")


def test_a_stray_papermill_parameter_is_refused():
    with pytest.raises(ProfileError, match="unknown parameter 'profle' .did you mean 'profile'"):
        begin({"profile": "smoke", "overrides": {}, "profle": "desk", "begin": begin, "__name__": "x", "In": []})
    assert begin({"profile": "smoke", "overrides": {"sae.k": 4}}).profile.sae.k == 4
