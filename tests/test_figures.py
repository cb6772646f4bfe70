"""Figures and tables come out whole, whatever a model has said."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.dark import on_dark_page, turned
from lib.figures import COLOURS, markdown, save_figure, save_table, show_images, side_by_side, use_style
from lib.methods import METHODS

SAYINGS = [
    "$$", "$x", "costs $5 or $6", "$_$", "$\\frac$", "a_b", "\\", "\\|", "a | b", "|", "two\nlines", "\r\n", "`code`",
    "{x}", "<b>", "100 %", "",
]  # fmt: skip


@pytest.mark.parametrize("saying", SAYINGS)
def test_a_figure_shows_what_was_said_and_no_formula(saying, tmp_path):
    pixels = np.zeros((4, 4, 3), np.uint8)
    fig = show_images([pixels] * 2, [saying] * 2, 2)
    fig.suptitle(saying)
    axis = fig.axes[0]
    axis.axis("on")
    axis.set(xlabel=saying, yticks=[0, 1], yticklabels=[saying, "x"])
    axis.plot([0, 1], label=saying)
    axis.text(0, 0, saying)
    axis.annotate(saying, (0, 0))
    axis.legend()
    bars, more = plt.subplots()
    more.barh([f"{saying}1", f"{saying}2"], [1, 2])  # categories: their labels are made while drawing
    for name, each in (("a", fig), ("b", bars)):
        save_figure(each, tmp_path, name, "caption")
        assert (tmp_path / f"{name}.png").stat().st_size > 500 and (tmp_path / f"{name}.pdf").exists()
    plt.close("all")


def test_powers_of_ten_on_an_axis_stay_powers(tmp_path):
    """They are formulas by matplotlib itself: printed as they are, they would be dollars and braces."""
    fig, axis = plt.subplots()
    axis.set(xscale="log", xlim=(1e-3, 1e5), xlabel="$$")
    axis.set(yscale="log", ylim=(2, 5))  # its labels are minor ones
    save_figure(fig, tmp_path, "powers", "caption")
    labels = [text for a in (axis.xaxis, axis.yaxis) for text in a.get_ticklabels(which="both") if text.get_text()]
    assert len(labels) > 5 and all(label.get_parse_math() for label in labels)
    assert not axis.xaxis.label.get_parse_math()
    plt.close("all")


def test_the_same_figure_has_the_same_bytes(tmp_path):
    for name in "ab":
        fig, axis = plt.subplots()
        axis.plot([1, 10, 100])
        axis.set_yscale("log")
        save_figure(fig, tmp_path, name, "caption")
    for kind in ("png", "pdf", "dark.png"):
        assert (tmp_path / f"a.{kind}").read_bytes() == (tmp_path / f"b.{kind}").read_bytes()
    plt.close("all")


def cells(line: str) -> list[str]:
    """The cells of a row of a Markdown table, as GitHub reads it: a backslash escapes the sign behind it."""
    found, escaped = [""], False
    for sign in line.strip()[1:-1]:
        if sign == "|" and not escaped:
            found.append("")
        else:
            found[-1] += sign if not escaped or sign not in "\\|" else f"\b{sign}"
        escaped = sign == "\\" and not escaped
    return [cell.replace("\\\b", "").strip() for cell in found]


def test_a_markdown_table_stays_a_table_whatever_its_cells_and_heads_hold(tmp_path):
    table = pd.DataFrame({"said": SAYINGS, "a|b": 0.5, "n": range(len(SAYINGS))})
    lines = markdown(table).splitlines()
    assert len(lines) == len(SAYINGS) + 2
    assert all(len(cells(line)) == 3 for line in [lines[0], *lines[2:]])
    assert cells(lines[0])[1] == "a|b"
    for saying, line in zip(SAYINGS, lines[2:]):
        assert cells(line)[0] == " ".join(saying.splitlines()).strip()
    save_table(table, tmp_path, "t", "note")
    assert (tmp_path / "t.md").read_text() == markdown(table) + "\n\nnote\n"
    assert pd.read_csv(tmp_path / "t.csv", keep_default_na=False, lineterminator="\n").n.tolist() == list(
        range(len(SAYINGS))
    )


def test_a_table_without_such_signs_is_written_as_ever(tmp_path):
    table = pd.DataFrame({"a": ["x_y", "z"], "b": [0.123456, None], "c": [1, 2], "d": [True, False], "e": [None, "f"]})
    assert markdown(table) == table.to_markdown(index=False, disable_numparse=True)
    assert save_table(table, tmp_path, "t", "note").b[0] == 0.1235
    assert (tmp_path / "t.csv").read_text() == "a,b,c,d,e\nx_y,0.1235,1,True,\nz,,2,False,f\n"


def test_what_was_made_is_noted(tmp_path, monkeypatch):
    monkeypatch.setenv("STEERING_COMPANION_MADE", str(tmp_path / "notes"))
    save_table(pd.DataFrame({"a": [1]}), tmp_path, "t", "note")
    save_figure(plt.figure(), tmp_path, "f", "caption")
    lines = (tmp_path / "notes").read_text().splitlines()
    assert lines == [f"made\t{tmp_path / name}" for name in ("t.csv", "t.md", "f.png", "f.pdf", "f.dark.png", "f.txt")]
    plt.close("all")


def test_a_figure_needs_a_caption_which_is_kept_as_one_line(tmp_path):
    with pytest.raises(ValueError, match="figure f needs a caption that stands alone"):
        save_figure(plt.figure(), tmp_path, "f", " \n ")
    assert not list(tmp_path.iterdir())
    save_figure(plt.figure(), tmp_path, "f", "Two lines\n  of it.")
    assert (tmp_path / "f.txt").read_text() == "Two lines of it.\n" and not plt.get_fignums()[1:]
    plt.close("all")


def test_estimates_are_shown_with_their_intervals_and_kept_as_numbers(tmp_path):
    table = pd.DataFrame({"what": ["a", "b"], "estimate": [0.12345, -0.5], "low": [0.1, -1], "high": [0.2, 0], "n": 7})
    shown = save_table(table, tmp_path, "t", "note")
    assert shown.columns.tolist() == ["what", "estimate", "n"]
    assert shown.estimate.tolist() == ["0.123 [0.100, 0.200]", "-0.500 [-1.000, 0.000]"]
    assert (
        pd.read_csv(tmp_path / "t.csv").low.tolist() == [0.1, -1] and "0.123 [0.100" in (tmp_path / "t.md").read_text()
    )


def drawn() -> mpl.figure.Figure:
    """A figure with all that has a colour."""
    use_style()
    fig, (left, right) = plt.subplots(1, 2)
    left.errorbar([1, 2], [1, 2], yerr=0.1, fmt="o", color=COLOURS["Steering"], label="x")
    left.axhline(1.5, color="#AAAAAA")
    left.plot([1, 2], [2, 1], "o-", color="black")
    left.axvspan(1, 1.2, color="#EEEEEE")
    left.text(1.5, 1.5, "boxed", bbox={"fc": "white"})
    left.annotate("", (1, 1), (2, 2), arrowprops={"color": "black", "arrowstyle": "->"})
    left.legend(frameon=True)
    right.imshow(np.eye(4))
    right.scatter([1, 2], [1, 2], c=[0.0, 1.0])
    fig.canvas.draw()
    return fig


def test_on_a_dark_page_ink_and_paper_change_places_and_colours_stay():
    fig = drawn()
    text, line = fig.axes[0].texts[0], fig.axes[0].lines[0]
    with on_dark_page(fig):
        assert sum(fig.get_facecolor()[:3]) < 0.4 and min(mpl.colors.to_rgb(text.get_color())) > 0.8
        arrow = fig.axes[0].texts[1].arrow_patch
        assert min(arrow.get_edgecolor()[:3]) > 0.8
        assert max(text.get_bbox_patch().get_facecolor()[:3]) < 0.2  # the box behind it is no part of the axes
        assert mpl.colors.same_color(line.get_color(), COLOURS["Steering"])
        black = fig.axes[0].lines[-1]
        assert min(mpl.colors.to_rgb(black.get_color())) > 0.8 and min(mpl.colors.to_rgb(black.get_mfc())) > 0.8
        assert fig.axes[1].collections[0].get_array() is not None
    assert fig.get_facecolor() == (1, 1, 1, 1) and text.get_color() == "black"
    plt.close("all")


def test_after_the_dark_page_a_figure_is_what_it_was(tmp_path):
    fig = drawn()
    fig.savefig(tmp_path / "before.png")
    with pytest.raises(RuntimeError), on_dark_page(fig):
        raise RuntimeError
    fig.savefig(tmp_path / "after.png")
    assert (tmp_path / "before.png").read_bytes() == (tmp_path / "after.png").read_bytes()
    plt.close("all")


@pytest.mark.parametrize("colour", ["black", "white", "#555555", "none", "#D55E00", (0, 0, 0, 0.3), ["black", "red"]])
def test_greys_turn_round_and_keep_how_opaque_they_are(colour):
    before, after = mpl.colors.to_rgba_array(colour), turned(colour)
    assert before.shape == after.shape and (before[:, 3] == after[:, 3]).all()
    for was, now in zip(before[:, :3], after[:, :3]):
        if np.ptp(was) < 0.05:
            assert np.isclose(now[0], 0.93 - 0.84 * was[0])
        else:
            assert (was == now).all()


def test_every_family_of_methods_has_a_colour():
    assert {method.family for method in METHODS.values()} <= set(COLOURS)


def test_a_user_s_own_settings_of_matplotlib_change_no_figure():
    """Somebody's matplotlibrc, or an earlier cell, may have set anything."""
    use_style()
    ours = dict(mpl.rcParams)
    with mpl.rc_context():
        mpl.rcParams.update({"axes.facecolor": "pink", "lines.linewidth": 7, "font.family": "serif"})
        use_style()
        assert {k: v for k, v in mpl.rcParams.items() if ours[k] != v} == {}


def test_a_long_table_stands_side_by_side_in_its_own_order():
    long = pd.DataFrame({"b": [2, 2, 1], "n": 7, "what": ["y", "x", "y"], "cell": ["p", "q", "r"]})
    wide = side_by_side(long, ["b", "n"], "what")
    assert list(wide) == ["b", "n", "y", "x"] and wide.b.tolist() == [2, 1] and wide.columns.name is None
    assert wide.y.tolist() == ["p", "r"] and wide.x[0] == "q" and pd.isna(wide.x[1])
    with pytest.raises(ValueError, match="duplicate"):  # two values for one place: none is dropped without a word
        side_by_side(long, ["n"], "what")
