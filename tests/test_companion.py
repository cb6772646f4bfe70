"""Bias, agreement, map, search, protocols and proxies: small worlds in which the right answer is known."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch

from lib.agreement import above_thresholds
from lib.bias import background_latents, largest_differences
from lib.evidence import TopImages, stream, watch
from lib.experiments import OtherEncoder, base_images, language_model
from lib.explain import permuted_directions, permuted_evidence
from lib.feature_space import best_of, best_of_table, clusters, interpretable, level_table, project
from lib.judges.scenes import SceneReader, SceneSegmenter
from lib.judges.sentences import SentenceEmbedder
from lib.profile import ProfileError, load
from lib.protocols import TRAPS, Protocol
from lib.proxies import across, failures, within
from lib.run import Run
from lib.scenes.catalogue import ATOM_INDEX, ATOMS
from lib.search import Search
from lib.truth import Truth

READER = SceneReader()


@pytest.fixture(scope="module")
def embedder():
    return SentenceEmbedder(load("desk").score.sentences)


@pytest.mark.parametrize(
    ("text", "about", "at"),
    [
        ("a shark in water", "animal", "object"),
        ("animals", "animal", "object"),
        ("water", "background", "place"),
        ("red stripes", "background", "low-level"),
        ("something red", "background", "low-level"),
        ("converging lines", "background", "low-level"),
        ("stripes on sand", "background", "place"),
        ("a guitar on red stripes", "other", "object"),
        ("", "other", "unreadable"),
        ("justice", "other", "unreadable"),
    ],
)
def test_what_an_explanation_is_about(text, about, at):
    assert READER.label(text) == about and READER.level(text) == at


def truth_of(rows: dict[int, dict[str, float]], latents: int = 3) -> Truth:
    mass = torch.zeros(latents, len(ATOMS), dtype=torch.float64)
    for latent, atoms in rows.items():
        for name, value in atoms.items():
            mass[latent, ATOM_INDEX[name]] = value
    ones = torch.ones(len(ATOMS), dtype=torch.float64)
    return Truth(mass, mass, mass.clamp_max(1), ones, ones)


def test_background_latents_are_those_active_on_surfaces():
    truth = truth_of({0: {"water": 9, "shark": 1}, 1: {"water": 1, "shark": 1}, 2: {"shark": 1}})
    assert background_latents(truth, [0, 1, 2]) == [0]
    assert background_latents(truth, [0, 1, 2], purity=0.5) == [0, 1]


def scored(explanations: dict[str, list[str]], **metrics: dict[str, list[float]]) -> pd.DataFrame:
    rows = []
    for method, texts in explanations.items():
        for latent, text in enumerate(texts):
            values = {m: metrics.get(m, {}).get(method, [0.0] * len(texts))[latent] for m in
                      ("iou", "auroc", "synthetic", "clip", "correctness")}  # fmt: skip
            rows.append({"latent": latent, "method": method, "control": "", "explanation": text, **values})
    return pd.DataFrame(rows)


def test_the_largest_differences_are_steerings_lead_and_a_third_at_most():
    iou = {"steering-add": [0.9, 0.1, 0.5, 0.2, 0.0, 0.3], "top-k-masks": [0.1, 0.9, 0.0, 0.2, 0.5, 0.3]}
    table = scored({m: ["water"] * 6 for m in iou}, iou=iou)
    assert largest_differences(table, "top-k-masks") == [0, 2]
    assert largest_differences(table, "top-k-masks", n=1) == [0]


def test_permuted_evidence_moves_images_with_their_heatmaps_and_the_same_partner(tiny_vlm, tiny_sae, pictures):
    top = TopImages(24, 5, 64)
    watch(stream(tiny_vlm, tiny_sae, pictures, 7, "test"), top)
    own, latents = top.result(), [2, 5, 7, 11]
    other, directions = permuted_evidence(own, latents, 3), permuted_directions(tiny_sae.directions, latents, 3)
    for latent in latents:
        partner = next(i for i in latents if torch.equal(directions[latent], tiny_sae.directions[i]))
        assert partner != latent
        assert torch.equal(other.image[latent], own.image[partner])
        assert torch.equal(other.heat[latent], own.heat[partner])
    untouched = [i for i in range(24) if i not in latents]
    assert torch.equal(other.image[untouched], own.image[untouched])


def test_a_limited_set_is_the_start_of_the_whole(tiny_vlm, tiny_sae, pictures):
    limited, short = TopImages(24, 5, 64, limit=10), TopImages(24, 5, 64)
    watch(stream(tiny_vlm, tiny_sae, pictures, 7, "test"), limited)
    watch(stream(tiny_vlm, tiny_sae, pictures[:10], 5, "test"), short)
    a, b = limited.result(), short.result()
    assert torch.equal(a.image, b.image) and torch.allclose(a.heat, b.heat, atol=1e-5)
    assert torch.equal(a.fired, b.fired) and a.image.max() < 10


def test_the_first_mask_is_not_the_union(pictures):
    segmenter, first_only = SceneSegmenter(pictures), SceneSegmenter(pictures, first_only=True)
    image = next(i for i in range(20) if pictures.scene(i).layout.objects)
    layout = pictures.scene(image).layout
    text = f"{layout.object_names[0]} and {layout.surface}"
    union, first = segmenter.segment(text, image), first_only.segment(text, image)
    assert (first == segmenter.segment(layout.object_names[0], image)).all()
    assert union.sum() > first.sum() and union[first].all()
    assert not first_only.segment("", image).any()


def test_unknown_traps_are_refused():
    assert Protocol(frozenset(TRAPS)).traps == set(TRAPS)
    with pytest.raises(KeyError, match="no trap"):
        Protocol(frozenset({"luck"}))


def test_the_filter_and_the_vote():
    keys = ["steering-add", "top-k-masks", "hybrid-masks-add"]
    high, low = [1.0, 1.0, 0.0], [0.1, 0.0, 0.5]
    metrics = {m: dict(zip(keys, (low, high, low))) for m in ("iou", "auroc", "synthetic", "clip")}
    table = scored({k: ["water", "sand", "grass"] for k in keys}, **metrics)
    best = best_of(table, keys)
    assert best.method.tolist()[:2] == ["top-k-masks"] * 2 and best.method[2] != "top-k-masks"
    kept = interpretable(best)
    assert kept.latent.tolist() == [0, 1, 2] and kept.alone.tolist() == [True, True, False]
    names = {"steering-add": "Steering", "top-k-masks": "Top-k", "hybrid-masks-add": "Steering-informed Top-k"}
    shares, effects = best_of_table(best, kept, names)
    assert shares.estimate.sum() == pytest.approx(1)
    assert effects.set_index("what").estimate["share that passes the filter"] == 1
    none = best_of_table(best, kept[:0], names)
    assert none[0].estimate.tolist() == shares.estimate.tolist()
    assert none[1].set_index("what").estimate["share that passes the filter"] == 0
    levels, differences = level_table(
        table, names, READER, truth_of({0: {"water": 1}, 1: {"sand": 1}, 2: {"grass": 1}})
    )
    assert (levels.place.str.startswith("1.000")).all() and (differences.estimate == 0).all()


def test_the_map_puts_like_explanations_together(embedder):
    texts = ["a dog", "a cow", "a fox", "an elephant", "red stripes", "blue stripes", "green stripes", "stripes"] * 3
    vectors = embedder.embed(texts).numpy()
    group = clusters(vectors, 2)
    assert len({(g, "stripes" in t) for g, t in zip(group, texts)}) == 2
    names = [
        READER.cluster_name([t for t, g in zip(texts, group) if g == c], [t for t, g in zip(texts, group) if g != c])
        for c in (0, 1)
    ]
    assert set(names) == {"mammal", "stripes"}
    where = project(vectors)
    assert where.shape == (24, 2) and np.isfinite(where).all() and (where == project(vectors)).all()
    assert READER.cluster_name(["justice"], ["a dog"]) == "mixed: justice"


def test_search_finds_by_meaning(embedder):
    table = pd.DataFrame({"latent": [1, 2, 3, 4], "method": "m", "explanation": ["a guitar", "water", "", "a pizza"]})
    search = Search(table, embedder)
    found = search("musical instrument", 2)
    assert found.latent[0] == 1 and found.similarity.is_monotonic_decreasing and 3 not in search("x", 9).latent.tolist()
    with pytest.raises(ValueError, match="empty"):
        search("  ")


def test_equal_sentences_have_equal_embeddings(embedder):
    a = embedder.embed(["a dog", "water", "a dog"])
    assert torch.equal(a[0], a[2]) and torch.allclose(a.norm(dim=1), torch.ones(3), atol=1e-5)


def test_thin_samples_are_not_shown():
    n = 12
    table = pd.DataFrame({"similarity": np.linspace(0, 1, n), **{m: np.ones(n) for m in
                          ("synthetic_norm", "auroc", "iou", "clip", "correctness")}})  # fmt: skip
    out = above_thresholds(table, [0, 0.5, 0.9])
    assert sorted(set(out.threshold)) == [0, 0.5] and out[out.threshold == 0].n.eq(n).all()


def test_proxies_against_a_truth_that_one_of_them_is():
    rng = np.random.default_rng(0)
    keys = ["steering-add", "top-k-masks", "hybrid-masks-add"]
    truth = {k: rng.random(400).tolist() for k in keys}
    noise = {k: rng.random(400).tolist() for k in keys}
    wrong = {k: [-v for v in values] for k, values in truth.items()}
    table = scored(
        {k: ["water"] * 400 for k in keys}, iou=truth, auroc=noise, clip=wrong, correctness=truth, synthetic=truth
    )
    over = across(table, keys).pivot(index="method", columns="proxy", values="estimate")
    assert np.allclose(over.iou, 1) and np.allclose(over["clip"], -1) and (over.auroc.abs() < 0.2).all()
    inside = within(table, keys).set_index("proxy")
    assert inside.estimate["iou"] == 1 and inside.estimate["clip"] == 0 and abs(inside.estimate["auroc"] - 0.5) < 0.15
    assert inside.pairs["iou"] == 1200
    equal = scored({k: ["water"] * 3 for k in keys}, correctness={k: [0.1, 0.2, 0.3] for k in keys})
    assert within(equal, keys).pairs.eq(0).all()
    worst = failures(table, keys)
    assert len(worst) == 4 * 2
    top = worst[(worst.proxy == "clip") & (worst.kind == "overrates")].iloc[0]
    assert top.correctness == min(min(v) for v in truth.values())
    assert worst[worst.proxy == "iou"].gap.abs().max() == 0


def test_another_encoder_is_refused():
    run = Run(load("smoke"))
    assert type(language_model(run, "small").model).__name__ == "Gemma3ForConditionalGeneration"
    odd = replace(run.profile, explainers={"odd": "data/models/subject-b"})
    with pytest.raises(OtherEncoder, match="another encoder"):
        language_model(Run(odd), "odd")


def test_variants_share_what_they_do_not_change():
    run = Run(load("smoke"))
    later = run.variant("later layer")
    assert later.profile.subject.layer == 4 and later.figures == run.figures
    assert later.sae_stage.folder != run.sae_stage.folder
    assert run.changed({"explain.max_new_tokens": 9}).evidence_stage.folder == run.evidence_stage.folder
    assert run.changed({"images.sizes": [30]}).sae_stage.folder == run.sae_stage.folder
    with pytest.raises(ProfileError, match="no variant 'earlier'"):
        run.variant("earlier")
    with pytest.raises(ProfileError, match="unknown key 'subject.lair' .did you mean 'subject.layer'"):
        load("smoke", {"variants": {"x": {"subject.lair": 3}}})


def test_base_images_are_empty_and_the_noise_is_seeded():
    pictures = base_images(0)
    assert list(pictures) == ["white", "black", "grey", "noise"]
    assert all(len(set(p.get_flattened_data() if hasattr(p, "get_flattened_data") else p.getdata())) == 1
               for name, p in pictures.items() if name != "noise")  # fmt: skip
    assert np.array_equal(np.asarray(pictures["noise"]), np.asarray(base_images(0)["noise"]))
    assert not np.array_equal(np.asarray(pictures["noise"]), np.asarray(base_images(1)["noise"]))
