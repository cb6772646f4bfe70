"""Does a larger language model explain better? All read one encoder (section 5.1, appendix E)."""

from __future__ import annotations

from dataclasses import replace

import pandas as pd
import torch

from lib.effects import differences
from lib.images import BLANK
from lib.methods import NOTHING, STEERING, TOP_K
from lib.run import Run
from lib.studies.sensitivity import base_images
from lib.vlm import VLM, Checkpoint


class OtherEncoder(ValueError):
    """A language model that does not share the subject's encoder."""


def explainers(run: Run) -> dict[str, Checkpoint]:
    """The profile's explainers, smallest first: each is read at the layer that is studied."""
    subject = run.profile.subject.checkpoint
    return {name: replace(subject, model=model) for name, model in run.profile.explainers.items()}


def language_model(run: Run, name: str) -> VLM:
    """One of the profile's explainers; its encoder must be the subject's.

    Raises
    ------
    OtherEncoder
        If the two encoders do not see a picture alike.
    """
    vlm = run.model(explainers(run)[name])
    if vlm is run.vlm:
        return vlm
    theirs, ours = vlm.residual([BLANK]), run.vlm.residual([BLANK])  # [1, patches, d] each
    if theirs.shape != ours.shape or not torch.allclose(theirs, ours, atol=1e-3):
        model = run.profile.subject.model
        raise OtherEncoder(f"explainer {name!r} has another encoder than {model}: its words would not be about it")
    return vlm


def by_language_model(run: Run, latents: list[int]) -> pd.DataFrame:
    """Steering and Top-k by every explainer of the profile, scored; column ``explainer`` names it.

    The coefficient is chosen anew for each, on validation latents.
    """
    tables = []
    for name, explainer in explainers(run).items():
        language_model(run, name)  # another encoder is refused before anything is asked
        run.choose((STEERING.add,), explainer)
        steering = STEERING.add.at(run.choice(STEERING.add, explainer).best)
        for method in (NOTHING, steering, TOP_K.masks):
            tables.append(run.explanations(method, latents, explainer=explainer).assign(explainer=name))
    return run.score(pd.concat(tables, ignore_index=True))


def no_intervention(run: Run) -> pd.DataFrame:
    """What every explainer says to empty pictures without any intervention (appendix G.2)."""
    rows = []
    for name, explainer in explainers(run).items():
        language_model(run, name)
        for base, picture in base_images(run.profile.seed).items():
            said = run.explanations(NOTHING, [0], explainer=explainer, blank=picture)  # whichever latent: none acts
            rows.append({"explainer": name, "picture": base, "says": said.explanation.iloc[0]})
    return pd.DataFrame(rows)


def step_effects(scored: pd.DataFrame, sizes: list[str]) -> pd.DataFrame:
    """Each step from one size of language model to the next, and the whole way, by method and metric."""
    steps = list(dict.fromkeys([*zip(sizes[1:], sizes), (sizes[-1], sizes[0])]))
    parts = scored[scored.method != NOTHING.key].groupby("method", sort=False)
    tables = [differences(part, "explainer", steps).assign(method=method) for method, part in parts]
    return pd.concat(tables, ignore_index=True)
