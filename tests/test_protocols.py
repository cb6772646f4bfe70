"""Each trap of the published protocol changes what it is about, and nothing else."""

import types

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_tables import scores

from lib.findings import number, unsupported
from lib.kept import Evidence
from lib.methods import HYBRID, STEERING, TOP_K, trio
from lib.metrics import Bench, score_table, voters
from lib.scenes.images import SceneImages
from lib.scenes.judges import SceneGenerator, SceneSegmenter
from lib.scenes.sampling import Mix
from lib.stats import Estimate
from lib.studies.protocols import (
    JOINS,
    PROTOCOLS,
    TRAPS,
    Protocol,
    answer,
    findings,
    gap_effects,
    joined,
    pairing,
    pairing_shown,
    protocol_table,
    release,
    released,
    rescore,
    rescored,
    shown,
)
from lib.synthetic import SyntheticImages

METHODS = (*trio("masks"), TOP_K.heatmaps)
LATENTS = [2, 3, 10]  # as text, 10 comes before 2
TOUCHED = {
    "shared images": {"iou", "clip"},
    "first mask": {"iou"},
    "failures dropped": set(),
    "CLIP by position": {"clip"},
    "pooled AUROC": {"auroc"},
}


class Colours:
    """Embeds a picture by its mean colour, and a text by its letters."""

    def embed_images(self, images):
        mean = [np.asarray(i).reshape(-1, 3).mean(0) for i in images]
        return torch.nn.functional.normalize(torch.tensor(np.array(mean)).float(), dim=-1)

    def embed_texts(self, texts):
        vectors = torch.tensor([[len(t), t.count("a"), t.count("s")] for t in texts]).float() + 0.1
        return torch.nn.functional.normalize(vectors, dim=-1)


@pytest.fixture(scope="module")
def run(tiny_vlm, tiny_sae, tmp_path_factory):
    def gathered(images, first):
        places = torch.arange(24)[:, None] + torch.arange(first, first + 5)  # [latents, 5]
        heat = torch.rand(24, 5, 64, generator=torch.Generator().manual_seed(first)) - 0.5
        top = Evidence(torch.ones(24, 5), places % len(images), heat.clamp_min(0), torch.ones(24), torch.ones(24))
        return types.SimpleNamespace(top=top, images=images)

    shown, held_out = gathered(SceneImages(1, 0, 30), 0), gathered(SceneImages(1, 30, 30), 7)
    folder = tmp_path_factory.mktemp("synthetic")
    synthetic = SyntheticImages(
        SceneGenerator(Mix(), 1), 2, lambda: tiny_vlm, types.SimpleNamespace(sae=tiny_sae), folder
    )
    negatives = torch.rand(6, 24, generator=torch.Generator().manual_seed(2)) * torch.arange(24)
    bench = Bench(held_out.top, held_out.images, 5, negatives, SceneSegmenter(held_out.images), synthetic, Colours())
    return types.SimpleNamespace(shown=shown, bench=bench, world=types.SimpleNamespace(segmenter=SceneSegmenter))


@pytest.fixture(scope="module")
def scored(run):
    images, top = run.bench.images, run.bench.evidence.image[:, 3]  # what is said names all of the fourth top image
    scenes = [images.scene(int(top[latent])).layout for latent in LATENTS]
    named = [" and ".join([*layout.object_names, layout.surface]) for layout in scenes]
    said = {TOP_K.masks: [*named[:2], ""], HYBRID.masks_add: named}
    rows = [
        {"latent": latent, "explanation": text, "method": method.key, "control": ""}
        for method, texts in said.items()
        for latent, text in zip(LATENTS, texts)
    ]
    return score_table(pd.DataFrame(rows), run.bench)


def test_without_traps_scores_are_what_they_are(run, scored):
    pd.testing.assert_frame_equal(rescore(run, scored, Protocol()), scored)


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_changes_what_it_is_about(run, scored, trap):
    again, before = rescore(run, scored, Protocol(frozenset([trap]))), scored.copy()
    changed = {m for m in ("iou", "auroc", "synthetic", "clip") if not again[m].equals(scored[m].loc[again.index])}
    assert changed == TOUCHED[trap]
    assert len(again) == len(scored) - (trap == "failures dropped")
    pd.testing.assert_frame_equal(scored, before)


def test_failures_stay_failures_when_clip_is_scored_again(run, scored):
    again = rescore(run, scored, Protocol(frozenset(["shared images"])))
    assert again["clip"][scored.failed].eq(0).all() and scored.failed.sum() == 1


def test_joining_by_position_moves_scores_among_latents_and_no_mean(run, scored):
    again = rescore(run, scored, PROTOCOLS["CLIP by position"])
    for key, part in scored.groupby("method"):
        mine, theirs = (one.set_index("latent")["clip"] for one in (again[again.method == key], part))
        assert mine.loc[LATENTS].tolist() == theirs.loc[[10, 2, 3]].tolist()  # as text, 10 comes first
        assert mine.mean() == pytest.approx(theirs.mean())


def test_pooled_auroc_is_one_number_for_a_method(run, scored):
    again = rescore(run, scored, PROTOCOLS["as published"])
    assert again.groupby("method").auroc.nunique().eq(1).all() and len(again) == len(scored) - 1


def test_the_table_has_every_protocol_method_and_metric(run, scored):
    control = scored.assign(control="random")
    methods = (TOP_K.masks, HYBRID.masks_add)
    table = protocol_table(rescored(run, pd.concat([scored, control], ignore_index=True), methods), methods)
    assert table.protocol.unique().tolist() == ["corrected", *TRAPS, "as published"] and len(table) == 2 * 7 * 4
    assert table[table.protocol == "corrected"].n.eq(3).all() and "correctness" not in set(table.metric)
    means = table.set_index(["protocol", "method", "metric"]).estimate
    for method, part in scored.groupby("method"):
        assert means["corrected", method, "iou"] == pytest.approx(part.iou.mean())
        assert means["CLIP by position", method, "clip"] == pytest.approx(part["clip"].mean())
    pooled = table.protocol.isin(["pooled AUROC", "as published"]) & (table.metric == "auroc")
    assert table.low.isna().equals(pooled)  # one number has no interval
    wide = shown(table)
    assert len(wide) == 2 * 7 and wide.protocol[0] == "corrected" and "[" in wide["IoU"][0] and wide.n[0] == 3
    assert wide.method[:2].tolist() == ["Top-k, masks", "hybrid, masks"]
    assert "[" not in wide["AUROC"][wide.protocol == "as published"].iloc[0]


def test_an_instance_is_compared_where_the_first_mask_counts(run, scored):
    images, latent = run.bench.images, LATENTS[1]
    again = rescore(run, scored, PROTOCOLS["first mask"]).set_index(["method", "latent"]).iou
    text = scored.set_index(["method", "latent"]).explanation[HYBRID.masks_add.key, latent]
    picture = int(run.bench.evidence.image[latent, 3])
    whole = run.bench.segmenter.segment(text, picture)
    first = run.bench.segmenter.segment(text, picture, first_only=True)
    assert first.any() and first.sum() < whole.sum() == images.scene(picture).atoms.size
    assert not again.equals(scored.set_index(["method", "latent"]).iou)


def lifted(**lift: float) -> pd.DataFrame:
    """Sixty latents, good or bad by every metric alike, with noise of its own in each: votes are close."""
    table, rng = scores(3, 60, METHODS, **lift), np.random.default_rng(0)
    return table.assign(**{m: table[m] + 0.1 * rng.normal(size=len(table)) for m in voters()})


def agreed(scored: pd.DataFrame) -> pd.DataFrame:
    """Top-k's rows, with a similarity to Steering that the CLIP score follows."""
    part = scored[scored.method == TOP_K.masks.key]
    return part.assign(similarity=part["clip"].rank())


def test_scores_in_the_right_places_change_no_winner_and_others_do():
    table = lifted(hybrid=0.01)
    found = pairing(table, agreed(table)).set_index(["join", "what"])
    changed = found.xs("share of latents with another winner", level="what").estimate
    assert changed[JOINS[0]] == 0 and (changed[list(JOINS[1:])] > 0.05).all()
    votes = found.estimate[found.index.get_level_values("what").str.startswith("vote")]
    assert votes.groupby("join").sum().round(9).eq(1).all()
    follows = found.xs("Top-k, CLIP score and similarity to Steering", level="what")
    assert follows.estimate[JOINS[0]] == pytest.approx(1) and (follows.low[list(JOINS[1:])] < 0.5).all()


def test_one_listing_moves_all_methods_alike_and_two_do_not():
    table = lifted()
    table["clip"] = table.latent.astype(float)
    moved = {how: joined(table, how).pivot(index="latent", columns="method", values="clip") for how in JOINS}
    assert moved[JOINS[0]].eq(moved[JOINS[0]].index, axis=0).all(axis=None)
    assert moved[JOINS[1]].nunique(axis=1).eq(1).all() and moved[JOINS[2]].nunique(axis=1).gt(1).any()
    assert all(one.mean().round(9).nunique() == 1 for one in moved.values())
    with pytest.raises(KeyError, match="no way to join 'luck'"):
        joined(table, "luck")


def test_joining_stays_within_a_dictionary():
    table = pd.concat([lifted().assign(dictionary=d, concept="c", clip=float(d)) for d in (0, 1)], ignore_index=True)
    assert all(joined(table, how)["clip"].equals(table["clip"]) for how in JOINS)


def test_a_trap_that_moves_both_methods_alike_leaves_their_gap():
    table = lifted()
    one = table.assign(iou=table.iou + np.where(table.method == STEERING.add.key, 0.4, 0.3))
    fewer = table[~((table.method == STEERING.add.key) & (table.latent < 20))]
    tables = {"corrected": table, "shared images": table.assign(iou=table.iou + 0.3), "first mask": one}
    found = gap_effects(tables | {"failures dropped": fewer}).set_index(["protocol", "evidence", "metric"])
    assert found.estimate["shared images", "masks", "iou"] == pytest.approx(0)
    assert found.estimate["first mask", "heatmaps", "iou"] == pytest.approx(0.1)
    assert found.estimate["first mask", "masks", "clip"] == 0
    assert found.n["failures dropped"].eq(40).all() and found.n["first mask"].eq(60).all()


@pytest.mark.parametrize("up", [1, -1])
def test_findings_say_what_the_tables_say(up):
    effect = {"estimate": 0.1 * up, "low": 0.1 * up - 0.05, "high": 0.1 * up + 0.05, "n": 7, "p": 0.02}
    none, level = dict.fromkeys(effect, 0.0) | {"n": 7}, {**effect, "low": -0.4, "high": 0.4}
    about, shared = {"protocol": "first mask", "evidence": "masks"}, {"protocol": "shared images", "evidence": "masks"}
    rows = [{**about, "metric": "iou", **effect}, {**about, "metric": "clip", **none}, {**shared, **level}]
    gaps = pd.DataFrame(rows).fillna({"metric": "clip"})
    table = lifted(hybrid=0.01)
    like = agreed(table).assign(similarity=lambda t: t.similarity * up)
    paired = pairing(table, like)
    lines = findings(gaps, paired)
    assert not any(map(unsupported, lines)) and len(lines) == 1 + 1 + 2
    moved = number(Estimate(effect["estimate"], effect["low"], effect["high"], 7))
    assert lines[0] == (f"Steering minus Top-k changes with “first mask” in IoU (masks) by {moved}, p 0.020 (n = 7).")
    assert lines[1].startswith("Steering minus Top-k is not shown to change with “shared images” in CLIP score (masks)")
    assert "first mask" not in lines[1]  # what it does not touch, it cannot change
    assert all(line.count("joined by") == 3 for line in lines[2:])
    assert f"words: {up:.3f} [" in lines[3] and "joined by latent;" in lines[3]


def test_the_answer_names_the_largest_changes(run, scored):
    methods = (TOP_K.masks, HYBRID.masks_add)
    table = protocol_table(rescored(run, scored, methods), methods)
    means = table.pivot(index=["method", "metric"], columns="protocol", values="estimate")
    singles = means.loc[means.index.get_level_values("metric") != "synthetic", list(TRAPS)]
    gaps = pd.DataFrame({"protocol": ["first mask", "shared images"], "evidence": "masks", "metric": ["iou", "clip"]})
    line = answer(table, gaps.assign(estimate=[0.01, -0.25]))
    assert f"makes to a mean is {singles.sub(means['corrected'], axis=0).abs().max(axis=None):.3f} (" in line
    assert "Steering minus Top-k 0.250 (CLIP score, masks; “shared images”)" in line and not unsupported(line)


def test_people_see_one_row_for_each_thing_that_is_joined():
    table = lifted(hybrid=0.01)
    paired = pairing(table, agreed(table))
    wide = pairing_shown(paired)
    assert len(wide) * len(JOINS) == len(paired) and wide.n.eq(60).all()
    assert wide.columns.tolist() == ["what", "by latent", "one listing", "a listing for each method", "n"]
    assert wide["by latent"][0] == "0.000 [0.000, 0.000]" and wide.what.is_unique


def test_every_trap_says_where_it_stands():
    table = release()
    assert set(TRAPS) <= set(table.trap) and table.notna().all(axis=None)
    assert table.commit.str.fullmatch("[0-9a-f]{12}").all() and table.line.str.fullmatch(r"[\d, -]+").all()
    assert table.file.str.fullmatch(r"[\w/]+\.py").all()
    assert released().startswith("https://github.com/") and f"/tree/{table.commit[0]}" in released()


def test_unknown_traps_are_refused():
    assert Protocol(frozenset(TRAPS)).traps == set(TRAPS)
    with pytest.raises(KeyError, match="no trap 'luck'"):
        Protocol(frozenset({"luck"}))
