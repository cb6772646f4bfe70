"""Contextual bias: a background feature that is explained by what stands in front of it (section 5.1)."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lib.effects import effect
from lib.evidence import Evidence, TopImages, stream, watch
from lib.images import SceneImages
from lib.judges import Reader
from lib.run import KEEP, Run
from lib.scenes.catalogue import OBJECTS
from lib.scenes.sampling import Mix
from lib.stats import bootstrap, difference
from lib.truth import Truth

LABELS = ("background", "animal", "other")
LEVELS = ("low-level", "place", "object", "unreadable")


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
    mix = Mix(dose, run.world.mix.closeup, run.world.mix.wallpaper, run.world.mix.empty)
    images = SceneImages(run.profile.seed + 3, 0, run.profile.study.dose_images, mix)
    path = run.evidence_stage.path(f"dose-{dose:g}-{len(images)}.safetensors")
    if not path.exists():
        top = TopImages(run.sae.encoder.out_features, KEEP, run.explain_evidence.heat.shape[-1])
        watch(stream(run.vlm, run.sae, images, run.profile.subject.batch, f"co-occurrence {dose:g}"), top)
        top.result().save(path)
    return Evidence.load(path), images


def bias_table(
    scored: dict[str, pd.DataFrame], paper: dict[str, pd.DataFrame], reader: Reader
) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table 2 for several models: shares of each label, and the differences of the animal shares.

    Parameters
    ----------
    scored : model -> scored explanations.
    paper : model -> published rows of Table 2; none for a model that the paper does not have.
    reader : says what an explanation is about.
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
            reader.prepare("label", own.explanation)
            labels = {
                name: own[own.method == key].explanation.map(reader.label).to_numpy() for name, key in keys.items()
            }
            theirs = paper[model][paper[model].evidence == mode].set_index("method").percent / 100
            for name, found in labels.items():
                share = {what: bootstrap(found == what) for what in LABELS}
                rows.append(
                    {
                        "model": model,
                        "evidence": mode,
                        "method": name,
                        **{k: str(e) for k, e in share.items()},
                        "animal, paper": f"{theirs[name]:.3f}" if name in theirs else "-",
                        "n": len(found),
                    }
                )
            animal = {name: (found == "animal").astype(float) for name, found in labels.items()}
            for other, short in (("Steering", "Steering"), ("Steering-informed Top-k", "hybrid")):
                e = difference(animal["Top-k"], animal[other])
                effects.append({"what": f"animal: Top-k - {short}", "model": model, "evidence": mode, **effect(e)})
    return pd.DataFrame(rows), pd.DataFrame(effects)
