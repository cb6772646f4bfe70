"""Top images of smaller sets."""

import pandas as pd
import pytest
import torch
from stand_in import stand_in
from tiny_tables import scores

from lib.codes import watch
from lib.effects import COMPOSITE, estimates
from lib.evidence import stream
from lib.findings import unsupported
from lib.kept import TopImages
from lib.methods import HYBRID, TOP_K
from lib.metrics import METRICS
from lib.studies.set_size import SHOWN_SETS, by_set_size, findings, readable, size_effects, small_part, steps


def test_a_limited_set_is_the_start_of_the_whole(tiny_vlm, tiny_sae, pictures):
    limited, short = TopImages(24, 5, 64, limit=10), TopImages(24, 5, 64)
    watch(stream(tiny_vlm, tiny_sae, pictures, 7, "test"), limited)
    watch(stream(tiny_vlm, tiny_sae, pictures[:10], 5, "test"), short)
    a, b = limited.result(), short.result()
    assert torch.equal(a.image, b.image) and torch.allclose(a.heat, b.heat, atol=1e-5)
    assert torch.equal(a.fired, b.fired) and a.image.max() < 10


@pytest.mark.parametrize(("sizes", "expected"), [([10], [10, 30]), ([10, 30], [10, 30]), ([], [30])])
def test_each_set_is_asked_about_once_and_the_whole_is_the_main_run(
    tmp_path, tiny_vlm, tiny_sae, monkeypatch, sizes, expected
):
    run = stand_in(tmp_path, tiny_vlm, tiny_sae, monkeypatch, images__sizes=sizes)
    latents = run.some_latents
    main = [run.score(run.explanations(run.at_best(method), latents)) for method in SHOWN_SETS]
    asked = run.asked
    table = by_set_size(run, latents)
    assert list(dict.fromkeys(table.images)) == expected
    assert run.asked - asked == len(latents) * len(SHOWN_SETS) * (len(expected) - 1)
    whole = table[table.images == 30].drop(columns="images").reset_index(drop=True)
    pd.testing.assert_frame_equal(whole, pd.concat(main, ignore_index=True))


def sized(sizes: dict[int, float]) -> pd.DataFrame:
    one = scores(0, 8, SHOWN_SETS)
    hybrid = (one.method == HYBRID.heatmaps_add.key) * 0.5
    return pd.concat([one.assign(images=n, iou=value + hybrid) for n, value in sizes.items()], ignore_index=True)


def test_effects_are_those_that_the_figure_claims():
    found = size_effects(sized({100: 0.0, 200: 0.5, 400: 0.7, 800: 0.8}))
    iou = found[found.metric == "iou"].set_index("what").estimate.round(6)
    assert iou["Top-k: whole set - smallest"] == 0.8 and iou["diminishing: first doubling - last doubling"] == 0.4
    assert iou["hybrid - Top-k, smallest set"] == iou["hybrid - Top-k, whole set"] == 0.5
    assert iou["hybrid on a quarter - Top-k on all"] == pytest.approx(0.2)
    assert iou["hybrid's advantage: smallest set - whole"] == 0
    assert {TOP_K.heatmaps, HYBRID.heatmaps_add} == set(SHOWN_SETS)
    names = found.groupby("metric", sort=False).what.agg(list)
    assert set(names.index) == {*METRICS, COMPOSITE} - {"patch_f1"} and names.map(tuple).nunique() == 1


def test_the_composite_is_in_standard_deviations():
    scored = sized({100: 0.0, 200: 0.5, 400: 0.7, 800: 0.8})
    found = size_effects(scored).set_index(["metric", "what"]).estimate
    what = "Top-k: whole set - smallest"  # IoU alone changes, and has one vote of four
    assert found["composite", what] == pytest.approx(found["iou", what] / scored.iou.std() / 4)


@pytest.mark.parametrize(
    ("sizes", "part"),
    [
        ([1, 4], (1, "a quarter")),
        ([125, 500, 2000, 4000], (500, "12.5%")),
        ([3, 4], (3, "75.0%")),
    ],
)
def test_a_part_of_the_set_is_called_by_the_share_that_it_is(sizes, part):
    assert small_part(sizes) == part


def test_steps_that_are_no_doublings_are_not_called_so():
    assert steps([1, 2, 5, 10]) == "first doubling - last doubling"
    assert steps([1, 2, 5]) == steps([1, 3, 6]) == "first step - last step"
    found = size_effects(sized({100: 0.0, 500: 0.5, 900: 0.9}))
    assert {"diminishing: first step - last step", "hybrid on 11.1% - Top-k on all"} <= set(found.what)


def test_a_single_set_has_one_effect():
    assert set(size_effects(sized({100: 0.0})).what) == {"hybrid - Top-k, whole set"}


def test_dictionaries_are_kept_apart():
    two = pd.concat([sized({100: 0.0, 400: 1.0}).assign(dictionary=d, concept="c") for d in (0, 1)])
    assert size_effects(two).n.eq(16).all()


@pytest.mark.parametrize("up", [1, -1])
def test_findings_name_the_direction_that_the_effects_have(up):
    lines = findings(size_effects(sized({100: 0.0, 200: 0.5 * up, 400: 0.7 * up, 800: 0.8 * up})))
    assert len(lines) == 7 and not any(map(unsupported, lines))
    assert ("Top-k explains better with the whole set" in lines[0]) == (up > 0)
    assert ("adds more than the last" in lines[0]) == (up > 0) and "Steering makes up for images" in lines[0]
    assert ("with the whole set is higher than" in lines[1]) == (up > 0)
    assert "not told apart" in lines[-1]


def test_the_answer_says_no_more_than_is_shown():
    nothing = findings(size_effects(sized({100: 0.0, 200: 0.0, 400: 0.0, 800: 0.0})))
    assert "not shown that the size of the set matters" in nothing[0] and "stays open" in nothing[0]
    one = findings(size_effects(sized({100: 0.0})))
    assert "single image set" in one[0] and len(one) == 2


def test_readers_see_two_metrics_of_every_size():
    table = estimates(sized({100: 0.0, 400: 0.5}), ["method", "images"])
    shown = readable(table)
    assert shown.images.tolist() == [100, 400]
    assert list(shown) == ["images", "Top-k, IoU", "hybrid, IoU", "Top-k, Correctness", "hybrid, Correctness"]
    first = table[(table.images == 400) & (table.metric == "iou")].iloc[0]
    assert shown["Top-k, IoU"][1].startswith(f"{first.estimate:.3f} [")
