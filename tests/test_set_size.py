"""Top images of smaller sets."""

import pandas as pd
import pytest
import torch
from stand_in import stand_in
from tiny_tables import scores

from lib.codes import watch
from lib.evidence import stream
from lib.kept import TopImages
from lib.methods import HYBRID, TOP_K
from lib.studies.set_size import SHOWN_SETS, by_set_size, size_effects


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
    main = [run.explanations(run.at_best(method), latents) for method in SHOWN_SETS]
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
    assert iou["Top-k: whole set - smallest"] == 0.8 and iou["Top-k: first doubling - last"] == 0.4
    assert iou["hybrid - Top-k, smallest set"] == iou["hybrid - Top-k, whole set"] == 0.5
    assert iou["hybrid on a quarter - Top-k on all"] == pytest.approx(0.2)
    assert {TOP_K.heatmaps, HYBRID.heatmaps_add} == set(SHOWN_SETS)


def test_a_single_set_has_one_effect():
    assert set(size_effects(sized({100: 0.0})).what) == {"hybrid - Top-k, whole set"}
