"""The judges of photographs load published formats, find the union of all masks, and never do their work twice."""

import json
import random

import numpy as np
import pytest
import tiny_judges
import torch
from PIL import Image

from lib.judges import grounding, sam3
from lib.judges.diffusion import PREFIX, Diffusion
from lib.judges.grounding import BoxFiller, Detector, GroundedSegmenter
from lib.judges.reader import BATCH, KINDS, LanguageModelReader, leading_words, read_phrases
from lib.judges.sam3 import Sam3Segmenter


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
    return str(tiny_judges.build_grounding_dino(tmp_path_factory.mktemp("dino")))


@pytest.fixture(scope="module")
def sam2(tmp_path_factory):
    folder = tmp_path_factory.mktemp("sam2")
    return str(folder), None, *tiny_judges.build_sam2(folder)


@pytest.fixture(scope="module")
def sd3(tmp_path_factory):
    return str(tiny_judges.build_sd3(tmp_path_factory.mktemp("sd3")))


@pytest.fixture(scope="module")
def sam3_model(tmp_path_factory):
    return str(tiny_judges.build_sam3(tmp_path_factory.mktemp("sam3")))


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
    reader = LanguageModelReader(Scripted("..."), tmp_path)
    assert reader.phrases("Long, receding perspective") == ["long"]
    assert reader.phrases("A picture taken with a lens") == ["a picture taken"]
    assert leading_words("...") == []


def test_empty_texts_are_never_asked_about(tmp_path):
    ask = Scripted("yes")
    reader = LanguageModelReader(ask, tmp_path)
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
    assert getattr(LanguageModelReader(Scripted(answer), tmp_path), kind)("a text") == expected


def test_each_text_is_asked_about_once_in_batches_and_answers_outlive_the_reader(tmp_path):
    ask = Scripted(lambda prompt: f"Phrases: thing {prompt.rpartition(' ')[2]}")
    texts = [f"text {i}" for i in range(BATCH + 3)]
    reader = LanguageModelReader(ask, tmp_path)
    reader.prepare("phrases", [*texts, *texts, ""])
    assert [len(call) for call in ask.calls] == [BATCH, 3]
    assert reader.phrases("text 7") == ["thing 7"] and reader.phrases(" text  7\n") == ["thing 7"]
    assert ask.calls[0][0] == KINDS["phrases"].prompt + "text 0"
    later = LanguageModelReader(ask, tmp_path)
    assert later.phrases("text 34") == ["thing 34"] and len(ask.calls) == 2
    raw = json.loads((tmp_path / "phrases.json").read_text())
    assert list(raw) == texts and raw["text 3"] == "Phrases: thing 3"  # as answered, not as read


def test_a_kill_loses_one_batch_at_the_most(tmp_path):
    def ask(prompts, max_new_tokens):
        if len(prompts) < BATCH:
            raise KeyboardInterrupt
        return ["animal"] * len(prompts)

    with pytest.raises(KeyboardInterrupt):
        LanguageModelReader(ask, tmp_path).prepare("label", [f"text {i}" for i in range(BATCH + 1)])
    assert len(json.loads((tmp_path / "label.json").read_text())) == BATCH


def test_readers_side_by_side_lose_no_answer_and_agree(tmp_path):
    one, two = LanguageModelReader(Scripted("animal"), tmp_path), LanguageModelReader(Scripted("other"), tmp_path)
    one.label("a"), two.label("b")
    assert two.label("a") == "animal" and one.label("b") == "other"
    assert set(json.loads((tmp_path / "label.json").read_text())) == {"a", "b"}


def test_wrong_use_of_the_reader_is_an_error(tmp_path):
    with pytest.raises(ValueError, match="choose from phrases, label"):
        LanguageModelReader(Scripted(""), tmp_path).prepare("labels", ["a"])
    with pytest.raises(ValueError, match="1 prompts got 0 answers"):
        LanguageModelReader(lambda prompts, n: [], tmp_path).label("a")
    with pytest.raises(ValueError, match="without texts"):
        LanguageModelReader(Scripted(""), tmp_path).cluster_name([""], ["b"])


def test_a_cluster_is_named_from_twenty_texts_in_any_order(tmp_path):
    ask = Scripted("**Name:** Animals with very long ears.\nThey share ears.")
    reader = LanguageModelReader(ask, tmp_path)
    inside, outside = [f"hare number {i}" for i in range(50)], [f"car number {i}" for i in range(50)]
    assert reader.cluster_name(inside, outside) == "Animals with very long"
    random.Random(1).shuffle(inside)
    assert reader.cluster_name(inside, outside[::-1]) == "Animals with very long" and len(ask.calls) == 1
    assert ask.calls[0][0].count("hare number") == ask.calls[0][0].count("car number") == 20
    assert LanguageModelReader(Scripted(""), tmp_path / "mute").cluster_name(["Red cars, wet"], []) == "red cars"


# Boxes and masks


class Boxes:
    """A detector with fixed boxes."""

    def __init__(self, boxes):
        self.found, self.asked = np.array(boxes, np.float32).reshape(-1, 4), []

    def boxes(self, picture, phrases):
        self.asked.append((picture.mode, phrases))
        return self.found


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


def stubbed(photographs, boxes, **changes) -> GroundedSegmenter:
    out = GroundedSegmenter(photographs, Phrases(), "x/detector", None, "x/sam2", None, "x.yaml", (), **changes)
    out.detector, out.filler = Boxes(boxes), BoxFiller("x/sam2", None, "x.yaml", ())
    out.filler._predictor = Rectangles()
    return out


def test_the_mask_is_the_union_of_all_boxes_and_first_only_stops_at_the_first(photographs):
    boxes = [[0, 0, 10, 10], [5, 5, 20, 20], [60, 40, 80, 60]]
    mask = stubbed(photographs, boxes).segment("a dog, grass", 0)
    expected = np.zeros((60, 80), bool)
    expected[:10, :10] = expected[5:20, 5:20] = expected[40:, 60:] = True
    assert mask.dtype == bool and np.array_equal(mask, expected)
    first = stubbed(photographs, boxes, first_only=True).segment("a dog, grass", 0)
    assert first.sum() == 100 and first[:10, :10].all()


def test_more_boxes_than_fit_at_once_are_all_used(photographs):
    boxes = [[i, 0, i + 1, 60] for i in range(0, 80, 2)]
    assert len(boxes) > 2 * grounding.BOXES
    assert stubbed(photographs, boxes).segment("stripes", 0).sum() == 40 * 60


def test_nothing_named_or_found_is_an_empty_mask_of_the_pictures_size(photographs):
    silent = stubbed(photographs, [[0, 0, 9, 9]])
    assert silent.segment("", 1).shape == (50, 70) and not silent.segment("", 1).any()
    assert not silent.detector.asked  # nothing is loaded for it
    lost = stubbed(photographs, [])
    assert lost.segment("a dog", 1).shape == (50, 70) and not lost.segment("a dog", 1).any()
    assert lost.detector.asked[0] == ("RGB", ["a dog"]) and not lost.filler._predictor.pictures


def test_a_picture_is_embedded_once_for_texts_in_a_row(photographs):
    segmenter = stubbed(photographs, [[0, 0, 9, 9]])
    for text, image in (("a", 0), ("b", 0), ("b", 1), ("a", 1), ("a", 0)):
        assert segmenter.segment(text, image).sum() == 81
    assert segmenter.filler._predictor.pictures == [(60, 80, 3), (50, 70, 3), (60, 80, 3)]


def test_phrases_become_the_detectors_prompt():
    assert Detector.prompt(["a Dog", "St. Bernard", "grass"]) == "a dog. st bernard. grass."


def test_grounding_dino_gives_boxes_in_pixels_above_its_thresholds(dino, photographs):
    found = {
        (box, word): Detector(dino, None, box, word).boxes(photographs[0], ["a dog", "grass"])
        for box, word in ((0.0, 0.0), (0.99, 0.0), (0.0, 0.99), (1.0, 0.0))
    }
    whole = found[0.0, 0.0]
    assert whole.shape == (10, 4) and whole.dtype == np.float32 and 1 < np.abs(whole).max() < 160
    assert 0 < len(found[0.99, 0.0]) < 10 and 0 < len(found[0.0, 0.99]) < 10
    assert found[1.0, 0.0].shape == (0, 4)


def test_grounding_dino_and_sam2_load_and_segment(dino, sam2, photographs, monkeypatch):
    segmenter = GroundedSegmenter(photographs, Phrases(), dino, None, *sam2, threshold=0.0, text_threshold=0.0)
    assert "_loaded" not in vars(segmenter.detector) and "_predictor" not in vars(segmenter.filler)  # not before use
    mask = segmenter.segment("a dog, grass", 0)
    first = GroundedSegmenter(
        photographs, Phrases(), dino, None, *sam2, threshold=0.0, text_threshold=0.0, first_only=True
    )
    assert first.filler is segmenter.filler and first.detector is segmenter.detector  # one set of weights
    one = first.segment("a dog, grass", 0)
    assert mask.shape == one.shape == (60, 80) and mask.dtype == bool
    assert one.any() and mask[one].all() and mask.sum() > one.sum()
    # The number format of a GPU.
    monkeypatch.setattr(grounding, "autocast", lambda: torch.autocast("cpu", torch.bfloat16))
    assert segmenter.segment("a dog", 1).shape == (50, 70)


def test_sam2_wants_one_file_of_weights_that_fits_and_holds_nothing_else(sam2, tmp_path):
    folder, _, config, overrides = sam2
    with pytest.raises(FileNotFoundError, match="0 files sam2.1"):
        BoxFiller(str(tmp_path), None, config, overrides).checkpoint()
    with pytest.raises(FileNotFoundError, match="no model in data/nowhere"):
        BoxFiller("data/nowhere", None, config, overrides).checkpoint()
    weights = torch.load(f"{folder}/sam2.1_hiera_tiny.pt", weights_only=True)
    weights["model"].popitem()
    torch.save(weights, tmp_path / "sam2.1_part.pt")
    with pytest.raises(RuntimeError, match="Missing key"):
        BoxFiller(str(tmp_path), None, config, overrides)._predictor  # noqa: B018

    class Bomb:
        def __reduce__(self):
            return (pytest.fail, ("unpickled",))

    torch.save({"model": Bomb()}, tmp_path / "sam2.1_part.pt")
    with pytest.raises(Exception, match="weights_only|Weights only"):
        BoxFiller(str(tmp_path), None, config, overrides)._predictor  # noqa: B018


# SAM 3


class Instances:
    """SAM 3 that finds one column per letter of the phrase; nothing for a cat."""

    def masks(self, picture, phrase):
        letters = [] if phrase == "cat" else [ord(letter) - ord("a") for letter in phrase]
        return np.array([np.arange(picture.width)[None] == np.full((picture.height, 1), i) for i in letters]).reshape(
            -1, picture.height, picture.width
        )


def test_sam3_masks_are_united_over_phrases_and_instances(photographs):
    segmenter = Sam3Segmenter(photographs, Phrases(), "x/sam3", None)
    segmenter.model = Instances()
    assert segmenter.segment("cat, ab, dz", 0).any(0).nonzero()[0].tolist() == [0, 1, 3, 25]
    assert segmenter.segment("", 1).shape == (50, 70) and not segmenter.segment("cat", 1).any()
    segmenter.first_only = True
    assert segmenter.segment("cat, ba, dz", 0).any(0).nonzero()[0].tolist() == [1]
    assert not segmenter.segment("cat", 1).any()


def test_sam3_loads_segments_and_embeds_a_picture_once(sam3_model, photographs, monkeypatch):
    segmenter = Sam3Segmenter(photographs, Phrases(), sam3_model, None, threshold=0.0)
    assert "_loaded" not in vars(segmenter.model)
    model = segmenter.model._loaded[0]
    calls, embed = [], model.get_vision_features
    monkeypatch.setattr(model, "get_vision_features", lambda **kw: calls.append(1) or embed(**kw))
    mask = segmenter.segment("a dog, grass", 0)
    assert mask.shape == (60, 80) and mask.dtype == bool and mask.any()
    picture = photographs[0].convert("RGB")
    each = [segmenter.model.masks(picture, phrase) for phrase in ("a dog", "grass")]
    assert [len(masks) for masks in each] == [5, 5] and np.array_equal(mask, np.concatenate(each).any(0))
    first = Sam3Segmenter(photographs, Phrases(), sam3_model, None, threshold=0.0, first_only=True)
    assert first.model is segmenter.model and np.array_equal(first.segment("a dog", 0), each[0][0])
    assert len(calls) == 1
    monkeypatch.setattr(sam3, "autocast", lambda: torch.autocast("cpu", torch.bfloat16))
    assert segmenter.segment("a dog", 1).shape == (50, 70) and len(calls) == 2
    assert not Sam3Segmenter(photographs, Phrases(), sam3_model, None, threshold=1.0).segment("a dog", 1).any()


# Drawings


def pixels(pictures):
    return [np.array(picture) for picture in pictures]


def painter(sd3, folder, **changes) -> Diffusion:
    return Diffusion(sd3, None, folder, **{"steps": 2, "size": 64, "without_t5": True} | changes)


def test_drawings_are_kept_and_the_same_at_every_call(sd3, tmp_path, monkeypatch):
    first = painter(sd3, tmp_path / "a")
    drawn = pixels(first.generate("a dog", 3))
    assert [d.shape for d in drawn] == [(64, 64, 3)] * 3 and drawn[0].std() > 1
    assert not np.array_equal(drawn[0], drawn[1])  # each has its own noise
    again = pixels(painter(sd3, tmp_path / "b").generate("a dog", 3))
    assert all(map(np.array_equal, drawn, again))
    assert not np.array_equal(pixels(first.generate("a cat", 1))[0], drawn[0])
    assert len(list((tmp_path / "a").iterdir())) == 4
    # Kept ones need no model, in a new session either.
    fresh = painter("x/no-such-model", tmp_path / "a")
    monkeypatch.setattr(fresh, "_settings", first._settings)
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
    """A pipeline that records its calls, and has memory for so many pictures."""

    def __init__(self, fits):
        self.fits, self.calls = fits, []

    def __call__(self, prompt, num_images_per_prompt, generator, **settings):
        self.calls.append((prompt, num_images_per_prompt, settings))
        if num_images_per_prompt > self.fits:
            raise torch.OutOfMemoryError("full")
        shades = [int(torch.randint(256, (1,), generator=g)) for g in generator]
        return type("Made", (), {"images": [Image.new("RGB", (4, 4), (shade, 0, 0)) for shade in shades]})


def test_pictures_that_do_not_fit_together_are_drawn_alone_and_alike(tmp_path):
    wide, narrow, full = (painter("x/model", tmp_path / str(fits)) for fits in (9, 1, 0))
    wide._pipeline, narrow._pipeline, full._pipeline = Easel(9), Easel(1), Easel(0)
    assert all(map(np.array_equal, pixels(wide.generate("a dog", 3)), pixels(narrow.generate("a dog", 3))))
    narrow.generate("a cat", 2)
    assert [call[1] for call in narrow._pipeline.calls] == [3, 1, 1, 1, 1, 1]  # a batch is not tried again
    prompt, _, settings = wide._pipeline.calls[0]
    assert prompt == PREFIX + "a dog" and settings["guidance_scale"] == 7.5 and settings["height"] == 64
    with pytest.raises(torch.OutOfMemoryError):
        full.generate("a dog", 2)
    assert not list(tmp_path.glob("0/*.png"))
