"""Run the notebooks in order: `python -m lib`, or rather ./run_all.sh, which sets up the environment first."""

from __future__ import annotations

import signal

if __name__ == "__main__" and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # until `stoppable`: Ctrl-C during imports is no traceback

import argparse
import errno
import os
import sys
import time
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from lib import settings
from lib.hub import PRETRAINED
from lib.running.process import Stopped, alone, cores, need_folder, stoppable
from lib.settings import ProfileError
from lib.store import ROOT, RUNS, Damaged, short, write_text

if TYPE_CHECKING:  # what takes seconds to import is imported once signals are heeded
    from lib.profile import Profile
    from lib.running.runner import Done, Job

COMMITTED = ("desk", "deep", "smollm2")  # profiles


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; a wrong one ends with a message."""
    parser = argparse.ArgumentParser(prog="run_all.sh", description="Regenerate every table and figure.")
    parser.add_argument("word", nargs="?", choices=["verify", "slides", "book", "demo"])
    parser.add_argument("--profile", default="desk", metavar="NAME")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--from", dest="first", metavar="NN", type=lambda number: number.zfill(2))
    which.add_argument("--only", metavar="NN", type=lambda number: number.zfill(2))
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--status", action="store_true")
    parser.add_argument("--in-place", action="store_true")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--from-scratch", action="store_true")
    who = parser.add_mutually_exclusive_group()
    who.add_argument("--workers", type=_some, metavar="N")
    who.add_argument("--cluster", metavar="ADDRESS")
    options = parser.parse_args(arguments)
    given = [name for name, value in vars(options).items() if value and name not in ("profile", "settings")]
    if {"word", "plan", "status"} & set(given) and len(given) > 1:
        parser.error("verify, slides, book, demo, --plan and --status run alone, with --profile and --set at the most")
    committed = options.word in ("slides", "book") and options.profile != "desk"
    if committed or (options.word in ("verify", "slides", "book") and options.settings):
        parser.error(f"{options.word} reads what is committed, which is made without --set")
    return options


def _some(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def overrides(given: list[str]) -> dict[str, Any]:
    """``["sae.latents=256"]`` to ``{"sae.latents": 256}``; values are YAML.

    Raises
    ------
    ProfileError
        If a setting is not of the form key=value, is given twice, or its value is no YAML.
    """
    out: dict[str, Any] = {}
    for setting in given:
        key, equals, value = setting.partition("=")
        key = key.strip()
        if not equals or not key:
            raise ProfileError(f"--set takes key=value, not {setting!r}")
        if key in out:
            raise ProfileError(f"--set {key} is given twice")
        out[key] = settings.parse(value, f"--set {setting}")
    return out


def summary(results: list[Done]) -> str:
    """What was made, and how long it took: a Markdown table."""
    rows = [
        f"| {done.notebook.name} | {'up to date' if done.cached else 'done'} | {done.seconds:.0f} | {done.files} |"
        for done in results
    ]
    return "\n".join(["| notebook | | seconds | files |", "|---|---|---|---|", *rows])


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    os.environ.setdefault(settings.CALLER, os.getcwd())  # kernels stand elsewhere
    try:
        with stoppable():
            return answer(options)
    except Stopped as stopped:
        print(f"\nrun_all.sh: stopped{''.join(getattr(stopped, '__notes__', ()))}", file=sys.stderr)
        return stopped.exit_code
    except (ProfileError, OSError, Damaged) as error:
        full = ". Free some space, and run again" if getattr(error, "errno", None) == errno.ENOSPC else ""
        print(f"run_all.sh: {error}{full}", file=sys.stderr)
        return 2


def answer(options: argparse.Namespace) -> int:
    """Do what the options ask for; returns the exit code.

    Raises
    ------
    ProfileError, OSError, Damaged
        If it cannot be done; the message says why.
    """
    from lib.profile import load

    chosen = overrides(options.settings)
    profile = load(options.profile, chosen)
    whole = profile.label in COMMITTED or profile.name == "desk"  # desk may be run with --set, too
    if options.in_place and not (whole and (profile.label == "desk" or not (options.only or options.first))):
        raise ProfileError(
            "--in-place is for what is committed: notebooks of the desk profile without --set, the verdicts of its "
            "complete runs with --set, or of the deep profile's, and the answers of the smollm2 profile's"
        )
    if options.word == "slides":
        from lib.slides import main_slides

        return main_slides()
    if options.word == "demo":
        from lib.panel import main_demo

        return main_demo(options.profile, chosen)
    if options.plan:
        from lib.plan.report import main_plan

        return main_plan(profile)
    if options.word == "verify":
        from lib.running.verify import main_verify

        return main_verify(profile)
    if options.status:
        from lib.running.status import main_status

        return main_status(profile)
    from lib.running.cluster import offered

    need_folder(ROOT / "figures")
    with alone(RUNS / profile.name):
        if options.from_scratch:
            from lib.desk.build import build_all

            build_all()
        with offered(options.workers or helpers(options, profile), options.cluster, profile.images.source == "scenes"):
            if options.word == "book":
                from lib.book import main_book

                return main_book(profile)
            return run(options, profile, {"profile": options.profile, "overrides": chosen})


def helpers(options: argparse.Namespace, profile: Profile) -> int | None:
    """Processes that share a notebook's work where nobody says how many: as many as notebooks run at once.

    None where there is a GPU, which one process uses best, or but one core; where a cluster is named; or without Dask.
    """
    from lib.device import DEVICE

    some = min(profile.jobs, cores())
    usable = DEVICE == "cpu" and not options.cluster and find_spec("distributed") is not None
    return some if some > 1 and usable else None


def chosen_jobs(options: argparse.Namespace, profile: Profile, parameters: dict[str, Any]) -> tuple[list[Job], bool]:
    """The notebooks that are asked for; and whether others are, too, which cannot be read.

    Raises
    ------
    ProfileError
        If there is none.
    """
    from lib.running.collection import survey
    from lib.running.runner import jobs_for

    there, broken, left_out = survey()
    for line in left_out:
        print(f"run_all.sh: {line}")
    wanted = options.only or options.first
    if wanted and wanted not in there and wanted not in broken:
        raise ProfileError(f"no notebook {wanted!r}: choose from {', '.join(there)}")
    lost = [why for n, why in sorted(broken.items()) if options.only in (None, n) and n >= (options.first or "")]
    for line in lost:
        print(f"run_all.sh: {line}; it is left out", file=sys.stderr)
    every = jobs_for(profile, parameters, cores())
    jobs = [j for j in every if options.only in (None, j.number) and j.number >= (options.first or "")]
    if not jobs and not lost:
        raise ProfileError(f"notebook {wanted} is about Emoji Scenes alone")
    return jobs, bool(lost)


def run(options: argparse.Namespace, profile: Profile, parameters: dict[str, Any]) -> int:
    """Run the notebooks that are asked for; returns the exit code."""
    from lib.running.collection import put_back
    from lib.running.runner import run_all

    if any(PRETRAINED in (view.subject.model, *view.explainers.values()) for view in profile.views.values()):
        from lib.desk.smollm2 import provide

        provide()
    first_run = not (RUNS / profile.name).exists()
    jobs, lost = chosen_jobs(options, profile, parameters)
    if not jobs:
        return 1
    begun, results, folder = time.perf_counter(), [], jobs[0].record.parent
    try:
        with closing(run_all(jobs, profile.jobs, options.force or options.in_place)) as runs:
            for done in runs:
                results.append(done)
                if options.in_place and profile.label == "desk" and not done.error:
                    put_back(folder / done.notebook.name, done.notebook)
    except Stopped as stopped:
        stopped.add_note(f" at {going_on(jobs, results, options.only)}")
        raise
    for done in results:
        if done.error:
            print(
                f"\nrun_all.sh: {done.notebook.name} stopped: {done.error}\n"
                f"The notebook as far as it came: {short(folder / done.notebook.name)}",
                file=sys.stderr,
            )
    if any(done.error for done in results):
        rest = going_on(jobs, results, options.only).partition("; ")[2]
        print(f"What was made before is kept; mend the cause and {rest}", file=sys.stderr)
        return 1
    results.sort(key=lambda done: done.notebook.name)
    if options.in_place:
        whole = first_run and not (lost or options.first or options.only)
        minutes = (time.perf_counter() - begun) / 60 if whole else None
        commit(profile, parameters["overrides"], results, folder, minutes)
    print(f"\n{summary(results)}\n\nTables and figures: figures/{profile.label}")
    print(f"Executed notebooks: {short(folder)}")
    return int(lost)


def going_on(jobs: list[Job], results: list[Done], only: str | None) -> str:
    """Which notebook the run had come to, and what to type to go on: ``04; go on with --from 04``.

    Stations run before studies of lower numbers, so the two may differ.
    """
    from lib.running.collection import KINDS

    ended = {done.notebook for done in results if not done.error}
    left = [job for job in jobs if job.notebook not in ended] or jobs
    at = min(left, key=lambda job: (KINDS.index(job.kind), job.number)).number
    return f"{at}; go on with " + (f"--only {only}" if only else f"--from {min(job.number for job in left)}")


def commit(profile: Profile, changed: dict[str, Any], results: list[Done], folder: Path, minutes: float | None) -> None:
    """Write anew what is committed of a run beside the notebooks; of others than desk's own, verdicts or answers.

    Parameters
    ----------
    changed : settings that differ from the profile's.
    folder : where the records of notebooks are.
    minutes : what the run took from nothing; None if it went on from something, or left something out.
    """
    from lib import pages
    from lib.plan.report import facts
    from lib.profile import load
    from lib.run import Run
    from lib.studies import foreign, reruns

    if profile.label != "desk":
        tables = ROOT / "figures" / profile.label
        answers = profile.name == "smollm2"
        kept = foreign.keep(Run(profile)) if answers else reruns.keep(profile, changed, tables, minutes)
        print(f"Kept: {short(kept)}")
        return
    away = [p for p in map(load, settings.names()) if p.images.source != "scenes"]
    plans = "\n\n".join(facts(p).replace("\n## ", "\n### ").replace("# Plan of", "## Plan of") for p in away)
    head = "# What the paper's models take: downloads, licences, gates, hours"
    write_text(pages.NOTEBOOKS / "plans.md", f"{head}\n\n{plans}\n")
    pages.write_run(profile.name, profile.jobs, results, folder, minutes)


if __name__ == "__main__":
    sys.exit(main())
