"""What makes a comparison with the truth less circular: scenes that no metric sees, and a segmenter that errs."""

from __future__ import annotations

import numpy as np
import pandas as pd

from lib.evidence import Gathered
from lib.evidence import make_all as gather_all
from lib.overlap import mean_ious
from lib.run import Run
from lib.scenes.images import SceneImages
from lib.scenes.noisy import NoisySegmenter
from lib.scenes.truth import MEASURES, Truth

FRESH = {"correctness": "correctness_fresh", "patch_f1": "patch_f1_fresh"}  # measure -> its column


def fresh_images(run: Run, share: float = 0.5) -> SceneImages:
    """The stretch of the world's stream behind all sets of a run: a ``share`` as many scenes as ``evaluate``."""
    evaluate = run.sets["evaluate"]
    start = max(images.start + len(images) for images in run.sets.values())
    return SceneImages(evaluate.seed, start, max(1, round(share * len(evaluate))), evaluate.mix)


def fresh_truth(run: Run, images: SceneImages) -> dict[int, Truth]:
    """What every latent of every replica is active on, over fresh scenes: dictionary -> truth.

    One pass over the scenes serves all dictionaries; what is there is read.
    """
    stages = [Gathered(one.dictionary.home, one.dictionary, images, truth=True) for one in run.replicas]
    gather_all(stages, lambda: run.vlm)
    return {one.profile.sae.seed: one.world.truth(stage) for one, stage in zip(run.replicas, stages)}


def with_fresh(scored: pd.DataFrame, truths: dict[int, Truth]) -> pd.DataFrame:
    """Explanations with ``correctness_fresh`` and ``patch_f1_fresh``: how right they are about fresh scenes.

    Both are NaN for a latent that fires on no fresh scene, of which nothing is known.
    """
    keys = ["dictionary", "latent", "explanation"]
    known = scored[keys].drop_duplicates()
    fires = {seed: (truth.active.sum(1) > 0).numpy() for seed, truth in truths.items()}
    for measure, name in FRESH.items():
        known[name] = [
            truths[seed].score(latent, text, measure) if fires[seed][latent] else np.nan
            for seed, latent, text in known[keys].itertuples(index=False)
        ]
    return scored.merge(known, on=keys, how="left", validate="many_to_one")


def with_noisy(run: Run, scored: pd.DataFrame) -> pd.DataFrame:
    """Explanations with ``iou_noisy``: IoU as ever, but for a segmenter that errs."""
    segmenter, keys = NoisySegmenter(run.sets["evaluate"]), ["dictionary", "latent", "explanation"]
    known = scored[keys].drop_duplicates()
    parts = []
    for one in run.replicas:
        part = known[known.dictionary == one.profile.sae.seed]
        if len(part):
            where = [(one.held_out.top, segmenter, range(one.profile.explain.k))]
            parts.append(part.assign(iou_noisy=mean_ious(part, where)))
    return scored.merge(pd.concat(parts), on=keys, how="left", validate="many_to_one")


def ceilings(run: Run, truths: dict[int, Truth]) -> pd.DataFrame:
    """The best sentence for each test latent, found on held-out scenes and measured on those and on fresh ones.

    A table as scored explanations are: ``dictionary, latent, concept``, and a column for each measure, which has a
    sentence of its own. On held-out scenes that is the best by choice, hence flattered; on fresh ones it is not.
    """
    rows = []
    for one in run.replicas:
        for latent in one.latents["test"]:
            row = {"dictionary": one.profile.sae.seed, "latent": latent, "concept": one.concept(latent)}
            fresh = truths[one.profile.sae.seed]
            for measure in MEASURES:
                text, row[measure] = one.truth.best_sentence(latent, measure)
                fires = float(fresh.active[latent].sum()) > 0
                row[FRESH[measure]] = fresh.score(latent, text, measure) if fires else np.nan
            rows.append(row)
    return pd.DataFrame(rows)
