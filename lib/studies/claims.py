"""Does the paper's finding hold here? Claims as data, decided by intervals and not by eye.

``data/paper/claims.yaml`` holds every claim with the checks that decide it. A check picks rows from a
table that an earlier notebook has written; every row picked must lie on the claimed side. A row
*supports* the claim if its whole interval does, *contradicts* it if its whole interval lies on the
other side, and is *undecided* otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from numbers import Real
from pathlib import Path
from typing import Any

import pandas as pd

from lib.paper import FOLDER, yaml_of
from lib.store import Damaged, MissingStage, note, short

VERDICTS = ("holds", "holds in part", "does not hold", "cannot be tested at this scale")
SIDES = ("above", "below", "within")
_NEEDED, _KEYS = ("id", "section", "claim", "published"), ("checks", "cannot", "note")


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


@dataclass(frozen=True)
class Verdict:
    """What became of a claim."""

    claim: dict[str, Any]
    verdict: str
    findings: tuple[Finding, ...]

    @property
    def counts(self) -> str:
        """``5 of 8 checks support it, 1 contradicts it``."""
        if not self.findings:
            return self.claim["cannot"]
        number = {o: sum(f.outcome == o for f in self.findings) for o in ("supports", "contradicts", "undecided")}
        text = f"{number['supports']} of {len(self.findings)} checks for it"
        return text + "".join(
            f", {number[o]} {w}" for o, w in (("contradicts", "against"), ("undecided", "undecided")) if number[o]
        )

    @property
    def headline(self) -> Finding | None:
        """The first row of the first check: the effect that the page shows."""
        return self.findings[0] if self.findings else None


def load(path: Path = FOLDER / "claims.yaml") -> list[dict[str, Any]]:
    """All claims.

    Raises
    ------
    Damaged
        If the file cannot be read.
    ClaimError
        If a claim lacks a part, has an unknown one or one of another kind, or two share an id.
    """
    claims = yaml_of(path.stem, path.parent)
    if not isinstance(claims, list):
        raise ClaimError(f"{short(path)} must be a list of claims")
    for number, claim in enumerate(claims, 1):
        name = claim.get("id", number) if isinstance(claim, dict) else number
        if fault := _fault(claim):
            raise ClaimError(f"{short(path)}: claim {name} {fault}")
    ids = [claim["id"] for claim in claims]
    if len(set(ids)) < len(ids):
        raise ClaimError(f"{short(path)}: two claims are called {max(ids, key=ids.count)}")
    return claims


def _fault(claim: Any) -> str:
    """What is wrong with a claim, as the end of a sentence; empty if nothing is."""
    if not isinstance(claim, dict):
        return "must have keys and values"
    if missing := [key for key in _NEEDED if key not in claim]:
        return f"lacks {', '.join(missing)}"
    if unknown := [str(key) for key in claim if key not in (*_NEEDED, *_KEYS)]:
        return f"has unknown keys {', '.join(unknown)}"
    if wrong := [key for key, value in claim.items() if key != "checks" and not isinstance(value, str)]:
        return f"must have text as its {wrong[0]}"
    checks = claim.get("checks", [])
    if bool(checks) == ("cannot" in claim) or not isinstance(checks, list):
        return "must have either checks, in a list, or the reason why it cannot be tested"
    return next(filter(None, map(_fault_of_check, checks)), "")


def _fault_of_check(check: Any) -> str:
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
    MissingStage
        If the table has not been written.
    Damaged
        If it is no table, or has something else where a number must be.
    NothingToTest
        If the check picks no row.
    ClaimError
        If it is not written as it must be, or names an unknown column.
    """
    if fault := _fault_of_check(check):
        raise ClaimError(f"claim {claim} {fault}")
    path = folder / f"{check['table']}.csv"
    if not path.exists():
        raise MissingStage(f"{short(path)} is missing: run the notebooks before this one")
    try:
        table = pd.read_csv(note("used", path), keep_default_na=False, na_values=[""])
        where, columns = check.get("where", {}), check.get("columns", ["estimate", "low", "high"])
        if unknown := [column for column in (*where, *columns) if column not in table]:
            raise ClaimError(f"claim {claim}: {path.name} has no column {unknown[0]!r}; it has {', '.join(table)}")
        for column, wanted in where.items():
            table = table[table[column].isin(wanted if isinstance(wanted, list) else [wanted])]
        numbers = table[columns].astype(float).assign(n=table.get("n", 0)).astype({"n": int})
    except ClaimError:
        raise
    except (OSError, ValueError) as error:  # pandas' errors are ValueErrors
        why = " ".join(str(error).split())
        raise Damaged(f"{short(path)} is damaged ({why}). Remove it and run its notebook again") from error
    if table.empty:
        raise NothingToTest(f"claim {claim}: no row of {path.name} has {check.get('where')}")
    texts = table[[c for c in table if not pd.api.types.is_numeric_dtype(table[c])]].astype(str)
    side, value = check["is"], check.get("value", 0.0)
    return [
        Finding(f"{check['table']}: {', '.join(text)}", *interval, n, outcome(*interval, side, value))
        for text, (*interval, n) in zip(texts.itertuples(index=False), numbers.itertuples(index=False))
    ]


def evaluate(claim: dict[str, Any], folder: Path, strict: bool = True) -> Verdict:
    """Decide a claim from the tables in ``folder``.

    A table or row that a check needs must be there; unless not ``strict``, for a profile that has fewer
    models than the paper, or photographs: then a claim of which nothing is there cannot be tested.

    It *holds* if all rows support it, *does not hold* if no fewer contradict than support it, and
    *holds in part* else. If no row is decided, the effect is too small for these intervals, and the
    claim *cannot be tested at this scale*.
    """
    if "cannot" in claim:
        return Verdict(claim, VERDICTS[3], ())
    found: tuple[Finding, ...] = ()
    for check in claim["checks"]:
        try:
            found += tuple(findings(check, folder, claim["id"]))
        except (MissingStage, NothingToTest) as error:
            if strict:
                raise
            absent = str(error)
    if not found:
        return Verdict(
            {**claim, "cannot": f"This profile makes nothing that would decide it: {absent}"}, VERDICTS[3], ()
        )
    support, against = (sum(f.outcome == o for f in found) for o in ("supports", "contradicts"))
    place = 0 if support == len(found) else 3 if not support and not against else 2 if against >= support else 1
    return Verdict(claim, VERDICTS[place], found)


def summary(verdicts: list[Verdict]) -> pd.DataFrame:
    """The page: one row per claim."""
    rows = []
    for v in verdicts:
        head = v.headline
        shown = f"{head.estimate:.3f} [{head.low:.3f}, {head.high:.3f}]" if head else "-"
        rows.append(
            {
                "claim": v.claim["claim"],
                "section": v.claim["section"],
                "published": v.claim["published"],
                "verdict": v.verdict,
                "checks": v.counts,
                "first effect": shown,
                "of": head.what if head else "-",
                "n": head.n if head else "-",
                "note": v.claim.get("note", ""),
            }
        )
    return pd.DataFrame(rows)
