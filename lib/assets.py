"""What profiles take from the hub: which repositories, how large, under which terms."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any, Literal

import yaml

from lib import machine
from lib.profile import Profile
from lib.store import ROOT, hub_id

NEARLY = 0.95  # sizes are rounded: a 16 GB card reports 15.8


@dataclass(frozen=True)
class View:
    """A profile as one of its variants changes it.

    Attributes
    ----------
    profile : the profile.
    changes : dotted keys and their new values.
    name : of the variant; empty for the profile itself.
    """

    profile: Profile
    changes: dict[str, Any]
    name: str = ""

    def get(self, key: str, default: Any = None) -> Any:
        """A setting by its dotted key."""
        if key in self.changes:
            return self.changes[key]
        value: Any = self.profile
        for part in key.split("."):
            value = getattr(value, part, None)
        return default if value is None else value

    @property
    def scenes(self) -> bool:
        """Whether its images are drawn, and its judges exact."""
        return self.get("images.source", "scenes") == "scenes"


def views(profile: Profile) -> list[View]:
    """The profile itself, then each of its variants."""
    variants = getattr(profile, "variants", {})
    return [View(profile, {}), *(View(profile, changes, name) for name, changes in variants.items())]


def is_path(name: str) -> bool:
    """Whether a name can only mean a folder, there or not: ids on the hub are ``owner/name``."""
    return not re.fullmatch(r"[\w.-]+/[\w.-]+", name) or name[0] in "./~" or name.startswith("data/")


def is_folder(name: str) -> bool:
    """Whether a name is that of a folder that exists, relative to the project or not."""
    return (ROOT / Path(name).expanduser()).is_dir()


def is_package(name: str) -> bool:
    """Whether a name is that of an installed package."""
    return name.isidentifier() and importlib.util.find_spec(name) is not None


def named(profile: Profile) -> Iterator[tuple[str, str, Literal["model", "dataset"], View]]:
    """Everything that a profile names and that may lie on the hub: role, name as written, kind, view."""
    for view in views(profile):
        single = {
            "subject": "subject.model",
            "dictionary": "sae.pretrained",
            "CLIP judge": "score.clip",
            "sentences": "score.sentences",
            "detector": "score.detector",
            "segmenter": "score.segmenter",
            "generator": "score.generator",
        }
        for role, key in single.items():
            if name := view.get(key):
                yield role, _spelt(role, name), "model", view
        if not view.scenes:
            yield "images", view.get("images.source"), "dataset", view
    for size, name in getattr(profile, "explainers", {}).items():
        yield f"explainer {size}", name, "model", View(profile, {})


def _spelt(role: str, name: str) -> str:
    """An id as it is on the hub, where a library has a short form for it."""
    if role == "sentences" and "/" not in name and not is_package(name):
        return f"sentence-transformers/{name}"
    return name


# -- downloads -------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Asset:
    """A repository on the hub that the profile needs.

    Attributes
    ----------
    roles : what it is there for.
    revision : as the profile names it, else ``main``.
    gb : 10^9 bytes that are downloaded from it; None if this project has not met it.
    page : where its licence is, and its gate.
    cached : 10^9 bytes of it that are in the cache.
    """

    id: str
    kind: Literal["model", "dataset"]
    roles: tuple[str, ...]
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
    return yaml.safe_load((ROOT / "data" / "paper" / "assets.yaml").read_text())


def assets_of(profile: Profile) -> list[Asset]:
    """What the profile needs from the hub, each repository once; folders and installed packages cost nothing."""
    found: dict[tuple[str, str], Asset] = {}
    parts: dict[tuple[str, str], set[str]] = {}  # dictionaries, or splits, of one repository
    for role, written, kind, view in named(profile):
        repository, _, pattern = written.partition(":")
        name, revision = hub_id(repository)
        if is_path(name) or is_folder(name):
            continue
        key = (name, revision or "main")
        entry = known().get(name, {})
        old = found.get(key, Asset(name, kind, ()))
        roles = old.roles if role in old.roles else (*old.roles, role)
        parts.setdefault(key, set()).update([pattern] if pattern else [])
        if kind == "dataset":
            parts[key].update(_splits(view))
        found[key] = replace(
            old,
            roles=roles,
            revision=key[1],
            gb=_size(entry, parts[key], view.get("score.without_t5", False)),
            licence=entry.get("licence", old.licence),
            gated=entry.get("gated", False),
            page=entry.get("page") or f"https://huggingface.co/{'datasets/' if kind == 'dataset' else ''}{name}",
        )
    here = machine.cached() if found else {}
    return [replace(a, cached=here.get((a.kind, a.id, a.revision), 0.0)) for a in found.values()]


def _splits(view: View) -> list[str]:
    """Parts of a data set that a run reads."""
    training = [] if view.get("sae.pretrained") else [view.get("images.train_split")]
    return [split for split in (*training, view.get("images.split")) if split]


def _size(entry: dict[str, Any], parts: set[str], without_t5: bool) -> float | None:
    if "splits" in entry:
        return sum(gb for split, gb in entry["splits"].items() if split in parts or not parts)
    if without_t5 and "gb_without_t5" in entry:
        return entry["gb_without_t5"]
    return entry["gb"] * max(1, len(parts)) if "gb" in entry else None
