"""The book is whole: every page, picture and link, the paper's numbers of equations, nothing from another host."""

import hashlib
import json
import re
from html import unescape
from pathlib import Path
from urllib.parse import unquote

import pytest

from lib.book import START, build, mathml
from lib.running.collection import notebooks


@pytest.fixture(scope="module")
def book(tmp_path_factory) -> tuple[Path, list[str]]:
    folder = tmp_path_factory.mktemp("book") / "site"
    return folder, build(folder)


def digests(folder: Path) -> dict[str, str]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


@pytest.mark.slow(60)
class TestBook:
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


@pytest.mark.slow(120)
def test_the_book_has_the_same_bytes_when_it_is_built_again(book, tmp_path):
    build(tmp_path / "again")
    assert digests(tmp_path / "again") == digests(book[0])


def test_a_formula_keeps_its_number_and_its_letters():
    shown = mathml(r"\mathbf x\in\mathbb R^d,\ \mathbf 1,\ \mathbb Q \tag{5}", True)
    assert shown.startswith("<div ") and "(5)</span><math" in shown
    assert "𝐱" in shown and "ℝ" in shown and "𝟏" in shown and "ℚ" in shown and "tag" not in shown
    assert "<span" not in mathml("x^2", False) and "<div" not in mathml("x^2", False)
