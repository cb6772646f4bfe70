"""Several dictionaries share one pass over the pictures, and each is what it would have been alone."""

from dataclasses import replace

import pandas as pd
import pytest
import torch
from stand_in import stand_in

from lib import coefficients
from lib.activations import Pool, ShuffledActivations, activations
from lib.coefficients import beyond, choose
from lib.dictionary import Dictionary, make_all
from lib.evidence import Gathered
from lib.evidence import make_all as gather_all
from lib.methods import HYBRID, STEERING
from lib.profile import load
from lib.run import Run
from lib.sae import TopKSAE
from lib.vlm import VLM


@pytest.fixture
def run(tmp_path, tiny_vlm, tiny_sae, monkeypatch):
    return stand_in(tmp_path, tiny_vlm, tiny_sae, monkeypatch, study__dictionaries=3)


def other(sae: TopKSAE, seed: int) -> TopKSAE:
    """The same latents in another order."""
    order = torch.randperm(sae.encoder.out_features, generator=torch.Generator().manual_seed(seed))
    out = TopKSAE(sae.encoder.in_features, sae.encoder.out_features, sae.k)
    state = sae.state_dict()
    rows = {"encoder.weight": 0, "encoder.bias": 0, "decoder.weight": 1}
    out.load_state_dict({n: t.index_select(rows[n], order) if n in rows else t for n, t in state.items()})
    return out.eval().requires_grad_(False)


def test_replicas_differ_in_the_seed_of_their_dictionary_alone(run):
    seeds = [one.profile.sae.seed for one in run.replicas]
    assert seeds == [0, 1, 2] and run.replicas[0] is run
    assert all(one.profile.as_dict() | {"sae": 0} == run.profile.as_dict() | {"sae": 0} for one in run.replicas)
    assert len({one.dictionary.folder for one in run.replicas}) == 3
    released = run.changed({"sae.pretrained": "a/b:c"})
    assert released.replicas == [released]


def test_replicas_share_one_model_and_world_and_the_model_is_loaded_when_it_is_needed(monkeypatch):
    loaded = []
    monkeypatch.setattr(VLM, "load", lambda checkpoint: loaded.append(checkpoint) or object())
    run = Run(load("smoke", {"study.dictionaries": 3}))
    replicas = run.replicas
    assert len(replicas) == 3 and all(one.world is run.world for one in replicas) and not loaded
    assert all(one.vlm is run.vlm for one in replicas) and loaded == [run.profile.subject.checkpoint]


def test_one_pass_gathers_for_every_dictionary_what_its_own_would(tmp_path, run, tiny_sae, monkeypatch):
    saes = {seed: other(tiny_sae, seed) for seed in (0, 1, 2)}
    monkeypatch.setattr(Dictionary, "sae", property(lambda self: saes[self.recipe.seed]))
    encoded = []
    residual = run.encoder.residual
    monkeypatch.setattr(run.encoder, "residual", lambda images: encoded.append(len(images)) or residual(images))
    together = [replace(one.held_out, home=replace(one.held_out.home, folder=tmp_path / "a")) for one in run.replicas]
    gather_all(together, lambda: run.vlm)
    assert sum(encoded) == len(run.sets["evaluate"])
    for stage in together:
        alone = replace(stage, home=replace(stage.home, folder=tmp_path / "b"))
        alone.make(lambda: run.vlm)
        assert stage.made and stage.folder.name == alone.folder.name
        for name in stage.files:
            assert stage.path(name).read_bytes() == alone.path(name).read_bytes(), name
    before = sum(encoded)
    gather_all(together, lambda: run.vlm)
    assert sum(encoded) == before


def test_one_pass_is_over_one_set_of_pictures(tmp_path, run):
    a, b = run.shown, replace(run.held_out, truth=False)
    fresh = [Gathered(replace(s.home, folder=tmp_path / "c"), s.dictionary, s.images) for s in (a, b)]
    with pytest.raises(ValueError, match="over one set of pictures"):
        gather_all(fresh, lambda: run.vlm)


def test_activations_that_are_shared_are_those_of_a_stream_of_its_own(tiny_vlm, pictures, monkeypatch):
    pool = Pool()
    streams = [ShuffledActivations(tiny_vlm, pictures, 64, 5, 640, seed, pool=pool) for seed in (0, 1)]
    own = [ShuffledActivations(tiny_vlm, pictures, 64, 5, 640, seed) for seed in (0, 1)]
    for shared, alone in zip(streams, own):
        for a, b in zip(shared.batches(), alone.batches(), strict=True):
            assert torch.equal(a, b)
    monkeypatch.setattr(tiny_vlm, "residual", None)  # not needed any more
    assert len(list(streams[0].batches(1))) == len(streams[0]) - 1
    with pytest.raises(TypeError, match="not callable"):
        next(activations(tiny_vlm, pictures[1:], range(5), 5, pool))  # other pictures


def test_a_pool_keeps_no_more_than_it_may():
    pool, made = Pool(most=100), []

    def of(name, size):
        return pool.of(name, lambda: made.append(name) or torch.zeros(size))

    for name, size in (("a", 20), ("b", 20), ("c", 5), ("a", 20), ("b", 20), ("c", 5)):  # of 4 bytes
        assert len(of(name, size)) == size
    assert made == ["a", "b", "c", "b"]


def test_dictionaries_that_are_made_together_share_a_pool(run, monkeypatch):
    given = []
    monkeypatch.setattr(Dictionary, "train_or_load", lambda self, vlm, pool=None: given.append(pool))
    one = run.dictionary
    make_all([one, replace(one, recipe=replace(one.recipe, seed=1))], lambda: run.vlm)
    make_all([one], lambda: run.vlm)
    assert given[0] is given[1] is not None and given[2] is None


def test_a_dictionary_that_reconstructs_nothing_is_told_of_alone_and_among_others(run, monkeypatch):
    monkeypatch.setattr(Dictionary, "report", {"fvu": 0.97})
    one = run.dictionary
    for some in ([one], [one, replace(one, recipe=replace(one.recipe, seed=1))]):
        with pytest.warns(UserWarning, match="hardly better than their mean") as told:
            make_all(some, lambda: run.vlm)
        assert len(told) == len(some)


def sweep(**means) -> pd.DataFrame:
    return pd.DataFrame({"coefficient": [float(c[1:]) for c in means], "iou": list(means.values())})


def test_a_grid_grows_at_the_end_where_its_best_lies():
    assert beyond(sweep(c1=0.1, c2=0.3, c4=0.2)) == []
    assert beyond(sweep(c1=0.1, c2=0.2, c4=0.3)) == [8.0]
    assert beyond(sweep(c1=0.3, c2=0.2, c4=0.1)) == [0.5]


@pytest.mark.parametrize(
    ("best", "tried", "at_end"),
    [(2.0, {1.0, 2.0, 4.0}, False), (8.0, {1.0, 2.0, 4.0, 8.0, 16.0}, False),
     (1e-9, {1.0, 2.0, 4.0, 0.5, 0.25, 0.125}, True), (1e9, {1.0, 2.0, 4.0, 8.0, 16.0, 32.0}, True)],
)  # fmt: skip
def test_a_choice_tries_further_until_its_best_is_not_the_last(run, monkeypatch, best, tried, at_end):
    monkeypatch.setattr(coefficients, "mean_ious", lambda table, sets: -abs(table.coefficient - best))
    choices = [replace(run.choice(method), grid=(1.0, 2.0, 4.0)) for method in (STEERING.add, HYBRID.masks_add)]
    table = choose(choices, lambda: run.vlm)
    for choice in choices:
        assert set(choice.tried) == tried and choice.at_end == at_end
        assert choice.best == min(tried, key=lambda c: abs(c - best))
    latents = run.latents["validation"]
    assert len(table) == 2 * len(tried) * len(latents)
