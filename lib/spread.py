"""Independent shards of work: one after the other in this process, or wherever :func:`use` says."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, TypeVar

from tqdm import tqdm

S = TypeVar("S", contravariant=True)
R = TypeVar("R", covariant=True)


class Work(Protocol[S, R]):
    """What is done with every shard: a frozen dataclass of plain values and stages, which can go to another machine.

    Its results depend on its fields and the shard alone, never on other shards or on who else works.

    Attributes
    ----------
    model : the checkpoint of the model that it needs; None if it needs none.
    """

    @property
    def model(self) -> Any:
        """What the model is loaded from."""

    def __call__(self, shard: S, load: Callable[[], Any]) -> R:
        """The result of one shard; ``load`` gives the model."""


class Engine(Protocol):
    """Has other processes work on shards."""

    def spread(self, work: Work[S, R], shards: Sequence[S]) -> Iterator[R]:
        """The results, in the order of the shards."""


_engine: Engine | None = None


def use(engine: Engine | None) -> None:
    """Have an engine work on all shards from now on; None: this process does it.

    It is set from outside, since no result depends on it, and a module that named it would be a part of every stage.
    """
    global _engine
    _engine = engine


def spread(work: Work[S, R], shards: Sequence[S], load: Callable[[], Any], name: str) -> Iterator[R]:
    """Work on shards, and yield the results in their order, each as soon as it is there.

    Parameters
    ----------
    work : what is done.
    shards : of what; their sizes are the caller's, and the same whoever works.
    load : gives the model in this process; not called where others work.
    name : of what is made, for the progress bar.
    """
    if not shards:
        return
    results = _engine.spread(work, shards) if _engine else (work(shard, load) for shard in shards)
    yield from tqdm(results, name, len(shards), mininterval=5)
