"""The judges of photographs load published formats, find the union of all masks, and never do their work twice."""

import inspect
import json
import random
import shutil
import warnings
from dataclasses import dataclass, replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import tiny_judges
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lib import identity
from lib.hub import Asset
from lib.images import UnreadableImage
from lib.judges import Generator, ImageTextModel, Reader, Segmenter, grounding, sam3
from lib.judges.clip import OpenClip
from lib.judges.diffusion import PREFIX, Diffusion
from lib.judges.grounding import GroundedSegmenter
from lib.judges.masks import Latest
from lib.judges.reader import BATCH, KINDS, LanguageModelReader, leading_words, read_phrases
from lib.judges.sam3 import Sam3Segmenter
from lib.judges.sentences import SentenceEmbedder
from lib.scenes.images import SceneImages
from lib.scenes.judges import SceneGenerator, SceneReader, SceneSegmenter
from lib.scenes.sampling import Mix
from lib.store import ROOT, Damaged
from lib.vlm import Checkpoint

SCENES = SceneImages(seed=1, start=0, n=2)


@dataclass(frozen=True)
class Phrases:
    """Reads a text as a list with commas."""

    def phrases(self, text):
        return [part for part in text.split(", ") if part]


class Scripted:
    """A language model with fixed answers; counts calls."""

    def __init__(self, answer):
        self.answer, self.calls = answer, []

    def __call__(self, prompts, max_new_tokens):
        self.calls.append(list(prompts))
        return [self.answer(prompt) if callable(self.answer) else self.answer for prompt in prompts]


@pytest.fixture(scope="module")
def photographs():
    rng = np.random.default_rng(0)
    noise = Image.fromarray(rng.integers(0, 255, (60, 80, 3), dtype=np.uint8))
    return [noise, Image.new("L", (70, 50), 90)]  # photographs may be grey


@pytest.fixture(scope="module")
def dino(tmp_path_factory):
    return Asset(tiny_judges.build_grounding_dino(tmp_path_factory.mktemp("dino")))


@pytest.fixture(scope="module")
def sam2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam2")
    return Asset(folder), *tiny_judges.build_sam2(folder)


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    return Asset(tiny_judges.build_sd3(tmp_path_factory.mktemp("sd3")))


@pytest.fixture(scope="module")
def sam3_model(tmp_path_factory):
    return Asset(tiny_judges.build_sam3(tmp_path_factory.mktemp("sam3")))


@pytest.fixture(scope="module")
def sentences(tmp_path_factory):
    return Asset(tiny_judges.build_sentences(tmp_path_factory.mktemp("sentences")))


MODEL = Checkpoint(Asset("data/models/subject-a-small-1"), 0)


def asking(ask, folder, checkpoint=MODEL) -> LanguageModelReader:
    """A reader whose model is ``ask``, which takes prompts and the length of an answer."""
    model = SimpleNamespace(answer=lambda questions, length: ask([q.prompt for q in questions], length))
    return LanguageModelReader(checkpoint, folder, lambda: model)


# Reader


@pytest.mark.parametrize(
    "answer, phrases",
    [
        ("Phrases: a dog, green grass, blue sky.", ["a dog", "green grass", "blue sky"]),
        ("phrases: A Dog, a dog; Grass!", ["a dog", "grass"]),
        ("Sure, here they are:\n\n* **a dog**\n* grass", ["a dog", "grass"]),
        ("1. a dog\n2) grass\n(3) sky\n4. none", ["a dog", "grass", "sky"]),
        ("1. dog 2. grass", ["dog", "grass"]),
        ('"black-and-white dog", a cat, and the sky', ["black-and-white dog", "a cat", "the sky"]),
        ("one large brown dog lying on the green grass", ["one large brown dog lying"]),
        ("cow, pig, hen, owl, cat, dog", ["cow", "pig", "hen", "owl", "cat"]),
        ("Phrases: None.", []),
        ("There is nothing visible", []),
        ("Phrases:", None),
        (" ... ", None),
    ],
)
def test_phrases_are_read_from_any_list(answer, phrases):
    assert read_phrases(answer) == phrases


def test_an_unusable_answer_is_replaced_by_the_first_words_of_the_text(tmp_path):
    reader = asking(Scripted("..."), tmp_path)
    assert reader.phrases("Long, receding perspective") == ["long"]
    assert reader.phrases("A picture taken with a lens") == ["a picture taken"]
    assert leading_words("...") == []


def test_empty_texts_are_never_asked_about(tmp_path):
    ask = Scripted("yes")
    reader = asking(ask, tmp_path)
    assert reader.phrases(" ") == [] and reader.label("") == "other" and reader.level("") == "unreadable"
    assert not reader.is_blank("\n") and not ask.calls


@pytest.mark.parametrize(
    "kind, answer, expected",
    [
        ("label", "It is Background, not animal", "background"),
        ("label", "**Animals**", "animal"),
        ("label", "a backgrounded thing", "other"),
        ("level", "Low level", "low-level"),
        ("level", "Answer: place (a scene)", "place"),
        ("level", "objects", "object"),
        ("level", "hm", "unreadable"),
        ("is_blank", "Yes.", True),
        ("is_blank", "No, yes would be wrong", False),
        ("is_blank", "perhaps", False),
    ],
)
def test_words_are_found_in_answers(tmp_path, kind, answer, expected):
    assert getattr(asking(Scripted(answer), tmp_path), kind)("a text") == expected


def test_each_text_is_asked_about_once_in_batches_and_answers_outlive_the_reader(tmp_path):
    ask = Scripted(lambda prompt: f"Phrases: thing {prompt.rpartition(' ')[2]}")
    texts = [f"text {i}" for i in range(BATCH + 3)]
    reader = asking(ask, tmp_path)
    reader.prepare("phrases", [*texts, *texts, ""])
    assert [len(call) for call in ask.calls] == [BATCH, 3]
    assert reader.phrases("text 7") == ["thing 7"] and reader.phrases(" text  7\n") == ["thing 7"]
    assert ask.calls[0][0] == KINDS["phrases"].prompt + "text 0"
    later = asking(ask, tmp_path)
    assert later.phrases("text 34") == ["thing 34"] and len(ask.calls) == 2
    raw = json.loads((later.answers / "phrases.json").read_text())
    assert list(raw) == texts and raw["text 3"] == "Phrases: thing 3"  # as answered, not as read


def test_a_kill_loses_one_batch_at_the_most(tmp_path):
    def ask(prompts, max_new_tokens):
        if len(prompts) < BATCH:
            raise KeyboardInterrupt
        return ["animal"] * len(prompts)

    reader = asking(ask, tmp_path)
    with pytest.raises(KeyboardInterrupt):
        reader.prepare("label", [f"text {i}" for i in range(BATCH + 1)])
    assert len(json.loads((reader.answers / "label.json").read_text())) == BATCH


def test_readers_side_by_side_lose_no_answer_and_agree(tmp_path):
    one, two = asking(Scripted("animal"), tmp_path), asking(Scripted("other"), tmp_path)
    one.label("a"), two.label("b")
    assert two.label("a") == "animal" and one.label("b") == "other"
    assert set(json.loads((one.answers / "label.json").read_text())) == {"a", "b"}


def test_answers_of_another_model_or_to_another_question_are_never_reused(tmp_path, monkeypatch):
    folder = shutil.copytree(ROOT / MODEL.model, tmp_path / "model")
    own = Checkpoint(Asset(folder), 0)
    reader = asking(Scripted("animal"), tmp_path, own)
    assert reader.label("a") == "animal" and asking(Scripted("other"), tmp_path, own).label("a") == "animal"
    with (folder / "config.json").open("a") as file:
        file.write(" ")
    assert asking(Scripted("other"), tmp_path, own).label("a") == "other"
    monkeypatch.setattr(identity, "reached", lambda modules: ({"lib.judges.reader": "edited"}, set()))
    assert asking(Scripted("background"), tmp_path, own).label("a") == "background"


@pytest.mark.parametrize("left", ["", '{"a": "ani', "null", "[]", "\0\0"])
def test_damaged_answers_are_named(tmp_path, left):
    reader = asking(Scripted("animal"), tmp_path)
    reader.label("a")
    (reader.answers / "label.json").write_text(left)
    with pytest.raises(Damaged, match=r"label\.json"):
        asking(Scripted("animal"), tmp_path).label("b")


def test_wrong_use_of_the_reader_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="choose from phrases, label"):
        asking(Scripted(""), tmp_path).prepare("labels", ["a"])
    with pytest.raises(ValueError, match="1 prompts got 0 answers"):
        asking(lambda prompts, n: [], tmp_path).label("a")
    with pytest.raises(ValueError, match="without texts"):
        asking(Scripted(""), tmp_path).cluster_name([""], ["b"])


def test_a_cluster_is_named_from_twenty_texts_in_any_order(tmp_path):
    ask = Scripted("**Name:** Animals with very long ears.\nThey share ears.")
    reader = asking(ask, tmp_path)
    inside, outside = [f"hare number {i}" for i in range(50)], [f"car number {i}" for i in range(50)]
    assert reader.cluster_name(inside, outside) == "Animals with very long"
    random.Random(1).shuffle(inside)
    assert reader.cluster_name(inside, outside[::-1]) == "Animals with very long" and len(ask.calls) == 1
    assert ask.calls[0][0].count("hare number") == ask.calls[0][0].count("car number") == 20
    assert asking(Scripted(""), tmp_path / "mute").cluster_name(["Red cars, wet"], []) == "red cars"


# Boxes and masks


class Rectangles:
    """SAM 2's predictor, if every thing filled its box."""

    def __init__(self):
        self.pictures = []

    def set_image(self, pixels):
        self.pictures.append(pixels.shape)

    def predict(self, box, multimask_output):
        masks = np.zeros((len(box), 1, *self.pictures[-1][:2]), np.float32)
        for mask, (left, top, right, bottom) in zip(masks, box.astype(int)):
            mask[0, top:bottom, left:right] = 1
        return (masks[0] if len(box) == 1 else masks), None, None  # as the package has it


@dataclass(frozen=True)
class Stubbed(GroundedSegmenter):
    """A detector with fixed boxes, and a SAM 2 that fills them."""

    found: tuple = ()

    def boxes(self, picture, phrases):
        self.asked.append((picture.mode, phrases))
        return np.array(self.found, np.float32).reshape(-1, 4)


def a_model(folder: Path) -> Asset:
    """A model that is not looked into."""
    (folder / "model").mkdir(exist_ok=True)
    return Asset(folder / "model")


@pytest.fixture
def stubbed(photographs, monkeypatch, tmp_path):
    def build(boxes) -> Stubbed:
        found, model = tuple(map(tuple, boxes)), a_model(tmp_path)
        out = Stubbed(photographs, Phrases(), tmp_path, model, model, "x.yaml", found=found)
        rectangles = Rectangles()
        vars(out).update(asked=[], pictures=rectangles.pictures)
        filler = Latest(lambda picture: rectangles.set_image(np.array(picture)) or rectangles)
        monkeypatch.setattr(grounding, "_filler", lambda *settings: filler)
        return out

    return build


def test_the_mask_is_the_union_of_all_boxes_and_first_only_stops_at_the_first(stubbed):
    boxes = [[0, 0, 10, 10], [5, 5, 20, 20], [60, 40, 80, 60]]
    mask = stubbed(boxes).segment("a dog, grass", 0)
    expected = np.zeros((60, 80), bool)
    expected[:10, :10] = expected[5:20, 5:20] = expected[40:, 60:] = True
    assert mask.dtype == bool and np.array_equal(mask, expected)
    first = stubbed(boxes).segment("a dog, grass", 0, first_only=True)
    assert first.sum() == 100 and first[:10, :10].all()


def test_a_text_is_looked_for_in_a_picture_once_whoever_asks_for_which_mask(stubbed, tmp_path):
    boxes = [[0, 0, 10, 10], [5, 5, 20, 20]]
    one, other = stubbed(boxes), stubbed(boxes)
    masks = [one.segment("a dog", 0), one.segment("a dog", 0, first_only=True)]
    assert len(one.asked) == 1 and masks[0].sum() == 300 and masks[1].sum() == 100
    assert np.array_equal(other.segment("a dog", 0), masks[0]) and not other.asked
    assert stubbed([[0, 0, 1, 1]]).segment("a dog", 0).sum() == 1  # another judge is asked itself
    assert other.segment("a dog", 1).shape == (50, 70) and len(other.asked) == 1
    for path in tmp_path.glob("*/0-*.png"):
        path.write_bytes(path.read_bytes()[:40])
    assert np.array_equal(other.segment("a dog", 0), masks[0]) and len(other.asked) == 2  # damaged: found anew


def test_more_boxes_than_fit_at_once_are_all_used(stubbed):
    boxes = [[i, 0, i + 1, 60] for i in range(0, 80, 2)]
    assert len(boxes) > 2 * grounding.BOXES
    assert stubbed(boxes).segment("stripes", 0).sum() == 40 * 60


def test_nothing_named_or_found_is_an_empty_mask_of_the_pictures_size(stubbed):
    silent = stubbed([[0, 0, 9, 9]])
    assert silent.segment("", 1).shape == (50, 70) and not silent.segment("", 1).any()
    assert not silent.asked  # nothing is loaded for it
    lost = stubbed([])
    assert lost.segment("a dog", 1).shape == (50, 70) and not lost.segment("a dog", 1).any()
    assert lost.asked[0] == ("RGB", ["a dog"]) and not lost.pictures


def test_a_picture_is_embedded_once_for_texts_in_a_row(stubbed):
    segmenter = stubbed([[0, 0, 9, 9]])
    for text, image in (("a", 0), ("b", 0), ("b", 1), ("a", 1), ("c", 0)):
        assert segmenter.segment(text, image).sum() == 81
    assert segmenter.pictures == [(60, 80, 3), (50, 70, 3), (60, 80, 3)]


def test_phrases_become_the_detectors_prompt():
    assert grounding.prompt(["a Dog", "St. Bernard", "grass"]) == "a dog. st bernard. grass."


def test_grounding_dino_gives_boxes_in_pixels_above_its_thresholds(dino, photographs, tmp_path):
    found = {
        (box, word): GroundedSegmenter(
            photographs, Phrases(), tmp_path, dino, Asset("x/sam2"), "x.yaml", threshold=box, text_threshold=word
        ).boxes(photographs[0], ["a dog", "grass"])
        for box, word in ((0.0, 0.0), (0.99, 0.0), (0.0, 0.99), (1.0, 0.0))
    }
    whole = found[0.0, 0.0]
    assert whole.shape == (10, 4) and whole.dtype == np.float32 and 1 < np.abs(whole).max() < 160
    assert 0 < len(found[0.99, 0.0]) < 10 and 0 < len(found[0.0, 0.99]) < 10
    assert found[1.0, 0.0].shape == (0, 4)


@pytest.mark.slow(4)
def test_grounding_dino_and_sam2_load_and_segment(dino, sam2, photographs, monkeypatch, tmp_path):
    segmenter = GroundedSegmenter(photographs, Phrases(), tmp_path, dino, *sam2, threshold=0.0, text_threshold=0.0)
    mask = segmenter.segment("a dog, grass", 0)
    loaded = grounding._filler.cache_info().currsize, grounding._detector.cache_info().currsize
    one = segmenter.segment("a dog, grass", 0, first_only=True)
    assert loaded == (grounding._filler.cache_info().currsize, grounding._detector.cache_info().currsize)
    assert mask.shape == one.shape == (60, 80) and mask.dtype == bool
    assert one.any() and mask[one].all() and mask.sum() > one.sum()
    # The number format of a GPU.
    monkeypatch.setattr(grounding, "autocast", lambda: torch.autocast("cpu", torch.bfloat16))
    assert segmenter.segment("a dog", 1).shape == (50, 70)


def test_sam2_wants_one_file_of_weights_that_fits_and_holds_nothing_else(sam2, tmp_path):
    folder, *settings = sam2
    with pytest.raises(FileNotFoundError, match="0 files sam2.1"):
        grounding.weights(Asset(tmp_path))
    with pytest.raises(FileNotFoundError, match="no folder data/nowhere"):
        grounding.weights(Asset("data/nowhere"))
    assert grounding.weights(Asset(f"{folder}/sam2.1_hiera_tiny.pt")) == grounding.weights(folder)
    weights = torch.load(f"{folder}/sam2.1_hiera_tiny.pt", weights_only=True)
    weights["model"].popitem()
    torch.save(weights, tmp_path / "sam2.1_part.pt")
    with pytest.raises(RuntimeError, match="Missing key"):
        grounding._filler(Asset(tmp_path), *settings)

    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    torch.save({"model": Bomb()}, tmp_path / "sam2.1_part.pt")
    with pytest.raises(Exception, match="weights_only|Weights only"):
        grounding._filler(Asset(tmp_path), *settings)


# SAM 3


@dataclass(frozen=True)
class Columns(Sam3Segmenter):
    """SAM 3 that finds one column per letter of the phrase; nothing for a cat."""

    def instances(self, picture, phrase):
        letters = [] if phrase == "cat" else [ord(letter) - ord("a") for letter in phrase]
        return np.array([np.arange(picture.width)[None] == np.full((picture.height, 1), i) for i in letters]).reshape(
            -1, picture.height, picture.width
        )


def test_sam3_masks_are_united_over_phrases_and_instances(photographs, tmp_path):
    segmenter = Columns(photographs, Phrases(), tmp_path, a_model(tmp_path))
    assert segmenter.segment("cat, ab, dz", 0).any(0).nonzero()[0].tolist() == [0, 1, 3, 25]
    assert segmenter.segment("", 1).shape == (50, 70) and not segmenter.segment("cat", 1).any()
    assert segmenter.segment("cat, ba, dz", 0, first_only=True).any(0).nonzero()[0].tolist() == [1]
    assert not segmenter.segment("cat", 1, first_only=True).any()


def test_the_first_mask_counts_even_if_it_is_empty(photographs, tmp_path):
    segmenter = Columns(photographs, Phrases(), tmp_path, a_model(tmp_path))  # `»` is a column beyond the picture
    assert segmenter.segment("», ab", 0).any() and not segmenter.segment("», ab", 0, first_only=True).any()


def test_sam3_loads_segments_and_embeds_a_picture_once(sam3_model, photographs, monkeypatch, tmp_path):
    segmenter = Sam3Segmenter(photographs, Phrases(), tmp_path, sam3_model, threshold=0.0)
    model = sam3._loaded(sam3_model)[0]
    calls, embed = [], model.get_vision_features
    monkeypatch.setattr(model, "get_vision_features", lambda **kw: calls.append(1) or embed(**kw))
    mask = segmenter.segment("a dog, grass", 0)
    assert mask.shape == (60, 80) and mask.dtype == bool and mask.any()
    picture = photographs[0].convert("RGB")
    each = [segmenter.instances(picture, phrase) for phrase in ("a dog", "grass")]
    assert [len(masks) for masks in each] == [5, 5] and np.array_equal(mask, np.concatenate(each).any(0))
    assert np.array_equal(segmenter.segment("a dog", 0, first_only=True), each[0][0])
    assert len(calls) == 1
    monkeypatch.setattr(sam3, "autocast", lambda: torch.autocast("cpu", torch.bfloat16))
    assert segmenter.segment("a dog", 1).shape == (50, 70) and len(calls) == 2
    assert not replace(segmenter, threshold=1.0).segment("a dog", 1).any()


def test_a_picture_that_cannot_be_read_is_named(stubbed, tmp_path):
    @dataclass(frozen=True)
    class Torn:
        def __getitem__(self, index):
            raise UnreadableImage("b.jpg", "truncated")

    for segmenter in (stubbed([[0, 0, 9, 9]]), Columns((), Phrases(), tmp_path, a_model(tmp_path))):
        with pytest.raises(UnreadableImage, match=r"b\.jpg"):
            replace(segmenter, images=Torn()).segment("a dog", 0)


def test_an_embedding_that_fails_is_not_taken_for_the_picture_before():
    pictures = [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in (1, 2)]
    full = [False]

    def embed(picture):
        if full[0]:
            raise torch.OutOfMemoryError("full")
        return picture.getpixel((0, 0))[0]

    latest = Latest(embed)
    assert latest(pictures[0]) == 1
    full[0] = True
    with pytest.raises(torch.OutOfMemoryError):
        latest(pictures[1])
    with pytest.raises(torch.OutOfMemoryError):
        latest(pictures[0])


# Drawings


def pixels(pictures):
    return [np.array(picture) for picture in pictures]


def painter(sd3, folder, **changes) -> Diffusion:
    return Diffusion(Asset(sd3), folder=folder, **{"steps": 2, "size": 64, "without_t5": True} | changes)


def test_drawings_are_kept_and_the_same_at_every_call(sd3, tmp_path):
    first = painter(sd3, tmp_path / "a")
    drawn = pixels(first.generate("a dog", 3))
    assert [d.shape for d in drawn] == [(64, 64, 3)] * 3 and drawn[0].std() > 1
    assert not np.array_equal(drawn[0], drawn[1])  # each has its own noise
    again = pixels(painter(sd3, tmp_path / "b").generate("a dog", 3))
    assert all(map(np.array_equal, drawn, again))
    assert not np.array_equal(pixels(first.generate("a cat", 1))[0], drawn[0])
    assert len(list((tmp_path / "a").iterdir())) == 4
    # Kept ones need no model, in a new session either.
    fresh = painter(sd3, tmp_path / "a")
    assert all(np.array_equal(x, y) for x, y in zip(drawn, pixels(fresh.generate("a dog", 3))))
    assert "_pipeline" not in vars(fresh)


def test_a_picture_is_the_same_alone_and_in_any_batch(sd3, tmp_path):
    together = pixels(painter(sd3, tmp_path / "a").generate("a dog", 3))
    one = painter(sd3, tmp_path / "b")
    one.generate("a dog", 1)
    alone = pixels(one.generate("a dog", 3))  # one by itself, then the other two
    # Sums are taken in another order, so one level in 256 may be rounded otherwise.
    assert max(np.abs(x.astype(int) - y).max() for x, y in zip(together, alone)) <= 1
    assert np.abs(together[0].astype(int) - together[1]).max() > 20


def test_other_settings_are_other_drawings(sd3, tmp_path):
    changes = ({}, {"seed": 1}, {"steps": 3}, {"guidance": 2.0}, {"size": 32}, {"without_t5": False})
    assert len({painter(sd3, tmp_path, **change)._path("a dog", 0) for change in changes}) == len(changes)


def test_an_empty_text_cannot_be_drawn(tmp_path):
    assert painter("x/no-such-model", tmp_path).generate(" \n", 3) == []


class Easel:
    """A pipeline that records its calls, has memory for so many pictures, and withholds some."""

    def __init__(self, fits, withheld=(), flagged=False):
        self.fits, self.withheld, self.flagged, self.calls = fits, withheld, flagged, []

    def __call__(self, prompt, num_images_per_prompt, generator, **settings):
        self.calls.append((prompt, num_images_per_prompt, settings))
        if num_images_per_prompt > self.fits:
            raise torch.OutOfMemoryError("full")
        shades = [int(torch.randint(255, (1,), generator=g)) for g in generator]
        shades = [0 if i in self.withheld and not self.flagged else 1 + shade for i, shade in enumerate(shades)]
        made = {"images": [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in shades]}
        if self.flagged:
            made["nsfw_content_detected"] = [i in self.withheld for i in range(len(shades))]
        return type("Made", (), made)


def drawing_on(easel, folder) -> Diffusion:
    out = painter(ROOT / "data/paper", folder)  # any folder
    vars(out)["_pipeline"] = easel
    return out


def test_pictures_that_do_not_fit_together_are_drawn_alone_and_alike(tmp_path):
    easels = Easel(9), Easel(1), Easel(0)
    wide, narrow, full = (drawing_on(easel, tmp_path / str(easel.fits)) for easel in easels)
    with pytest.warns(UserWarning, match="halved"):
        assert all(map(np.array_equal, pixels(wide.generate("a dog", 3)), pixels(narrow.generate("a dog", 3))))
    assert [call[1] for call in easels[1].calls] == [3, 1, 2, 1, 1]
    prompt, _, settings = easels[0].calls[0]
    assert prompt == PREFIX + "a dog" and settings["guidance_scale"] == 7.5 and settings["height"] == 64
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning, match="halved"):
        full.generate("a dog", 2)
    assert not list(tmp_path.glob("0/*.png"))


@pytest.mark.parametrize("flagged", [True, False])
def test_withheld_and_black_pictures_are_left_out_counted_and_not_drawn_again(tmp_path, flagged):
    easel = Easel(9, withheld={0, 2}, flagged=flagged)
    painter = drawing_on(easel, tmp_path)
    with pytest.warns(UserWarning, match=r"2 of 3 pictures of 'a dog'.*safety checker"):
        drawn = painter.generate("a dog", 3)
    assert len(drawn) == 1 and drawn[0].getbbox()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        again = drawing_on(easel, tmp_path).generate("a dog", 3)
    assert len(easel.calls) == 1 and np.array_equal(again[0], drawn[0])
    with pytest.warns(UserWarning, match="1 of 1"):
        assert drawing_on(Easel(9, withheld={0}, flagged=flagged), tmp_path).generate("a cat", 1) == []


@pytest.mark.parametrize("left", [b"", b"GIF89a", "half", "flipped"])
def test_a_damaged_drawing_is_drawn_again(tmp_path, left):
    painter = drawing_on(Easel(9), tmp_path)
    drawn = pixels(painter.generate("a dog", 2))
    path = painter._path("a dog", 0)
    whole = path.read_bytes()
    middle = len(whole) // 2
    torn = {"half": whole[:middle], "flipped": whole[:middle] + bytes([whole[middle] ^ 255]) + whole[middle + 1 :]}
    path.write_bytes(torn.get(left, left))
    assert all(map(np.array_equal, drawn, pixels(drawing_on(Easel(9), tmp_path).generate("a dog", 2))))
    assert path.read_bytes() == whole


# What judges depend on


def judges_of_photographs(dino, sam2, sam3_model, sd3, sentences, folder):
    """Each judge that is a model, and the files in which the model lies."""
    clip = Asset(shutil.copytree(ROOT / "data/models/clip-judge", folder / "clip"))
    checkpoint = Checkpoint(Asset(shutil.copytree(ROOT / MODEL.model, folder / "vlm")), 0)
    reader = asking(Scripted(""), folder, checkpoint)
    dino, sam2_model, sam3_model, sd3, sentences = (
        Asset(shutil.copytree(model, folder / f"model-{i}"))
        for i, model in enumerate((dino, sam2[0], sam3_model, sd3, sentences))
    )
    grounded = GroundedSegmenter(SCENES, reader, folder, dino, sam2_model, *sam2[1:])
    return {
        "detector": (grounded, dino),
        "segmenter": (grounded, sam2_model),
        "segmenter's reader": (grounded, checkpoint.model),
        "sam3": (Sam3Segmenter(SCENES, reader, folder, sam3_model), sam3_model),
        "generator": (Diffusion(sd3, folder=folder), sd3),
        "clip": (OpenClip(clip), clip),
        "reader": (reader, checkpoint.model),
        "sentences": (SentenceEmbedder(sentences), sentences),
    }


def test_a_model_that_is_overwritten_changes_what_its_judge_is(dino, sam2, sam3_model, sd3, sentences, tmp_path):
    for name, (judge, model) in judges_of_photographs(dino, sam2, sam3_model, sd3, sentences, tmp_path).items():
        before = identity.of(judge)
        assert identity.of(judge) == before, name
        file = next(path for path in sorted(Asset(model).local.rglob("*")) if path.suffix in (".safetensors", ".pt"))
        weights = bytearray(file.read_bytes())
        weights[-1] ^= 1
        file.write_bytes(weights)
        changed = identity.differences(before, identity.of(judge))
        assert len(changed) == 1 and "content" in changed[0], name


def test_where_pictures_and_answers_are_kept_changes_no_judge(sd3, tmp_path):
    here, there = (Diffusion(sd3, folder=tmp_path / name) for name in "ab")
    assert here == there and identity.of(here) == identity.of(there)
    one, two = (asking(Scripted(name), tmp_path / name) for name in "ab")
    assert one == two and identity.of(one) == identity.of(two) and one.answers.name == two.answers.name


def test_exact_judges_are_what_their_settings_are():
    judges = [SceneReader(), SceneSegmenter(SCENES), SceneSegmenter(SCENES[:1])]
    judges += [SceneGenerator(Mix(), 0), SceneGenerator(Mix(), 1), SceneGenerator(Mix(cooccurrence=0.1), 0)]
    assert len({identity.digest(identity.plain(judge)) for judge in judges}) == len(judges)
    assert "lib.scenes.language" in identity.of(judges[0])["modules"]


# Models that are not whole


def gap(folder, to, part):
    """A copy of a checkpoint that lacks the first weight whose name holds ``part``; and that name."""
    shutil.copytree(folder, to)
    for path in sorted(to.rglob("*.safetensors")):
        weights = load_file(path)
        for name in weights:
            if part in name:
                del weights[name]
                save_file(weights, path, metadata={"format": "pt"})
                return Asset(to), name
    raise AssertionError(f"no weight {part} in {folder}")


@pytest.mark.parametrize(
    "model, part, use",
    [
        (
            "dino",
            "model.decoder.layers.0",
            lambda m: GroundedSegmenter((), Phrases(), Path(), m, m, "").boxes(SCENES[0], ["a"]),
        ),
        ("sam3_model", "layers.1", lambda m: Sam3Segmenter((), Phrases(), Path(), m).instances(SCENES[0], "a")),
        ("sd3", "text_model", lambda m: painter(m, m.local / "drawn").generate("a", 1)),
        ("sd3", "transformer_blocks.0", lambda m: painter(m, m.local / "drawn").generate("a", 1)),
        ("sd3", "up_blocks.0", lambda m: painter(m, m.local / "drawn").generate("a", 1)),
        ("sentences", "layer.0", lambda m: SentenceEmbedder(m).embed(["a"])),
        ("clip", "resblocks.0", lambda m: OpenClip(m).embed_texts(["a"])),
    ],
)
def test_a_checkpoint_that_lacks_weights_is_refused_by_their_names(request, tmp_path, model, part, use):
    whole = ROOT / "data/models/clip-judge" if model == "clip" else request.getfixturevalue(model).local
    torn, name = gap(whole, tmp_path / "torn", part)
    with pytest.raises((Damaged, RuntimeError), match=r"(?i)missing") as error:
        use(torn)
    assert name.rpartition("layers")[2] in str(error.value)


def test_weights_that_nothing_reads_may_be_missing(sentences, tmp_path):
    torn, _ = gap(sentences.local, tmp_path / "torn", "pooler")
    texts = ["a dog", "grass"]
    assert torch.equal(SentenceEmbedder(torn).embed(texts), SentenceEmbedder(sentences).embed(texts))


def test_openais_clip_needs_its_activation(tmp_path):
    folder = shutil.copytree(ROOT / "data/models/clip-judge", tmp_path / "vit.openai")
    with pytest.raises(ValueError, match="QuickGELU"):
        OpenClip(Asset(folder)).embed_texts(["a"])


@pytest.mark.parametrize(
    ("protocol", "judge"),
    [
        (Segmenter, SceneSegmenter),
        (Segmenter, GroundedSegmenter),
        (Segmenter, Sam3Segmenter),
        (Generator, SceneGenerator),
        (Generator, Diffusion),
        (ImageTextModel, OpenClip),
        (Reader, SceneReader),
        (Reader, LanguageModelReader),
    ],
)
def test_every_judge_can_do_all_that_is_asked_of_its_kind(protocol, judge):
    """Photographs reach code that scenes never do: a judge that lacks a method would stop a run hours later."""
    for name, method in vars(protocol).items():
        if inspect.isfunction(method) and not name.startswith("_"):
            wanted, found = (list(inspect.signature(f).parameters) for f in (method, getattr(judge, name)))
            assert found[: len(wanted)] == wanted
