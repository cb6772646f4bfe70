"""The dictionary equals a plain reference, and loads what it should."""

import itertools
import json
from dataclasses import replace

import pytest
import torch

from lib.sae import SAETraining, TopKSAE, _aux_loss, fvu, geometric_median, load_sae, quality, train_sae


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


RECIPE = SAETraining(latents=48, k=2, batch=256, lr=3e-3, warmup=10, dead_after=4000)


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


def test_auxk_teaches_the_dead_and_nobody_else():
    """Its value is that of a loop over inputs; its gradient reaches dead latents alone, and following it helps."""
    torch.manual_seed(0)
    sae, x = TopKSAE(6, 20, 3), torch.randn(50, 6)
    dead = torch.arange(20) >= 14
    residual = (x - sae(x)).detach()

    def loss() -> torch.Tensor:
        return _aux_loss(sae, sae.preactivations(x), residual, dead)

    before, errors = loss(), []
    for row, rest in zip(x, residual):
        pre = torch.relu(sae.encoder.weight @ (row - sae.b_dec) + sae.encoder.bias).detach()
        best = sorted((j for j in range(20) if dead[j]), key=lambda j: -float(pre[j]))[:3]  # k_aux = d / 2
        errors.append((rest - sum(pre[j] * sae.decoder.weight[:, j] for j in best)).square().sum())
    variance = (residual - residual.mean(0)).square().sum(-1).mean()
    assert before.item() == pytest.approx((torch.stack(errors).mean() / variance).item(), rel=1e-4)
    before.backward()
    reached = sae.encoder.weight.grad.abs().sum(1) > 0
    assert reached[dead].all() and not reached[~dead].any()
    assert not (sae.decoder.weight.grad.abs().sum(0) > 0)[~dead].any()
    with torch.no_grad():
        for parameter in (sae.encoder.weight, sae.decoder.weight):
            parameter -= 0.01 * parameter.grad
    assert loss() < before


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
    assert torch.allclose(whole.encoder.weight, resumed.encoder.weight, atol=1e-6)
    assert [row["step"] for row in log] == [*range(0, 400, 20), 399]


def test_quality_in_parts_is_that_of_the_whole():
    torch.manual_seed(0)
    sae, x = TopKSAE(6, 15, 3), torch.randn(300, 6) * 3 + 5
    found, z = quality(sae, x.split(64)), sae.encode(x)
    assert found["fvu"] == pytest.approx(fvu(x, sae.decode(z)), rel=1e-4)
    assert found["l0"] == pytest.approx((z > 0).sum(1).float().mean().item())
    assert found["alive"] == int((z > 0).any(0).sum()) and found["norm"] == pytest.approx(x.norm(dim=1).mean().item())
    assert torch.allclose(sae.decode_sparse(*sae.encode_sparse(x)), sae.decode(z), atol=1e-5)


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


def test_round_trip_and_dictionary_learning_files(tmp_path):
    torch.manual_seed(0)
    sae, x = TopKSAE(6, 15, 3), torch.randn(9, 6)
    assert torch.equal(load_sae(sae.save(tmp_path / "sae.safetensors")).encode(x), sae.encode(x))
    assert not load_sae(tmp_path / "sae.safetensors").encode(x).requires_grad
    state = {**sae.state_dict(), "k": torch.tensor(3), "threshold": torch.tensor(0.4)}
    torch.save(state, tmp_path / "ae.pt")
    assert torch.equal(load_sae(tmp_path / "ae.pt").encode(x), sae.encode(x))
    state.pop("k")
    (tmp_path / "b").mkdir()
    torch.save(state, tmp_path / "b" / "ae.pt")
    (tmp_path / "b" / "config.json").write_text(json.dumps({"trainer": {"k": 3}}))
    assert load_sae(tmp_path / "b" / "ae.pt").k == 3


def test_bad_files_are_refused(tmp_path):
    with pytest.raises(FileNotFoundError, match="--only 02"):
        load_sae(tmp_path / "none.safetensors")
    torch.save({"weights": torch.zeros(2)}, tmp_path / "other.pt")
    with pytest.raises(ValueError, match="not a TopK SAE"):
        load_sae(tmp_path / "other.pt")
    torch.save({"model": TopKSAE(4, 8, 2)}, tmp_path / "pickled.pt")
    with pytest.raises(Exception, match="[Ww]eights"):
        load_sae(tmp_path / "pickled.pt")
    with pytest.raises(ValueError, match="between 1 and"):
        TopKSAE(4, 8, 9)
