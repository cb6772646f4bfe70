"""Stages: made once, kept under all that they depend on, and damaged files say what to remove."""

import json
from dataclasses import dataclass

import pandas as pd
import pytest

from lib import store
from lib.dictionary import Dictionary
from lib.explain import Explanations
from lib.methods import STEERING, TOP_K
from lib.profile import load
from lib.run import Run
from lib.stage import Home, Stage
from lib.store import Damaged, MissingStage, add_rows, read, write_array, write_json, write_table


@dataclass(frozen=True)
class Toast(Stage):
    title = "toast"
    notebook = "03"
    slices: int
    bread: tuple[str, ...] = ("rye",)

    def make(self) -> None:
        with self.making():
            write_json(self.path("toast.json"), self.slices)


@pytest.fixture
def home(tmp_path):
    return Home(tmp_path, "./run_all.sh --profile x")


def test_a_stage_says_why_it_is_what_it_is(home):
    toast = Toast(home, 2)
    toast.make()
    why = json.loads(toast.path("stage.json").read_text())
    assert why["stage"] == "toast" and why["parts"] == {"slices": 2, "bread": ["rye"]} == toast.why["parts"]
    assert toast.made and toast.seconds >= 0 and toast.read("toast.json") == 2
    assert Toast(home, 2).folder == toast.folder != Toast(home, 3).folder
    assert Toast(Home(home.folder / "elsewhere", "x"), 2).folder.name == toast.folder.name


def test_a_missing_stage_says_what_to_type(home):
    with pytest.raises(MissingStage, match=r"toast.json .* Run ./run_all.sh --profile x --from 03"):
        Toast(home, 2).need("toast.json")


def test_a_missing_stage_names_the_notebook_of_the_first_that_is_not_there(home):
    @dataclass(frozen=True)
    class Sandwich(Stage):
        title, notebook = "sandwich", "05"
        toast: Toast

    sandwich = Sandwich(home, Toast(home, 2))
    with pytest.raises(MissingStage, match="sandwich: it.json .* --from 03"):
        sandwich.need("it.json")
    sandwich.toast.make()
    with pytest.raises(MissingStage, match="sandwich: it.json .* --from 05"):
        sandwich.need("it.json")


def test_what_changed_since_the_last_results(home):
    assert Toast(home, 1).stale() is None
    Toast(home, 1).make()
    Toast(home, 2).make()
    assert Toast(home, 3).stale() == ["slices: 2, now 3"]
    assert Toast(home, 2, ("rye", "wheat")).stale() is not None


@pytest.mark.parametrize("broken", ["", "null", "[]", "{", "\x00\xff", '{"seconds": "x"}'])
def test_a_broken_record_costs_nothing_but_what_it_held(home, broken):
    toast = Toast(home, 2)
    toast.make()
    for name in ("cost.json", "stage.json"):
        toast.path(name).write_text(broken, encoding="latin-1")
    assert toast.seconds == 0.0 and toast.read("toast.json") == 2
    Toast(home, 3).stale()
    toast.make()
    assert json.loads(toast.path("stage.json").read_text()) == toast.why


@pytest.mark.parametrize("suffix", ["json", "parquet", "npy", "safetensors", "csv"])
@pytest.mark.parametrize("content", [b"", b"\x00" * 40, b"PAR1 and no more", b"\xff\xfe{"])
def test_a_damaged_file_names_itself_and_what_to_do(tmp_path, suffix, content):
    path = tmp_path / f"result.{suffix}"
    path.write_bytes(content)
    if suffix == "csv" and content and content[0] != 0xFF:
        return  # any line of text is a table
    with pytest.raises(Damaged, match=rf"result.{suffix} is damaged .* Remove it and run again"):
        read(path)


def test_truncated_results_are_damaged_whatever_their_kind(tmp_path):
    write_table(tmp_path / "t.parquet", pd.DataFrame({"a": range(50)}))
    write_array(tmp_path / "a.npy", pd.Series(range(500)).to_numpy())
    for path in tmp_path.glob("[ta].*"):
        path.write_bytes(path.read_bytes()[:-20])
        with pytest.raises(Damaged):
            read(path)
    with pytest.raises(Damaged, match=r"t.parquet"):
        add_rows(tmp_path / "t.parquet", pd.DataFrame({"a": [3]}), ["a"])
    with pytest.raises(FileNotFoundError):
        read(tmp_path / "none.json")


def test_what_a_stage_uses_is_noted_for_the_runner(home, tmp_path, monkeypatch):
    monkeypatch.setenv(store.MADE, str(tmp_path / "notes"))
    toast = Toast(home, 2)
    toast.make()
    toast.need("toast.json")
    assert set((tmp_path / "notes").read_text().splitlines()) == {f"stage\t{toast.folder}"}


class Talker:
    """Stands in for a model: counts what it is asked."""

    name, asked = "talker", 0

    def answer(self, questions, max_new_tokens, change=None):
        self.asked += len(questions)
        return [f"It shows {self.asked}." for _ in questions]


def test_explanations_are_made_once_in_any_order_and_only_what_is_missing(home, tiny_sae, monkeypatch):
    profile = load("smoke")
    run = Run(profile)
    run._home = home  # not where a real run may have left its stages
    monkeypatch.setattr(Dictionary, "sae", tiny_sae)
    monkeypatch.setattr(Dictionary, "report", {"norm": 10.0})
    stage, talker = Explanations(home, run.dictionary, 4, 8), Talker()
    variation = run.variation(STEERING.add.at(2.0))
    stage.make([variation], [1, 2, 3], lambda: talker)
    stage.make([variation], [5, 4, 3, 2], lambda: talker)
    assert stage.table(variation, [5, 4, 3, 2]).latent.tolist() == [5, 4, 3, 2] and talker.asked == 5
    stage.make([variation], [1, 2, 3, 4, 5], lambda: pytest.fail("no model is needed"))
    assert json.loads(stage.path(f"{variation.file}.json").read_text())["method"]["coefficient"] == 2.0
    control = run.variation(STEERING.add.at(2.0), control=run.control("random", [1]))
    stage.make([control], [1], lambda: talker)
    assert set(stage.table(control, [1]).control) == {"random"} and talker.asked == 6
    with pytest.raises(MissingStage, match="explanations by Top-k, masks has not been made .* --from 02"):
        stage.table(run.variation(TOP_K.masks), [1])
    with pytest.raises(MissingStage):
        stage.table(variation, [1, 9])


@dataclass(frozen=True)
class Breakfast(Stage):
    title, notebook = "breakfast", "03"

    @property
    def files(self):
        return ["egg.json", "tea.json"]

    def make(self) -> None:
        if not self.made:
            with self.making():
                for name in self.files:
                    write_json(self.path(name), name)


@pytest.mark.parametrize("lost", ["egg.json", "tea.json", "cost.json"])
def test_a_stage_of_which_any_file_is_lost_is_made_again(home, lost):
    breakfast = Breakfast(home)
    breakfast.make()
    assert breakfast.made
    breakfast.path(lost).unlink()
    assert not breakfast.made
    breakfast.make()
    assert breakfast.made and breakfast.read("tea.json") == "tea.json"


def test_a_stage_that_is_killed_half_way_is_unfinished_whatever_was_there_before(home):
    toast = Toast(home, 2)
    toast.make()
    with pytest.raises(KeyboardInterrupt), toast.making():
        raise KeyboardInterrupt
    assert not toast.made
    toast.make()
    assert toast.made


def test_every_file_that_a_stage_makes_is_one_that_it_asks_for(home, tiny_vlm, tiny_sae, monkeypatch):
    """What is not asked for could be lost, or damaged and removed, and never come back."""
    settings = {"images.explain": 30, "images.evaluate": 30, "images.train": 30, "images.sizes": [10], "sae.batch": 256}
    run = Run(load("smoke", settings))
    run._home = home
    monkeypatch.setattr(Dictionary, "sae", tiny_sae)
    for stage in (run.shown, run.held_out):
        stage.make(lambda: tiny_vlm)
        assert {p.name for p in stage.folder.iterdir()} - {"stage.json", "cost.json"} == set(stage.files)
        stage.path("negatives.npy").unlink()
        stage.make(lambda: tiny_vlm)
        assert stage.made


def test_a_dictionary_whose_report_is_lost_is_measured_again_and_not_trained(home, tiny_vlm, monkeypatch):
    settings = {"images.explain": 30, "images.train": 30, "images.sizes": [10], "sae.latents": 32, "sae.batch": 256}
    run = Run(load("smoke", settings))
    run._home = home
    run.dictionary.make(tiny_vlm)
    before = read(run.dictionary.path("report.json"))
    run.dictionary.path("report.json").unlink()
    monkeypatch.setattr("lib.dictionary.train_sae", lambda *_: pytest.fail("it is there"))
    run.dictionary.make(tiny_vlm)
    assert read(run.dictionary.path("report.json")) == before


def test_what_changed_is_told_from_the_nearest_results(home):
    for slices, bread in ((1, ("rye",)), (2, ("rye", "wheat"))):
        Toast(home, slices, bread).make()
    assert Toast(home, 2, ("rye",)).stale() in (["slices: 1, now 2"], ['bread: ["rye", "wheat"], now ["rye"]'])
    assert Toast(home, 9, ("rye",)).stale() == ["slices: 1, now 9"]


@pytest.mark.parametrize("text", ["null", "[]", "3", '{"fvu": 0.1}'])
def test_a_report_that_is_none_is_damaged(home, text):
    run = Run(load("smoke"))
    run._home = home
    run.dictionary.folder.mkdir(parents=True)
    run.dictionary.path("report.json").write_text(text)
    with pytest.raises(Damaged, match="report.json is no report of a dictionary. Remove it"):
        _ = run.dictionary.report
