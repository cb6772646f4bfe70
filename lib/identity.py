"""What a result depends on, derived from what it is made of and never typed by hand.

A result is described by a value: a frozen dataclass whose fields are all that its maker is given. Its identity is the
plain form of those fields (settings, models by content, pictures by their listing, results before it) together with
the code that it reaches: the module of every class in it, and all that those import, each by a digest of its syntax
without comments and docstrings. Wording, figures and the plan are reached by no result, so they change none.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.metadata
import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import fields, is_dataclass
from enum import Enum
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from lib.contents import content_of
from lib.store import ROOT

NOT_PART = {"identity": False}  # metadata of a field that changes nothing in a result: where it is kept, a cache


def digest(value: Any) -> str:
    """Twelve hexadecimal digits that change whenever a plain value does."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def plain(value: Any) -> Any:
    """A value as JSON holds it, models and pictures by their content.

    Raises
    ------
    TypeError
        If it holds something of which nobody knows what it depends on.
    """
    if value is None or type(value) in (bool, int, float, str):
        return value
    if hasattr(type(value), "identity"):
        return value.identity()
    if isinstance(value, Enum):
        return value.value
    if is_dataclass(value):
        inside = {f.name: plain(getattr(value, f.name)) for f in parts(value)}
        return {"is": type(value).__name__, **inside}
    if isinstance(value, (list, tuple, range)):
        return [plain(item) for item in value]
    if isinstance(value, (set, frozenset)):
        return sorted(plain(item) for item in value)
    if isinstance(value, Mapping):
        return {str(key): plain(item) for key, item in value.items()}
    if isinstance(value, Image.Image):
        pixels = hashlib.sha256(value.convert("RGBA").tobytes()).hexdigest()[:16]  # a palette's indices say nothing
        return {"picture": f"{value.mode} {value.width} x {value.height}", "content": pixels}
    if isinstance(value, (np.ndarray, np.generic)):
        array = np.ascontiguousarray(value)
        return {"array": f"{array.dtype} {list(array.shape)}", "content": hashlib.sha256(array).hexdigest()[:16]}
    if isinstance(value, Path):
        return {"file": value.name, "content": content_of(value)}
    raise TypeError(f"nobody knows what a {type(value).__name__} depends on: give its class an identity()")


def parts(value: Any) -> Iterator[Any]:
    """The fields of a dataclass that decide what it is."""
    return (f for f in fields(value) if f.metadata.get("identity", True) and f.init)


def classes(value: Any) -> set[type]:
    """The project's own classes that a value is made of; results before it answer for themselves."""
    out = {type(value)} if type(value).__module__.startswith("lib.") else set()
    if is_dataclass(value):
        inside: Iterable[Any] = [getattr(value, f.name) for f in parts(value)]
    elif isinstance(value, Mapping):
        inside = value.values()
    else:
        inside = value if isinstance(value, (list, tuple, set, frozenset)) else ()
    for item in inside:
        if not getattr(type(item), "is_stage", False):
            out |= classes(item)
    return out


# -- code ------------------------------------------------------------------------------------------


def file_of(module: str) -> Path | None:
    """Where one of the project's modules is written down; None if there is no such module."""
    base = ROOT.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def imports(tree: ast.AST) -> tuple[set[str], set[str]]:
    """Modules that code imports, at its top or inside functions: the project's own, and packages by their names.

    What stands under ``if TYPE_CHECKING`` never runs, and does not count.
    """
    own, others = set(), set()
    todo = [tree]
    while todo:
        node = todo.pop()
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test):
            todo += node.orelse
            continue
        todo += ast.iter_child_nodes(node)
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            names = [node.module, *(f"{node.module}.{alias.name}" for alias in node.names)]
        else:
            continue
        for name in names:
            if name.split(".")[0] == "lib":
                own |= {name} if file_of(name) else set()
            else:
                others.add(name.split(".")[0])
    return own, others


@cache
def _read(file: Path, _changed: int) -> tuple[str, frozenset[str], frozenset[str]]:
    """Digest of a module's syntax without docstrings, and what it imports."""
    tree = ast.parse(file.read_text(encoding="utf-8"))
    own, others = imports(tree)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            node.body = [s for s in body if not (isinstance(s, ast.Expr) and isinstance(s.value, ast.Constant))]
    return digest(ast.dump(tree)), frozenset(own), frozenset(others)


def reached(modules: Iterable[str]) -> tuple[dict[str, str], set[str]]:
    """All modules of the project that some modules import, directly or not, themselves included.

    Returns
    -------
    Their digests by name; and the names of other packages that any of them imports.
    """
    found: dict[str, str] = {}
    packages: set[str] = set()
    todo = list(modules)
    while todo:
        module = todo.pop()
        file = file_of(module)
        if module in found or file is None:
            continue
        found[module], own, others = _read(file, file.stat().st_mtime_ns)
        packages |= others
        todo += own
        todo.append(module.rpartition(".")[0])  # importing a module runs its package first
    return dict(sorted(found.items())), packages


@cache
def _distributions() -> Mapping[str, list[str]]:
    return importlib.metadata.packages_distributions()


def versions(packages: Iterable[str]) -> dict[str, str]:
    """Versions of the installed distributions behind names that are imported; the standard library has none."""
    names = {name for package in packages for name in _distributions().get(package, ())}
    return {name: importlib.metadata.version(name) for name in sorted(names)}


def of(value: Any) -> dict[str, Any]:
    """The whole identity of a value: its parts, the code that they reach, the packages behind it, and the device."""
    from lib.device import DEVICE  # imports torch

    inside = {f.name: plain(getattr(value, f.name)) for f in parts(value)}
    modules, packages = reached(sorted({cls.__module__ for cls in classes(value)}))
    # A GPU computes with another precision than a processor does.
    return {"parts": inside, "modules": modules, "packages": versions(packages), "device": DEVICE}


def differences(old: Any, new: Any, name: str = "") -> list[str]:
    """What changed between two identities, a line each: ``sae.k: 8, now 16``; ``modules.lib.overlay: edited``."""
    if old == new:
        return []
    if isinstance(old, dict) and isinstance(new, dict):
        keys = [*old, *(key for key in new if key not in old)]
        lines = [differences(old.get(k), new.get(k), f"{name}.{k}".lstrip(".")) for k in keys]
        return [line for part in lines for line in part]
    if name.startswith("modules."):
        what = "new" if old is None else "no longer used" if new is None else "edited"
        return [f"{name.removeprefix('modules.')} {what}"]
    return [f"{name.removeprefix('parts.')}: {json.dumps(old)}, now {json.dumps(new)}"]
