"""Every family of models: its encoder is found, read, and steered, image by image and patch by patch.

Tiny random checkpoints of the real classes are loaded from disk, as real ones are.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import tiny_hub
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from lib.families import text_of, vision_layers
from lib.hooks import Intervention
from lib.hub import Asset
from lib.questions import Question
from lib.store import ROOT, Damaged
from lib.vlm import VLM, Checkpoint

LAYER, WIDTH = 1, tiny_hub.WIDTH
ONE_ROW = ("crop_to_patches", "do_image_splitting", "do_pan_and_scan")


@dataclass(frozen=True)
class Family:
    """What a family is known to be like.

    Attributes
    ----------
    build : writes a tiny checkpoint.
    layers : where the encoder's layers are.
    tower : where the encoder is.
    grid : patches along a side.
    class_token : tokens in front of the patches.
    order : patch (row by row) of each row of the stream; None if they are in that order.
    """

    build: Callable
    layers: str
    tower: str
    grid: int = 4
    class_token: int = 0
    order: tuple[int, ...] | None = None


# Qwen's stream goes by squares that merge (2 x 2 patches), in them row by row; where there are windows (4 x 4), they
# come one after the other.
SQUARES = tuple(8 * (2 * my + py) + 2 * mx + px for my, mx, py, px in product(range(4), range(4), range(2), range(2)))
WINDOWS = tuple(
    8 * (4 * wy + 2 * my + py) + 4 * wx + 2 * mx + px for wy, wx, my, mx, py, px in product(range(2), repeat=6)
)
FAMILIES = {
    "gemma3": Family(tiny_hub.build_gemma3, "model.vision_tower.encoder.layers", "vision_tower"),
    "internvl": Family(tiny_hub.build_internvl, "model.vision_tower.encoder.layer", "vision_tower", class_token=1),
    "smolvlm": Family(tiny_hub.build_smolvlm, "model.vision_model.encoder.layers", "vision_model"),
    "llava": Family(tiny_hub.build_llava, "model.vision_tower.encoder.layers", "vision_tower", class_token=1),
    "paligemma": Family(tiny_hub.build_paligemma, "model.vision_tower.encoder.layers", "vision_tower"),
    "qwen2vl": Family(tiny_hub.build_qwen2vl, "model.visual.blocks", "visual", grid=8, order=SQUARES),
    "qwen3vl": Family(tiny_hub.build_qwen3vl, "model.visual.blocks", "visual", grid=8, order=SQUARES),
    "qwen25vl": Family(tiny_hub.build_qwen25vl, "model.visual.blocks", "visual", grid=8, order=WINDOWS),
}


def load(folder: Path, layer: int = LAYER) -> VLM:
    return VLM.load(Checkpoint(Asset(folder), layer))


@pytest.fixture(scope="module", params=list(FAMILIES))
def loaded(request, tmp_path_factory) -> tuple[Family, VLM]:
    """A family, and a model of it from disk."""
    family = FAMILIES[request.param]
    folder = tmp_path_factory.mktemp(request.param)
    family.build(folder)
    return family, load(folder)


@pytest.fixture
def steerable(request, loaded) -> tuple[Family, VLM]:
    """A family whose stream has a row for each picture."""
    return loaded


@pytest.fixture(scope="module")
def shots() -> list[Image.Image]:
    """Pictures of noise, of several shapes; wide ones are what processors like to cut into tiles."""
    made = np.random.default_rng(0)
    return [
        Image.fromarray(made.integers(0, 255, (6, 6, 3), dtype=np.uint8)).resize(size, Image.Resampling.NEAREST)
        for size in ((224, 224), (300, 120), (80, 60), (224, 224))
    ]


def push(n: int, scale: float = 10.0) -> torch.Tensor:
    return scale * torch.randn(n, WIDTH, generator=torch.Generator().manual_seed(3))


def logits(vlm: VLM, questions: list[Question], change: Intervention | None = None) -> torch.Tensor:
    """First-token logits of each prompt, through the same calls as generation."""
    seen = []
    head = vlm.model.get_output_embeddings()
    handle = head.register_forward_hook(lambda _m, _i, out: seen.append(out[:, -1].clone()))
    try:
        vlm.answer(questions, 1, change)
    finally:
        handle.remove()
    return seen[0]


def by_hand(family: Family, vlm: VLM, image: Image.Image) -> torch.Tensor:
    """The stream after the layer for one image, patches row by row, without any hook of ours."""
    processor = vlm.processor.image_processor
    whole = {name: False for name in ONE_ROW if hasattr(processor, name)}
    made = processor(images=[image], return_tensors="pt", **whole)
    tower, pixels = getattr(vlm.model.model, family.tower), made["pixel_values"]
    if family.tower == "visual":
        given = {"hidden_states": pixels, "grid_thw": made["image_grid_thw"]}
    elif family.tower == "vision_model":
        everywhere = torch.ones(1, family.grid, family.grid, dtype=torch.bool)
        given = {"pixel_values": pixels[0], "patch_attention_mask": everywhere}
    else:
        given = {"pixel_values": pixels}
    with torch.inference_mode():
        states = tower(**given, output_hidden_states=True).hidden_states[LAYER + 1]  # 0 is before the first layer
    if family.order is None:
        return states[0, family.class_token :]
    rows = torch.empty_like(states)
    rows[list(family.order)] = states
    return rows


def test_the_layers_are_found(loaded):
    family, vlm = loaded
    layers = vision_layers(vlm.model)
    assert layers is vlm.model.get_submodule(family.layers) and len(layers) == 4
    assert vlm.layer is layers[LAYER]


def test_the_stream_is_what_the_encoder_computes(steerable, shots):
    family, vlm = steerable
    square = [image.resize((224, 224)) for image in shots[:3]]
    found = vlm.residual(square)
    assert found.shape == (3, family.grid**2, WIDTH) and found.dtype == torch.float32
    for image, row in zip(square, found):
        assert torch.allclose(row, by_hand(family, vlm, image), atol=1e-5)
    assert (found[0] - found[1]).abs().max() > 0.1  # the pictures are told apart


def test_pictures_of_any_shape_are_one_row_each(steerable, shots):
    family, vlm = steerable
    assert vlm.residual(shots).shape == (len(shots), family.grid**2, WIDTH)


def test_rows_stand_for_places_in_the_picture(steerable):
    """Paint one patch: the row of the stream before the first layer that changes most is that patch's."""
    family, vlm = steerable
    seen = []
    first = vlm.model.get_submodule(family.layers)[0]
    handle = first.register_forward_pre_hook(lambda _m, given: seen.append(given[0].reshape(-1, WIDTH).clone()))
    patch, side = family.grid + 2, 224 // family.grid  # second row, third column
    painted = Image.new("RGB", (224, 224), "white")
    painted.paste("black", (2 * side, side, 3 * side, 2 * side))
    try:
        for image in (Image.new("RGB", (224, 224), "white"), painted):
            vlm.residual([image])
    finally:
        handle.remove()
    row = int((seen[0] - seen[1]).abs().sum(-1).argmax())
    assert row == (family.class_token + patch if family.order is None else family.order.index(patch))


def test_hybrid_positions_are_the_patches_meant(steerable, shots):
    family, vlm = steerable
    pair, patch = [shots[0], shots[3]], family.grid + 2
    patches = torch.zeros(2, family.grid**2, dtype=torch.bool)
    patches[1, patch] = True
    plain, v = vlm.residual(pair), push(2)
    steered = vlm.residual(pair, Intervention(v, where=vlm.positions(patches)))
    assert ((steered - plain).abs().sum(-1) > 1e-3).nonzero().tolist() == [[1, patch]]
    assert torch.allclose(steered[1, patch] - plain[1, patch], v[1], atol=1e-4)


def test_steering_everywhere_includes_the_class_token(loaded, shots):
    """Its own push reaches the patches through attention: a layer above sees it, if there is one."""
    family, vlm = loaded
    if not family.class_token:
        pytest.skip("no class token")
    everywhere, patches = vlm.positions(torch.ones(1, family.grid**2, dtype=torch.bool)), push(1)
    assert everywhere[0].tolist() == [False] + [True] * family.grid**2
    question = [Question((shots[0],), "What?")]
    assert not torch.allclose(
        logits(vlm, question, Intervention(patches)),
        logits(vlm, question, Intervention(patches, where=everywhere)),
        atol=1e-4,
    )


def test_steering_one_image_changes_its_prompt_alone(steerable, shots):
    _, vlm = steerable
    questions = [Question((image,), "What is this?") for image in (shots[0], shots[0], shots[3])]
    v = push(3)
    v[0] = v[2] = 0
    plain, steered = (logits(vlm, questions, Intervention(some)) for some in (0 * v, v))
    assert torch.allclose(plain[[0, 2]], steered[[0, 2]], atol=1e-5)
    assert (plain[1] - steered[1]).abs().max() > 0.01


def test_images_of_ragged_prompts_are_steered_in_order(steerable, shots):
    """The third of four images is the second of the second prompt, whether its prompt is asked alone or not."""
    _, vlm = steerable
    questions = [Question((shots[0],), "What?"), Question((shots[3], shots[0], shots[3]), "And these?")]
    v = torch.zeros(4, WIDTH)
    v[2] = push(1)[0]
    plain, together = logits(vlm, questions), logits(vlm, questions, Intervention(v))
    assert torch.allclose(plain[0], together[0], atol=1e-5) and (plain[1] - together[1]).abs().max() > 0.01
    assert torch.allclose(logits(vlm, questions[1:], Intervention(v[1:]))[0], together[1], atol=1e-3)


def test_a_batch_answers_as_each_prompt_alone(loaded, shots):
    _, vlm = loaded
    questions = [Question((shots[0],), "What?"), Question(tuple(shots[1:]), 'And "these": ~three {x}?')]
    alone = [vlm.answer([question], 6)[0] for question in questions]
    assert vlm.answer(questions, 6) == alone
    assert all(len(answer) == 6 for answer in alone)
    for i, question in enumerate(questions):
        assert torch.allclose(logits(vlm, questions)[i], logits(vlm, [question])[0], atol=1e-3)


def test_what_questions_share_changes_no_answer(loaded, shots, monkeypatch):
    """Texts, pixels and streams are made once; beside that, everything as one would write it down."""
    _, vlm = loaded
    shown = [(shots[0],), (shots[1], shots[0]), (shots[3],), (shots[2], shots[1])]
    questions = [Question(images, prompt) for images, prompt in zip(shown, ("What?", "And these?", "What?", "Which?"))]
    change = Intervention(push(6))
    steered, plain = vlm.answer(questions, 8, change), vlm.answer([*questions, questions[0]], 8)
    assert plain[-1] == plain[0]

    def everything_anew(asked, max_new_tokens, change):
        pictures = [list(vlm._packed.square(q.images) if vlm._packed else q.images) for q in asked]
        texts = [text_of(vlm.processor, len(q.images), q.prompt) for q in asked]
        how = {"padding": True, "return_tensors": "pt", "add_special_tokens": not vlm.processor.chat_template}
        inputs = vlm.processor(images=pictures, text=texts, **how, **vlm._whole)
        with vlm._edited(change), torch.inference_mode():
            out = vlm.model.generate(**inputs, max_new_tokens=max_new_tokens)
        return vlm.processor.batch_decode(out[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)

    assert everything_anew(questions, 8, change) == steered != plain[:-1]
    assert everything_anew(questions, 8, None) == plain[:-1]


def test_an_encoder_whose_lower_layers_are_seen_by_other_ways_is_run_whole(loaded):
    _, vlm = loaded
    assert vlm._resumes == (type(vlm.model).__name__ != "Qwen3VLForConditionalGeneration")


def test_prompts_without_pictures_are_answered(loaded):
    _, vlm = loaded
    questions = [Question((), "Say something."), Question((), "And something longer, please.")]
    alone = [vlm.answer([question], 6)[0] for question in questions]
    assert vlm.answer(questions, 6) == alone and all(alone)


def test_the_width_is_that_of_the_stream(loaded, tmp_path):
    """Also where the language model has another, and the configuration calls that one the encoder's."""
    family, vlm = loaded
    assert vlm.width == WIDTH
    family.build(tmp_path, language_width=64)
    assert load(tmp_path).width == WIDTH


def test_every_layer_that_is_not_refused_acts_in_both_modes(loaded, shots):
    """Whatever hooks the model has of its own, and whatever it does to the shape of the last layer's stream."""
    family, vlm = loaded
    question, acting = [Question((shots[0],), "What?")], []
    plain = logits(vlm, question)
    for layer in range(len(vlm.layers)):
        other = VLM(vlm.model, vlm.processor, layer, "x", family.layers)
        moved = [
            (logits(other, question, Intervention(push(1), mode)) - plain).abs().max() for mode in ("add", "replace")
        ]
        acting += [layer] if min(moved) > 1e-3 else []
    assert acting == [0, 1, 2] + [3] * (family.build is not tiny_hub.build_llava)  # LLaVA shows the last but one


@pytest.mark.parametrize(("shown", "last"), [(-1, 3), (-2, 2), (2, 1), ([-3, -2], 2)])
def test_a_layer_above_the_one_that_is_shown_is_refused(tmp_path, shown, last):
    tiny_hub.build_llava(tmp_path, shown=shown)
    vlm = load(tmp_path, last)
    question = [Question((Image.new("RGB", (56, 56), "red"),), "What?")]
    assert (logits(vlm, question, Intervention(push(1))) - logits(vlm, question)).abs().max() > 1e-3
    if last < 3:
        with pytest.raises(ValueError, match=f"layer 3 never reaches the language model.*choose 0 to {last}"):
            load(tmp_path, 3)


def test_layers_that_are_not_the_encoders_are_refused(tmp_path):
    tiny_hub.build_gemma3(tmp_path)
    with pytest.raises(ValueError, match="none of these reaches it"):
        VLM.load(Checkpoint(Asset(tmp_path), 1, layers="model.language_model.layers"))


@pytest.mark.parametrize("name", ["gemma3", "internvl"])
def test_a_checkpoint_that_lacks_weights_is_refused_by_their_names(tmp_path, name):
    FAMILIES[name].build(tmp_path)
    state = load_file(tmp_path / "model.safetensors")
    layer = [key for key in state if ".3." in key and "vis" in key]
    save_file({k: v for k, v in state.items() if k not in layer}, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(Damaged, match=rf"not a whole.*vis.*\.3\..* and {len(layer) - 5} more"):
        load(tmp_path)
    state[layer[0]] = state[layer[0]].repeat(*[2] * state[layer[0]].dim())
    save_file(state, tmp_path / "model.safetensors", {"format": "pt"})
    with pytest.raises(Damaged, match="of another shape"):
        load(tmp_path)


@pytest.mark.parametrize("name", ["gemma3", "qwen25vl"])
def test_answers_are_greedy_whatever_the_checkpoint_says(tmp_path, name, shots):
    FAMILIES[name].build(tmp_path)
    question = [Question((shots[0],), "What?"), Question((shots[1],), "And this one?")]
    plain = load(tmp_path).answer(question, 8)
    others = dict(num_beams=3, do_sample=True, temperature=3.0, top_p=0.9, top_k=7, repetition_penalty=2.0)
    others |= dict(no_repeat_ngram_size=1, min_new_tokens=3, max_length=9, length_penalty=2.0, early_stopping=True)
    others |= dict(
        num_return_sequences=2,
        return_dict_in_generate=True,
        guidance_scale=2.0,
        exponential_decay_length_penalty=[1, 2],
    )
    settings = json.loads((tmp_path / "generation_config.json").read_text())
    (tmp_path / "generation_config.json").write_text(json.dumps(settings | others))
    assert load(tmp_path).answer(question, 8) == plain


@pytest.mark.parametrize("name", ["paligemma", "gemma3", "llava", "internvl", "smolvlm"])
def test_a_checkpoint_without_a_chat_template_is_given_images_then_the_prompt(tmp_path, name, shots):
    FAMILIES[name].build(tmp_path)
    (tmp_path / "chat_template.jinja").unlink()
    vlm, seen = load(tmp_path), []
    questions = [
        Question((shots[0],), "What?"),
        Question((shots[0], shots[3]), "And these?"),
        Question((shots[1],), "x"),
    ]
    assert vlm.answer(questions, 5) == [vlm.answer([question], 5)[0] for question in questions]
    assert vlm.answer([Question((), "Say something.")], 5)[0]
    v = push(4)
    v[[0, 2, 3]] = 0
    moved = (logits(vlm, questions, Intervention(v)) - logits(vlm, questions)).abs().amax(-1)
    assert moved[1] > 0.01 and moved[0] < 1e-4 and moved[2] < 1e-4
    handle = vlm.model.register_forward_pre_hook(
        lambda _m, _i, given: seen.append(given["input_ids"]), with_kwargs=True
    )
    vlm.answer(questions[1:2], 1)
    handle.remove()
    text = vlm.processor.tokenizer.decode(seen[0][0], skip_special_tokens=True)
    assert text.strip().endswith("And these?") and "user" not in text
    if name == "paligemma":  # as it was trained: images, beginning of text, prompt, one line break
        text = vlm.processor.tokenizer.decode(seen[0][0])
        assert text == "<image>" * 32 + "<bos>And these?\n"


def test_a_template_that_only_the_tokenizer_has_is_used(tmp_path, shots):
    tiny_hub.build_llava(tmp_path)
    vlm = load(tmp_path)
    vlm.processor.tokenizer.chat_template = (
        "{% for m in messages %}<bos>USER: {{ m['content'] }} ASSISTANT:{% endfor %}"
    )
    vlm.processor.chat_template = None
    assert text_of(vlm.processor, 2, "What?") == "<bos>USER: <image><image>What? ASSISTANT:"
    assert vlm.answer([Question((shots[0], shots[1]), "What?")], 4)[0]


def test_what_older_checkpoints_leave_out_is_found(tmp_path, shots):
    """LLaVA's processor without its patches and class token; a tokenizer without padding."""
    tiny_hub.build_llava(tmp_path)
    questions = [Question((shots[0],), "What?"), Question((shots[0], shots[3]), "And these?")]
    plain = load(tmp_path).answer(questions, 5)
    for file, keys in {
        "processor_config.json": ("patch_size", "vision_feature_select_strategy", "num_additional_image_tokens"),
        "tokenizer_config.json": ("pad_token",),
        "generation_config.json": ("pad_token_id",),
    }.items():
        settings = json.loads((tmp_path / file).read_text())
        for key in keys:
            del settings[key]
        (tmp_path / file).write_text(json.dumps(settings))
    vlm = load(tmp_path)
    assert vlm.processor.tokenizer.pad_token == "<eos>"
    assert vlm.answer(questions, 5) == plain


def test_a_folder_may_stand_below_home_and_its_name_says_which_weights(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    tiny_hub.build_gemma3(tmp_path / "m")
    first = VLM.load(Checkpoint(Asset("~/m"), 0)).name
    assert re.fullmatch(r"~/m@[0-9a-f]{12,}", first)
    tiny_hub.build_gemma3(tmp_path / "m", seed=1)
    assert VLM.load(Checkpoint(Asset("~/m"), 0)).name != first
    with pytest.raises(FileNotFoundError, match="no folder ~/n"):
        VLM.load(Checkpoint(Asset("~/n"), 0))


def test_sizes_of_gemma3_share_their_encoder(tmp_path):
    from transformers import AutoModelForImageTextToText

    models = []
    for width in (16, 32, 48):
        tiny_hub.build_gemma3(tmp_path / str(width), language_width=width, seed=5, vision_layers=27)
        models.append(AutoModelForImageTextToText.from_pretrained(tmp_path / str(width)))
    first, *others = [model.model.vision_tower.state_dict() for model in models]
    assert len(vision_layers(models[0])) == 27
    for other in others:
        assert first.keys() == other.keys() and all(torch.equal(first[name], other[name]) for name in first)
    assert len({model.config.text_config.hidden_size for model in models}) == 3
    tiny_hub.build_gemma3(tmp_path / "other", language_width=16, seed=6)
    other = AutoModelForImageTextToText.from_pretrained(tmp_path / "other").model.vision_tower.state_dict()
    assert not torch.equal(first["encoder.layers.0.mlp.fc1.weight"], other["encoder.layers.0.mlp.fc1.weight"])


OFFLINE = """
import json, sys
import open_clip
import torch
from huggingface_hub import hf_hub_download, snapshot_download
from PIL import Image
from sentence_transformers import SentenceTransformer
from transformers import AutoModelForImageTextToText, AutoProcessor

commit = sys.argv[1]
model = AutoModelForImageTextToText.from_pretrained("google/gemma-3-4b-it", revision=commit)
AutoProcessor.from_pretrained("google/gemma-3-4b-it", revision=commit)
try:
    AutoModelForImageTextToText.from_pretrained("google/gemma-3-4b-it", revision="0" * 40)
    refused = False
except OSError:
    refused = True
clip, preprocess = open_clip.create_model_from_pretrained("hf-hub:timm/tiny_clip.openai", precision="fp32")
tokens = open_clip.get_tokenizer("hf-hub:timm/tiny_clip.openai")(["a dog", "a"])
pixels = preprocess(Image.new("RGB", (80, 60)))[None]
weights = hf_hub_download("someone/dictionaries", "layer_1/trainer_0/ae.pt", revision="v1")
state = torch.load(weights, weights_only=True)
found = snapshot_download("someone/dictionaries", revision="v1", allow_patterns="layer_1*/*")
print(json.dumps({
    "layers": len(model.model.vision_tower.encoder.layers),
    "refused": refused,
    "quick": any(type(m).__name__ == "QuickGELU" for m in clip.modules()),
    "clip": [*clip.encode_image(pixels).shape, *clip.encode_text(tokens).shape],
    "sentences": list(SentenceTransformer("sentence-transformers/all-mpnet-base-v2").encode(["a dog", "2"]).shape),
    "sae": {name: list(value.shape) for name, value in state.items()},
    "same": weights.startswith(found),
}))
"""


@pytest.mark.slow(6)
def test_what_is_published_is_found_offline(tmp_path: Path):
    """In a process of its own: the libraries read where the cache is when they are imported."""
    commit = "c0ffee" + "0" * 34
    tiny_hub.publish(tmp_path, "google/gemma-3-4b-it", commit, tiny_hub.build_gemma3)
    tiny_hub.publish(tmp_path, "timm/tiny_clip.openai", "main", tiny_hub.build_open_clip)
    tiny_hub.publish(tmp_path, "sentence-transformers/all-mpnet-base-v2", "main", tiny_hub.build_sentences)
    tiny_hub.publish(
        tmp_path,
        "someone/dictionaries",
        "v1",
        lambda folder: tiny_hub.build_released_sae(folder / "layer_1" / "trainer_0", WIDTH, 64, 4, 0),
    )
    ran = subprocess.run(
        [sys.executable, "-c", OFFLINE, commit],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert json.loads(ran.stdout.splitlines()[-1]) == {
        "layers": 4,
        "refused": True,
        "quick": True,
        "clip": [1, 16, 2, 16],
        "sentences": [2, 32],
        "sae": {
            "encoder.weight": [64, 32],
            "encoder.bias": [64],
            "decoder.weight": [32, 64],
            "b_dec": [32],
            "k": [],
            "threshold": [],
        },
        "same": True,
    }


@pytest.mark.parametrize("name", ["gemma3", "internvl"])
def test_a_configuration_that_leaves_layers_out_is_refused(tmp_path, name):
    FAMILIES[name].build(tmp_path)
    path = tmp_path / "config.json"
    config = json.loads(path.read_text())
    config["vision_config"]["num_hidden_layers"] -= 1
    path.write_text(json.dumps(config))
    with pytest.raises(Damaged, match="layers that its config.json leaves out: .*vis"):
        load(tmp_path)
