"""How a model that was made here comes to ship: its card, its training log, its checksums."""

from __future__ import annotations

import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lib import contents, identity
from lib.hub import Asset
from lib.stats import Estimate
from lib.store import ROOT, RUNS, write_json, write_text
from lib.store import read as read_file

MODELS = ROOT / "data" / "models"
SHIPS = (MODELS, ROOT / "data" / "paper")
EDITED = ("claims.yaml", "index.yaml")  # ship as well, but are meant to be edited
WORK = RUNS / "from-scratch"

LICENCE = """\
The weights were trained on pictures composed of OpenMoji drawings (https://openmoji.org, "All emojis
designed by OpenMoji - the open-source emoji and icon project. License: CC BY-SA 4.0") and are shared
under the same licence, CC BY-SA 4.0.
"""


def training_of(model: Asset) -> dict[str, Any] | None:
    """Log and held-out quality that a desk model was shipped with; None for any other model."""
    path = model.local and model.local / "training.json"
    return read_file(path) if path and path.is_file() else None


def card(title: str, lines: list[str], quality: dict[str, Estimate], facts: dict[str, object]) -> str:
    """A model card: what it is, how good it is, how it was made."""
    rows = "\n".join(f"| {name} | {e.mean:.3f} | {e.low:.3f} to {e.high:.3f} | {e.n} |" for name, e in quality.items())
    made = "\n".join(f"| {name} | {value} |" for name, value in facts.items())
    body = "\n".join(lines)
    return (
        f"---\nlicense: cc-by-sa-4.0\n---\n\n# {title}\n\n{body}\n\n## Quality on held-out pictures\n\n"
        f"| what | mean | 95 % interval | n |\n|---|---|---|---|\n{rows}\n\n"
        f"## How it was made\n\n| | |\n|---|---|\n{made}\n\n`training.json` holds the training log; "
        f"`./run_all.sh --from-scratch` makes the model anew.\n\n## Licence\n\n{LICENCE}"
    )


def work_of(work: Path, name: str, recipe: Any) -> Path:
    """Where checkpoints and caches are kept: a changed recipe, or changed code, never resumes from another's."""
    return work / f"{name}-{identity.digest(identity.of(recipe))}"


def describe(
    fresh: Path, title: str, lines: list[str], quality: dict[str, Estimate], facts: dict[str, object], logs: dict
) -> None:
    """Write a model's training log and its card."""
    write_json(fresh / "training.json", {**logs, "quality": {name: asdict(e) for name, e in quality.items()}})
    write_text(fresh / "README.md", card(title, lines, quality, facts))


def publish(fresh: Path, folder: Path, *done: Path) -> None:
    """Put a finished model where it ships from, then drop its checkpoints and caches.

    The old model stays until the new one is complete.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    staged = folder.with_name(f".{folder.name}-new")
    shutil.rmtree(staged, ignore_errors=True)
    shutil.copytree(fresh, staged, symlinks=True)
    if folder.exists():
        shutil.rmtree(folder)
    staged.rename(folder)
    if folder.parent == MODELS:
        write_checksums(folder)
    for path in (fresh, *done):
        if path.exists():  # a subject with another's encoder has no checkpoint of its own
            shutil.rmtree(path)


def write_checksums(*folders: Path) -> None:
    """Write to ``data/checksums.json`` what the files in some folders hold; without any, all that ship."""
    wanted = folders or SHIPS
    kept = {name: value for name, value in contents.shipped().items() if not {*wanted} & {*(ROOT / name).parents}}
    new = [path for folder in wanted for path in contents.visible(folder) if path.name not in EDITED]
    kept |= {path.relative_to(ROOT).as_posix(): contents.file_digest(path) for path in new}
    write_json(contents.SHIPPED, dict(sorted(kept.items())))
    contents.shipped.cache_clear()
