"""What the first cell of a notebook calls."""

from __future__ import annotations

import ast
import json
import os
import shlex
from typing import Any

import pandas
from IPython import get_ipython

from lib import settings
from lib.hub import QUIET
from lib.profile import load
from lib.run import Run
from lib.settings import ProfileError

PARAMETERS = ("profile", "overrides")
INJECTED = "# Parameters\n"  # what papermill's own cell begins with


def open_run(profile: str, overrides: dict[str, Any] | str | None = None) -> Run:
    """Open the run that a notebook's parameters describe.

    Parameters
    ----------
    profile : name of a profile, or the path of a ``.yaml`` file.
    overrides : settings to change; or the same as text, as ``papermill -p overrides '{sae.k: 4}'`` passes it.

    Raises
    ------
    ProfileError
        If the profile or a setting cannot be understood, or papermill has set a name that is no parameter.
    """
    shell = get_ipython()
    if shell is not None:
        for cell in shell.user_ns.get("In", ()):
            refuse_unknown(cell)
        pandas.set_option("display.max_colwidth", None)  # what a model says is shown to its end
        # Whatever MPLBACKEND or matplotlibrc say: here pictures belong under their cells. Choosing the backend alone
        # does not do: a kernel that was forked from a process with matplotlib would show figures as a line of text.
        shell.enable_matplotlib("inline")
    os.environ |= QUIET
    chosen = settings.overrides_of(overrides)
    loaded = load(profile, chosen)
    typed = "".join(f" --set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in chosen.items())
    return Run(loaded, f"./run_all.sh --profile {shlex.quote(profile)}{typed}")


def refuse_unknown(cell: str) -> None:
    """Refuse papermill's cell if it sets a name that is no parameter, of which papermill only warns.

    Raises
    ------
    ProfileError
        With the nearest parameter.
    """
    if not cell.startswith(INJECTED):
        return
    names = [target.id for node in ast.parse(cell).body if isinstance(node, ast.Assign) for target in node.targets]
    for name in names:
        if name not in PARAMETERS:
            raise ProfileError(
                f"unknown parameter {name!r}{settings.nearest(name, list(PARAMETERS))}; a notebook takes "
                f"{' and '.join(PARAMETERS)}"
            )
