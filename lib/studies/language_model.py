"""Does a larger language model explain better? All read one encoder (section 5.1, appendix E)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch

from lib.effects import COMPOSITES, as_estimates, differences, with_composites
from lib.findings import contrast
from lib.images import BLANK
from lib.methods import METHODS, NOTHING, STEERING, TOP_K
from lib.metrics import metrics_of
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


def size_of(name: str) -> str:
    """What explainers that differ in their seed alone have in common: ``small #2`` is of size ``small``."""
    return name.split(" #")[0]


def by_language_model(run: Run, latents: list[int]) -> pd.DataFrame:
    """Steering and Top-k by every explainer of the profile, scored; columns ``explainer`` and ``size``.

    The coefficient is chosen anew for each, on validation latents. Column ``dictionary`` numbers the seeds of a size,
    so that intervals are over seeds, too: what chance had one language model learn is no property of its size.
    """
    tables = []
    for name, explainer in explainers(run).items():
        language_model(run, name)  # another encoder is refused before anything is asked
        run.choose((STEERING.add,), explainer)
        steering = STEERING.add.at(run.choice(STEERING.add, explainer).best)
        wanted = [run.variation(method, explainer=explainer) for method in (NOTHING, steering, TOP_K.masks)]
        tables += [said.assign(explainer=name) for said in run.answers(wanted, latents)]
    scored = run.score(pd.concat(tables, ignore_index=True))
    scored["size"] = scored.explainer.map(size_of)
    numbers = {name: number for names in seeds(scored).values() for number, name in enumerate(names)}
    return scored.assign(dictionary=scored.explainer.map(numbers))


def seeds(scored: pd.DataFrame) -> dict[str, list[str]]:
    """Size -> its explainers, in the profile's order."""
    own = scored.drop_duplicates("explainer")
    return {size: part.explainer.tolist() for size, part in own.groupby("size", sort=False)}


def no_intervention(run: Run) -> pd.DataFrame:
    """What every explainer says to empty pictures without any intervention (appendix G.2)."""
    rows = []
    for name, explainer in explainers(run).items():
        language_model(run, name)
        for base, picture in base_images(run.profile.seed).items():
            said = run.explanations(NOTHING, [0], explainer=explainer, blank=picture)  # whichever latent: none acts
            rows.append({"explainer": name, "picture": base, "says": said.explanation.iloc[0]})
    return pd.DataFrame(rows)


def step_effects(scored: pd.DataFrame) -> pd.DataFrame:
    """Each step from one size of language model to the next, and the ``whole way``, by method and metric.

    Seeds are paired by their number; a size with fewer is paired with those that it has, in turn.
    """
    scored, of = with_composites(scored[scored.method != NOTHING.key]), seeds(scored)
    sizes = list(of)
    steps = list(dict.fromkeys([*zip(sizes[1:], sizes), (sizes[-1], sizes[0])]))
    number = max(map(len, of.values()))
    full = pd.concat(
        [
            scored[scored.explainer == names[i % len(names)]].assign(dictionary=i)
            for names in of.values()
            for i in range(number)
        ]
    )
    tables = [
        differences(part, "size", steps, (*metrics_of(scored), *COMPOSITES)).assign(method=method)
        for method, part in full.groupby("method", sort=False)
    ]
    table = pd.concat(tables, ignore_index=True)
    whole = (table["first"] == sizes[-1]) & (table["second"] == sizes[0])
    return table.assign(step=np.where(whole, "whole way", "one size"))


def findings(steps: pd.DataFrame) -> list[str]:
    """What the steps say: one sentence for each method and step, by the composite; correctness where it is known."""
    own = steps[steps.metric.isin(["composite", "correctness"])]
    return [
        contrast(f"{METHODS[r.method].family}, {r.metric}", f"the {r.first} model", f"the {r.second} one", e)
        for r, e in zip(own.itertuples(), as_estimates(own))
    ]


def blank_effects(run: Run, said: pd.DataFrame) -> pd.DataFrame:
    """Share of explainers that call a picture empty, or plain white, by picture: of each size, and of all but the
    largest.

    Counted, not sampled; so there is no interval.
    """
    blank = said.assign(blank=[float(run.world.reader.is_blank(text)) for text in said.says])
    blank["size"] = blank.explainer.map(size_of)
    sizes = list(dict.fromkeys(blank["size"]))
    groups = {**{size: [size] for size in sizes}, "all but the largest": sizes[:-1] or sizes}
    rows = []
    for name, members in groups.items():
        for picture, part in blank[blank["size"].isin(members)].groupby("picture", sort=False):
            share = part.blank.mean()
            rows.append(
                {"size": name, "picture": picture, "estimate": share, "low": share, "high": share, "n": len(part)}
            )
    return pd.DataFrame(rows)
