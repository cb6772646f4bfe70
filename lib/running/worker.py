"""What a worker of a cluster does: it takes up the work that a kernel has posted, and does a shard of it.

Work is posted as a file in the project's folder, which kernel and workers share, and says by whom: a worker that has
other code, packages or another device would give other results, and refuses.
"""

from __future__ import annotations

import hashlib
import pickle
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass, fields, is_dataclass
from functools import cache, partial
from importlib import import_module
from io import BytesIO
from pathlib import Path
from types import FunctionType
from typing import Any

from lib import identity
from lib.stage import Stage
from lib.store import ROOT, note


class ClusterError(ConnectionError):
    """A cluster that cannot be used, or is lost; the message says what to do."""


class Refused(ClusterError):
    """A worker that would not give the kernel's own results; the message says why, and what to do."""


# -- work on its way -------------------------------------------------------------------------------


class _Packer(pickle.Pickler):
    """Packs frozen dataclasses by their fields alone, without what they keep in memory, and equal ones once."""

    def __init__(self, file: BytesIO, parts: dict[str, bytes], seen: dict[int, str]) -> None:
        super().__init__(file)
        self.parts, self.seen = parts, seen

    def persistent_id(self, value: Any) -> str | None:
        """The name of a dataclass among the parts; None for all else."""
        if not is_dataclass(value) or isinstance(value, type) or not type(value).__dataclass_params__.frozen:
            return None
        if id(value) not in self.seen:
            if isinstance(value, Stage) and value.made:
                note("stage", value.folder)  # workers read it, and cannot tell the runner
            inside = BytesIO()
            given = {f.name: getattr(value, f.name) for f in fields(value) if f.init}
            _Packer(inside, self.parts, self.seen).dump((type(value), given))
            name = hashlib.sha256(inside.getvalue()).hexdigest()
            self.parts[name], self.seen[id(value)] = inside.getvalue(), name
        return self.seen[id(value)]

    def reducer_override(self, value: Any) -> Any:
        """A function inside a function cannot go anywhere: what the kernel loads itself, as its reader does."""
        if isinstance(value, FunctionType) and "<" in value.__qualname__:
            return _never, ()
        return NotImplemented


def _never() -> Callable[[], Any]:
    return _not_here


def _not_here(*_: Any) -> Any:
    raise RuntimeError("a worker was to ask a model that only the kernel has")


def pack(value: Any) -> tuple[bytes, dict[str, bytes]]:
    """A value, and the frozen dataclasses in it by name."""
    out, parts = BytesIO(), {}
    _Packer(out, parts, {}).dump(value)
    return out.getvalue(), parts


class _Unpacker(pickle.Unpickler):
    """Unpacks; dataclasses that are known already keep what they have in memory."""

    def __init__(self, packed: bytes, parts: dict[str, bytes], known: dict[str, Any]) -> None:
        super().__init__(BytesIO(packed))
        self.parts, self.known = parts, known

    def persistent_load(self, name: str) -> Any:
        """A dataclass by its name."""
        if name not in self.known:
            cls, given = _Unpacker(self.parts[name], self.parts, self.known).load()
            self.known[name] = cls(**given)
        return self.known[name]


def unpack(packed: bytes, parts: dict[str, bytes], known: dict[str, Any]) -> Any:
    """What :func:`pack` was given; ``known`` keeps its dataclasses by name, and loses what is no part of it."""
    for name in known.keys() - parts.keys():
        del known[name]
    return _Unpacker(packed, parts, known).load()


# -- who it is -------------------------------------------------------------------------------------


@cache
def passport() -> dict[str, Any]:
    """All of this process by which its results could differ from another's, as it was when this was first asked."""
    import_module("lib.run")  # with all that it knows: files that are edited later change nothing
    from lib.device import DEVICE

    modules, packages = identity.reached(["lib.run", __name__])
    versions = {"python": platform.python_version(), **identity.versions(packages | {"distributed"})}
    return {"folder": str(ROOT), "device": DEVICE, "packages": versions, "modules": modules}


def check(theirs: dict[str, Any]) -> None:
    """Compare with a kernel's passport.

    Raises
    ------
    Refused
        If any of it differs.
    """
    lines = identity.differences(theirs, passport())
    if lines:
        more = f"; and {len(lines) - 5} more" if len(lines) > 5 else ""
        raise Refused(
            f"the worker on {socket.gethostname()} is not what this run is, and would give other results "
            f"({'; '.join(lines[:5])}{more}). Start workers anew from this folder, in the same environment, on the "
            "same kind of device"
        )


# -- what it does ----------------------------------------------------------------------------------

_models: dict[Any, Any] = {}  # loaded, the latest last


def _model(checkpoint: Any) -> Any:
    """A model, loaded once; two stay, as in a run: the subject, and another explainer."""
    from lib.vlm import VLM

    model = _models.pop(checkpoint, None)
    if model is None:
        while len(_models) > 1:
            del _models[next(iter(_models))]
        model = VLM.load(checkpoint)
    _models[checkpoint] = model
    return model


@dataclass
class Posted:
    """Work of a kernel's, the threads that the kernel computes with, and the work's dataclasses by name."""

    work: Any
    threads: int
    known: dict[str, Any]


_posted: dict[str, Posted] = {}  # the latest works, the latest last


def _work(post: str) -> Posted:
    """Work, read once; two stay, as two kernels may share a worker, with what they have in memory."""
    found = _posted.pop(post, None)
    if found is None:
        try:
            content = Path(post).read_bytes()
        except FileNotFoundError:
            raise Refused(
                f"the worker on {socket.gethostname()} does not see {post}: all machines of a cluster must have this "
                "folder, on a file system that they share, at the same path"
            ) from None
        theirs, threads, (packed, parts) = pickle.loads(content)
        check(theirs)
        known = {name: value for other in _posted.values() for name, value in other.known.items()}
        found = Posted(unpack(packed, parts, known), threads, known)
        while len(_posted) > 1:
            del _posted[next(iter(_posted))]
    _posted[post] = found
    return found


def warm_up(scenes: bool) -> None:
    """Import what shards need, and render what scenes are drawn from, before the first shard comes."""
    import_module("lib.run")
    if scenes:
        from lib.scenes.drawing import render

        render()


def do(post: str, shard: bytes) -> bytes:
    """One shard of the work that is posted in a file: a pickled result.

    Raises
    ------
    Refused
        If this worker does not see the file, or would give other results.
    """
    import torch

    posted = _work(post)
    torch.set_num_threads(posted.threads)  # sums are split among threads, and round by how many there are
    return pickle.dumps(posted.work(pickle.loads(shard), partial(_model, posted.work.model)))


def post(path: Path, work: Any) -> None:
    """Write work into a file, for :func:`do`."""
    import torch

    path.write_bytes(pickle.dumps((passport(), torch.get_num_threads(), pack(work))))
