"""Fixtures shared by the tests: a tiny random subject, and small sets of scenes; and which worker tests what, when."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from lib.running.process import cores

if TYPE_CHECKING:  # imported where needed: the process that only hands out tests is there at once
    from lib.sae import TopKSAE
    from lib.scenes.images import SceneImages
    from lib.vlm import VLM

MOST_WORKERS = 4  # each has gigabytes of libraries in memory


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="leave out what is marked slow")


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "slow(seconds): takes about as long on one core; begins early, and --quick leaves it out"
    )


def pytest_xdist_auto_num_workers(config: pytest.Config) -> int:
    """A worker for each core for the whole suite; none for some tests, whose output is then seen."""
    workers = min(cores(), MOST_WORKERS)
    return workers if workers > 1 and config.args_source is config.ArgsSource.TESTPATHS else 0


def pytest_xdist_setupnodes(specs: list[object]) -> None:
    """Workers share the cores, so each has one thread. They inherit this, and so do the runs that they start."""
    os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """What shares fixtures is tested by one worker: a file, or a class in it. Those that take longest begin first."""
    if config.option.quick:
        config.hook.pytest_deselected(items=[item for item in items if item.get_closest_marker("slow")])
        items[:] = [item for item in items if not item.get_closest_marker("slow")]
    seconds: dict[str, float] = {}
    for item in items:
        mark = item.get_closest_marker("slow")
        seconds[scope(item)] = seconds.get(scope(item), 0.0) + (mark.args[0] if mark else 0.0)
    items.sort(key=lambda item: (-seconds[scope(item)], scope(item)))  # the order inside a scope stays


def scope(item: pytest.Item) -> str:
    """The file or class of a test, as xdist's ``loadscope`` has it."""
    return item.nodeid.rpartition("::")[0]


@pytest.fixture(scope="session")
def tiny_vlm() -> VLM:
    """A random Gemma 3 of real classes: 3 encoder layers, 32 wide."""
    import torch

    from lib.desk.encoder import EncoderRecipe, PatchReader
    from lib.desk.gemma3 import build, processor
    from lib.vlm import VLM

    torch.manual_seed(0)
    vision = PatchReader(EncoderRecipe(width=32, layers=3, heads=2)).encoder
    model = build(vision, width=32, layers=2, heads=2)
    # Random weights would leave the picture's influence too faint to see in the words.
    torch.nn.init.normal_(model.model.multi_modal_projector.mm_input_projection_weight, std=2.0)
    return VLM(model, processor(), 1, "tiny@test")


@pytest.fixture(scope="session")
def tiny_sae() -> TopKSAE:
    import torch

    from lib.sae import TopKSAE

    torch.manual_seed(1)
    return TopKSAE(32, 24, 4).eval()


@pytest.fixture(scope="session")
def pictures() -> SceneImages:
    from lib.scenes.images import SceneImages

    return SceneImages(seed=5, start=0, n=20)


@pytest.fixture(scope="session")
def tiny_internvl() -> VLM:
    """A random InternVL of real classes: a class token in front of the patches."""
    import torch

    from lib.desk import internvl
    from lib.vlm import VLM

    torch.manual_seed(0)
    vision = internvl.vision(32, 3, 2)
    return VLM(internvl.build(vision, width=32, layers=2, heads=2), internvl.processor(), 1, "tiny-internvl@test")
