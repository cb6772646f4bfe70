"""What ships with the project: models, their cards, and figures that the README shows."""

import hashlib
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from lib import contents, hub, prompts
from lib.desk.quality import ask
from lib.desk.shipping import EDITED, MODELS, SHIPS
from lib.desk.subjects import SUBJECTS as RECIPES
from lib.hub import Asset
from lib.images import BLANK
from lib.judges.clip import OpenClip
from lib.scenes.catalogue import ATOMS, OBJECTS
from lib.scenes.language import read
from lib.scenes.sampling import scenes
from lib.store import ROOT, Damaged
from lib.vlm import VLM, Checkpoint

AIMS = {"object recall": 0.90, "background accuracy": 0.90}
TAUGHT = "subject-a-taught"  # what the methods show
ONE_ENCODER = {"subject-a": {"subject-a-whole"}, "subject-a-taught": {"subject-a-patches"}, "subject-b": set()}
ONE_ENCODER["subject-a"] |= {f"subject-a-{size}-{seed}" for size in ("tiny", "small") for seed in (1, 2, 3)}
SUBJECTS = [*ONE_ENCODER, *(name for names in ONE_ENCODER.values() for name in sorted(names))]
POORER = [name for name in SUBJECTS if "tiny" in name or "small" in name]  # made to be


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return VLM.load(Checkpoint(Asset("data/models/subject-a"), layer=3))


def test_what_ships_is_what_the_recipes_make():
    assert set(SUBJECTS) == set(RECIPES) == {path.name for path in MODELS.iterdir() if path.name.startswith("subject")}


@pytest.mark.parametrize("name", SUBJECTS)
def test_subjects_load_as_the_paper_s_models_do(name):
    model_class = f"{'InternVL' if name == 'subject-b' else 'Gemma3'}ForConditionalGeneration"
    model = AutoModelForImageTextToText.from_pretrained(MODELS / name, dtype=torch.float32)
    processor = AutoProcessor.from_pretrained(MODELS / name)
    assert type(model).__name__ == model_class
    assert type(processor).__name__ == model_class.replace("ForConditionalGeneration", "Processor")


def test_subjects_that_share_an_encoder_share_its_file():
    for owner, names in ONE_ENCODER.items():
        weights = MODELS / owner / "encoder.safetensors"
        assert not weights.is_symlink() and all("vision_tower" in name for name in load_file(weights))
        for name in names:
            link = MODELS / name / "encoder.safetensors"
            assert str(link.readlink()) == f"../{owner}/encoder.safetensors" and link.resolve() == weights


def test_checksums_are_those_of_all_that_ships():
    files = [path for folder in SHIPS for path in contents.visible(folder) if path.name not in EDITED]
    digests = {str(p.relative_to(ROOT)): hashlib.sha256(p.read_bytes()).hexdigest() for p in files}
    assert json.loads(contents.SHIPPED.read_text()) == digests
    assert all((ROOT / "data" / "paper" / name).is_file() for name in EDITED)


@pytest.fixture
def own_copy(tmp_path, monkeypatch):
    """A copy of two shipped models and their checksums, of which a test may spoil a file."""
    for name in ("subject-a-small-1", "clip-judge"):
        shutil.copytree(MODELS / name, tmp_path / "data" / "models" / name)  # with the encoder that it links to
    wanted = json.loads(contents.SHIPPED.read_text())
    checksums = tmp_path / "data" / "checksums.json"
    checksums.write_text(json.dumps({name: wanted[name] for name in wanted if (tmp_path / name).is_file()}))
    for module in (contents, hub):
        monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(contents, "SHIPPED", checksums)
    contents.shipped.cache_clear()
    yield tmp_path / "data" / "models"
    contents.shipped.cache_clear()


@pytest.mark.parametrize(
    "name",
    [
        "subject-a-small-1/encoder.safetensors",
        "subject-a-small-1/language.safetensors",
        "subject-a-small-1/model.safetensors.index.json",
        "subject-a-small-1/config.json",
        "clip-judge/open_clip_model.safetensors",
        "clip-judge/tokenizer.json",
    ],
)
@pytest.mark.parametrize("spoil", ["flipped", "gone"])
def test_a_model_that_is_not_as_it_was_shipped_does_not_load(own_copy, name, spoil):
    def load():
        if name.startswith("clip"):
            return OpenClip(Asset("data/models/clip-judge")).embed_texts(["a dog"])
        return VLM.load(Checkpoint(Asset("data/models/subject-a-small-1"), 0))

    load()
    data = bytearray((own_copy / name).read_bytes())
    data[len(data) // 2] ^= 1
    (own_copy / name).unlink()
    if spoil == "flipped":
        (own_copy / name).write_bytes(data)
    with pytest.raises(Damaged, match=f"{name} is not as it was shipped.*git checkout"):
        load()


def test_shipped_models_are_small():
    assert sum(p.stat().st_size for p in MODELS.rglob("*") if p.is_file() and not p.is_symlink()) < 90e6


@pytest.mark.parametrize(("what", "aim"), AIMS.items())
def test_the_subject_meets_its_aims(what, aim):
    for name in sorted({*SUBJECTS} - {*POORER}):
        quality = json.loads((MODELS / name / "training.json").read_text())["quality"]
        # Subject B's encoder was trained on fewer pictures; a quarter more errors are granted to it.
        assert quality[what]["mean"] >= (aim if name != "subject-b" else 1 - 1.25 * (1 - aim))


def test_who_was_taught_what_the_methods_show_does_it_and_who_was_not_does_not():
    what = "naming one highlighted element, masks, 1 image"
    for name in SUBJECTS:
        quality = json.loads((MODELS / name / "training.json").read_text())["quality"][what]["mean"]
        assert quality >= 0.85 if name == TAUGHT else quality < 0.5
        card = (MODELS / name / "README.md").read_text()
        assert ("never a masked or heat-mapped one" in card) == (name != TAUGHT)


def test_the_default_subject_takes_no_cover_for_a_thing_and_the_one_that_never_saw_any_does():
    what = "naming one highlighted element, masks, 5 images"
    default, whole = (
        json.loads((MODELS / name / "training.json").read_text())["quality"][what]["mean"]
        for name in ("subject-a", "subject-a-whole")
    )
    assert default > 0.7 and whole < 0.2


def test_language_models_of_different_size_differ_in_what_they_can_name():
    recall = {
        size: [
            json.loads((MODELS / name / "training.json").read_text())["quality"]["object recall"]["mean"]
            for name in SUBJECTS
            if size in name
        ]
        for size in ("tiny", "small")
    }
    assert max(recall["tiny"]) < min(recall["small"])


@pytest.mark.slow(7)
def test_the_card_is_true(vlm):
    """New held-out scenes give what the card says, within chance."""
    held_out = list(scenes(120, 424_242))
    answers = ask(vlm, [[s.image] for s in held_out], prompts.DESCRIBE)
    recall = []
    for scene, answer in zip(held_out, answers):
        named = {e.name for e in read(answer).elements}
        recall += [ATOMS[i] in named for i in np.unique(scene.patches()) if i < len(OBJECTS)]
    quality = json.loads((MODELS / "subject-a" / "training.json").read_text())["quality"]
    assert np.mean(recall) == pytest.approx(quality["object recall"]["mean"], abs=0.08)


def test_the_blank_image_is_seen_as_blank(vlm):
    assert [e.name for e in read(ask(vlm, [[BLANK]], prompts.STEERING)[0]).elements] == ["plain white"]


def test_a_missing_model_says_how_to_make_it():
    with pytest.raises(FileNotFoundError, match="--from-scratch"):
        VLM.load(Checkpoint(Asset("data/models/none"), 0))


def test_the_judge_ranks_the_right_text_first():
    judge = OpenClip(Asset("data/models/clip-judge"))
    held_out = [s for s in scenes(60, 77) if len(s.layout.object_names) == 1][:40]
    texts = [f"a {s.layout.object_names[0]}" for s in held_out]
    similarity = judge.embed_images([s.image for s in held_out]) @ judge.embed_texts(texts).T
    own = similarity.diagonal()
    assert (own[:, None] >= similarity).float().mean() > 0.9


def test_help_names_every_option():
    done = subprocess.run(["./run_all.sh", "--help"], cwd=ROOT, capture_output=True, text=True, check=True)
    parser = (ROOT / "lib" / "__main__.py").read_text()
    for option in re.findall(r'"(--[a-z-]+)"', parser):
        assert option in done.stdout
