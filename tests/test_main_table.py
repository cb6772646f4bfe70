"""The main table, its note and its sentences; controls beside their methods; pictures beside what is said of them."""

import types

import pandas as pd
import pytest
import torch
from tiny_tables import scores

from lib.effects import COMPOSITES
from lib.findings import unsupported
from lib.images import UnreadableImage
from lib.kept import Evidence
from lib.methods import COMPARED, HYBRID, NOTHING, STEERING, TOP_K, trio
from lib.metrics import metrics_of
from lib.scenes.images import SceneImages
from lib.stats import Estimate, bootstrap
from lib.studies import controls
from lib.studies import gallery as galleries
from lib.studies.controls import (
    beside,
    control_effects,
    control_table,
    hybrid_controls,
    means_of,
    own_direction,
    table6,
)
from lib.studies.main_table import answer, findings, main_table, panels, published, rows_of, table_note, worded
from lib.studies.two_by_two import CELLS, control_figure, square, square_figure, two_by_two


def run_of(**more):
    """As much of a run as a table asks for."""
    profile = types.SimpleNamespace(
        subject=types.SimpleNamespace(name="Tiny", layer=3), explain=types.SimpleNamespace(k=2)
    )
    return types.SimpleNamespace(profile=profile, **more)


def with_controls(scored: pd.DataFrame) -> pd.DataFrame:
    blank = scored[scored.method == TOP_K.masks.key].assign(method=NOTHING.key)
    steering = scored[scored.method.isin([m.key for m in STEERING])]
    return pd.concat([blank, scored, *(steering.assign(control=c, iou=0.25) for c in ("random", "permuted"))])


def test_rows_are_in_the_papers_order_and_published_numbers_stand_beside_their_own_rows():
    scored = scores(0, methods=COMPARED[::-1])
    assert [row.method for row in rows_of(scored)] == list(COMPARED)
    paper = published("table1", "Gemma 3")
    table, shown = main_table(scored, paper)
    row = table[(table.method == "Top-k") & (table.evidence == "heatmaps")].iloc[0]
    wanted = paper[(paper.method == "Top-k") & (paper.evidence == "heatmaps")].iloc[0]
    assert row.iou_paper == wanted.iou and row.iou_low < row.iou < row.iou_high and row.n == 60
    assert table[table.intervention == "replace"].iou_paper.isna().all()  # never published
    assert not [column for column in table if column.startswith("correctness_paper")]
    blocks = [part.set_index("method") for _, part in shown.groupby((shown.n != "").cumsum())]
    assert [block.index[0] for block in blocks] == [worded(method) for method in COMPARED]
    for method, block, numbers in zip(COMPARED, blocks, table.itertuples()):
        assert block.IoU.iloc[0] == f"{numbers.iou:.3f}"
        assert block.IoU["95 % interval"] == f"[{numbers.iou_low:.2f}, {numbers.iou_high:.2f}]"
        assert ("published" in block.index) == (method.steer != "replace")
        if "published" in block.index:
            assert block.IoU["published"] == f"{numbers.iou_paper:.3f}" and block.Correctness["published"] == "-"
    assert "published" not in set(main_table(scored, paper[:0])[1].method)


def test_a_panel_shows_every_row_of_its_subject():
    rows = rows_of(scores(0, methods=COMPARED))
    fig = panels({"One": rows})
    assert len(fig.axes) == len(rows[0].estimates)
    labels = [text.get_text() for text in fig.axes[0].get_yticklabels()]
    assert labels == [f"{worded(row.method)} (n = 60)" for row in rows]
    several = panels({"One": rows, "Another": rows})
    assert len(several.axes) == 2 * len(rows[0].estimates)
    assert several.axes[0].get_ylabel() == "One\n(n = 60)"


def test_the_note_says_which_coefficients_its_own_table_was_made_with():
    scored = scores(0, methods=(TOP_K.masks, HYBRID.masks_add, STEERING.add))
    controls = scored.assign(control="random", coefficient=9.0)
    note = table_note(run_of(), pd.concat([controls, scored]))
    assert note.startswith("Tiny, layer 3; 60 test latents, mean")
    assert note.endswith("mean norm, by dictionary: steering-add 2; hybrid-masks-add 2.")
    other = scored.assign(dictionary=1, coefficient=4.0)
    note = table_note(run_of(), pd.concat([scored, other]))
    assert "2 dictionaries of 60 test latents each" in note and "steering-add 2, 4;" in note


def test_sentences_follow_the_numbers():
    scored = scores(1, hybrid=2.0, Steering=-1.0)
    lines = findings(scored, None)
    assert lines[0].startswith("Both together explain best: the hybrid is ahead of Top-k by ")
    assert lines[1].startswith(
        "Composite (standard deviations), both kinds of evidence: Steering is lower than Top-k ("
    )
    assert lines[2].startswith("Correctness, both kinds of evidence: Steering is lower than Top-k (difference -0.99")
    assert lines[3].startswith("Correctness, both kinds of evidence: hybrid is higher than Top-k (difference 2.0")
    assert not [line for line in lines if unsupported(line) or "ceiling" in line]
    unknown = findings(scored.drop(columns=["correctness", "patch_f1"]), None)
    assert unknown == [line for line in lines if "Correctness" not in line]


@pytest.mark.parametrize(
    ("lead", "wins"),
    [({}, "No method is"), ({"Top-k": 2.0}, "Looking at pictures"), ({"Steering": 2.0}, "Being steered")],
)
def test_the_answer_names_who_is_ahead_of_both_others_if_anybody_is(lead, wins):
    said = findings(scores(1, **lead), None)[0]
    assert said.startswith(f"{wins} ") and not unsupported(said)


def test_to_be_ahead_of_one_other_is_not_to_explain_best():
    up, level = Estimate(0.3, 0.2, 0.4, 9), Estimate(0.1, -0.1, 0.3, 9)
    pairs = {"Steering - Top-k": level, "hybrid - Top-k": up, "hybrid - Steering": level}
    assert answer(pairs).startswith("No method is shown to explain best") and not unsupported(answer(pairs))
    assert "the hybrid is ahead of Top-k by 0.300" in answer({**pairs, "hybrid - Steering": up})


def test_where_the_hybrid_leads_is_told_apart_by_kind_of_evidence():
    scored = scores(1)
    noise = pd.Series(range(len(scored)), scored.index) % 3 - 1
    judged = list(COMPOSITES["composite"])
    lead = scored.method.eq(HYBRID.heatmaps_add.key) * 2 + noise * 0.3
    scored[judged] = scored[judged].add(lead, axis=0)
    masks, heatmaps, more = findings(scored, None)[-3:]
    assert "masks: hybrid and Top-k are not told apart" in masks and "heatmaps: hybrid is higher" in heatmaps
    assert more.startswith("Composite (standard deviations), the hybrid's lead over Top-k: with heatmaps it is higher")


def test_controls_stand_under_the_method_that_they_belong_to():
    table = control_table(with_controls(scores(2, methods=COMPARED)), None).set_index("explanation")
    assert list(table.index[:3]) == ["Top-k, masks", "Steering-informed Top-k, masks, add", "Steering, add"]
    assert table.IoU[["random direction, add", "permuted direction, replace"]].eq("0.250").all()
    assert table.n.eq(60).all() and "Correctness" not in table  # that has columns of its own, where it is known


def test_published_controls_stand_beside_added_directions_alone():
    scored = with_controls(scores(3, methods=COMPARED))
    hybrid = scores(3, methods=(HYBRID.masks_add,))
    permuted = hybrid.assign(control="permuted")
    scored = pd.concat([scored, permuted])
    paper = published("table6", "Gemma 3")
    table = table6(
        scored, pd.concat([hybrid, permuted.assign(iou=9.0), hybrid.assign(control="both")]), paper
    ).set_index(["method", "control"])
    theirs = paper.set_index("method").iou
    assert table["IoU, paper"]["steering-add", "random"] == f"{theirs['Random-vector Steering']:.3f}"
    assert table["IoU, paper"]["hybrid-masks-add", "-"] == f"{theirs['Steering-informed Top-k']:.3f}"
    none = [("steering-replace", "-"), ("steering-replace", "random"), ("hybrid-masks-add", "both")]
    assert table["IoU, paper"][none].eq("-").all()
    page = means_of(table.reset_index())
    own = page[page.n != ""]
    assert len(own) == len(table) and len(page) - len(own) == table["IoU, paper"].ne("-").sum()
    assert list(own.direction[:3]) == ["own", "random", "another's"] and own.images.eq("another's").sum() == 1
    assert own.IoU.iloc[0] == table.IoU.iloc[0].split()[0]
    after = page.iloc[own.index[1] + 1]
    assert after.method == "published" and after.IoU == f"{theirs['Random-vector Steering']:.3f}"


def test_controls_are_compared_over_the_same_latents():
    own = scores(7)
    control = own[own.method == STEERING.add.key].assign(control="random", iou=0.25)
    out = control_effects(pd.concat([own, control]), STEERING.add.key)
    assert set(out.what) == {"Steering - control", "control"}
    assert len(out) == 2 * 2 * (len(metrics_of(own)) + len(COMPOSITES)) and set(out.control) == {"random", "all"}
    mine = out[(out.metric == "iou") & (out.what == "control")].iloc[0]
    assert mine.estimate == 0.25 and mine.control == "random"


def exchanged(**lift: float) -> pd.DataFrame:
    """The hybrid's two-by-two: ``lift`` is added under a control."""
    own = scores(8, methods=(HYBRID.masks_add, HYBRID.heatmaps_add))
    parts = [own.assign(control="" if c == "own" else c) for c in ("own", "random", "permuted", "images", "both")]
    out = pd.concat(parts, ignore_index=True)
    judged = [*metrics_of(out)]
    out[judged] = out[judged].add(out.control.map(lift).fillna(0.0), axis=0)
    return out


def test_the_two_by_two_tells_the_direction_from_the_images():
    hybrid = exchanged(permuted=-1.0, images=-3.0, both=-3.5)
    four = square(hybrid, "iou", "masks")
    assert set(four) == {(a, b) for a in ("own", "another's") for b in ("own", "another's")}
    assert set(four) == {cell for control, cell in CELLS.items() if control != "random"}
    found = two_by_two(hybrid).set_index(["evidence", "what", "metric"]).estimate["masks"].xs("iou", level="metric")
    assert found.to_numpy() == pytest.approx([1.0, 0.5, 3.0, 2.5, 0.5])
    assert found.index[-1].endswith("(interaction)")


def test_figures_of_controls_show_every_cell_and_how_many():
    hybrid = exchanged(permuted=-1.0)
    fig = square_figure(hybrid, ["composite", "correctness"])
    assert len(fig.axes) == 4 and any("n = 60" in fig.axes[0].get_title(loc=where) for where in ("left", "center"))
    scored = with_controls(scores(3, methods=COMPARED))
    labels = [text.get_text() for text in control_figure(scored, hybrid).axes[0].get_yticklabels()]
    assert labels[:4] == ["Steering, add", *(f"{c} direction (n = 60)" for c in ("own", "random", "another's"))]
    assert labels[-5:] == [
        *(f"{whose} direction (n = 60)" for whose in ("own", "random", "another's")),
        "another's images (n = 60)",
        "both another's (n = 60)",
    ]


def test_ceilings_are_those_of_the_latents_that_are_shown():
    scored = with_controls(scores(2, methods=COMPARED))
    keys = scored.drop_duplicates("latent").set_index(["dictionary", "latent", "concept"]).index
    best = pd.DataFrame({("best single element", m): range(len(keys)) for m in ("patch_f1", "correctness")}, keys)
    few = scored[scored.latent < 10]
    table = control_table(few, best.astype(float)).set_index("explanation")
    assert table.n["ceiling: best single element"] == 10
    assert table["patch F1"]["ceiling: best single element"] == str(bootstrap(best.iloc[:10, 0].astype(float)))
    assert list(controls.without_judges(table.reset_index())) == [
        "explanation", "patch F1", "correctness", "share of ceiling", "n",
    ]  # fmt: skip


def test_effects_stand_side_by_side_where_they_are_compared():
    gain = own_direction(exchanged(permuted=-1.0))
    page = beside(gain, ["metric"], "evidence", {"masks": "under masks", "heatmaps": "under heatmaps"})
    assert list(page) == ["metric", "under masks", "under heatmaps"] and list(page.metric) == list(gain.metric.unique())
    assert page["under masks"].iloc[0].startswith("1.000 [")


@pytest.mark.parametrize("lead", [2.0, 0.0])
def test_the_controls_findings_say_whose_direction_it_is(lead):
    steering = scores(7)
    rng = pd.Series(range(60)) % 3 - 1.0
    control = steering[steering.method == STEERING.add.key].assign(control="random")
    judged = [*metrics_of(steering)]
    control[judged] = control[judged].sub(lead, axis=0).add(0.3 * rng.to_numpy(), axis=0)
    hybrid = exchanged(permuted=-lead, images=-lead, both=-lead)
    effects = control_effects(pd.concat([steering, control]), STEERING.add.key)
    lines = controls.findings(effects, own_direction(hybrid), two_by_two(hybrid))
    said = "For Steering yes: own minus" if lead else "For Steering this is not shown: own minus"
    assert said in lines[0] and not [line for line in lines if unsupported(line)] and len(lines) <= 9
    assert ("masks yes (" in lines[0]) == bool(lead)


def test_the_hybrid_is_asked_with_every_control_and_without():
    def answers(asked, latents):
        return [pd.DataFrame({"latent": latents, "method": m.key, "control": control or ""}) for m, control in asked]

    among = []
    run = run_of(
        at_best=lambda m: m,
        control=lambda name, latents: (among.append(latents), name)[1],
        variation=lambda method, control: (method, control),
        answers=answers,
        score=lambda t: t,
        latents={"test": [1, 2, 3]},
    )
    table = hybrid_controls(run, [1, 2])
    assert among == [[1, 2, 3]] * 4  # another's is that of any test latent, as in the main comparison
    assert len(table) == 20 and list(dict.fromkeys(table.control)) == ["", "random", "permuted", "images", "both"]
    assert set(table.method) == {HYBRID.masks_add.key, HYBRID.heatmaps_add.key}


class OneGone(SceneImages):
    """A set whose first picture has been removed since."""

    def __getitem__(self, index):
        if index == 0:
            raise UnreadableImage("0", "gone")
        return super().__getitem__(index)


@pytest.mark.parametrize("images", [SceneImages(5, 0, 4), OneGone(5, 0, 4)], ids=["all there", "one gone"])
def test_a_gallery_shows_what_there_is(images):
    heat = torch.ones(60, 2, 64)
    top = Evidence(torch.ones(60, 2), torch.tensor([[0, 1]] * 60), heat, torch.ones(60), torch.ones(60))
    gathered = types.SimpleNamespace(top=top, images=images)
    run, scored = run_of(shown=gathered, held_out=gathered, truth=None), scores(4)
    latents = galleries.gallery_latents(scored, 3)
    fig = galleries.gallery(run, scored, latents)
    shown = [bool(axis.images) for axis in fig.axes[:2]]
    assert shown == [type(images) is SceneImages, True] and len(fig.axes) == 3 * 3
    texts = [text.get_text() for text in fig.axes[2].texts]
    assert [t for t in texts if "water" in t] == [
        f"{m.family}: water" for m in (TOP_K.masks, STEERING.add, HYBRID.masks_add)
    ]
    found = scored.head(2).assign(query="q", share=0.5)
    assert len(galleries.evidence_sheet(run, found, held_out=True).axes) == 2 * 3


def test_latents_of_a_gallery_are_spread_over_the_ranks():
    scored = scores(5, n=21)
    order = scored[scored.method.isin([m.key for m in trio("masks")])].groupby("latent").correctness.mean()
    ranks = order.rank(ascending=False)[galleries.gallery_latents(scored, 3)]
    assert ranks.is_monotonic_increasing and ranks.iloc[0] < 6 and ranks.iloc[-1] > 16
    assert galleries.quality_of(scored.drop(columns="correctness")) == "iou"
