"""Train a dictionary, or take a released one (appendix A): the stage that notebook 02 makes."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import torch
from torch import Tensor
from tqdm import tqdm

from lib.activations import Pool, ShuffledActivations, activations
from lib.device import DEVICE
from lib.hub import Asset
from lib.identity import NOT_PART
from lib.images import ImageSet
from lib.ranges import Count, Positive, Precision, Some, Weight
from lib.sae import TopKSAE, fvu, judgement, load_dictionary, load_sae, quality
from lib.spread import spread
from lib.stage import Stage
from lib.store import Damaged, read, short, write_atomically, write_json
from lib.topk_step import TopKStep
from lib.vlm import VLM, Checkpoint


@dataclass(frozen=True)
class Recipe:
    """How a dictionary comes to be (appendix A; the paper's values in brackets).

    Attributes
    ----------
    latents : size of the dictionary (8192).
    k : active latents per patch (25).
    pretrained : a released dictionary to use instead of training: ``id@revision:pattern`` of its folder, or a local
        one, in dictionary_learning's format.
    batch : patches per step (8192).
    lr : Adam's learning rate, linear from the last fifth on (3e-4).
    warmup : steps of linear warm-up (1000).
    dead_after : a latent is dead after so many patches without firing (10 million).
    aux_weight : weight of the loss that revives dead latents (1/32).
    buffer : activations shuffled together.
    dtype : of the matrix products (bfloat16).
    seed : tells dictionaries of one run apart: their initial weights, and the order in which they see patches.
    checkpoint : steps between checkpoints.
    """

    latents: Some
    k: Some
    pretrained: Asset | None = None
    batch: Some = 1024
    lr: Positive = 1e-3
    warmup: Some = 50
    dead_after: Some = 100_000
    aux_weight: Weight = 1 / 32
    buffer: Some = 131_072
    dtype: Precision = "float32"
    seed: Count = 0
    checkpoint: Some = field(default=200, metadata=NOT_PART)


@dataclass(frozen=True)
class Dictionary(Stage):
    """A dictionary of features with its quality on held-out pictures.

    Attributes
    ----------
    subject : the encoder, and the layer that is studied.
    train : pictures to train on; None for a released dictionary.
    held_out : pictures on which its quality is measured.
    recipe : how it comes to be.
    seed : of weights and shuffling, with the recipe's.
    """

    title: ClassVar[str] = "dictionary"
    notebook: ClassVar[str] = "02"
    subject: Checkpoint
    train: ImageSet | None
    held_out: ImageSet
    recipe: Recipe
    seed: int

    def make(self, vlm: VLM) -> None:
        """Train, or load, and measure; unless it is there."""
        if self.made:
            return
        with self.making():
            self.train_or_load(vlm)
        if word := judgement(self.report):
            warnings.warn(word, stacklevel=2)

    def train_or_load(self, vlm: VLM, pool: Pool | None = None) -> None:
        """Write weights, log and report; goes on where it was stopped.

        Parameters
        ----------
        pool : keeps activations for other dictionaries of this encoder.
        """
        path, recipe = self.path("sae.safetensors"), self.recipe
        if path.exists() and (old := self.path("log.json")).exists():  # trained, but its report is lost
            sae, log = load_sae(path), read(old)
        elif recipe.pretrained:
            sae, log = load_dictionary(recipe.pretrained, self.subject, vlm.width, recipe.latents, recipe.k), []
        else:
            size, dtype = self.subject.batch, getattr(torch, recipe.dtype)
            seed = self.seed + 7919 * recipe.seed  # far from the seeds of other runs
            stream = ShuffledActivations(vlm, self.train, recipe.batch, size, recipe.buffer, seed, dtype, pool)
            sae, log = train_sae(stream.batches, len(stream), recipe, self.folder, seed)
        seen = activations(vlm, self.held_out, range(len(self.held_out)), self.subject.batch, pool)
        sae.save(path)
        write_json(self.path("log.json"), log)
        write_json(self.path("report.json"), {**quality(sae.to(DEVICE), seen), "log": log})

    @property
    def files(self) -> list[str]:
        """The weights, and what is known of them."""
        return ["sae.safetensors", "report.json"]

    @cached_property
    def sae(self) -> TopKSAE:
        """The dictionary, ready to use."""
        return load_sae(self.need("sae.safetensors")).to(DEVICE)

    @cached_property
    def report(self) -> dict[str, Any]:
        """Quality on held-out activations, the residual stream's mean norm, and the training log."""
        found = self.read("report.json")
        if not isinstance(found, dict) or not {"fvu", "norm", "log"} <= set(found):
            raise Damaged(f"{short(self.path('report.json'))} is no report of a dictionary. Remove it and run again")
        return found


def make_all(dictionaries: Sequence[Dictionary], load: Callable[[], VLM]) -> None:
    """Make dictionaries of one encoder; what it says of pictures is shared by those that learn from them.

    Parameters
    ----------
    load : gives the subject; called only if there is something to make.
    """
    new = tuple(one for one in dictionaries if not one.made)
    if len(new) < 2:  # here, where its progress is seen
        for one in new:
            one.make(load())
        return
    with ExitStack() as stack:
        for one in new:
            stack.enter_context(one.making())
        for number in spread(Train(new), range(len(new)), load, "dictionaries"):
            if word := judgement(new[number].report):
                warnings.warn(word, stacklevel=2)


@dataclass(frozen=True)
class Train:
    """Training dictionaries of one encoder; a shard is the number of one, as each of its steps needs the one before.

    Attributes
    ----------
    dictionaries : each is written to its own folder.
    """

    dictionaries: tuple[Dictionary, ...]

    @property
    def model(self) -> Checkpoint:
        """The subject."""
        return self.dictionaries[0].subject

    @cached_property
    def _pool(self) -> Pool:
        return Pool()

    def __call__(self, shard: int, load: Callable[[], VLM]) -> int:
        """The number of the dictionary, which has been made."""
        self.dictionaries[shard].train_or_load(load(), self._pool)
        return shard


def geometric_median(x: Tensor, steps: int = 30) -> Tensor:
    """The point with the least total distance to the rows of ``x``: ``[n, d]`` to ``[d]`` (Weiszfeld)."""
    point = x.mean(0)
    for _ in range(steps):
        weight = 1 / (x - point).norm(dim=1).clamp_min(1e-6)
        point = (x * weight[:, None]).sum(0) / weight.sum()
    return point


def train_sae(
    batches: Callable[[int], Iterator[Tensor]],
    steps: int,
    recipe: Recipe,
    folder: Path,
    seed: int,
) -> tuple[TopKSAE, list[dict[str, float]]]:
    """Train a dictionary on a stream of activations.

    Inputs are scaled to unit mean squared *norm* during training, as in the published recipe: the loss is then a share
    of the whole, beside which the weight of AuxK means what it says, and gradients are seldom clipped. The scale is
    folded into the weights at the end, so that codes are in the units of the residual stream. Dead latents learn to
    reconstruct what the living leave over (AuxK).

    Parameters
    ----------
    batches : called with a step, yields ``[batch, d]`` tensors from that step on.
    steps : training steps.
    recipe : sizes and rates.
    folder : a checkpoint is kept here, and training resumes from it after a kill.
    seed : of the initial weights.

    Returns
    -------
    The dictionary, and the log: step, FVU of the batch, dead latents.
    """
    checkpoint, start = folder / "sae-checkpoint.pt", 0
    log: list[dict[str, float]] = []
    state = _resumed(checkpoint)
    stream = batches(state["step"] if state else 0)
    x = next(stream)
    torch.manual_seed(seed)
    sae = TopKSAE(x.shape[1], recipe.latents, recipe.k)
    if state is None:
        norm = x.square().sum(1).mean().sqrt().item()
        sae.b_dec.data = geometric_median(x.cpu() / norm)
    sae.to(x.device)
    trainer = TopKStep(sae, recipe.dead_after, recipe.aux_weight, recipe.dtype)
    if state:
        sae.load_state_dict(state["sae"])
        trainer.optim.load_state_dict(state["optim"])
        norm, start, log = state["norm"], state["step"], json.loads(state["log"])
        trainer.quiet.copy_(state["quiet"])
    for step in tqdm(range(start, steps), desc="SAE", mininterval=5, initial=start, total=steps):
        x = (x if step == start else next(stream)) / norm
        rate = min(1.0, (step + 1) / recipe.warmup, (steps - step) / (0.2 * steps))
        x_hat = trainer.step(x, recipe.lr * rate)
        if step % max(20, steps // 500) == 0 or step + 1 == steps:
            log.append({"step": step, "fvu": fvu(x, x_hat), "dead": len(trainer.dead)})
        if (step + 1) % recipe.checkpoint == 0 and step + 1 < steps:
            state = {
                "sae": sae.state_dict(),
                "optim": trainer.optim.state_dict(),
                "quiet": trainer.quiet,
                "norm": norm,
                "step": step + 1,
                "log": json.dumps(log),
            }
            write_atomically(checkpoint, lambda path: torch.save(state, path))
    sae.scale(norm)
    checkpoint.unlink(missing_ok=True)
    return sae.cpu().eval().requires_grad_(False), log


def _resumed(checkpoint: Path) -> dict[str, Any] | None:
    if not checkpoint.exists():
        return None
    try:
        return torch.load(checkpoint, weights_only=True)
    except (RuntimeError, EOFError, OSError, ValueError) as error:
        raise Damaged(f"{short(checkpoint)} is damaged: remove it, and training starts anew ({error})") from error
