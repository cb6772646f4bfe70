"""The plan finds what is missing before a download, and its sums add up."""

from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace

import pytest

from lib import assets as hub_assets
from lib import hours, plan, profile
from lib import machine as this_machine
from lib.flops import Shape
from lib.profile import HardwareConfig, StudyConfig, load
from lib.store import ROOT

GEMMA = "google/gemma-3-4b-it@093f9f388b31de276ce2de164bdc2081324b9767"
SAE = "javifer/google_gemma-3-4b-it-saes@main"


@dataclass
class Subject:
    model: str = GEMMA
    layer: int = 16


@dataclass
class Images:
    source: str = "timm/mini-imagenet@bd8779f9d33c061ea6e75fdd3bce4e43dd679060"
    train_split: str | None = "train"
    split: str | None = "validation"
    train: int = 50_000
    explain: int = 5000
    evaluate: int = 5000
    sizes: tuple[int, ...] = (500,)


@dataclass
class Dictionary:
    latents: int = 8192
    pretrained: str | None = f"{SAE}:*layer_16_*/trainer_0"


@dataclass
class Explain:
    test: int = 100
    validation: int = 20
    steering: tuple[float, ...] = (1, 2)
    hybrid: tuple[float, ...] = (0.5,)
    k: int = 5
    max_new_tokens: int = 50


@dataclass
class Score:
    clip: str = "timm/vit_large_patch14_clip_224.openai@18d0535469bb561bf468d76c1d73aa35156c922b"
    sentences: str = "sentence-transformers/all-mpnet-base-v2@e8c3b32edf5434bc2275fc9bab85f82640a19130"
    detector: str | None = "IDEA-Research/grounding-dino-base@12bdfa3120f3e7ec7b434d90674b3396eccf88eb"
    segmenter: str | None = "facebook/sam2.1-hiera-large@665f8e2ad61cf5f53d65644ff27c8ee525124610"
    generator: str | None = "stabilityai/stable-diffusion-3.5-medium@b940f670f0eda2d07fbb75229e779da1ad11eb80"
    synthetic_images: int = 3
    steps: int = 30
    without_t5: bool = False


@dataclass
class Paper:
    """A profile like the paper's, with what the plan reads of one."""

    name: str = "paper"
    subject: Subject = field(default_factory=Subject)
    images: Images = field(default_factory=Images)
    sae: Dictionary = field(default_factory=Dictionary)
    explain: Explain = field(default_factory=Explain)
    score: Score = field(default_factory=Score)
    study: StudyConfig = StudyConfig(latents=50, k=(1, 3))
    explainers: dict = field(default_factory=dict)
    variants: dict = field(default_factory=dict)
    hardware: HardwareConfig = HardwareConfig("one GPU", tflops=100, gpu_gb=80, memory_gb=64, disk_gb=50)


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


def the_problem(made: Paper) -> plan.Problem:
    """The one problem that there is; it is in the report, and the run is refused."""
    (only,) = plan.problems(made)
    text = plan.report(made)
    assert only.what in text and only.remedy in text and "Nothing is missing" not in text
    assert plan.main_plan(made) == 1
    return only


def whole(assets: list[hub_assets.Asset]) -> dict:
    """A cache that holds these."""
    return {(a.kind, a.id, a.revision): a.gb for a in assets}


# -- what can be missing ---------------------------------------------------------------------------


def test_nothing_is_missing(machine, capsys):
    assert plan.main_plan(Paper()) == 0
    text = capsys.readouterr().out
    assert "Nothing is missing." in text and "google/gemma-3-4b-it | 093f9f3" in text


@pytest.mark.parametrize(("found", "says"), [(None, "is not installed"), ("0.0.1", "(0.0.1 is)")])
def test_a_package_is_missing_or_of_another_version(machine, found, says):
    machine.setattr(this_machine, "installed", lambda p: found if p == "tokenizers" else this_machine.required()[p])
    problem = the_problem(Paper())
    assert says in problem.what and f"pip install tokenizers=={this_machine.required()['tokenizers']}" in problem.remedy


def test_installed_looks_at_this_environment():
    assert this_machine.installed("torch") == this_machine.required()["torch"]  # without +cpu
    assert this_machine.installed("no-such-package") is None


def test_the_disk_is_too_small(machine):
    need = sum(a.gb for a in hub_assets.assets_of(Paper())) + 50
    machine.setattr(this_machine, "disk", lambda path: (1, need + 1))
    assert not plan.problems(Paper())
    machine.setattr(this_machine, "disk", lambda path: (1, need - 1))
    assert f"{need:.0f} GB needed" in the_problem(Paper()).what


def test_cache_and_results_on_two_disks(machine):
    machine.setattr(this_machine, "disk", lambda path: (1, 51.0) if path == ROOT else (2, 5.0))
    problem = the_problem(Paper())
    assert str(this_machine.hub_cache()) in problem.what and "5 GB free" in problem.what


def test_no_gpu(machine):
    machine.setattr(this_machine, "gpus", lambda: [])
    assert the_problem(Paper()).what.startswith("no GPU")


def test_gpus_too_small_even_together(machine):
    machine.setattr(this_machine, "gpus", lambda: [25.0, 25.0])
    assert "50 GB of GPU memory; 80 GB assumed" in the_problem(Paper()).what
    machine.setattr(this_machine, "gpus", lambda: [42.0, 42.0])
    assert not plan.problems(Paper())


def test_too_little_memory(machine):
    machine.setattr(this_machine, "main_memory", lambda: 16.0)
    assert "16 GB of main memory" in the_problem(Paper()).what


def test_no_token(machine):
    machine.setattr(this_machine, "token", lambda: None)
    machine.setattr(this_machine, "access", lambda asset: "gated" if asset.gated else "granted")
    problem = the_problem(Paper())
    assert "hf auth login" in problem.remedy
    for page in ("google/gemma-3-4b-it", "stabilityai/stable-diffusion-3.5-medium"):
        assert f"https://huggingface.co/{page}" in problem.remedy


def test_a_gate_that_is_not_open(machine):
    machine.setattr(this_machine, "access", lambda asset: "gated" if "gemma-3-4b-it" in asset.id else "granted")
    made = Paper(sae=Dictionary(pretrained=None))
    problem = the_problem(made)
    assert problem.remedy == "accept its terms: https://huggingface.co/google/gemma-3-4b-it"


def test_neither_token_nor_gate_matter_for_what_is_in_the_cache(machine):
    gated = whole([a for a in hub_assets.assets_of(Paper()) if a.gated])
    machine.setattr(this_machine, "cached", lambda: gated)
    machine.setattr(this_machine, "token", lambda: None)
    machine.setattr(this_machine, "access", lambda asset: "gated" if asset.gated else "granted")
    assert not plan.problems(Paper())


def test_the_hub_cannot_be_reached(machine):
    asked = []
    machine.setattr(this_machine, "access", lambda asset: asked.append(asset.id) or "unreachable")
    problem = the_problem(Paper())
    assert "facebook/sam2.1-hiera-large" in problem.what and "HF_HUB_OFFLINE" in problem.remedy
    assert set(asked) == {GEMMA.partition("@")[0]}  # one time-out is enough


def test_an_offline_machine_with_a_full_cache_lacks_nothing(machine):
    full = whole(hub_assets.assets_of(Paper()))
    machine.setattr(this_machine, "cached", lambda: full)
    machine.setattr(this_machine, "access", lambda asset: "unreachable")
    assert not plan.problems(Paper())
    assert "of which 0.0 GB are to be downloaded" in plan.report(Paper())


def test_a_token_that_the_hub_refuses(machine):
    machine.setattr(this_machine, "access", lambda asset: "refused")
    assert "hf auth login" in the_problem(Paper()).remedy


def test_an_id_that_the_hub_does_not_know(machine):
    machine.setattr(this_machine, "access", lambda asset: "absent" if asset.id == "someone/typo" else "granted")
    assert "there is no model someone/typo" in the_problem(Paper(subject=Subject("someone/typo"))).what


@pytest.mark.parametrize("source", ["data/no-such-pictures", "/no/such/folder", "~/no-such-folder", "pictures"])
def test_a_folder_of_images_that_is_not_there(machine, source):
    problem = the_problem(Paper(images=Images(source)))
    assert f"no folder {source}" in problem.what and "images.source" in problem.remedy


def test_a_folder_of_images_that_is_there(machine, tmp_path):
    made = Paper(images=Images(str(tmp_path)))
    assert not plan.problems(made) and all(a.kind == "model" for a in hub_assets.assets_of(made))


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
    asset = hub_assets.Asset("a/b", "dataset", ("images",))
    for error, state in told:

        def check(self, repo_id, repo_type, error=error):
            assert (repo_id, repo_type) == ("a/b", "dataset")
            if error:
                raise error

        monkeypatch.setattr(huggingface_hub.HfApi, "auth_check", check)
        assert this_machine.access(asset) == state


# -- downloads -------------------------------------------------------------------------------------


def test_totals_add_up(machine):
    assets = hub_assets.assets_of(Paper())
    assert len({a.id for a in assets}) == len(assets) == 8
    total = 8.6 + 0.08 + 1.71 + 0.44 + 0.94 + 0.9 + 16.3 + 1.13  # the validation split: nothing is trained
    assert sum(a.gb for a in assets) == pytest.approx(total)
    assert f"In all {total:.1f} GB, of which {total:.1f} GB are to be downloaded." in plan.report(Paper())


def test_a_repository_is_counted_once_whatever_it_is_for(machine):
    made = Paper(
        explainers={"4B": GEMMA, "12B": "google/gemma-3-12b-it"},
        variants={"later": {"subject.layer": 24, "sae.pretrained": f"{SAE}:*layer_24_*/trainer_0"}},
    )
    found = {a.id: a for a in hub_assets.assets_of(made)}
    assert found["google/gemma-3-4b-it"].roles == ("subject", "explainer 4B")
    assert found["google/gemma-3-12b-it"].gb == 24.4
    assert found["javifer/google_gemma-3-4b-it-saes"].gb == pytest.approx(2 * 0.08)  # two dictionaries of it


def test_training_needs_the_training_images(machine):
    found = {a.kind: a for a in hub_assets.assets_of(Paper(sae=Dictionary(pretrained=None)))}
    assert found["dataset"].gb == pytest.approx(5.65 + 1.13)


def test_a_text_encoder_left_out_is_not_downloaded(machine):
    assert sum(a.gb for a in hub_assets.assets_of(Paper())) - sum(
        a.gb for a in hub_assets.assets_of(Paper(score=Score(without_t5=True)))
    ) == pytest.approx(16.3 - 6.8)


def test_what_is_half_there_is_half_downloaded(machine):
    machine.setattr(this_machine, "cached", lambda: {("model", *GEMMA.split("@")): 5.0})
    (gemma,) = [a for a in hub_assets.assets_of(Paper()) if "subject" in a.roles]
    assert not gemma.here and gemma.missing == pytest.approx(3.6)


def test_another_revision_in_the_cache_is_not_this_one(machine):
    machine.setattr(this_machine, "cached", lambda: {("model", "google/gemma-3-4b-it", "0" * 40): 8.6})
    assert not any(a.here for a in hub_assets.assets_of(Paper()))


def test_unknown_ids_are_listed_without_a_size(machine):
    made = Paper(subject=Subject("someone/new-model"), explainers={"large": "someone/newer"})
    text = plan.report(made)
    assert "| someone/new-model | main (not pinned) | unknown |" in text and "2 of unknown size" in text
    assert "| 03 | evidence | unknown | unknown |" in text
    assert plan.main_plan(made) == 0


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


def cost(made: Paper, notebook: str) -> float:
    return sum(s.flops for s in hours.stages(made) if s.notebook == notebook)


def test_a_released_dictionary_costs_no_training():
    assert cost(Paper(), "02") == 0
    trained = Paper(sae=Dictionary(pretrained=None))
    shape = hours.shape_for(GEMMA)
    codes = 2 * 4096 * 1152 * 8192
    assert cost(trained, "02") == pytest.approx(50_000 * (shape.see(17) + 7 * codes))
    assert cost(trained, "03") == cost(Paper(), "03") == pytest.approx(10_000 * (shape.see(17) + codes))


def test_hours_are_flops_at_the_stated_speed():
    slow, fast = (
        hours.stages(Paper(hardware=HardwareConfig("x", tflops=t, gpu_gb=80, memory_gb=1, disk_gb=1)))
        for t in (50, 100)
    )
    for a, b in zip(slow, fast, strict=True):
        assert a.flops == b.flops and a.hours == pytest.approx(2 * b.hours)
        assert a.hours == pytest.approx(a.flops / 50e12 / 3600)
    assert f"| | in all | {sum(s.flops for s in fast):.1e} |" in plan.report(Paper(), [], [])


def test_drawing_costs_steps_and_guidance():
    many, few = cost(Paper(), "05"), cost(Paper(score=Score(steps=10)), "05")
    drawn = 12 * 100 * 3 * 20 * 2 * 5100e9  # explanations x pictures x steps x guidance
    assert many - few == pytest.approx(drawn)


def test_every_variant_and_other_explainer_has_its_row():
    made = Paper(
        explainers={"4B": GEMMA, "27B": "google/gemma-3-27b-it"},
        variants={"later": {"subject.layer": 24}, "own": {"subject.layer": 24, "sae.pretrained": None}},
    )
    rows = [(s.notebook, s.what) for s in hours.stages(made)]
    assert [r for r in rows if r[0] == "07"] == [("07", "variant later"), ("07", "variant own")]
    assert [r for r in rows if r[0] == "12"] == [("12", "explainer 27B")]
    later, own = (s.flops for s in hours.stages(made) if s.notebook == "07")
    trained = cost(Paper(subject=Subject(layer=24), sae=Dictionary(pretrained=None)), "02")
    assert trained > 0 and own - later == pytest.approx(trained)


def test_methods_are_those_that_are_compared():
    from lib import explain

    families = {"Steering": "steering", "Top-k": "top_k", "Steering-informed Top-k": "hybrid"}
    for counted, methods in (
        (hours.EVERY, (*explain.STEERING, *explain.TOP_K, *explain.HYBRID)),
        (hours.PUBLISHED, explain.PUBLISHED),
    ):
        for family, name in families.items():
            assert getattr(counted, name) == sum(m.family == family for m in methods)


def test_the_shape_of_a_local_model_is_in_its_configuration():
    shape = hours.shape_for("data/models/subject-a")
    assert (shape.tokens, shape.image_tokens, shape.vision_width) == (64, 16, 192)
    assert hours.shape_for("data/models/subject-b").tokens == 65  # with a class token
    assert hours.shape_for("someone/unknown") is None


# -- what is known, and the profiles that ship ------------------------------------------------------


@pytest.mark.parametrize("name", hub_assets.known())
def test_what_is_known_of_an_asset_is_whole(name):
    entry = hub_assets.known()[name]
    assert entry["kind"] in ("model", "dataset") and entry["licence"] and isinstance(entry["gated"], bool)
    assert entry["page"] == f"https://huggingface.co/{'datasets/' if entry['kind'] == 'dataset' else ''}{name}"
    pinned = hub_assets.Asset(name, entry["kind"], (), entry["revision"]).pinned
    assert pinned == entry.get("pinned", True)
    assert hub_assets._size(entry, set(), False) > 0
    if isinstance(shape := hours.shape_for(name), Shape):
        assert shape.parameters / 1e9 == pytest.approx(entry["billions"], rel=0.03)


@pytest.mark.parametrize("name", sorted(p.stem for p in profile.PROFILES.glob("*.yaml")))
def test_profiles_name_the_revisions_that_are_known(monkeypatch, name):
    monkeypatch.setattr(this_machine, "cached", lambda: {})
    for asset in hub_assets.assets_of(load(name)):
        assert asset.revision == hub_assets.known()[asset.id]["revision"]


@pytest.mark.parametrize("name", ["desk", "smoke"])
def test_the_desk_downloads_nothing_and_needs_no_gpu(machine, name):
    machine.setattr(this_machine, "gpus", lambda: [])
    machine.setattr(this_machine, "token", lambda: None)
    machine.setattr(this_machine, "access", lambda asset: pytest.fail("the hub was asked"))
    made = load(name)
    assert hub_assets.assets_of(made) == [] and plan.main_plan(made) == 0
    text = plan.report(made)
    assert "Nothing to download." in text and "no GPU" in text and "unknown" not in text


def test_an_overridden_desk_with_a_missing_model_is_refused(machine):
    made = load("desk", {"subject.model": "data/models/gone"})
    assert plan.problems(made)[0].what == "subject: there is no folder data/models/gone"


def test_disk_looks_where_a_folder_will_be(tmp_path):
    number, free = this_machine.disk(tmp_path / "not" / "yet")
    assert number == Path(tmp_path).stat().st_dev and free > 0
