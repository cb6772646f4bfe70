"""Contextual bias: what an explanation is about, whether its object stood there, the paper's selection, Figure 4."""

from types import SimpleNamespace

import matplotlib.pyplot as plt
import pandas as pd
import pytest
import torch

from lib.findings import unsupported
from lib.methods import HYBRID, PUBLISHED, STEERING, TOP_K, trio
from lib.paper import csv_of
from lib.scenes.catalogue import ATOM_INDEX, ATOMS
from lib.scenes.images import SceneImages
from lib.scenes.judges import SceneReader
from lib.scenes.truth import Truth
from lib.studies import bias_report
from lib.studies.bias import (
    base_rates,
    bias_selection,
    bias_table,
    bias_truth,
    bias_truth_effects,
    largest_differences,
    misprints,
)
from lib.studies.bias_report import (
    answer,
    by_evidence,
    count_of,
    findings,
    gallery_caption,
    gallery_cases,
    gallery_of,
    outcomes_caption,
    outcomes_figure,
    selection_findings,
    selection_shown,
    table2_shown,
    wide,
)
from lib.studies.context import background_latents, judge, judged, layout_of, top_objects

READER = SceneReader()


@pytest.mark.parametrize(
    ("text", "about", "at"),
    [
        ("a shark in water", "animal", "object"),
        ("animals", "animal", "object"),
        ("water", "background", "place"),
        ("red stripes", "background", "low-level"),
        ("something red", "background", "low-level"),
        ("converging lines", "background", "low-level"),
        ("stripes on sand", "background", "place"),
        ("a guitar on red stripes", "other", "object"),
        ("", "other", "unreadable"),
        ("justice", "other", "unreadable"),
    ],
)
def test_what_an_explanation_is_about(text, about, at):
    assert READER.label(text) == about and READER.level(text) == at


def truth_of(*atoms: dict[str, float]) -> Truth:
    """What each latent is active on."""
    mass = torch.zeros(len(atoms), len(ATOMS), dtype=torch.float64)
    for latent, on in enumerate(atoms):
        for name, value in on.items():
            mass[latent, ATOM_INDEX[name]] = value
    ones = torch.ones(len(ATOMS), dtype=torch.float64)
    return Truth(mass, mass, mass.clamp_max(1), ones, ones)


def atoms(*names: str) -> frozenset[int]:
    return frozenset(ATOM_INDEX[name] for name in names)


def test_background_latents_are_those_active_on_surfaces():
    truth = truth_of({"water": 9, "shark": 1}, {"water": 1, "shark": 1}, {"shark": 1})
    assert background_latents(truth, [0, 1, 2]) == [0]
    assert background_latents(truth, [0, 1, 2], purity=0.5) == [0, 1]


def test_a_plan_is_that_of_the_scene():
    images = SceneImages(3, 100, 50)[10:20]
    assert [layout_of(images, i) for i in range(10)] == [images.scene(i).layout for i in range(10)]


def test_objects_are_those_of_the_pictures_shown():
    images = SceneImages(3, 0, 20)
    top = SimpleNamespace(image=torch.tensor([[4, 7, 1], [5, -1, -1]]))
    found = top_objects(SimpleNamespace(images=images, top=top), [1, 0], 2)
    assert found == {
        1: (atoms(*images.scene(5).layout.object_names),),
        0: (atoms(*images.scene(4).layout.object_names), atoms(*images.scene(7).layout.object_names)),
    }


@pytest.mark.parametrize(
    ("text", "is_", "elsewhere"),
    [
        ("a shark in water", "context", 0),
        ("a sea animal", "context", 0),  # a shark is one
        ("an animal", "context", 1),  # and the dog of the other latent, too
        ("a dog on water", "error", 1),
        ("a dog and a crab", "context", 1),  # one of the two stood there
        ("water", "no object", 0),
        ("red stripes", "no object", 0),
        ("justice", "no object", 0),
    ],
)
def test_an_object_is_context_if_it_stood_in_a_picture_and_an_error_if_not(text, is_, elsewhere):
    pictures = {7: (atoms("shark"), atoms("crab"), frozenset()), 9: (atoms("dog"),)}
    explained = pd.DataFrame({"latent": [7, 3], "explanation": [text, text]})
    (row,) = judge(explained, pictures).to_dict("records")  # latent 3 is not asked about
    assert [what for what in ("no object", "context", "error") if row[what]] == [is_]
    assert row["object"] == (is_ != "no object") and row["elsewhere"] == elsewhere
    assert judge(explained, {7: pictures[7]}).elsewhere.isna().all()  # no other latent


def test_latents_of_several_dictionaries_are_judged_by_their_own_truth_and_pictures():
    images = SceneImages(3, 0, 500)
    has_dog = ["dog" in layout_of(images, i).object_names for i in range(500)]
    dog, other = has_dog.index(True), has_dog.index(False)
    background, not_ = {"water": 1.0}, {"shark": 1.0}
    runs = [replica(0, truth_of(background, not_), images, [[dog], [dog]])]
    runs += [replica(1, truth_of(background, background), images, [[other], [other]])]
    rows = [(d, i, f"{d} {i}", STEERING.add.key, c, "a dog") for d in (0, 1) for i in (0, 1) for c in ("", "random")]
    scored = pd.DataFrame(rows, columns=["dictionary", "latent", "concept", "method", "control", "explanation"])
    said = judged(runs, scored).set_index(["dictionary", "latent", "control"]).context
    assert said.to_dict() == {
        **{(0, 0, c): 1.0 for c in ("", "random")}, **{(1, i, c): 0.0 for i in (0, 1) for c in ("", "random")}
    }  # fmt: skip
    base = base_rates(runs, scored).set_index("what").estimate
    assert base["random directions: object"] == 1 and base["random directions: place"] == 0
    held = [float(bool(layout_of(images, i).object_names)) for i in (dog, other, other)]
    assert base["background latents with an object in a top image"] == pytest.approx(sum(held) / 3)


def replica(seed: int, truth: Truth, images: SceneImages, tops: list[list[int]]) -> SimpleNamespace:
    shown = SimpleNamespace(images=images, top=SimpleNamespace(image=torch.tensor(tops)))
    profile = SimpleNamespace(sae=SimpleNamespace(seed=seed), explain=SimpleNamespace(k=1))
    return SimpleNamespace(profile=profile, truth=truth, shown=shown, world=SimpleNamespace(reader=READER))


def outcomes(shares: dict, n: int = 40, random: float = 0.6) -> pd.DataFrame:
    """What is said of ``n`` background latents of two dictionaries: shares of (context, error) for each method."""
    rows = []
    for method, control in [(m, "") for m in PUBLISHED] + [(STEERING.add, "random")]:
        context, error = shares.get(method, (0, 0)) if not control else (0, random)
        for i in range(n):
            c, e = float(i < context * n), float(context * n <= i < (context + error) * n)
            flags = {"context": c, "error": e, "object": c + e, "no object": 1 - c - e, "elsewhere": 0.1}
            key = {"dictionary": i % 2, "latent": i, "concept": f"c{i}", "method": method.key, "control": control}
            rows.append(key | flags)
    return pd.DataFrame(rows)


def test_shares_of_outcomes_add_up_and_random_directions_stand_beside_them():
    table = bias_truth(outcomes({TOP_K.masks: (0.5, 0.25)}))
    masks = table[(table.method == "Top-k") & (table.evidence == "masks")].set_index("what").estimate
    assert masks[["no object", "context", "error"]].tolist() == [0.25, 0.5, 0.25]
    shown = wide(table)
    names = ["Steering", "Top-k, masks", "Top-k, heatmaps"]
    names += ["Steering-informed Top-k, masks", "Steering-informed Top-k, heatmaps", "random directions"]
    assert shown.explanation.tolist() == names and table.n.eq(40).all()
    assert list(shown) == ["explanation", "context", "error", "coincidence", "no object"]
    assert shown.error.iloc[-1].startswith("0.600") and shown.context.iloc[1].startswith("0.500")
    assert shown.coincidence.eq("0.100").all()


def test_the_figure_of_outcomes_has_a_row_for_each_method_and_a_mark_for_coincidence():
    fig = outcomes_figure(bias_truth(outcomes({TOP_K.masks: (0.5, 0.25)})))
    context, error = fig.axes
    labels = [label.get_text() for label in context.get_yticklabels()]
    assert labels[1] == "Top-k, masks" and labels[-1] == "random directions" and len(labels) == 6
    chance = next(line for line in context.lines if line.get_marker() == "|")
    assert chance.get_xdata() == pytest.approx([0.1] * 6) and list(chance.get_ydata()) == list(range(6))[::-1]
    assert not [line for line in error.lines if line.get_marker() == "|"]
    plt.close(fig)
    assert "(n = 40, over all dictionaries)" in outcomes_caption(bias_truth(outcomes({})))


@pytest.mark.parametrize(("top_k", "steering", "sign"), [(0.6, 0.0, 1), (0.0, 0.6, -1), (0.4, 0.3, 0)])
def test_effects_compare_over_the_same_latents_and_words_follow_them(top_k, steering, sign):
    said = outcomes({TOP_K.masks: (top_k, 0), TOP_K.heatmaps: (top_k / 2, 0), STEERING.add: (steering, 0.1)})
    effects = bias_truth_effects(said, "Gemma 3")
    assert not effects.duplicated(["what", "evidence"]).any() and effects.model.eq("Gemma 3").all()
    by = effects.set_index(["what", "evidence"]).estimate
    assert by["context: Top-k - Steering", "both"] == pytest.approx(0.75 * top_k - steering)
    assert by["context: Top-k - hybrid", "masks"] == pytest.approx(top_k)
    assert by["object: Top-k - Steering", "heatmaps"] == pytest.approx(top_k / 2 - steering - 0.1)
    assert by["context: Steering - coincidence", "blank"] == pytest.approx(steering - 0.1)
    assert by["object: Steering - random directions", "blank"] == pytest.approx(steering + 0.1 - 0.6)
    assert {"estimate", "low", "high", "n", "p"} <= set(effects)
    base = pd.DataFrame({"what": [f"random directions: {x}" for x in ("object", "place")]})
    lines = findings(effects, base.assign(estimate=0.6, low=0.5, high=0.7, n=40))
    assert {1: "higher", -1: "lower", 0: "not told apart"}[sign] in lines[0]
    told = {1: "seen", -1: "the opposite is seen", 0: "not shown"}[sign]
    assert f"beyond Steering, which sees no images, {told} (" in answer(effects, pd.DataFrame())
    assert not any(map(unsupported, lines)) and "0.600" in lines[-1]


def scored(said: dict, iou: dict) -> pd.DataFrame:
    rows = [
        {"latent": latent, "method": method.key, "control": "", "explanation": text, "iou": iou[method][latent]}
        for method, texts in said.items()
        for latent, text in enumerate(texts)
    ]
    return pd.DataFrame(rows)


def test_the_largest_differences_are_steerings_lead_and_a_third_at_most():
    iou = {STEERING.add: [0.9, 0.1, 0.5, 0.2, 0.0, 0.3], TOP_K.masks: [0.1, 0.9, 0.0, 0.2, 0.5, 0.3]}
    table = scored({method: ["water"] * 6 for method in iou}, iou)
    assert largest_differences(table, "masks") == [0, 2]
    assert largest_differences(table, "masks", n=1) == [0]


def test_the_table_counts_labels_of_the_chosen_latents_beside_the_published_ones():
    steering, top_k, hybrid = trio("masks")
    said = {steering: ["water"] * 6, top_k: ["a shark", "a shark", "water", "a dog", "a dog", "a dog"]}
    said |= {hybrid: ["a shark", *["water"] * 5], TOP_K.heatmaps: ["water"] * 6, HYBRID.heatmaps_add: ["water"] * 6}
    iou = {method: [0.0] * 6 for method in said} | {steering: [0.9, 0.8, 0.1, 0.1, 0.1, 0.1]}
    table, effects = bias_table({"Gemma 3": scored(said, iou), "mine": scored(said, iou)}, csv_of("table2"), READER)
    by = table.set_index(["evidence", "model", "method"])
    masks = by.loc["masks"]
    assert masks.loc[("Gemma 3", "Top-k")].animal.startswith("1.000") and masks.n.eq(2).all()
    assert masks.loc[("Gemma 3", "Top-k"), "animal, paper"] == "0.077"
    assert by.loc[("heatmaps", "Gemma 3", "Top-k"), ["animal, paper", "animal, paper's count"]].tolist() == [
        "0.477", "0.417",
    ]  # fmt: skip
    assert masks.loc["mine", "animal, paper"].eq("-").all()
    effects = effects[(effects.model == "mine") & (effects.evidence == "masks")].set_index("what").estimate
    assert effects.to_dict() == {"animal: Top-k - Steering": 1.0, "animal: Top-k - hybrid": 0.5}


def test_two_numbers_of_the_published_table_contradict_their_counts():
    assert misprints(csv_of("table2")) == [
        "Gemma 3, heatmaps, Top-k: 125 of 300 is 41.7 %, printed 47.7 %",
        "Gemma 3, heatmaps, Steering-informed Top-k: 116 of 300 is 38.7 %, printed 38.6 %",
    ]


def test_the_selection_says_what_it_holds():
    steering, top_k, _ = trio("masks")
    said = {steering: ["water"] * 9, top_k: ["a shark", *["water"] * 8], TOP_K.heatmaps: ["water"] * 9}
    iou = {steering: [0.9, 0.1, *[0.0] * 7], top_k: [0.1, 0.0, *[0.0] * 7], TOP_K.heatmaps: [0.0] * 9}
    truth = truth_of({"water": 1}, {"shark": 1}, {"water": 1}, *[{"shark": 1}] * 6)
    table = bias_selection({"a": scored(said, iou), "b": scored(said, iou)}, {"a": truth, "b": None})
    row = table[(table.model == "a") & (table.evidence == "masks")].iloc[0]
    assert row.drop(["model", "evidence"]).to_dict() == {
        "selected": 3, "of": 9, "Steering's IoU larger": 2, "same text": 2, "true backgrounds": 2, "both": 1,
    }  # fmt: skip
    what = {"what": "animal: Top-k - Steering", "model": ["a", "b"], "evidence": "masks"}
    effects = pd.DataFrame({**what, "estimate": 0.25, "low": -0.1, "high": 0.5, "n": 3})
    shares, holds = selection_findings(table, effects)
    assert "Top-k minus Steering: masks 0.250 [-0.100, 0.500], n = 3." in shares
    assert (
        "masks: of 3 latents 2 have a strictly larger IoU under Steering, 2 the same text by both, 2 are true" in holds
    )
    unknown = selection_findings(bias_selection({"b": scored(said, iou)}, {"b": None}), effects)
    assert len(unknown) == 2 and not any("true backgrounds" in line for line in unknown)
    shown = selection_shown(table)
    assert shown.selected.eq("3 of 9").all() and shown["true backgrounds"].tolist()[2:] == ["-", "-"]
    assert shown.both.iloc[0] == "1"


@pytest.fixture
def case():
    """A run, and what is said of five background latents of which Steering is ahead in this order."""
    images = SceneImages(3, 0, 40)
    one = next(i for i in range(40) if layout_of(images, i).object_names)
    there = layout_of(images, one).object_names[0]
    absent = next(n for n in ("dog", "shark", "guitar") if n not in layout_of(images, one).object_names)
    steering, top_k, hybrid = trio("heatmaps")
    said = {top_k: [f"a {absent}", f"a {there}", f"a {there}", "water", f"a {there}"]}
    said |= {m: ["water", "water", "water", "water", "a shark"] for m in (steering, hybrid)}
    table = scored(said, {m: [0.9, 0.8, 0.7, 0.6, 0.5] if m is steering else [0.1] * 5 for m in said})
    run = replica(0, truth_of(*[{"water": 1.0}] * 5), images, [[one]] * 5)
    return run, table.assign(correctness=[0.0 if latent == 1 else 0.5 for latent in table.latent])


def test_figure_4_shows_context_first_and_labels_errors(case):
    run, table = case
    cases = gallery_cases(run, table)
    assert list(cases) == [2, 0]  # 1 is not right at all, 3 names no object, and Steering names one on 4
    assert (
        cases[2].startswith("context")
        and "in 1 of these 1 images" in cases[2]
        and cases[0].startswith("error, not context")
    )
    assert list(gallery_cases(run, table, 1)) == [2]
    assert [count_of(cases, kind) for kind in (bias_report.CONTEXT, bias_report.ERROR)] == [1, 1]
    assert "1 are contextual bias and 1 plain errors" in gallery_caption(run, cases)
    wrong = gallery_cases(run, table.assign(correctness=0.0))
    assert all("no case" in label for label in wrong.values())  # a row on which all are wrong shows nothing
    assert "No case of contextual bias was found" in gallery_caption(run, wrong)
    calm = gallery_cases(run, table.assign(explanation="water"))
    assert list(calm) == [0, 1, 2, 3] and all("no case" in label for label in calm.values())


def test_figure_4_of_photographs_comes_from_the_selection(case):
    run, table = case
    run.truth = None
    assert gallery_cases(run, table) == {0: "Top-k names an object"}
    assert "paper's selection" in gallery_caption(run, gallery_cases(run, table))


def test_figure_4_is_of_the_dictionary_with_most_cases_of_context(case):
    run, table = case
    other = replica(1, run.truth, run.shown.images, run.shown.top.image.tolist())
    no_context = table.assign(explanation=table.explanation.where(table.latent == 0, "water"))
    both = pd.concat([no_context.assign(dictionary=0), table.assign(dictionary=1)], ignore_index=True)
    chosen, own, cases = gallery_of([run, other], both)
    assert chosen is other and own.dictionary.eq(1).all() and list(cases) == [2, 0]
    assert "(of 2 dictionaries the one with most cases of context)" in gallery_caption(chosen, cases, 2)


@pytest.mark.parametrize(("high", "verdict"), [(0.2, "is shown"), (-0.01, "is not established")])
def test_the_answer_needs_all_three_signs(high, verdict):
    said = outcomes({TOP_K.masks: (0.6, 0), TOP_K.heatmaps: (0.6, 0)})
    effects = bias_truth_effects(said, "Gemma 3")
    slope = {"dictionary": "fixed", "method": "Top-k, both", "estimate": high, "low": high - 0.1, "high": high + 0.1}
    line = answer(effects, pd.DataFrame([{**slope, "n": 40}]))
    assert f"in front of a background {verdict} here" in line and not unsupported(line)
    assert line.count("[") == 3 and line.count(", seen (") == (3 if high > 0.1 else 2)
    split = by_evidence(effects, pd.DataFrame([{**slope, "method": TOP_K.masks.key, "n": 40}]))
    assert split.count("[") == 3 and not unsupported(split)
    assert answer(effects, pd.DataFrame()).count("[") == 2  # one dose alone has no slope
    nothing = bias_truth_effects(outcomes({}), "Gemma 3")
    assert "is not shown here" in answer(nothing, pd.DataFrame())


def test_table_2_fits_a_page():
    table = pd.DataFrame([{
        "model": "M", "evidence": "masks", "method": "Top-k", "background": "b", "animal": "a", "other": "o",
        "animal, paper": "0.1", "animal, paper's count": "0.2", "n": 9,
    }])  # fmt: skip
    row = {
        "model": "M",
        "explanation": "Top-k, masks",
        "animal": "a",
        "background": "b",
        "animal, paper": "0.1",
        "n": 9,
    }
    assert table2_shown(table).to_dict("records") == [row]
