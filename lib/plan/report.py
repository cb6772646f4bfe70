"""What a run will take, before it takes it: downloads, hours, and what is missing here (`--plan`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lib.plan import machine
from lib.plan.assets import NEARLY, Repository, downloads, known, named, role_of
from lib.plan.hours import MEANING, Cost, costs, told
from lib.profile import Profile
from lib.run import Run
from lib.store import ROOT

# -- what is missing -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Why the run cannot work: what is wrong, and what to do about it."""

    what: str
    remedy: str


def problems(profile: Profile) -> list[Problem]:
    """All reasons that can be found beforehand why a run of this profile would stop.

    What the cache holds of a repository is judged by its size: nothing is opened.
    """
    wanted = [r for r in downloads(profile) if not r.here]
    on_hub = [r for r in wanted if r.kind != "package"]
    return [*_packages(), *_folders(profile), *_space(profile, wanted), *_machine(profile), *_hub(on_hub)]


def _packages() -> Iterator[Problem]:
    for name, version in machine.required().items():
        if (found := machine.installed(name)) != version:
            what = f"package {name} {version} is not installed" + (f" ({found} is)" if found else "")
            yield Problem(what, f"`pip install {name}=={version}`, or let ./run_all.sh make its .venv")


def _folders(profile: Profile) -> Iterator[Problem]:
    places = {asset.id: (key, asset) for view in profile.views.values() for key, asset in named(view)}
    for place, (key, asset) in places.items():
        if asset.looks_local and asset.local is None and place not in known():
            what = f"{role_of(key)}: there is no folder {place}"
            yield Problem(what, f"make it, or name another as {key} in the profile")
    for view in profile.views.values():
        if view.images.source != "scenes" and view.images.source.local:
            try:
                _ = Run(view).sets
            except (ValueError, OSError) as error:
                yield Problem(f"images: {error}", "change the profile's images, or put more pictures there")


def _space(profile: Profile, wanted: list[Repository]) -> Iterator[Problem]:
    needs = {machine.hub_cache(): sum(r.missing for r in wanted), ROOT: profile.hardware.disk_gb}
    disks: dict[int, list[tuple[Path, float, float]]] = {}
    for path, need in needs.items():
        number, free = machine.disk(path)
        disks.setdefault(number, []).append((path, need, free))
    for users in disks.values():
        need, free = sum(u[1] for u in users), users[0][2]
        if need > free:
            where = " and ".join(str(path) for path, part, _ in users if part)
            yield Problem(
                f"{need:.0f} GB needed for downloads and results in {where}; {free:.0f} GB free",
                "free some, or set HF_HOME to a folder on a larger disk",
            )


def _machine(profile: Profile) -> Iterator[Problem]:
    wanted, other = profile.hardware, "take a profile for less (laptop, desk), or another machine"
    if wanted.gpu_gb:
        have = machine.gpus()
        if not have:
            yield Problem(f"no GPU that PyTorch can use; {wanted.gpu_gb:g} GB of GPU memory assumed", other)
        elif sum(have) < NEARLY * wanted.gpu_gb:
            yield Problem(f"{sum(have):.0f} GB of GPU memory; {wanted.gpu_gb:g} GB assumed", other)
    if (memory := machine.main_memory()) < NEARLY * wanted.memory_gb:
        yield Problem(f"{memory:.0f} GB of main memory; {wanted.memory_gb:g} GB assumed", other)


def _hub(wanted: list[Repository]) -> Iterator[Problem]:
    gated = [r for r in wanted if r.gated]
    if logged_out := bool(gated) and machine.token() is None:
        pages = ", ".join(r.page for r in gated)
        yield Problem("no hub token, and gated repositories are to be downloaded", f"`hf auth login`; accept: {pages}")
    for r in wanted:
        state = machine.access(r)
        if state == "unreachable":
            names = ", ".join(r.id for r in wanted)
            remedy = "unset HF_HUB_OFFLINE, mend the connection, or copy the cache from a machine that has them"
            yield Problem(f"the hub cannot be reached, and these are not in the cache: {names}", remedy)
            return  # the others would wait for the same time-out
        if state == "refused":
            yield Problem("the hub refuses your token", "`hf auth login` with a new one that may read")
            return
        if state == "gated" and not logged_out:
            yield Problem(f"the gate of {r.id} is not open to you", f"accept its terms: {r.page}")
        if state == "absent":
            remedy = "mend the id in the profile; for a private one, `hf auth login`"
            yield Problem(f"there is no {r.kind} {r.id} on the hub, and no such folder", remedy)


# -- the report ------------------------------------------------------------------------------------


def facts(profile: Profile) -> str:
    """What a profile assumes, downloads and costs, wherever it is run, as Markdown."""
    h = profile.hardware
    gpu = f"{h.gpu_gb:g} GB of GPU memory" if h.gpu_gb else "no GPU"
    assumed = f"{h.memory_gb:g} GB of main memory, {h.disk_gb:g} GB for results, {h.tflops:g} TFLOP/s sustained."
    return f"""# Plan of profile `{profile.name}`

Assumed: {h.name}; {gpu}, {assumed}

## Downloads

{_downloads(downloads(profile))}

## Time

{_time(list(costs(profile)), h.tflops * 1e12 * 3600)}"""


def main_plan(profile: Profile) -> int:
    """Print :func:`facts`, and what this machine lacks; returns the exit code: 0 if nothing is missing, else 1."""
    found = problems(profile)
    missing = [f"- {p.what}\n  - {p.remedy}" for p in found] or ["Nothing is missing."]
    print("\n".join([facts(profile), "\n## What is missing\n", *missing]))
    return 1 if found else 0


def _downloads(wanted: list[Repository]) -> str:
    if not wanted:
        return "Nothing to download."
    lines = ["| for | repository | revision | GB | licence | gate | state |", "|---|---|---|---:|---|---|---|"]
    for r in wanted:
        size = "unknown" if r.gb is None else f"{r.gb:.2f}"
        revision = r.revision[:7] if r.pinned else r.revision + " (not pinned)" * (r.kind != "package")
        terms = f"{r.licence} | {r.page if r.gated else 'none'}"
        state = "here" if r.here else "to download"
        lines.append(f"| {', '.join(r.roles)} | {r.id} | {revision} | {size} | {terms} | {state} |")
    unknown = sum(r.gb is None for r in wanted)
    rest = f", and {unknown} of unknown size" if unknown else ""
    total, missing = sum(r.gb or 0 for r in wanted), sum(r.missing for r in wanted)
    return "\n".join([*lines, f"\nIn all {total:.1f} GB, of which {missing:.1f} GB are to be downloaded{rest}."])


def _time(found: list[Cost], rate: float) -> str:
    """``rate``: FLOPs an hour."""
    lines = ["| notebook | what | FLOPs | hours |", "|---|---|---:|---:|"]
    for notebook, what, flops in (*found, Cost("", "in all", sum(c.flops or 0 for c in found))):
        numbers = "unknown | unknown" if flops is None else f"{flops:.1e} | {told(flops / rate)}"
        lines.append(f"| {notebook} | {what} | {numbers} |")
    lines.append(f"\n{MEANING}")
    if any(c.flops is None for c in found):
        lines[-1] += " `unknown`: the model's shape is neither in data/paper/assets.yaml nor in a folder here."
    return "\n".join(lines)
