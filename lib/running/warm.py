"""Warm processes: what every notebook imports is imported once, and its kernel is a fork of a process that has it.

Importing PyTorch and transformers and rendering the drawings of Emoji Scenes takes longer than many a notebook.
:func:`context` starts a server that has done so, of which each worker is a fork (Python's own ``forkserver``); a kernel
is a fork of its worker, by a provisioner for jupyter_client. Nothing is computed in the server that starts a thread.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import signal
import sys
import traceback
from importlib.metadata import EntryPoint
from multiprocessing import get_context
from multiprocessing.context import BaseContext
from tempfile import gettempdir
from threading import RLock
from typing import Any
from uuid import uuid4

from jupyter_client.connect import KernelConnectionInfo
from jupyter_client.kernelspec import KernelSpec
from jupyter_client.manager import AsyncKernelManager
from jupyter_client.provisioning import KernelProvisionerFactory, LocalProvisioner
from threadpoolctl import threadpool_limits
from tqdm import tqdm
from traitlets import default

from lib.hub import QUIET

FORKS = sys.platform == "linux"  # elsewhere libraries do not survive a fork, and every kernel starts cold
SCENES = "STEERING_COMPANION_SCENES"  # environment variable: whether pictures are scenes
NEEDED = (
    "IPython", "ipykernel.kernelapp", "matplotlib.pyplot", "matplotlib_inline.backend_inline", "pandas", "scipy.stats",
    "sklearn.metrics", "transformers.models.auto.modeling_auto", "transformers.models.auto.processing_auto",
    "transformers.models.gemma3.modeling_gemma3", "transformers.models.gemma3.processing_gemma3",
    "transformers.models.siglip.modeling_siglip", "lib.run", "lib.figures", "lib.effects", "lib.running.runner",
)  # fmt: skip


def context(scenes: bool) -> BaseContext:
    """How a worker is started: forked from a server that is warm, which is started with the first one."""
    if not FORKS:
        return get_context("spawn")
    os.environ |= {**QUIET, SCENES: "yes" if scenes else ""}
    server = get_context("forkserver")
    server.set_forkserver_preload([f"{__name__}_up"])
    return server


def warm_up() -> None:
    """Import what notebooks need; what cannot be imported fails where it is needed."""
    for name in NEEDED:
        try:
            importlib.import_module(name)
        except ImportError:
            continue
    tqdm.set_lock(RLock())  # its own, for several processes, is a semaphore that an ended fork leaves behind
    if os.environ.get(SCENES):
        from lib.scenes.drawing import render

        render()


def limit_threads(threads: int) -> None:
    """What ``OMP_NUM_THREADS`` does for libraries that are loaded later, for those that are loaded already.

    PyTorch, which asks when it first computes, goes by OpenMP's number.
    """
    os.environ["OMP_NUM_THREADS"] = str(threads)
    threadpool_limits(threads)


class Forked:
    """A kernel that is a fork of this process, as its provisioner sees it: like :class:`subprocess.Popen`."""

    stdin = stdout = stderr = None

    def __init__(self, arguments: list[str], environment: dict[str, str], folder: str) -> None:
        self._status: int | None = None
        self.pid = os.fork()
        if self.pid:
            return
        code = 1
        try:
            os.setsid()  # a group of its own: what it starts ends with it
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
            signal.signal(signal.SIGINT, signal.default_int_handler)
            asyncio.set_event_loop(asyncio.new_event_loop())  # the parent's is running
            os.environ |= environment
            os.chdir(folder)
            from lib.running.kernel import main

            main([*arguments, f"--IPKernelApp.parent_handle={os.getppid()}"])
            code = 0
        except BaseException:  # nobody above would say what it was
            traceback.print_exc(file=sys.__stderr__)
        finally:
            sys.__stderr__.flush()
            os._exit(code)  # none of what the parent does at its end is for the child

    def poll(self) -> int | None:
        """Its exit code; None while it runs."""
        return self._ended(os.WNOHANG)

    def wait(self) -> int:
        """Its exit code, once it has ended."""
        return self._ended(0)

    def _ended(self, how: int) -> int | None:
        if self._status is None:
            pid, status = os.waitpid(self.pid, how)
            self._status = os.waitstatus_to_exitcode(status) if pid else None
        return self._status

    def send_signal(self, number: int) -> None:
        """Signal it."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def kill(self) -> None:
        """End it at once."""
        self.send_signal(signal.SIGKILL)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)


class Forking(LocalProvisioner):
    """Starts kernels as forks of this process."""

    async def launch_kernel(self, cmd: list[str], **kwargs: Any) -> KernelConnectionInfo:
        """Start a kernel; of its command the arguments count."""
        self.cwd = str(kwargs.get("cwd") or os.getcwd())
        self.process = Forked(cmd[cmd.index("-f") :], kwargs.get("env") or {}, self.cwd)
        self.pid = self.pgid = self.process.pid
        return self.connection_info


class Kernels(AsyncKernelManager):
    """Starts :mod:`lib.running.kernel` with this Python, whatever kernels a user has installed under any name.

    The two talk through sockets that have a name instead of a port: between a port's choice and its use another
    process may take it.
    """

    @default("transport")
    def _named(self) -> str:
        return "ipc"

    @default("ip")
    def _name(self) -> str:
        unique = uuid4().hex[:16]
        return f"@{unique}" if FORKS else os.path.join(gettempdir(), unique)  # Linux needs no file for it

    @property
    def kernel_spec(self) -> KernelSpec:
        """What to start, and how."""
        argv = [sys.executable, "-m", "lib.running.kernel", "-f", "{connection_file}"]
        spec = KernelSpec(argv=argv, display_name="Python 3", language="python")
        if FORKS:
            known = KernelProvisionerFactory.instance().provisioners
            known["forking"] = EntryPoint(
                "forking", f"{__name__}:{Forking.__name__}", KernelProvisionerFactory.GROUP_NAME
            )
            spec.metadata = {"kernel_provisioner": {"provisioner_name": "forking"}}
        return spec
