"""Would another run have said the same? Verdicts of runs with another seed, or with more of everything, side by side.

A verdict that changes with the seed is none. Runs that take long are made once: their tables are kept in
``data/reruns``, with the date and the machine, and every run of notebook 18 compares its own page with theirs.
"""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pandas as pd

from lib.device import machine
from lib.profile import Profile
from lib.store import ROOT, Damaged, note, read, short, write_json, write_text
from lib.studies.claims import CANNOT, CONTRADICTED, NOTHING, UNDECIDED

FOLDER = ROOT / "data" / "reruns"
ABOUT = "about.json"
OWN = "this run"
SAID = {CONTRADICTED: "contradicted", NOTHING: "no effect", CANNOT: "not tested"}  # where there is little room
SAME, OPEN, OTHER, NONE = AGREEMENT = ("the same", "decided by some", "not the same", "decided by none")


def keep(profile: Profile, settings: dict[str, Any], figures: Path, minutes: float | None) -> Path:
    """Keep the tables of a complete run, and how it came to be; returns the folder.

    Parameters
    ----------
    settings : what was changed of the profile.
    figures : folder of its tables.
    minutes : what it took from nothing; None if it went on from something, as where only statistics are made anew:
        then it is what the run took that is kept.
    """
    folder = FOLDER / profile.label
    if minutes is None and (folder / ABOUT).exists():
        minutes = read(folder / ABOUT)["minutes"]
    about = {"profile": profile.name, "settings": settings, "seed": profile.seed, "date": time.strftime("%Y-%m-%d")}
    about |= {"machine": machine(), "minutes": None if minutes is None else round(minutes, 1)}
    for path in folder.glob("*.csv"):  # of a former run, which may have had others
        path.unlink()
    for path in sorted(figures.glob("*.csv")):
        write_text(folder / path.name, path.read_text(encoding="utf-8"))
    write_json(folder / ABOUT, about)
    return folder


def reruns() -> dict[str, dict[str, Any]]:
    """How each run that is kept came to be, and its ``claims`` and their verdicts, by the label of the run.

    Raises
    ------
    Damaged
        If one has lost its claims.
    """
    found = {}
    for path in sorted(FOLDER.glob(f"*/{ABOUT}")):
        page = path.with_name("claims.csv")
        if not page.exists():
            raise Damaged(f"{short(path.parent)} lacks claims.csv: remove that folder, or restore it from git")
        claims = pd.read_csv(page)[["claim", "verdict"]].to_dict("records")
        found[path.parent.name] = {**read(path), "claims": claims}
        note("used", path)
        note("used", page)
    return found


def about(kept: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """How the runs that are kept came to be: ``run, profile, settings, seed, date, machine, minutes``."""
    names = ["run", "profile", "settings", "seed", "date", "machine", "minutes"]
    rows = [
        {**one, "run": run, "settings": ", ".join(f"{k} = {v}" for k, v in one["settings"].items()) or "-"}
        for run, one in kept.items()
    ]
    return pd.DataFrame(rows, columns=names)


def compared(page: pd.DataFrame, kept: dict[str, dict[str, Any]]) -> pd.DataFrame:
    """Verdicts claim by claim: ``claim``, a column for each run, and whether those that decide it agree.

    Parameters
    ----------
    page : of this run, from :func:`lib.studies.claims.summary`. A claim that a kept run did not have is ``-`` there.
    kept : from :func:`reruns`.
    """
    table = page[["claim"]].reset_index(drop=True).assign(**{OWN: page.verdict.to_numpy()})
    for run, one in kept.items():
        said = {claim["claim"]: claim["verdict"] for claim in one["claims"]}
        table[run] = [said.get(claim, "-") for claim in table.claim]
    return table.assign(agreement=[_agreement(row) for row in table[[OWN, *kept]].to_numpy().tolist()])


def in_short(table: pd.DataFrame) -> pd.DataFrame:
    """Verdicts of several runs with short words, so that they fit on a page; from :func:`compared`."""
    return table.replace(SAID)


def _agreement(verdicts: list[str]) -> str:
    decided = [v for v in verdicts if v not in (UNDECIDED, CANNOT, "-")]
    if len(set(decided)) > 1:
        return OTHER
    if not decided:
        return NONE
    return SAME if len(decided) == len(verdicts) else OPEN


def findings(table: pd.DataFrame) -> list[str]:
    """How many claims the runs agree on, and which they do not; nothing if there is but one run."""
    runs = len(table.columns) - 2
    if runs < 2:
        return []
    counts = ", ".join(f"{int((table.agreement == word).sum())} {word}" for word in AGREEMENT)
    lines = [f"Verdicts of {runs} runs on {len(table)} claims: {counts}."]
    return lines + [f"Runs do not agree on “{claim}”" for claim in table.claim[table.agreement == OTHER]]
