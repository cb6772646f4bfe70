"""Each trap of the published protocol changes what it is about, and nothing else."""

import types

import numpy as np
import pandas as pd
import pytest
import torch

from lib.kept import Evidence
from lib.methods import HYBRID, TOP_K
from lib.metrics import Bench, score_table
from lib.scenes.images import SceneImages
from lib.scenes.judges import SceneGenerator, SceneSegmenter
from lib.scenes.sampling import Mix
from lib.studies.protocols import PROTOCOLS, TRAPS, Protocol, protocol_table, rescore
from lib.synthetic import SyntheticImages

LATENTS = [2, 3, 10]  # as text, 10 comes before 2
TOUCHED = {
    "shared images": {"iou", "clip"},
    "first mask": {"iou"},
    "failures dropped": set(),
    "CLIP by position": {"clip"},
    "pooled AUROC": {"auroc"},
}


class Colours:
    """Embeds a picture by its mean colour, and a text by its letters."""

    def embed_images(self, images):
        mean = [np.asarray(i).reshape(-1, 3).mean(0) for i in images]
        return torch.nn.functional.normalize(torch.tensor(np.array(mean)).float(), dim=-1)

    def embed_texts(self, texts):
        vectors = torch.tensor([[len(t), t.count("a"), t.count("s")] for t in texts]).float() + 0.1
        return torch.nn.functional.normalize(vectors, dim=-1)


@pytest.fixture(scope="module")
def run(tiny_vlm, tiny_sae, tmp_path_factory):
    def gathered(images, first):
        places = torch.arange(24)[:, None] + torch.arange(first, first + 5)  # [latents, 5]
        heat = torch.rand(24, 5, 64, generator=torch.Generator().manual_seed(first)) - 0.5
        top = Evidence(torch.ones(24, 5), places % len(images), heat.clamp_min(0), torch.ones(24), torch.ones(24))
        return types.SimpleNamespace(top=top, images=images)

    shown, held_out = gathered(SceneImages(1, 0, 30), 0), gathered(SceneImages(1, 30, 30), 7)
    folder = tmp_path_factory.mktemp("synthetic")
    synthetic = SyntheticImages(
        SceneGenerator(Mix(), 1), 2, lambda: tiny_vlm, types.SimpleNamespace(sae=tiny_sae), folder
    )
    negatives = torch.rand(6, 24, generator=torch.Generator().manual_seed(2)) * torch.arange(24)
    bench = Bench(held_out.top, held_out.images, 5, negatives, SceneSegmenter(held_out.images), synthetic, Colours())
    return types.SimpleNamespace(shown=shown, bench=bench, world=types.SimpleNamespace(segmenter=SceneSegmenter))


@pytest.fixture(scope="module")
def scored(run):
    images, top = run.bench.images, run.bench.evidence.image[:, 3]  # what is said names all of the fourth top image
    scenes = [images.scene(int(top[latent])).layout for latent in LATENTS]
    named = [" and ".join([*layout.object_names, layout.surface]) for layout in scenes]
    said = {TOP_K.masks: [*named[:2], ""], HYBRID.masks_add: named}
    rows = [
        {"latent": latent, "explanation": text, "method": method.key, "control": ""}
        for method, texts in said.items()
        for latent, text in zip(LATENTS, texts)
    ]
    return score_table(pd.DataFrame(rows), run.bench)


def test_without_traps_scores_are_what_they_are(run, scored):
    pd.testing.assert_frame_equal(rescore(run, scored, Protocol()), scored)


@pytest.mark.parametrize("trap", TRAPS)
def test_a_trap_changes_what_it_is_about(run, scored, trap):
    again, before = rescore(run, scored, Protocol(frozenset([trap]))), scored.copy()
    changed = {m for m in ("iou", "auroc", "synthetic", "clip") if not again[m].equals(scored[m].loc[again.index])}
    assert changed == TOUCHED[trap]
    assert len(again) == len(scored) - (trap == "failures dropped")
    pd.testing.assert_frame_equal(scored, before)


def test_failures_stay_failures_when_clip_is_scored_again(run, scored):
    again = rescore(run, scored, Protocol(frozenset(["CLIP by position"])))
    assert again["clip"][scored.failed].eq(0).all() and scored.failed.sum() == 1


def test_pooled_auroc_is_one_number_for_a_method(run, scored):
    again = rescore(run, scored, PROTOCOLS["as published"])
    assert again.groupby("method").auroc.nunique().eq(1).all() and len(again) == len(scored) - 1


def test_the_table_has_every_protocol_and_method(run, scored):
    control = scored.assign(control="random")
    table = protocol_table(run, pd.concat([scored, control], ignore_index=True), (TOP_K.masks, HYBRID.masks_add))
    assert table.protocol.unique().tolist() == ["corrected", *TRAPS, "as published"] and len(table) == 2 * 7
    assert table[table.protocol == "corrected"].n.eq(3).all() and "correctness" not in table
    assert table.set_index("protocol")["what it does"]["first mask"].tolist() == [TRAPS["first mask"]] * 2


def test_unknown_traps_are_refused():
    assert Protocol(frozenset(TRAPS)).traps == set(TRAPS)
    with pytest.raises(KeyError, match="no trap 'luck'"):
        Protocol(frozenset({"luck"}))
