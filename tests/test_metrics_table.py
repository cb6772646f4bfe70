"""One table of metrics: what stands in it is scored, shown, compared, voted on and judged, without a word elsewhere."""

from dataclasses import dataclass, field

import numpy as np
import pandas as pd
import pytest
import torch
from tiny_tables import scores

from lib.dictionary import Dictionary
from lib.effects import differences, estimates
from lib.evidence import Gathered
from lib.identity import NOT_PART
from lib.methods import COMPARED, HYBRID, PUBLISHED, STEERING, TOP_K, trio
from lib.metrics import METRICS, Metric, Scores, metrics_of, voters
from lib.profile import load
from lib.run import Run
from lib.scenes.judges import SceneGenerator, SceneSegmenter
from lib.scenes.sampling import Mix
from lib.stage import Home
from lib.store import write_json
from lib.studies.controls import control_effects, control_table
from lib.studies.main_table import main_table, published
from lib.studies.significance import comparisons, findings


@pytest.fixture
def brevity(monkeypatch) -> str:
    """A fifth metric that votes: the fewer letters the better."""

    def score(bench, table):
        return [1 / (1 + len(text)) for text in table.explanation]

    monkeypatch.setitem(METRICS, "brevity", Metric("Brevity", 0, 1, score))
    return "brevity"


@pytest.fixture
def scored(brevity) -> pd.DataFrame:
    return scores(0, methods=COMPARED, hybrid=0.3)


def test_a_new_metric_is_in_the_main_table_and_in_sentences(scored):
    table, shown = main_table(scored, published("table1", "Gemma 3"))
    assert {"brevity", "brevity_low", "brevity_high"} <= set(table) and "Brevity" in shown
    assert "brevity_paper" not in table  # nobody has published it
    told = findings(comparisons(scored, "M"), "M")
    assert any(line.startswith("Brevity (M, both kinds of evidence): hybrid is higher than Top-k ") for line in told)


def test_a_new_metric_is_compared_by_every_study_that_compares(scored):
    assert "brevity" in set(comparisons(scored, "M").metric)
    assert "brevity" in set(estimates(scored, ["method"]).metric)
    assert "brevity" in set(differences(scored, "method", [(STEERING.add.key, TOP_K.masks.key)]).metric)
    both = pd.concat([scored, scored.assign(control="random"), scored.assign(control="permuted")])
    assert "brevity" in set(control_effects(both, STEERING.add.key).metric)
    blank = scored[scored.method == TOP_K.masks.key].assign(method="blank")
    assert "Brevity" in control_table(pd.concat([both, blank]), None)


def test_a_new_metric_votes(scored, monkeypatch):
    from lib.studies.feature_space import best_of

    assert voters()[-1] == "brevity"
    judged = scored.assign(**dict.fromkeys(voters(), 0.0))  # all equal but for the new one
    judged["brevity"] = (judged.method == HYBRID.masks_add.key).astype(float)
    assert best_of(judged).method.eq(HYBRID.masks_add.key).all()
    monkeypatch.setitem(METRICS, "brevity", Metric("Brevity", 0, 1, METRICS["brevity"].score, votes=False))
    assert not best_of(judged).alone.any()


def test_a_new_metric_is_judged_by_the_truth(scored):
    from lib.studies.failures import failures
    from lib.studies.proxies import SAME, across, within

    for study in (across, within, failures):
        assert "brevity" in set(study(scored, trio("masks"), truth=SAME).proxy)


def test_a_metric_that_a_table_lacks_is_not_missed(brevity):
    """Results from before it was added are read as they are."""
    old = scores(1).drop(columns=brevity)
    assert brevity not in metrics_of(old) and brevity not in main_table(old, published("table1", "Gemma 3"))[0]
    assert brevity not in set(comparisons(old, "M").metric)


# -- judges ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Everything:
    """A judge that finds a text in the upper part of every picture."""

    share: float
    told: list = field(default_factory=list, metadata=NOT_PART, compare=False)

    def prepare(self, texts):
        self.told.extend(texts)

    def segment(self, text, image, first_only=False):
        mask = np.zeros((224, 224), bool)
        mask[: int(224 * self.share)] = bool(text)
        return mask


@dataclass(frozen=True)
class Same:
    """A judge to whom all pictures and texts are alike."""

    def embed_images(self, images):
        return torch.ones(len(images), 1)

    def embed_texts(self, texts):
        return torch.ones(len(texts), 1)


@pytest.fixture(scope="module")
def held_out(tiny_vlm, tiny_sae, pictures, tmp_path_factory) -> Gathered:
    run = Run(load("smoke"))
    home = Home(tmp_path_factory.mktemp("runs"), "./run_all.sh")
    dictionary = Dictionary(home, run.profile.subject.checkpoint, pictures, pictures, run.profile.sae, 0)
    tiny_sae.save(dictionary.path("sae.safetensors"))
    write_json(dictionary.path("report.json"), {"norm": 1.0})
    gathered = Gathered(home, dictionary, pictures, negatives=4, truth=True)
    gathered.make(lambda: tiny_vlm)
    return gathered


def test_a_new_judge_scores_and_stands_for_results_of_its_own(held_out, tiny_vlm, pictures):
    def stage(segmenter, clip=Same()):
        return Scores(held_out.home, held_out, segmenter, SceneGenerator(Mix(), 1), clip, 3, 2)

    latent = int(held_out.top.fired.argmax())
    said = pd.DataFrame({"latent": [latent] * 2, "explanation": ["grass", ""], "method": "m"})
    exact, half, all_of_it = stage(SceneSegmenter(pictures)), stage(Everything(0.5)), stage(Everything(1.0))
    assert len({exact.folder, half.folder, all_of_it.folder}) == 3
    assert stage(Everything(0.5, ["seen"])).folder == half.folder  # what it remembers is no part of it
    table = all_of_it.make(said, lambda: tiny_vlm, None)
    assert all_of_it.segmenter.told == ["grass", ""] and table["clip"].tolist() == [1, 0]
    active = (held_out.top.heat[latent, :3] > 0).float().mean(1)  # [3]: all of a picture is named
    assert table.iou.tolist() == pytest.approx([float(active.mean()), 0.0], abs=1e-6)
    assert table.failed.tolist() == [False, True] and "correctness" not in table
    assert half.make(said, lambda: tiny_vlm, None).iou[0] != table.iou[0]


def test_what_was_scored_once_is_read(held_out, tiny_vlm):
    def load():
        raise AssertionError("nothing is new")

    stage = Scores(held_out.home, held_out, Everything(0.25), SceneGenerator(Mix(), 1), Same(), 3, 2)
    said = pd.DataFrame({"latent": [1, 2], "explanation": ["grass", "sand"]})
    first = stage.make(said, lambda: tiny_vlm, None)
    again = stage.make(pd.concat([said, said]), load, None)
    pd.testing.assert_frame_equal(again[:2], first)
    assert stage.segmenter.told == ["grass", "sand"]


def test_a_new_metric_is_scored_with_the_others(brevity, held_out, tiny_vlm):
    stage = Scores(held_out.home, held_out, Everything(0.75), SceneGenerator(Mix(), 1), Same(), 3, 2)
    said = pd.DataFrame({"latent": [1], "explanation": ["sand"], "method": PUBLISHED[0].key})
    assert stage.make(said, lambda: tiny_vlm, None).brevity.tolist() == [0.2]
