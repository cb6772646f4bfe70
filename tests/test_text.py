"""What is written for people: terms are explained before they are used, links lead somewhere, words are spelt right."""

import re
from functools import cache
from pathlib import Path

import nbformat
import pytest
import yaml
from spellchecker import SpellChecker

from lib import diagram, slides
from lib.pages import FIGURES, WITH_FILES, timing, with_files
from lib.running.collection import NOTEBOOKS, notebooks
from lib.store import ROOT

PAGES = sorted(
    [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "lib" / "README.md", ROOT / "lib" / "profiles" / "README.md"]
    + [path for folder in (NOTEBOOKS, ROOT / "lib" / "web") for path in folder.glob("*.md")]
)
BOOKS = list(notebooks().values())
GLOSSARY = re.findall(
    r"^\| ([^|]+?) \| ([^|]+?) \| \[(\w+)\]\((\S+)\) \|$", (NOTEBOOKS / "glossary.md").read_text(), re.M
)
# Words of the trade, names and units that no general dictionary has.
WORDS = {word.lower() for word in (ROOT / "tests" / "words.txt").read_text().split()}


@cache
def texts(path: Path) -> list[str]:
    """A page, or the text of each cell of a notebook."""
    if path.suffix == ".md":
        return [path.read_text()]
    return [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]


def plain(text: str) -> str:
    """Without what is no running text: code, formulas, links' addresses, comments, tags, tables' frames."""
    for pattern in (r"```.*?```", r"\$\$.*?\$\$", r"<!--.*?-->", r"<[^>\n]+>", r"`[^`]*`", r"\$[^$\n]+\$"):
        text = re.sub(pattern, " ", text, flags=re.DOTALL)
    return re.sub(r"\]\([^)]*\)", "] ", text)


@pytest.mark.parametrize("path", [*PAGES, *BOOKS], ids=lambda p: p.name)
def test_links_lead_to_files_and_headings_that_are_there(path):
    for text in texts(path):
        for target in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`|```.*?```", "", text, flags=re.DOTALL)):
            if re.match(r"https?://", target):
                assert re.fullmatch(r"https://[\w.-]+\.\w+(/\S*)?", target), target
                continue
            file, _, heading = target.partition("#")
            there = (path.parent / file).resolve() if file else path
            assert there.exists(), f"{path.name}: {target}"
            if heading:
                lines = "\n".join(texts(there)).splitlines()
                heads = [
                    re.sub(r"[^\w\- ]", "", ln.lstrip("# ").lower()).replace(" ", "-") for ln in lines if ln[:1] == "#"
                ]
                assert heading in heads, f"{path.name}: {target}"


@pytest.mark.parametrize("path", [*(p for p in PAGES if p.name != "timing.md"), *BOOKS], ids=lambda p: p.name)
def test_words_are_spelt_right(path):
    """American and British spellings both pass the dictionary; what it lacks stands in tests/words.txt."""
    dictionary = _dictionary()
    found = set()
    for text in texts(path):
        for word in re.findall(r"(?<![\w@/.\-_])[A-Za-z][a-z]{2,}(?:'[a-z]+)?(?![\w@/_])", plain(text)):
            word = re.sub(r"'s?$", "", word.lower())
            if word not in WORDS and dictionary.unknown([word]):
                found.add(word)
    assert not found, f"{path.name}: {' '.join(sorted(found))}"


@cache
def _dictionary() -> SpellChecker:
    return SpellChecker()


def running_text(cell: str, first: bool) -> str:
    """Where terms are used, and not only announced: no headings, goals, tables, links, exercises or readings."""
    text = re.split(r"^## (?:Exercises|Further reading)$", plain(cell), flags=re.MULTILINE)[0]
    if first:
        text = re.sub(r"\*\*You will learn\*\*\n\n(?:\* .+\n(?:  .+\n)*)+", "", text)
        text = re.sub(
            r"^\*\*(?:You should know|Time|In the paper|Question)\.\*\*.*$|^!\[.*$", "", text, flags=re.MULTILINE
        )
    text = re.sub(r"\[[^\]]*\](?= )", "", text)
    return re.sub(r"^(?:#|\|).*$", "", text, flags=re.MULTILINE)


def test_the_glossary_names_notebooks_that_exist():
    assert len(GLOSSARY) > 60
    for term, meaning, number, file in GLOSSARY:
        assert notebooks()[number].name == file and meaning, term


@pytest.mark.parametrize("term, number", [(term, number) for term, _, number, _ in GLOSSARY])
def test_terms_are_explained_where_they_are_used_first(term, number):
    """In reading order, the first cell that uses a term has it in bold, where it is explained.

    Or it links to the notebook that explains it. Words in italics have an ordinary sense as
    well, in which they may stand anywhere.
    """
    name = term.strip("*")
    used = re.compile(rf"\b{re.escape(name)}(?:s|es)?\b", re.IGNORECASE)
    explained = re.compile(rf"\*\*(?:[^*\n]* )?\(?{re.escape(name)}(?:s|es)?\b[^*\n]*\*\*", re.IGNORECASE)
    there = notebooks()[number]
    assert any(explained.search(cell) for cell in texts(there)), f"{there.name} does not explain it in bold"
    if name != term:
        return
    for book in BOOKS:
        for i, cell in enumerate(texts(book)):
            if used.search(running_text(cell, i == 0)):
                told = book == there and explained.search(cell)
                assert told or f"({there.name}" in cell, f"used in {book.name}, and not explained: {cell[:80]!r}"
                return


@pytest.mark.parametrize("page", WITH_FILES, ids=lambda p: p.parent.name)
def test_pages_hold_what_the_run_made(page):
    assert with_files(page) == page.read_text()


def test_the_page_of_figures_shows_every_figure_and_links_every_table():
    page, desk = (FIGURES / "desk" / "README.md").read_text(), FIGURES / "desk"
    for path in desk.glob("*.pdf"):
        name, caption = path.stem, path.with_suffix(".txt").read_text().strip()
        assert f'src="{name}.png"' in page and f'srcset="{name}.dark.png"' in page and caption in page
        assert all((desk / f"{name}{kind}").is_file() for kind in (".pdf", ".png", ".dark.png"))
    assert all(f"[{path.stem}]({path.stem}.md) ([CSV]({path.name}))" in page for path in desk.glob("*.csv"))


def test_marks_in_a_page_are_filled_and_filled_again(tmp_path):
    page = tmp_path / "page.md"
    page.write_text(
        "<!-- item 1 of figures/desk/findings_06.md -->old<!-- end --> <!-- captioned table1 --><!-- end -->\n"
        "<!-- from figures/desk/table1.txt -->\nold\n<!-- end -->"
    )
    filled = with_files(page)
    assert "old" not in filled and (FIGURES / "desk" / "table1.txt").read_text().strip() in filled
    assert (FIGURES / "desk" / "findings_06.md").read_text().splitlines()[0].removeprefix("* ") in filled
    page.write_text(filled)
    assert with_files(page) == filled
    for mark, error in (("item 99 of figures/desk/findings_06.md", IndexError), ("from nowhere.md", FileNotFoundError)):
        page.write_text(f"<!-- {mark} --><!-- end -->")
        with pytest.raises(error):
            with_files(page)


def test_the_page_of_times_has_a_row_for_each_notebook():
    page = timing("desk", [("00_a.ipynb", 12.4, 1.23, 5), ("01_b.ipynb", 3.0, 0.5, 0)], 2, 14.26)
    assert "14.3 minutes in all" in page and "| 00_a.ipynb | 12 | 1.2 | 5 |\n| 01_b.ipynb | 3 | 0.5 | 0 |" in page


def test_the_readme_is_short_and_shows_five_findings_and_every_way_in():
    text = (ROOT / "README.md").read_text()
    assert len(text.encode()) <= 12_000
    assert (
        text.count("<!-- item 1 of figures/desk/findings_") == 5
        and text.count("<!-- figure ") == 5
        and "<!-- captioned start_here_coefficient" in text
    )
    for needed in ("figures/method.svg", "colab.research.google.com", "mybinder.org", "notebooks/glossary.md"):
        assert needed in text


def test_the_course_names_every_notebook():
    text = (NOTEBOOKS / "README.md").read_text()
    for notebook in BOOKS:
        assert f"({notebook.name})" in text


def test_addresses_of_the_project_are_the_one_in_pyproject():
    home = re.search(r'^Repository = "(https://github\.com/([^"]+))"$', (ROOT / "pyproject.toml").read_text(), re.M)[2]
    found = re.findall(
        r"(?:colab\.research\.google\.com/github|mybinder\.org/v2/gh)/([\w-]+/[\w-]+)", (ROOT / "README.md").read_text()
    )
    assert len(found) == 2 and set(found) == {home}
    assert f'"https://github.com/{home}"' in notebooks()["00"].read_text().replace('\\"', '"')
    owner, name = home.split("/")
    site = re.findall(r"https://([\w-]+)\.github\.io/([\w-]+)/", (ROOT / "README.md").read_text())
    assert len(site) == 3 and set(site) == {(owner, name)}


def test_the_first_link_of_the_readme_leads_to_the_live_demo():
    first = re.search(r"\]\(([^)]+)\)", (ROOT / "README.md").read_text())[1]
    assert first.endswith(".github.io/steering-companion/demo.html")


def test_the_light_environment_has_the_versions_of_the_whole_one():
    whole = yaml.safe_load((ROOT / "environment.yml").read_text())["dependencies"][-1]["pip"]
    light = [line for line in (ROOT / ".binder" / "requirements.txt").read_text().splitlines() if "==" in line]
    assert len(light) > 10 and set(light) <= set(whole)


def test_pictures_of_the_method_are_those_that_the_code_draws():
    assert (FIGURES / "method.svg").read_text() == diagram.method()
    for station in (*diagram.STATIONS, "all"):
        assert (FIGURES / "where" / f"{station}.svg").read_text() == diagram.where(station)
    with pytest.raises(ValueError, match="choose from pictures"):
        diagram.where("nowhere")


class TestSlides:
    def test_figures_come_with_their_captions_and_findings_with_their_numbers(self):
        text = slides.filled(slides.SOURCE.read_text())
        assert "{{" not in text
        assert (FIGURES / "desk" / "findings_06.md").read_text().splitlines()[0].removeprefix("* ") in text

    def test_of_a_long_finding_the_first_sentence_may_stand_alone(self):
        whole, short = (slides.filled(f"{{{{finding 10 1{end}}}}}") for end in ("", " short"))
        assert whole.startswith(short) and short.endswith(".") and ". " not in short

    def test_a_figure_that_is_not_there_is_named(self):
        with pytest.raises(FileNotFoundError, match="no_such_figure"):
            slides.filled("{{figure no_such_figure}}")

    def test_they_are_one_file_that_needs_no_other(self, tmp_path):
        made = slides.render(
            "# One\n\n$x^2$ ![c](../figures/method.svg)\n\n# Two\n\n::: notes\nsay\n:::\n", tmp_path / "s.html"
        )
        html = made.read_text()
        assert html.count("<section") >= 2 and "<math" in html and 'class="notes"' in html
        page = re.sub(r"<script.*?</script>", "", html, flags=re.DOTALL)
        assert not re.findall(r'(?:src|href)="(?!data:|#)[^"]+"', page) and not re.findall(r"<script[^>]* src=", html)
