"""Run the notebooks in order: `python -m lib`, or rather ./run_all.sh, which sets up the environment first."""

from __future__ import annotations

import argparse
import os
import re
import resource
import sys
import time
from typing import Any

import yaml

from lib import profile as profiles
from lib.profile import ProfileError
from lib.runner import NOTEBOOKS, Done, Job, fits, key, kind, notebooks, put_back, run_all
from lib.store import ROOT, write_atomically

README = ROOT / "README.md"


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; a wrong one ends with a message."""
    parser = argparse.ArgumentParser(prog="run_all.sh", description="Regenerate every table and figure.")
    parser.add_argument("--profile", default="desk", metavar="NAME")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--from", dest="first", metavar="NN", choices=list(notebooks()))
    which.add_argument("--only", metavar="NN", choices=list(notebooks()))
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
    parser.add_argument("--plan", action="store_true")
    parser.add_argument("--in-place", action="store_true")
    parser.add_argument("--force", action="store_true")
    parser.add_argument("--from-scratch", action="store_true")
    return parser.parse_args(arguments)


def overrides(settings: list[str]) -> dict[str, Any]:
    """``["sae.latents=256"]`` to ``{"sae.latents": 256}``; values are YAML.

    Raises
    ------
    ProfileError
        If a setting is not of the form key=value, or its value is no YAML.
    """
    out = {}
    for setting in settings:
        key, equals, value = setting.partition("=")
        if not equals:
            raise ProfileError(f"--set takes key=value, not {setting!r}")
        try:
            out[key.strip()] = yaml.safe_load(value)
        except yaml.YAMLError as error:
            raise ProfileError(f"--set {setting}: the value is not valid YAML ({error.problem})") from error
    return out


def with_files(text: str) -> str:
    """A page with the files that it names between ``<!-- from FILE -->`` and ``<!-- end -->`` put there anew."""

    def insert(match: re.Match[str]) -> str:
        return f"<!-- from {match[1]} -->\n{(ROOT / match[1]).read_text()}<!-- end -->"

    return re.sub(r"<!-- from (\S+) -->.*?<!-- end -->", insert, text, flags=re.DOTALL)


def summary(results: list[Done]) -> str:
    """What was made, and how long it took: a Markdown table."""
    rows = [
        f"| {done.notebook.name} | {'up to date' if done.cached else 'done'} | {done.seconds:.0f} | {done.files} |"
        for done in results
    ]
    return "\n".join(["| notebook | | seconds | files |", "|---|---|---|---|", *rows])


def measured(results: list[Done], profile: profiles.Profile, minutes: float) -> str:
    """The timing page: seconds of each notebook and peak memory of the largest, on this machine."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # from KiB
    return (
        "# What a first run takes\n\n"
        f"Profile `{profile.name}` on {os.cpu_count()} CPU cores, environment ready, nothing cached: "
        f"{minutes:.1f} minutes in all. "
        f"The largest notebook had {peak:.1f} GiB of memory at its peak; up to {profile.jobs} run at once. "
        f"Written by `./run_all.sh --in-place`.\n\n{summary(results)}\n"
    )


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for; returns the exit code."""
    options = parse(sys.argv[1:] if arguments is None else arguments)
    try:
        chosen = overrides(options.settings)
        profile = profiles.load(options.profile, chosen)
        if options.in_place and (chosen or profile.name != "desk"):
            raise ProfileError("--in-place is for what is committed: the desk profile, without --set")
    except ProfileError as error:
        print(f"run_all.sh: {error}", file=sys.stderr)
        return 2
    if options.plan:
        from lib.plan import main_plan

        return main_plan(profile)
    if options.from_scratch:
        from lib.desk.build import build_all

        build_all()
    # A kernel of ours shows no widgets, and need not be told that it cannot.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")
    fitting = {n: p for n, p in notebooks().items() if fits(p, profile)}
    todo = {n: p for n, p in fitting.items() if options.only in (None, n) and n >= (options.first or "")}
    if not todo:
        print(f"run_all.sh: notebook {options.only or options.first} is about Emoji Scenes alone", file=sys.stderr)
        return 2
    runs = ROOT / "data" / "runs" / profile.name
    first_run = not runs.exists() and todo == fitting
    records, cores = runs / "notebooks" / profile.label, os.cpu_count() or 1
    jobs = [
        Job(
            notebook,
            {"profile": options.profile, "overrides": chosen},
            records / f"{notebook.stem}.json",
            key(notebook, profile),
            max(1, cores // profile.jobs) if kind(notebook) == "study" else cores,
            profile.images.source == "scenes",
        )
        for notebook in todo.values()
    ]
    begun, results = time.perf_counter(), []
    for done in run_all(jobs, profile.jobs, options.force or options.in_place):
        results.append(done)
        if options.in_place and not done.error:
            put_back(records / done.notebook.name, done.notebook)
    for done in results:
        if done.error:
            print(
                f"\nrun_all.sh: {done.notebook.name} stopped: {done.error}\n"
                f"What was made before is kept; mend the cause and go on with --from {done.notebook.name[:2]}.\n"
                f"The notebook as far as it came: {(records / done.notebook.name).relative_to(ROOT)}",
                file=sys.stderr,
            )
    if any(done.error for done in results):
        return 1
    results.sort(key=lambda done: done.notebook.name)
    if options.in_place:
        from lib.plan import facts

        away = [p for p in map(profiles.load, profiles.names()) if p.images.source != "scenes"]
        plans = "\n\n".join(facts(p).replace("\n## ", "\n### ").replace("# Plan of", "## Plan of") for p in away)
        write_atomically(
            NOTEBOOKS / "plans.md", lambda path: path.write_text(f"# What the other profiles take\n\n{plans}\n")
        )
        write_atomically(README, lambda path: path.write_text(with_files(README.read_text())))
    if options.in_place and first_run:
        page = measured(results, profile, (time.perf_counter() - begun) / 60)
        write_atomically(NOTEBOOKS / "timing.md", lambda path: path.write_text(page))
    print(f"\n{summary(results)}\n\nTables and figures: figures/{profile.label}")
    print(f"Executed notebooks: {records.relative_to(ROOT)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
