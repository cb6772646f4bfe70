"""What the library does, written plainly: the reference that tests compare with, and benchmarks as well."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from lib.sae import TopKSAE
from lib.topk_step import Code, TopKStep


class DenseStep(TopKStep):
    """The step with dense codes, and with gradients by autograd."""

    def __init__(self, sae: TopKSAE, dead_after: int, aux_weight: float, dtype: str = "float32") -> None:
        super().__init__(sae, dead_after, aux_weight, dtype)
        sae.decoder.weight.data = sae.decoder.weight.data.contiguous()
        self.sae, self.optim = sae, torch.optim.Adam(sae.parameters(), betas=(0.9, 0.999))

    def encode(self, x: Tensor) -> Code:
        self.pre = self.sae.preactivations(x)
        return Code(*self.pre.detach().topk(self.sae.k, dim=-1))

    def backward(self, x: Tensor, code: Code) -> Tensor:
        z = torch.zeros_like(self.pre).scatter(-1, code.indices, self.pre.gather(-1, code.indices))
        x_hat = self.sae.decode(z)
        self.loss = (x - x_hat).square().sum(-1).mean()
        return x_hat.detach()

    def revive(self, x: Tensor, x_hat: Tensor, dead: Tensor) -> None:
        residual, is_dead = x - x_hat, torch.zeros(self.pre.shape[1], dtype=torch.bool).index_fill(0, dead, True)
        values, indices = self.pre.masked_fill(~is_dead, 0).topk(min(len(dead), x.shape[1] // 2), dim=-1)
        z = torch.zeros_like(self.pre).scatter(-1, indices, values)
        error = (residual - self.sae.decoder(z)).square().sum(-1).mean()
        variance = (residual - residual.mean(0)).square().sum(-1).mean()
        self.loss = self.loss + self.aux_weight * (error / variance.clamp_min(1e-9)).nan_to_num()

    def gradients(self) -> None:
        self.optim.zero_grad()
        self.loss.backward()
        weight, grad = self.sae.decoder.weight.detach(), self.sae.decoder.weight.grad  # [d, m]
        grad -= (grad * weight).sum(0) * weight

    def update(self, rate: float) -> None:
        for group in self.optim.param_groups:
            group["lr"] = rate
        self.gradients()
        nn.utils.clip_grad_norm_(self.sae.parameters(), 1.0)
        self.optim.step()
        self.sae.decoder.weight.data = nn.functional.normalize(self.sae.decoder.weight.data, dim=0)
