"""Metrics equal values worked out by hand, and failures count."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from PIL import Image
from sklearn.metrics import roc_auc_score

from lib.images import UnreadableImage
from lib.kept import Evidence
from lib.metrics import METRICS, Bench, auroc, masked_embeddings, score_table
from lib.overlap import iou, mean_ious
from lib.scenes.catalogue import ATOM_INDEX
from lib.scenes.drawing import draw
from lib.scenes.images import SceneImages
from lib.scenes.judges import SceneGenerator, SceneSegmenter
from lib.scenes.sampling import Mix
from lib.stats import bootstrap, bootstrap_ratio
from lib.synthetic import SyntheticImages


def evidence_of(image: list[list[int]], heat: torch.Tensor) -> Evidence:
    images = torch.tensor(image)
    return Evidence((images >= 0).float(), images, heat, torch.ones(len(image)), torch.ones(len(image)))


def iou_score(text, latent, evidence, segmenter, k):
    """Mean IoU of one explanation over the top ``k`` images."""
    one = pd.DataFrame({"latent": [latent], "explanation": [text]})
    return float(mean_ious(one, [(evidence, segmenter, range(k))])[0])


def test_iou_by_hand():
    a, b = np.zeros((4, 4), bool), np.zeros((4, 4), bool)
    a[:2], b[1:3] = True, True
    assert iou(a, b) == 4 / 12
    assert iou(a, ~a) == 0 and iou(a, a) == 1
    assert iou(np.zeros(3, bool), np.zeros(3, bool)) == 0


def test_iou_score_averages_over_images_and_takes_the_union_of_all_that_is_named():
    class Halves:
        """Left half for "left", right half for "right", all for both."""

        def prepare(self, texts):
            pass

        def segment(self, text, image, first_only=False):
            mask = np.zeros((4, 4), bool)
            if "left" in text:
                mask[:, :2] = True
            if "right" in text:
                mask[:, 2:] = True
            return mask

    heat = torch.tensor([[[1.0, 0, 1, 0], [1, 1, 1, 1], [0, 0, 0, 0]]])  # left half; everything; no image
    evidence = evidence_of([[7, 2, -1]], heat)
    assert iou_score("left", 0, evidence, Halves(), 3) == pytest.approx((1 + 0.5) / 2)
    assert iou_score("left right", 0, evidence, Halves(), 3) == pytest.approx((0.5 + 1) / 2)
    assert iou_score("", 0, evidence, Halves(), 3) == 0
    assert np.isnan(iou_score("left", 0, evidence_of([[-1]], heat[:, :1]), Halves(), 1))


def test_auroc_counts_pairs():
    rng = np.random.default_rng(0)
    for _ in range(20):
        p, n = rng.integers(0, 5, 4).astype(float), rng.integers(0, 5, 7).astype(float)
        pairs = [(a > b) + 0.5 * (a == b) for a in p for b in n]
        assert auroc(p, n) == pytest.approx(np.mean(pairs))
        assert auroc(p, n) == pytest.approx(roc_auc_score([1] * 4 + [0] * 7, [*p, *n]))
    assert auroc([], [1.0]) == 0.5
    for positives, negatives in (([1.0], []), ([np.nan], [1.0]), ([1.0], [0.0, np.nan]), ([np.inf], [1.0])):
        with pytest.raises(ValueError, match="finite scores"):
            auroc(positives, negatives)


def test_the_segmenter_finds_exactly_what_is_drawn():
    images = SceneImages(3, 0, 40)
    finder = SceneSegmenter(images)
    for i in range(40):
        scene = images.scene(i)
        for name in scene.layout.object_names:
            assert np.array_equal(finder.segment(f"a {name}", i), scene.atoms == ATOM_INDEX[name])
        everything = finder.segment(f"{' and '.join((*scene.layout.object_names, scene.layout.surface))}", i)
        assert everything.all()
    assert not finder.segment("a unicorn", 0).any()


def test_the_first_mask_is_not_the_union(pictures):
    segmenter = SceneSegmenter(pictures)
    image = next(i for i in range(20) if pictures.scene(i).layout.objects)
    layout = pictures.scene(image).layout
    text = f"{layout.object_names[0]} and {layout.surface}"
    union, first = segmenter.segment(text, image), segmenter.segment(text, image, first_only=True)
    assert (first == segmenter.segment(layout.object_names[0], image)).all()
    assert union.sum() > first.sum() and union[first].all()
    assert not segmenter.segment("", image, first_only=True).any()


def test_the_generator_draws_what_is_named_and_always_the_same():
    painter = SceneGenerator(Mix(), 3)
    first, again = (
        painter.generate("an elephant and a bee on sand", 4),
        painter.generate("an elephant and a bee on sand", 4),
    )
    assert [a.tobytes() for a in first] == [b.tobytes() for b in again]
    assert len({a.tobytes() for a in first}) == 4
    assert painter.generate("a unicorn", 3) == []


def test_drawings_show_all_that_is_named_and_whole(monkeypatch):
    """Every named object is in the picture, large enough to see, and leaves its surroundings visible."""
    seen = []
    monkeypatch.setattr("lib.scenes.judges.draw", lambda layout: seen.append(draw(layout)) or seen[-1])
    SceneGenerator(Mix(), 3).generate("an elephant and a bee on sand", 10)
    SceneGenerator(Mix(), 3).generate("a dog", 10)
    SceneGenerator(Mix(), 3).generate("red stripes", 4)
    for scene in seen[:10]:
        share = {name: (scene.atoms == ATOM_INDEX[name]).mean() for name in ("elephant", "bee", "sand")}
        assert min(share["elephant"], share["bee"]) > 0.015 and share["sand"] > 0.3
    for scene in seen[10:20]:
        assert scene.layout.object_names == ("dog",) and 0.03 < (scene.atoms == ATOM_INDEX["dog"]).mean() < 0.7
    assert len({scene.layout.surface for scene in seen[10:20]}) > 1
    assert all((scene.atoms == ATOM_INDEX["red stripes"]).all() for scene in seen[20:])


class FlatClip:
    """Embeds a picture by its mean colour, and a text by the colour that it names."""

    def embed_images(self, images):
        return torch.nn.functional.normalize(
            torch.tensor(np.array([np.asarray(i).reshape(-1, 3).mean(0) + 1e-6 for i in images])).float(), dim=-1
        )

    def embed_texts(self, texts):
        table = {"red": (1.0, 0, 0), "green": (0, 1.0, 0)}
        return torch.tensor([table.get(t, (0, 0, 1.0)) for t in texts])


class Flat:
    """Plain pictures: 0 red, 1 green."""

    def __init__(self):
        self.pictures = [Image.new("RGB", (96, 96), c) for c in ("red", (0, 255, 0))]

    def __getitem__(self, i):
        return self.pictures[i]


def test_clip_scores_belong_to_their_latent_in_any_order(tiny_vlm, tiny_sae, tmp_path):
    """Latent 4 looks at red, latent 2 at green; shuffled rows must not swap their scores."""
    image = [[-1]] * 24
    image[4], image[2] = [0], [1]
    evidence = evidence_of(image, torch.ones(24, 1, 64))
    embedded = masked_embeddings([4, 2], evidence, Flat(), 1, FlatClip())
    assert torch.allclose(embedded[4][0], torch.tensor([1.0, 0, 0]), atol=1e-3)
    table = pd.DataFrame({"latent": [4, 2, 2, 4], "explanation": ["red", "red", "green", ""]})
    scored = score_table(
        table,
        Bench(
            evidence=evidence,
            images=Flat(),
            k=1,
            segmenter=SceneSegmenter(SceneImages(1, 0, 2)),
            synthetic=SyntheticImages(
                SceneGenerator(Mix(), 1), 2, lambda: tiny_vlm, SimpleNamespace(sae=tiny_sae), tmp_path
            ),
            negatives=torch.zeros(3, 24),
            clip=FlatClip(),
        ),
    )
    assert scored["clip"].round(3).tolist() == [1.0, 0.0, 1.0, 0.0]


def test_a_failed_explanation_is_scored_as_a_failure(tiny_vlm, tiny_sae, tmp_path):
    evidence = evidence_of([[0]] * 24, torch.ones(24, 1, 64))
    table = pd.DataFrame({"latent": [1, 1, 1], "explanation": ["", "gibberish", "a dog"]})
    scored = score_table(
        table,
        Bench(
            evidence=evidence,
            images=SceneImages(1, 0, 2),
            k=1,
            segmenter=SceneSegmenter(SceneImages(1, 0, 2)),
            synthetic=SyntheticImages(
                SceneGenerator(Mix(), 1), 2, lambda: tiny_vlm, SimpleNamespace(sae=tiny_sae), tmp_path
            ),
            negatives=torch.zeros(3, 24),
            clip=FlatClip(),
        ),
    )
    assert len(scored) == 3 and scored.failed.tolist() == [True, True, False]
    assert scored.iou.tolist()[:2] == [0, 0] and scored.auroc.tolist()[:2] == [0.5, 0.5]
    assert scored.synthetic.tolist()[:2] == [0, 0] and scored["clip"].tolist()[:2] == [0, 0]
    assert not scored[["iou", "auroc", "synthetic", "clip"]].isna().any(axis=None)


def test_auroc_uses_each_latents_own_negatives(tiny_vlm, tiny_sae, tmp_path):
    """Pooled over latents, or with another latent's negatives, these two would not part."""
    negatives = torch.zeros(3, 24)
    negatives[:, 7] = 1e6
    table = pd.DataFrame({"latent": [6, 7], "explanation": ["a dog", "a dog"]})
    synthetic = SyntheticImages(SceneGenerator(Mix(), 1), 2, lambda: tiny_vlm, SimpleNamespace(sae=tiny_sae), tmp_path)
    np.save(synthetic._path("a dog"), np.ones((2, 24), "f4"))
    scored = score_table(
        table,
        Bench(
            evidence=evidence_of([[0]] * 24, torch.ones(24, 1, 64)),
            images=SceneImages(1, 0, 2),
            k=1,
            segmenter=SceneSegmenter(SceneImages(1, 0, 2)),
            synthetic=synthetic,
            negatives=negatives,
            clip=FlatClip(),
        ),
    )
    assert scored.auroc.tolist() == [1.0, 0.0]


def test_synthetic_activation_is_the_mean_score_of_the_drawings(tiny_vlm, tiny_sae, tmp_path):
    painter = SceneGenerator(Mix(), 1)
    found = SyntheticImages(painter, 3, lambda: tiny_vlm, SimpleNamespace(sae=tiny_sae), tmp_path).scores(
        "a dog on grass", 5
    )
    with torch.inference_mode():
        codes = tiny_sae.encode(tiny_vlm.residual(painter.generate("a dog on grass", 3)))
    assert found == pytest.approx(codes[..., 5].mean(1).tolist(), abs=1e-4)


def test_bootstrap_covers_and_repeats():
    rng = np.random.default_rng(0)
    hits = sum(e.low <= 0 <= e.high for e in (bootstrap(rng.normal(size=60), i, 400) for i in range(200)))
    assert 178 <= hits <= 199  # 95 % of 200, within chance
    values = rng.normal(size=50)
    assert bootstrap(values) == bootstrap(values)
    assert bootstrap(np.append(values, np.nan)).n == 50
    assert bootstrap_ratio(2 * np.abs(values), np.abs(values)).mean == pytest.approx(2)
    with pytest.raises(ValueError, match="no latent"):
        bootstrap(np.array([np.nan]))


def test_a_picture_that_cannot_be_read_any_more_is_left_out():
    class Gone:
        def prepare(self, texts):
            pass

        def segment(self, text, image, first_only=False):
            if image == 2:
                raise UnreadableImage("2", "gone")
            return np.ones((4, 4), bool)

    evidence = evidence_of([[7, 2]], torch.tensor([[[1.0, 0, 1, 0], [1, 1, 1, 1]]]))
    assert iou_score("x", 0, evidence, Gone(), 2) == 0.5
    assert np.isnan(iou_score("x", 0, evidence_of([[2]], torch.ones(1, 1, 4)), Gone(), 1))


def test_a_score_out_of_its_range_is_an_error(tiny_vlm, tiny_sae, tmp_path):
    class Loud(FlatClip):
        def embed_texts(self, texts):
            return super().embed_texts(texts) * 3

    synthetic = SyntheticImages(SceneGenerator(Mix(), 1), 1, lambda: tiny_vlm, SimpleNamespace(sae=tiny_sae), tmp_path)
    evidence, finder = evidence_of([[0]] * 24, torch.ones(24, 1, 64)), SceneSegmenter(SceneImages(1, 0, 2))
    bench = Bench(evidence, Flat(), 1, torch.zeros(3, 24), finder, synthetic, Loud())
    with pytest.raises(ValueError, match="CLIP score of 'red' is 3: it must lie between -1 and 1"):
        score_table(pd.DataFrame({"latent": [3], "explanation": ["red stripes"]}).assign(explanation="red"), bench)
    assert all(m.low < m.high for m in METRICS.values())
