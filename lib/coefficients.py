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


@dataclass(frozen=True)
class Choice(Stage):
    """The coefficient with the highest mean IoU on the validation latents, for one method and explainer.

    Attributes
    ----------
    explanations : where the explanations with every coefficient are kept.
    variation : what is asked, but for the coefficient.
    grid : the coefficients tried.
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

    @property
    def tries(self) -> list[Variation]:
        """The variation with every coefficient."""
        return [replace(self.variation, method=self.variation.method.at(c)) for c in self.grid]

    @cached_property
    def sweep(self) -> pd.DataFrame:
        """The whole sweep: ``method, coefficient, latent, explanation, iou``."""
        return self.read("sweep.parquet")

    @cached_property
    def best(self) -> float:
        """The coefficient that was chosen."""
        return float(self.read("coefficient.json"))


def choose(choices: Sequence[Choice], load: Callable[[], VLM]) -> pd.DataFrame:
    """Explain the validation latents with every coefficient of every method, and keep the best; returns the sweeps.

    The choices share latents and judge. They are scored together, since a segmenter that embeds pictures then embeds
    each of them once.

    Parameters
    ----------
    load : gives the explainer.
    """
    new = [choice for choice in choices if not choice.made]
    if new:
        first, tables = new[0], []
        latents = first.active.latents["validation"]
        first.explanations.make_all([(v, latents) for choice in new for v in choice.tries], load)
        for choice in new:
            said = [choice.explanations.table(v, latents) for v in choice.tries]
            tables.append(pd.concat(said, ignore_index=True)[["method", "coefficient", "latent", "explanation"]])
        table = pd.concat(tables, ignore_index=True)
        table["iou"] = mean_ious(table, [(first.active.held_out.top, first.segmenter, range(first.k))])
        for choice in new:
            own = table[table.method == choice.variation.method.key].reset_index(drop=True)
            with choice.making():
                write_table(choice.path("sweep.parquet"), own)
                mean = own.groupby("coefficient", sort=True).iou.mean()
                write_json(choice.path("coefficient.json"), float(mean.idxmax()))
    return pd.concat([choice.sweep for choice in choices], ignore_index=True)
