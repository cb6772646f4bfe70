"""Does the paper's finding hold here? Claims as data, decided by intervals and not by eye.

``data/paper/claims.yaml`` holds every claim with the checks that decide it. A check picks rows from a
table that an earlier notebook has written; every row picked must lie on the claimed side. A row
*supports* the claim if its whole interval does, *contradicts* it if its whole interval lies on the
other side, and is *undecided* otherwise.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import yaml

from lib.store import ROOT, MissingStage

CLAIMS = ROOT / "data" / "paper" / "claims.yaml"
VERDICTS = ("holds", "holds in part", "does not hold", "cannot be tested at this scale")
SIDES = ("above", "below", "within")
_KEYS = {"id", "section", "claim", "published", "checks", "cannot", "note"}


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


def load(path: Path = CLAIMS) -> list[dict[str, Any]]:
    """All claims.

    Raises
    ------
    ClaimError
        If one lacks a part, has an unknown one, or two share an id.
    """
    claims = yaml.safe_load(path.read_text())
    for claim in claims:
        name = claim.get("id", "?")
        if missing := {"id", "section", "claim", "published"} - set(claim):
            raise ClaimError(f"claim {name} lacks {', '.join(sorted(missing))}")
        if unknown := set(claim) - _KEYS:
            raise ClaimError(f"claim {name} has unknown keys {', '.join(sorted(unknown))}")
        if ("checks" in claim) == ("cannot" in claim):
            raise ClaimError(f"claim {name} must have either checks, or the reason why it cannot be tested")
    ids = [claim["id"] for claim in claims]
    if len(set(ids)) < len(ids):
        raise ClaimError(f"two claims are called {max(ids, key=ids.count)}")
    return claims


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
    NothingToTest
        If the check picks no row.
    ClaimError
        If it names an unknown column.
    """
    path = folder / f"{check['table']}.csv"
    if not path.exists():
        raise MissingStage(f"{path.relative_to(ROOT)} is missing: run the notebooks before this one")
    table = pd.read_csv(path, keep_default_na=False, na_values=[""])
    for column, wanted in check.get("where", {}).items():
        if column not in table:
            raise ClaimError(f"claim {claim}: {path.name} has no column {column!r}; it has {', '.join(table)}")
        table = table[table[column].isin(wanted if isinstance(wanted, list) else [wanted])]
    if table.empty:
        raise NothingToTest(f"claim {claim}: no row of {path.name} has {check.get('where')}")
    if check.get("is") not in SIDES:
        raise ClaimError(f"claim {claim}: a check must say `is:` {', '.join(SIDES)}, not {check.get('is')!r}")
    columns = check.get("columns", ["estimate", "low", "high"])
    names = [c for c in table if table[c].dtype == object or str(table[c].dtype) == "str"]
    return [
        Finding(
            f"{check['table']}: " + ", ".join(str(row[c]) for c in names),
            *(float(row[c]) for c in columns),
            int(row.get("n", 0)),
            outcome(*(float(row[c]) for c in columns), check["is"], check.get("value", 0.0)),
        )
        for _, row in table.iterrows()
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
