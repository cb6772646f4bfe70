"""Streams at any scale: they resume, fit into memory by halves, and leave broken pictures out."""

import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from lib.activations import ShuffledActivations, activations
from lib.codes import watch
from lib.device import halved
from lib.evidence import stream
from lib.explain import Explainer
from lib.images import UnreadableImage
from lib.kept import TopImages
from lib.methods import STEERING


class Holes:
    """A set of which some pictures cannot be read."""

    def __init__(self, images, broken):
        self.images, self.broken = images, broken

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        if index in self.broken:
            raise UnreadableImage(str(index), "broken")
        return self.images[index]


@pytest.fixture
def shuffled(tiny_vlm, pictures):
    return ShuffledActivations(tiny_vlm, pictures, batch=50, size=4, buffer=400, seed=3)


def test_every_patch_comes_once_but_for_the_last_of_a_buffer(tiny_vlm, pictures, shuffled):
    batches = list(shuffled.batches())
    assert len(batches) == len(shuffled) == 2 * (7 * 64 // 50) + 6 * 64 // 50  # 7 of 20 pictures fill a buffer
    seen = torch.cat(batches)
    every = torch.cat(list(activations(tiny_vlm, pictures, range(20), 6)))
    distances = torch.cdist(seen, every)
    assert distances.min(1).values.max() < 1e-2 and len(distances.argmin(1).unique()) == len(seen)
    first = torch.cat(list(activations(tiny_vlm, pictures, [0], 1)))
    assert not torch.allclose(batches[0], first[:50], atol=1e-2)


def test_a_stream_starts_anywhere_and_encodes_no_buffer_that_is_spent(tiny_vlm, pictures, shuffled, monkeypatch):
    whole = list(shuffled.batches())
    encoded = []
    real = tiny_vlm.residual
    monkeypatch.setattr(tiny_vlm, "residual", lambda images: encoded.append(len(images)) or real(images))
    part = list(shuffled.batches(11))
    assert all(torch.equal(a, b) for a, b in zip(whole[11:], part)) and len(part) == len(whole) - 11
    assert sum(encoded) == 20 - 7


@pytest.mark.parametrize("broken", [{2, 9}, set(range(14, 20)), set(range(7, 14)), set(range(1, 20))])
def test_however_many_pictures_of_a_stretch_are_broken_every_batch_comes(tiny_vlm, pictures, broken):
    some = ShuffledActivations(tiny_vlm, Holes(pictures, broken), batch=50, size=4, buffer=400, seed=3)
    batches = list(some.batches())
    assert len(batches) == len(some) and all(len(b) == 50 for b in batches)
    assert torch.equal(torch.cat(list(some.batches(12))), torch.cat(batches[12:]))  # also when it starts in the middle


def test_a_batch_is_never_filled_from_less_than_one_batch_of_patches(tiny_vlm, pictures):
    rest = {"size": 4, "buffer": 400, "seed": 3}
    with pytest.raises(
        ValueError, match="1280 patches of 20 pictures are fewer than one batch of 1281: raise images.tr"
    ):
        ShuffledActivations(tiny_vlm, pictures, batch=1281, **rest)
    with pytest.raises(ValueError, match="0 patches of 0 pictures are fewer"):
        ShuffledActivations(tiny_vlm, [], batch=1, **rest)
    for broken, left in ((set(range(20)), 0), (set(range(1, 20)), 64)):
        holes = Holes(pictures, broken)
        with pytest.raises(ValueError, match=f"{left} patches of 20 pictures.*sae.batch.*skipped.csv"):
            list(ShuffledActivations(tiny_vlm, holes, batch=100, **rest).batches())
    with pytest.raises(ValueError, match="none of 20 pictures can be read"):
        torch.cat(list(activations(tiny_vlm, Holes(pictures, set(range(20))), range(20), 6)))
    assert list(activations(tiny_vlm, pictures, [], 6)) == []


def test_broken_pictures_are_no_evidence_and_indices_stay_right(tiny_vlm, tiny_sae, pictures):
    top, whole = TopImages(24, 5, 64), TopImages(24, 20, 64)
    watch(stream(tiny_vlm, tiny_sae, Holes(pictures, {2, 9}), 3, "test"), top)
    watch(stream(tiny_vlm, tiny_sae, pictures, 6, "test"), whole)
    found, every = top.result(), whole.result()
    assert not np.isin(found.image.numpy(), (2, 9)).any()
    for latent in range(24):
        expected = [int(i) for i in every.image[latent] if int(i) not in (2, 9)][:5]
        assert found.image[latent].tolist() == expected


def out_of_memory_above(most, work):
    """``work`` on a device that holds ``most`` items."""

    def run(items):
        if len(items) > most:
            raise torch.OutOfMemoryError("too much")
        return work(items)

    return run


def test_a_batch_that_does_not_fit_is_halved_and_the_order_stays():
    with pytest.warns(UserWarning, match="a batch of 7 does not fit into memory: halved"):
        assert halved(out_of_memory_above(2, lambda items: [i * 10 for i in items]), range(7)) == list(range(0, 70, 10))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert halved(out_of_memory_above(7, list), range(7)) == list(range(7))
    with pytest.raises(torch.OutOfMemoryError), pytest.warns(UserWarning):
        halved(out_of_memory_above(0, list), range(2))


def test_explanations_are_the_same_in_halves(tiny_vlm, tiny_sae, pictures, monkeypatch):
    top = TopImages(24, 3, 64)
    watch(stream(tiny_vlm, tiny_sae, pictures, 6, "test"), top)
    explainer = Explainer(tiny_vlm, tiny_sae.directions, 10.0, batch=6, max_new_tokens=5)
    whole = explainer.explain(range(6), STEERING.add.at(2.0))
    real = tiny_vlm.answer
    monkeypatch.setattr(
        tiny_vlm, "answer", lambda q, n, change: out_of_memory_above(2, lambda _: real(q, n, change))(q)
    )
    with pytest.warns(UserWarning, match="halved"):
        assert explainer.explain(range(6), STEERING.add.at(2.0)).equals(whole)


def test_pictures_of_any_size_are_shown(tiny_vlm):
    wide = Image.new("RGB", (300, 40), "red")
    assert tiny_vlm.residual([wide, wide.rotate(90, expand=True)]).shape[:2] == (2, 64)
