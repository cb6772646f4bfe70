"""What a run will take, before it takes it: downloads, hours, and what is missing here (`--plan`)."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from lib import machine
from lib.assets import NEARLY, Asset, assets_of, is_folder, is_package, is_path, named
from lib.hours import StageCost, stages
from lib.profile import Profile
from lib.store import ROOT, hub_id

# -- what is missing -------------------------------------------------------------------------------


@dataclass(frozen=True)
class Problem:
    """Why the run cannot work: what is wrong, and what to do about it."""

    what: str
    remedy: str


def problems(profile: Profile, assets: list[Asset] | None = None) -> list[Problem]:
    """All reasons that can be found beforehand why a run of this profile would stop.

    What the cache holds of a repository is judged by its size: nothing is opened.
    """
    assets = assets_of(profile) if assets is None else assets
    return [*_packages(), *_folders(profile), *_space(profile, assets), *_machine(profile), *_hub(assets)]


def _packages() -> Iterator[Problem]:
    for name, version in machine.required().items():
        if (found := machine.installed(name)) != version:
            what = f"package {name} {version} is not installed" + (f" ({found} is)" if found else "")
            yield Problem(what, f"`pip install {name}=={version}`, or let ./run_all.sh make its .venv")


def _folders(profile: Profile) -> Iterator[Problem]:
    seen = set()
    for role, written, _, _ in named(profile):
        name = hub_id(written)[0]
        place = name.partition(":")[0] if role == "dictionary" else name
        if is_path(place) and not is_package(place) and not is_folder(place) and place not in seen:
            seen.add(place)
            key = "images.source" if role == "images" else f"the {role}"
            yield Problem(f"{role}: there is no folder {place}", f"make it, or name another as {key} in the profile")


def _space(profile: Profile, assets: list[Asset]) -> Iterator[Problem]:
    needs = {machine.hub_cache(): sum(a.missing for a in assets), ROOT: profile.hardware.disk_gb}
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


def _hub(assets: list[Asset]) -> Iterator[Problem]:
    wanted = [a for a in assets if not a.here]
    gated = [a for a in wanted if a.gated]
    if logged_out := bool(gated) and machine.token() is None:
        pages = ", ".join(a.page for a in gated)
        yield Problem("no hub token, and gated repositories are to be downloaded", f"`hf auth login`; accept: {pages}")
    for asset in wanted:
        state = machine.access(asset)
        if state == "unreachable":
            names = ", ".join(a.id for a in wanted)
            remedy = "unset HF_HUB_OFFLINE, mend the connection, or copy the cache from a machine that has them"
            yield Problem(f"the hub cannot be reached, and these are not in the cache: {names}", remedy)
            return  # the others would wait for the same time-out
        if state == "refused":
            yield Problem("the hub refuses your token", "`hf auth login` with a new one that may read")
            return
        if state == "gated" and not logged_out:
            yield Problem(f"the gate of {asset.id} is not open to you", f"accept its terms: {asset.page}")
        if state == "absent":
            remedy = "mend the id in the profile; for a private one, `hf auth login`"
            yield Problem(f"there is no {asset.kind} {asset.id} on the hub, and no such folder", remedy)


# -- the report ------------------------------------------------------------------------------------


def facts(profile: Profile, assets: list[Asset] | None = None) -> str:
    """What a profile assumes, downloads and costs, wherever it is run, as Markdown."""
    assets = assets_of(profile) if assets is None else assets
    h, costs = profile.hardware, stages(profile)
    gpu = f"{h.gpu_gb:g} GB of GPU memory" if h.gpu_gb else "no GPU"
    return "\n".join(
        [
            f"# Plan of profile `{profile.name}`\n",
            f"Assumed: {h.name}; {gpu}, {h.memory_gb:g} GB of main memory, {h.disk_gb:g} GB for results, "
            f"{h.tflops:g} TFLOP/s sustained.\n",
            "## Downloads\n",
            *_asset_lines(assets),
            "\n## Time\n",
            *_stage_lines(costs),
        ]
    )


def report(profile: Profile, assets: list[Asset] | None = None, found: list[Problem] | None = None) -> str:
    """The whole plan as Markdown: :func:`facts`, and what this machine lacks."""
    assets = assets_of(profile) if assets is None else assets
    found = problems(profile, assets) if found is None else found
    missing = [f"- {p.what}\n  - {p.remedy}" for p in found] or ["Nothing is missing."]
    return "\n".join([facts(profile, assets), "\n## What is missing\n", *missing])


def _asset_lines(assets: list[Asset]) -> list[str]:
    if not assets:
        return ["Nothing to download."]
    lines = ["| for | repository | revision | GB | licence | gate | state |", "|---|---|---|---:|---|---|---|"]
    for a in assets:
        cells = (
            ", ".join(a.roles),
            a.id,
            a.revision[:7] if a.pinned else f"{a.revision} (not pinned)",
            "unknown" if a.gb is None else f"{a.gb:.2f}",
            a.licence,
            a.page if a.gated else "none",
            "here" if a.here else "to download",
        )
        lines.append(f"| {' | '.join(cells)} |")
    unknown = sum(a.gb is None for a in assets)
    rest = f", and {unknown} of unknown size" if unknown else ""
    total, missing = sum(a.gb or 0 for a in assets), sum(a.missing for a in assets)
    return [*lines, f"\nIn all {total:.1f} GB, of which {missing:.1f} GB are to be downloaded{rest}."]


def _stage_lines(costs: list[StageCost]) -> list[str]:
    lines = ["| notebook | what | FLOPs | hours |", "|---|---|---:|---:|"]
    for c in costs:
        numbers = ("unknown", "unknown") if c.flops is None else (f"{c.flops:.1e}", _hours(c.hours))
        lines.append(f"| {c.notebook} | {c.what} | {numbers[0]} | {numbers[1]} |")
    flops, hours = (sum(getattr(c, name) or 0 for c in costs) for name in ("flops", "hours"))
    lines.append(f"| | in all | {flops:.1e} | {_hours(hours)} |")
    unknown = any(c.flops is None for c in costs)
    return [
        *lines,
        "\nHours are not measured: they are matrix products, counted from the shapes of the models, at the sustained "
        "speed above. Words are spoken one at a time, which is slower than that; explanations that say the same "
        "are drawn once, which is quicker. Loading, drawing scenes and plotting are not counted."
        + (" `unknown`: the model's shape is not in data/paper/assets.yaml." if unknown else ""),
    ]


def _hours(hours: float) -> str:
    """Two digits, and no powers of ten."""
    return f"{hours:.0f}" if hours >= 10 else f"{hours:.2g}"


def main_plan(profile: Profile) -> int:
    """Print the plan; returns the exit code: 0 if nothing is missing, else 1."""
    assets = assets_of(profile)
    found = problems(profile, assets)
    print(report(profile, assets, found))
    return 1 if found else 0
