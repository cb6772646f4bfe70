"""Run the notebooks in order: `python -m lib`, or rather ./run_all.sh, which sets up the environment first."""

from __future__ import annotations

import argparse
import json
import os
import re
import resource
import sys
import time
from pathlib import Path
from typing import Any

import nbformat
import papermill
import yaml
from nbclient.exceptions import DeadKernelError

from lib import profile as profiles
from lib.profile import ProfileError
from lib.store import ROOT, digest, files_digest, model_digest, write_atomically, write_json

NOTEBOOKS, README = ROOT / "notebooks", ROOT / "README.md"


def notebooks() -> dict[str, Path]:
    """The notebooks in order, by number."""
    return {path.name[:2]: path for path in sorted(NOTEBOOKS.glob("[0-9][0-9]_*.ipynb"))}


def parse(arguments: list[str]) -> argparse.Namespace:
    """Read the command line; a wrong one ends with a message."""
    parser = argparse.ArgumentParser(prog="run_all.sh", description="Regenerate every table and figure.")
    parser.add_argument("--profile", default="desk", metavar="NAME")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--from", dest="first", metavar="NN", choices=list(notebooks()))
    which.add_argument("--only", metavar="NN", choices=list(notebooks()))
    parser.add_argument("--set", dest="settings", action="append", default=[], metavar="KEY=VALUE")
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


def key(notebook: Path, profile: profiles.Profile) -> str:
    """Digest of all that a notebook's results depend on: the notebooks up to it, the library, profile and models."""
    before = [path for path in notebooks().values() if path.name <= notebook.name]
    cells = [(c.cell_type, c.source) for path in before for c in nbformat.read(path, 4).cells]
    library = files_digest((ROOT / "lib", ROOT / "data" / "paper"))
    models = [model_digest(profile.subject.model, profile.subject.revision)]
    others = [changes["subject.model"] for changes in profile.variants.values() if "subject.model" in changes]
    models += [model_digest(m) for m in (profile.score.clip, *profile.explainers.values(), *others)]
    return digest(cells, library, profile.as_dict(), models)


def fresh(record: Path, wanted: str) -> bool:
    """Whether a notebook ran with this key and what it made is still there, unchanged."""
    if not record.exists():
        return False
    state = json.loads(record.read_text())
    return state["key"] == wanted and all(
        (ROOT / name).is_file() and files_digest((ROOT / name,)) == found for name, found in state["made"].items()
    )


def snapshot(folder: Path) -> dict[str, int]:
    """Modification times of the files in a folder."""
    return {str(p.relative_to(ROOT)): p.stat().st_mtime_ns for p in folder.glob("*")} if folder.is_dir() else {}


def execute(
    notebook: Path, profile: profiles.Profile, parameters: dict[str, Any], record: Path, wanted: str
) -> list[str]:
    """Run one notebook through papermill; returns the files it made in the figures folder."""
    figures = ROOT / "figures" / profile.label
    before = snapshot(figures)
    executed = record.with_suffix(".ipynb")
    executed.parent.mkdir(parents=True, exist_ok=True)
    papermill.execute_notebook(
        notebook,
        executed,
        parameters,
        kernel_name="python3",
        cwd=ROOT,
        progress_bar=False,
        stdout_file=sys.stdout,
        stderr_file=sys.stderr,
        extra_arguments=["--IPKernelApp.log_level=40"],
    )
    made = sorted(name for name, time_ns in snapshot(figures).items() if before.get(name) != time_ns)
    files_digest.cache_clear()
    write_json(record, {"key": wanted, "made": {name: files_digest((ROOT / name,)) for name in made}})
    return made


def put_back(executed: Path, notebook: Path) -> None:
    """Write outputs into the notebook itself, without the traces of this run."""
    source, done = nbformat.read(notebook, 4), nbformat.read(executed, 4)
    outputs = [c for c in done.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    for cell, run in zip(source.cells, outputs, strict=True):
        if cell.cell_type == "code":
            cell.outputs = [o for o in run.outputs if o.get("name") != "stderr"]
            cell.execution_count = None
            for output in cell.outputs:
                output.pop("execution_count", None)
                if output.output_type == "execute_result":
                    output.execution_count = None
    nbformat.validate(source)
    write_atomically(notebook, lambda path: nbformat.write(source, path))


def with_files(text: str) -> str:
    """A page with the files that it names between ``<!-- from FILE -->`` and ``<!-- end -->`` put there anew."""

    def insert(match: re.Match[str]) -> str:
        return f"<!-- from {match[1]} -->\n{(ROOT / match[1]).read_text()}<!-- end -->"

    return re.sub(r"<!-- from (\S+) -->.*?<!-- end -->", insert, text, flags=re.DOTALL)


def summary(rows: list[tuple[str, str, float, int]]) -> str:
    """What was made, and how long it took: a Markdown table."""
    lines = ["| notebook | | seconds | files |", "|---|---|---|---|"]
    return "\n".join(
        [*lines, *(f"| {name} | {what} | {seconds:.0f} | {files} |" for name, what, seconds, files in rows)]
    )


def measured(rows: list[tuple[str, str, float, int]], profile: str) -> str:
    """The timing page: seconds of each notebook and peak memory of the largest, on this machine."""
    peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 2**20  # from KiB
    total = sum(seconds for _, _, seconds, _ in rows) / 60
    return (
        "# What a first run takes\n\n"
        f"Profile `{profile}` on {os.cpu_count()} CPU cores, environment ready, nothing cached: {total:.1f} minutes in "
        f"all, peak memory {peak:.1f} GiB. Written by `./run_all.sh --in-place`.\n\n{summary(rows)}\n"
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
    if options.from_scratch:
        from lib.desk.build import build_all

        build_all()
    # A kernel of ours shows no widgets, and need not be told that it cannot.
    os.environ.setdefault("PYTHONWARNINGS", "ignore:IProgress not found")
    todo = {n: p for n, p in notebooks().items() if options.only in (None, n) and n >= (options.first or "")}
    runs = ROOT / "data" / "runs" / profile.name
    first_run = not runs.exists() and todo == notebooks()
    rows = []
    for place, (number, notebook) in enumerate(todo.items(), 1):
        begun, record, wanted = (
            time.perf_counter(),
            runs / "notebooks" / profile.label / f"{notebook.stem}.json",
            key(notebook, profile),
        )
        if fresh(record, wanted) and not options.force and not options.in_place:
            rows.append((notebook.name, "up to date", 0.0, len(json.loads(record.read_text())["made"])))
            continue
        print(f"\n== {notebook.name} ({place} of {len(todo)}), profile {profile.name}", flush=True)
        try:
            made = execute(notebook, profile, {"profile": options.profile, "overrides": chosen}, record, wanted)
        except (papermill.PapermillExecutionError, DeadKernelError) as error:
            why = f"{error.ename}: {error.evalue}" if hasattr(error, "ename") else f"{error} (out of memory?)"
            print(
                f"\nrun_all.sh: {notebook.name} stopped: {why}\n"
                f"What was made before is kept; mend the cause and go on with --from {number}.\n"
                f"The notebook as far as it came: {record.with_suffix('.ipynb').relative_to(ROOT)}",
                file=sys.stderr,
            )
            return 1
        if options.in_place:
            put_back(record.with_suffix(".ipynb"), notebook)
        rows.append((notebook.name, "done", time.perf_counter() - begun, len(made)))
    if options.in_place:
        write_atomically(README, lambda path: path.write_text(with_files(README.read_text())))
    if options.in_place and first_run:
        write_atomically(NOTEBOOKS / "timing.md", lambda path: path.write_text(measured(rows, profile.name)))
    print(f"\n{summary(rows)}\n\nTables and figures: figures/{profile.label}")
    print(f"Executed notebooks: {runs.relative_to(ROOT)}/notebooks/{profile.label}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
