"""What a notebook's results depend on, and whether they are still there: its record, beside the executed notebook.

A notebook depends on its own code, on the modules that this imports, on the profile's settings, models and pictures,
and on the files that it has read. Nobody lists any of that: the first three are derived before it runs, and the kernel
notes the last while it runs.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from lib import identity
from lib.contents import file_digest
from lib.hub import Asset
from lib.profile import Profile
from lib.settings import ProfileError
from lib.stage import lost
from lib.store import ROOT, Damaged, read, short, write_json

NEVER = "has not been run"
_PARTS = {"identity": dict, "made": dict, "used": dict, "stages": list, "seconds": float, "peak": float}


def code(sources: Iterable[str]) -> dict[str, Any]:
    """The code that cells consist of and reach: ``modules`` (a cell counts as one), and versions of ``packages``."""
    cells: dict[str, str] = {}
    own: set[str] = set()
    packages: set[str] = set()
    for number, source in enumerate(sources, 1):
        cells[f"code cell {number}"] = identity.digest(source)
        inside, others = identity.imports(_parsed(source))
        own |= inside
        packages |= others
    modules, more = identity.reached(sorted(own))
    return {"modules": cells | modules, "packages": identity.versions(packages | more)}


def _parsed(source: str) -> ast.AST:
    """Syntax of a cell; one that Python cannot read, as ``%magic``, as IPython reads it."""
    try:
        return ast.parse(source)
    except SyntaxError:
        from IPython.core.inputtransformer2 import TransformerManager  # slow, and hardly ever needed
    try:
        return ast.parse(TransformerManager().transform_cell(source))
    except SyntaxError:
        return ast.Module([], [])  # running it will say what is wrong


def material(profile: Profile) -> dict[str, Any]:
    """What a profile gives to all of its notebooks: settings, models by content, pictures by their listing.

    Raises
    ------
    FileNotFoundError
        If the profile names a folder that is not there.
    ProfileError
        If its pictures are fewer than it asks for, or not where it says.
    """
    settings = {k: _texts(v) for k, v in profile.as_dict().items() if k not in ("hardware", "jobs")}
    assets = {asset for p in profile.views.values() for asset in _assets(p.as_dict()) if asset != p.images.source}
    found = {"settings": identity.plain(settings), "models": {str(asset): asset.identity() for asset in sorted(assets)}}
    # JSON keeps no order of names, but tables do: the smallest explainer comes first.
    found["order"] = {key: list(settings[key]) for key in ("explainers", "variants")}
    away = {name: view for name, view in profile.views.items() if view.images.source != "scenes"}
    if away:
        from lib.run import Run  # imports torch

        try:
            found["pictures"] = {name: identity.plain(Run(view).sets) for name, view in away.items()}
        except ValueError as error:  # too few pictures, no such split: it says which settings to change
            raise ProfileError(str(error)) from error
    return found


def _assets(value: Any) -> Iterable[Asset]:
    if isinstance(value, Asset):
        yield value
    for item in value.values() if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else ():
        yield from _assets(item)


def _texts(value: Any) -> Any:
    """The same with models by their names alone."""
    if isinstance(value, dict):
        return {key: _texts(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_texts(item) for item in value]
    return str(value) if isinstance(value, Asset) else value


def kept(record: Path) -> dict[str, Any]:
    """What a record holds.

    Raises
    ------
    FileNotFoundError
        If there is none.
    Damaged
        If it is not what a record is.
    """
    found = read(record)
    whole = isinstance(found, dict) and all(isinstance(found.get(k), t) for k, t in _PARTS.items())
    if not whole or not all(isinstance(name, str) for name in found["stages"]):
        raise Damaged(f"{short(record)} is not the record of a notebook")
    return found


def reasons(record: Path, executed: Path, now: dict[str, Any]) -> list[str]:
    """Why a notebook must be run: a line each; none if all that it made is there and still holds."""
    try:
        was = kept(record)
    except FileNotFoundError:
        return [NEVER]
    except Damaged:
        return ["its record is damaged"]
    lines = identity.differences(was["identity"], now)
    lines += [] if executed.is_file() else [f"{executed.name} (executed) is gone"]
    for kind in ("made", "used"):
        for name, before in was[kind].items():
            found = _content(name)
            if found != before:
                lines.append(f"{name} {'is gone' if found is None else 'has changed'}")
    return lines + [f"{name}/{file} is gone" for name in was["stages"] for file in lost(ROOT / name)]


def _content(name: str) -> str | None:
    path = ROOT / name
    return file_digest(path) if path.is_file() else None


def write(record: Path, now: dict[str, Any], notes: str, seconds: float, peak: float) -> int:
    """Record that a notebook has run to its end; returns how many files it has made.

    Parameters
    ----------
    now : its identity.
    notes : what :func:`lib.store.note` has written meanwhile.
    seconds, peak : what it cost, and the most memory that it had, in GiB.
    """
    noted: dict[str, set[str]] = {"made": set(), "used": set(), "stage": set()}
    for line in notes.splitlines():
        kind, _, name = line.partition("\t")
        noted[kind].add(name)
    made = {name: _content(name) for name in sorted(noted["made"])}
    used = {name: _content(name) for name in sorted(noted["used"] - noted["made"])}
    stages = sorted(noted["stage"])
    write_json(
        record,
        {"identity": now, "made": made, "used": used, "stages": stages, "seconds": seconds, "peak": peak},
    )
    return len(made)
