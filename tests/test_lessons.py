"""Every notebook is a lesson: what it teaches, to whom, in how long; what its numbers say; exercises with solutions."""

import re
from functools import cache

import nbformat
import pytest

from lib.running.collection import notebooks
from lib.store import ROOT

SOLUTIONS = "20"
LESSONS = [number for number in notebooks() if number != SOLUTIONS]
EXERCISE = re.compile(
    r"^\*\*(\d\d[a-z]?\.\d) ([^*\n]+)\*\* · (warm-up|practice|challenge|research) · (\d+) minutes$", re.MULTILINE
)
FOLDED = re.compile(r"<details>\s*<summary>([^<]+)</summary>\n\n(.+?)\n\n</details>", re.DOTALL)
WORDS_A_MINUTE = 160  # of technical prose
FIGURE = 0.5  # minutes that a look at a figure or a table takes
LINES_A_MINUTE = 20  # of code


@cache
def cells(number: str) -> list:
    return nbformat.read(notebooks()[number], 4).cells


def prose(number: str) -> str:
    return "\n\n".join(cell.source for cell in cells(number) if cell.cell_type == "markdown")


def part(number: str, heading: str) -> str:
    """What stands below a heading, as far as the next of its rank."""
    found = re.search(rf"^## {heading}\n(.*?)(?=^## |\Z)", prose(number), re.MULTILINE | re.DOTALL)
    assert found, f"notebook {number} has no part {heading!r}"
    return found[1]


@pytest.mark.parametrize("number", LESSONS)
class TestLesson:
    def test_it_opens_with_where_it_stands_what_it_teaches_and_how_long_it_takes(self, number):
        first = cells(number)[0].source
        assert re.match(rf"# {number} · \S.*\n", first)
        where = re.search(r"^!\[(.{20,})\]\(\.\./figures/where/(\w+)\.svg\)$", first, re.MULTILINE)
        assert where and (ROOT / "figures" / "where" / f"{where[2]}.svg").is_file()
        for name in ("Question.", "You should know.", "Time.", "In the paper."):
            assert f"\n**{name}** " in first, name
        goals = re.search(r"\n\*\*You will learn\*\*\n\n((?:\* .+\n(?:  .+\n)*)+)", first)
        assert goals and 2 <= goals[1].count("* ") <= 4

    def test_its_minutes_are_those_of_its_words_and_pictures(self, number):
        read = int(re.search(r"\*\*Time\.\*\* (\d+) minutes to read", cells(number)[0].source)[1])
        text = re.split(r"^## Exercises$", prose(number), flags=re.MULTILINE)[0]
        shown = sum(bool(c.get("outputs")) for c in cells(number) if c.cell_type == "code")
        code = sum(len(c.source.splitlines()) for c in cells(number) if c.cell_type == "code")
        minutes = len(text.split()) / WORDS_A_MINUTE + FIGURE * shown + code / LINES_A_MINUTE
        assert 0.7 < read / minutes < 1.4, f"about {minutes:.0f} minutes, not {read}"
        more = int(re.search(r"(\d+) with the exercises", cells(number)[0].source)[1])
        assert more == read + sum(int(m) for *_, kind, m in EXERCISE.findall(prose(number)) if kind != "research")

    def test_the_code_that_it_shows_is_checked_against_the_library(self, number):
        """An assertion compares it with what ``lib`` computes, on the data of each run.

        Notebook 19 has checks instead, which report what they find of somebody else's model, and do not stop.
        """
        code = [cell.source for cell in cells(number) if cell.cell_type == "code"]
        assert number == "19" or any(re.search(r"^\s*assert ", source, re.MULTILINE) for source in code)
        assert any("from lib." in source for source in code)

    def test_it_says_what_may_be_concluded_after_the_numbers(self, number):
        names = [line for line in prose(number).splitlines() if line.startswith("## ")]
        assert names[-3:] == ["## What it means", "## Exercises", "## Further reading"]
        means = part(number, "What it means")
        assert "**You may conclude.**" in means and "**You may not conclude.**" in means

    def test_it_has_exercises_of_several_kinds_with_hints_that_are_folded(self, number):
        tasks = part(number, "Exercises")
        found = EXERCISE.findall(tasks)
        assert 3 <= len(found) <= 5
        assert [name for name, *_ in found] == [f"{number}.{i + 1}" for i in range(len(found))]
        assert len({kind for *_, kind, _ in found}) >= 2
        for text in EXERCISE.split(tasks)[5::5]:
            assert [name for name, _ in FOLDED.findall(text)] == ["Hint"]

    def test_every_exercise_has_its_solution(self, number):
        solved = re.findall(rf"^### ({number}\.\d) (.+)$", prose(SOLUTIONS), re.MULTILINE)
        assert solved == [(name, title) for name, title, *_ in EXERCISE.findall(prose(number))]

    def test_it_names_further_reading_and_the_next_notebook(self, number):
        after = part(number, "Further reading")
        assert len(re.findall(r"^\* .*https://", after, re.MULTILINE)) >= 2
        there = list(notebooks().values())
        following = there[(LESSONS.index(number) + 1)].name
        assert re.search(rf"\*\*Next:\*\* .*\]\({following}\)", after)

    def test_what_is_folded_can_be_unfolded(self, number):
        text = prose(number)
        assert len(FOLDED.findall(text)) == text.count("<details>") == text.count("</details>")


def test_solutions_check_themselves():
    """Each notebook has at least two solutions that compute something, and assert what must be so."""
    number, checked = "", dict.fromkeys(LESSONS, 0)
    for cell in cells(SOLUTIONS):
        if cell.cell_type == "markdown" and (found := re.findall(r"^### (\w+)\.\d", cell.source, re.MULTILINE)):
            number = found[-1]
        checked[number] = checked.get(number, 0) + ("assert " in cell.source and cell.cell_type == "code")
    assert not [n for n in LESSONS if checked[n] < 2], checked


@pytest.mark.parametrize("figure", sorted((ROOT / "figures" / "desk").glob("*.pdf")), ids=lambda p: p.stem)
def test_captions_stand_alone(figure):
    """They say how many, and are neither a title nor a page; letters of unknown names do not count."""
    caption = figure.with_suffix(".txt").read_text()
    assert 12 <= len(caption.split()) <= 160 and caption.strip().endswith((".", ")"))


PAGE = 110  # characters in the widest table that fits on a page, where only words are not broken
LINES = 45  # rows that fit on one


@pytest.mark.parametrize("table", sorted((ROOT / "figures" / "desk").glob("*.csv")), ids=lambda p: p.stem)
def test_no_table_is_larger_than_a_page(table):
    rows = [line[1:-1].split("|") for line in table.with_suffix(".md").read_text().splitlines() if line.startswith("|")]
    longest = [
        max(len(word) for cell in column for word in cell.split() or [""]) for column in zip(*rows[:1], *rows[2:])
    ]
    numbers = [max(len(cell.strip()) for cell in column) for column in zip(*rows[:1], *rows[2:])]
    wide = sum(max(word, min(whole, 24)) + 3 for word, whole in zip(longest, numbers))
    assert wide <= PAGE and len(rows) - 2 <= LINES, f"{wide} characters, {len(rows) - 2} rows"
