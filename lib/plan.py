"""What a run will take, before it takes it: downloads, disk, memory, hours, and what is missing (`--plan`)."""

from __future__ import annotations

import importlib.metadata
import importlib.util
import os
import re
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from lib.flops import Job, Shape, items, published
from lib.profile import HardwareConfig, Profile, StudyConfig
from lib.store import ROOT, hub_id

PROMPT = 40  # text tokens of a question about pictures, about
READING = (150, 30)  # tokens of a question about an explanation, and of its answer, about
NEARLY = 0.95  # sizes are rounded: a 16 GB card reports 15.8
BASES = 3  # empty pictures tried besides the white one


# -- what the profile says -------------------------------------------------------------------------


@dataclass(frozen=True)
class View:
    """A profile as one of its variants changes it.

    Attributes
    ----------
    profile : the profile.
    changes : dotted keys and their new values.
    name : of the variant; empty for the profile itself.
    """

    profile: Profile
    changes: dict[str, Any]
    name: str = ""

    def get(self, key: str, default: Any = None) -> Any:
        """A setting by its dotted key."""
        if key in self.changes:
            return self.changes[key]
        value: Any = self.profile
        for part in key.split("."):
            value = getattr(value, part, None)
        return default if value is None else value

    @property
    def scenes(self) -> bool:
        """Whether its images are drawn, and its judges exact."""
        return self.get("images.source", "scenes") == "scenes"


def views(profile: Profile) -> list[View]:
    """The profile itself, then each of its variants."""
    variants = getattr(profile, "variants", {})
    return [View(profile, {}), *(View(profile, changes, name) for name, changes in variants.items())]


def is_path(name: str) -> bool:
    """Whether a name can only mean a folder, there or not: ids on the hub are ``owner/name``."""
    return not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name[0] in "./~" or name.startswith("data/")


def is_folder(name: str) -> bool:
    """Whether a name is that of a folder that exists, relative to the project or not."""
    return (ROOT / Path(name).expanduser()).is_dir()


def is_package(name: str) -> bool:
    """Whether a name is that of an installed package."""
    return name.isidentifier() and importlib.util.find_spec(name) is not None


def named(profile: Profile) -> Iterator[tuple[str, str, Literal["model", "dataset"], View]]:
    """Everything that a profile names and that may lie on the hub: role, name as written, kind, view."""
    for view in views(profile):
        single = {
            "subject": "subject.model",
            "dictionary": "sae.pretrained",
            "CLIP judge": "score.clip",
            "sentences": "score.sentences",
            "detector": "score.detector",
            "segmenter": "score.segmenter",
            "generator": "score.generator",
        }
        for role, key in single.items():
            if name := view.get(key):
                yield role, _spelt(role, name), "model", view
        if not view.scenes:
            yield "images", view.get("images.source"), "dataset", view
    for size, name in getattr(profile, "explainers", {}).items():
        yield f"explainer {size}", name, "model", View(profile, {})


def _spelt(role: str, name: str) -> str:
    """An id as it is on the hub, where a library has a short form for it."""
    if role == "sentences" and "/" not in name and not is_package(name):
        return f"sentence-transformers/{name}"
    return name


# -- downloads -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asset:
    """A repository on the hub that the profile needs.

    Attributes
    ----------
    roles : what it is there for.
    revision : as the profile names it, else ``main``.
    gb : 10^9 bytes that are downloaded from it; None if this project has not met it.
    page : where its licence is, and its gate.
    cached : 10^9 bytes of it that are in the cache.
    """

    id: str
    kind: Literal["model", "dataset"]
    roles: tuple[str, ...]
    revision: str = "main"
    gb: float | None = None
    licence: str = "see its page"
    gated: bool = False
    page: str = ""
    cached: float = 0.0

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit."""
        return bool(re.fullmatch(r"[0-9a-f]{40}", self.revision))

    @property
    def here(self) -> bool:
        """Whether the cache holds it: all of it, or anything if nobody knows how much that is."""
        return self.cached > 0 and self.cached >= NEARLY * (self.gb or 0)

    @property
    def missing(self) -> float:
        """10^9 bytes still to be downloaded, as far as known."""
        return 0.0 if self.here else max(0.0, (self.gb or 0) - self.cached)


@cache
def known() -> dict[str, dict[str, Any]]:
    """``data/paper/assets.yaml``: id -> what is known of it."""
    return yaml.safe_load((ROOT / "data" / "paper" / "assets.yaml").read_text())


def assets_of(profile: Profile) -> list[Asset]:
    """What the profile needs from the hub, each repository once; folders and installed packages cost nothing."""
    found: dict[tuple[str, str], Asset] = {}
    parts: dict[tuple[str, str], set[str]] = {}  # dictionaries, or splits, of one repository
    for role, written, kind, view in named(profile):
        repository, _, pattern = written.partition(":")
        name, revision = hub_id(repository)
        if is_path(name) or is_folder(name):
            continue
        key = (name, revision or "main")
        entry = known().get(name, {})
        old = found.get(key, Asset(name, kind, ()))
        roles = old.roles if role in old.roles else (*old.roles, role)
        parts.setdefault(key, set()).update([pattern] if pattern else [])
        if kind == "dataset":
            parts[key].update(_splits(view))
        found[key] = replace(
            old,
            roles=roles,
            revision=key[1],
            gb=_size(entry, parts[key], view.get("score.without_t5", False)),
            licence=entry.get("licence", old.licence),
            gated=entry.get("gated", False),
            page=entry.get("page") or f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}",
        )
    here = cached() if found else {}
    return [replace(a, cached=here.get((a.kind, a.id, a.revision), 0.0)) for a in found.values()]


def _splits(view: View) -> list[str]:
    """Parts of a data set that a run reads."""
    training = [] if view.get("sae.pretrained") else [view.get("images.train_split")]
    return [split for split in (*training, view.get("images.split")) if split]


def _size(entry: dict[str, Any], parts: set[str], without_t5: bool) -> float | None:
    if "splits" in entry:
        return sum(gb for split, gb in entry["splits"].items() if split in parts or not parts)
    if without_t5 and "gb_without_t5" in entry:
        return entry["gb_without_t5"]
    return entry["gb"] * max(1, len(parts)) if "gb" in entry else None


# -- hours -----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class StageCost:
    """What a notebook computes.

    Attributes
    ----------
    notebook : its number.
    what : what takes long in it.
    flops : matrix products, at most; None if the model's shape is not known.
    hours : at the sustained speed that the profile states.
    """

    notebook: str
    what: str
    flops: float | None
    hours: float | None


def shape_for(model: str) -> Shape | None:
    """The shape of a model: from ``assets.yaml``, or from the configuration in its folder; None if neither has it."""
    name, _ = hub_id(model)
    shape = known().get(name, {}).get("shape")
    if isinstance(shape, str):
        return published()[shape]
    if shape:
        return Shape(**shape)
    return _from_config(ROOT / name) if (ROOT / name / "config.json").is_file() else None


@cache
def _from_config(folder: Path) -> Shape | None:
    from transformers import AutoConfig  # seconds to import, and only local models need it

    config = AutoConfig.from_pretrained(folder)
    vision, text = getattr(config, "vision_config", None), config.get_text_config()
    if vision is None:
        return None
    image, side = (v if isinstance(v, int) else v[0] for v in (vision.image_size, vision.patch_size))
    patches = (image // side) ** 2
    shrink = getattr(config, "scale_factor", 2)  # pixel shuffle: Idefics3 says how much, InternVL halves each side
    shown = getattr(config, "mm_tokens_per_image", None) or patches // shrink**2
    return Shape(
        vision_layers=vision.num_hidden_layers,
        vision_width=vision.hidden_size,
        vision_mlp=vision.intermediate_size,
        tokens=patches + (config.model_type == "internvl"),
        image_tokens=shown,
        pixels=3 * side * side,
        layers=text.num_hidden_layers,
        width=text.hidden_size,
        mlp=text.intermediate_size,
        heads=text.num_attention_heads,
        kv_heads=text.num_key_value_heads,
        head_dim=getattr(text, "head_dim", None) or text.hidden_size // text.num_attention_heads,
        vocabulary=text.vocab_size,
        projector=vision.hidden_size * text.hidden_size,
    )


@dataclass(frozen=True)
class Methods:
    """How many methods of each family are compared (:mod:`lib.explain` has them)."""

    steering: int
    top_k: int
    hybrid: int

    @property
    def all(self) -> int:
        """Methods of any family."""
        return self.steering + self.top_k + self.hybrid


EVERY = Methods(2, 2, 4)
PUBLISHED = Methods(1, 2, 2)  # without replacing
CONTROLS = 4  # of Steering: two kinds of direction for each of its two methods


@dataclass(frozen=True)
class Prices:
    """FLOPs of the steps that a run consists of.

    Attributes
    ----------
    see : one image through the encoder up to the layer, and its codes.
    train : one image's activations through the dictionary, forwards and backwards, after the encoder.
    read : a question about an explanation, answered by the language model; 0 for scenes.
    mask : finding an explanation in the held-out top images of a latent.
    score : all metrics of one explanation, ``mask`` included.
    """

    shape: Shape
    view: View
    see: float
    train: float
    read: float
    mask: float
    score: float

    @staticmethod
    def of(view: View, model: str | None = None) -> Prices | None:
        """Prices for a view of a profile, with its subject or another explainer; None if the shape is not known."""
        shape = shape_for(model or view.get("subject.model"))
        if shape is None:
            return None
        codes = 2 * shape.tokens * shape.vision_width * view.get("sae.latents")
        see = shape.see(min(view.get("subject.layer", 0) + 1, shape.vision_layers)) + codes
        prompt, answer = READING
        spoken = sum(shape.read(1, prompt + i) + shape.logits() for i in range(answer))
        read = 0 if view.scenes else shape.read(prompt) + spoken
        k, drawn = view.get("explain.k", 5), view.get("score.synthetic_images", 3)
        mask = read + k * (_judge(view, "score.detector") + _judge(view, "score.segmenter"))
        size, guided = view.get("score.size", 512), 2 if view.get("score.guidance", 7.5) > 1 else 1
        draw = _judge(view, "score.generator") * view.get("score.steps", 30) * guided * (size / 512) ** 2
        score = mask + drawn * (draw + see) + (k + 1) * _judge(view, "score.clip")
        return Prices(shape, view, see, 6 * codes, read, mask, score)

    def explain(self, n: float, shown: int | None = None) -> float:
        """``n`` explanations from ``shown`` pictures each (default: the profile's k); by Steering if that is 0."""
        k = self.view.get("explain.k", 5) if shown is None else shown
        job = Job(1, 0, max(1, k), PROMPT, self.view.get("explain.max_new_tokens", 16), 0, 0)
        cost = items(self.shape, job, "Top-k" if k else "Steering")
        return n * sum(value for name, value in cost.items() if name.startswith("explain"))


def _judge(view: View, key: str) -> float:
    """FLOPs of a judge, per picture; a judge of unknown size counts as nothing."""
    name, _ = hub_id(view.get(key, ""))
    return 0.0 if view.scenes else 1e9 * known().get(name, {}).get("gflops", 0)


def dictionary_cost(p: Prices) -> float:
    """Notebook 02: nothing for a released dictionary; else every training image is encoded, and learnt from."""
    return 0.0 if p.view.get("sae.pretrained") else p.view.get("images.train") * (p.see + p.train)


def evidence_cost(p: Prices) -> float:
    """Notebook 03: both image sets are encoded once."""
    return (p.view.get("images.explain") + p.view.get("images.evaluate")) * p.see


def explanation_cost(p: Prices, methods: Methods = EVERY, controls: int = CONTROLS) -> float:
    """Notebook 04: coefficients chosen on validation latents by IoU, then the test latents by all methods."""
    validation, test = p.view.get("explain.validation"), p.view.get("explain.test")
    swept = methods.steering * len(p.view.get("explain.steering")), methods.hybrid * len(p.view.get("explain.hybrid"))
    sweep = p.explain(swept[0] * validation, 0) + p.explain(swept[1] * validation) + sum(swept) * validation * p.mask
    blank, shown = methods.steering + controls, methods.top_k + methods.hybrid
    return sweep + p.explain(blank * test, 0) + p.explain(shown * test)


def stages(profile: Profile) -> list[StageCost]:
    """Matrix products of every notebook that computes much, and their hours.

    Upper estimates: every explanation is taken to be new and as long as it may be. Hours are FLOPs at a stated
    sustained rate; nothing is measured. Notebooks that are not listed compute next to nothing.
    """
    first, *others = views(profile)
    study = getattr(profile, "study", StudyConfig(0, ()))
    p, n = Prices.of(first), study.latents
    test = first.get("explain.test")
    rows: list[tuple[str, str, float | None]] = []

    def add(notebook: str, what: str, flops: float | None) -> None:
        rows.append((notebook, what, flops))

    add("02", "released dictionary, loaded" if first.get("sae.pretrained") else "dictionary", p and dictionary_cost(p))
    add("03", "evidence", p and evidence_cost(p))
    add("04", "explanations", p and explanation_cost(p))
    add("05", "scores", p and (EVERY.all + CONTROLS) * test * p.score)
    for view in others:
        add("07", f"variant {view.name}", _variant_cost(view))
    add("08", "protocols", p and PUBLISHED.all * test * p.mask)
    add("09", "controls", p and 8 * (p.explain(n) + n * p.score))
    add("10", "contextual bias", p and _bias_cost(p, study))
    for name, model in getattr(profile, "explainers", {}).items():
        if model != first.get("subject.model"):
            add("12", f"explainer {name}", _explainer_cost(first, model, n))
    sizes = len(first.get("images.sizes", ()))
    add("13", "image set sizes", p and sizes * 2 * (p.explain(n) + n * p.score))
    add("16", "sensitivity", p and _sensitivity_cost(p, study))
    rate = _hardware(profile).tflops * 1e12 * 3600
    return [StageCost(nb, what, f, None if f is None else f / rate) for nb, what, f in rows]


def _variant_cost(view: View) -> float | None:
    p = Prices.of(view)
    if p is None:
        return None
    scores = PUBLISHED.all * view.get("explain.test") * p.score
    return dictionary_cost(p) + evidence_cost(p) + explanation_cost(p, PUBLISHED, 0) + scores


def _bias_cost(p: Prices, study: StudyConfig) -> float:
    """Photographs: every explanation is labelled. Scenes: doses, and dictionaries of other worlds."""
    if not p.view.scenes:
        return PUBLISHED.all * p.view.get("explain.test") * p.read
    images, shown = study.dose_images, 3  # methods that look at images
    dose = images * p.see + shown * p.explain(study.latents)
    world = 4 * images * p.see + 2 * images * p.train + shown * p.explain(study.latents) + p.explain(study.latents, 0)
    return len(study.doses) * dose + len(study.worlds) * world


def _explainer_cost(view: View, model: str, n: int) -> float | None:
    """Steering's coefficient chosen anew, then Steering and Top-k, and an answer without any intervention."""
    p = Prices.of(view, model)
    if p is None:
        return None
    sweep = len(view.get("explain.steering")) * view.get("explain.validation")
    return p.explain(sweep + 2 * n, 0) + sweep * p.mask + p.explain(n) + 2 * n * p.score


def _sensitivity_cost(p: Prices, study: StudyConfig) -> float:
    """Coefficients, numbers of top images, and empty pictures."""
    n, own = study.latents, p.view.get("explain.k", 5)
    blank = EVERY.steering * (len(p.view.get("explain.steering")) + BASES)
    hybrid, counts = len(p.view.get("explain.hybrid")), [k for k in study.k if k != own]
    explained = p.explain(blank * n, 0) + p.explain(hybrid * n) + sum(p.explain(n, k) for k in counts)
    return explained + (blank + hybrid + len(counts)) * n * p.score


# -- what the machine has: small functions, so that tests can say something else ----------------------


def _hardware(profile: Profile) -> HardwareConfig:
    return getattr(profile, "hardware", None) or HardwareConfig()


def required() -> dict[str, str]:
    """Packages and versions that ``environment.yml`` pins."""
    return dict(re.findall(r"- ([\w-]+)==(\S+)", (ROOT / "environment.yml").read_text()))


def installed(package: str) -> str | None:
    """The version of an installed package, without a local suffix such as ``+cpu``."""
    try:
        return importlib.metadata.version(package).split("+")[0]
    except importlib.metadata.PackageNotFoundError:
        return None


def gpus() -> list[float]:
    """Memory of every GPU that PyTorch can use, in 10^9 bytes."""
    import torch

    return [torch.cuda.get_device_properties(i).total_memory / 1e9 for i in range(torch.cuda.device_count())]


def main_memory() -> float:
    """10^9 bytes."""
    return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 1e9


def hub_cache() -> Path:
    """Where downloads are kept."""
    from huggingface_hub.constants import HF_HUB_CACHE

    return Path(HF_HUB_CACHE)


def disk(path: Path) -> tuple[int, float]:
    """The disk that a path lies on, or would: its number, and its free space in 10^9 bytes."""
    there = next(p for p in (path, *path.parents) if p.exists())
    return there.stat().st_dev, shutil.disk_usage(there).free / 1e9


def cached() -> dict[tuple[str, str, str], float]:
    """What the hub's cache holds: (kind, id, commit or branch) -> 10^9 bytes."""
    from huggingface_hub import CacheNotFound, scan_cache_dir

    try:
        repositories = scan_cache_dir(hub_cache()).repos
    except CacheNotFound:
        return {}
    return {
        (r.repo_type, r.repo_id, name): revision.size_on_disk / 1e9
        for r in repositories
        for revision in r.revisions
        for name in (revision.commit_hash, *revision.refs)
    }


def token() -> str | None:
    """The user's token for the hub, if there is one."""
    from huggingface_hub import get_token

    return get_token()


def access(asset: Asset) -> Literal["granted", "gated", "absent", "refused", "unreachable"]:
    """Asks the hub whether this user may download a repository."""
    from huggingface_hub import HfApi
    from huggingface_hub.errors import GatedRepoError, HfHubHTTPError, HTTPError, RepositoryNotFoundError

    try:
        HfApi().auth_check(asset.id, repo_type=asset.kind)
    except GatedRepoError:
        return "gated"
    except RepositoryNotFoundError:
        return "absent"
    except HfHubHTTPError as error:
        return "refused" if error.response.status_code in (401, 403) else "unreachable"
    except (HTTPError, OSError):  # no connection, HF_HUB_OFFLINE, or a hub that is down
        return "unreachable"
    return "granted"


# -- what is missing -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Why the run cannot work: what is wrong, and what to do about it."""

    what: str
    remedy: str


def problems(profile: Profile, assets: list[Asset] | None = None) -> list[Problem]:
    """All reasons that can be found beforehand why a run of this profile would stop.

    What the cache holds of a repository is judged by its size: nothing is opened.
    """
    assets = assets_of(profile) if assets is None else assets
    return [*_packages(), *_folders(profile), *_space(profile, assets), *_machine(profile), *_hub(assets)]


def _packages() -> Iterator[Problem]:
    for name, version in required().items():
        if (found := installed(name)) != version:
            what = f"package {name} {version} is not installed" + (f" ({found} is)" if found else "")
            yield Problem(what, f"`pip install {name}=={version}`, or let ./run_all.sh make its .venv")


def _folders(profile: Profile) -> Iterator[Problem]:
    seen = set()
    for role, written, _, _ in named(profile):
        name = hub_id(written)[0]
        place = name.partition(":")[0] if role == "dictionary" else name
        if is_path(place) and not is_package(place) and not is_folder(place) and place not in seen:
            seen.add(place)
            key = "images.source" if role == "images" else f"the {role}"
            yield Problem(f"{role}: there is no folder {place}", f"make it, or name another as {key} in the profile")


def _space(profile: Profile, assets: list[Asset]) -> Iterator[Problem]:
    needs = {hub_cache(): sum(a.missing for a in assets), ROOT: _hardware(profile).disk_gb}
    disks: dict[int, list[tuple[Path, float, float]]] = {}
    for path, need in needs.items():
        number, free = disk(path)
        disks.setdefault(number, []).append((path, need, free))
    for users in disks.values():
        need, free = sum(u[1] for u in users), users[0][2]
        if need > free:
            where = " and ".join(str(path) for path, part, _ in users if part)
            yield Problem(
                f"{need:.0f} GB needed for downloads and results in {where}; {free:.0f} GB free",
                "free some, or set HF_HOME to a folder on a larger disk",
            )


def _machine(profile: Profile) -> Iterator[Problem]:
    wanted, other = _hardware(profile), "take a profile for less (laptop, desk), or another machine"
    if wanted.gpu_gb:
        have = gpus()
        if not have:
            yield Problem(f"no GPU that PyTorch can use; {wanted.gpu_gb:g} GB of GPU memory assumed", other)
        elif sum(have) < NEARLY * wanted.gpu_gb:
            yield Problem(f"{sum(have):.0f} GB of GPU memory; {wanted.gpu_gb:g} GB assumed", other)
    if (memory := main_memory()) < NEARLY * wanted.memory_gb:
        yield Problem(f"{memory:.0f} GB of main memory; {wanted.memory_gb:g} GB assumed", other)


def _hub(assets: list[Asset]) -> Iterator[Problem]:
    wanted = [a for a in assets if not a.here]
    gated = [a for a in wanted if a.gated]
    if logged_out := bool(gated) and token() is None:
        pages = ", ".join(a.page for a in gated)
        yield Problem("no hub token, and gated repositories are to be downloaded", f"`hf auth login`; accept: {pages}")
    for asset in wanted:
        state = access(asset)
        if state == "unreachable":
            names = ", ".join(a.id for a in wanted)
            remedy = "unset HF_HUB_OFFLINE, mend the connection, or copy the cache from a machine that has them"
            yield Problem(f"the hub cannot be reached, and these are not in the cache: {names}", remedy)
            return  # the others would wait for the same time-out
        if state == "refused":
            yield Problem("the hub refuses your token", "`hf auth login` with a new one that may read")
            return
        if state == "gated" and not logged_out:
            yield Problem(f"the gate of {asset.id} is not open to you", f"accept its terms: {asset.page}")
        if state == "absent":
            remedy = "mend the id in the profile; for a private one, `hf auth login`"
            yield Problem(f"there is no {asset.kind} {asset.id} on the hub, and no such folder", remedy)


# -- the report ------------------------------------------------------------------------------------


def facts(profile: Profile, assets: list[Asset] | None = None) -> str:
    """What a profile assumes, downloads and costs, wherever it is run, as Markdown."""
    assets = assets_of(profile) if assets is None else assets
    h, costs = _hardware(profile), stages(profile)
    gpu = f"{h.gpu_gb:g} GB of GPU memory" if h.gpu_gb else "no GPU"
    return "\n".join(
        [
            f"# Plan of profile `{profile.name}`\n",
            f"Assumed: {h.name}; {gpu}, {h.memory_gb:g} GB of main memory, {h.disk_gb:g} GB for results, "
            f"{h.tflops:g} TFLOP/s sustained.\n",
            "## Downloads\n",
            *_asset_lines(assets),
            "\n## Time\n",
            *_stage_lines(costs),
        ]
    )


def report(profile: Profile, assets: list[Asset] | None = None, found: list[Problem] | None = None) -> str:
    """The whole plan as Markdown: :func:`facts`, and what this machine lacks."""
    assets = assets_of(profile) if assets is None else assets
    found = problems(profile, assets) if found is None else found
    missing = [f"- {p.what}\n  - {p.remedy}" for p in found] or ["Nothing is missing."]
    return "\n".join([facts(profile, assets), "\n## What is missing\n", *missing])


def _asset_lines(assets: list[Asset]) -> list[str]:
    if not assets:
        return ["Nothing to download."]
    lines = ["| for | repository | revision | GB | licence | gate | state |", "|---|---|---|---:|---|---|---|"]
    for a in assets:
        cells = (
            ", ".join(a.roles),
            a.id,
            a.revision[:7] if a.pinned else f"{a.revision} (not pinned)",
            "unknown" if a.gb is None else f"{a.gb:.2f}",
            a.licence,
            a.page if a.gated else "none",
            "here" if a.here else "to download",
        )
        lines.append(f"| {' | '.join(cells)} |")
    unknown = sum(a.gb is None for a in assets)
    rest = f", and {unknown} of unknown size" if unknown else ""
    total, missing = sum(a.gb or 0 for a in assets), sum(a.missing for a in assets)
    return [*lines, f"\nIn all {total:.1f} GB, of which {missing:.1f} GB are to be downloaded{rest}."]


def _stage_lines(costs: list[StageCost]) -> list[str]:
    lines = ["| notebook | what | FLOPs | hours |", "|---|---|---:|---:|"]
    for c in costs:
        numbers = ("unknown", "unknown") if c.flops is None else (f"{c.flops:.1e}", _hours(c.hours))
        lines.append(f"| {c.notebook} | {c.what} | {numbers[0]} | {numbers[1]} |")
    flops, hours = (sum(getattr(c, name) or 0 for c in costs) for name in ("flops", "hours"))
    lines.append(f"| | in all | {flops:.1e} | {_hours(hours)} |")
    unknown = any(c.flops is None for c in costs)
    return [
        *lines,
        "\nHours are not measured: they are matrix products, counted from the shapes of the models, at the sustained "
        "speed above. Words are spoken one at a time, which is slower than that; explanations that say the same "
        "are drawn once, which is quicker. Loading, drawing scenes and plotting are not counted."
        + (" `unknown`: the model's shape is not in data/paper/assets.yaml." if unknown else ""),
    ]


def _hours(hours: float) -> str:
    """Two digits, and no powers of ten."""
    return f"{hours:.0f}" if hours >= 10 else f"{hours:.2g}"


def main_plan(profile: Profile) -> int:
    """Print the plan; returns the exit code: 0 if nothing is missing, else 1."""
    assets = assets_of(profile)
    found = problems(profile, assets)
    print(report(profile, assets, found))
    return 1 if found else 0
