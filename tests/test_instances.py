"""Instances of a scene: exactly the drawn pixels, told apart by the object that was placed."""

import numpy as np
import pytest

from lib.scenes.catalogue import ATOM_INDEX, elements
from lib.scenes.drawing import Layout, Placed, draw
from lib.scenes.images import SceneImages
from lib.scenes.instances import GROUND, largest_instance, owners
from lib.scenes.judges import SceneSegmenter
from lib.scenes.sampling import Mix

TWO = Layout("grass", (Placed("dog", 25, 48, 40), Placed("dog", 70, 48, 24), Placed("fox", 25, 60, 30, True)))


@pytest.mark.parametrize("mix", [Mix(), Mix(wallpaper=1.0, closeup=0.0, empty=0.0)])
def test_owners_have_the_atoms_of_the_drawn_scene(mix):
    images = SceneImages(5, 0, 25, mix)
    for number in range(25):
        scene = images.scene(number)
        names = [ATOM_INDEX[placed.name] for placed in scene.layout.objects] + [ATOM_INDEX[scene.layout.surface]]
        assert np.array_equal(np.array(names)[owners(scene.layout)], scene.atoms)  # GROUND is the last


def test_what_stands_in_front_hides_what_is_behind():
    owner, alone = owners(TWO), owners(Layout("grass", TWO.objects[:1]))
    assert set(np.unique(owner)) == {GROUND, 0, 1, 2}
    assert ((owner == 0) & (alone == 0)).sum() == (owner == 0).sum() < (alone == 0).sum()


def test_the_largest_instance_is_that_of_which_most_is_seen():
    owner, dog = owners(TWO), frozenset([ATOM_INDEX["dog"]])
    first = largest_instance(TWO, dog)
    assert np.array_equal(first, owner == max((0, 1), key=lambda i: (owner == i).sum()))
    assert np.array_equal(largest_instance(TWO, frozenset([ATOM_INDEX["grass"]])), owner == GROUND)
    assert not largest_instance(TWO, frozenset([ATOM_INDEX["whale"]])).any()
    both = largest_instance(TWO, elements()["animal"].atoms)
    assert both.sum() == max((owner == i).sum() for i in range(3))


class Drawn(SceneImages):
    def scene(self, index):
        return draw(TWO)


def test_the_first_mask_is_one_instance_of_the_first_thing_that_is_there():
    segmenter, owner = SceneSegmenter(Drawn(0, 0, 1)), owners(TWO)
    first = segmenter.segment("a dog on grass", 0, first_only=True)
    assert np.array_equal(first, largest_instance(TWO, frozenset([ATOM_INDEX["dog"]])))
    assert first.sum() < segmenter.segment("a dog", 0).sum() == np.isin(owner, [0, 1]).sum()
    assert np.array_equal(segmenter.segment("a whale on grass", 0, first_only=True), owner == GROUND)
    for text in ("a whale", "nothing of the kind", ""):
        mask = segmenter.segment(text, 0, first_only=True)
        assert mask.shape == owner.shape and not mask.any()
