"""Figures and tables come out whole, whatever a model has said."""

import matplotlib as mpl
import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import pytest

from lib.figures import COLOURS, markdown, save_figure, save_table, show_images, use_style
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
        save_figure(each, tmp_path, name)
        assert (tmp_path / f"{name}.png").stat().st_size > 500 and (tmp_path / f"{name}.pdf").exists()
    plt.close("all")


def test_powers_of_ten_on_an_axis_stay_powers(tmp_path):
    """They are formulas by matplotlib itself: printed as they are, they would be dollars and braces."""
    fig, axis = plt.subplots()
    axis.set(xscale="log", xlim=(1e-3, 1e5), xlabel="$$")
    axis.set(yscale="log", ylim=(2, 5))  # its labels are minor ones
    save_figure(fig, tmp_path, "powers")
    labels = [text for a in (axis.xaxis, axis.yaxis) for text in a.get_ticklabels(which="both") if text.get_text()]
    assert len(labels) > 5 and all(label.get_parse_math() for label in labels)
    assert not axis.xaxis.label.get_parse_math()
    plt.close("all")


def test_the_same_figure_has_the_same_bytes(tmp_path):
    for name in "ab":
        fig, axis = plt.subplots()
        axis.plot([1, 10, 100])
        axis.set_yscale("log")
        save_figure(fig, tmp_path, name)
    for kind in ("png", "pdf"):
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
    save_figure(plt.figure(), tmp_path, "f")
    lines = (tmp_path / "notes").read_text().splitlines()
    assert lines == [f"made\t{tmp_path / name}" for name in ("t.csv", "t.md", "f.png", "f.pdf")]
    plt.close("all")


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
