"""Contextual bias: a background feature that is explained by what stands in front of it (section 5.1)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lib.effects import effect
from lib.evidence import Evidence, TopImages, stream, watch
from lib.images import SceneImages
from lib.run import KEEP, Run
from lib.scenes.catalogue import ATOMS, MAN_MADE, NATURAL, OBJECTS, elements
from lib.scenes.language import read
from lib.scenes.sampling import Mix
from lib.stats import bootstrap, difference
from lib.truth import Truth

LABELS = ("background", "animal", "other")
LEVELS = ("low-level", "place", "object", "unreadable")
_OBJECT_ATOMS = frozenset(range(len(OBJECTS)))
_PLACES = frozenset(ATOMS.index(name) for name in NATURAL + MAN_MADE)


def label(text: str) -> str:
    """``background``, ``animal`` or ``other``: what an explanation is about (the paper's Table 2).

    An animal anywhere in the sentence makes it ``animal``; ``background`` names surfaces alone. The
    paper asks a language model; here the sentence is read.
    """
    named = read(text).elements
    if any(e.atoms <= elements()["animal"].atoms for e in named):
        return "animal"
    return "background" if named and not names_object(text) else "other"


def level(text: str) -> str:
    """``object``, ``place`` or ``low-level`` (pattern, colour, blur, lines): the highest that a sentence names."""
    named = read(text).elements
    if not named:
        return "unreadable"
    if names_object(text):
        return "object"
    return "place" if any(e.atoms & _PLACES for e in named) else "low-level"


def names_object(text: str) -> bool:
    """Whether an explanation names any object, or group of objects."""
    return any(e.atoms & _OBJECT_ATOMS for e in read(text).elements)


def background_latents(truth: Truth, latents: Sequence[int], purity: float = 0.8) -> list[int]:
    """The latents of which at least ``purity`` of the activation lies on surfaces, not on objects."""
    mass = truth.mass[list(latents)]
    share = mass[:, len(OBJECTS) :].sum(1) / mass.sum(1).clamp_min(1e-12)
    return [latent for latent, s in zip(latents, share.tolist()) if s >= purity]


def largest_differences(scored: pd.DataFrame, top_k: str, n: int = 300) -> list[int]:
    """The latents with the largest IoU of Steering minus IoU of Top-k (section 5.1), at most a third of all.

    The paper takes 300 of several thousand; a third keeps it a selection when there are few.
    """
    wide = scored[scored.control == ""].pivot(index="latent", columns="method", values="iou")
    order = (wide["steering-add"] - wide[top_k]).sort_values(ascending=False, kind="stable").index
    return [int(latent) for latent in order[: min(n, max(1, len(order) // 3))]]


def evidence_of(run: Run, dose: float) -> tuple[Evidence, SceneImages]:
    """Top images of a set in which objects stand in their habitats with chance ``dose``; all else is as ever."""
    mix = Mix(dose, run.mix.closeup, run.mix.wallpaper, run.mix.empty)
    images = SceneImages(run.profile.seed + 3, 0, run.profile.study.dose_images, mix)
    path = run.evidence_stage.path(f"dose-{dose:g}-{len(images)}.safetensors")
    if not path.exists():
        top = TopImages(run.sae.encoder.out_features, KEEP, run.explain_evidence.heat.shape[-1])
        watch(stream(run.vlm, run.sae, images, run.profile.subject.batch, f"co-occurrence {dose:g}"), top)
        top.result().save(path)
    return Evidence.load(path), images


def bias_table(scored: dict[str, pd.DataFrame], paper: dict[str, pd.DataFrame]) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table 2 for several models: shares of each label, and the differences of the animal shares.

    Parameters
    ----------
    scored : model -> scored explanations.
    paper : model -> published rows of Table 2.
    """
    rows, effects = [], []
    for model, table in scored.items():
        for mode in ("masks", "heatmaps"):
            chosen = largest_differences(table, f"top-k-{mode}")
            keys = {
                "Steering": "steering-add",
                "Top-k": f"top-k-{mode}",
                "Steering-informed Top-k": f"hybrid-{mode}-add",
            }
            own = table[(table.control == "") & table.latent.isin(chosen)].sort_values("latent")
            labels = {name: own[own.method == key].explanation.map(label).to_numpy() for name, key in keys.items()}
            theirs = paper[model][paper[model].evidence == mode].set_index("method").percent
            for name, found in labels.items():
                share = {what: bootstrap(found == what) for what in LABELS}
                rows.append(
                    {
                        "model": model,
                        "evidence": mode,
                        "method": name,
                        **{k: str(e) for k, e in share.items()},
                        "animal, paper": f"{theirs[name] / 100:.3f}",
                        "n": len(found),
                    }
                )
            animal = {name: (found == "animal").astype(float) for name, found in labels.items()}
            for other, short in (("Steering", "Steering"), ("Steering-informed Top-k", "hybrid")):
                e = difference(animal["Top-k"], animal[other])
                effects.append({"what": f"animal: Top-k - {short}", "model": model, "evidence": mode, **effect(e)})
    return pd.DataFrame(rows), pd.DataFrame(effects)
