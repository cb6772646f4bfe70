"""What profiles take from the hub, or from the package index: what it is, how large, under which terms."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, fields, is_dataclass, replace
from functools import cache
from typing import Any, Literal

from lib.hub import Asset
from lib.paper import yaml_of
from lib.plan import machine
from lib.profile import Profile

NEARLY = 0.95  # sizes are rounded: a 16 GB card reports 15.8
ROLES = {  # of what a profile names, where its key does not say it
    "subject.model": "subject",
    "images.source": "images",
    "sae.pretrained": "dictionary",
    "score.clip": "CLIP judge",
}


def named(section: Any, prefix: str = "") -> Iterator[tuple[str, Asset]]:
    """Every model, data set and dictionary that a profile names, or a part of one: its dotted key, and the name."""
    inside = section if isinstance(section, dict) else {f.name: getattr(section, f.name) for f in fields(section)}
    for name, value in inside.items():
        if isinstance(value, Asset) and value != "scenes":
            yield prefix + name, value
        elif is_dataclass(value) or (isinstance(value, dict) and name != "variants"):  # variants have their own views
            yield from named(value, f"{prefix}{name}.")


def role_of(key: str) -> str:
    """What something is for, by its key in the profile."""
    section, _, name = key.partition(".")
    return ROLES.get(key, f"explainer {name}" if section == "explainers" else name)


# -- downloads -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Repository:
    """A repository on the hub that the profile needs; or a package from which a model is put together.

    Attributes
    ----------
    roles : what it is there for.
    revision : as the profile names it, else ``main``.
    gb : 10^9 bytes that are downloaded from it; None if this project has not met it.
    page : where its licence is, and its gate.
    cached : 10^9 bytes of it that are in the cache.
    """

    id: str
    kind: Literal["model", "dataset", "package"]
    roles: tuple[str, ...] = ()
    revision: str = "main"
    gb: float | None = None
    licence: str = "see its page"
    gated: bool = False
    page: str = ""
    cached: float = 0.0

    @property
    def pinned(self) -> bool:
        """Whether the revision is a commit."""
        return bool(re.fullmatch(r"[0-9a-f]{40}", self.revision))

    @property
    def here(self) -> bool:
        """Whether the cache holds it: all of it, or anything if nobody knows how much that is."""
        return self.cached > 0 and self.cached >= NEARLY * (self.gb or 0)

    @property
    def missing(self) -> float:
        """10^9 bytes still to be downloaded, as far as known."""
        return 0.0 if self.here else max(0.0, (self.gb or 0) - self.cached)


@cache
def known() -> dict[str, dict[str, Any]]:
    """``data/paper/assets.yaml``: id -> what is known of it."""
    return yaml_of("assets")


def downloads(profile: Profile) -> list[Repository]:
    """What the profile needs from elsewhere, each repository once; folders and installed packages cost nothing."""
    found: dict[tuple[str, str], Repository] = {}
    parts: dict[tuple[str, str], set[str]] = defaultdict(set)  # dictionaries, or splits, of one repository
    for view in profile.views.values():
        for key, asset in named(view):
            entry = known().get(asset.id, {})
            if asset.looks_local and not entry:
                continue
            kind = entry.get("kind", "dataset" if key == "images.source" else "model")
            place = asset.id, entry["revision"] if kind == "package" else asset.revision or "main"
            parts[place] |= (_splits(view) if kind == "dataset" else {asset.part}) - {""}
            old = found.get(place, Repository(asset.id, kind, revision=place[1]))
            page = f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{asset.id}"
            stated = {name: entry[name] for name in ("licence", "gated") if name in entry}
            found[place] = replace(
                old,
                roles=tuple(dict.fromkeys((*old.roles, role_of(key)))),
                gb=_size(entry, parts[place], view.score.without_t5),
                page=entry.get("page", page),
                **stated,
            )
    here = machine.cached() if found else {}
    here |= {(r.kind, r.id, r.revision): r.gb or 0.0 for r in found.values() if Asset(r.id).local}
    return [replace(r, cached=here.get((r.kind, r.id, r.revision), 0.0)) for r in found.values()]


def _splits(view: Profile) -> set[str]:
    """Parts of a data set that a run reads."""
    training = None if view.sae.pretrained else view.images.train_split
    return {split for split in (training, view.images.split) if split}


def _size(entry: dict[str, Any], parts: set[str], without_t5: bool) -> float | None:
    if "splits" in entry:
        return sum(gb for split, gb in entry["splits"].items() if split in parts or not parts)
    if without_t5 and "gb_without_t5" in entry:
        return entry["gb_without_t5"]
    return entry["gb"] * max(1, len(parts)) if "gb" in entry else None
