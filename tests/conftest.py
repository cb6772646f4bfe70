"""Fixtures shared by the tests: a tiny random subject, and small sets of scenes."""

from __future__ import annotations

import pytest
import torch

from lib.desk import internvl
from lib.desk.encoder import EncoderRecipe, PatchReader
from lib.desk.gemma3 import build, processor
from lib.sae import TopKSAE
from lib.scenes.images import SceneImages
from lib.vlm import VLM


@pytest.fixture(scope="session")
def tiny_vlm() -> VLM:
    """A random Gemma 3 of real classes: 3 encoder layers, 32 wide."""
    torch.manual_seed(0)
    vision = PatchReader(EncoderRecipe(width=32, layers=3, heads=2)).encoder
    model = build(vision, width=32, layers=2, heads=2)
    # Random weights would leave the picture's influence too faint to see in the words.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=2.0)
    return VLM(model, processor(), 1, "tiny@test")


@pytest.fixture(scope="session")
def tiny_sae() -> TopKSAE:
    torch.manual_seed(1)
    return TopKSAE(32, 24, 4).eval()


@pytest.fixture(scope="session")
def pictures() -> SceneImages:
    return SceneImages(seed=5, start=0, n=20)


@pytest.fixture(scope="session")
def tiny_internvl() -> VLM:
    """A random InternVL of real classes: a class token in front of the patches."""
    torch.manual_seed(0)
    vision = internvl.vision(32, 3, 2)
    return VLM(internvl.build(vision, width=32, layers=2, heads=2), internvl.processor(), 1, "tiny-internvl@test")
