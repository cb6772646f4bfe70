"""The cost model counts what PyTorch counts, and real models have the size that it gives them."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
import tiny_hub
import torch
from torch.utils.flop_counter import FlopCounterMode

from lib.findings import unsupported
from lib.flops import (
    METHODS,
    Job,
    asked,
    break_even,
    counted,
    items,
    kaplan,
    outline,
    published,
    shape_of,
)
from lib.hub import Asset
from lib.images import BLANK
from lib.paper import yaml_of
from lib.plan import scaling
from lib.plan.hours import shape_for
from lib.profile import load
from lib.studies.cost import (
    choosing,
    cost_effects,
    findings,
    readable_effects,
    readable_growth,
    readable_items,
)
from lib.vlm import VLM, Checkpoint

JOB = Job(features=10, images=100, k=5, prompt=20, answer=8, layer=2, latents=64)
DESK = ("subject-a", "subject-b")
FAMILIES = ("gemma3", "internvl", "smolvlm", "llava", "paligemma", "qwen25vl")


@pytest.fixture(scope="module", params=(*DESK, *FAMILIES))
def model(request, tmp_path_factory) -> tuple[Asset, VLM]:
    """A model in a folder, and the same loaded: the desk's, and a tiny one of every family."""
    folder = Asset(f"data/models/{request.param}")
    if request.param in FAMILIES:
        folder = Asset(tmp_path_factory.mktemp(request.param))
        getattr(tiny_hub, f"build_{request.param}")(Path(folder))
    return folder, VLM.load(Checkpoint(folder, 1))


def test_a_model_that_is_not_loaded_has_the_shape_of_the_loaded_one(model):
    folder, vlm = model
    assert shape_for(folder) == shape_of(vlm)


def test_an_outline_takes_no_memory():
    vlm = outline(Path(Asset("data/models/subject-a").local))
    assert all(p.untyped_storage().nbytes() == 4 for p in vlm.model.parameters())


def test_formulas_count_what_pytorch_counts(model):
    folder, vlm = model
    shape = shape_of(vlm)
    formula = shape.see() + shape.project()
    if "qwen25vl" in folder:  # its layers attend within windows, most of them
        assert 0.9 * formula < counted(vlm) < formula
    else:
        assert counted(vlm) == formula


def test_the_encoder_up_to_the_steered_layer_costs_what_pytorch_counts(model):
    folder, vlm = model
    vlm.model.set_attn_implementation("eager")
    with FlopCounterMode(display=False) as counter:
        vlm.residual([BLANK])
    formula = shape_of(vlm).see(2)
    if "qwen25vl" in folder:  # as above
        assert 0.9 * formula < counter.get_total_flops() < formula
    else:
        assert counter.get_total_flops() == formula


def test_words_are_counted_as_the_model_is_asked_them(model):
    _, vlm = model
    assert 0 < asked(vlm, "What is this?") < asked(vlm, "What is this? What is this?")


@pytest.mark.parametrize("name", ["tiny_vlm", "tiny_internvl"])
def test_reading_costs_what_pytorch_counts(name, request):
    vlm = request.getfixturevalue(name)
    shape = shape_of(vlm)
    vlm.model.set_attn_implementation("eager")
    text = vlm.model.model.language_model
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        text(inputs_embeds=torch.zeros(1, 40, shape.width))
    assert counter.get_total_flops() == shape.read(40)
    with torch.no_grad():
        before = text(inputs_embeds=torch.zeros(1, 10, shape.width), use_cache=True).past_key_values
    with FlopCounterMode(display=False) as counter, torch.no_grad():
        text(inputs_embeds=torch.zeros(1, 30, shape.width), past_key_values=before)
    assert counter.get_total_flops() == shape.read(30, cached=10)


def test_cached_positions_cost_what_they_attend_to():
    shape = next(iter(published().values()))
    whole, parts = shape.read(30), shape.read(10) + shape.read(20, cached=10)
    # The uncached pass also computes attention to later positions, which is masked.
    assert whole - parts == shape.layers * 4 * 10 * 20 * shape.heads * shape.head_dim


@pytest.mark.parametrize("name", published())
def test_published_shapes_add_up_to_published_sizes(name):
    billions = yaml_of("models")[name]["billions"]
    assert published()[name].parameters / 1e9 == pytest.approx(billions, rel=0.01)


def test_what_each_method_pays_for():
    shape = published()["Gemma 3 4B"]
    cost = {method: items(shape, JOB, method) for method in METHODS}
    assert cost["Steering"]["search: encode images"] == 0 == cost["Steering"]["search: dictionary"]
    assert cost["Top-k"] == cost["Steering-informed Top-k"]
    seen, whole = "explain: encode shown images", shape.see() + shape.project()
    assert cost["Top-k"][seen] == 10 * 5 * whole
    assert cost["Steering"][seen] == shape.see(2) + 10 * (whole - shape.see(2))  # what is below is the same for all
    for method, pictures in (("Steering", 1), ("Top-k", 5)):
        assert cost[method]["explain: read prompt"] == 10 * (shape.read(pictures * 256 + 20) + shape.logits())
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
    found = break_even(shape, JOB)
    assert break_even(shape, replace(JOB, features=1)) == found
    search = sum(v for name, v in items(shape, JOB, "Top-k").items() if name.startswith("search"))
    assert sum(items(shape, replace(JOB, features=found), "Steering").values()) == pytest.approx(search)


def test_the_search_for_a_coefficient_asks_as_often_as_it_tries():
    shape = published()["Gemma 3 4B"]
    job = replace(JOB, validation=4, steering=6, hybrid=3)
    as_many = replace(JOB, features=24, images=0)
    assert choosing(shape, job, "Steering") == sum(items(shape, as_many, "Steering").values())
    assert choosing(shape, job, "Top-k") == 0 == choosing(shape, JOB, "Steering")
    searched = choosing(shape, job, "Steering-informed Top-k")
    assert searched == sum(items(shape, replace(JOB, features=12, images=0), "Top-k").values())
    with pytest.raises(KeyError):
        choosing(shape, job, "Guessing")


def test_the_table_has_the_costs_with_and_without_the_search():
    shape = published()["Gemma 3 27B"]
    job = replace(JOB, validation=4, steering=6, hybrid=3)
    table = cost_effects({"m": (shape, job)}).set_index(["what", "count"]).estimate
    before = cost_effects({"m": (shape, JOB)}).set_index(["what", "count"]).estimate
    assert table.index.is_unique and before.equals(table[before.index])
    for count in ("itemised", "kaplan"):
        assert table["Top-k / Steering, search included", count] < table["Top-k / Steering", count]
        assert table["hybrid / Top-k, search included", count] > table["hybrid / Top-k", count]
    one = sum(items(shape, JOB, "Steering").values())
    ratio = sum(items(shape, JOB, "Top-k").values()) / (one + choosing(shape, job, "Steering"))
    assert table["Top-k / Steering, search included", "itemised"] == pytest.approx(ratio)


def test_findings_of_cost_name_every_model_and_both_counts():
    shape = published()["Gemma 3 27B"]
    job = replace(JOB, validation=4, steering=6, hybrid=3)
    lines = findings(cost_effects({"a": (shape, job), "b": (shape, JOB)}))
    assert [line.split(",")[0] for line in lines[2:]] == ["a", "b"]
    assert "search included" in lines[2] and "search included" not in lines[3]
    assert not any(map(unsupported, lines))


def test_the_first_finding_says_what_steering_saves():
    shape, small = published()["Gemma 3 27B"], published()["Gemma 3 4B"]
    effects = cost_effects({"a": (shape, JOB), "b": (small, JOB)})
    growth = scaling.hours(load("paper-gemma3"))
    answer, whole, *_ = findings(effects, growth)
    ratios = sorted(effects[(effects.what == "Top-k / Steering") & (effects["count"] == "itemised")].estimate)
    told = [f"{v:,.0f}" if v >= 100 else f"{v:.3g}" for v in ratios]
    assert f"{told[0]} to {told[1]} times the FLOPs of Steering, from" in answer and "takes 1 times those" in answer
    one = growth[(growth.gpus == 1) & (growth.latents == 8192)].set_index("method").gpu_hours
    assert f"{one['Top-k'] / one['Steering']:.3g}" in whole


def test_readers_see_the_bill_and_the_ratios_with_few_digits():
    shape = published()["Gemma 3 4B"]
    job = replace(JOB, validation=4, steering=6, hybrid=3)
    bill = pd.DataFrame([{"model": "m", "method": method, **items(shape, job, method)} for method in METHODS])
    bill["total"] = bill.drop(columns=["model", "method"]).sum(axis=1)
    shown = readable_items(bill.assign(coefficient=[choosing(shape, job, m) for m in METHODS]))
    assert shown.method.tolist() == ["Steering", "Top-k", "hybrid"] and shown["search"][0] == "0"
    parts = shown[["search", "encode", "read", "speak"]].astype(float)
    assert parts.sum(axis=1).tolist() == pytest.approx(shown.total.astype(float), rel=0.05)
    effects = cost_effects({"m": (shape, job), "n": (shape, JOB)})
    ratios = readable_effects(effects).set_index("ratio of FLOPs")
    assert ratios.loc["hybrid / Top-k"].tolist() == ["1", "1"] and ratios["n"]["... with the search"].tolist() == [
        "-",
        "-",
    ]
    assert float(ratios.loc["Top-k / Steering", "m"]) == pytest.approx(effects.estimate[0], rel=0.01)


def test_readers_see_both_methods_of_a_size_side_by_side():
    growth = scaling.hours(load("paper-gemma3"))
    shown = readable_growth(growth)
    assert len(shown) == len(growth) / 2 and set(shown.latents) == {"8,192", "65,536", "1,048,576"}
    first = growth[(growth.latents == 8192) & (growth.gpus == 1)].set_index("method")
    assert shown["Top-k, hours"][0] == f"{first.hours['Top-k']:,.1f}" and shown["times as fast"][0] == "1.0"
    assert shown["Steering, USD"][0].startswith(f"{first.usd_low['Steering']:,.0f} to ")
