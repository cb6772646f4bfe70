"""What is there of a run, what is stale and because of what, and what each part cost: ``./run_all.sh --status``."""

from __future__ import annotations

from collections.abc import Iterator

from lib.profile import Profile
from lib.running import freshness
from lib.running.collection import survey
from lib.running.process import cores
from lib.running.runner import Job, jobs_for, shortly
from lib.stage import Stage
from lib.store import Damaged, MissingStage

HEAD = ("state", "cost", "because")


def of_run(profile: Profile) -> Iterator[tuple[str, str, str, str]]:
    """Every stage of a profile, then those of its variants, which try coefficients for some methods alone."""
    from lib.run import Run  # imports torch

    for view, part in profile.views.items():
        for stage in Run(part).stages():
            if not view or stage.title != "coefficient":
                name, state, cost, why = of_stage(stage)
                if view and state == "stale":  # what a variant changes is no reason: others' results are not its own
                    state, why = "missing", ""
                yield f"{view}: {name}" if view else name, state, cost, why


def of_stage(stage: Stage) -> tuple[str, str, str, str]:
    """Name, state, cost and reason of one stage."""
    name = f"{stage.notebook} {stage.folder.name}"
    if stage.made:
        return name, "fresh", _time(stage.seconds), ""
    if stage.folder.is_dir():
        return name, "unfinished", _time(stage.seconds), ""
    changed = stage.stale()
    return name, "missing" if changed is None else "stale", "", shortly(changed or [])


def of_notebook(job: Job) -> tuple[str, str, str, str]:
    """Name, state, cost and reason of one notebook."""
    why = job.reasons()
    try:
        kept = freshness.kept(job.record)
    except (FileNotFoundError, Damaged):
        return job.notebook.name, "missing", "", shortly([r for r in why if r != freshness.NEVER])
    return (
        job.notebook.name,
        "stale" if why else "fresh",
        f"{_time(kept['seconds'])}, {kept['peak']:.1f} GiB",
        shortly(why),
    )


def _time(seconds: float) -> str:
    return f"{seconds:.0f} s" if seconds < 600 else f"{seconds / 3600:.1f} h"


def table(rows: list[tuple[str, ...]]) -> str:
    """Rows under each other, as wide as they must be."""
    widths = [max(map(len, column)) for column in zip(*rows)]
    return "\n".join("  ".join(cell.ljust(w) for cell, w in zip(row, widths)).rstrip() for row in rows)


def main_status(profile: Profile) -> int:
    """Print the report of a profile; returns the exit code: 1 if something that it names is absent."""
    print(f"# {profile.label}\n")
    _, broken, left_out = survey()
    for line in (*broken.values(), *left_out):
        print(line)
    code = int(bool(broken))
    for title, rows in (
        ("stage", lambda: of_run(profile)),
        ("notebook", lambda: map(of_notebook, jobs_for(profile, {}, cores()))),
    ):
        try:
            print(table([(title, *HEAD), *rows()]) + "\n")
        except (OSError, MissingStage, Damaged, ValueError) as error:
            code = 1
            print(f"{title}s: nobody can say yet: {error}\n")
    return code
