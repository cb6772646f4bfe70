"""Profiles are strict: what is misspelt, impossible or ambiguous is refused at once, in one line that helps."""

import dataclasses
import os
import shutil
from pathlib import Path

import pytest

from lib import profile as profiles
from lib import settings
from lib.dictionary import Recipe
from lib.hub import Asset
from lib.identity import digest
from lib.notebook import open_run
from lib.profile import ProfileError, keys, load
from lib.ranges import Choice, Distinct, Range
from lib.settings import CALLER, PROFILES, names
from lib.store import MissingStage
from lib.vlm import Checkpoint

SMOKE = (PROFILES / "smoke.yaml").read_text(encoding="utf-8")


def refused(name="smoke", overrides=None) -> str:
    """What is said against it: always one line, and never long."""
    with pytest.raises(ProfileError) as error:
        load(name, overrides)
    text = str(error.value)
    assert "\n" not in text and len(text) < 1700
    return text


@pytest.fixture
def own(tmp_path, monkeypatch):
    """Writes a profile file of the user's own, beside which the user stands; returns its path."""
    monkeypatch.setenv(CALLER, str(tmp_path))

    def write(content: str | bytes = SMOKE, name: str = "mine.yaml") -> str:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


# What a profile is


@pytest.mark.parametrize("name", names())
def test_shipped_profiles_load(name):
    profile = load(name)
    assert profile.name == profile.label == name
    assert list(profile.views) == ["", *profile.variants] and profile.views[""] == profile
    with pytest.raises(dataclasses.FrozenInstanceError):
        profile.seed = 3


def test_sections_are_what_the_stations_take():
    profile = load("smoke")
    assert type(profile.sae) is Recipe and type(profile.subject.checkpoint) is Checkpoint
    assert profile.subject.checkpoint == Checkpoint(Asset("data/models/subject-a"), 3)
    assert (
        profile.subject.checkpoint == load("smoke", {"subject.name": "x", "subject.published": None}).subject.checkpoint
    )


def test_everything_that_names_a_model_or_a_data_set_is_an_asset():
    paper = load("paper-gemma3")
    found = [paper.subject.model, paper.images.source, paper.sae.pretrained, *paper.explainers.values()]
    found += [getattr(paper.score, key) for key in ("clip", "sentences", "detector", "segmenter", "generator")]
    found += [paper.views["later layer"].sae.pretrained, load("smoke").images.source]
    assert all(type(name) is Asset for name in found)
    assert paper.subject.model.revision and paper.sae.pretrained.part.endswith("trainer_0")


def test_overrides_reach_the_profile():
    assert load("smoke", {"sae.lr": "1e-3"}).sae.lr == 1e-3  # YAML reads this number as text
    profile = load("smoke", {"sae.latents": 64, "explain.steering": [1, 2.5], "subject.published": None})
    assert profile.sae.latents == 64 and profile.explain.steering == (1.0, 2.5)
    assert profile.label.startswith("smoke+") and load("smoke").label == "smoke"
    assert "sae.latents" in keys() and "seed" in keys() and not {"name", "changes"} & {*keys()}


def test_the_label_is_a_digest_of_the_overrides_alone():
    assert load("smoke", {"sae.k": 4}).changes == digest([{"sae.k": 4}])[:6] == "2a7428"
    assert load("smoke", "{sae.k: 4}") == load("smoke", {"sae.k": 4}) and load("smoke", {}).changes == ""


# Values


def kinds(cls=profiles.Profile, prefix=""):
    for name, kind in settings._hints(cls).items():
        yield from kinds(kind, f"{prefix}{name}.") if dataclasses.is_dataclass(kind) else [(prefix + name, kind)]


def bare(kind) -> bool:
    """Whether a type holds a number, or a list of numbers, without a range."""
    inside = getattr(kind, "__args__", ())
    if hasattr(kind, "__metadata__"):  # a range of a list says nothing of what is in it
        return any(map(bare, getattr(inside[0], "__args__", ())))
    return kind in (int, float) or any(map(bare, inside))


def test_every_number_has_a_range():
    assert [key for key, kind in kinds() if bare(kind)] == []


def test_no_key_takes_a_value_of_another_kind():
    smoke = load("smoke")
    for key in keys():
        for value in (float("nan"), -float("inf"), -1, 10**400, "", " ", "a\nb", {"": object()}, object(), [[]], [[1]]):
            with pytest.raises(ProfileError, match=key):
                smoke.variant({key: value})


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("sae.latent", 9, "unknown key 'sae.latent' (did you mean 'sae.latents'"),
        ("latents", 9, "did you mean 'sae.latents'"),
        ("name", "desk", "unknown key 'name'"),
        ("changes", "", "unknown key 'changes'"),
        ("subject", 4, "unknown key 'subject'"),
        (3, 4, "unknown key '3'"),
        ("sae.k", "many", "sae.k must be a whole number, not 'many'"),
        ("sae.k", True, "sae.k must be a whole number, not True"),
        ("sae.k", 8.0, "sae.k must be a whole number, not 8.0"),
        ("sae.lr", "fast", "sae.lr must be a number, not 'fast'"),
        ("score.without_t5", 1, "score.without_t5 must be true or false, not 1"),
        ("subject.model", 3, "subject.model must be text of one line, not 3 (put it in quotes"),
        ("subject.name", None, "subject.name must be text"),
        ("explain.steering", 4, "explain.steering must be a list such as [1, 2], not 4"),
        ("explainers", [1], "explainers must hold names and values, not [1]"),
        # ranges
        ("sae.k", 0, "sae.k is 0, and must be at least 1"),
        ("sae.latents", 0, "sae.latents is 0, and must be at least 1"),
        ("sae.latents", -4, "sae.latents is -4, and must be at least 1"),
        ("sae.lr", float("nan"), "sae.lr is nan, and must be above 0"),
        ("sae.lr", ".inf", "sae.lr must be a number"),
        ("sae.lr", float("inf"), "sae.lr is inf, and must be above 0"),
        ("sae.lr", 0, "sae.lr is 0, and must be above 0"),
        ("sae.batch", 0, "sae.batch is 0, and must be at least 1"),
        ("sae.warmup", 0, "sae.warmup is 0, and must be at least 1"),
        ("sae.checkpoint", 0, "sae.checkpoint is 0, and must be at least 1"),
        ("sae.buffer", 0, "sae.buffer is 0, and must be at least 1"),
        ("sae.dtype", "foo", "sae.dtype is 'foo', and must be one of float32, bfloat16"),
        ("subject.dtype", "float", "subject.dtype is 'float', and must be one of float32, bfloat16"),
        ("subject.batch", 0, "subject.batch is 0, and must be at least 1"),
        ("subject.layer", -1, "subject.layer is -1, and must be at least 0"),
        ("images.explain", 0, "images.explain is 0, and must be at least 1"),
        ("images.cooccurrence", float("nan"), "images.cooccurrence is nan, and must be at least 0 and at most 1"),
        ("images.cooccurrence", -3, "images.cooccurrence is -3, and must be at least 0 and at most 1"),
        ("images.cooccurrence", 2, "images.cooccurrence is 2, and must be at least 0 and at most 1"),
        ("images.closeup", 5, "images.closeup is 5, and must be at least 0 and at most 1"),
        ("images.sizes", [0], "images.sizes is 0, and must be at least 1"),
        ("images.sizes", [60, 60], "images.sizes is [60, 60], and must be at least 0, none of them twice"),
        ("explain.k", 0, "explain.k is 0, and must be at least 1 and at most 10"),
        ("explain.k", 11, "explain.k is 11, and must be at least 1 and at most 10"),
        ("explain.validation", 0, "explain.validation is 0, and must be at least 1"),
        ("explain.test", 1, "explain.test is 1, and must be at least 2"),
        ("explain.steering", [], "explain.steering is [], and must be at least 1, none of them twice"),
        ("explain.steering", [1, 0], "explain.steering is 0, and must be above 0"),
        ("explain.hybrid", [-0.5], "explain.hybrid is -0.5, and must be above 0"),
        ("study.k", [11], "study.k is 11, and must be at least 1 and at most 10"),
        ("study.doses", [0, 1.5], "study.doses is 1.5, and must be at least 0 and at most 1"),
        ("study.worlds", [1, 1], "study.worlds is [1, 1], and must be at least 1, none of them twice"),
        ("score.size", 100, "score.size is 100, and must be at least 8 and at most 8192, a multiple of 8"),
        ("score.steps", 0, "score.steps is 0, and must be at least 1"),
        ("hardware.tflops", 0, "hardware.tflops is 0, and must be above 0"),
        ("jobs", 0, "jobs is 0, and must be at least 1"),
        ("seed", 2**32, "seed is 4294967296, and must be at least 0 and at most 4294967295"),
        ("explainers", {}, "explainers is {}, and must be at least 1"),
        ("explainers", {"": "x"}, "a name in explainers must be text of one line, not ''"),
        ("explainers", {1: "x"}, "a name in explainers must be text of one line, not 1 (put it in quotes"),
        ("variants", {" ": {}}, "a name in variants must be text of one line, not ' '"),
    ],
)
def test_a_wrong_value_is_named_with_its_key_and_what_is_allowed(key, value, message):
    assert message in refused("smoke", {key: value})


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ({"sae.k": 129}, "sae.k is 129, and must be at most 128 (sae.latents)"),
        ({"explain.test": 121}, "explain.validation + explain.test is 129, and must be at most 128 (sae.latents)"),
        ({"images.train": 0}, "images.train is 0, and must be at least 1, unless sae.pretrained names a dictionary"),
        ({"images.sizes": [60, 401]}, "an entry of images.sizes is 401, and must be at most 400 (images.explain)"),
        ({"images.explain": 100}, "an entry of images.sizes is 200, and must be at most 100"),
        ({"explain.min_images": 401}, "explain.min_images is 401, and must be at most 400"),
        ({"images.closeup": 0.5, "images.empty": 0.5}, "closeup + wallpaper + empty is 1.05, and must be at most 1"),
        (
            {"sae.batch": 99_999_999},
            "sae.batch is 99999999, and must be at most 64000 (patches of 1000 training images)",
        ),
        ({"subject.layer": 6}, "subject.layer is 6, and must be at most 5 (the encoder's last layer)"),
        ({"images.source": "data/photos"}, "score.segmenter is missing: photographs need a model there"),
        ({"images.source": "data/photos", "score.segmenter": "a/b"}, "score.generator is missing"),
    ],
)
def test_settings_that_do_not_go_together_are_refused(overrides, message):
    assert message in refused("smoke", overrides)


def test_settings_that_do_go_together_are_not():
    load("smoke", {"images.closeup": 0.3, "images.wallpaper": 0.3, "images.empty": 0.4})
    load("smoke", {"sae.batch": 25_600, "images.sizes": []})  # all patches of a variant's 400 training images
    assert load("smoke", {"images.train": 0, "sae.pretrained": "a/b:c", "variants": {}}).images.train == 0
    assert "99999999, and must be at most" in refused("laptop", {"sae.batch": 99_999_999})  # more than any encoder has


def test_ranges_say_what_they_hold():
    assert Range(0, 1).holds(1) and not Range(0, 1, above=True).holds(0) and not Range().holds(float("nan"))
    assert not Range().holds(float("inf")) and not Range(0, 1).holds(10**400)  # an int that no float can hold
    assert str(Range(0, above=True)) == "above 0" and str(Range(1, 10**9)) == "at least 1 and at most 1000000000"
    assert Choice(("a", "b")).holds("a") and str(Choice(("a", "b"))) == "one of a, b"
    assert Distinct().holds((1,)) and not Distinct().holds(()) and not Distinct().holds((1, 1.0))


# Variants


def test_a_variant_is_the_profile_with_settings_changed():
    smoke = load("smoke")
    layer = smoke.variant("later layer")
    assert layer == smoke.variant(smoke.variants["later layer"]) == smoke.views["later layer"]
    assert (layer.subject.layer, layer.images.explain, layer.name, layer.seed) == (4, 200, "smoke", smoke.seed)
    assert (
        smoke.variant({}) == smoke and load("smoke", {"seed": 1}).variant({}).label == load("smoke", {"seed": 1}).label
    )


def test_a_variant_with_fewer_images_keeps_the_sizes_that_are_still_smaller():
    smoke = load("smoke", {"images.sizes": [60, 200]})
    assert smoke.variant({"images.explain": 199}).images.sizes == (60,)
    assert smoke.variant({"images.explain": 10, "explain.min_images": 1}).images.sizes == ()
    assert smoke.variant({"images.explain": 199, "images.sizes": [199]}).images.sizes == (199,)
    with pytest.raises(ProfileError, match="images.sizes"):
        smoke.variant({"images.explain": 199, "images.sizes": [200]})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"subject.lair": 3}, "variants.x: unknown key 'subject.lair' (did you mean 'subject.layer'"),
        ({"sae.k": 0}, "variants.x: sae.k is 0"),
        ({"sae.k": 200}, "variants.x: sae.k is 200, and must be at most 128"),
        ({"name": "desk"}, "variants.x: unknown key 'name'"),
        ({"variants": {"y": {}}}, "variants.x: a variant has no variants of its own"),
        ({"variants.y": {}}, "variants.x: unknown key 'variants.y'"),
        (None, "variants.x must be keys and values, not None"),
        ("later layer", "variants.x must be keys and values, not 'later layer'"),
    ],
)
def test_a_wrong_variant_is_refused_when_the_profile_is_read(changes, message):
    assert message in refused("smoke", {"variants": {"x": changes}})


def test_a_variant_that_there_is_not_is_named_with_the_nearest():
    with pytest.raises(
        ProfileError, match="no variant 'early layr' .did you mean 'early layer'.+: later layer, InternVL3"
    ):
        load("smoke").variant("early layr")


# Files


def test_yaml_is_strict_too(own):
    assert "unknown key 'sae.latent' (did you mean 'latents'" in refused(own(SMOKE.replace("latents:", "latent:")))
    assert "missing key sae.k" in refused(own(SMOKE.replace("  k: 8\n", "")))
    assert "sae must hold keys" in refused(own("sae:\n"), {"sae.k": 3})
    for text in ("", "3", "- a", "null", "text"):
        assert "must hold keys and values" in refused(own(text))


@pytest.mark.parametrize(
    ("text", "line"),
    [
        ("sae: [", 1),
        ("a: 1\nb: {\n", 3),
        ("a: 1\n  b: 2", 2),
        ("a: !!python/object/apply:os.system ['true']", 1),
        ("a: 1\n---\nb: 2", 2),
        ("a: *nobody", 1),
        ("? [1]\n: 2", 1),
        ("a: 2020-13-45", 0),
        ("a: \x07", 0),
        ("a: " + "9" * 5000, 0),
    ],
)
def test_what_is_no_yaml_is_named_with_its_line(own, text, line):
    assert f"mine.yaml: not valid YAML{f', line {line}' if line else ''}: " in refused(own(text))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("seed: 1\njobs: 1\nseed: 2\n", "key 'seed' stands twice in one place, in lines 1 and 3"),
        ("sae:\n  k: 8\n\n  k: 4\n", "key 'k' stands twice in one place, in lines 2 and 4"),
        ("sae: {k: 1}\nsae: {latents: 1}\n", "key 'sae' stands twice in one place, in lines 1 and 2"),
        ("a:\n- b: {c: 1,\n    'c': 2}", "key 'c' stands twice in one place, in lines 2 and 3"),
        ("variants:\n  x:\n    sae.k: 1\n    sae.k: 2", "key 'sae.k' stands twice in one place, in lines 3 and 4"),
        ("explainers:\n  1: a\n  '1': b", "key '1' stands twice in one place, in lines 2 and 3"),
    ],
)
def test_a_key_twice_in_one_mapping_is_refused_with_both_lines(own, text, message):
    assert message in refused(own(text))


def test_a_key_may_stand_in_two_mappings_and_an_anchor_in_two_places(own):
    assert load(own()).sae.k == 8 and load(own()).explain.k == 5  # two keys k
    shared = SMOKE.replace("model: data/models/subject-a\n", "model: &a data/models/subject-a\n", 1)
    assert load(own(shared.replace("medium: data/models/subject-a\n", "medium: *a\n"))).explainers["medium"]


@pytest.mark.parametrize(
    "text",
    [
        "a: &a [*a]",
        "&a a: &b {c: *b}",
        "variants: &v\n  x: *v\n",
        "variants:\n  x: &x\n    y: {z: *x}\n",
        "&top\nsae: *top\n",
        "a: " + "[" * 5000,
        "a: " + "{a: " * 3000,
    ],
)
def test_values_that_contain_themselves_or_never_end_are_refused_in_one_line(own, text):
    said = refused(own(text))
    assert "contains itself" in said or "nested too deeply" in said


def test_values_that_grow_without_end_are_refused_at_once(own):
    rows = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    rows += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 30)]
    laughs = "\n".join(["seed: &s", *("  " + row for row in rows)]).replace("seed: &s", "jobs:")
    assert "jobs" in refused(own(SMOKE.replace("jobs: 2", laughs)))


@pytest.mark.parametrize("depth", [10, 100, 200, 300, 400, 1000])
def test_variants_that_are_nested_deeply_are_refused_in_one_line(own, depth):
    deep = "{a: " * depth + "1" + "}" * depth
    refused(own(SMOKE.split("variants:")[0] + f"variants:\n  x: {{explain.steering: {deep}}}\n"))


@pytest.mark.parametrize(
    ("data", "line"),
    [
        (SMOKE.encode("utf-16"), 1),
        (SMOKE.encode("utf-16-le"), 1),
        (SMOKE.encode("utf-32"), 1),
        ("seed: 1\n\n# caf\u00e9\n".encode("cp1252"), 3),
        (b"\x89PNG\r\n\x1a\n\0\0", 1),
    ],
)
def test_a_file_that_is_not_utf8_says_so_and_what_to_do(own, data, line):
    assert f"mine.yaml, line {line}: not UTF-8; open it in an editor and save it in the encoding UTF-8" in refused(
        own(data)
    )


def test_a_mark_at_the_beginning_and_lines_of_windows_are_nothing_wrong(own):
    assert load(own(SMOKE.encode("utf-8-sig"))).sae == load("smoke").sae
    assert load(own(SMOKE.replace("\n", "\r\n"))).sae == load("smoke").sae


@pytest.mark.skipif(os.geteuid() == 0, reason="nothing is forbidden to root")
def test_a_file_that_may_not_be_read_says_so(own):
    Path(own()).chmod(0)
    assert "mine.yaml cannot be read: Permission denied" in refused(own())


# Where profiles are, and what their results are called


@pytest.fixture
def project(tmp_path, monkeypatch) -> Path:
    """A project's folder of our own, with the shipped profiles; the user stands in another."""
    root = tmp_path / "project"
    shutil.copytree(PROFILES, root / "lib" / "profiles")
    monkeypatch.setattr(settings, "ROOT", root)
    monkeypatch.setattr(settings, "PROFILES", root / "lib" / "profiles")
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.setenv(CALLER, str(tmp_path / "elsewhere"))
    return root


def put(path: Path) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(SMOKE, encoding="utf-8")
    return path


def test_a_path_is_looked_up_from_where_the_user_stands_then_from_the_project(project, tmp_path, monkeypatch):
    here = tmp_path / "elsewhere"
    in_project = put(project / "mine.yaml")
    assert settings.find("mine.yaml") == in_project
    in_here = put(here / "mine.yaml")
    assert settings.find("mine.yaml") == in_here and settings.find("./mine.yaml") == in_here
    assert settings.find("../project/mine.yaml") == settings.find(str(in_project)) == in_project
    monkeypatch.setenv("HOME", str(tmp_path))
    assert settings.find("~/elsewhere/mine.yaml") == in_here
    monkeypatch.delenv(CALLER)  # as in a notebook that is opened by hand
    monkeypatch.chdir(here)
    assert settings.find("mine.yaml") == in_here
    assert (
        settings.find("lib/profiles/desk.yaml") == settings.find("desk") == project / "lib" / "profiles" / "desk.yaml"
    )


def test_no_two_files_share_a_folder_of_results(project, tmp_path):
    put(project / "lib" / "profiles" / "added.yaml")
    places = ["", "sub", "../elsewhere", "../elsewhere/a", "../elsewhere/b"]
    files = [put(project / p / f"{n}.yaml") for p in places for n in ("desk", "DESK", "smoke", "mine", "added")]
    files += [put(project / "mine.yml"), put(project / "desk.yml")]
    found = [load(str(path)).name for path in files] + names() + ["desk", "smoke", "added"]
    assert len({*found}) == len(files) + len(settings.names())
    assert load(str(project / "mine.yaml")).name == "mine"  # in the project's folder, and nobody else's name
    assert load(str(project / "desk.yaml")).name.startswith("desk@")
    assert load(str(project / "desk.yaml"), {"seed": 1}).label.startswith("desk@")


def test_an_own_desk_is_not_the_shipped_one(project):
    put(project / "desk.yaml")
    assert load("desk").label == load("lib/profiles/desk.yaml").label == "desk"
    assert load("desk", {"seed": 1}).label != "desk" != load(str(project / "desk.yaml")).label
    put(project / "mine.yaml")


@pytest.mark.parametrize("stem", ["a b", "a+b", "desk@123456", "-x", ".x", "a" * 65, "a'b", "a\nb", "$(x)", "a|b"])
def test_a_file_name_that_cannot_name_a_folder_of_results_is_refused(own, stem):
    assert "cannot name a folder of results: rename the file" in refused(own(name=f"{stem}.yaml"))


@pytest.mark.parametrize(
    "name", ["x" * 300, "x" * 300 + ".yaml", "a/b", "../desk", "", ".", "a\0b.yaml", "a\nb", "/", "~"]
)
def test_an_odd_name_is_no_profile(name):
    assert "no profile" in refused(name) or "no file" in refused(name)


def test_a_name_that_is_misspelt_comes_with_the_nearest():
    assert "no profile 'smok' (did you mean 'smoke'?); profiles: deep, desk, " in refused("smok")
    assert "no file 'smoke.yml' in " in refused("smoke.yml")


@pytest.mark.parametrize("name", [3, None, 3.5, ["desk"], True])
def test_a_profile_that_is_no_text_is_refused(name):
    assert f"profile must be a name, such as desk, or the path of a .yaml file, not {name!r}" in refused(name)


def test_overrides_may_be_text_as_papermill_passes_it():
    assert (
        load("smoke", '{"sae.k": 4}').sae.k == load("smoke", "{sae.k: 4}").sae.k == load("smoke", "sae.k: 4").sae.k == 4
    )
    assert load("smoke", "").sae.k == load("smoke", None).sae.k == load("smoke", "{}").sae.k == 8
    for value in (3, [1], "3", "[sae.k]", "sae.k"):
        assert "overrides must hold keys and values, such as {sae.k: 4}, not " in refused("smoke", value)
    assert "overrides: not valid YAML, line 1: " in refused("smoke", "{sae.k")
    assert "overrides: key 'sae.k' stands twice" in refused("smoke", "{sae.k: 4, sae.k: 5}")


# Runs


def test_a_missing_stage_says_what_to_type():
    run = open_run("smoke", {"sae.latents": 99, "explain.hybrid": [1, 2]})
    with pytest.raises(
        MissingStage, match="profile smoke --set sae.latents=99 --set 'explain.hybrid=.1, 2.' --from 02"
    ):
        _ = run.sae


def test_explainers_see_one_set_and_scores_come_from_another():
    """The wiring, not only the ranges: no picture that is shown is ever scored, pixel by pixel."""
    run = open_run("smoke", {"images.explain": 1500, "images.evaluate": 1500})
    assert run.segmenter.images is run.sets["evaluate"]
    pixels = [{s.scene(i).pixels.tobytes() for i in range(len(s))} for s in (run.sets["explain"], run.sets["evaluate"])]
    assert not pixels[0] & pixels[1]


def test_two_models_under_one_published_name_are_refused():
    """The tables have a place for one."""
    twice = {"variants": {"x": {"subject.layer": 4, "subject.published": "Gemma 3"}}}
    with pytest.raises(ProfileError, match="two models are published as 'Gemma 3'"):
        load("smoke", twice)
    both = {"x": {"subject.layer": 4, "subject.published": "Y"}, "z": {"subject.layer": 5, "subject.published": "Y"}}
    with pytest.raises(ProfileError, match="two models are published as 'Y'"):
        load("smoke", {"variants": both})


@pytest.mark.parametrize("value", ["010", "1:30", "-07", "190:20:30"])
def test_what_only_yaml_takes_for_another_number_is_refused(value):
    with pytest.raises(ProfileError, match="YAML reads that as octal or as minutes"):
        settings.parse(f"a: {value}", "a profile")
    assert settings.parse(f"a: '{value}'\nb: 0.5\nc: 10", "a profile") == {"a": value, "b": 0.5, "c": 10}


def test_studies_that_would_fail_an_hour_later_are_refused_at_once():
    assert load("smoke", {"study.dictionaries": 2}).dictionaries == 2
    assert load("smoke", {"study.dictionaries": 2, "sae.pretrained": "a/b:c"}).dictionaries == 1
    with pytest.raises(ProfileError, match="explain.min_images is 10, and must be at most 5 .study.dose_images"):
        load("smoke", {"study.dose_images": 5})
