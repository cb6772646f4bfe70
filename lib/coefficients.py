"""How strong a push? The coefficient of every steered method, chosen on latents that report nothing (section 4.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import ClassVar

import pandas as pd

from lib.evidence import Active
from lib.explain import Explanations, Variation
from lib.judges import Segmenter
from lib.overlap import mean_ious
from lib.stage import Stage
from lib.store import write_json, write_table
from lib.vlm import VLM

DOUBLINGS = 3  # how often a grid grows at an end where the best value lies


@dataclass(frozen=True)
class Choice(Stage):
    """The coefficient with the highest mean IoU on the validation latents, for one method and explainer.

    Where the best value lies at an end of the grid, the grid grows there by doubling (or halving), so that no choice is
    what happened to be tried last; after three times it stays, and :attr:`at_end` says so.

    Attributes
    ----------
    explanations : where the explanations with every coefficient are kept.
    variation : what is asked, but for the coefficient.
    grid : the coefficients tried at first.
    active : knows the validation latents, and the held-out top images that they are judged on.
    segmenter : finds what an explanation names.
    k : held-out top images used.
    """

    title: ClassVar[str] = "coefficient"
    notebook: ClassVar[str] = "04"
    explanations: Explanations
    variation: Variation
    grid: tuple[float, ...]
    active: Active
    segmenter: Segmenter
    k: int

    @property
    def files(self) -> list[str]:
        """The choice, and what it was made from."""
        return ["sweep.parquet", "coefficient.json"]

    def at(self, coefficient: float) -> Variation:
        """The variation with a coefficient."""
        return replace(self.variation, method=self.variation.method.at(coefficient))

    @cached_property
    def sweep(self) -> pd.DataFrame:
        """The whole sweep: ``method, coefficient, latent, explanation, iou``."""
        return self.read("sweep.parquet")

    @property
    def tried(self) -> tuple[float, ...]:
        """All coefficients that were tried, in order."""
        return tuple(sorted(set(self.sweep.coefficient)))

    @cached_property
    def best(self) -> float:
        """The coefficient that was chosen."""
        return float(self.read("coefficient.json"))

    @property
    def at_end(self) -> bool:
        """Whether the best coefficient is the smallest or the largest that was tried, although the grid grew."""
        return self.best in (self.tried[0], self.tried[-1])


def means(sweep: pd.DataFrame) -> pd.Series:
    """Mean IoU of each coefficient, in order."""
    return sweep.groupby("coefficient", sort=True).iou.mean()


def beyond(sweep: pd.DataFrame) -> list[float]:
    """The coefficient that a sweep lacks, if its best one lies at an end: half the smallest, or twice the largest."""
    mean = means(sweep)
    best = float(mean.idxmax())
    return [best / 2] if best == mean.index[0] else [2 * best] if best == mean.index[-1] else []


def choose(choices: Sequence[Choice], load: Callable[[], VLM]) -> pd.DataFrame:
    """Explain the validation latents with every coefficient of every method, and keep the best; returns the sweeps.

    The choices share latents and judge. They are scored together, since a segmenter that embeds pictures then embeds
    each of them once.

    Parameters
    ----------
    load : gives the explainer.
    """
    new = [choice for choice in choices if not choice.made]
    sweeps: list[pd.DataFrame] = [pd.DataFrame() for _ in new]
    todo = [list(choice.grid) for choice in new]
    for _ in range(1 + DOUBLINGS):
        if not any(todo):
            break
        more = _swept(new, todo, load)
        sweeps = [pd.concat([old, part], ignore_index=True) for old, part in zip(sweeps, more)]
        todo = [beyond(sweep) if part else [] for sweep, part in zip(sweeps, todo)]
    for choice, sweep in zip(new, sweeps):
        with choice.making():
            write_table(choice.path("sweep.parquet"), sweep)
            write_json(choice.path("coefficient.json"), float(means(sweep).idxmax()))
    return pd.concat([choice.sweep for choice in choices], ignore_index=True)


def _swept(choices: Sequence[Choice], grids: Sequence[list[float]], load: Callable[[], VLM]) -> list[pd.DataFrame]:
    """Each choice's validation latents under some coefficients, judged: ``method, coefficient, latent...``."""
    first = choices[0]
    latents = first.active.latents["validation"]
    asked = [[choice.at(c) for c in grid] for choice, grid in zip(choices, grids)]
    first.explanations.make([v for variations in asked for v in variations], latents, load)
    said = [
        choice.explanations.table(v, latents).assign(choice=number)
        for number, (choice, variations) in enumerate(zip(choices, asked))
        for v in variations
    ]
    table = pd.concat(said, ignore_index=True)[["choice", "method", "coefficient", "latent", "explanation"]]
    table["iou"] = mean_ious(table, [(first.active.held_out.top, first.segmenter, range(first.k))])
    return [table[table.choice == n].drop(columns="choice").reset_index(drop=True) for n in range(len(choices))]
