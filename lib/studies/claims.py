"""Does the paper's finding hold here? Claims as data, decided by one effect each that was named before it was seen.

``data/paper/claims.yaml`` names for every claim one row of a table that an earlier notebook has written, the side on
which it must lie, and ``matters``, the smallest effect that would matter. A claim

* **holds** if its effect lies on the claimed side (p < 0.05, corrected by Holm over all claims of the page) and is not
  smaller than what matters;
* is **contradicted here** if it lies on the other side in the same way;
* shows **no effect larger than the margin** if the whole 95 % interval lies within what matters, on both sides of
nothing;
* is **undecided** else, and the page says how many latents would decide it.

A claim that two things are alike (``is: near``) holds if the interval lies within the margin, and is contradicted if it
is shown to lie outside. ``is: not below`` claims that one is not worse by more than the margin.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Real
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from scipy.stats import norm

from lib.paper import FOLDER, yaml_of
from lib.stats import holm, p_of, standard_error
from lib.store import MissingStage, short
from lib.studies import old_rule
from lib.studies.old_rule import ClaimError, Finding, NothingToTest

HOLDS, CONTRADICTED, NOTHING, UNDECIDED, CANNOT = VERDICTS = (
    "holds",
    "contradicted here",
    "no effect larger than the margin",
    "undecided",
    "cannot be tested at this scale",
)
SIDES = ("above", "below", "not below", "near")
ALPHA, POWER = 0.05, 0.8
_NEEDED, _KEYS = ("id", "section", "claim", "published"), ("effect", "rows", "cannot", "note")


@dataclass(frozen=True)
class Effect:
    """What decides a claim.

    Attributes
    ----------
    what : the row's words.
    estimate, low, high, n : the effect and its 95 % interval, in the unit of its table.
    distance : how far it lies beyond the claimed border, to the claimed side; ``error`` is its standard error.
    p : of the hypothesis that it lies on the border, two-sided, not corrected.
    """

    what: str
    estimate: float
    low: float
    high: float
    n: int
    distance: float
    error: float
    p: float

    def __str__(self) -> str:
        return f"{self.estimate:z.3f} [{self.low:z.3f}, {self.high:z.3f}]"


@dataclass(frozen=True)
class Verdict:
    """What became of a claim: its effect (None if it cannot be tested), its corrected p, and its old rows."""

    claim: dict[str, Any]
    verdict: str
    effect: Effect | None = None
    p_holm: float = float("nan")
    needed: int | None = None
    rows: tuple[Finding, ...] = ()

    @property
    def old(self) -> str:
        """The verdict by the old rule, with its counts."""
        if not self.rows:
            return "-"
        number = {o: sum(f.outcome == o for f in self.rows) for o in ("supports", "contradicts", "undecided")}
        counts = f"{number['supports']} for it, {number['contradicts']} against, {number['undecided']} undecided"
        return f"{old_rule.held(list(self.rows))} ({counts})"


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
    if wrong := [key for key, value in claim.items() if key not in ("effect", "rows") and not isinstance(value, str)]:
        return f"must have text as its {wrong[0]}"
    if ("effect" in claim) == ("cannot" in claim):
        return "must have either an effect, or the reason why it cannot be tested"
    rows = claim.get("rows", [])
    if not isinstance(rows, list):
        return "must have a list as its rows"
    faults = [_fault_of_effect(claim["effect"])] if "effect" in claim else []
    return next(filter(None, [*faults, *map(old_rule.fault_of_check, rows)]), "")


def _fault_of_effect(effect: Any) -> str:
    known = {"table", "where", "columns", "is", "value", "matters"}
    if (
        not isinstance(effect, dict)
        or not set(effect) <= known
        or not isinstance(effect.get("table"), str)
        or not isinstance(effect.get("where", {}), dict)
        or len(effect.get("columns", "123")) != 3
    ):
        return f"has an effect that is not made of {', '.join(sorted(known))}, and three columns: {effect!r}"
    if effect.get("is") not in SIDES:
        return f"has an effect that must say `is:` {', '.join(SIDES)}, not {effect.get('is')!r}"
    numbers = [effect.get("value", 0.0), effect.get("matters")]
    if not all(isinstance(number, Real) for number in numbers) or numbers[1] < 0:
        return f"has an effect whose `value:` and `matters:` must be numbers, not {numbers!r}"
    return ""


def effect_of(claim: dict[str, Any], folder: Path) -> Effect:
    """The effect that decides a claim, read from the tables in ``folder``.

    Raises
    ------
    MissingStage, Damaged, NothingToTest, ClaimError
        As :func:`lib.studies.old_rule.rows_of`; ``ClaimError`` also if more than one row is picked.
    """
    pick = claim["effect"]
    table = old_rule.rows_of(pick, folder, claim["id"])
    if len(table) > 1:
        raise ClaimError(f"claim {claim['id']}: {len(table)} rows of {pick['table']}.csv fit, and one must decide")
    ((estimate, low, high, n),) = old_rule.numbers_of(pick, table).itertuples(index=False)
    texts = table[[c for c in table if not pd.api.types.is_numeric_dtype(table[c])]].astype(str).iloc[0]
    value, matters, error = pick.get("value", 0.0), pick["matters"], standard_error(low, high)
    if pick["is"] == "near":  # the nearer border, seen from within
        distance = matters - abs(estimate - value)
        p = p_of(distance, distance - (high - low) / 2, distance + (high - low) / 2)
    else:
        border = value - matters if pick["is"] == "not below" else value
        distance = border - estimate if pick["is"] == "below" else estimate - border
        tested = "p" in table and not border and "columns" not in pick and not pd.isna(table.p.iloc[0])
        p = float(table.p.iloc[0]) if tested else p_of(estimate, low, high, border)
    if error == 0:
        p = 0.0 if distance else 1.0
    return Effect(f"{pick['table']}: {', '.join(texts)}", estimate, low, high, int(n), distance, error, p)


def decide(effect: Effect, pick: dict[str, Any], p_holm: float) -> str:
    """One of the first four :data:`VERDICTS`, from an effect and its corrected p-value."""
    value, matters = pick.get("value", 0.0), pick["matters"]
    sure = p_holm < ALPHA
    if pick["is"] in ("near", "not below"):
        inside = value - matters <= effect.low and (effect.high <= value + matters or pick["is"] == "not below")
        return HOLDS if inside and sure else CONTRADICTED if sure and effect.distance < 0 else UNDECIDED
    if matters and value - matters < effect.low and effect.high < value + matters:
        return NOTHING
    if not sure or not (effect.low > value or effect.high < value):
        return UNDECIDED
    if abs(effect.estimate - value) < matters:  # it is there, and whether it is large enough to matter is not known
        return UNDECIDED
    return HOLDS if effect.distance > 0 else CONTRADICTED


def needed(effect: Effect, pick: dict[str, Any], claims: int) -> int | None:
    """Latents that would decide a claim with a chance of 80 %, if the effect is what was seen; None if none would.

    An effect as large as what matters must be told from the border, with an estimate that is not smaller than what
    matters; for a smaller one, the 95 % interval must lie within. For the correction, the claim counts as the first.
    """
    distance, power = abs(effect.distance), norm.ppf(POWER)
    sure = norm.ppf(1 - ALPHA / (2 * claims)) + power
    ways = [(sure, distance)]  # so many standard errors must fit into so much
    if pick["is"] in ("above", "below"):
        beyond = distance - pick["matters"]
        ways = [(norm.ppf(1 - ALPHA / 2) + power, -beyond)] if beyond < 0 else [*ways, (power, beyond)]
    if effect.error == 0 or min(room for _, room in ways) < 1e-9:
        return None
    at_one = effect.error * np.sqrt(effect.n)
    return int(np.ceil(max((z * at_one / room) ** 2 for z, room in ways)))


def judge(claims: list[dict[str, Any]], folder: Path, strict: bool = True) -> list[Verdict]:
    """Decide all claims of a page together, from the tables in ``folder``.

    A table or row that a claim needs must be there; unless not ``strict``, for a profile that has fewer models than the
    paper, or photographs: then a claim of which nothing is there cannot be tested.
    """
    made = [_read(claim, folder, strict) for claim in claims]
    tested = [v for v in made if v.effect]
    corrected = dict(zip([v.claim["id"] for v in tested], holm([v.effect.p for v in tested])))
    out = []
    for v in made:
        if v.effect:
            pick, p = v.claim["effect"], float(corrected[v.claim["id"]])
            verdict = decide(v.effect, pick, p)
            n = needed(v.effect, pick, len(tested)) if verdict == UNDECIDED else None
            v = replace(v, verdict=verdict, p_holm=p, needed=n)
        out.append(v)
    return out


def _read(claim: dict[str, Any], folder: Path, strict: bool) -> Verdict:
    if "cannot" in claim:
        return Verdict(claim, CANNOT)
    try:
        effect = effect_of(claim, folder)
    except (MissingStage, NothingToTest) as error:
        if strict:
            raise
        return Verdict({**claim, "cannot": f"This profile makes nothing that would decide it: {error}"}, CANNOT)
    rows: tuple[Finding, ...] = ()
    for check in claim.get("rows", []):
        try:
            rows += tuple(old_rule.findings(check, folder, claim["id"]))
        except (MissingStage, NothingToTest):
            if strict:
                raise
    return Verdict(claim, UNDECIDED, effect, rows=rows)


def summary(verdicts: list[Verdict]) -> pd.DataFrame:
    """The page: one row per claim."""
    return pd.DataFrame(
        [
            {
                "claim": v.claim["claim"],
                "section": v.claim["section"],
                "published": v.claim["published"],
                "verdict": v.verdict,
                "effect": str(v.effect) if v.effect else "-",
                "matters": f"{v.claim['effect']['matters']:g}" if v.effect else "-",
                "p, corrected": "-" if np.isnan(v.p_holm) else f"{v.p_holm:.2g}",
                "n": v.effect.n if v.effect else "-",
                "n that would decide": v.needed or "-",
                "by the old rule": v.old,
                "of": v.effect.what if v.effect else "-",
                "note": v.claim.get("note", "") or v.claim.get("cannot", ""),
            }
            for v in verdicts
        ]
    )


def scaled(verdicts: list[Verdict]) -> pd.DataFrame:
    """Effects that claim a side, in units of what matters, the claimed side positive: ``claim, verdict...``."""
    rows = []
    for v in verdicts:
        if v.effect is None or v.effect.error == 0 or v.claim["effect"]["is"] == "near":
            continue
        pick = v.claim["effect"]
        sign = (-1 if pick["is"] == "below" else 1) / pick["matters"]
        ends = sorted(sign * (x - pick.get("value", 0.0)) for x in (v.effect.low, v.effect.high))
        at = sign * (v.effect.estimate - pick.get("value", 0.0))
        rows.append({"claim": v.claim["claim"], "verdict": v.verdict, "estimate": at, "low": ends[0], "high": ends[1]})
    return pd.DataFrame(rows, columns=["claim", "verdict", "estimate", "low", "high"])
