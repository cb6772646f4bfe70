"""Run from nothing in a copy of the project, and say how the tables differ from the committed ones (`verify`)."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from lib.profile import Profile
from lib.settings import ProfileError
from lib.store import ROOT, RUNS, read, short

COPY = RUNS / "verify"
ROUNDING = 2e-4  # tables keep four digits: two in the last one
CLAIMS = "claims_short.csv"  # the verdicts


@dataclass(frozen=True)
class Comparison:
    """How a table of a fresh run differs from the committed one.

    Attributes
    ----------
    table : name of the file.
    kind : ``equal`` to the byte, within ``rounding``, ``other`` numbers, or another ``shape`` (rows, columns or
        words that are not numbers), ``missing`` or ``new``.
    largest : largest difference of two numbers, relative to the larger of the committed number and 1.
    outside : of a table with intervals: how many estimates left the committed interval, of how many.
    """

    table: str
    kind: str
    largest: float = 0.0
    outside: str = "-"


def compare(committed: Path, fresh: Path) -> Comparison:
    """Two tables of the same name."""
    name = committed.name
    if not (committed.is_file() and fresh.is_file()):
        return Comparison(name, "missing" if committed.is_file() else "new")
    if committed.read_bytes() == fresh.read_bytes():
        return Comparison(name, "equal")
    a, b = read(committed), read(fresh)
    if list(a) != list(b) or len(a) != len(b):
        return Comparison(name, "shape")
    numbers = [c for c in a if pd.api.types.is_numeric_dtype(a[c]) and pd.api.types.is_numeric_dtype(b[c])]
    if not a.drop(columns=numbers).equals(b.drop(columns=numbers)):
        return Comparison(name, "shape")
    x, y = a[numbers].to_numpy(float), b[numbers].to_numpy(float)
    with np.errstate(invalid="ignore"):  # infinite numbers are compared below
        gap = np.nan_to_num(np.abs(x - y) / np.maximum(np.abs(x), 1.0), nan=0.0)
    gap[(np.isnan(x) != np.isnan(y)) | (np.isinf(x) & (x != y)) | (np.isinf(y) & (x != y))] = np.inf
    largest = float(gap.max(initial=0.0))
    triples = [(n, f"{n}_low", f"{n}_high") for n in numbers] + [("estimate", "low", "high")]
    triples = [triple for triple in triples if set(triple) <= set(numbers)]
    left = [(b[n] < a[low] - ROUNDING) | (b[n] > a[high] + ROUNDING) for n, low, high in triples]
    outside = f"{int(sum(part.sum() for part in left))} of {sum(map(len, left))}" if left else "-"
    return Comparison(name, "rounding" if largest <= ROUNDING else "other", largest, outside)


def compare_all(committed: Path, fresh: Path) -> list[Comparison]:
    """All tables of two folders of figures."""
    names = sorted({path.name for folder in (committed, fresh) for path in folder.glob("*.csv")})
    return [compare(committed / name, fresh / name) for name in names]


def verdicts(committed: Path, fresh: Path) -> list[str]:
    """Claims whose verdict is another one, a line each; a claim that only one side has, too."""
    a, b = (read(folder / CLAIMS).set_index("claim").verdict for folder in (committed, fresh))
    claims = [*a.index, *(claim for claim in b.index if claim not in a.index)]
    return [
        f"{claim} committed: {a.get(claim, '-')}; now: {b.get(claim, '-')}"
        for claim in claims
        if a.get(claim) != b.get(claim)
    ]


def report(found: list[Comparison], changed: list[str]) -> str:
    """What a reader needs to know, as Markdown: verdicts first, then the tables that differ."""
    count = {kind: sum(c.kind == kind for c in found) for kind in dict.fromkeys(c.kind for c in found)}
    words = {
        "equal": "equal to the byte",
        "rounding": "equal within rounding",
        "other": "with other numbers",
        "shape": "with other rows or words",
        "missing": "missing",
        "new": "not committed",
    }
    lines = [f"{len(found)} tables: " + ", ".join(f"{n} {words[kind]}" for kind, n in count.items()) + "."]
    differ = [c for c in found if c.kind in ("other", "shape", "missing", "new")]
    if differ:
        lines += ["", "| table | | largest relative difference | estimates outside the committed interval |"]
        lines += ["|---|---|---:|---:|"]
        lines += [
            f"| {c.table} | {words[c.kind]} | {c.largest:.2g} | {c.outside} |"
            if c.kind == "other"
            else f"| {c.table} | {words[c.kind]} | - | - |"
            for c in differ
        ]
        lines += [
            "",
            "Numbers differ between kinds of processors: sums are rounded in another order, a dictionary trained on "
            "them is another one of the same quality, and some explanations are other words. What matters is whether "
            "an estimate leaves the committed interval, and above all whether a verdict changes.",
        ]
    return "\n".join([*lines, "", *([f"- {line}" for line in changed] or ["All verdicts are the same."])])


def committed_figures(name: str) -> Path:
    """The tables as they are committed: from git where there is one, since a run replaces those in the folder."""
    target = COPY / "committed"
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)
    place = f"figures/{name}"
    with suppress(FileNotFoundError):  # no git: then what is in the folder must do
        listed = subprocess.run(["git", "ls-files", f"{place}/*.csv"], cwd=ROOT, capture_output=True, text=True)
        for file in listed.stdout.split():
            shown = subprocess.run(["git", "show", f"HEAD:./{file}"], cwd=ROOT, capture_output=True)
            if shown.returncode == 0:
                (target / Path(file).name).write_bytes(shown.stdout)
    if not any(target.iterdir()):
        for path in (ROOT / place).glob("*.csv"):
            shutil.copy(path, target)
    return target


def main_verify(profile: Profile) -> int:
    """Run in a copy, compare, print; returns the exit code: 0 if no table is missing and no verdict has changed.

    Raises
    ------
    ProfileError
        If no figures of the profile are committed.
    """
    name, copy = profile.label, COPY / "project"
    committed = committed_figures(name)
    if not any(committed.iterdir()):
        raise ProfileError(f"verify: no figures of profile {name} are committed; those of desk are")
    skip = shutil.ignore_patterns("runs", "pretrained", "__pycache__", ".*")
    for part in ("lib", "notebooks"):
        shutil.rmtree(copy / part, ignore_errors=True)  # what a former one had more of must not take part
    for part in ("lib", "notebooks", "data"):
        shutil.copytree(ROOT / part, copy / part, ignore=skip, dirs_exist_ok=True)
    for part in ("environment.yml", "README.md"):
        shutil.copy(ROOT / part, copy)
    print(f"Running profile {name} from nothing in {short(copy)}; killed, it goes on where it was.", flush=True)
    # It ends with this process, whatever ends that.
    begin = f"from lib.running.process import end_with as e; e({os.getpid()}); from lib.__main__ import main"
    command = [sys.executable, "-c", f"{begin}; raise SystemExit(main())", "--profile", name]
    done = subprocess.run(command, cwd=copy, env={**os.environ, "PYTHONPATH": str(copy)})
    if done.returncode:
        return done.returncode
    fresh = copy / "figures" / name
    found, changed = compare_all(committed, fresh), verdicts(committed, fresh)
    shutil.rmtree(copy)  # the next one starts from nothing, too
    print(f"\n{report(found, changed)}")
    return 1 if changed or any(c.kind == "missing" for c in found) else 0
