"""TopK sparse autoencoders on the residual stream of a vision encoder (section 2, Eq. 1 and 2)."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from tqdm import tqdm

from lib.store import ROOT, hub_id, write_atomically


class TopKSAE(nn.Module):
    """A dictionary of ``m`` unit directions, of which each input uses at most ``k``.

    ``z = TopK(ReLU(W_enc (x - b_dec) + b_enc))`` (Eq. 1) and ``x_hat = W_dec z + b_dec`` (Eq. 2).
    The decoder's columns have unit norm, so a code is a length in the units of the residual
    stream: a latent with code 3 adds a vector of norm 3.

    Parameters
    ----------
    d : width of the residual stream.
    m : number of latents.
    k : latents active per input.
    """

    def __init__(self, d: int, m: int, k: int) -> None:
        super().__init__()
        if not 0 < k <= m:
            raise ValueError(f"k must lie between 1 and the number of latents ({m}), not {k}")
        self.k = k
        self.encoder = nn.Linear(d, m)
        self.decoder = nn.Linear(m, d, bias=False)
        self.b_dec = nn.Parameter(torch.zeros(d))
        self.decoder.weight.data = nn.functional.normalize(torch.randn(d, m), dim=0)
        self.encoder.weight.data = self.decoder.weight.data.T.clone()
        self.encoder.bias.data.zero_()

    @property
    def directions(self) -> Tensor:
        """The features' directions: ``[m, d]``, unit rows."""
        return self.decoder.weight.detach().T

    def preactivations(self, x: Tensor) -> Tensor:
        """``ReLU(W_enc (x - b_dec) + b_enc)``: ``[..., d]`` to ``[..., m]``."""
        return torch.relu(self.encoder(x - self.b_dec))

    def encode_sparse(self, x: Tensor) -> tuple[Tensor, Tensor]:
        """The code in sparse form: values and indices of the active latents, each ``[..., k]``.

        A value may be 0, where fewer than ``k`` latents are active.
        """
        return self.preactivations(x).topk(self.k, dim=-1)

    def encode(self, x: Tensor) -> Tensor:
        """The code of ``[..., d]``: ``[..., m]``, at most ``k`` entries above zero."""
        values, indices = self.encode_sparse(x)
        return torch.zeros(*x.shape[:-1], self.encoder.out_features, dtype=values.dtype, device=x.device).scatter(
            -1, indices, values
        )

    def decode_sparse(self, values: Tensor, indices: Tensor) -> Tensor:
        """Reconstruct from what :meth:`encode_sparse` returns: two ``[..., k]`` to ``[..., d]``.

        The dense code, which has hundreds of times as many entries, is never made.
        """
        flat = indices.reshape(-1, self.k)
        out = nn.functional.embedding_bag(
            flat, self.decoder.weight.T, per_sample_weights=values.reshape(-1, self.k), mode="sum"
        )
        return out.reshape(*indices.shape[:-1], -1) + self.b_dec

    def decode(self, z: Tensor) -> Tensor:
        """Reconstruct: ``[..., m]`` to ``[..., d]``."""
        return self.decoder(z) + self.b_dec

    def forward(self, x: Tensor) -> Tensor:
        """Encode and decode ``[..., d]``."""
        return self.decode(self.encode(x))

    @torch.no_grad()
    def scale(self, factor: float) -> None:
        """Fold a normalisation in: from codes of ``x / factor`` to codes of ``x``, in place."""
        self.b_dec.mul_(factor)
        self.encoder.bias.mul_(factor)

    def save(self, path: Path) -> Path:
        """Write weights and ``k`` as safetensors."""
        tensors = {name: tensor.contiguous() for name, tensor in self.state_dict().items()}
        return write_atomically(path, lambda target: save_file(tensors, target, metadata={"k": str(self.k)}))


def load_sae(path: Path) -> TopKSAE:
    """Load a dictionary: our safetensors, or dictionary_learning's ``ae.pt`` (never unpickled).

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    ValueError
        If the file is neither, or holds no ``k``.
    """
    if not path.exists():
        raise FileNotFoundError(f"no SAE at {path}; train one with ./run_all.sh --only 02")
    if path.suffix == ".safetensors":
        from safetensors import safe_open

        with safe_open(path, "pt") as file:
            k = (file.metadata() or {}).get("k")
        state = load_file(path)
    elif path.suffix == ".pt":
        state = torch.load(path, map_location="cpu", weights_only=True)
        k = state.pop("k", None)
        state.pop("threshold", None)  # an inference shortcut of that library; TopK does not need it
        beside = path.with_name("config.json")
        if k is None and beside.exists():
            k = json.loads(beside.read_text())["trainer"]["k"]
    else:
        raise ValueError(f"{path} is neither .safetensors nor dictionary_learning's .pt")
    missing = {"encoder.weight", "encoder.bias", "decoder.weight", "b_dec"} - set(state)
    if k is None or missing:
        raise ValueError(f"{path} is not a TopK SAE: it lacks {', '.join(sorted(missing)) or 'k'}")
    m, d = state["encoder.weight"].shape
    sae = TopKSAE(d, m, int(k))
    sae.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return sae.eval().requires_grad_(False)


def released(name: str) -> Path:
    """The file ``ae.pt`` of a dictionary on the hub, with its ``config.json`` beside it.

    Parameters
    ----------
    name : ``id@revision:pattern``; the pattern (``*layer_16_*/trainer_0``) names its folder.

    Raises
    ------
    FileNotFoundError
        If the pattern does not name exactly one folder.
    """
    from huggingface_hub import snapshot_download  # most runs train their own

    repository, _, pattern = name.partition(":")
    model, revision = hub_id(repository)
    folder = ROOT / model
    if not folder.is_dir():
        wanted = [f"{pattern}/ae.pt", f"{pattern}/config.json"]
        folder = Path(snapshot_download(model, revision=revision, allow_patterns=wanted))
    found = sorted(folder.glob(f"{pattern}/ae.pt"))
    if len(found) != 1:
        there = ", ".join(str(p.parent.relative_to(folder)) for p in sorted(folder.rglob("ae.pt"))) or "none"
        raise FileNotFoundError(
            f"sae.pretrained: {pattern!r} names {len(found)} dictionaries of {model}; there: {there}"
        )
    return found[0]


@dataclass(frozen=True)
class SAETraining:
    """How a dictionary is trained (appendix A; the paper's values in brackets).

    Attributes
    ----------
    latents : size of the dictionary (8192).
    k : active latents per patch (25).
    batch : patches per step (8192).
    lr : Adam's learning rate, linear from the last fifth on (3e-4).
    warmup : steps of linear warm-up (1000).
    dead_after : a latent is dead after so many patches without firing (10 million).
    aux_weight : weight of the loss that revives dead latents (1/32).
    dtype : ``float32``, or ``bfloat16`` for the matrix products (bfloat16).
    """

    latents: int
    k: int
    batch: int
    lr: float
    warmup: int
    dead_after: int
    aux_weight: float = 1 / 32
    dtype: str = "float32"


def geometric_median(x: Tensor, steps: int = 30) -> Tensor:
    """The point with the least total distance to the rows of ``x``: ``[n, d]`` to ``[d]`` (Weiszfeld)."""
    point = x.mean(0)
    for _ in range(steps):
        weight = 1 / (x - point).norm(dim=1).clamp_min(1e-6)
        point = (x * weight[:, None]).sum(0) / weight.sum()
    return point


def fvu(x: Tensor, reconstruction: Tensor) -> float:
    """Fraction of variance unexplained: ``sum |x - x_hat|^2 / sum |x - mean(x)|^2``, rows are inputs."""
    return ((x - reconstruction).square().sum() / (x - x.mean(0)).square().sum()).item()


@torch.no_grad()
def quality(sae: TopKSAE, batches: Iterable[Tensor]) -> dict[str, float]:
    """How good a dictionary is on held-out activations, which come in batches ``[n, d]``.

    ``fvu``; ``l0``, latents active per input; ``alive``, latents that fire at all, of ``latents``;
    ``norm``, the mean norm of the inputs, which is the unit of steering coefficients.
    """
    m, d = sae.encoder.weight.shape
    alive = torch.zeros(m, dtype=torch.bool)
    total, squares = torch.zeros(d, dtype=torch.float64), 0.0
    error, active, norm, n = 0.0, 0, 0.0, 0
    for part in batches:
        x = part.to(sae.b_dec.device)
        values, indices = sae.encode_sparse(x)
        error += (x - sae.decode_sparse(values, indices)).double().square().sum().item()
        alive[indices[values > 0].unique().cpu()] = True
        active += int((values > 0).sum())
        norm += x.norm(dim=-1).double().sum().item()
        total += x.double().sum(0).cpu()
        squares += x.double().square().sum().item()
        n += len(x)
    return {
        "fvu": error / (squares - total.square().sum().item() / n),
        "l0": active / n,
        "alive": int(alive.sum()),
        "latents": m,
        "norm": norm / n,
    }


def train_sae(
    batches: Callable[[int], Iterator[Tensor]],
    steps: int,
    recipe: SAETraining,
    folder: Path,
    seed: int,
    every: int = 200,
) -> tuple[TopKSAE, list[dict[str, float]]]:
    """Train a dictionary on a stream of activations.

    Inputs are scaled to unit mean square during training; the scale is folded into the weights at
    the end, so that codes are in the units of the residual stream. Dead latents learn to
    reconstruct what the living leave over (AuxK).

    Parameters
    ----------
    batches : called with a step, yields ``[batch, d]`` tensors from that step on.
    steps : training steps.
    recipe : sizes and rates.
    folder : a checkpoint is kept here, and training resumes from it after a kill.
    seed : of the initial weights.
    every : steps between checkpoints.

    Returns
    -------
    The dictionary, and the log: step, FVU of the batch, dead latents.
    """
    checkpoint, start = folder / "sae-checkpoint.pt", 0
    log: list[dict[str, float]] = []
    state = torch.load(checkpoint, weights_only=True) if checkpoint.exists() else None
    stream = batches(state["step"] if state else 0)
    x = next(stream)
    torch.manual_seed(seed)
    sae = TopKSAE(x.shape[1], recipe.latents, recipe.k)
    if state is None:
        norm = x.square().mean().sqrt().item()
        sae.b_dec.data = geometric_median(x.cpu() / norm)
    sae.to(x.device)
    optim = torch.optim.Adam(sae.parameters(), lr=recipe.lr, betas=(0.9, 0.999))
    quiet = torch.zeros(recipe.latents, dtype=torch.long, device=x.device)  # patches since each latent last fired
    if state:
        sae.load_state_dict(state["sae"])
        optim.load_state_dict(state["optim"])
        norm, start, log = state["norm"], state["step"], json.loads(state["log"])
        quiet = state["quiet"].to(x.device)
    half = recipe.dtype == "bfloat16"
    for step in tqdm(range(start, steps), desc="SAE", mininterval=5, initial=start, total=steps):
        x = (x if step == start else next(stream)) / norm
        rate = min(1.0, (step + 1) / recipe.warmup, (steps - step) / (0.2 * steps))
        for group in optim.param_groups:
            group["lr"] = recipe.lr * rate
        with torch.autocast(x.device.type, torch.bfloat16, enabled=half):
            pre = sae.preactivations(x)
            values, indices = pre.topk(sae.k, dim=-1)
            x_hat = sae.decode(torch.zeros_like(pre).scatter(-1, indices, values)).float()
            quiet += len(x)
            quiet[indices[values > 0].unique()] = 0
            dead = quiet >= recipe.dead_after
            loss = (x - x_hat).square().sum(-1).mean()
            if dead.any():
                loss = loss + recipe.aux_weight * _aux_loss(sae, pre, (x - x_hat).detach(), dead)
        optim.zero_grad()
        loss.backward()
        _remove_parallel_gradient(sae)
        nn.utils.clip_grad_norm_(sae.parameters(), 1.0)
        optim.step()
        sae.decoder.weight.data = nn.functional.normalize(sae.decoder.weight.data, dim=0)
        if step % max(20, steps // 500) == 0 or step + 1 == steps:
            log.append({"step": step, "fvu": fvu(x, x_hat.detach()), "dead": int(dead.sum())})
        if (step + 1) % every == 0 and step + 1 < steps:
            state = {
                "sae": sae.state_dict(),
                "optim": optim.state_dict(),
                "quiet": quiet,
                "norm": norm,
                "step": step + 1,
                "log": json.dumps(log),
            }
            write_atomically(checkpoint, lambda path: torch.save(state, path))
    sae.scale(norm)
    checkpoint.unlink(missing_ok=True)
    return sae.cpu().eval().requires_grad_(False), log


def _aux_loss(sae: TopKSAE, pre: Tensor, residual: Tensor, dead: Tensor) -> Tensor:
    """How badly the dead latents alone reconstruct the residual, relative to its variance."""
    k_aux = min(int(dead.sum()), residual.shape[1] // 2)
    values, indices = pre.masked_fill(~dead, 0).topk(k_aux, dim=-1)
    z = torch.zeros_like(pre).scatter(-1, indices, values)
    error = (residual - sae.decoder(z)).square().sum(-1).mean()
    variance = (residual - residual.mean(0)).square().sum(-1).mean()
    return (error / variance.clamp_min(1e-9)).nan_to_num()


@torch.no_grad()
def _remove_parallel_gradient(sae: TopKSAE) -> None:
    """Keep the decoder's gradient tangent to the unit sphere: its length is not to be learned."""
    weight, grad = sae.decoder.weight, sae.decoder.weight.grad  # [d, m]
    grad -= (grad * weight).sum(0) * weight
