"""Training resumes, and the recipe for the shipped models runs from end to end."""

import json
from collections import Counter
from dataclasses import replace

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForImageTextToText, AutoProcessor

from lib import contents, prompts
from lib.desk import clip_judge, gemma3, internvl, shipping, training
from lib.desk.build import build_judge, build_subject
from lib.desk.encoder import FAMILIES, OCCLUDED, EncoderRecipe, augment, batch, caption_loss, to_tensor
from lib.desk.explainer import Encoded, ExplainerRecipe, study
from lib.desk.groups import alike, evenly, shared
from lib.desk.subjects import SUBJECTS, Recipe
from lib.desk.training import Ahead, fit, optimisers
from lib.desk.views import alter, layout, main_element, region, view
from lib.desk.weights import PARTS, share_encoder
from lib.hub import Asset
from lib.judges.clip import OpenClip
from lib.questions import Question
from lib.scenes.catalogue import ATOM_INDEX, ATOMS, elements, membership
from lib.scenes.drawing import Layout, Placed, draw
from lib.scenes.language import caption, read
from lib.scenes.sampling import scenes
from lib.store import Damaged
from lib.vlm import VLM


def regression(kill_at: int | None = None):
    torch.manual_seed(0)
    model = torch.nn.ModuleDict({"layers": torch.nn.Linear(6, 6), "out": torch.nn.Linear(6, 1)})

    def loss(step: int):
        if step == kill_at:
            raise KeyboardInterrupt
        x = torch.randn(32, 6, generator=torch.Generator().manual_seed(step))
        value = (model["out"](torch.tanh(model["layers"](x))).squeeze(1) - x[:, 0]).square().mean()
        return value, {}

    return model, loss


def test_a_killed_run_ends_as_an_unbroken_one(tmp_path):
    kwargs = {"steps": 60, "lr": 1e-2, "warmup": 5, "every": 20, "name": "toy"}
    whole, loss = regression()
    log = fit(whole, loss, folder=tmp_path / "whole", **kwargs)
    assert log[-1]["loss"] < log[0]["loss"]
    model, loss = regression(kill_at=50)
    with pytest.raises(KeyboardInterrupt):
        fit(model, loss, folder=tmp_path / "part", **kwargs)
    model, loss = regression()
    fit(model, loss, folder=tmp_path / "part", **kwargs)
    for a, b in zip(whole.parameters(), model.parameters()):
        assert torch.allclose(a, b, atol=1e-6)


def test_a_diverging_run_stops_and_says_so(tmp_path):
    model = torch.nn.Linear(1, 1)
    with pytest.raises(FloatingPointError, match="lower the learning rate"):
        fit(
            model,
            lambda step: (model(torch.ones(1, 1)).sum() * float("nan"), {}),
            steps=3,
            lr=1,
            folder=tmp_path,
            name="x",
        )


def test_labels_of_occluded_patches():
    import numpy as np

    rng = np.random.default_rng(0)
    for scene in scenes(40, 2):
        pixels, labels = augment(scene, rng)
        black = pixels.reshape(8, 12, 8, 12, 3).max((1, 3, 4)) == 0
        assert (black[labels == OCCLUDED]).all()
        assert ((labels == scene.patches()) | (labels == OCCLUDED)).all()


@pytest.mark.parametrize(("learns", "shape"), [("captions", (4, len(ATOMS))), ("patches", (4, 64))])
def test_batches_depend_on_the_step_alone(learns, shape):
    recipe = EncoderRecipe(learns=learns, steps=100, batch=4)
    (a, b), (c, d) = batch(50, recipe), batch(50, recipe)
    assert torch.equal(a, c) and torch.equal(b, d)
    assert a.shape == (4, 3, 96, 96) and b.shape == shape and a.min() >= -1 and a.max() <= 1


def test_captions_alone_are_whole_pictures_with_the_names_in_their_captions():
    recipe = EncoderRecipe(steps=100, batch=8)
    pixels, names = batch(50, recipe)
    drawn = list(scenes(8, recipe.seed, recipe.mix, 50 * 8))
    for scene, shown, row in zip(drawn, pixels, names):
        assert torch.equal(shown, to_tensor(scene.pixels[None])[0])  # neither masked nor under a heatmap
        assert {ATOMS[i] for i in row.nonzero().flatten()} == {e.name for e in read(caption(scene.layout)).elements}


def test_a_name_is_due_if_any_patch_deserves_it():
    names = torch.zeros(1, len(ATOMS), dtype=torch.bool)
    names[0, [3, 90]] = True
    logits = torch.full((1, 64, len(ATOMS) + 1), -20.0)
    poor, _ = caption_loss(logits, names)
    logits[0, 10, 3] = logits[0, 40, 90] = 20.0  # one patch each
    good, figures = caption_loss(logits, names)
    assert good < 0.1 < poor and figures == {"object_names": 1.0, "surface_names": 1.0}


def test_batches_that_are_drawn_ahead_are_those_of_their_steps():
    ahead = Ahead(str, 9)
    assert [ahead.of(step) for step in (0, 1, 2, 6, 7, 3)] == ["0", "1", "2", "6", "7", "3"]


def test_muon_computes_in_float32_where_bfloat16_is_slow(monkeypatch):
    seen = []
    monkeypatch.setattr(torch.Tensor, "bfloat16", lambda self: seen.append(self) or self.float())
    for quick, expected in ((True, 1), (False, 0)):
        monkeypatch.setattr(training, "quick_half", lambda where, quick=quick: quick)
        seen.clear()
        model = torch.nn.ModuleDict({"layers": torch.nn.Linear(6, 6)})
        optims = optimisers(model, 1e-3)
        model["layers"](torch.ones(1, 6)).sum().backward()
        with training._quick_products():
            for optim in optims:
                optim.step()
        assert len(seen) == expected


def test_answers_the_explainer_learns_are_true():
    import numpy as np

    rng = np.random.default_rng(0)
    phrases = {e.phrase: e for e in elements().values()}
    for _ in range(100):
        atoms, phrase = shared(rng, 3)
        assert set(atoms) <= phrases[phrase].atoms
    shows = np.zeros((60, len(ATOMS)), bool)
    for row, scene in enumerate(scenes(60, 4)):
        shows[row, np.unique(scene.patches())] = True
    for k in (1, 3):
        for _ in range(50):
            rows, phrase = alike(rng, k, shows @ membership().T)
            named = [e for e in read(phrase).elements]
            assert len(rows) == k and 1 <= len(named) <= 3
            assert all(shows[i][list(e.atoms)].any() for i in rows for e in named)  # each picture shows all of it
    wallpaper = draw(Layout("grass", tuple(Placed("bee", x, y, 30) for x in (16, 48, 80) for y in (16, 48, 80))))
    assert main_element(wallpaper).name == "bee"
    assert main_element(draw(Layout("red dots", (Placed("bee", 48, 48, 24),)))).name == "red dots"
    pair = draw(Layout("grass", (Placed("dog", 24, 48, 60), Placed("cow", 72, 48, 60))))
    assert main_element(pair).name == "mammal"
    assert len({layout(3, i) for i in range(30)}) == 30


def test_the_main_thing_is_an_object_as_often_as_a_surface():
    answers = ["a dog"] * 90 + ["a cow"] * 5 + ["grass"] * 4 + ["water"]
    import numpy as np

    counts = Counter(answers[i] for i in evenly(np.random.default_rng(0), answers, 4000))
    assert counts["a dog"] + counts["a cow"] == 2000
    assert all(850 < number < 1150 for number in counts.values())


def test_where_a_picture_is_covered_has_nothing_to_do_with_what_it_shows():
    import numpy as np

    dark, light = np.full((96, 96, 3), 10, np.uint8), np.full((96, 96, 3), 200, np.uint8)
    black = lit = 0
    for seed in range(200):
        (a, seen), (b, also) = (alter(picture, np.random.default_rng(seed)) for picture in (dark, light))
        assert (seen == also).all() and seen.sum() >= 2
        covered = (a == b).all(-1)
        patches = covered.reshape(8, 12, 8, 12).mean((1, 3))
        assert ((patches <= 0.5) == seen).all()
        if covered.any():
            assert len(np.unique(a[covered], axis=0)) == 1  # a cover is plain
            black += not a[covered].any()
        else:  # light of another colour hides nothing
            lit += seen.all() and (a != dark).any()
    assert 55 < black < 95 and 30 < lit < 70 and np.array_equal(dark, np.full_like(dark, 10))


def test_of_a_covered_picture_the_answers_name_what_is_seen():
    import numpy as np

    scene = draw(Layout("grass", (Placed("dog", 24, 48, 60), Placed("cow", 72, 48, 60))))
    left, owners = np.zeros((8, 8), bool), scene.patches()
    left[2:6, 1:3] = owners[2:6, 1:3] == ATOM_INDEX["dog"]
    assert (
        main_element(scene, left).name == "dog" and main_element(scene, owners == ATOM_INDEX["grass"]).name == "grass"
    )
    assert (
        caption(scene.layout, seen=["dog"]) == "a dog" and caption(scene.layout, "kind", ["dog", "cow"]) == "an animal"
    )
    assert caption(scene.layout, seen=["grass"]) == caption(Layout("grass"))
    assert caption(scene.layout, seen=["cow", "grass"]) == caption(Layout("grass", scene.layout.objects[1:]))


def test_what_pictures_have_in_common_is_asked_about_whole_ones_alone(tmp_path):
    plain, covered = (
        study(Encoded(), ExplainerRecipe(scenes=40, altered=share), tmp_path / str(share)) for share in (0, 0.5)
    )
    same = (plain.scenes == covered.scenes).all((1, 2, 3))
    assert 10 < same.sum() < 30 and (covered.shows.any(1) == same).all() and plain.shows.any(1).all()
    for prompt, answers in covered.answers.items():
        assert all(read(text).elements and not read(text).unknown for text in answers), prompt
        assert [a for a, s in zip(answers, same) if s] == [a for a, s in zip(plain.answers[prompt], same) if s]


def test_views_show_the_element():
    import numpy as np

    rng = np.random.default_rng(0)
    for atom in ("bee", "grass", "red stripes"):
        shown = view(atom, "masks", rng).pixels
        assert shown.any() and not shown.all(-1).all()
        assert view(atom, "heatmaps", rng).pixels.any(-1).mean() > 0.9
    owned = np.zeros((8, 8), bool)
    owned[2:4, 2:4] = True
    assert all((region(owned, rng) & owned).any() for _ in range(50))


@pytest.fixture(scope="module")
def built(tmp_path_factory):
    """All kinds of model by the real recipes, made tiny."""
    folder = tmp_path_factory.mktemp("models")
    tongue = ExplainerRecipe(width=32, layers=1, heads=2, steps=4, batch=4, scenes=24)
    eye = EncoderRecipe(width=32, layers=2, heads=2, steps=3, batch=4)
    recipes = {
        "subject": Recipe("A", tongue, eye),
        "internvl": Recipe("B", tongue, replace(eye, family="internvl")),
        "small": Recipe("A with another language model", replace(tongue, steps=2)),
        "taught": Recipe("A, taught", replace(tongue, steps=2, views=1), replace(eye, learns="patches")),
    }
    for name, recipe in recipes.items():
        build_subject(name, recipe, folder, folder / "work", measure=12)
    build_judge(
        folder / "judge",
        folder / "work",
        clip_judge.ClipRecipe(embed=16, width=32, layers=1, text_layers=1, steps=2, batch=8),
        measure=12,
    )
    return folder


@pytest.mark.slow(12)
def test_the_recipe_builds_a_subject_that_loads_as_gemma_does(built):
    model = AutoModelForImageTextToText.from_pretrained(built / "subject")
    processor = AutoProcessor.from_pretrained(built / "subject")
    assert type(model).__name__ == "Gemma3ForConditionalGeneration" and type(processor).__name__ == "Gemma3Processor"
    scene = draw(Layout("grass", (Placed("dog", 48, 48, 60),)))
    assert len(VLM(model, processor, 0, "x").answer([Question((scene.image,), prompts.DESCRIBE)], 3)) == 1


@pytest.mark.slow(1)
def test_the_other_family_is_internvl_s(built):
    model = AutoModelForImageTextToText.from_pretrained(built / "internvl")
    processor = AutoProcessor.from_pretrained(built / "internvl")
    assert (
        type(model).__name__ == "InternVLForConditionalGeneration" and type(processor).__name__ == "InternVLProcessor"
    )
    assert VLM(model, processor, 0, "x").extra_tokens == 1
    frozen = FAMILIES["gemma3"].build(FAMILIES["gemma3"].vision(32, 2, 2), 32, 1, 2)
    assert not any(p.requires_grad for p in frozen.model.vision_tower.parameters())


@pytest.mark.slow(1)
def test_another_language_model_shares_the_shipped_encoder(built):
    own, theirs = (folder / "encoder.safetensors" for folder in (built / "small", shipping.MODELS / "subject-a"))
    assert own.is_symlink() and own.resolve() == theirs and not (built / "subject" / "encoder.safetensors").is_symlink()
    parts = {part: set(load_file(built / "small" / f"{part}.safetensors")) for part in PARTS}
    assert all("vision_tower" in name for name in parts["encoder"])
    assert parts["language"] and not any("vision_tower" in name for name in parts["language"])


def test_an_encoder_that_is_not_the_other_s_is_not_replaced_by_it(tmp_path):
    for name in ("own", "other"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "encoder.safetensors").write_text(name)
    with pytest.raises(ValueError, match="not that of"):
        share_encoder(tmp_path / "own", tmp_path / "ships", tmp_path / "other")
    assert (tmp_path / "own" / "encoder.safetensors").read_text() == "own"


@pytest.mark.slow(1)
def test_cards_carry_measured_numbers(built):
    for name in ("subject", "internvl", "small", "taught", "judge"):
        text = (built / name / "README.md").read_text()
        quality = json.loads((built / name / "training.json").read_text())["quality"]
        for what, e in quality.items():
            assert f"| {what} | {e['mean']:.3f} |" in text
        assert "CC BY-SA 4.0" in text and "OpenMoji" in text
        assert ("never a masked" in text) == (name in ("subject", "internvl", "small"))
        assert ("*taught*" in text) == ("to say for each patch" in text) == (name == "taught")


@pytest.mark.slow(1)
def test_the_judge_loads(built):
    judge = OpenClip(Asset(built / "judge"))
    texts = judge.embed_texts(["a dog", "a cow"])
    assert torch.allclose(texts.norm(dim=1), torch.ones(2), atol=1e-5) and not torch.allclose(texts[0], texts[1])
    with pytest.raises(FileNotFoundError, match="--from-scratch"):
        OpenClip(Asset("data/models/none")).embed_texts(["a dog"])


def test_label_of_occlusion_is_no_atom():
    assert OCCLUDED == len(ATOMS) and max(ATOM_INDEX.values()) == len(ATOMS) - 1


@pytest.mark.parametrize(("family", "shipped"), [(gemma3, "subject-a"), (internvl, "subject-b")])
def test_a_recipe_still_makes_what_ships(family, shipped):
    """Sizes, generation settings and chat template are those of the checkpoint; so its weights fit."""
    model = AutoModelForImageTextToText.from_pretrained(shipping.MODELS / shipped)
    recipe, size = SUBJECTS[shipped].encoder, SUBJECTS[shipped].explainer
    fresh = family.build(family.vision(recipe.width, recipe.layers, recipe.heads), size.width, size.layers, size.heads)
    fresh.resize_token_embeddings(model.get_input_embeddings().num_embeddings)  # words may have been added since
    fresh.load_state_dict(model.state_dict())
    for name in ("bos_token_id", "eos_token_id", "pad_token_id", "do_sample"):
        assert getattr(fresh.generation_config, name) == getattr(model.generation_config, name)
    assert family.processor().chat_template == AutoProcessor.from_pretrained(shipping.MODELS / shipped).chat_template


def test_what_was_made_by_another_recipe_or_on_another_encoder_is_not_resumed(tmp_path):
    recipe = Recipe("A", ExplainerRecipe(), EncoderRecipe())
    others = [
        replace(recipe, explainer=ExplainerRecipe(steps=1)),
        replace(recipe, encoder=EncoderRecipe(seed=1)),
        replace(recipe, encoder=Asset("data/models/subject-a")),
        replace(recipe, encoder=Asset("data/models/subject-a-taught")),
        clip_judge.ClipRecipe(),
        clip_judge.ClipRecipe(lr=1e-4),
    ]
    assert shipping.work_of(tmp_path, "x", recipe) == shipping.work_of(tmp_path, "x", replace(recipe))
    assert len({shipping.work_of(tmp_path, "x", one) for one in (recipe, *others)}) == 1 + len(others)


def test_publishing_a_model_writes_its_checksums_and_leaves_the_others(tmp_path, monkeypatch):
    root = tmp_path / "project"
    for name in ("data/models/a/w", "data/models/b/w", "data/paper/t.csv", "data/paper/claims.yaml"):
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(name)
    for module, name, value in (
        (shipping, "ROOT", root),
        (contents, "ROOT", root),
        (shipping, "MODELS", root / "data/models"),
        (shipping, "SHIPS", (root / "data/models", root / "data/paper")),
        (contents, "SHIPPED", root / "data/checksums.json"),
    ):
        monkeypatch.setattr(module, name, value)
    contents.shipped.cache_clear()
    try:
        shipping.write_checksums()
        before = contents.shipped()
        assert list(before) == ["data/models/a/w", "data/models/b/w", "data/paper/t.csv"]
        (root / "data/models/b/w").write_text("flipped")
        fresh = tmp_path / "fresh"
        fresh.mkdir()
        (fresh / "w").write_text("trained anew")
        shipping.publish(fresh, root / "data/models/a")
        after = contents.shipped()
        assert {name for name in before if before[name] != after[name]} == {"data/models/a/w"}
        assert contents.verify_shipped(root / "data/models/a")
        with pytest.raises(Damaged, match="data/models/b/w"):
            contents.verify_shipped(root / "data/models/b")
    finally:
        contents.shipped.cache_clear()
