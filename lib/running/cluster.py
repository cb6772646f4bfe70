"""Workers beyond this process: on this machine, or wherever a Dask cluster has them.

Nothing here is imported by what computes: :func:`lib.spread.use` is told of it from outside, and no result depends on
it. Dask itself is imported once somebody asks for workers.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import uuid
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import CancelledError
from contextlib import contextmanager
from functools import cached_property
from importlib.util import find_spec
from multiprocessing import get_context
from multiprocessing.connection import Connection
from pathlib import Path
from threading import Event
from typing import Any

from lib import spread
from lib.running import worker
from lib.running.process import CLUSTER, end_with
from lib.running.worker import ClusterError
from lib.store import MADE, ROOT, RUNS

AHEAD = 2  # shards that are given out for each worker: one is worked on, one waits
TRIES = 3  # workers that one shard may end
TIMEOUT = "15s"  # for a scheduler to answer


def need_dask() -> None:
    """Ask for the package before anything begins.

    Raises
    ------
    ClusterError
        If it is not installed.
    """
    if find_spec("distributed") is None:
        lines = (ROOT / "environment.yml").read_text(encoding="utf-8").splitlines()
        pin = next(line.strip(" -") for line in lines if "- distributed==" in line)
        raise ClusterError(f'--workers and --cluster need Dask: python -m pip install "{pin}"')


class Cluster:
    """A Dask cluster, as what works on shards; connects when first used.

    Parameters
    ----------
    address : of the scheduler: ``tcp://host:8786``.
    """

    def __init__(self, address: str) -> None:
        self.address = address

    @cached_property
    def client(self) -> Any:
        """The connection.

        Raises
        ------
        ClusterError
            If nobody answers.
        """
        need_dask()
        from distributed import Client

        try:
            return Client(self.address, timeout=TIMEOUT, set_as_default=False)
        except (OSError, ValueError, ImportError) as error:  # a timeout is an OSError; no address, no such protocol
            raise ClusterError(
                f"no scheduler answers at {self.address} ({' '.join(str(error).split())[:120]}). Start one there with "
                "`dask scheduler`, and workers from this folder with `dask worker`; or let --workers N start them here"
            ) from error

    def close(self) -> None:
        """End the connection."""
        if "client" in vars(self):
            self.client.close()

    def check(self) -> int:
        """Ask all workers that are there whether they are what this run is; returns how many there are.

        Raises
        ------
        ClusterError
            If no scheduler answers, or a worker cannot import the library.
        Refused
            If a worker has other code, packages or another device. Those that come later are asked, too.
        """
        try:
            return len(self.client.run(worker.check, worker.passport()))
        except ImportError as error:
            raise ClusterError(_NO_LIBRARY.format(error)) from error

    def spread(self, work: spread.Work, shards: Sequence[Any]) -> Iterator[Any]:
        """Have workers do the shards; a shard whose worker is lost is done again by another.

        Raises
        ------
        ClusterError
            If the cluster is lost, or a shard ends one worker after the other.
        Exception
            What a shard has raised on its worker.
        """
        folder = Path(os.environ[MADE]).parent if MADE in os.environ else RUNS  # the runner clears the former
        folder.mkdir(parents=True, exist_ok=True)
        key = f"{type(work).__name__}-{uuid.uuid4().hex[:12]}"
        post = folder / f".{key}"
        waiting: deque[Any] = deque()
        try:
            worker.post(post, work)
            todo = iter(enumerate(shards))
            for number, shard in enumerate(shards):
                ahead = AHEAD * max(self._workers(), 1)
                while len(waiting) < ahead and (new := next(todo, None)):
                    given = str(post), pickle.dumps(new[1])
                    waiting.append(self.client.submit(worker.do, *given, key=f"{key}-{new[0]}", pure=False))
                yield pickle.loads(self._result(waiting[0], f"{number + 1} of {len(shards)} ({shard!r:.80})"))
                waiting.popleft()
        finally:
            post.unlink(missing_ok=True)
            if waiting and self.client.status == "running":
                self.client.cancel(list(waiting))

    def _workers(self) -> int:
        """How many there are just now: they come and go."""
        for patience in (3, 2, 1, 0):  # a scheduler that has just lost workers may be slow to answer
            try:
                there = len(self.client.nthreads())
                break
            except OSError as error:
                if not (patience and isinstance(error, TimeoutError)):
                    raise self._lost() from error
        if not there:
            print(f"No worker at {self.address}: waiting for one", flush=True)
        return there

    def _result(self, future: Any, name: str) -> bytes:
        from distributed import KilledWorker
        from distributed.comm import CommClosedError

        try:
            return future.result()
        except KilledWorker as error:
            raise ClusterError(
                f"shard {name} was given up: every worker that took it up came to an end (out of memory?), the last "
                f"one at {error.last_worker.address}. Its log says more; a smaller batch needs less memory"
            ) from error
        except (CancelledError, CommClosedError) as error:
            raise self._lost() from error
        except ModuleNotFoundError as error:
            raise ClusterError(_NO_LIBRARY.format(error)) from error

    def _lost(self) -> ClusterError:
        return ClusterError(f"the cluster at {self.address} is lost; what was made is kept, a new run goes on there")


_NO_LIBRARY = (
    "a worker cannot import what this run does ({}): start workers from this folder, in the same environment "
    "(PYTHONPATH=$PWD dask worker ADDRESS --nthreads 1)"
)


def use(address: str) -> Cluster:
    """From now on this process has the workers of a cluster do its shards: what a notebook in Jupyter calls."""
    cluster = Cluster(address)
    spread.use(cluster)
    return cluster


# -- on this machine -------------------------------------------------------------------------------

# Dask looks at each worker's stack a hundred times a second, and at its lock a thousand times, for pages nobody opens.
_UNOBSERVED = {
    "distributed.worker.profile.enabled": False,
    "distributed.admin.system-monitor.gil.enabled": False,
    "distributed.admin.system-monitor.interval": "5s",
}


@contextmanager
def offered(workers: int | None, address: str | None, scenes: bool = False) -> Iterator[None]:
    """Inside, the runner's kernels have their shards done by others: by so many processes here, or at an address.

    Parameters
    ----------
    scenes : whether pictures are Emoji Scenes, for which processes here prepare.

    Raises
    ------
    ClusterError, Refused
        If that cannot be.
    """
    if not (workers or address):
        yield
        return
    need_dask()
    with local(workers, scenes) if workers else _there(address) as found:
        print(f"Shards go to {_workers(workers or _asked(found))} at {found}", flush=True)
        os.environ[CLUSTER] = found
        try:
            yield
        finally:
            del os.environ[CLUSTER]


@contextmanager
def _there(address: str) -> Iterator[str]:
    yield address


def _asked(address: str) -> int:
    """How many workers there are at an address, all of them what this run is."""
    cluster = Cluster(address)
    try:
        return cluster.check()
    finally:
        cluster.close()


def _workers(count: int) -> str:
    return f"{count} worker{'s' * (count != 1)}"


@contextmanager
def local(workers: int, scenes: bool = False) -> Iterator[str]:
    """Inside, a scheduler and worker processes run on this machine; yields the scheduler's address.

    They end with this process, whatever ends it. They prepare for shards about ``scenes`` before they are asked.
    """
    context = get_context("spawn")
    answer, theirs = context.Pipe(duplex=False)
    process = context.Process(target=_serve, args=(_places(workers), scenes, theirs, os.getpid()))
    process.start()
    theirs.close()
    try:
        yield _first_word(answer)
    finally:
        process.terminate()
        process.join(10)
        process.kill()  # workers end with it
        process.join()


def _first_word(answer: Connection) -> str:
    try:
        return answer.recv()
    except EOFError:
        raise ClusterError("the workers could not be started; what they said stands above") from None


def _places(workers: int) -> list[dict[str, str]]:
    """The environment of each worker: GPUs are dealt out one by one."""
    import torch

    named = os.environ.get("CUDA_VISIBLE_DEVICES", "")
    gpus = named.split(",") if named else [str(i) for i in range(torch.cuda.device_count())]
    usual = {"TQDM_DISABLE": "1", "TRANSFORMERS_VERBOSITY": "error", "HF_HUB_DISABLE_PROGRESS_BARS": "1"}
    usual["OMP_WAIT_POLICY"] = "PASSIVE"  # there may be more threads than cores: one that waits must leave its core
    return [usual | ({"CUDA_VISIBLE_DEVICES": gpus[i % len(gpus)]} if gpus else {}) for i in range(workers)]


def _serve(places: list[dict[str, str]], scenes: bool, answer: Connection, parent: int) -> None:
    os.setsid()  # Ctrl-C in a terminal is for the runner, which then ends this
    end_with(parent)
    asked = Event()
    signal.signal(signal.SIGTERM, lambda *_: asked.set())
    import dask
    from distributed import Client, Nanny, Scheduler, SpecCluster

    dask.config.set(_UNOBSERVED)  # for good: nannies hand it to their workers
    here = {"host": "127.0.0.1", "dashboard": False}
    each = {**here, "nthreads": 1, "memory_limit": 0}  # models fill what there is
    each["silence_logs"] = logging.CRITICAL  # a shard's error reaches its kernel; one that is told to end is no news
    one = {**here, "port": 0, "dashboard_address": "127.0.0.1:0", "allowed_failures": TRIES - 1}
    scheduler = {"cls": Scheduler, "options": one}
    workers = {i: {"cls": Nanny, "options": {**each, "env": env}} for i, env in enumerate(places)}
    with SpecCluster(workers, scheduler, silence_logs=logging.WARNING) as cluster:
        for handler in logging.getLogger("distributed").handlers:
            handler.setLevel(logging.WARNING)  # that a worker is started anew is said here, and not by workers
        answer.send(cluster.scheduler_address)
        with Client(cluster, set_as_default=False) as client:
            places = client.scheduler_info(n_workers=-1)["workers"]
            warm = [client.submit(worker.warm_up, scenes, workers=[place], key=f"warm up {place}") for place in places]
            asked.wait()
            logging.disable()  # workers that are ended in the midst of a shard are no news
            del warm  # until here, or they would be cancelled
