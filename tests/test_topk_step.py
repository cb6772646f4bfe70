"""The training step that uses only what is active equals the dense one."""

import copy

import pytest
import torch
from test_sae import RECIPE, sparse_stream

from lib import device, dictionary
from lib.sae import TopKSAE, fvu
from lib.topk_step import Code, TopKStep, aux_loss
from tests.benchmarks.plain import DenseStep

D, M, K, N = 10, 40, 4, 64


def exact(bias: float = 0.0) -> tuple[TopKSAE, torch.Tensor]:
    """A dictionary that has left its starting point, and patches, in float64."""
    torch.manual_seed(0)
    sae = TopKSAE(D, M, K).double()
    with torch.no_grad():
        sae.encoder.weight += 0.3 * torch.randn(M, D)
        sae.encoder.bias += 0.1 * torch.randn(M) + bias
        sae.b_dec += torch.randn(D)
    return sae, torch.randn(N, D, dtype=torch.float64) * 2 + 1


def tied() -> tuple[TopKSAE, torch.Tensor]:
    """The same where latents come in pairs that always have the same code, so that choices are by chance."""
    sae, x = exact()
    with torch.no_grad():
        sae.encoder.weight[1::2] = sae.encoder.weight[::2]
        sae.encoder.bias[1::2] = sae.encoder.bias[::2]
    return sae, x


def both(sae: TopKSAE, x: torch.Tensor, dead: torch.Tensor) -> tuple[TopKStep, DenseStep, TopKSAE, Code]:
    """Both steps, before they update: on a dictionary and on its copy, with the same active latents."""
    other = copy.deepcopy(sae)
    ours, dense = TopKStep(sae, 1, 1 / 32), DenseStep(other, 1, 1 / 32)
    code = ours.encode(x)
    dense.encode(x)
    for step in (ours, dense):
        x_hat = step.backward(x, code)
        if len(dead):
            step.revive(x, x_hat, dead)
    return ours, dense, other, code


CASES = {
    "as it comes": (exact, []),
    "few above zero": (lambda: exact(-3.0), []),
    "ties": (tied, []),
    "a dead latent": (exact, [7]),
    "some dead": (exact, [0, 3, 8, 39]),
    "more dead than AuxK takes": (exact, list(range(5, 30))),
    "dead and few above zero": (lambda: exact(-3.0), list(range(20))),
}


@pytest.mark.parametrize("case", CASES)
def test_gradients_are_those_of_the_dense_step(case):
    make, places = CASES[case]
    sae, x = make()
    ours, dense, other, code = both(sae, x, torch.tensor(places, dtype=torch.long))
    dense.gradients()
    grads = [p.grad for p in (other.encoder.weight, other.encoder.bias, other.decoder.weight, other.b_dec)]
    grads[2] = grads[2].T
    for mine, theirs in zip(ours.parameters, grads):
        assert theirs.abs().max() > 0 and torch.allclose(mine.grad, theirs, rtol=1e-10, atol=1e-12)
    few = (code.values > 0).sum(1) < K
    assert few.any() == ("few" in case) and not (code.values < 0).any()


@pytest.mark.parametrize("case", CASES)
def test_a_step_leaves_the_parameters_of_the_dense_step(case):
    make, places = CASES[case]
    sae, x = make()
    ours, dense, other, _ = both(sae, x, torch.tensor(places, dtype=torch.long))
    before = copy.deepcopy(sae.state_dict())
    for step in (ours, dense):
        step.update(1e-3)
    for name, value in other.state_dict().items():
        assert not torch.equal(before[name], sae.state_dict()[name])
        assert torch.allclose(sae.state_dict()[name], value, rtol=1e-7, atol=1e-9)


def test_the_code_is_that_of_the_dictionary():
    sae, x = exact(-1.0)
    code, z = TopKStep(sae, 1, 0).encode(x), sae.encode(x)
    assert torch.allclose(torch.zeros_like(z).scatter(1, code.indices, code.values), z, rtol=1e-12)


def test_auxk_teaches_the_dead_and_nobody_else():
    """Its value is that of a loop over inputs; its gradient reaches dead latents alone, and following it helps."""
    sae, x = exact()
    dead, k_aux = torch.arange(30, M), D // 2
    residual = (x - sae(x)).detach()

    def loss() -> torch.Tensor:
        return aux_loss(x - sae.b_dec, residual, sae.encoder.weight[30:], sae.encoder.bias[30:], sae.directions[30:])

    before, errors = loss(), []
    for row, rest in zip(x, residual):
        pre = torch.relu(sae.encoder.weight @ (row - sae.b_dec) + sae.encoder.bias).detach()
        best = sorted(dead.tolist(), key=lambda j: -float(pre[j]))[:k_aux]
        errors.append((rest - sum(pre[j] * sae.decoder.weight[:, j] for j in best)).square().sum())
    variance = (residual - residual.mean(0)).square().sum(-1).mean()
    assert before.item() == pytest.approx((torch.stack(errors).mean() / variance).item(), rel=1e-9)
    step = TopKStep(sae, 1, 1.0)
    for parameter in step.parameters:
        parameter.grad = torch.zeros_like(parameter)
    step.revive(x, x - residual, dead)
    for parameter in (step.encoder, step.directions):
        assert (parameter.grad[30:].abs().sum(1) > 0).all() and not parameter.grad[:30].any()
    with torch.no_grad():
        for parameter in (step.encoder, step.directions):
            parameter -= 0.01 * parameter.grad
    assert loss() < before


def test_a_whole_training_ends_as_the_dense_one(tmp_path, monkeypatch):
    """Dead latents and their revival included; in float32, where rounding grows from step to step."""
    recipe = dictionary.Recipe(latents=48, k=2, batch=256, lr=3e-3, warmup=10, dead_after=2000)

    def trained(name: str):
        return dictionary.train_sae(lambda start: sparse_stream(120, 256), 120, recipe, tmp_path / name, seed=0)

    ours, log = trained("ours")
    monkeypatch.setattr(dictionary, "TopKStep", DenseStep)
    dense, reference = trained("dense")
    assert any(row["dead"] for row in reference)
    assert [row["dead"] for row in log] == [row["dead"] for row in reference]
    assert [row["fvu"] for row in log] == pytest.approx([row["fvu"] for row in reference], rel=1e-3)
    for name, value in dense.state_dict().items():
        assert torch.allclose(ours.state_dict()[name], value, atol=2e-3), name
    x = next(sparse_stream(1, 512))
    assert fvu(x, ours(x)) == pytest.approx(fvu(x, dense(x)), rel=1e-3)


def test_the_same_seed_gives_the_same_bytes(tmp_path):
    files = []
    for name in ("a", "b"):
        sae, _ = dictionary.train_sae(lambda start: sparse_stream(80, 256), 80, RECIPE, tmp_path / name, seed=3)
        files.append(sae.save(tmp_path / f"{name}.safetensors").read_bytes())
    assert files[0] == files[1]


def test_half_precision_is_for_processors_that_have_it(monkeypatch):
    for amx, bf16, quick in ((False, False, False), (True, False, True), (False, True, True)):
        monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda amx=amx: amx)
        monkeypatch.setattr(torch.cpu, "_is_avx512_bf16_supported", lambda bf16=bf16: bf16)
        assert device.quick_half("cpu") == quick and device.quick_half("cuda")
        x = torch.randn(4, 4)
        for dtype in ("float32", "bfloat16"):
            half = quick and dtype == "bfloat16"
            with device.products(dtype, "cpu"):
                assert (x @ x).dtype == (torch.bfloat16 if half else torch.float32)
            step = TopKStep(TopKSAE(4, 8, 2), 1, 0, dtype)
            assert step.encode(x).values.dtype == torch.float32
            assert step._pre.dtype == (torch.bfloat16 if half else torch.float32)
