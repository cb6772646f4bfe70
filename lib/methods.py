"""The methods that are compared, each under its name (section 3).

They differ in two things alone: which pictures the model looks at, and whether its encoder is steered meanwhile.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, NamedTuple

Mode = Literal["masks", "heatmaps"]
MODES: tuple[Mode, ...] = ("masks", "heatmaps")


@dataclass(frozen=True)
class Method:
    """One way to ask for an explanation.

    Attributes
    ----------
    evidence : ``blank`` (a white image), or the top images under ``masks`` or ``heatmaps``.
    steer : ``add`` the feature's direction, ``replace`` the residual stream by it, or None.
    coefficient : length of the added vector, in units of the residual stream's mean norm.
    """

    evidence: Literal["blank", "masks", "heatmaps"]
    steer: Literal["add", "replace"] | None = None
    coefficient: float = 0.0

    @property
    def family(self) -> str:
        """The paper's name of the method."""
        if self.evidence == "blank":
            return "Steering" if self.steer else "No intervention"
        return "Steering-informed Top-k" if self.steer else "Top-k"

    @property
    def short(self) -> str:
        """The family's name in tables of differences."""
        return "hybrid" if self.family == "Steering-informed Top-k" else self.family

    @property
    def key(self) -> str:
        """Short name for files and tables: ``steering-add``, ``top-k-masks``, ``hybrid-masks-add``..."""
        stem = {"Steering": "steering", "Top-k": f"top-k-{self.evidence}", "No intervention": "blank"}.get(
            self.family, f"hybrid-{self.evidence}"
        )
        return f"{stem}-{self.steer}" if self.steer else stem

    @property
    def label(self) -> str:
        """Name for an axis: method, evidence, kind of intervention."""
        shown = [self.evidence] if self.evidence != "blank" else []
        return ", ".join([self.family, *shown, *([self.steer] if self.steer else [])])

    def at(self, coefficient: float) -> Method:
        """The same with a coefficient."""
        return replace(self, coefficient=coefficient)


class Steering(NamedTuple):
    """A white image; the direction at every position."""

    add: Method = Method("blank", "add")
    replace: Method = Method("blank", "replace")


class TopK(NamedTuple):
    """The top images."""

    masks: Method = Method("masks")
    heatmaps: Method = Method("heatmaps")


class Hybrid(NamedTuple):
    """The top images; the direction where the latent is active."""

    masks_add: Method = Method("masks", "add")
    masks_replace: Method = Method("masks", "replace")
    heatmaps_add: Method = Method("heatmaps", "add")
    heatmaps_replace: Method = Method("heatmaps", "replace")


NOTHING = Method("blank")
STEERING, TOP_K, HYBRID = Steering(), TopK(), Hybrid()
STEERED = (*STEERING, *HYBRID)
COMPARED = (*STEERING, *TOP_K, *HYBRID)  # rows of Table 1, in the paper's order
PUBLISHED = tuple(m for m in COMPARED if m.steer != "replace")  # what the paper's Table 1 has rows for
METHODS = {m.key: m for m in (NOTHING, *COMPARED)}


def trio(mode: Mode) -> tuple[Method, Method, Method]:
    """The three methods that are compared under one kind of evidence: Steering, Top-k, and both at once."""
    return STEERING.add, getattr(TOP_K, mode), getattr(HYBRID, f"{mode}_add")
