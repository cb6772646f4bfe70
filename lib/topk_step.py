"""One training step of a TopK dictionary, in which only the encoder's product is dense.

A patch uses ``k`` of ``m`` latents (25 of 8192), and no other has a part in its reconstruction or its gradient. With
``r = x - b_dec``, ``n`` patches, and ``S(p)`` the latents that are active in patch ``p``:

    pre   = r W_enc^T + b_enc                        [n, m], dense: who is active is not known before
    z     = ReLU of the k largest                    [n, k]
    x_hat = sum_{j in S(p)} z_pj D_j + b_dec         D = W_dec^T, whose rows are the directions
    L     = mean_p |x - x_hat|^2

The chain rule backwards, where each line but the last is a sum over the active pairs (p, j) alone:

    g        = 2 (x_hat - x) / n                     dL/dx_hat, [n, d]
    u_pj     = g_p . D_j  where z_pj > 0, else 0     dL/dpre, [n, k]
    dD_j     = sum_p z_pj g_p                        [m, d]
    dW_enc_j = sum_p u_pj r_p                        [m, d]
    db_enc_j = sum_p u_pj                            [m]
    db_dec   = sum_p g_p - W_enc^T db_enc            [d]: it is taken off before encoding, and added after decoding

Directions stay on the unit sphere, so the part of ``dD_j`` along ``D_j`` is taken off. Its length needs no product of
its own: ``dD_j . D_j = sum_p z_pj u_pj``.

A sum over the latents of a patch, or over the patches of a latent (pairs sorted by latent), is a weighted sum of rows
of a table: ``embedding_bag``. It adds in a fixed order on a CPU and on a GPU: the same seed gives the same bytes.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding_bag, linear

from lib.device import products, quick_half
from lib.sae import TopKSAE


class Code(NamedTuple):
    """The active latents of ``n`` patches: values (0 where fewer than ``k`` are above it) and places, ``[n, k]``."""

    values: Tensor
    indices: Tensor


class TopKStep:
    """Trains a dictionary in place.

    Parameters
    ----------
    sae : what is trained; its directions are contiguous rows.
    dead_after : a latent is dead after so many patches without firing.
    aux_weight : of the AuxK loss, by which dead latents learn what the living leave over.
    dtype : of the dense products, ``float32`` or ``bfloat16`` (in float32 where that is quicker).

    Attributes
    ----------
    quiet : patches since each latent last fired, ``[m]``.
    """

    def __init__(self, sae: TopKSAE, dead_after: int, aux_weight: float, dtype: str = "float32") -> None:
        self.k, self.dead_after, self.aux_weight, self.dtype = sae.k, dead_after, aux_weight, dtype
        # Parameters on the dictionary's own memory, in which each latent is a row.
        shared = (sae.encoder.weight, sae.encoder.bias, sae.decoder.weight.T, sae.b_dec)
        self.parameters = [nn.Parameter(tensor.detach()) for tensor in shared]
        self.encoder, self.bias, self.directions, self.b_dec = self.parameters
        self.optim = torch.optim.Adam(self.parameters, betas=(0.9, 0.999), fused=True)
        self.quiet = torch.zeros_like(self.bias, dtype=torch.long, requires_grad=False)
        self._pre = self.encoder.new_empty(0)  # the largest tensor of all, made once

    @property
    def dead(self) -> Tensor:
        """Places of the dead latents."""
        return (self.quiet >= self.dead_after).nonzero().squeeze(1)

    def step(self, x: Tensor, rate: float) -> Tensor:
        """One step on patches ``[n, d]`` at a learning rate; returns their reconstruction before it."""
        code = self.encode(x)
        self.quiet += len(x)
        self.quiet[code.indices[code.values > 0]] = 0
        x_hat, dead = self.backward(x, code), self.dead
        if len(dead):
            self.revive(x, x_hat, dead)
        self.update(rate)
        return x_hat

    @torch.no_grad()
    def encode(self, x: Tensor) -> Code:
        """The code of patches ``[n, d]``.

        ReLU is taken of ``k`` values rather than ``m``: it changes nobody's rank above zero.
        """
        half = self.dtype == "bfloat16" and quick_half(x.device.type)
        to = torch.bfloat16 if half else x.dtype
        shape = (len(x), len(self.bias))
        if self._pre.shape != shape or self._pre.dtype != to:
            self._pre = x.new_empty(shape, dtype=to)
        torch.addmm(self.bias.to(to), (x - self.b_dec).to(to), self.encoder.to(to).T, out=self._pre)
        values, indices = self._pre.topk(self.k, dim=-1, sorted=False)
        return Code(values.to(x.dtype).relu_(), indices)

    @torch.no_grad()
    def backward(self, x: Tensor, code: Code) -> Tensor:
        """Set all gradients of the reconstruction's error, by the equations above; returns ``x_hat``, ``[n, d]``."""
        with torch.enable_grad():
            z = code.values.detach().requires_grad_()
            sums = embedding_bag(code.indices, self.directions.detach(), per_sample_weights=z, mode="sum")
        x_hat = sums.detach() + self.b_dec
        g = (x_hat - x).mul_(2 / len(x))
        (u,) = torch.autograd.grad(sums, z, g)
        u.mul_(code.values > 0)

        latents, pairs = code.indices.flatten().sort(stable=True)
        starts = torch.searchsorted(latents, torch.arange(len(self.bias) + 1, device=x.device))

        def by_latent(rows: Tensor, table: Tensor, weights: Tensor | None = None) -> Tensor:
            return embedding_bag(rows, table, starts, mode="sum", per_sample_weights=weights, include_last_offset=True)

        patches, of_u, of_z = pairs // self.k, u.flatten(), code.values.flatten()
        bias, along = by_latent(pairs, torch.stack([of_u, of_u * of_z], 1)).T.contiguous()
        self.encoder.grad = by_latent(patches, x - self.b_dec, of_u[pairs])
        self.bias.grad = bias
        self.directions.grad = by_latent(patches, g, of_z[pairs]).addcmul_(self.directions, along[:, None], value=-1)
        self.b_dec.grad = g.sum(0) - bias @ self.encoder
        return x_hat

    @torch.no_grad()
    def revive(self, x: Tensor, x_hat: Tensor, dead: Tensor) -> None:
        """Add the gradients of the weighted AuxK loss; products are on the dead latents' rows alone.

        Parameters
        ----------
        x, x_hat : patches and their reconstruction, ``[n, d]``.
        dead : places of the dead latents.
        """
        r, residual = x - self.b_dec, x - x_hat
        with torch.enable_grad(), products(self.dtype, x.device.type):
            rows = [whole.detach()[dead].requires_grad_() for whole in (self.encoder, self.bias, self.directions)]
            loss = self.aux_weight * aux_loss(r, residual, *rows)
        to_encoder, to_bias, to_directions = torch.autograd.grad(loss, rows)
        tangent = to_directions - (to_directions * rows[2]).sum(1, keepdim=True) * rows[2]
        for parameter, grad in ((self.encoder, to_encoder), (self.bias, to_bias), (self.directions, tangent)):
            parameter.grad[dead] += grad
        self.b_dec.grad -= to_bias @ rows[0]

    @torch.no_grad()
    def update(self, rate: float) -> None:
        """Clip the gradients to norm 1, step at a learning rate, and put the directions back on the unit sphere."""
        for group in self.optim.param_groups:
            group["lr"] = rate
        nn.utils.clip_grad_norm_(self.parameters, 1.0)
        self.optim.step()
        self.directions /= torch.linalg.vector_norm(self.directions, dim=1, keepdim=True).clamp_min_(1e-12)


def aux_loss(r: Tensor, residual: Tensor, encoder: Tensor, bias: Tensor, directions: Tensor) -> Tensor:
    """How badly the dead latents alone reconstruct the residual, relative to its variance (AuxK).

    Of the dead, whose rows ``[dead, ...]`` these are, at most ``d / 2`` reconstruct a patch ``r``, ``[n, d]``.
    """
    z = torch.relu(linear(r, encoder, bias))
    if len(encoder) > r.shape[1] // 2:
        values, indices = z.topk(r.shape[1] // 2, dim=-1, sorted=False)
        z = torch.zeros_like(z).scatter(-1, indices, values)
    error = (residual - z @ directions).square().sum(-1).mean()
    variance = (residual - residual.mean(0)).square().sum(-1).mean()
    return (error / variance.clamp_min(1e-9)).nan_to_num()
