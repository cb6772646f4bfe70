"""One training loop for everything trained here: seeded, logged, resumable after a kill."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader
from tqdm import tqdm

from lib.device import quick_half
from lib.store import write_atomically


@dataclass
class Ahead:
    """Batches that are drawn in a process of their own while the model learns from those before.

    Attributes
    ----------
    make : from a step to its batch.
    steps : how many there are.
    """

    make: Callable[[int], Any]
    steps: int
    _next: int = -1
    _stream: Iterator[Any] = field(default_factory=lambda: iter(()))

    def __getitem__(self, step: int) -> Any:
        return self.make(step)

    def of(self, step: int) -> Any:
        """The batch of a step; quick for the steps that follow."""
        if step != self._next:  # a resumed run starts anywhere
            rest = range(step, self.steps)
            self._stream = iter(DataLoader(self, batch_size=None, sampler=rest, num_workers=1, prefetch_factor=4))
        self._next = step + 1
        return next(self._stream)


def optimisers(model: nn.Module, lr: float, weight_decay: float = 0.05) -> list[torch.optim.Optimizer]:
    """Muon for the matrices inside a transformer, AdamW for everything else.

    Muon's update of a matrix has the root mean square of AdamW's, so one learning rate serves both.
    """
    hidden, rest = [], []
    for name, parameter in model.named_parameters():
        if parameter.requires_grad:
            inside = parameter.ndim == 2 and ("layer" in name or "resblocks" in name)
            (hidden if inside else rest).append(parameter)
    out: list[torch.optim.Optimizer] = []
    if rest:
        out.append(torch.optim.AdamW(rest, lr=lr, betas=(0.9, 0.98), weight_decay=weight_decay))
    if hidden:
        out.append(
            torch.optim.Muon(hidden, lr=lr, momentum=0.95, weight_decay=weight_decay, adjust_lr_fn="match_rms_adamw")
        )
    return out


def _quick_products() -> AbstractContextManager:
    """Muon's products are in bfloat16, which takes thirty times as long on a processor without units for it."""
    return nullcontext() if quick_half("cpu") else patch.object(Tensor, "bfloat16", Tensor.float)


def schedule(step: int, steps: int, warmup: int) -> float:
    """Learning-rate factor: linear warm-up, then half a cosine down to 2 %."""
    if step < warmup:
        return (step + 1) / warmup
    return 0.02 + 0.98 * 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1, steps - warmup)))


def fit(
    model: nn.Module,
    loss: Callable[[int], tuple[Tensor, dict[str, float]]],
    *,
    steps: int,
    lr: float,
    folder: Path,
    name: str,
    warmup: int = 100,
    every: int = 250,
) -> list[dict[str, float]]:
    """Train ``model`` in place and return its log.

    A checkpoint and the log are written to ``folder`` every ``every`` steps; a second call with the
    same folder goes on from there, and returns at once when training had ended.

    Parameters
    ----------
    model : trained in place; parameters that do not require gradients stay as they are.
    loss : from the step's index to the loss and the figures to log. It must derive its data from
        the index alone, so that a resumed run sees what an unbroken one would have seen.
    steps, lr, warmup : length, peak learning rate, and steps of linear warm-up.
    folder, name : where the checkpoint is kept, and what the progress bar says.

    Raises
    ------
    FloatingPointError
        If the loss is not finite; the last checkpoint is kept.
    """
    checkpoint = folder / f"{name}.pt"
    optims = optimisers(model, lr)
    first, log = 0, []
    if checkpoint.exists():
        state = torch.load(checkpoint, weights_only=True)
        model.load_state_dict(state["model"])
        for optim, saved in zip(optims, state["optims"]):
            optim.load_state_dict(saved)
        first, log = state["step"], json.loads(state["log"])
    model.train()
    started = time.perf_counter() - (log[-1]["seconds"] if log else 0.0)
    bar = tqdm(range(first, steps), initial=first, total=steps, desc=name, mininterval=5)
    for step in bar:
        for optim in optims:
            for group in optim.param_groups:
                group["lr"] = lr * schedule(step, steps, warmup)
        value, figures = loss(step)
        if not torch.isfinite(value):
            raise FloatingPointError(
                f"{name}: loss is {value.item()} at step {step}; lower the learning rate "
                f"and delete {checkpoint} to start over"
            )
        for optim in optims:
            optim.zero_grad(set_to_none=True)
        value.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        with _quick_products():
            for optim in optims:
                optim.step()
        if step % 25 == 0 or step + 1 == steps:
            seconds = round(time.perf_counter() - started, 1)
            log.append({"step": step, "loss": round(value.item(), 4), "seconds": seconds, **figures})
            bar.set_postfix(log[-1], refresh=False)
        if (step + 1) % every == 0 or step + 1 == steps:
            state = {"model": model.state_dict(), "optims": [o.state_dict() for o in optims]}
            state |= {"step": step + 1, "log": json.dumps(log)}
            write_atomically(checkpoint, lambda path: torch.save(state, path))
    model.eval()
    return log
