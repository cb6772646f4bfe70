"""Types of settings that carry their range, so that a profile with an impossible number is refused at once."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass
from typing import Annotated

MOST = 10**9  # of anything that is counted or weighed: more is a slip of the hand


@dataclass(frozen=True)
class Range:
    """Numbers from ``low`` to ``high``, both included, never NaN, never infinite.

    Attributes
    ----------
    above : leaves ``low`` itself out.
    multiple : of what they must be multiples; 0 if of nothing.
    """

    low: float = -math.inf
    high: float = math.inf
    above: bool = False
    multiple: int = 0

    def holds(self, value: float) -> bool:
        """Whether a number lies inside."""
        inside = self.low < value if self.above else self.low <= value
        whole = not self.multiple or value % self.multiple == 0
        return inside and value <= self.high and abs(value) != math.inf and whole

    def __str__(self) -> str:
        low = f"{'above' if self.above else 'at least'} {self.low:.12g}"
        high = "" if self.high == math.inf else f" and at most {self.high:.12g}"
        return f"{low}{high}{f', a multiple of {self.multiple}' if self.multiple else ''}"


@dataclass(frozen=True)
class Choice:
    """One of a few words."""

    words: tuple[str, ...]

    def holds(self, value: str) -> bool:
        """Whether it is one of them."""
        return value in self.words

    def __str__(self) -> str:
        return f"one of {', '.join(self.words)}"


@dataclass(frozen=True)
class Distinct:
    """A list, or names and values, of at least so many entries, none of them twice."""

    least: int = 1

    def holds(self, values: Collection) -> bool:
        """Whether there are enough, and all differ."""
        return len(values) >= self.least and len(set(values)) == len(values)

    def __str__(self) -> str:
        return f"at least {self.least}, none of them twice"


Count = Annotated[int, Range(0, MOST)]  # how many, perhaps none
Some = Annotated[int, Range(1, MOST)]  # how many, at least one
Share = Annotated[float, Range(0, 1)]
Weight = Annotated[float, Range(0, MOST)]
Positive = Annotated[float, Range(0, MOST, above=True)]
Precision = Annotated[str, Choice(("float32", "bfloat16"))]
Seed = Annotated[int, Range(0, 2**32 - 1)]  # NumPy takes no other
