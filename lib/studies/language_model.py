"""Does a larger language model explain better? All read one encoder (section 5.1, appendix E)."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from matplotlib.ticker import EngFormatter

from lib.effects import COMPOSITES, as_estimates, column, differences, effect, titled, with_composites
from lib.figures import side_by_side
from lib.findings import contrast, number, side
from lib.images import BLANK
from lib.methods import METHODS, NOTHING, STEERING, TOP_K
from lib.metrics import metrics_of
from lib.run import Run
from lib.stats import difference
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
    scored, sizes = paired(scored), list(seeds(scored))
    steps = list(dict.fromkeys([*zip(sizes[1:], sizes), (sizes[-1], sizes[0])]))
    tables = [
        differences(part, "size", steps, (*metrics_of(scored), *COMPOSITES)).assign(method=method)
        for method, part in scored.groupby("method", sort=False)
    ]
    table = pd.concat(tables, ignore_index=True)
    whole = (table["first"] == sizes[-1]) & (table["second"] == sizes[0])
    return table.assign(step=np.where(whole, "whole way", "one size"))


def paired(scored: pd.DataFrame) -> pd.DataFrame:
    """All but unsteered answers, with composites; every size has as many seeds, numbered by ``dictionary``.

    A size with fewer repeats those that it has, in turn.
    """
    scored, of = with_composites(scored[scored.method != NOTHING.key]), seeds(scored)
    number = max(map(len, of.values()))
    full = [
        scored[scored.explainer == names[i % len(names)]].assign(dictionary=i)
        for names in of.values()
        for i in range(number)
    ]
    return pd.concat(full)


def beyond_naming(scored: pd.DataFrame) -> pd.DataFrame:
    """What Steering gains from the smallest size to the largest, less what Top-k gains, by metric.

    Top-k's gain is that of naming what is shown in pictures; what is left is about reading a steered encoder.
    """
    scored, sizes = paired(scored), list(seeds(scored))
    rows = []
    for metric in (*metrics_of(scored), *COMPOSITES):
        gains = []
        for method in (STEERING.add, TOP_K.masks):
            own = scored[scored.method == method.key]
            first, second = (column(own[own["size"] == size], metric) for size in (sizes[-1], sizes[0]))
            gains.append(first - second)
        rows.append({"first": sizes[-1], "second": sizes[0], "metric": metric, **effect(difference(*gains))})
    return pd.DataFrame(rows)


def sizes_shown(table: pd.DataFrame) -> pd.DataFrame:
    """Means by method and size for a page: the metrics of the paper's figure, and the truth where it is known."""
    metrics = [m for m in ("auroc", "synthetic", "correctness") if m in set(table.metric)]
    own = table[table.metric.isin(metrics)]
    own = own.assign(
        cell=[str(e) for e in as_estimates(own)],
        method=own.method.map(lambda key: METHODS[key].family),
        parameters=own.parameters.map(EngFormatter(places=1)),
    )
    return _pivot(own, ["method", "size", "parameters", "n"], metrics)


def steps_shown(steps: pd.DataFrame) -> pd.DataFrame:
    """:func:`step_effects` for a page: a row for each method and step, with the composite, AUROC and the truth."""
    metrics = [m for m in ("composite", "auroc", "correctness") if m in set(steps.metric)]
    own = steps[steps.metric.isin(metrics)]
    cells = {
        "cell": [str(e) for e in as_estimates(own)],
        "method": own.method.map(lambda key: METHODS[key].family),
        "difference": own["first"] + " - " + own["second"],
    }
    return _pivot(own.assign(**cells), ["method", "difference"], metrics)


def _pivot(own: pd.DataFrame, keys: list[str], metrics: list[str]) -> pd.DataFrame:
    return side_by_side(own, keys, "metric")[[*keys, *metrics]].rename(columns={m: titled(m) for m in metrics})


def findings(steps: pd.DataFrame, beyond: pd.DataFrame | None = None) -> list[str]:
    """What the steps say: the answer; each method and step by the composite; the whole way by the truth, where known.

    Parameters
    ----------
    beyond : from :func:`beyond_naming`.
    """
    steps = steps[steps["first"] != steps["second"]]
    if steps.empty:  # a single size has nothing to be compared with
        return []
    composite, whole = steps.metric == "composite", steps.step == "whole way"
    main = ~whole if steps["first"].nunique() == 1 and not whole.all() else whole  # one size alone: against the next
    lines = [_answer(steps[composite & main])]
    own = steps[(composite & ~main) | ((steps.metric == "correctness") & main)]
    lines += [
        contrast(f"{METHODS[r.method].family}, {r.metric}", f"the {r.first} model", f"the {r.second} one", e)
        for r, e in zip(own.itertuples(), as_estimates(own))
    ]
    if beyond is not None:
        (e,) = as_estimates(beyond[beyond.metric == "composite"])
        ends = f"the {beyond['first'].iloc[0]} model minus the {beyond['second'].iloc[0]} one"
        lines.append(contrast(f"Gain in the composite ({ends})", "Steering's", "Top-k's", e))
    return lines


def _answer(main: pd.DataFrame) -> str:
    """What the larger model brings each method, by the composite: a gain, a loss, or nothing that is shown."""
    signs = {1: "gain", 0: "show no difference", -1: "lose"}
    told = [
        f"{METHODS[r.method].family}'s explanations {signs[side(e)]} (composite {number(e)}, n = {e.n})"
        for r, e in zip(main.itertuples(), as_estimates(main))
    ]
    first, second = main[["first", "second"]].iloc[0]
    return f"From the {second} to the {first} language model, {', '.join(told)}."


def blank_shown(said: pd.DataFrame) -> pd.DataFrame:
    """What explainers say to empty pictures, for a page: a row for each size and picture, answers with their number."""
    rows = []
    own = said.assign(size=said.explainer.map(size_of))
    for (size, picture), part in own.groupby(["size", "picture"], sort=False):
        times = part.says.value_counts(sort=False)
        answers = "; ".join(f"{text} ({n})" if len(part) > 1 else text for text, n in times.items())
        rows.append({"size": size, "picture": picture, "models": len(part), "answers": answers})
    return pd.DataFrame(rows)


def blank_effects_shown(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`blank_effects` for a page: a row for each size, a column for each picture."""
    cells = table.assign(cell=[f"{e * n:.0f} of {n}" for e, n in zip(table.estimate, table.n)])
    return side_by_side(cells, ["size"], "picture")


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
