"""What a stage depends on is what it uses: every edit that can change it does, and no other."""

import shutil
import sys
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib import identity
from lib.explain import Variation
from lib.hub import Asset
from lib.identity import NOT_PART, differences, digest, plain
from lib.methods import METHODS, STEERING, TOP_K
from lib.profile import keys, load
from lib.run import Run
from lib.stage import Stage
from lib.store import ROOT

SMALL = {
    "images.train": 40, "images.explain": 30, "images.evaluate": 30, "images.sizes": [20], "sae.latents": 32,
    "sae.batch": 256, "explain.validation": 2, "explain.test": 3, "explain.min_images": 1, "score.negatives": 5,
    "explain.steering": [1, 4], "explain.hybrid": [0.5],
}  # fmt: skip
ORDER = ("dictionary", "shown", "held_out", "explained", "choice", "scores")


def stages_of(run: Run) -> dict[str, Stage]:
    """Every kind of stage of a run, by name."""
    made = {name: getattr(run, name) for name in ORDER if name != "choice"}
    return {**made, "choice": run.choice(STEERING.add)}


def photographs(folder: Path) -> dict[str, object]:
    """Settings for a folder of photographs, with judges that lie here; none is loaded, as no result is made."""
    for i in range(12):
        path = folder / "pictures" / f"{i}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8 + i, 8), (i, 0, 0)).save(path)
    for judge in ("detector", "segmenter", "generator"):
        (folder / judge).mkdir(exist_ok=True)
        (folder / judge / "weights").write_text(judge)
    places = {f"score.{judge}": str(folder / judge) for judge in ("detector", "segmenter", "generator")}
    sizes = {"images.train": 4, "images.explain": 4, "images.evaluate": 3, "images.sizes": [2]}
    return {**SMALL, **sizes, **places, "images.source": str(folder / "pictures")}


@pytest.fixture(scope="module", params=["scenes", "photographs"])
def stages(request, tmp_path_factory):
    more = photographs(tmp_path_factory.mktemp("photographs")) if request.param == "photographs" else {}
    return stages_of(Run(load("smoke", SMALL | more)))


@pytest.fixture
def copy(tmp_path, monkeypatch):
    """A copy of the library, which may be edited; identities are derived from it."""
    shutil.copytree(ROOT / "lib", tmp_path / "lib", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(identity, "ROOT", tmp_path)
    return tmp_path


def codes(stages: dict[str, Stage]) -> dict[str, dict[str, str]]:
    """The modules of every stage, as :func:`lib.identity.of` finds them; models are not read again for each edit."""
    begin = {name: sorted({cls.__module__ for cls in identity.classes(stage)}) for name, stage in stages.items()}
    return {name: identity.reached(modules)[0] for name, modules in begin.items()}


def test_codes_are_those_of_the_stages(stages):
    assert codes(stages) == {name: stage.why["modules"] for name, stage in stages.items()}


def test_an_edit_in_any_module_that_a_stage_reaches_changes_it_and_no_other_edit_does(stages, copy):
    """Every module of the library is edited in turn, and every stage is asked."""
    before, seen = codes(stages), set()
    for path in sorted((copy / "lib").rglob("*.py")):
        module = ".".join(path.relative_to(copy).with_suffix("").parts).removesuffix(".__init__")
        source = path.read_text()
        path.write_text(source + "\n_EDITED = 1\n")
        for name, after in codes(stages).items():
            assert (after != before[name]) == (module in before[name]), f"{module} and {name}"
        path.write_text(source)
        seen.add(module)
    assert set().union(*before.values()) <= seen


def test_comments_docstrings_and_layout_change_nothing(stages, copy):
    before = codes(stages)
    for path in (copy / "lib").rglob("*.py"):
        path.write_text(f"# a word\n{path.read_text()}\n\n# another\n".replace('"""', '""" In other words. ', 1))
    assert codes(stages) == before


def test_no_stage_reaches_wording_figures_plans_or_the_run_itself(stages):
    outside = {"run", "world", "profile", "figures", "effects", "studies", "plan", "desk", "running", "notebook"}
    drawn = any(module.startswith("lib.scenes") for module in codes(stages)["dictionary"])
    outside.add("photos" if drawn else "scenes")  # nor the other kind of pictures
    for name, modules in codes(stages).items():
        assert not {m.split(".")[1] for m in modules if m != "lib"} & outside, name


def test_a_judge_or_a_picture_that_is_replaced_changes_what_comes_of_it(tmp_path):
    """A local model counts by its content, a folder of pictures by its listing; nobody says so in the profile."""

    def folders() -> dict[str, str]:
        return {name: stage.folder.name for name, stage in stages_of(Run(load("smoke", settings))).items()}

    def changed() -> set[str]:
        nonlocal before
        now = folders()
        out, before = {name for name in ORDER if now[name] != before[name]}, now
        return out

    settings = photographs(tmp_path)
    before = folders()
    assert changed() == set()
    (tmp_path / "detector" / "weights").write_text("others")
    assert changed() == {"choice", "scores"}
    (tmp_path / "generator" / "weights").write_text("others")
    assert changed() == {"scores"}
    Image.new("RGB", (30, 8)).save(tmp_path / "pictures" / "one more.png")
    assert changed() == set(ORDER)  # another permutation: indices name other pictures now
    settings["images.explain"] = 5
    assert "dictionary" in changed()  # its training pictures are now evidence


@pytest.mark.slow(8)
def test_what_runs_while_a_stage_is_made_is_what_it_names(tmp_path, monkeypatch):
    """Not by reading imports but by watching: no line of the library runs that the stage does not answer for."""
    run = Run(load("smoke", SMALL))
    run._home = replace(run._home, folder=tmp_path)
    handed_over = {"lib.run", "lib.world", "lib.profile"}  # they give a stage its fields, and load what these name
    assert run.vlm and run.sets and run.world.reader  # loaded before anything is watched
    makers = {
        "dictionary": lambda: run.dictionary.make(run.vlm),
        "shown": lambda: run.shown.make(lambda: run.vlm),
        "held_out": lambda: run.held_out.make(lambda: run.vlm),
        "explained": lambda: run.explanations(TOP_K.heatmaps, run.latents["test"]),
        "choice": lambda: run.choose((STEERING.add,)),
        "scores": lambda: run.score(run.explanations(TOP_K.masks, run.latents["test"])),
    }
    stages = stages_of(run)
    for name, make in makers.items():
        ran = set()

        def watch(frame, event, argument, add=ran.add):
            add(frame.f_code)

        answered, before = set(), [stages[name]]
        sys.setprofile(watch)
        make()
        sys.setprofile(None)
        files = {code.co_filename for code in ran if code.co_filename.startswith(str(ROOT / "lib"))}
        ran = {
            f.removeprefix(f"{ROOT}/").removesuffix(".py").replace("/", ".").removesuffix(".__init__") for f in files
        }
        while before:
            stage = before.pop()
            answered |= set(stage.why["modules"])
            before += [value for value in vars(stage).values() if isinstance(value, Stage)]
        assert ran - handed_over <= answered, f"{name}: {ran - handed_over - answered}"
        assert len(ran) > 3


# Which stage a setting touches first; all stages after it change as well, for they name it as what is before them.
FIRST = {
    "subject.model": "dictionary", "subject.layer": "dictionary", "subject.layers": "dictionary",
    "subject.dtype": "dictionary", "subject.batch": "dictionary", "seed": "dictionary",
    "images.train": "dictionary", "images.cooccurrence": "dictionary", "images.closeup": "dictionary",
    "images.wallpaper": "dictionary", "images.empty": "dictionary",
    "images.explain": "both sets",  # the held-out stretch begins where the other ends
    "images.evaluate": "held_out", "score.negatives": "held_out",
    "explain.batch": "explained", "explain.max_new_tokens": "explained",
    "explain.steering": "choice", "explain.validation": "choice",
    "explain.min_images": "choice",
    "explain.k": "choice", "score.clip": "scores", "score.synthetic_images": "scores",
}  # fmt: skip


def differs(key: str, value: object) -> object:
    """Another value that the setting may have."""
    if key == "subject.model" or key == "score.clip":
        return "data/models/subject-b"
    if key == "subject.layers":
        return "model.vision_tower.encoder.layers"
    if key == "subject.dtype":
        return "bfloat16"
    if isinstance(value, tuple):
        return [*value, 30]
    return value / 2 if isinstance(value, float) else value + 1


@pytest.mark.parametrize("key", FIRST)
def test_a_setting_changes_the_stage_that_reads_it_and_all_after(key):
    profile = load("smoke", {"images.explain": 600})  # more than a dictionary's quality is measured on
    value = profile
    for part in key.split("."):
        value = getattr(value, part)
    own, other = (stages_of(Run(p)) for p in (profile, profile.variant({key: differs(key, value)})))
    changed = {name for name in ORDER if own[name].folder != other[name].folder}
    after = {
        "dictionary": set(ORDER),
        "both sets": {"shown", "held_out", "choice", "scores"},
        "shown": {"shown", "choice"},
        "held_out": {"held_out", "choice", "scores"},
        "explained": {"explained", "choice"},
        "choice": {"choice"},
        "scores": {"scores"},
    }
    assert changed == after[FIRST[key]] | ({"scores"} if key == "explain.k" else set())


HARMLESS = {
    "subject.name": "x", "subject.published": None, "jobs": 1, "hardware.tflops": 3.0, "study.latents": 5,
    "study.k": [2], "score.sentences": "data/models/clip-judge", "explain.test": 7, "sae.checkpoint": 9,
    "images.sizes": [60, 90, 200],
}  # fmt: skip


@pytest.mark.parametrize("key", HARMLESS)
def test_what_only_names_plans_or_asks_for_more_of_the_same_changes_no_stage(key):
    profile = load("smoke")
    own, other = (stages_of(Run(p)) for p in (profile, profile.variant({key: HARMLESS[key]})))
    assert all(own[name].folder == other[name].folder for name in ORDER)


def test_every_setting_is_accounted_for():
    """A new setting must be put into one of the two lists above, or belong to photographs alone."""
    nothing = {"name", "changes", "explainers", "variants", *HARMLESS}
    photographs = {"images.source", "images.train_split", "images.split", "images.configuration", "score.detector",
                   "score.segmenter", "score.sam2_config", "score.sam2_overrides", "score.generator", "score.steps",
                   "score.guidance", "score.size", "score.without_t5", "explain.hybrid"}  # fmt: skip
    rest = {k for k in keys() if not k.startswith(("hardware.", "study.", "sae."))} - nothing - photographs
    assert rest == set(FIRST)


@pytest.mark.parametrize("setting", ["latents", "k", "batch", "lr", "warmup", "dead_after", "aux_weight", "buffer"])
def test_every_setting_of_the_dictionary_changes_it(setting):
    profile = load("smoke")
    value = getattr(profile.sae, setting)
    other = profile.variant({f"sae.{setting}": value / 2 if isinstance(value, float) else value - 1})
    assert Run(profile).dictionary.folder != Run(other).dictionary.folder


def test_variations_are_told_apart_by_all_that_differs():
    run = Run(load("smoke"))
    small = replace(run.profile.subject.checkpoint, model=run.profile.explainers["small"])
    grey = Image.new("RGB", (224, 224), "grey")
    almost = grey.copy()
    almost.putpixel((3, 3), (127, 128, 128))
    variations = [
        run.variation(STEERING.add), run.variation(STEERING.add.at(2)), run.variation(STEERING.add, explainer=small),
        run.variation(STEERING.add, blank=grey), run.variation(STEERING.add, blank=almost),
        run.variation(STEERING.add, control=run.control("random", [1, 2])),
        run.variation(STEERING.add, control=run.control("permuted", [1, 2])),
        run.variation(STEERING.add, control=run.control("permuted", [1, 2, 3])),
        run.variation(TOP_K.masks), run.variation(TOP_K.masks, limit=20), run.variation(TOP_K.masks, k=2),
        run.variation(TOP_K.masks, shown=run.held_out), run.variation(TOP_K.heatmaps),
    ]  # fmt: skip
    assert len({v.file for v in variations}) == len(variations)
    # A blank picture knows no top images.
    assert run.variation(STEERING.add, limit=20, k=2, shown=run.held_out).file == variations[0].file
    assert {v.file.rsplit("-", 1)[0] for v in variations} <= set(METHODS)
    assert isinstance(variations[0], Variation)


def test_explainers_swapped_among_their_names_keep_their_own_answers(tmp_path):
    """A variation knows a model by its content, wherever it lies and whatever it is called."""
    for name, text in {"a": "one", "b": "two"}.items():
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(text)
    checkpoint = load("smoke").subject.checkpoint
    before = {n: plain(replace(checkpoint, model=Asset(str(tmp_path / n)))) for n in "ab"}
    (tmp_path / "a" / "config.json").write_text("two")
    (tmp_path / "b" / "config.json").write_text("one")
    after = {n: plain(replace(checkpoint, model=Asset(str(tmp_path / n)))) for n in "ab"}
    assert before["a"]["model"]["content"] == after["b"]["model"]["content"] != after["a"]["model"]["content"]


def test_plain_values():
    @dataclass(frozen=True)
    class Thing:
        a: int
        b: tuple[float, ...] = (1.0,)
        where: str = field(default="here", metadata=NOT_PART)

    assert plain(Thing(1)) == plain(Thing(1, where="there")) == {"is": "Thing", "a": 1, "b": [1.0]}
    assert plain(np.arange(3)) != plain(np.arange(4)) and plain(np.arange(3)) == plain(np.arange(3))
    assert plain({"x": {2, 1}}) == {"x": [1, 2]} and digest([1]) != digest([1.0])
    red, blue = (Image.new("P", (2, 2)) for _ in range(2))
    red.putpalette([255, 0, 0])
    blue.putpalette([0, 0, 255])
    assert plain(red) != plain(blue)  # a palette's indices are the same
    with pytest.raises(TypeError, match="nobody knows what a object depends on"):
        plain(object())


def test_differences_say_what_changed():
    old = {"parts": {"recipe": {"k": 8}}, "modules": {"lib.a": "1", "lib.b": "1"}, "packages": {"torch": "1"}}
    new = {"parts": {"recipe": {"k": 16}}, "modules": {"lib.a": "2", "lib.c": "1"}, "packages": {"torch": "2"}}
    assert differences(old, new) == [
        "recipe.k: 8, now 16", "lib.a edited", "lib.b no longer used", "lib.c new", 'packages.torch: "1", now "2"',
    ]  # fmt: skip
    assert differences(old, old) == []


def test_results_of_a_processor_and_of_a_gpu_do_not_mix(monkeypatch):
    before = Run(load("smoke")).scores.folder
    monkeypatch.setattr("lib.device.DEVICE", "cuda")
    assert Run(load("smoke")).scores.folder != before


def test_a_dictionary_that_is_named_by_its_file_counts_with_the_config_beside_it(tmp_path):
    (tmp_path / "ae.pt").write_text("weights")
    before = plain(Asset(str(tmp_path / "ae.pt")))
    (tmp_path / "config.json").write_text("{}")
    assert plain(Asset(str(tmp_path / "ae.pt"))) != before


def test_a_model_under_another_path_is_the_same_model(tmp_path):
    for name in "ab":
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text("{}")
    assert plain(Asset(str(tmp_path / "a"))) == plain(Asset(str(tmp_path / "b")))
