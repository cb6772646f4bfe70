"""TopK sparse autoencoders on the residual stream of a vision encoder (section 2, Eq. 1 and 2)."""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterable
from pathlib import Path
from pickle import UnpicklingError
from typing import TYPE_CHECKING, Any

import torch
from safetensors import safe_open
from torch import Tensor, nn

from lib.hub import Asset
from lib.store import Damaged, read, short, write_tensors

if TYPE_CHECKING:
    from lib.vlm import Checkpoint


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
        directions = nn.functional.normalize(torch.randn(d, m), dim=0).T.contiguous()
        # A direction lies in one piece of memory: that is what decoding, training and steering read.
        self.decoder.weight.data = directions.T
        self.encoder.weight.data = directions.clone()
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
        rows, weights = indices.reshape(-1, self.k), values.reshape(-1, self.k)
        out = nn.functional.embedding_bag(rows, self.decoder.weight.T, per_sample_weights=weights, mode="sum")
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
        return write_tensors(path, self.state_dict(), {"k": str(self.k)})


def load_sae(path: Path) -> TopKSAE:
    """Load a dictionary of ours: safetensors, as :meth:`TopKSAE.save` writes them.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    Damaged
        If it cannot be read.
    ValueError
        If it is no TopK dictionary.
    """
    if not path.exists():
        raise FileNotFoundError(f"no SAE at {path}; train one with ./run_all.sh --only 02")
    state = read(path)
    with safe_open(path, "pt") as file:
        k = (file.metadata() or {}).get("k")
    return _topk(path, state, k)


def load_dictionary(asset: Asset, subject: Checkpoint, width: int, latents: int, k: int) -> TopKSAE:
    """Load a dictionary that others trained, if it is what the profile says it is.

    Parameters
    ----------
    asset : the file ``ae.pt`` or ``sae.safetensors``, or a folder or hub repository that holds it; where that holds
        several, a pattern of the one's folder after a colon (``id@revision:*layer_16_*/trainer_0``).
    subject : the encoder and the layer that it is to describe.
    width : of that encoder's residual stream.
    latents, k : size of the dictionary, and latents active at a time, that are expected.

    Raises
    ------
    FileNotFoundError
        If the name does not mean exactly one dictionary.
    Damaged
        If its file cannot be read.
    ValueError
        If it is of a kind that is not TopK, or was made for something else than ``subject``.
    """
    path = _find(asset)
    beside = path.with_name("config.json")
    trainer = dict(read(beside).get("trainer") or {}) if beside.exists() else {}
    sae = load_sae(path) if path.suffix == ".safetensors" else _load_released(path, trainer)
    m, d = sae.encoder.weight.shape
    layer = trainer.get("layer")
    for what, said, found, asked, key in (
        ("layer", layer, layer, subject.layer, "subject.layer"),
        ("width", trainer.get("activation_dim"), d, width, "subject.model"),
        ("latents", trainer.get("dict_size"), m, latents, "sae.latents"),
        ("k", trainer.get("k"), sae.k, k, "sae.k"),
    ):
        if said is not None and str(said) != str(found):
            raise ValueError(f"{short(beside)} says {what} {said}, but the weights beside it have {found}")
        if found is not None and str(found) != str(asked):
            raise ValueError(f"sae.pretrained: {asset} has {what} {found}, not {asked}: change {key}, or take another")
    _compare_models(str(trainer.get("lm_name") or ""), subject.model)
    return _unit_directions(path, sae)


def _find(asset: Asset) -> Path:
    """The file of a dictionary."""
    names = ("ae.pt", "sae.safetensors")
    if asset.local or asset.part:
        wanted = [f"{asset.part}/{name}" for name in (*names, "config.json")]
        folder, pattern = asset.fetch(*wanted), asset.part or "**"
    else:  # which there are is seen from their small files
        folder, pattern = asset.fetch("config.json", "*/config.json"), "**"
        only = [path.parent.relative_to(folder) for path in folder.rglob("config.json")]
        if len(only) == 1:
            asset.fetch(*((only[0] / name).as_posix() for name in names))
    if folder.is_file():
        return folder
    found = [path for name in names for path in sorted(folder.glob(f"{pattern}/{name}"))]
    if len(found) == 1:
        return found[0]
    there = sorted({str(p.parent.relative_to(folder)) for name in (*names, "config.json") for p in folder.rglob(name)})
    raise FileNotFoundError(
        f"sae.pretrained: {asset.part or 'no pattern'!r} names {len(found)} dictionaries of {asset.id}; name one after "
        f"a colon; there: {', '.join(there) or 'none'}"
    )


# What tells the dictionaries of dictionary_learning apart, where nothing says which they are.
_OTHERS = {"bias": "AutoEncoder (ReLU)", "r_mag": "GatedAutoEncoder", "W_enc": "JumpReluAutoEncoder or Matryoshka"}


def _load_released(path: Path, trainer: dict[str, Any]) -> TopKSAE:
    """A dictionary of dictionary_learning (``ae.pt``, never unpickled), of which ``trainer`` says what it is."""
    try:
        state = dict(torch.load(path, map_location="cpu", weights_only=True))
    except (RuntimeError, UnpicklingError, EOFError, TypeError, ValueError) as error:
        why = " ".join(str(error).split())[:200]
        raise Damaged(f"{path} holds no weights that could be read (it is never unpickled): {why}") from error
    kind = trainer.get("dict_class") or next((name for key, name in _OTHERS.items() if key in state), None)
    if kind not in (None, "AutoEncoderTopK"):
        raise ValueError(
            f"{path} is a dictionary of class {kind}, whose codes are not the k largest: use AutoEncoderTopK"
        )
    # BatchTopK and TopK have the same weights; both learn a threshold, which only BatchTopK encodes with.
    threshold = state.pop("threshold", None)
    if kind is None and threshold is not None and threshold >= 0:
        raise ValueError(
            f"{path} may be a BatchTopKSAE, which encodes with its threshold ({float(threshold):.3g}), or an "
            "AutoEncoderTopK: put the config.json that was published with it beside it"
        )
    return _topk(path, state, state.pop("k", trainer.get("k")))


def _topk(path: Path, state: dict[str, Tensor], k: Any) -> TopKSAE:
    wanted = {"encoder.weight", "encoder.bias", "decoder.weight", "b_dec"}
    odd = [f"lacks {name}" for name in sorted(wanted - set(state))] + [f"has {n}" for n in sorted(set(state) - wanted)]
    if k is None or odd:
        raise ValueError(f"{path} is not a TopK SAE: it {', '.join(odd) or 'lacks k'}")
    if not all(tensor.isfinite().all() for tensor in state.values()):
        raise Damaged(f"{path} holds weights that are not numbers")
    m, d = state["encoder.weight"].shape
    sae = TopKSAE(d, m, int(k))
    sae.load_state_dict({name: tensor.float() for name, tensor in state.items()})
    return sae.eval().requires_grad_(False)


def _unit_directions(path: Path, sae: TopKSAE) -> TopKSAE:
    """Directions of another length than 1 become unit directions, and codes take their length: sums stay the same.

    Refused where lengths differ among latents: with codes rescaled, others would be the k largest.
    """
    lengths = sae.directions.norm(dim=1)
    length, span = lengths.mean(), f"{lengths.min():.3g} to {lengths.max():.3g}"
    if not ((lengths / length - 1).abs() < 0.01).all():
        raise ValueError(f"{path}: directions differ in length ({span}): codes cannot be made lengths in the stream")
    if abs(length - 1) > 0.01:  # within that, it is half precision's rounding
        sae.decoder.weight.div_(length)
        sae.encoder.weight.mul_(length)
        sae.encoder.bias.mul_(length)
    return sae


def _compare_models(made_for: str, model: Asset) -> None:
    """Say so where a dictionary was made for another size of the same family; refuse another family."""
    if not made_for or made_for == model.id:
        return
    on_hub = not model.looks_local and re.fullmatch(r"[\w.-]+/[\w.-]+", made_for)
    if on_hub and _family(made_for) != _family(model.id):
        raise ValueError(f"sae.pretrained was made for {made_for}, and subject.model is {model}: another encoder")
    told = f"the dictionary was made for {made_for} and is used with {model.id}: right only if both share their encoder"
    warnings.warn(told, stacklevel=3)


def _family(model: str) -> str:
    """``gemma-3`` of ``google/gemma-3-27b-it``: a name without owner, size and kind of training."""
    words = model.rpartition("/")[2].lower().split("-")
    return "-".join(w for w in words if w not in ("it", "pt", "instruct", "hf") and not re.fullmatch(r"[\d.]+[bm]", w))


def judgement(report: dict[str, Any]) -> str | None:
    """A sentence on a dictionary's quality as :func:`quality` reports it; None if there is nothing to say."""
    fvu = report["fvu"]
    if fvu < 0.9:
        return None
    return (
        f"The dictionary reconstructs these activations {'worse' if fvu > 1 else 'hardly better'} than their mean does "
        f"(FVU {fvu:.2f}): made for another layer or model, or trained too little, it describes nothing here."
    )


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
