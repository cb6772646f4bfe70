"""One thing changed at a time: the language model, the images, k, the blank picture, the world."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pandas as pd
import torch
from PIL import Image

from lib.bias import background_latents, evidence_of
from lib.evidence import Evidence
from lib.explain import HYBRID, NOTHING, STEERING, TOP_K, Explainer, Method
from lib.images import BLANK
from lib.run import Run, best_coefficients
from lib.vlm import VLM


class OtherEncoder(ValueError):
    """A language model that does not share the subject's encoder."""


def language_model(run: Run, name: str) -> VLM:
    """One of the profile's explainers; its encoder must be the subject's.

    Raises
    ------
    OtherEncoder
        If the two encoders do not see a picture alike.
    """
    subject = run.profile.subject
    if run.profile.explainers[name] == subject.model:
        return run.vlm
    vlm = VLM.load(run.profile.explainers[name], subject.layer, subject.dtype, subject.layers)
    if not torch.allclose(vlm.residual([BLANK]), run.vlm.residual([BLANK]), atol=1e-3):
        raise OtherEncoder(
            f"explainer {name!r} has another encoder than {subject.model}: its words would not be about it"
        )
    return vlm


def by_language_model(run: Run, latents: list[int]) -> pd.DataFrame:
    """Steering and Top-k by every explainer of the profile, scored; column ``explainer`` names it.

    The coefficient is chosen anew for each, on validation latents.
    """
    tables = []
    for name, model in run.profile.explainers.items():
        own = model == run.profile.subject.model
        variation, changes = ("", {}) if own else (f"lm {name}", {"vlm": language_model(run, name)})
        best = best_coefficients(run.sweep(STEERING[:1], variation, **changes))
        steering = replace(STEERING[0], coefficient=best[STEERING[0].key])
        for method in (NOTHING, steering, TOP_K[0]):
            tables.append(run.explanations(method, latents, variation, **changes).assign(explainer=name))
    return run.score(pd.concat(tables, ignore_index=True))


def by_set_size(run: Run, latents: list[int], methods: tuple[Method, ...] = (TOP_K[1], HYBRID[2])) -> pd.DataFrame:
    """Methods with the top images of smaller sets, scored; column ``images`` is the set's size."""
    tables = []
    for n in (*run.profile.images.sizes, run.profile.images.explain):
        variation, changes = "", {}
        if n != run.profile.images.explain:
            path = run.evidence_stage.need(f"explain-{n}.safetensors")
            variation, changes = f"images {n}", {"evidence": Evidence.load(path)}
        for method in map(run.at_best, methods):
            tables.append(run.explanations(method, latents, variation, **changes).assign(images=n))
    return run.score(pd.concat(tables, ignore_index=True))


def by_k(run: Run, latents: list[int], method: Method = TOP_K[0]) -> pd.DataFrame:
    """A method with other numbers of top images, scored; column ``k``."""
    tables = []
    for k in sorted({*run.profile.study.k, run.profile.explain.k}):
        variation, changes = ("", {}) if k == run.profile.explain.k else (f"k {k}", {"k": k})
        tables.append(run.explanations(run.at_best(method), latents, variation, **changes).assign(k=k))
    return run.score(pd.concat(tables, ignore_index=True))


def base_images(seed: int) -> dict[str, Image.Image]:
    """What Steering may look at: nothing, in white, black and grey, or noise (footnote 4)."""
    noise = np.random.default_rng([seed, 11]).integers(0, 256, (224, 224, 3), dtype=np.uint8)
    plain = {name: Image.new("RGB", BLANK.size, name) for name in ("white", "black", "grey")}
    return {**plain, "noise": Image.fromarray(noise)}


def by_base_image(run: Run, latents: list[int]) -> pd.DataFrame:
    """Steering on different empty pictures, both kinds of intervention, scored; columns ``base``, ``steer``."""
    tables = []
    for base, picture in base_images(run.profile.seed).items():
        variation, changes = ("", {}) if base == "white" else (f"base {base}", {"blank": picture})
        for method in STEERING:
            made = run.explanations(run.at_best(method), latents, variation, **changes)
            tables.append(made.assign(base=base, steer=method.steer))
    return run.score(pd.concat(tables, ignore_index=True))


def by_coefficient(run: Run, latents: list[int], method: Method = STEERING[0]) -> pd.DataFrame:
    """Test latents at every coefficient, scored: how much does the choice matter? Nothing is chosen here."""
    tables = [run.explanations(replace(method, coefficient=c), latents) for c in run.coefficients(method)]
    return run.score(pd.concat(tables, ignore_index=True))


def hybrid_controls(run: Run, latents: list[int]) -> pd.DataFrame:
    """Steering-informed Top-k with direction or images of another latent, or both, scored (appendix J)."""
    tables = []
    for method in map(run.at_best, (HYBRID[0], HYBRID[2])):
        for control in ("", "random", "permuted", "images", "both"):
            changes = run.control(control, latents) if control else {}
            tables.append(run.explanations(method, latents, control, **changes))
    return run.score(pd.concat(tables, ignore_index=True))


def dose_response(run: Run, latents: list[int]) -> pd.DataFrame:
    """Explanations of background latents when their top images come from worlds of growing co-occurrence.

    The dictionary, the latents and the world's other knobs stay. Steering sees no images, so with a
    fixed dictionary it cannot change; see :func:`worlds` for dictionaries that grew up in the world.

    Returns
    -------
    One row per latent, dose and method, with ``biased``: the explanation names an object.
    """
    tables = []
    for dose in run.profile.study.doses:
        evidence, images = evidence_of(run, dose)
        for method in map(run.at_best, (STEERING[0], *TOP_K, HYBRID[2])):
            changes = {} if method.evidence == "blank" else {"evidence": evidence, "images": images}
            made = run.explanations(method, latents, f"dose {dose:g}" if changes else "", **changes)
            tables.append(made.assign(dose=dose))
    table = pd.concat(tables, ignore_index=True)
    return _with_bias(table, run)


def _with_bias(table: pd.DataFrame, run: Run) -> pd.DataFrame:
    return table.assign(biased=[run.world.reader.level(text) == "object" for text in table.explanation])


def worlds(run: Run) -> pd.DataFrame:
    """As :func:`dose_response`, with a dictionary trained in each world; its own background latents.

    Coefficients are those of the main run, so that the world alone differs.
    """
    tables = []
    n = run.profile.study.dose_images
    for dose in run.profile.study.worlds:
        changes = {"images.cooccurrence": dose, "images.train": 2 * n, "images.explain": n, "images.evaluate": n}
        changes |= {"explain.validation": 0, "explain.test": 2 * run.profile.study.latents}
        world = run.changed(changes)
        world.train_sae()
        world.gather_evidence()
        latents = background_latents(world.truth, world.latents["test"])[: run.profile.study.latents]
        for method in map(run.at_best, (STEERING[0], *TOP_K, HYBRID[2])):
            tables.append(world.explanations(method, latents).assign(dose=dose))
    table = pd.concat(tables, ignore_index=True)
    return _with_bias(table, run)


def no_intervention(run: Run) -> pd.DataFrame:
    """What every explainer says to empty pictures without any intervention (appendix G.2)."""
    rows = []
    for name in run.profile.explainers:
        vlm = language_model(run, name)
        for base, picture in base_images(run.profile.seed).items():
            explainer: Explainer = replace(run.explainer, vlm=vlm, blank=picture)
            said = explainer.explain([0], NOTHING).explanation.iloc[0]
            rows.append({"explainer": name, "picture": base, "says": said})
    return pd.DataFrame(rows)
