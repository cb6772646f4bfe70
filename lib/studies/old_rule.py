"""A rule that counts: a claim is decided by every row of some tables, each by its own 95 % interval.

It is kept as a column of the page, so that a reader sees what a rule does. With many rows to a claim some are decided
by chance, a few easy comparisons outvote a hard one, and a narrow interval around nothing reads as if nothing were
known.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd

from lib.store import Damaged, MissingStage, note, short

SIDES = ("above", "below", "within")
HELD = ("holds", "holds in part", "does not hold", "cannot be tested at this scale")


class ClaimError(ValueError):
    """A claim that cannot be evaluated as it is written."""


class NothingToTest(ClaimError):
    """A claim about what the tables do not have."""


@dataclass(frozen=True)
class Finding:
    """One row of evidence for or against a claim: ``outcome`` is supports, contradicts or undecided."""

    what: str
    estimate: float
    low: float
    high: float
    n: int
    outcome: str


def fault_of_check(check: Any) -> str:
    """What is wrong with a check, as the end of a sentence; empty if nothing is."""
    if (
        not isinstance(check, dict)
        or not set(check) <= {"table", "where", "columns", "is", "value"}
        or not isinstance(check.get("table"), str)
        or not isinstance(check.get("where", {}), dict)
        or len(check.get("columns", "123")) != 3
    ):
        return f"has a check that is not made of table, where, is, value and three columns: {check!r}"
    if check.get("is") not in SIDES:
        return f"has a check that must say `is:` {', '.join(SIDES)}, not {check.get('is')!r}"
    value, within = check.get("value", 0.0), check["is"] == "within"
    numbers = value if within and isinstance(value, list) else [value]
    if len(numbers) != 1 + within or not all(isinstance(number, Real) for number in numbers):
        return f"has a check whose `value:` must be {'two numbers' if within else 'a number'}, not {value!r}"
    return ""


def outcome(estimate: float, low: float, high: float, side: str, value: float | list[float]) -> str:
    """Where an interval lies with respect to what is claimed.

    ``above`` and ``below`` compare with a number; ``within`` wants the whole interval between two.
    """
    if side == "within":
        least, most = value
        return (
            "supports"
            if least <= low and high <= most
            else "contradicts"
            if low > most or high < least
            else "undecided"
        )
    if side == "below":
        low, high, value = -high, -low, -value
    return "supports" if low > value else "contradicts" if high < value else "undecided"


def findings(check: dict[str, Any], folder: Path, claim: str = "?") -> list[Finding]:
    """The rows that a check picks, judged.

    Raises
    ------
    MissingStage, Damaged, NothingToTest, ClaimError
        As :func:`rows_of`; ``ClaimError`` also if the check is not written as it must be.
    """
    if fault := fault_of_check(check):
        raise ClaimError(f"claim {claim} {fault}")
    table = rows_of(check, folder, claim)
    texts = table[[c for c in table if not pd.api.types.is_numeric_dtype(table[c])]].astype(str)
    side, value = check["is"], check.get("value", 0.0)
    return [
        Finding(f"{check['table']}: {', '.join(text)}", *interval, n, outcome(*interval, side, value))
        for text, (*interval, n) in zip(texts.itertuples(index=False), numbers_of(check, table).itertuples(index=False))
    ]


def rows_of(pick: dict[str, Any], folder: Path, claim: str = "?") -> pd.DataFrame:
    """The rows of a table that something picks: ``table``, ``where``, and the ``columns`` that must be numbers.

    Raises
    ------
    MissingStage
        If the table has not been written.
    Damaged
        If it is no table, or has something else where a number must be.
    NothingToTest
        If no row is picked.
    ClaimError
        If it names an unknown column.
    """
    path = folder / f"{pick['table']}.csv"
    if not path.exists():
        raise MissingStage(f"{short(path)} is missing: run the notebooks before this one")
    try:
        table = pd.read_csv(note("used", path), keep_default_na=False, na_values=[""])
        where, columns = pick.get("where", {}), pick.get("columns", ["estimate", "low", "high"])
        if unknown := [column for column in (*where, *columns) if column not in table]:
            raise ClaimError(f"claim {claim}: {path.name} has no column {unknown[0]!r}; it has {', '.join(table)}")
        for column, wanted in where.items():
            table = table[table[column].isin(wanted if isinstance(wanted, list) else [wanted])]
        numbers_of(pick, table)
    except ClaimError:
        raise
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
        why = " ".join(str(error).split())
        raise Damaged(f"{short(path)} is damaged ({why}). Remove it and run its notebook again") from error
    if table.empty:
        raise NothingToTest(f"claim {claim}: no row of {path.name} has {pick.get('where')}")
    return table


def numbers_of(pick: dict[str, Any], table: pd.DataFrame) -> pd.DataFrame:
    """Estimate, ends of the interval, and n of picked rows."""
    numbers = table[pick.get("columns", ["estimate", "low", "high"])].astype(float)
    return numbers.assign(n=table.get("n", 0)).astype({"n": int})


def held(found: list[Finding]) -> str:
    """*Holds* if all rows support the claim, *does not hold* if no fewer contradict it, *in part* else."""
    support, against = (sum(f.outcome == o for f in found) for o in ("supports", "contradicts"))
    return HELD[0 if support == len(found) else 3 if not support and not against else 2 if against >= support else 1]
