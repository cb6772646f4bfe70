"""The paper's profiles, whole, offline: the notebooks themselves, through the real runner, on tiny checkpoints.

Models of the real classes with random weights lie in a cache of the Hugging Face hub, under the ids and
revisions that the profiles name. Sizes are overridden and nothing else.
"""

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import tiny_hub
import tiny_judges
from PIL import Image
from shared import Project, once

from lib import settings as given
from lib.profile import load
from lib.running.collection import fits, notebooks

PROFILES = ("laptop", "gemma3-4b", "paper-gemma3", "paper-internvl3")
MODELS = {
    "google/gemma-3-4b-it": (tiny_hub.build_gemma3, {"language_width": 16, "seed": 5, "vision_layers": 27}),
    "google/gemma-3-12b-it": (tiny_hub.build_gemma3, {"language_width": 32, "seed": 5, "vision_layers": 27}),
    "google/gemma-3-27b-it": (tiny_hub.build_gemma3, {"language_width": 48, "seed": 5, "vision_layers": 27}),
    "OpenGVLab/InternVL3-14B-hf": (tiny_hub.build_internvl, {"vision_layers": 24}),
    "HuggingFaceTB/SmolVLM-256M-Instruct": (tiny_hub.build_smolvlm, {"vision_layers": 12}),
    # One box at the most: SAM 2 sees 1024 pixels, whatever its size, and fills each.
    "IDEA-Research/grounding-dino-base": (tiny_judges.build_grounding_dino, {"num_queries": 1}),
    "IDEA-Research/grounding-dino-tiny": (tiny_judges.build_grounding_dino, {"num_queries": 1}),
    "facebook/sam2.1-hiera-large": (tiny_judges.build_sam2, {}),
    "facebook/sam2.1-hiera-tiny": (tiny_judges.build_sam2, {}),
    "stabilityai/stable-diffusion-3.5-medium": (tiny_judges.build_sd3, {}),
    "stabilityai/sd-turbo": (tiny_judges.build_sd3, {}),
    "timm/vit_large_patch14_clip_224.openai": (tiny_hub.build_open_clip, {"seed": 1}),
    "timm/vit_base_patch32_clip_224.openai": (tiny_hub.build_open_clip, {"seed": 2}),
    "sentence-transformers/all-mpnet-base-v2": (tiny_hub.build_sentences, {"seed": 1}),
    "sentence-transformers/all-MiniLM-L6-v2": (tiny_hub.build_sentences, {"seed": 2}),
}
# What a full-sized run has more of; everything else is as the profiles say.
SIZES = {
    "jobs": 1,  # another worker runs beside it
    "images.explain": 24,
    "images.evaluate": 24,
    "images.sizes": [8],
    "sae.latents": 64,
    "sae.k": 8,
    "explain.validation": 2,
    "explain.test": 6,
    "explain.min_images": 1,
    "explain.k": 2,
    "explain.steering": [1, 4],
    "explain.hybrid": [0.5],
    "explain.max_new_tokens": 6,
    "score.negatives": 6,
    "score.steps": 1,
    "score.size": 32,
    "score.without_t5": True,
    "study.latents": 3,
    "study.k": [1],
}


def photographs(folder, splits: dict[str, int]) -> None:
    """A data set in Parquet, as the hub has ImageNet: noise in blocks, and one file that is broken."""
    import datasets

    rng = np.random.default_rng(0)
    for split, n in splits.items():
        rows = []
        for i in range(n):
            small = rng.integers(0, 256, (5, 5, 3), dtype=np.uint8)
            path = folder / f"{split}-{i}.jpg"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(small).resize((90, 60), Image.Resampling.NEAREST).save(path)
            rows.append({"bytes": b"broken" if i == 3 else path.read_bytes(), "path": None})
            path.unlink()
        features = datasets.Features({"image": datasets.Image(), "label": datasets.Value("int64")})
        table = datasets.Dataset.from_dict({"image": rows, "label": [0] * n}, features=features)
        (folder / "data").mkdir(exist_ok=True)
        table.to_parquet(folder / "data" / f"{split}-00000-of-00001.parquet")


def dictionaries(layers: dict[str, int]):
    """Released dictionaries, one folder each."""

    def build(folder) -> None:
        for seed, (name, layer) in enumerate(layers.items()):
            tiny_hub.build_released_sae(folder / name / "trainer_0", 32, 64, 8, seed, layer=layer)

    return build


def checkpoints(cache) -> None:
    """All that the profiles name, as the hub's cache keeps it."""
    named = set()
    for name in PROFILES:
        profile = load(name)
        score = profile.score
        named |= {profile.subject.model, *profile.explainers.values(), score.clip, score.sentences}
        named |= {score.detector, score.segmenter, score.generator}
    for model in sorted(named):
        build, settings = MODELS[model.id]
        tiny_hub.publish(cache, model.id, model.revision, lambda folder, b=build, s=settings: b(folder, **s))
    tiny_hub.publish(
        cache,
        "javifer/google_gemma-3-4b-it-saes",
        "main",
        dictionaries({"enc_res_out_layer_16_top_k_HF_22191080": 16, "enc_res_out_layer_24_top_k_HF_17414337": 24}),
    )
    internvl = dictionaries({"enc_res_out_layer_16_top_k_HF_33531160": 16})
    tiny_hub.publish(cache, "javifer/OpenGVLab_InternVL3-14B-saes", "main", internvl)
    for name, splits in (("laptop", {"train": 40, "validation": 60}), ("paper-gemma3", {"validation": 60})):
        source = load(name).images.source
        tiny_hub.publish(cache, source.id, source.revision, lambda f, s=splits: photographs(f, s), repo_type="dataset")


@pytest.fixture(scope="module")
def hub(tmp_path_factory):
    """The environment in which the hub is a folder of ours, and nothing else can be reached."""
    return {
        "HF_HUB_CACHE": str(once(tmp_path_factory, "hub", checkpoints)),
        "HF_HUB_OFFLINE": "1",
        "HF_DATASETS_CACHE": str(tmp_path_factory.mktemp("datasets")),
        "CUDA_VISIBLE_DEVICES": "",
    }


def test_gemma3_4b_is_the_paper_s_profile_with_less():
    """It is not run as a whole: models, judges and images are those of paper-gemma3, which is."""
    part, whole = load("gemma3-4b"), load("paper-gemma3")
    assert part.subject.model in whole.explainers.values() and part.subject.layer == whole.subject.layer
    assert part.images.source == whole.images.source and part.images.split == whole.images.split
    assert part.sae.pretrained == whole.sae.pretrained
    for judge in ("clip", "sentences", "detector", "segmenter", "generator"):
        assert getattr(part.score, judge) == getattr(whole.score, judge)
    assert part.variants["later layer"]["sae.pretrained"] == whole.variants["later layer"]["sae.pretrained"]


def check_run(name: str, hub: dict[str, str], folder: Path) -> None:
    """All notebooks of a profile run, and make what they should of its models."""
    config, overrides = tiny_judges.build_sam2(folder)
    sizes = {**SIZES, "score.sam2_config": config, "score.sam2_overrides": list(overrides)}
    # Variants that have a number of latents of their own; of the others this asks nothing new.
    sizes["variants"] = {v: changes | {"explain.test": 6} for v, changes in load(name).variants.items()}
    if name == "laptop":
        sizes |= {"images.train": 30, "sae.batch": 32, "sae.buffer": 128, "sae.warmup": 2}
    settings = [part for key, value in sizes.items() for part in ("--set", f"{key}={json.dumps(value)}")]
    project = Project.copied(folder / "project")
    done = project.run("--profile", name, *settings, **hub)
    assert done.returncode == 0, done.stdout[-1500:] + done.stderr[-3000:]
    profile = load(name, sizes)
    figures = project.figures(profile.label)
    for notebook in notebooks().values():
        assert (f"| {notebook.name} | done |" in done.stdout) == fits(notebook, profile)
    table = pd.read_csv(figures / "table1.csv")
    assert table.n.eq(6).all() and "correctness" not in table
    assert ("iou_paper" in table) and table.iou_paper.notna().any() == (profile.subject.published is not None)
    made = {path.stem for path in figures.glob("*.csv")}
    assert {"table6", "figure5_set_size", "figure6_map", "flops_items", "claims", "own_features"} <= made
    assert ("table3" in made) == any("subject.published" in v for v in profile.variants.values())
    assert not {"correctness", "dose_response"} & made
    skipped = project.folder / "data" / "runs" / name / "world" / "skipped.csv"
    assert len(pd.read_csv(skipped)) >= 1  # the broken picture
    quality = pd.read_csv(figures / "sae_quality.csv")
    assert quality.latents.eq(64).all()


# A class each, so that workers share them.


@pytest.mark.slow(150)
class TestLaptop:
    def test_the_notebooks_run_on_the_profile_s_models(self, hub, tmp_path):
        check_run("laptop", hub, tmp_path)


@pytest.mark.slow(160)
class TestPaperGemma3:
    def test_the_notebooks_run_on_the_paper_s_models(self, hub, tmp_path):
        check_run("paper-gemma3", hub, tmp_path)


@pytest.mark.slow(130)
class TestPaperInternVL3:
    def test_the_notebooks_run_on_the_paper_s_models(self, hub, tmp_path):
        check_run("paper-internvl3", hub, tmp_path)


def test_every_profile_away_from_scenes_is_run():
    assert set(PROFILES) == {name for name in given.names() if load(name).images.source != "scenes"}
