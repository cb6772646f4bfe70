"""Strict settings: YAML text as typed, frozen dataclasses.

What is misspelt, of the wrong type or out of its range is refused in one line, which says what was meant.
"""

from __future__ import annotations

import dataclasses
import difflib
import os
import re
import reprlib
import types
import typing
from pathlib import Path
from typing import Any

import yaml

from lib.identity import digest
from lib.store import ROOT, short

PROFILES = ROOT / "lib" / "profiles"
CALLER = "STEERING_COMPANION_CALLER"  # environment variable: the folder in which ./run_all.sh was called
GIVEN = {"setting": False}  # metadata of a field that no file and no user sets

_KINDS = {int: "a whole number", float: "a number", bool: "true or false"}
_repr = reprlib.Repr()
_repr.maxlevel, _repr.maxstring, _repr.maxother = 2, 80, 80
_short = _repr.repr  # one line, whatever it is of


class ProfileError(ValueError):
    """A profile that cannot be understood; the message is one line."""


# -- files -----------------------------------------------------------------------------------------


def names() -> list[str]:
    """The profiles that ship with the project."""
    return sorted(path.stem for path in PROFILES.glob("*.yaml"))


def find(name: str) -> Path:
    """The file of a profile: one of ``lib/profiles`` by name, or a path.

    A path is looked up from where the user stands, then from the project's folder.

    Raises
    ------
    ProfileError
        If there is none.
    """
    if not isinstance(name, str):
        raise ProfileError(f"profile must be a name, such as desk, or the path of a .yaml file, not {_short(name)}")
    if name in names():
        return PROFILES / f"{name}.yaml"
    if name.endswith((".yaml", ".yml")):
        here = os.environ.get(CALLER, os.getcwd())
        for folder in (here, ROOT):
            path = os.path.join(folder, os.path.expanduser(name))
            if os.path.isfile(path):
                return Path(path).resolve()
        raise ProfileError(f"no file {_short(name)} in {here}, nor in {ROOT}")
    hint = nearest(name[:200], names())
    raise ProfileError(
        f"no profile {_short(name)}{hint}; profiles: {', '.join(names())}; a file of your own is named with its .yaml"
    )


def own_name(path: Path) -> str:
    """What a profile's results are kept under: no two files share it, and none takes that of a shipped one.

    A file in the project's folder is called by its name; others, and namesakes, have digits of their path behind it.
    """
    if not re.fullmatch(r"\w[\w.-]{0,63}", path.stem):
        raise ProfileError(
            f"{path.stem[:80]!r} cannot name a folder of results: rename the file, "
            "with at most 64 letters, digits, '.', '_' and '-'"
        )
    taken = [name.casefold() for name in names()]  # some file systems do not tell Desk from desk
    own = path == ROOT / f"{path.stem}.yaml" and path.stem.casefold() not in taken
    return path.stem if own or path in PROFILES.glob("*.yaml") else f"{path.stem}@{digest(short(path))[:6]}"


# -- text ------------------------------------------------------------------------------------------


def read_settings(path: Path) -> dict[str, Any]:
    """Keys and values of a YAML file.

    Raises
    ------
    ProfileError
        If it cannot be read, is not UTF-8, not valid YAML, or holds anything else; or as :func:`parse` does.
    """
    try:
        text = path.read_bytes().decode("utf-8-sig", "replace")
    except OSError as error:
        raise ProfileError(f"{path} cannot be read: {error.strerror}") from error
    if bad := re.search("[\0\ufffd]", text):  # UTF-16 without its mark has zeros
        line = text.count("\n", 0, bad.start()) + 1
        raise ProfileError(f"{path}, line {line}: not UTF-8; open it in an editor and save it in the encoding UTF-8")
    tree = parse(text, str(path))
    if not isinstance(tree, dict):
        raise ProfileError(f"{path} must hold keys and values")
    return tree


def parse(text: str, where: str) -> Any:
    """The value of YAML text.

    Raises
    ------
    ProfileError
        If it is not valid YAML, has a key twice in one mapping, or a value that contains itself.
    """
    try:
        node = yaml.compose(text, yaml.SafeLoader)
        fault = _fault(node, (), set()) if node else ""
        value = None if fault else yaml.safe_load(text)
    except RecursionError:
        fault = "nested too deeply"
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that there is not
        mark = getattr(error, "problem_mark", None)
        why = getattr(error, "problem", None) or getattr(error, "reason", None) or error
        fault = f"not valid YAML{f', line {mark.line + 1}' if mark else ''}: {why}"
    if fault:
        raise ProfileError(f"{where}: {fault}")
    return value


def _fault(node: yaml.Node, above: tuple[yaml.Node, ...], seen: set[yaml.Node]) -> str:
    """What YAML lets pass though nobody means it; empty if there is nothing."""
    if node in above:
        return f"line {node.start_mark.line + 1}: a value that contains itself"
    if isinstance(node, yaml.ScalarNode):
        odd = node.style is None and re.fullmatch(r"[-+]?(0[0-9_]+|[0-9][0-9_]*(:[0-9.]+)+)", node.value)
        return (
            f"{node.value}: YAML reads that as octal or as minutes; write the number itself, or quote it" if odd else ""
        )
    if node in seen:
        return ""
    seen.add(node)
    inside = node.value
    if isinstance(node, yaml.MappingNode):
        lines: dict[str, int] = {}
        for key, _ in node.value:
            line, name = key.start_mark.line + 1, str(key.value)
            if name in lines:
                return f"key {_short(name)} stands twice in one place, in lines {lines[name]} and {line}"
            lines[name] = line
        inside = [part for pair in node.value for part in pair]
    return next(filter(None, (_fault(part, (*above, node), seen) for part in inside)), "")


# -- keys ------------------------------------------------------------------------------------------


def _hints(cls: type) -> dict[str, Any]:
    """The settings of a dataclass and their types, ranges included."""
    hints = typing.get_type_hints(cls, include_extras=True)
    return {f.name: hints[f.name] for f in dataclasses.fields(cls) if f.metadata.get("setting", True)}


def keys(cls: type, prefix: str = "") -> list[str]:
    """All dotted keys that a dataclass of settings has."""
    out = []
    for name, kind in _hints(cls).items():
        out += keys(kind, f"{prefix}{name}.") if dataclasses.is_dataclass(kind) else [f"{prefix}{name}"]
    return out


def nearest(word: str, known: list[str]) -> str:
    """Did-you-mean, for an error message."""
    close = difflib.get_close_matches(word, known, 1, 0.5)
    return f" (did you mean {close[0]!r}?)" if close else ""


def overrides_of(value: Any) -> dict[str, Any]:
    """Overrides as they may be given: keys and values, or YAML text of them (``papermill -p overrides '{sae.k: 4}'``).

    Raises
    ------
    ProfileError
        For anything else.
    """
    value = parse(value, "overrides") if isinstance(value, str) else value
    if not isinstance(value, (dict, types.NoneType)):
        raise ProfileError(f"overrides must hold keys and values, such as {{sae.k: 4}}, not {_short(value)}")
    return value or {}


def override(cls: type, tree: dict[str, Any], key: str, value: Any) -> None:
    """Set one dotted key in a nested dictionary.

    Raises
    ------
    ProfileError
        For an unknown key, with the nearest one.
    """
    known, key = keys(cls), str(key)
    if key not in known:
        leaf = [k for k in known if k.rpartition(".")[2] == key]
        hint = f" (did you mean {leaf[0]!r}?)" if leaf else nearest(key, known)
        raise ProfileError(f"unknown key {_short(key)}{hint}; keys: {', '.join(known)}")
    *sections, last = key.split(".")
    for section in sections:
        tree = tree.setdefault(section, {})
        if not isinstance(tree, dict):
            raise ProfileError(f"{section} must hold keys and values, not {_short(tree)}")
    tree[last] = value


# -- values ----------------------------------------------------------------------------------------


def build(cls: type, tree: Any, where: str = "", **given: Any) -> Any:
    """A dataclass from a nested dictionary, every value checked against its type and range.

    Parameters
    ----------
    where : what its keys begin with, in messages.
    given : fields that are no settings.

    Raises
    ------
    ProfileError
        For a key that is unknown or missing, and a value of the wrong type or out of range.
    """
    hints = _hints(cls)
    if not isinstance(tree, dict):
        raise ProfileError(f"{where.rstrip('.') or 'the profile'} must hold keys and values, not {_short(tree)}")
    for key in tree:
        if key not in hints:
            raise ProfileError(f"unknown key {_short(f'{where}{key}')}{nearest(str(key), list(hints))}")
    needed = [
        f.name
        for f in dataclasses.fields(cls)
        if f.default is dataclasses.MISSING and f.default_factory is dataclasses.MISSING
    ]
    if missing := [where + name for name in needed if name not in tree and name not in given]:
        raise ProfileError(f"missing key {', '.join(missing)}")
    return cls(**{key: _value(hints[key], value, where + key) for key, value in tree.items()}, **given)


def _value(kind: Any, value: Any, where: str) -> Any:
    """Check a value against its type; YAML's ints may stand for floats, and nothing else is bent."""
    origin, inside = typing.get_origin(kind), typing.get_args(kind)
    if origin is typing.Annotated:
        found = _value(inside[0], value, where)
        for allowed in inside[1:]:
            if not allowed.holds(found):
                raise ProfileError(f"{where} is {_short(value)}, and must be {allowed}")
        return found
    if origin in (types.UnionType, typing.Union):
        return None if value is None else _value(next(k for k in inside if k is not types.NoneType), value, where)
    if dataclasses.is_dataclass(kind):
        return build(kind, value, where + ".")
    if origin is dict:
        if not isinstance(value, dict):
            raise ProfileError(f"{where} must hold names and values, not {_short(value)}")
        return {
            _text(str, key, f"a name in {where}"): _value(inside[1], v, f"{where}.{key}") for key, v in value.items()
        }
    if origin is tuple:
        if not isinstance(value, (list, tuple)):
            raise ProfileError(f"{where} must be a list such as [1, 2], not {_short(value)}")
        return tuple(_value(inside[0], item, where) for item in value)
    if isinstance(kind, type) and issubclass(kind, str):
        return _text(kind, value, where)
    if kind is float and type(value) in (int, float, str):
        try:
            return float(value)  # YAML reads 1e-3, without a point, as text
        except (ValueError, OverflowError):
            pass
    if type(value) is not kind:
        raise ProfileError(f"{where} must be {_KINDS.get(kind, 'keys and values')}, not {_short(value)}")
    return value


def _text(kind: type[str], value: Any, where: str) -> str:
    if not isinstance(value, str) or not value.strip() or not value.isprintable():
        quoted = "" if isinstance(value, str) else " (put it in quotes if it is meant as text)"
        raise ProfileError(f"{where} must be text of one line, not {_short(value)}{quoted}")
    return kind(value)
