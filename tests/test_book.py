"""The book is whole: every page, picture and link, the paper's numbers of equations, nothing from another host."""

import hashlib
import json
import re
from collections.abc import Iterator
from functools import cache
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import nbformat
import pytest
import yaml
from bs4 import BeautifulSoup
from playwright.sync_api import Browser
from sphinx.application import Sphinx
from sphinx.util.docutils import docutils_namespace, patch_docutils

from lib.book import MADE, SETTINGS, START, TRY, build, collect, mathml
from lib.book_figures import DESK, captioned, dark_of
from lib.book_terms import Glossary, anchor, glossary
from lib.running.collection import notebooks
from lib.store import ROOT, short
from tests.browser import PHONE, browser, watched


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("book") / "site"
    return folder, build(folder)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def pages(folder: Path) -> list[Path]:
    """All pages but the theme's templates and the one that leads from the old address of the first to the new."""
    return [p for p in sorted(folder.rglob("*.html")) if p.parent.name != "_static" and p != folder / "README.html"]


@cache
def soup(path: Path) -> BeautifulSoup:
    return BeautifulSoup(path.read_text(), "html.parser")


@pytest.fixture(scope="class")
def chrome() -> Iterator[Browser]:
    with browser() as shown:
        yield shown


@pytest.mark.slow(3)
class TestBook:
    @pytest.mark.slow(20)
    def test_it_is_built_without_a_warning(self, book):
        assert book[1] == []

    def test_every_notebook_and_page_is_in_its_contents(self, book):
        first = (book[0] / f"{START}.html").read_text()
        for path in notebooks().values():
            page = book[0] / "notebooks" / f"{path.stem}.html"
            assert page.is_file() and f'href="notebooks/{path.stem}.html"' in first
        for page in ("notebooks/glossary", "notebooks/lesson_plan", "figures/desk/README", "lib/profiles/README"):
            assert f'href="{page}.html"' in first

    def test_every_link_and_picture_leads_to_a_file(self, book):
        folder = book[0]
        for page in folder.rglob("*.html"):
            if page.parent.name == "_static":
                continue  # templates of the theme
            for target in re.findall(r'(?:href|src)="([^"#]+)', page.read_text()):
                if not re.match(r"[a-z]+:", target):
                    there = page.parent / unquote(unescape(target)).partition("?")[0]
                    assert there.exists(), f"{page.relative_to(folder)}: {target}"

    def test_nothing_is_loaded_from_another_host(self, book):
        for page in book[0].rglob("*.html"):
            text = page.read_text()
            assert not re.findall(r'src="(?:https?:)?//[^"]+"', text), page.name
            assert not re.findall(r'<link[^>]+href="(?:https?:)?//[^"]+"', text), page.name

    def test_its_first_page_is_the_one_that_hosts_serve_and_the_old_address_leads_there(self, book):
        first = soup(book[0] / "index.html")
        assert first.h1.text.startswith("Language Models Can Explain")
        assert {"demo.html", "explorer.html"} <= {link["href"] for link in first.select(".admonition a")}
        captions = [caption.text for caption in first.select("nav .caption")]
        assert captions == ["Try it", "Lessons", "Beside them", "The project"]
        assert 'url=index.html"' in (book[0] / "README.html").read_text()
        assert "../index.html#try-it-without-installing-anything" in {
            link.get("href") for page in (book[0] / "notebooks").glob("*.html") for link in soup(page).find_all("a")
        }

    @pytest.mark.parametrize("name", TRY)
    def test_pages_that_scripts_fill_say_so_where_their_files_are_not(self, book, name):
        page = soup(book[0] / f"{name}.html")
        assert "./run_all.sh book" in page.find(id=name).text and not page.select(f'[src^="{name}/"]')
        assert not page.find(id="pst-secondary-sidebar")

    @pytest.mark.parametrize(
        "page, term",
        [
            ("00_start_here", "residual stream"),
            ("00_start_here", "blank image"),
            ("02_sae", "sparse autoencoder"),
            ("05_scores", "AUROC"),
            ("10_contextual_bias", "background latent"),
            ("20_solutions", "adapter"),
        ],
    )
    def test_the_first_mention_of_a_term_leads_to_its_meaning(self, book, page, term):
        there = soup(book[0] / "notebooks" / f"{page}.html")
        links = there.select(f'a.term[href="glossary.html#{anchor(term)}"]')
        assert len(links) == 1 and links[0]["title"] == glossary().title(term)
        row = soup(book[0] / "notebooks" / "glossary.html").find("tr", id=anchor(term))
        assert row.td.text.strip() == term

    def test_terms_lead_somewhere_and_only_from_running_text(self, book):
        rows = {row["id"] for row in soup(book[0] / "notebooks" / "glossary.html").find_all("tr", id=True)}
        assert rows == {anchor(term.strip("*")) for term in glossary_rows()}
        count = 0
        for path in pages(book[0]):
            links = soup(path).select("a.term")
            assert not links or path.stem in {notebook.stem for notebook in notebooks().values()}, path
            for link in links:
                page, _, where = link["href"].partition("#")
                assert page == "glossary.html" and where in rows, link
                above = {parent.name for parent in link.parents}
                assert not above & {"a", "h1", "h2", "h3", "h4", "code", "pre", "table", "math", "em"}, link
                assert not link.find_parent(class_="cell"), link
            assert len({link["href"] for link in links}) == len(links), path
            count += len(links)
        assert count > 250

    def test_every_picture_is_described(self, book):
        for path in pages(book[0]):
            for image in soup(path).find_all("img"):
                alt = image.get("alt", "")
                assert alt.strip() and not re.search(r"\.(png|svg)$", alt), f"{path.relative_to(book[0])}: {image}"

    def test_a_notebook_s_figure_has_its_caption_s_first_sentence_and_its_own_dark_version(self, book):
        page = soup(book[0] / "notebooks" / "11_agreement.html")
        shown = page.select("div.cell_output img")
        names = ["figure3_agreement", "agreement_all"]
        assert [image["class"] for image in shown] == [["only-light"], ["only-dark"]] * 2
        for name, light, dark in zip(names, shown[::2], shown[1::2], strict=True):
            caption = (DESK / f"{name}.txt").read_text().strip()
            assert light["alt"] == dark["alt"] and caption.startswith(light["alt"].removesuffix("."))
            assert Path(dark["src"]).name == f"{name}.dark.png"

    def test_equations_have_the_paper_s_numbers_and_are_set_by_the_browser(self, book):
        page = (book[0] / "notebooks" / "02_sae.html").read_text()
        assert "(1)</span><math" in page and "(2)</span><math" in page
        assert "mathjax.js" not in page.lower() and "katex" not in page.lower()

    def test_hints_are_folded_and_figures_have_their_captions(self, book):
        page = (book[0] / "notebooks" / "06_main_results.html").read_text()
        assert page.count("<details>") >= 4 and "<summary>Hint</summary>" in page
        assert page.count("<img ") >= 4 and "Every method of the main table on every metric" in page

    def test_figures_of_pages_are_there_for_light_and_for_dark(self, book):
        page = (book[0] / f"{START}.html").read_text()
        assert page.count("only-light") == page.count("only-dark") >= 6 and "<picture>" not in page

    def test_its_search_knows_what_the_pages_say(self, book):
        index = (book[0] / "searchindex.js").read_text()
        found = json.loads(index.removeprefix("Search.setIndex(").removesuffix(")"))
        assert {"superposit", "coeffici", "latent"} <= set(found["terms"])
        assert all(found["titles"]) and "<no title>" not in found["titles"]

    def test_search_next_page_and_dark_mode_work_from_a_file_system(self, book, chrome):
        seen = watched(chrome)
        page = seen.page
        page.goto((book[0] / "index.html").as_uri())
        page.keyboard.press("Control+k")
        page.locator("dialog[open] input[type=search]").fill("superposition")
        page.keyboard.press("Enter")
        found = page.locator("#search-results li a", has_text="01b")
        found.first.click()
        page.wait_for_url("**/01b_toy_dictionary.html*")
        page.locator("a.right-next").click()
        page.wait_for_url("**/02_sae.html")
        page.locator("a.left-prev").click()
        page.wait_for_url("**/01b_toy_dictionary.html*")
        light, dark = (page.locator(f"div.cell_output img.only-{mode}").first for mode in ("light", "dark"))
        assert light.is_visible() and not dark.is_visible()
        page.locator(".theme-switch-button:visible").click()
        page.locator(".theme-change-button[data-mode=dark]:visible").click()
        assert dark.is_visible() and not light.is_visible()
        page.locator("a.term").first.click()
        page.wait_for_url("**/glossary.html#term-*")
        assert page.locator("tr:target").count() == 1
        page.goto((book[0] / "README.html").as_uri() + "#where-to-begin")
        page.wait_for_url("**/index.html#where-to-begin")
        for address in ("explorer.html#desk?q=fox&way=steering", "demo.html#12"):
            page.goto(f"{book[0].as_uri()}/{address}")
        seen.clean()

    @pytest.mark.slow(40)
    def test_no_page_is_wider_than_a_phone_or_has_errors(self, book, chrome):
        seen = watched(chrome, PHONE)
        wide = {}
        for path in pages(book[0]):
            seen.page.goto(path.as_uri())
            width = seen.page.evaluate("document.documentElement.scrollWidth")
            if width > PHONE["width"]:
                wide[path.name] = width
        assert not wide
        seen.clean()


@pytest.mark.slow(120)
def test_the_book_has_the_same_bytes_when_it_is_built_again(book, tmp_path):
    def fill(folder: Path) -> None:
        (folder / "more.txt").write_text("more")

    build(tmp_path / "again", {"beside": fill})
    again = digests(tmp_path / "again")
    assert (tmp_path / "again" / "beside" / "more.txt").is_file() and again.pop("beside/more.txt")
    assert again == digests(book[0])


def test_pages_that_scripts_fill_load_them_where_their_files_are(tmp_path):
    collect(tmp_path, ("demo",))
    demo, explorer = ((tmp_path / f"{name}.md").read_text() for name in TRY)
    assert '<div id="demo"></div>' in demo and 'src="demo/demo.js"' in demo and "run_all" not in demo
    assert "<script" not in explorer and "<link" not in explorer and '<div id="explorer"><p>' in explorer


def glossary_rows() -> list[str]:
    text = (ROOT / "notebooks" / "glossary.md").read_text()
    return re.findall(r"^\| (?!term |-)([^|]+?) \|", text, re.MULTILINE)


class TestTerms:
    words = Glossary(
        "| latent | an entry | [00](a.ipynb) |\n| dead latent | one that is active nowhere | [00](a.ipynb) |\n"
        "| *code* | numbers | [00](a.ipynb) |\n| dictionary | all; SD for short | [00](a.ipynb) |\n"
        "| direction | a vector | [00](a.ipynb) |\n| top images | pictures | [00](a.ipynb) |\n"
    )

    def found(self, text: str) -> list[tuple[str, str]]:
        return [(text[start:stop], term) for start, stop, term in self.words.found(text)]

    def test_whole_words_in_both_numbers_are_found_and_the_longer_term_first(self):
        assert self.found("Dead latents, a LATENT’s dictionaries; the SD") == [
            ("Dead latents", "dead latent"),
            ("LATENT", "latent"),
            ("dictionaries", "dictionary"),
            ("SD", "dictionary"),
        ]
        assert self.found("a top image or, over a line, top\nimages") == [
            ("top image", "top images"),
            ("top\nimages", "top images"),
        ]

    def test_parts_of_words_words_with_an_ordinary_sense_and_ordinary_phrases_are_not(self):
        assert not self.found("latently, a latent-wise code, dictionaryless")
        assert self.found("In which direction? In this direction.") == [("direction", "direction")]

    def test_titles_are_short(self):
        assert all(0 < len(glossary().title(term)) <= 120 for term in glossary().meanings)


class TestFigures:
    @pytest.mark.slow(3)
    def test_all_captioned_figures_of_notebooks_have_a_dark_version_that_is_theirs(self):
        names = [dark_of(*one) for path in notebooks().values() for one in captioned(path).values()]
        assert len(names) > 55 and all(names) and len(set(names)) == len(names)

    def test_neither_another_picture_nor_another_caption_has_one(self):
        shown = [dict(zip(("caption", "png"), one, strict=True)) for one in captioned(notebooks()["09"]).values()]
        assert dark_of(**shown[0])
        assert not dark_of(shown[0]["caption"], shown[1]["png"])
        assert not dark_of(shown[0]["caption"] + " ", shown[0]["png"])


@pytest.mark.parametrize("shown, expected", [({"text/html": "<b>stands in</b>"}, "<b>stands in</b>"), ({}, "Panel()")])
def test_of_a_widget_the_book_shows_what_stands_in_for_it(tmp_path, shown, expected):
    view = "application/vnd.jupyter.widget-view+json"
    data = {view: {"model_id": "a", "version_major": 2, "version_minor": 0}, "text/plain": "Panel()"} | shown
    cell = nbformat.v4.new_code_cell("panel", outputs=[nbformat.v4.new_output("display_data", data)])
    note = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell("# One"), cell])
    state = {"a": {"model_name": "X", "model_module": "anywidget", "model_module_version": "1", "state": {}}}
    kept = {"state": state, "version_major": 2, "version_minor": 0}
    note.metadata.widgets = {"application/vnd.jupyter.widget-state+json": kept}
    (tmp_path / "in" / "_static").mkdir(parents=True)
    nbformat.write(note, tmp_path / "in" / f"{START}.ipynb")
    with patch_docutils(), docutils_namespace():
        Sphinx(tmp_path / "in", None, tmp_path / "out", tmp_path / "t", "html", SETTINGS, status=None).build()
    page = (tmp_path / "out" / f"{START}.html").read_text()
    assert expected in page and view not in page and "cdn" not in page.replace("cdn.jsdelivr.net/npm/mathjax", "")


def test_the_workflow_publishes_what_the_commands_make():
    flow = yaml.safe_load((ROOT / ".github" / "workflows" / "book.yml").read_text())
    job = flow["jobs"]["book"]
    steps = {step.get("uses", "run").split("@")[0]: step for step in job["steps"]}
    assert steps["actions/upload-pages-artifact"]["with"]["path"] == short(MADE)
    assert steps["run"]["run"] == "./run_all.sh && ./run_all.sh book" and job["timeout-minutes"] == 120
    key = steps["actions/cache"]["with"]["key"]
    assert all((ROOT / name.rstrip("/*")).exists() and f"'{name}'" in key for name in ("lib/**", "environment.yml"))


def test_a_formula_keeps_its_number_and_its_letters():
    shown = mathml(r"\mathbf x\in\mathbb R^d,\ \mathbf 1,\ \mathbb Q \tag{5}", True)
    assert shown.startswith("<div ") and "(5)</span><math" in shown
    assert "𝐱" in shown and "ℝ" in shown and "𝟏" in shown and "ℚ" in shown and "tag" not in shown
    assert "<span" not in mathml("x^2", False) and "<div" not in mathml("x^2", False)
