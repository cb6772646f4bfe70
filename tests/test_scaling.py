"""Scaling on paper: what more GPUs share and what they do not, from the plan's own prices."""

import pytest

from lib.evidence import KEEP, TopImages
from lib.methods import STEERING, TOP_K
from lib.plan import hours, scaling
from lib.profile import load
from lib.sae import TopKSAE

PAPER = load("paper-gemma3")
HOUR = 300 * 3.6e15  # FLOPs in an hour of the GPU that the profile assumes
STEER, SHOW = STEERING.add, TOP_K.masks


@pytest.fixture(scope="module")
def table():
    return scaling.hours(PAPER)


def test_more_gpus_share_all_but_the_dictionary(table):
    for _, rows in table.groupby(["method", "latents"]):
        one, *more = rows.sort_values("gpus").itertuples()
        assert one.gpus == 1 and one.hours == pytest.approx(one.gpu_hours) == one.held_gpu_hours
        for row in more:
            assert row.dictionary == one.dictionary
            for stage in ("evidence", "explanations", "scores"):
                assert getattr(row, stage) == pytest.approx(getattr(one, stage) / row.gpus)
            assert row.hours == pytest.approx(row.dictionary + row.evidence + row.explanations + row.scores)
            assert 1 < row.speedup < row.gpus and row.speedup == pytest.approx(one.hours / row.hours)
            assert row.gpu_hours == one.gpu_hours < row.held_gpu_hours == pytest.approx(row.gpus * row.hours)


def test_money_is_the_assumed_price_of_an_hour(table):
    assert (table.usd_low == 2 * table.gpu_hours).all() and (table.usd_high == 4 * table.gpu_hours).all()
    assert (table.held_usd_high == 4 * table.held_gpu_hours).all()
    note = scaling.assumptions(PAPER)
    for said in ("300 TFLOP/s", "2 to 4 US dollars", "November 2026", "1,281,167 images", hours.MEANING):
        assert said in note


def test_enough_gpus_wait_for_the_dictionary_half_of_the_time():
    s = scaling.stages(PAPER, 65_536, SHOW)
    assert s.wall(s.enough) == pytest.approx(2 * s.dictionary)


def test_steering_needs_no_images_but_those_that_score_it():
    steer, show = (scaling.stages(PAPER, 65_536, method) for method in (STEER, SHOW))
    see = hours.Prices.of(PAPER.variant({"sae.latents": 65_536})).see
    assert steer.evidence == pytest.approx(10_000 * see / HOUR)
    assert show.evidence - steer.evidence == pytest.approx(40_000 * see / HOUR)
    assert steer.dictionary == show.dictionary and steer.scores == show.scores
    assert steer.explanations < show.explanations


def test_what_grows_with_latents():
    shape = hours.shape_for(PAPER.subject.model)
    few, many = (scaling.stages(PAPER, m, SHOW) for m in (8192, 65_536))
    codes = shape.encode(65_536) - shape.encode(8192)
    assert many.dictionary - few.dictionary == pytest.approx(scaling.TRAINING * codes / HOUR)
    assert many.evidence - few.evidence == pytest.approx(50_000 * codes / HOUR)
    assert many.explanations == pytest.approx(8 * few.explanations, rel=1e-4)
    # Every drawn picture is encoded, so a larger dictionary makes each score a little dearer.
    assert many.scores == pytest.approx(8 * few.scores + 65_536 * 3 * codes / HOUR)


def test_a_profile_s_own_training_images_and_speed_count():
    laptop = load("laptop")
    slow, fast = (scaling.stages(load("laptop", {"hardware.tflops": t}), 8192, STEER) for t in (0.4, 4))
    assert [10 * part for part in fast] == pytest.approx(list(slow))
    assert f"{laptop.images.train:,} images" in scaling.assumptions(laptop)


def test_a_model_of_unknown_shape_is_refused():
    strange = load("paper-gemma3", {"subject.model": "someone/new"})
    with pytest.raises(ValueError, match="the shape of someone/new is not known"):
        scaling.stages(strange, 8192, STEER)


def test_storage_is_what_the_code_keeps(monkeypatch):
    desk = load("desk")
    shape = hours.shape_for(desk.subject.model)
    monkeypatch.setattr(scaling, "LATENTS", (512,))
    (row,) = scaling.storage(desk).itertuples()
    sae = TopKSAE(shape.vision_width, 512, 8)
    weights = sae.encoder.weight.nbytes + sae.decoder.weight.nbytes
    assert row.dictionary_gb * 1e9 == pytest.approx(weights)
    assert row.training_gb * 1e9 == pytest.approx(4 * weights)
    assert row.evidence_gb * 1e9 == pytest.approx(TopImages(512, KEEP, shape.tokens).heat.nbytes)
    assert row.codes_gb * 1e9 == 8192 * 512 * 4


def test_readers_see_two_digits(table):
    shown = scaling.readable(table)
    assert list(shown.columns) == [c.replace("usd_low", "usd") for c in table.columns if "usd_high" not in c]
    assert set(shown.latents) == {"8,192", "65,536", "1,048,576"}
    assert shown.usd[0] == f"{table.usd_low[0]:,.0f} to {table.usd_high[0]:,.0f}"


def test_a_page_with_prices_depends_on_the_profile(monkeypatch, tmp_path):
    monkeypatch.setenv("STEERING_COMPANION_MADE", str(tmp_path / "notes"))
    assert scaling.priced("paper-gemma3") == PAPER
    assert "used\tlib/profiles/paper-gemma3.yaml" in (tmp_path / "notes").read_text().splitlines()
