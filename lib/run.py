"""A run: a profile, the stages it consists of, and what a notebook asks of it.

It only connects. What a stage is made of, and how, is said beside its science; no result depends on this file.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from typing import Any

import pandas as pd

from lib.coefficients import Choice, choose
from lib.controls import Control
from lib.dictionary import Dictionary
from lib.dictionary import make_all as make_dictionaries
from lib.evidence import Active, Gathered
from lib.evidence import make_all as gather_for_all
from lib.explain import Explanations, Variation
from lib.images import ImageSet
from lib.judges import Segmenter
from lib.judges.clip import OpenClip
from lib.methods import COMPARED, NOTHING, PUBLISHED, STEERED, Method
from lib.metrics import Bench, Scores
from lib.profile import Profile
from lib.sae import TopKSAE
from lib.scenes.truth import Truth
from lib.stage import Home, Stage
from lib.store import ROOT, RUNS
from lib.vlm import VLM, Checkpoint
from lib.world import PhotoWorld, SceneWorld, World


class Run:
    """A profile with its data, models and results; ``command`` is what a user typed for it, for error messages."""

    def __init__(self, profile: Profile, command: str = "./run_all.sh") -> None:
        self.profile, self.command = profile, command
        self.figures = ROOT / "figures" / profile.label
        self._home = Home(RUNS / profile.name, command)
        self._other: dict[Checkpoint, VLM] = {}
        self._concepts: dict[int, str] = {}
        self._first: Run | None = None  # of replicas: the run whose encoder and world they share

    def changed(self, changes: str | dict[str, Any]) -> Run:
        """The same with other settings, or as a variant changes them; what the change does not touch is shared."""
        return Run(self.profile.variant(changes), self.command)

    @cached_property
    def models(self) -> dict[str, Run]:
        """What the paper has a table for, by its name there: this run, and those of its variants that have one."""
        own = self.profile.subject.published or self.profile.subject.name
        named = {changes.get("subject.published"): name for name, changes in self.profile.variants.items()}
        return {own: self, **{paper: self.changed(name) for paper, name in named.items() if paper}}

    @cached_property
    def replicas(self) -> list[Run]:
        """This run, and others that differ in the seed of their dictionary alone; each chooses its own coefficients.

        A released dictionary has no other seeds.
        """
        first = self.profile.sae.seed
        more = range(first + 1, first + self.profile.dictionaries)
        others = [self.changed({"sae.seed": seed}) for seed in more]
        for one in others:
            one._first = self
        return [self, *others]

    @cached_property
    def world(self) -> World:
        """The images, and the judges that belong to them."""
        if self._first:
            return self._first.world
        if self.profile.images.source == "scenes":
            return SceneWorld(self.profile)
        return PhotoWorld(self.profile, lambda: self.vlm, self._home.folder / "world")

    @property
    def sets(self) -> dict[str, ImageSet]:
        """The disjoint image sets: ``train``, ``explain`` and ``evaluate``."""
        return self.world.sets

    @cached_property
    def vlm(self) -> VLM:
        """The subject, which is also the explainer; loaded when it is first needed."""
        return self._first.vlm if self._first else VLM.load(self.profile.subject.checkpoint)

    # -- stages: each is given all that it depends on ----------------------------------------------

    @cached_property
    def dictionary(self) -> Dictionary:
        """The dictionary of features (notebook 02)."""
        p = self.profile
        train = None if p.sae.pretrained else self.sets["train"]
        return Dictionary(self._home, p.subject.checkpoint, train, self.sets["explain"][:500], p.sae, p.seed)

    @cached_property
    def shown(self) -> Gathered:
        """Evidence that explainers may see (notebook 03)."""
        return Gathered(self._home, self.dictionary, self.sets["explain"], self.profile.images.sizes)

    @cached_property
    def held_out(self) -> Gathered:
        """Evidence that explanations are scored on (notebook 03)."""
        p, known = self.profile, isinstance(self.world, SceneWorld)
        return Gathered(self._home, self.dictionary, self.sets["evaluate"], (), p.score.negatives, known, p.seed)

    @cached_property
    def explained(self) -> Explanations:
        """Explanations (notebook 04)."""
        c = self.profile.explain
        return Explanations(self._home, self.dictionary, c.batch, c.max_new_tokens)

    def choice(self, method: Method, explainer: Checkpoint | None = None) -> Choice:
        """How a method's coefficient is chosen (notebook 04), for the subject or another explainer."""
        c, speaks = self.profile.explain, explainer or self.profile.subject.checkpoint
        grid = c.steering if method.evidence == "blank" else c.hybrid
        variation = self.variation(method, explainer=speaks)
        return Choice(self._home, self.explained, variation, grid, self.active, self.segmenter, c.k)

    @cached_property
    def scores(self) -> Scores:
        """Scores (notebook 05)."""
        c, k = self.profile.score, self.profile.explain.k
        judges = (self.segmenter, self.world.generator, OpenClip(c.clip))
        return Scores(self._home, self.held_out, *judges, k, c.synthetic_images)

    def stages(self) -> list[Stage]:
        """All of this run's stages, each after those that it depends on."""
        choices = [self.choice(method) for method in STEERED]
        return [self.dictionary, self.shown, self.held_out, self.explained, *choices, self.scores]

    # -- what they hold ----------------------------------------------------------------------------

    @property
    def sae(self) -> TopKSAE:
        """The dictionary, ready to use."""
        return self.dictionary.sae

    @cached_property
    def truth(self) -> Truth | None:
        """What every latent is active on, over the held-out set; None for photographs, of which nobody knows."""
        return self.world.truth(self.held_out)

    @cached_property
    def active(self) -> Active:
        """Knows which latents are explained."""
        c = self.profile.explain
        return Active(self.shown, self.held_out, c.min_images, c.validation, c.test)

    @property
    def latents(self) -> dict[str, list[int]]:
        """Active latents, in order: the first choose coefficients (``validation``), the next report (``test``)."""
        return self.active.latents

    @property
    def some_latents(self) -> list[int]:
        """The first test latents, which the studies of variations take."""
        return self.latents["test"][: self.profile.study.latents]

    @cached_property
    def segmenter(self) -> Segmenter:
        """Finds what an explanation names in the held-out images."""
        return self.world.segmenter(self.sets["evaluate"])

    @property
    def bench(self) -> Bench:
        """What explanations are scored with."""
        return self.scores.bench(lambda: self.vlm, self.truth)

    # -- making them -------------------------------------------------------------------------------

    def gather(self) -> None:
        """One pass over each set: what explainers may see, and what scores come from."""
        self.shown.make(lambda: self.vlm)
        self.held_out.make(lambda: self.vlm)

    def train_all(self) -> None:
        """The dictionaries of all replicas, side by side."""
        make_dictionaries([one.dictionary for one in self.replicas], lambda: self.vlm)

    def gather_all(self) -> None:
        """One pass over each set, which serves the dictionaries of all replicas."""
        for sets in ([one.shown for one in self.replicas], [one.held_out for one in self.replicas]):
            gather_for_all(sets, lambda: self.vlm)

    def variation(self, method: Method, **changes: Any) -> Variation:
        """What is asked for, with the profile's settings but for the ``changes`` (see :class:`Variation`)."""
        usual = {"explainer": self.profile.subject.checkpoint, "shown": self.shown, "k": self.profile.explain.k}
        return Variation.of(method, **{**usual, **changes})

    def control(self, name: str, latents: list[int]) -> Control:
        """A control among some latents (appendix J)."""
        return Control(name, self.profile.seed + 9, () if name == "random" else tuple(latents))

    def model(self, explainer: Checkpoint) -> VLM:
        """An explainer, loaded; of others than the subject the last one stays, as there is no room for more."""
        if explainer == self.profile.subject.checkpoint:
            return self.vlm
        if explainer not in self._other:
            self._other.clear()
            self._other[explainer] = VLM.load(explainer)
        return self._other[explainer]

    def explanations(self, method: Method, latents: list[int], **changes: Any) -> pd.DataFrame:
        """Explanations of latents by a method; each is made once, then read. ``changes``: see :meth:`variation`."""
        return self.answers([self.variation(method, **changes)], latents)[0]

    def answers(self, variations: Sequence[Variation], latents: list[int]) -> list[pd.DataFrame]:
        """Explanations of latents by one explainer in several variations, a table for each.

        Quicker than one by one: those with the same pictures are asked about them together.
        """
        explainer = variations[0].explainer
        self.explained.make(variations, latents, lambda: self.model(explainer))
        return [self.explained.table(v, latents) for v in variations]

    def at_best(self, method: Method) -> Method:
        """The method with the coefficient that was chosen for it, if it steers."""
        return method.at(self.choice(method).best) if method.steer else method

    @property
    def chosen(self) -> dict[str, float]:
        """The coefficients chosen so far."""
        choices = {method.key: self.choice(method) for method in STEERED}
        return {key: choice.best for key, choice in choices.items() if choice.made}

    def choose(self, methods: tuple[Method, ...] = STEERED, explainer: Checkpoint | None = None) -> pd.DataFrame:
        """Fix the coefficients of methods on the validation latents; returns the sweep, with what is known of it."""
        choices = [self.choice(m, explainer) for m in methods if m.steer]
        table = choose(choices, lambda: self.model(explainer or self.profile.subject.checkpoint))
        if self.truth:
            pairs = zip(table.latent, table.explanation)
            table = table.assign(correctness=[self.truth.score(latent, text) for latent, text in pairs])
        return table.drop(columns="explanation")

    def explain_all(self, make: bool = True, methods: tuple[Method, ...] = COMPARED) -> pd.DataFrame:
        """The test latents by some methods and by none, with their controls; only read, if not ``make``.

        Controls are random and permuted directions for Steering, and permuted ones for the hybrid.
        """
        test, own = self.latents["test"], [self.at_best(m) for m in (NOTHING, *methods)]
        random, permuted = (self.control(name, test) for name in ("random", "permuted"))
        controls = {"Steering": (random, permuted), "Steering-informed Top-k": (permuted,)}
        pairs = [(m, None) for m in own]
        pairs += [(m, c) for m in own if m.steer == "add" or m.family == "Steering" for c in controls[m.family]]
        wanted = [self.variation(method, control=control) for method, control in pairs]
        tables = self.answers(wanted, test) if make else [self.explained.table(v, test) for v in wanted]
        return pd.concat(tables, ignore_index=True)

    def score(self, explained: pd.DataFrame) -> pd.DataFrame:
        """Explanations with the metrics, and the truth where it is known.

        Columns ``dictionary`` and ``concept`` say what latents have in common, for statistics: the dictionary's seed,
        and the element that explains a latent best. Where the truth is not known, each latent is its own concept.
        """
        scored = self.scores.make(explained, lambda: self.vlm, self.truth)
        return scored.assign(dictionary=self.profile.sae.seed, concept=[self.concept(i) for i in scored.latent])

    def concept(self, latent: int) -> str:
        """What latents that are easy or hard together are called."""
        if self.truth is None:
            return f"latent {latent} of dictionary {self.profile.sae.seed}"
        if latent not in self._concepts:
            self._concepts[latent] = self.truth.best_element(latent)[0].name
        return self._concepts[latent]

    def score_all(self) -> pd.DataFrame:
        """All that :meth:`explain_all` has left, scored."""
        return self.score(self.explain_all(make=False))

    def replicate(self) -> pd.DataFrame:
        """The main comparison by every replica, scored, with controls: the paper's methods over several dictionaries.

        What is there is read.
        """
        self.train_all()
        self.gather_all()
        tables = []
        for one in self.replicas:
            methods = COMPARED if one is self else PUBLISHED
            one.choose(methods)
            tables.append(one.score(one.explain_all(methods=methods)))
        return pd.concat(tables, ignore_index=True)

    def results(self, methods: tuple[Method, ...]) -> pd.DataFrame:
        """The whole way from dictionary to scores for some methods, without controls; what is there is read."""
        make_dictionaries([self.dictionary], lambda: self.vlm)
        self.gather()
        self.choose(methods)
        wanted = [self.variation(self.at_best(method)) for method in methods]
        return self.score(pd.concat(self.answers(wanted, self.latents["test"]), ignore_index=True))
