"""The cost model counts what PyTorch counts, and real models have the size that it gives them."""

from dataclasses import replace

import pytest
import torch
import yaml
from torch.utils.flop_counter import FlopCounterMode

from lib.flops import METHODS, Job, break_even, cost_effects, counted, items, kaplan, published, shape_of
from lib.store import ROOT

JOB = Job(features=10, images=100, k=5, prompt=20, answer=8, layer=2, latents=64)


@pytest.mark.parametrize("name", ["tiny_vlm", "tiny_internvl"])
def test_formulas_count_what_pytorch_counts(name, request):
    vlm = request.getfixturevalue(name)
    shape = shape_of(vlm)
    assert counted(vlm) == shape.see() + shape.project()
    vlm.model.set_attn_implementation("eager")
    text = vlm.model.model.language_model
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        text(inputs_embeds=torch.zeros(1, 40, shape.width))
    assert counter.get_total_flops() == shape.read(40)


def test_cached_positions_cost_what_they_attend_to():
    shape = next(iter(published().values()))
    whole, parts = shape.read(30), shape.read(10) + shape.read(20, cached=10)
    # The uncached pass also computes attention to later positions, which is masked.
    assert whole - parts == shape.layers * 4 * 10 * 20 * shape.heads * shape.head_dim


@pytest.mark.parametrize("name", published())
def test_published_shapes_add_up_to_published_sizes(name):
    billions = yaml.safe_load((ROOT / "data" / "paper" / "models.yaml").read_text())[name]["billions"]
    assert published()[name].parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_what_each_method_pays_for():
    shape = published()["Gemma 3 4B"]
    cost = {method: items(shape, JOB, method) for method in METHODS}
    assert cost["Steering"]["search: encode images"] == 0 == cost["Steering"]["search: dictionary"]
    assert cost["Top-k"] == cost["Steering-informed Top-k"]
    seen = "explain: encode shown images"
    assert cost["Top-k"][seen] == 5 * cost["Steering"][seen]
    twice = items(shape, replace(JOB, images=200), "Top-k")
    assert twice["search: encode images"] == 2 * cost["Top-k"]["search: encode images"]
    with pytest.raises(KeyError, match="no method"):
        items(shape, JOB, "Guessing")


def test_effects_of_cost():
    shape = published()["Gemma 3 27B"]
    table = cost_effects({"m": (shape, JOB)}).set_index(["what", "count"]).estimate
    assert table["hybrid / Top-k", "itemised"] == 1
    assert table["Top-k / Steering", "kaplan"] == pytest.approx(
        kaplan(shape, JOB, "Top-k") / kaplan(shape, JOB, "Steering")
    )
    enough = replace(JOB, features=1)
    assert break_even(shape, enough) == pytest.approx(break_even(shape, JOB))
