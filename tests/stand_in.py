"""A run whose models are stand-ins: studies can be tried in seconds, over real stages in a folder of their own."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from lib.dictionary import Dictionary
from lib.methods import Method
from lib.profile import Profile, load
from lib.run import Run
from lib.sae import TopKSAE
from lib.stage import Home
from lib.vlm import VLM, Checkpoint

SMALL = {
    "images.train": 40, "images.explain": 30, "images.evaluate": 30, "images.sizes": [10], "explain.min_images": 1,
    "explain.validation": 2, "explain.test": 6, "study.latents": 4, "study.dose_images": 20, "sae.batch": 256,
}  # fmt: skip


class Talker:
    """Stands in for a language model behind an encoder: says its name, and how often it has been asked."""

    def __init__(self, name: str, encoder: VLM) -> None:
        self.name, self.encoder, self.asked = name, encoder, 0

    def __getattr__(self, name):
        return getattr(self.encoder, name)

    def answer(self, questions, max_new_tokens, change=None):
        self.asked += len(questions)
        return [f"{self.name} {self.asked}" for _ in questions]


class StandIn(Run):
    """A run of real stages; its models are tiny, nothing is scored, and every coefficient is best at 1."""

    def __init__(self, profile: Profile, home: Path, encoder: VLM) -> None:
        super().__init__(profile)
        self._home, self.encoder = Home(home, "./run_all.sh"), encoder
        self.talkers: dict[str, Talker] = {}
        self.vlm = self.model(profile.subject.checkpoint)

    def model(self, explainer: Checkpoint) -> Talker:
        return self.talkers.setdefault(explainer.model, Talker(Path(explainer.model).name, self.encoder))

    def changed(self, changes) -> StandIn:
        return StandIn(self.profile.variant(changes), self._home.folder, self.encoder)

    def swapped(self, explainers) -> StandIn:
        """The same with its explainers under other names."""
        return StandIn(replace(self.profile, explainers=explainers), self._home.folder, self.encoder)

    def at_best(self, method: Method) -> Method:
        return method.at(1.0) if method.steer else method

    def score(self, explained: pd.DataFrame) -> pd.DataFrame:
        return explained.assign(dictionary=self.profile.sae.seed, concept="any")

    @property
    def asked(self) -> int:
        """Questions that any model has been asked."""
        return sum(talker.asked for talker in self.talkers.values())


def stand_in(folder: Path, encoder: VLM, sae: TopKSAE, patch: pytest.MonkeyPatch, **changes) -> StandIn:
    """A small run with evidence of both sets; ``changes`` are settings, with ``__`` for a point."""
    patch.setattr(Dictionary, "sae", sae)
    patch.setattr(Dictionary, "report", {"norm": 10.0, "fvu": 0.5})
    patch.setattr(Dictionary, "train_or_load", lambda self, vlm, pool=None: None)
    settings = SMALL | {key.replace("__", "."): value for key, value in changes.items()}
    run = StandIn(load("smoke", settings), folder, encoder)
    run.gather()
    return run
