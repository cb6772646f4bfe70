"""The dictionary equals a plain reference, and loads what it should."""

import itertools
import json
import os
import subprocess
import sys
import warnings
from dataclasses import replace

import pytest
import tiny_hub
import torch
from safetensors.torch import save_file

from lib.dictionary import Recipe, geometric_median, train_sae
from lib.hub import Asset
from lib.sae import TopKSAE, fvu, judgement, load_dictionary, load_sae, quality
from lib.store import ROOT, Damaged
from lib.vlm import Checkpoint


@torch.no_grad()
def reference_code(sae: TopKSAE, x: torch.Tensor) -> torch.Tensor:
    """Eq. 1 written out for one input, with loops."""
    pre = [
        max(0.0, float(sae.encoder.weight[j] @ (x - sae.b_dec) + sae.encoder.bias[j]))
        for j in range(len(sae.encoder.bias))
    ]
    largest = sorted(range(len(pre)), key=lambda j: -pre[j])[: sae.k]
    return torch.tensor([pre[j] if j in largest else 0.0 for j in range(len(pre))])


def sparse_stream(steps: int, batch: int, d: int = 16, m: int = 24, seed: int = 0):
    """Sums of two of ``m`` fixed directions: what a dictionary should find."""
    generator = torch.Generator().manual_seed(seed)
    atoms = torch.nn.functional.normalize(torch.randn(m, d, generator=generator), dim=1)
    for _ in range(steps):
        z = torch.zeros(batch, m)
        z.scatter_(1, torch.rand(batch, m, generator=generator).topk(2).indices, 5.0)
        yield z @ atoms + 3


RECIPE = Recipe(latents=48, k=2, batch=256, lr=3e-3, warmup=10, dead_after=4000)


def test_codes_equal_the_reference():
    torch.manual_seed(0)
    sae = TopKSAE(6, 15, 3)
    sae.b_dec.data.normal_()
    sae.encoder.bias.data.normal_(std=0.1)
    x = torch.randn(20, 6)
    for row, code in zip(x, sae.encode(x)):
        assert torch.allclose(code, reference_code(sae, row), atol=1e-5)
        assert torch.allclose(sae.decode(code), sae.decoder.weight @ code + sae.b_dec, atol=1e-5)
    values, indices = sae.encode_sparse(x)
    assert torch.equal(torch.zeros(20, 15).scatter(1, indices, values), sae.encode(x))


def test_folding_a_scale_in_keeps_the_function():
    torch.manual_seed(0)
    sae, x = TopKSAE(6, 15, 3), torch.randn(20, 6)
    sae.encoder.bias.data.normal_()
    sae.b_dec.data.normal_()
    code, out = sae.encode(x), sae(x)
    sae.scale(7.0)
    assert torch.allclose(sae.encode(7 * x), 7 * code, atol=1e-4)
    assert torch.allclose(sae(7 * x), 7 * out, atol=1e-4)


def test_training_finds_the_structure_and_keeps_unit_norm(tmp_path):
    sae, log = train_sae(lambda start: sparse_stream(600, 256), 600, RECIPE, tmp_path, seed=0)
    x = next(sparse_stream(1, 512, seed=0))
    assert fvu(x, sae(x)) < 0.15 < log[0]["fvu"]
    assert torch.allclose(sae.directions.norm(dim=1), torch.ones(48), atol=1e-5)


def test_training_resumes_where_it_was_killed(tmp_path):
    whole, _ = train_sae(lambda start: sparse_stream(400, 64), 400, RECIPE, tmp_path / "whole", seed=0)

    def killed(start):
        for i, batch in enumerate(sparse_stream(400, 64)):
            if i == 300:
                raise KeyboardInterrupt
            yield batch

    with pytest.raises(KeyboardInterrupt):
        train_sae(killed, 400, RECIPE, tmp_path / "part", seed=0)
    starts = []

    def rest(start):
        starts.append(start)
        return itertools.islice(sparse_stream(400, 64), start, None)

    resumed, log = train_sae(rest, 400, RECIPE, tmp_path / "part", seed=0)
    assert starts == [200]  # what was seen is not encoded again
    for name, value in whole.state_dict().items():
        assert torch.equal(resumed.state_dict()[name], value)
    assert [row["step"] for row in log] == [*range(0, 400, 20), 399]


def test_quality_in_parts_is_that_of_the_whole():
    torch.manual_seed(0)
    sae, x = TopKSAE(6, 15, 3), torch.randn(300, 6) * 3 + 5
    found, z = quality(sae, x.split(64)), sae.encode(x)
    assert found["fvu"] == pytest.approx(fvu(x, sae.decode(z)), rel=1e-4)
    assert found["l0"] == pytest.approx((z > 0).sum(1).float().mean().item())
    assert found["alive"] == int((z > 0).any(0).sum()) and found["norm"] == pytest.approx(x.norm(dim=1).mean().item())
    assert torch.allclose(sae.decode_sparse(*sae.encode_sparse(x)), sae.decode(z), atol=1e-5)


@pytest.mark.slow(5)
def test_bfloat16_training_learns_as_well(tmp_path):
    whole, _ = train_sae(lambda s: sparse_stream(300, 128), 300, RECIPE, tmp_path / "a", seed=0)
    half, _ = train_sae(
        lambda s: sparse_stream(300, 128), 300, replace(RECIPE, dtype="bfloat16"), tmp_path / "b", seed=0
    )
    x = next(sparse_stream(1, 512, seed=0))
    assert half.encoder.weight.dtype == torch.float32 and fvu(x, half(x)) < fvu(x, whole(x)) + 0.1


def test_fvu_uses_the_variance():
    x = torch.randn(500, 4) + 100  # the mean square is 10,000 times the variance
    assert fvu(x, x.mean(0).expand_as(x)) == pytest.approx(1.0, abs=1e-4)
    assert fvu(x, x) == 0


def test_geometric_median_resists_outliers():
    x = torch.zeros(101, 2)
    x[0] = 1000
    assert geometric_median(x).norm() < 0.1


def test_what_is_saved_is_loaded(tmp_path):
    torch.manual_seed(0)
    sae, x = TopKSAE(6, 15, 3), torch.randn(9, 6)
    assert torch.equal(load_sae(sae.save(tmp_path / "sae.safetensors")).encode(x), sae.encode(x))
    assert not load_sae(tmp_path / "sae.safetensors").encode(x).requires_grad


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="--only 02"):
        load_sae(tmp_path / "none.safetensors")
    (tmp_path / "sae.safetensors").write_bytes(b"half a file")
    with pytest.raises(Damaged, match="sae.safetensors is damaged"):
        load_sae(tmp_path / "sae.safetensors")
    save_file({"weights": torch.zeros(2)}, tmp_path / "sae.safetensors")
    with pytest.raises(ValueError, match="not a TopK SAE: it lacks b_dec"):
        load_sae(tmp_path / "sae.safetensors")
    with pytest.raises(ValueError, match="between 1 and"):
        TopKSAE(4, 8, 9)


# -- dictionaries that others trained ---------------------------------------------------------------


@pytest.fixture
def released(tmp_path):
    """A folder with a dictionary of layer 1 of Gemma 3 4B: 12 wide, 40 latents, 5 active at a time."""
    tiny_hub.build_released_sae(tmp_path, 12, 40, 5, 0, lm_name="google/gemma-3-4b-it")
    return tmp_path


def load(name, model="google/gemma-3-4b-it@main", layer=1, width=12, latents=40, k=5) -> TopKSAE:
    return load_dictionary(Asset(name), Checkpoint(Asset(model), layer), width, latents, k)


def rewrite(folder, *drop: str, trainer: dict | None = None, **state) -> None:
    """Change what a dictionary holds, and what its configuration says."""
    known = torch.load(folder / "ae.pt", weights_only=True) | state
    torch.save({name: value for name, value in known.items() if name not in drop}, folder / "ae.pt")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({"trainer": config["trainer"] | (trainer or {})}))


def test_a_released_dictionary_gives_the_codes_of_its_definition(released):
    sae, x = load(released), torch.randn(6, 12)
    state = torch.load(released / "ae.pt", weights_only=True)
    pre = torch.relu((x - state["b_dec"]) @ state["encoder.weight"].T + state["encoder.bias"])
    kept = torch.zeros_like(pre).scatter(1, pre.topk(5).indices, pre.topk(5).values)
    assert torch.allclose(sae.encode(x), kept, atol=1e-6) and sae.k == 5  # whatever its threshold
    assert torch.allclose(sae(x), kept @ state["decoder.weight"].T + state["b_dec"], atol=1e-5)
    rewrite(released, "k")
    assert load(released).k == 5  # as the configuration says


def test_a_dictionary_is_named_by_pattern_or_alone_or_by_its_file(tmp_path):
    folders = [tmp_path / f"enc_layer_{layer}_HF_{layer}01" / "trainer_0" for layer in (16, 24)]
    for seed, folder in enumerate(folders):
        tiny_hub.build_released_sae(folder, 12, 40, 5, seed)
    x, expected = torch.randn(6, 12), load(folders[1]).directions
    for name in (f"{tmp_path}:*layer_24_*2401/trainer_0", folders[1].parent, folders[1] / "ae.pt"):
        assert torch.equal(load(name).directions, expected)
    ours = load(folders[1]).save(tmp_path / "ours" / "sae.safetensors")
    for name in (ours, ours.parent, f"{tmp_path}:ours"):
        assert torch.equal(load(name).encode(x), load(folders[1]).encode(x))
    with pytest.raises(FileNotFoundError, match=r"names 2 dictionaries.*enc_layer_16.*enc_layer_24.*ours"):
        load(f"{tmp_path}:*/trainer_0")
    with pytest.raises(FileNotFoundError, match="names 0 dictionaries"):
        load(f"{tmp_path}:*layer_3_*")
    with pytest.raises(FileNotFoundError, match="no pattern.*names 3 dictionaries"):
        load(tmp_path)
    with pytest.raises(FileNotFoundError, match="no folder"):
        load("data/nowhere")


HUB = """
import sys, torch
from lib.hub import Asset
from lib.sae import load_dictionary
from lib.vlm import Checkpoint
subject = Checkpoint(Asset("google/gemma-3-4b-it@main"), 1)
one, many = (Asset(f"someone/{name}@v1") for name in ("one", "many"))
assert load_dictionary(one, subject, 12, 40, 5).k == 5
assert load_dictionary(Asset(f"{many}:*_1/trainer_0"), subject, 12, 40, 5).k == 5
try:
    load_dictionary(many, subject, 12, 40, 5)
except FileNotFoundError as error:
    print(error)
"""


def test_a_dictionary_on_the_hub_needs_no_pattern_where_it_is_alone(tmp_path):
    for name, layers in {"one": [1], "many": [1, 2]}.items():
        for layer in layers:
            tiny_hub.publish(
                tmp_path,
                f"someone/{name}",
                "v1",
                lambda folder: tiny_hub.build_released_sae(folder / f"layer_{layer}" / "trainer_0", 12, 40, 5, 0),
            )
    ran = subprocess.run(
        [sys.executable, "-c", HUB],
        cwd=ROOT,
        env=os.environ | {"HF_HUB_CACHE": str(tmp_path), "HF_HUB_OFFLINE": "1", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert ran.returncode == 0, ran.stderr[-3000:]
    assert "names 2 dictionaries of someone/many" in ran.stdout and "layer_2/trainer_0" in ran.stdout


@pytest.mark.parametrize("kind", ["BatchTopKSAE", "AutoEncoder", "JumpReluAutoEncoder", "GatedAutoEncoder"])
def test_a_dictionary_whose_codes_are_not_the_k_largest_is_refused_by_its_class(released, kind):
    rewrite(released, trainer={"dict_class": kind})
    with pytest.raises(ValueError, match=f"of class {kind}"):
        load(released)


@pytest.mark.parametrize(
    ("key", "kind"), [("bias", "ReLU"), ("r_mag", "Gated"), ("W_enc", "JumpRelu"), ("spare", "it has spare")]
)
def test_other_kinds_are_known_by_their_weights_where_nothing_else_tells(released, key, kind):
    rewrite(released, "k", "threshold", **{key: torch.zeros(3)})
    (released / "config.json").unlink()
    with pytest.raises(ValueError, match=kind):
        load(released)


def test_a_threshold_that_may_or_may_not_be_meant_is_asked_about(released):
    (released / "config.json").unlink()
    with pytest.raises(ValueError, match=r"may be a BatchTopKSAE.*threshold \(0.5\).*config.json"):
        load(released)
    threshold = {"threshold": torch.tensor(-1.0)}  # as it begins: nobody has set it
    torch.save(torch.load(released / "ae.pt", weights_only=True) | threshold, released / "ae.pt")
    assert load(released).k == 5


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"layer": 2}, "layer 1, not 2: change subject.layer"),
        ({"width": 64}, "width 12, not 64: change subject.model"),
        ({"latents": 64}, "latents 40, not 64: change sae.latents"),
        ({"k": 8}, "k 5, not 8: change sae.k"),
        ({"model": "OpenGVLab/InternVL3-14B-hf@main"}, "made for google/gemma-3-4b-it, and subject.model is OpenGVLab"),
    ],
)
def test_a_dictionary_that_was_made_for_something_else_is_refused(released, asked, words):
    with pytest.raises(ValueError, match=words):
        load(released, **asked)


@pytest.mark.parametrize("said", [{"activation_dim": 13}, {"dict_size": 41}, {"k": 6}])
def test_a_configuration_of_other_weights_is_refused(released, said):
    rewrite(released, trainer=said)
    with pytest.raises(ValueError, match=f"config.json says .* {next(iter(said.values()))}, but the weights"):
        load(released)


def test_another_size_of_the_family_or_a_folder_is_allowed_with_a_word(released, tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        load(released)
    for model in ("google/gemma-3-27b-it@main", "google/gemma-3-12b-pt@main", str(tmp_path)):
        with pytest.warns(
            UserWarning, match=r"was made for google/gemma-3-4b-it and is used with .*share their encoder"
        ):
            load(released, model)


def test_directions_of_another_length_become_unit_ones_and_codes_take_their_length(released):
    x, plain = torch.randn(30, 12), load(released)
    length = 5.0
    state = torch.load(released / "ae.pt", weights_only=True)
    rewrite(released, **{"decoder.weight": length * state["decoder.weight"]})
    scaled = load(released)
    assert torch.allclose(scaled.directions.norm(dim=1), torch.ones(40), atol=1e-5)
    before, after = plain.encode(x), scaled.encode(x)
    assert torch.equal(before > 0, after > 0) and torch.allclose(after, length * before, atol=1e-4)
    assert torch.allclose(scaled(x), before @ (length * plain.directions) + plain.b_dec, atol=1e-4)


def test_directions_of_different_lengths_are_refused(released):
    state = torch.load(released / "ae.pt", weights_only=True)
    rewrite(released, **{"decoder.weight": torch.linspace(1, 3, 40) * state["decoder.weight"]})
    with pytest.raises(ValueError, match=r"differ in length \(1 to 3\)"):
        load(released)


def test_a_file_that_is_no_whole_set_of_weights_is_refused(released):
    rewrite(released, **{"encoder.bias": torch.full((40,), float("nan"))})
    with pytest.raises(Damaged, match="not numbers"):
        load(released)
    for content in (b"version https://git-lfs.github.com/spec/v1", (released / "ae.pt").read_bytes()[:200], b""):
        (released / "ae.pt").write_bytes(content)
        with pytest.raises(Damaged, match="could be read"):
            load(released)
    torch.save({"model": TopKSAE(4, 8, 2)}, released / "ae.pt")
    with pytest.raises(Damaged, match="never unpickled"):
        load(released)


def test_a_dictionary_that_describes_nothing_is_worth_a_sentence():
    assert judgement({"fvu": 0.2}) is None
    assert "hardly better" in judgement({"fvu": 0.97}) and "worse" in judgement({"fvu": 1.28})
    assert judgement({"fvu": float("nan")})
