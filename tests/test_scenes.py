"""Emoji Scenes: drawing, masks, sentences."""

import time
from itertools import permutations

import numpy as np
import pytest

from lib.scenes.catalogue import ATOM_INDEX, ATOMS, OBJECTS, SURFACES, elements, habitats, membership, surfaces_of
from lib.scenes.drawing import GRID, PATCH, SIZE, Layout, Placed, draw, patch_atoms
from lib.scenes.images import split
from lib.scenes.language import caption, common_element, generalise, join, read
from lib.scenes.sampling import Mix, sample, scenes
from lib.scenes.textures import surface


def test_scenes_depend_on_seed_and_index_alone():
    first, again = list(scenes(6, 3)), list(scenes(4, 3, start=2))
    for a, b in zip(first[2:], again):
        assert np.array_equal(a.pixels, b.pixels) and np.array_equal(a.atoms, b.atoms)
    assert any(not np.array_equal(a.pixels, b.pixels) for a, b in zip(first, scenes(6, 4)))


def test_masks_are_exact():
    """Where the mask says surface the pixels are the surface's; where it says object they differ."""
    layout = Layout("plain blue", (Placed("apple", 40, 50, 60),))
    scene, empty = draw(layout), draw(Layout("plain blue"))
    apple = scene.atoms == ATOM_INDEX["apple"]
    assert 0.1 < apple.mean() < 0.5
    assert (scene.pixels[apple] != empty.pixels[apple]).any(-1).mean() > 0.999
    # Only half-transparent edge pixels may differ outside the mask.
    changed = (scene.pixels != empty.pixels).any(-1) & ~apple
    assert changed.sum() < 0.1 * apple.sum()


def test_front_object_hides_what_is_behind():
    behind, front = Placed("apple", 48, 48, 60), Placed("cookie", 48, 48, 84)
    assert ATOM_INDEX["apple"] in draw(Layout("grass", (behind,))).atoms
    assert ATOM_INDEX["apple"] not in draw(Layout("grass", (behind, front))).atoms


def test_patch_owner_is_the_object_that_fills_a_third():
    rng = np.random.default_rng(0)
    atoms = rng.choice([0, 1, len(OBJECTS), len(OBJECTS) + 1], (SIZE, SIZE), p=[0.2, 0.1, 0.4, 0.3]).astype(np.uint8)
    found = patch_atoms(atoms)
    for y in range(GRID):
        for x in range(GRID):
            block = atoms[y * PATCH : (y + 1) * PATCH, x * PATCH : (x + 1) * PATCH].ravel()
            counts = np.bincount(block, minlength=len(ATOMS))
            best = counts[: len(OBJECTS)].argmax()
            expected = best if counts[best] >= PATCH * PATCH / 3 else len(OBJECTS) + counts[len(OBJECTS) :].argmax()
            assert found[y, x] == expected


def test_caption_to_scene_to_caption():
    """Reading a scene's caption gives exactly what was drawn; drawing what was read gives the caption back."""
    for scene in scenes(300, 8):
        text = caption(scene.layout)
        found = read(text)
        assert not found.unknown
        assert found.atoms == {ATOM_INDEX[n] for n in (*scene.layout.object_names, scene.layout.surface)}
        names = [e.name for e in found.elements]
        redrawn = Layout(names[-1], tuple(Placed(n, 48, 48, 40) for n in names[:-1]))
        assert caption(redrawn) == text


def test_every_element_is_read_from_its_phrase_plural_and_synonyms():
    for element in elements().values():
        for text in (element.phrase, element.name, *element.synonyms):
            assert [e.name for e in read(text).elements] == [element.name], text


def test_elements_are_read_from_a_list_of_them_whichever_stand_side_by_side():
    """In "something red, stripes and a dog" no red stripes are named."""
    for one, other in permutations(elements().values(), 2):
        text = join([one.phrase, other.phrase, "a dog"])
        assert {e.name for e in read(text).elements} == {one.name, other.name, "dog"}, text


@pytest.mark.parametrize(
    ("sentence", "names", "unknown"),
    [
        ("It shows two muddy puppies on a lawn", ["dog", "grass"], ["muddy"]),
        ("A striped wall", ["stripes"], ["wall"]),
        ("red and white stripes", ["red stripes"], []),
        ("a unicorn", [], ["unicorn"]),
        ("butterflies, foxes and a hot dog", ["butterfly", "fox", "hotdog"], []),
        ("a blue car, a white wolf and two ice-creams", ["car", "mammal", "dessert"], []),
        ("something blue, food and a dog", ["blue", "food", "dog"], []),
        ("it's blue: a blue sky", ["blue", "sky"], []),
        ("", [], []),
    ],
)
def test_reading(sentence, names, unknown):
    found = read(sentence)
    assert [e.name for e in found.elements] == names
    assert list(found.unknown) == unknown


def test_captions_generalise():
    layout = Layout("red stripes", (Placed("dog", 48, 48, 50),))
    assert caption(layout) == "a dog in front of red stripes"
    assert caption(layout, "category") == "a mammal in front of stripes"
    assert caption(layout, "kind") == "an animal in front of a pattern"
    with pytest.raises(ValueError, match="detail must be"):
        generalise("dog", "vague")


def test_common_element_is_the_smallest_that_covers_all():
    assert common_element(["dog", "dog"]).name == "dog"
    assert common_element(["dog", "cow"]).name == "mammal"
    assert common_element(["dog", "bee"]).name == "animal"
    assert common_element(["red dots", "red stripes"]).name == "red"
    assert common_element(["dog", "pizza"]) is None


def test_cooccurrence_moves_objects_into_their_habitats():
    def share(knob: float) -> float:
        layouts = [sample(np.random.default_rng([1, i]), Mix(knob, 0, 0, 0, most_objects=1)) for i in range(400)]
        home = [lay.surface in {s for h in habitats(lay.objects[0].name) for s in surfaces_of(h)} for lay in layouts]
        return float(np.mean(home))

    assert share(1.0) == 1.0
    assert 0.75 < share(0.8) < 0.9
    assert share(0.0) < 0.25


def test_asked_for_elements_are_there():
    rng = np.random.default_rng(0)
    for name in list(OBJECTS)[:10]:
        assert name in sample(rng, obj=name).object_names
    for name in SURFACES[:10]:
        assert sample(rng, surface=name).surface == name


def test_membership_has_each_atom_once_as_itself():
    table = membership()
    assert table.shape == (len(elements()), len(ATOMS))
    assert (table[table.sum(1) == 1].sum(0) == 1).all()
    assert {ATOMS[i] for i in np.flatnonzero(table[list(elements()).index("boat")])} == {
        "sailboat",
        "speedboat",
        "canoe",
    }


def test_unknown_surface_is_an_error():
    with pytest.raises(KeyError, match="no surface named 'lava'"):
        surface("lava", 0)


def test_splits_are_disjoint():
    sets = split(3, Mix(), train=7, explain=5, evaluate=4)
    ids = [i for s in sets.values() for i in s.ids]
    assert len(ids) == len(set(ids)) == 16
    with pytest.raises(IndexError):
        sets["explain"].scene(5)
    pixels = {name: {s.scene(i).pixels.tobytes() for i in range(len(s))} for name, s in sets.items()}
    assert not pixels["explain"] & pixels["evaluate"] and not pixels["train"] & pixels["explain"]


def test_drawing_is_fast_enough():
    list(scenes(400, 1))  # fills the caches
    begun = time.process_time()
    list(scenes(600, 2))
    assert 600 / (time.process_time() - begun) >= 300
