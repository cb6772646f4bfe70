"""The explorer and the live demo in a browser, as readers have them: from the file system, by keys, on a phone."""

import functools
import http.server
import json
import re
import shutil
import threading
import time
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, expect

from lib.book import TRY, build
from tests.browser import PHONE, Watched, browser, watched
from tests.shared import once, whole_run

HOSTILE = "<img src=x onerror='window.harmed = true'></script><b>bold</b>"
_WRITE = """
import json, pathlib
from lib import book
from lib.methods import STEERING
from lib.profile import load
from lib.run import Run

run, site = Run(load("smoke", {})), pathlib.Path("site")
for name, fill in book.apps(run).items():
    fill(site / name)
at = run.at_best(STEERING.add)
tests = run.latents["test"]
said = run.explanations(at, tests).explanation.tolist()
site.joinpath("facts.json").write_text(json.dumps({"coefficient": at.coefficient, "tests": tests, "said": said}))
"""


@pytest.fixture(scope="module")
def site(tmp_path_factory) -> Path:
    """The whole site, of the smoke profile's run."""

    def make(folder: Path) -> None:
        project = whole_run(tmp_path_factory).project
        done = project.python(_WRITE)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
        made = project.folder / "site"
        copied = functools.partial(shutil.copytree, dirs_exist_ok=True)
        apps = {name: functools.partial(copied, made / name) for name in ("explorer", "demo")}
        assert build(folder / "site", apps) == []
        shutil.copy(made / "facts.json", folder)

    return once(tmp_path_factory, "site", make) / "site"


@pytest.fixture(scope="module")
def facts(site) -> dict:
    return json.loads((site.parent / "facts.json").read_text())


@pytest.fixture(scope="module")
def shown():
    with browser() as one:
        yield one


def data(site: Path, file: str) -> dict:
    """What a script of the explorer hands over."""
    text = (site / "explorer" / file).read_text()
    return json.loads(text[text.index("{") : text.rindex("}") + 1])


def opened(shown: Browser, site: Path, page: str, **more) -> Watched:
    seen = watched(shown, **more)
    seen.page.set_default_timeout(20_000)
    seen.page.goto(f"file://{site}/{page}")
    return seen


def ended(seen: Watched) -> None:
    seen.clean()
    seen.page.context.close()


def tab_to(page: Page, there: str, most: int) -> None:
    """Press Tab until what has the focus is the right one, as a script says that is run in the page."""
    for _ in range(most):
        page.keyboard.press("Tab")
        if page.evaluate(there):
            return
    raise AssertionError(f"{most} times Tab did not lead to {there}")


def fits(page: Page) -> None:
    """Nothing is wider than the page."""
    assert page.evaluate("document.documentElement.scrollWidth") <= page.viewport_size["width"]


@pytest.mark.slow(200)
class TestExplorer:
    def test_all_subjects_are_there_with_all_their_latents(self, site, shown):
        index = data(site, "index.js")
        seen = opened(shown, site, "explorer.html")
        for entry in index["subjects"]:
            roles = data(site, entry["file"])["latents"]["role"]
            assert len(roles) == entry["latents"]
            silent = roles.index("silent") if "silent" in roles else 0
            for latent in {0, silent, entry["latents"] - 1}:
                seen.page.goto(f"file://{site}/explorer.html#{entry['id']}/{latent}")
                page = seen.page.get_by_test_id("latent-page")
                expect(page).to_have_attribute("data-latent", str(latent))
                expect(page.get_by_role("heading").first).to_contain_text(str(latent))
        ended(seen)

    def test_a_search_finds_what_was_said_and_nothing_else(self, site, shown):
        main = data(site, "index.js")["subjects"][0]
        subject = data(site, main["file"])
        word = max(set(re.findall(r"[a-z]{5,}", " ".join(subject["words"]))), key=" ".join(subject["words"]).count)
        seen = opened(shown, site, "explorer.html")
        results = seen.page.get_by_test_id("result")
        expect(results.first).to_be_visible()
        everything = seen.page.get_by_test_id("count").inner_text()
        seen.page.get_by_test_id("search").fill(word)
        expect(seen.page.get_by_test_id("count")).not_to_have_text(everything)
        texts = results.all_inner_texts()
        assert texts and word in texts[0]
        assert sum(word in text for text in texts) > len(texts) / 2  # it forgives typing errors, so not all
        ended(seen)

    def test_filters_and_sorting_do_what_they_say_and_stand_in_the_address(self, site, shown):
        seen = opened(shown, site, "explorer.html#?way=steering&sort=iou&order=down")
        page = seen.page
        results = page.get_by_test_id("result")
        expect(results.first).to_be_visible()
        assert all("Steering" in text for text in results.all_inner_texts())
        if not page.get_by_test_id("filter-way").is_visible():  # folded, as long as nothing is filtered
            page.locator("summary", has_text="Filters").click()
        page.get_by_test_id("filter-way").select_option("top-k-masks")
        expect(results.first).to_contain_text("Top-k, masks")
        assert "way=top-k-masks" in page.url
        page.get_by_test_id("sort").select_option("auroc")
        expect(page).to_have_url(re.compile("sort=auroc"))
        assert all("Top-k, masks" in text for text in results.all_inner_texts())
        page.go_back()
        expect(page).not_to_have_url(re.compile("sort=auroc"))
        ended(seen)

    def test_a_latent_opens_from_the_list_and_from_the_map(self, site, shown):
        seen = opened(shown, site, "explorer.html")
        page = seen.page
        page.get_by_test_id("result").first.get_by_role("link").first.click()
        latent = page.get_by_test_id("latent-page")
        expect(latent).to_be_visible()
        for part in ("images-shown", "images-held_out", "controls", "sweep", "neighbours"):
            expect(page.get_by_test_id(part).first).to_be_visible()
        assert page.locator("canvas").count() >= 2
        page.go_back()
        expect(page.get_by_test_id("results")).to_be_visible()
        dot = page.get_by_test_id("map").get_by_role("link").first
        dot.focus()
        page.keyboard.press("Enter")
        expect(latent).to_be_visible()
        ended(seen)

    def test_it_is_used_by_keys_alone(self, site, shown):
        seen = opened(shown, site, "explorer.html")
        page = seen.page
        expect(page.get_by_test_id("result").first).to_be_visible()
        page.keyboard.press("/")
        expect(page.get_by_test_id("search")).to_be_focused()
        page.keyboard.type("3")
        expect(page.get_by_test_id("result").first).to_have_attribute("data-latent", "3")
        tab_to(page, "document.activeElement.closest('[data-testid=result]') !== null", 80)
        page.keyboard.press("Enter")
        expect(page.get_by_test_id("latent-page")).to_have_attribute("data-latent", "3")
        page.keyboard.press("ArrowRight")
        expect(page.get_by_test_id("latent-page")).to_have_attribute("data-latent", "4")
        ended(seen)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_fits_on_a_phone(self, site, shown, scheme):
        seen = opened(shown, site, "explorer.html", size=PHONE, color_scheme=scheme, has_touch=True)
        expect(seen.page.get_by_test_id("result").first).to_be_visible()
        fits(seen.page)
        seen.page.goto(f"file://{site}/explorer.html#{data(site, 'index.js')['subjects'][0]['id']}/3")
        expect(seen.page.get_by_test_id("latent-page")).to_be_visible()
        fits(seen.page)
        ended(seen)

    def test_what_models_say_is_never_markup(self, site, shown, tmp_path):
        copy = tmp_path / "site"
        unused = shutil.ignore_patterns("_downloads", "_images", "figures", "notebooks", "demo")
        shutil.copytree(site, copy, ignore=unused)
        main = data(site, "index.js")["subjects"][0]
        subject = data(site, main["file"])
        subject["words"] = [HOSTILE] * len(subject["words"])
        for group in subject["clusters"]:
            group["name"] = HOSTILE
        text = json.dumps(subject).replace("<", "\\u003c")
        (copy / "explorer" / main["file"]).write_text(f"window.explorerSubject({text});")
        seen = watched(shown)
        for page in ("", f"#{main['id']}/{subject['latents']['role'].index('test')}"):
            seen.page.goto(f"file://{copy}/explorer.html{page}")
            place = seen.page.locator("[data-testid=results], [data-testid=latent-page]")
            expect(place.get_by_text("onerror=").first).to_be_visible()
            assert seen.page.evaluate("window.harmed") is None
            assert seen.page.locator("#explorer b", has_text="bold").count() == 0
        seen.page.context.close()

    @pytest.mark.parametrize("address", ["#nowhere", "#nowhere/3", "#{}/99999", "#{}/three"])
    def test_an_address_that_leads_nowhere_says_so(self, site, shown, address):
        seen = opened(shown, site, "explorer.html" + address.format(data(site, "index.js")["subjects"][0]["id"]))
        expect(seen.page.get_by_test_id("error")).to_be_visible()
        expect(seen.page.get_by_test_id("error").get_by_role("link").first).to_be_visible()
        ended(seen)


def answered(page: Page) -> str:
    """The answer, once there is one."""
    expect(page.get_by_test_id("loading")).to_have_count(0, timeout=60_000)
    expect(page.get_by_test_id("answer")).not_to_have_text(re.compile(r"^\W*$"), timeout=60_000)
    return page.get_by_test_id("answer").inner_text()


@pytest.mark.slow(150)
def test_licences_of_what_others_wrote_lie_beside_it(site):
    for name in TRY:
        text = (site / name / "licences.txt").read_text()
        assert "Mike Bostock" in text and "Google LLC" in text
    assert "Microsoft Corporation" in (site / "demo" / "licences.txt").read_text()
    assert "licences.txt" in (site / "index.html").read_text()


@pytest.mark.slow(200)
class TestDemo:
    def test_the_first_answer_is_there_in_less_than_a_minute(self, site, shown):
        begun = time.monotonic()
        seen = opened(shown, site, "index.html")
        seen.page.get_by_role("link", name="Steer it yourself").first.click()
        assert answered(seen.page)
        assert time.monotonic() - begun < 60
        ended(seen)

    def test_all_test_latents_are_answered_as_by_pytorch(self, site, shown, facts):
        seen = opened(shown, site, "demo.html")
        seen.page.evaluate("demo.ready")
        asked = "([latent, coefficient]) => demo.ask({latent, coefficient, mode: 'add', patches: null, picture: null})"
        for latent, said in zip(facts["tests"], facts["said"]):
            made = seen.page.evaluate(asked, [latent, facts["coefficient"]])
            assert made["own"] == said, latent
        ended(seen)

    def test_the_answer_follows_the_slider_within_a_second(self, site, shown):
        seen = opened(shown, site, "demo.html")
        page, slider = seen.page, seen.page.get_by_test_id("coefficient")
        answered(page)
        said, took = set(), []
        largest = page.evaluate("demoAbout.largest")
        for coefficient in (0, largest, largest / 2, 0, largest):
            begun = time.monotonic()
            slider.fill(f"{coefficient:g}")
            there = re.compile(rf"^\s*at coefficient {coefficient:g}, in")  # not "At coefficient 2, Steering said ..."
            expect(page.get_by_text(there)).to_be_visible()
            took.append(time.monotonic() - begun)
            said.add(page.get_by_test_id("answer").inner_text())
        assert sorted(took)[2] < 1 and len(said) > 1, (took, said)
        ended(seen)

    def test_no_patch_and_no_push_are_no_steering(self, site, shown):
        seen = opened(shown, site, "demo.html")
        page = seen.page
        answered(page)
        page.get_by_test_id("patches-none").click()
        plain = page.get_by_test_id("answer-none").inner_text()
        expect(page.get_by_test_id("answer")).to_have_text(plain)
        page.get_by_test_id("patches-all").click()
        page.get_by_test_id("coefficient").fill("0")
        expect(page.get_by_test_id("answer")).to_have_text(plain)
        ended(seen)

    def test_it_is_used_by_keys_alone(self, site, shown):
        seen = opened(shown, site, "demo.html")
        page = seen.page
        answered(page)
        page.get_by_test_id("search").focus()
        page.keyboard.type("5")
        page.keyboard.press("ArrowDown")
        page.keyboard.press("Enter")
        expect(page.get_by_test_id("latent")).to_contain_text("5")
        tab_to(page, "document.activeElement.dataset.testid === 'coefficient'", 12)
        before = page.get_by_test_id("coefficient").input_value()
        page.keyboard.press("ArrowLeft")  # the chosen one may be the largest
        assert float(page.get_by_test_id("coefficient").input_value()) == float(before) - 0.25
        tab_to(page, "document.activeElement.dataset.testid === 'patches'", 20)
        label = page.get_by_test_id("patches").get_attribute("aria-label")
        page.keyboard.press("ArrowRight")
        page.keyboard.press("Space")
        assert page.get_by_test_id("patches").get_attribute("aria-label") != label
        ended(seen)

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_it_fits_on_a_phone(self, site, shown, scheme):
        seen = opened(shown, site, "demo.html", size=PHONE, color_scheme=scheme, has_touch=True)
        answered(seen.page)
        fits(seen.page)
        ended(seen)

    def test_a_web_host_serves_it_as_well(self, site, shown):
        class Quiet(http.server.SimpleHTTPRequestHandler):
            def log_message(self, *_said) -> None:
                pass

        host = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(site)))
        threading.Thread(target=host.serve_forever, daemon=True).start()
        seen = watched(shown)
        seen.page.goto(f"http://127.0.0.1:{host.server_address[1]}/demo.html")
        assert answered(seen.page)
        ended(seen)
        host.shutdown()

    def test_a_part_that_does_not_come_is_named(self, site, shown):
        seen = watched(shown)
        seen.page.route("**/model.js", lambda route: route.abort())
        seen.page.goto(f"file://{site}/demo.html")
        expect(seen.page.get_by_test_id("loading")).to_contain_text("model.js")
        seen.page.context.close()
