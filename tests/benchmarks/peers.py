"""Trainers of TopK dictionaries, ours and others', behind one face: a step, and a reconstruction.

Each is built with the same size, learning rate, warm-up, decay over the last fifth, and time until a latent is dead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import NamedTuple

import torch
from torch import Tensor

from lib.dictionary import geometric_median
from lib.sae import TopKSAE
from lib.topk_step import TopKStep
from tests.benchmarks.plain import DenseStep
from tests.benchmarks.timing import version_of


@dataclass(frozen=True)
class Shape:
    """A dictionary of ``m`` latents, ``k`` of them active, on a stream ``d`` wide, and how it is trained."""

    d: int
    m: int
    k: int
    batch: int
    steps: int
    lr: float
    dead_after: int

    @property
    def warmup(self) -> int:
        return max(1, self.steps // 10)

    def rate(self, step: int) -> float:
        return min(1.0, (step + 1) / self.warmup, max(0.0, self.steps - step) / (0.2 * self.steps))


class Trainer(NamedTuple):
    """``step`` trains on ``[n, d]``; ``code`` gives a reconstruction ``[n, d]`` and which latents are active."""

    step: Callable[[Tensor], object]
    code: Callable[[Tensor], tuple[Tensor, Tensor]]


def own(kind: type[TopKStep], dtype: str = "float32") -> Callable[[Shape, Tensor], Trainer]:
    """Our step, or the dense one."""

    def build(s: Shape, x: Tensor) -> Trainer:
        torch.manual_seed(0)
        sae, done = TopKSAE(s.d, s.m, s.k), [0]
        sae.b_dec.data = geometric_median(x)
        trainer = kind(sae, s.dead_after, 1 / 32, dtype)

        def step(x: Tensor) -> None:
            trainer.step(x, s.lr * s.rate(done[0]))
            done[0] += 1

        return Trainer(step, lambda x: (sae(x), sae.encode(x) > 0))

    return build


def dictionary_learning(s: Shape, x: Tensor) -> Trainer:
    """Its TopKTrainer, which starts from the geometric median as ours does."""
    from dictionary_learning.trainers.top_k import TopKTrainer

    trainer = TopKTrainer(
        steps=s.steps, activation_dim=s.d, dict_size=s.m, k=s.k, layer=0, lm_name="", lr=s.lr, seed=0,
        warmup_steps=s.warmup, decay_start=max(s.warmup + 1, int(0.8 * s.steps)), device="cpu",
    )  # fmt: skip
    trainer.dead_feature_threshold = s.dead_after
    trainer.ae.b_dec.data = geometric_median(x)
    done = [0]

    def step(x: Tensor) -> None:
        done[0] += 1  # from 1: its step 0 computes the median again
        trainer.update(done[0], x)

    return Trainer(step, lambda x: (trainer.ae(x), trainer.ae.encode(x) > 0))


def overcomplete(s: Shape, x: Tensor) -> Trainer:
    """Its TopKSAE in its own training loop, with the plain error as loss: its own AuxK is another one, and slower."""
    from overcomplete.sae import TopKSAE as Theirs
    from overcomplete.sae import train_sae

    torch.manual_seed(0)
    model = Theirs(s.d, nb_concepts=s.m, top_k=s.k)
    optim = torch.optim.Adam(model.parameters(), lr=s.lr)
    schedule = torch.optim.lr_scheduler.LambdaLR(optim, s.rate)

    def step(x: Tensor) -> None:
        train_sae(model, [x], lambda x, x_hat, *_: (x - x_hat).square().mean(), optim, schedule, 1, 1.0, monitoring=0)

    def code(x: Tensor) -> tuple[Tensor, Tensor]:
        model.eval()
        _, z, x_hat = model(x)
        return x_hat, z > 0

    return Trainer(step, code)


def sae_lens(s: Shape, x: Tensor, sparse: bool = False) -> Trainer:
    """Its TopKTrainingSAE in its SAETrainer, with dense codes or with its sparse ones."""
    from sae_lens import TopKTrainingSAE, TopKTrainingSAEConfig
    from sae_lens.config import SAETrainerConfig
    from sae_lens.training.sae_trainer import SAETrainer

    torch.manual_seed(0)
    sae = TopKTrainingSAE(TopKTrainingSAEConfig(d_in=s.d, d_sae=s.m, k=s.k, use_sparse_activations=sparse))
    sae.b_dec.data = geometric_median(x)
    config = SAETrainerConfig(
        total_training_samples=s.steps * s.batch, train_batch_size_samples=s.batch, lr=s.lr, lr_end=s.lr / 10,
        lr_warm_up_steps=s.warmup, lr_decay_steps=s.steps // 5, dead_feature_window=max(1, s.dead_after // s.batch),
    )  # fmt: skip
    trainer = SAETrainer(config, sae, iter(()))

    def step(x: Tensor) -> None:
        trainer.step(x)
        trainer.n_training_steps += 1

    def code(x: Tensor) -> tuple[Tensor, Tensor]:
        z = sae.encode(x)
        return sae.decode(z), (z.to_dense() if z.is_sparse else z) > 0

    return Trainer(step, code)


OWN: dict[str, Callable[[Shape, Tensor], Trainer]] = {
    "ours": own(TopKStep),
    "ours, bfloat16": own(TopKStep, "bfloat16"),
    "plain dense step": own(DenseStep),
}
OTHERS: dict[str, Callable[[Shape, Tensor], Trainer]] = {
    f"dictionary-learning {version_of('dictionary-learning')}": dictionary_learning,
    f"overcomplete {version_of('overcomplete')}": overcomplete,
    f"sae-lens {version_of('sae-lens')}": sae_lens,
    f"sae-lens {version_of('sae-lens')}, sparse codes": partial(sae_lens, sparse=True),
}
