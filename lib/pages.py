"""Pages that are committed beside the notebooks and made from what a run leaves: README, figures, time.

Between ``<!-- from FILE -->`` and ``<!-- end -->`` a page holds the text of a file; after ``<!-- item 1 of FILE -->``
one item of the list in it; after ``<!-- figure NAME -->`` a figure of the desk run, and after
``<!-- captioned NAME -->`` its caption as well. So no number is typed by hand.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from lib import diagram
from lib.device import machine
from lib.running.collection import NOTEBOOKS, notebooks, opened
from lib.running.freshness import kept
from lib.running.process import cores
from lib.store import ROOT, write_text

if TYPE_CHECKING:
    from lib.running.runner import Done

FIGURES = ROOT / "figures"
WITH_FILES = (ROOT / "README.md", NOTEBOOKS / "README.md")  # pages that hold the text of other files
_MARK = re.compile(r"<!-- (from|figure|captioned|item \d+ of) (\S+) -->.*?<!-- end -->", re.DOTALL)


def with_files(page: Path) -> str:
    """The text of a page, with what it holds of other files put there anew.

    Raises
    ------
    FileNotFoundError
        If there is no such file.
    IndexError
        If its list has no such item.
    """

    def insert(match: re.Match[str]) -> str:
        what, name = match.groups()
        if what in ("figure", "captioned"):
            found = picture(os.path.relpath(FIGURES / "desk" / name, page.parent), caption_of(name))
            found += f"\n\n<sub>{caption_of(name)}</sub>" if what == "captioned" else ""
        else:
            found = (ROOT / name).read_text(encoding="utf-8")
        if what.startswith("item"):
            items = [line.removeprefix("* ") for line in found.splitlines() if line.startswith("* ")]
            found = items[int(what.split()[1]) - 1]
        return f"<!-- {what} {name} -->" + ("\n" if what == "from" else "") + f"{found}<!-- end -->"

    return _MARK.sub(insert, page.read_text(encoding="utf-8"))


def caption_of(name: str) -> str:
    """The caption of a figure of the desk run."""
    return (FIGURES / "desk" / f"{name}.txt").read_text(encoding="utf-8").strip()


def first_sentence(text: str) -> str:
    """A text as far as its first full stop that a capital follows."""
    return re.split(r"(?<=\.) (?=[A-Z])", text)[0]


def picture(file: str, caption: str) -> str:
    """A figure for a light and for a dark page; who does not see it is told its caption's first sentence.

    Parameters
    ----------
    file : path of the figure, without its kind.
    """
    alt = first_sentence(caption).replace('"', "&quot;")
    dark = f'<source media="(prefers-color-scheme: dark)" srcset="{file}.dark.png">'
    return f'<picture>{dark}<img alt="{alt}" src="{file}.png"></picture>'


def title_of(notebook: Path) -> str:
    """The title of a notebook, with its number."""
    return opened(notebook).cells[0].source.splitlines()[0].removeprefix("# ")


def gallery(made: Mapping[str, Iterable[Path]]) -> str:
    """The page of a run's figures and tables, by notebook.

    Parameters
    ----------
    made : the files that each notebook, named by its number, has made.
    """
    parts = [
        "# Every figure and table\n\n"
        "Written by the notebooks at desk scale. Figures are here as PNG, for light and for dark pages, and as PDF, to "
        "be used in slides and papers; the text below a figure lies beside it as `.txt`. Tables are shown as people "
        "read them; the CSV file has all rows and digits. Licence: MIT, and CC BY-SA 4.0 for the OpenMoji drawings in "
        "them (see the [README](../../README.md#licence-and-citation)).\n"
    ]
    for number, notebook in notebooks().items():
        files = sorted({path.name for path in made.get(number, ())})
        figures = [name.removesuffix(".pdf") for name in files if name.endswith(".pdf")]
        tables = [name.removesuffix(".csv") for name in files if name.endswith(".csv")]
        if not figures and not tables:
            continue
        parts.append(f"## [{title_of(notebook)}](../../notebooks/{notebook.name})\n")
        for name in figures:
            links = " · ".join(f"[{kind}]({name}{end})" for kind, end in _KINDS.items())
            parts.append(f"{picture(name, caption_of(name))}\n\n**{name}**: {caption_of(name)} ({links})\n")
        if tables:
            parts.append("Tables: " + ", ".join(f"[{name}]({name}.md) ([CSV]({name}.csv))" for name in tables) + ".\n")
    return "\n".join(parts)


_KINDS = {"PDF": ".pdf", "PNG": ".png", "PNG for dark pages": ".dark.png"}


def timing(profile: str, rows: Iterable[tuple[str, float, float, int]], jobs: int, minutes: float) -> str:
    """The page of what a first run takes on this machine.

    Parameters
    ----------
    rows : of each notebook its file, seconds, peak memory in GiB, and how many files it made.
    jobs : notebooks that run at once.
    minutes : what the whole run took.
    """
    rows = list(rows)
    lines = [f"| {name} | {seconds:.0f} | {peak:.1f} | {files} |" for name, seconds, peak, files in rows]
    return (
        "# What a first run takes\n\n"
        f"Profile `{profile}` on {cores()} CPU cores ({machine()}; {time.strftime('%Y-%m-%d')}), environment ready, "
        f"nothing cached: {minutes:.1f} minutes in all; up to {jobs} notebooks run at once. Written by "
        "`./run_all.sh --in-place`.\n\n"
        "| notebook | seconds | GiB at its peak | files |\n|---|---:|---:|---:|\n" + "\n".join(lines) + "\n"
    )


def write_pictures() -> None:
    """Write the picture of the method, and of where a notebook stands in it."""
    write_text(FIGURES / "method.svg", diagram.method())
    for station in (*diagram.STATIONS, "all"):
        write_text(FIGURES / "where" / f"{station}.svg", diagram.where(station))


def write_pages(made: Mapping[str, Iterable[Path]]) -> None:
    """Write anew all pages that hold what a run of the desk profile made."""
    write_pictures()
    write_text(FIGURES / "desk" / "README.md", gallery(made))
    for page in WITH_FILES:
        write_text(page, with_files(page))


def write_run(profile: str, jobs: int, results: Iterable[Done], folder: Path, minutes: float | None) -> None:
    """Write anew what the pages say of a run of the desk profile.

    Parameters
    ----------
    jobs : notebooks that run at once.
    folder : where the records of notebooks are.
    minutes : what the run took from nothing; None if it went on from something, or left something out.
    """
    if minutes is not None:
        rows = [(done.notebook.name, done.seconds, done.peak, done.files) for done in results]
        write_text(NOTEBOOKS / "timing.md", timing(profile, rows, jobs, minutes))
    records = {number: folder / f"{path.stem}.json" for number, path in notebooks().items()}
    if all(record.exists() for record in records.values()):  # else some would be missing from the page
        write_pages({number: [Path(name) for name in kept(record)["made"]] for number, record in records.items()})
