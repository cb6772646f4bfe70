"""Steering acts on the right image, at the right places, and leaves nothing behind."""

import pytest
import torch
from PIL import Image

from lib import prompts
from lib.families import VisionLayersNotFound, vision_layers
from lib.hooks import Intervention, capture, edit, reaches, resumed
from lib.images import BLANK
from lib.questions import Kept, Question
from lib.vlm import VLM


def vectors(n: int, d: int = 32, scale: float = 30.0) -> torch.Tensor:
    return torch.randn(n, d, generator=torch.Generator().manual_seed(3)) * scale


def logits(vlm: VLM, questions: list[Question], change: Intervention | None = None) -> torch.Tensor:
    """First-token logits of each prompt, through the same calls as generation."""
    seen = []
    handle = vlm.model.lm_head.register_forward_hook(lambda _m, _i, out: seen.append(out[:, -1].clone()))
    try:
        vlm.answer(questions, 1, change)
    finally:
        handle.remove()
    return seen[0]


def test_add_and_replace_do_what_they_say(tiny_vlm, pictures):
    images = [pictures[0], pictures[1]]
    plain, v = tiny_vlm.residual(images), vectors(2)
    assert torch.allclose(tiny_vlm.residual(images, Intervention(v)), plain + v[:, None], atol=1e-4)
    assert torch.allclose(tiny_vlm.residual(images, Intervention(v, "replace")), v[:, None].expand_as(plain), atol=1e-4)


def test_only_the_wanted_positions_change(tiny_vlm, pictures):
    plain, v = tiny_vlm.residual([pictures[0]]), vectors(1)
    where = torch.zeros(1, 64, dtype=torch.bool)
    where[0, [3, 17]] = True
    steered = tiny_vlm.residual([pictures[0]], Intervention(v, "add", tiny_vlm.positions(where)))
    changed = (steered - plain).abs().sum(-1)[0] > 1e-3
    assert changed.nonzero().flatten().tolist() == [3, 17]


def test_a_class_token_is_found_dropped_and_never_steered_as_a_patch(tiny_vlm, pictures, monkeypatch):
    """An encoder with a token in front of its patches: positions shift by one, codes do not see it."""

    class Eye(torch.nn.Module):
        """Puts a class token before the patches of the picture."""

        def forward(self, patches):
            return torch.cat([torch.full_like(patches[:, :1], 99.0), patches], 1)

    plain = tiny_vlm.residual([pictures[0]])
    other, eye = VLM(tiny_vlm.model, tiny_vlm.processor, 1, "with class token"), Eye()
    other.layer = eye
    monkeypatch.setattr(type(other.model), "get_image_features", lambda self, pixel_values: eye(plain))
    assert other.extra_tokens == 1
    found = other.residual([pictures[0]])
    assert found.shape == (1, 64, 32) and torch.equal(found, plain)
    where = torch.zeros(1, 64, dtype=torch.bool)
    where[0, 5] = True
    steered = other.residual([pictures[0]], Intervention(vectors(1), "add", other.positions(where)))
    assert ((steered - plain).abs().sum(-1)[0] > 1e-3).nonzero().flatten().tolist() == [5]


def test_an_image_that_becomes_several_rows_is_refused(tiny_vlm, pictures, monkeypatch):
    split = tiny_vlm.processor.image_processor

    def twice(images, **kwargs):
        return split(images=[*images, *images], **kwargs)

    monkeypatch.setattr(tiny_vlm.processor, "image_processor", twice)
    with pytest.raises(ValueError, match="2 images became 4 rows"):
        tiny_vlm.residual([pictures[0], pictures[1]])


def test_steering_one_image_changes_its_own_prompt_alone(tiny_vlm, pictures):
    questions = [Question((pictures[i],), prompts.STEERING) for i in range(3)]
    plain, v = logits(tiny_vlm, questions), vectors(3)
    v[0] = v[2] = 0
    steered = logits(tiny_vlm, questions, Intervention(v))
    assert torch.equal(plain[[0, 2]], steered[[0, 2]])
    assert not torch.allclose(plain[1], steered[1], atol=1e-3)


def test_images_of_ragged_prompts_are_steered_in_order(tiny_vlm, pictures):
    questions = [
        Question((pictures[0],), prompts.STEERING),
        Question((pictures[1], pictures[2]), prompts.TOP_K["masks"]),
    ]
    plain, v = logits(tiny_vlm, questions), vectors(3)
    v[:2] = 0  # only the second image of the second prompt
    steered = logits(tiny_vlm, questions, Intervention(v))
    assert torch.equal(plain[0], steered[0]) and not torch.allclose(plain[1], steered[1], atol=1e-3)


def test_batch_equals_single(tiny_vlm, pictures):
    questions = [
        Question((pictures[0],), prompts.STEERING),
        Question((pictures[1], pictures[2]), prompts.TOP_K["masks"]),
    ]
    together = logits(tiny_vlm, questions)
    for i, question in enumerate(questions):
        assert torch.allclose(logits(tiny_vlm, [question])[0], together[i], atol=1e-3)


def test_hooks_vanish_after_an_exception(tiny_vlm, pictures):
    plain = tiny_vlm.residual([pictures[0]])
    with pytest.raises(RuntimeError, match="boom"), edit(tiny_vlm.layer, lambda x: x + 100), capture(tiny_vlm.layer):
        raise RuntimeError("boom")
    assert not tiny_vlm.layer._forward_hooks
    assert torch.equal(tiny_vlm.residual([pictures[0]]), plain)


def test_a_change_is_seen_by_every_hook_that_was_there_before():
    """Models collect the outputs of their layers with hooks of their own, and may use nothing else."""
    layer, collected = torch.nn.Identity(), []
    layer.register_forward_hook(lambda _m, _i, out: collected.append(out))
    with edit(layer, lambda x: x + 1):
        assert torch.equal(layer(torch.zeros(2)), torch.ones(2)) and torch.equal(collected[0], torch.ones(2))


def test_what_is_steered_can_be_viewed_in_another_shape():
    stream = torch.randn(2, 9, 4)
    for mode in ("add", "replace"):
        assert Intervention(vectors(2, 4), mode)(stream).view(2, 36).shape == (2, 36)


def test_whether_a_layer_reaches_an_output_is_tried():
    first, second, third = (torch.nn.Linear(4, 4) for _ in range(3))

    def run() -> torch.Tensor:
        shown = second(first(torch.ones(2, 3, 4)))
        third(shown)
        return shown

    assert [reaches(layer, run) for layer in (first, second, third)] == [True, True, False]


def test_reading_stops_at_the_layer_and_agrees_with_a_whole_pass(tiny_vlm, pictures):
    above = vision_layers(tiny_vlm.model)[2]
    pixels = tiny_vlm.processor.image_processor(images=[pictures[0]], return_tensors="pt")["pixel_values"]
    with capture(tiny_vlm.layer) as whole, torch.inference_mode():
        tiny_vlm.model.get_image_features(pixel_values=pixels)
    with capture(above) as reached:
        part = tiny_vlm.residual([pictures[0]])
    assert torch.equal(part, whole[0]) and not reached


def test_the_encoder_runs_once_per_answer(tiny_vlm):
    def whole(model, inputs, output):
        calls.append(len(output))

    calls, question = [], Question((BLANK,), prompts.STEERING)
    tiny_vlm.answer([question], 5)
    handle = tiny_vlm.layers[-1].register_forward_hook(whole)
    tiny_vlm.answer([question, question], 5, Intervention(vectors(2)))
    handle.remove()
    assert calls == [2]


def test_layers_below_see_a_picture_once_whoever_asks_about_it(tiny_vlm, pictures):
    tiny_vlm.answer([Question((BLANK,), "What?")], 2)  # whether it can be resumed has been tried by now
    tiny_vlm._streams._kept.clear()
    calls = []
    handle = tiny_vlm.layers[0].self_attn.register_forward_hook(lambda _m, _i, out: calls.append(len(out[0])))
    questions = [Question((BLANK, pictures[i % 2]), "What?") for i in range(4)]
    tiny_vlm.answer(questions, 2, Intervention(vectors(8)))
    tiny_vlm.answer([*questions, Question((pictures[2],), "And?")], 2)
    handle.remove()
    assert calls == [3, 1]


def test_streams_are_forgotten_in_the_order_of_their_last_use():
    made = []

    def compute(some):
        made.extend(picture.size for picture in some)
        return torch.zeros(len(some), 4, 8)

    a, b, c = (Image.new("RGB", (n, 8)) for n in (8, 9, 10))
    streams = Kept(compute, most=2 * 4 * 8 * 4)
    for some in ([a, b], [a], [c], [a], [b, c, a]):
        assert len(streams.of(some)) == len(some)
    assert made == [(8, 8), (9, 8), (10, 8), (9, 8)]
    for some in ([c, a, b], [b], [a, c]):  # the latest question's are there, however many; then no more than may be
        assert len(streams.of(some)) == len(some)
    assert made[4:] == [(10, 8)]


def test_resuming_leaves_a_model_as_it_was(tiny_vlm, pictures):
    inputs, layers = tiny_vlm.inputs([pictures[0]]), list(tiny_vlm.layers[:2])
    whole = tiny_vlm.model.get_image_features(**inputs).pooler_output
    layers[0].forward = layers[0].forward  # as accelerate's hooks do
    kept = [vars(layer).get("forward") for layer in layers]
    with pytest.raises(KeyError), resumed(layers, torch.zeros(1, 64, 32)):
        assert not torch.equal(tiny_vlm.model.get_image_features(**inputs).pooler_output, whole)
        raise KeyError
    assert [vars(layer).get("forward") for layer in layers] == kept
    del layers[0].forward
    assert torch.equal(tiny_vlm.model.get_image_features(**inputs).pooler_output, whole)


def test_wrong_number_of_images_is_an_error(tiny_vlm, pictures):
    with pytest.raises(ValueError, match="each image must be one row"):
        tiny_vlm.residual([pictures[0]], Intervention(vectors(2)))
    with pytest.raises(ValueError, match="do not fit"):
        tiny_vlm.residual([pictures[0]], Intervention(vectors(1), where=torch.ones(1, 9, dtype=torch.bool)))


def test_layers_are_found_or_the_error_names_the_lists(tiny_vlm):
    assert len(vision_layers(tiny_vlm.model)) == 3
    with pytest.raises(VisionLayersNotFound, match="its lists are: model.layers"):
        vision_layers(torch.nn.ModuleDict({"model": torch.nn.ModuleDict({"layers": torch.nn.ModuleList()})}))
    with pytest.raises(IndexError, match="choose 0 to 2"):
        VLM(tiny_vlm.model, tiny_vlm.processor, 3, "x")


def test_internvl_answers_a_batch_as_it_answers_each_alone(tiny_internvl):
    shots = [Image.new("RGB", (80, 60), c) for c in ("red", "green", "blue")]
    questions = [Question((shots[0],), prompts.STEERING), Question((shots[1], shots[2]), prompts.STEERING)]
    assert tiny_internvl.answer(questions, 6) == [tiny_internvl.answer([q], 6)[0] for q in questions]


def test_internvl_hybrid_positions_leave_the_class_token_alone(tiny_internvl):
    vlm = tiny_internvl
    image = Image.new("RGB", (96, 96), "red")
    patches = torch.zeros(1, 64, dtype=torch.bool)
    patches[0, 5] = True
    where = vlm.positions(patches)
    assert vlm.extra_tokens == 1 and where.shape == (1, 65) and where.nonzero().tolist() == [[0, 6]]
    push = Intervention(torch.full((1, 32), 3.0), "add", where)
    moved = (vlm.residual([image], push) - vlm.residual([image])).abs().sum(-1)[0]
    assert moved.nonzero().flatten().tolist() == [5]  # the patch meant, not its neighbour


def test_internvl_steering_one_image_changes_its_prompt_alone(tiny_internvl):
    vlm = tiny_internvl
    white = Image.new("RGB", (96, 96), "white")
    vectors = torch.zeros(3, 32)
    vectors[1] = 50 * torch.randn(32, generator=torch.Generator().manual_seed(2))
    with capture(vlm.model.model.multi_modal_projector) as plain:
        vlm.answer([Question((white,), prompts.STEERING)] * 3, 1)
    with capture(vlm.model.model.multi_modal_projector) as steered:
        vlm.answer([Question((white,), prompts.STEERING)] * 3, 1, Intervention(vectors))
    changed = (plain[0] - steered[0]).abs().amax((1, 2))
    assert changed[0] == changed[2] == 0 and changed[1] > 0.01
