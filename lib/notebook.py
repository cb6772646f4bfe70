"""What the first cell of a notebook calls."""

from __future__ import annotations

import json
import os
import shlex
import types
from typing import Any

from lib import profile as profiles
from lib.profile import ProfileError
from lib.run import Run


def begin(namespace: dict[str, Any]) -> Run:
    """Open the run that a notebook's parameters describe: ``run = begin(globals())``.

    Raises
    ------
    ProfileError
        If papermill has set a name that is not a parameter: it would only have warned.
    """
    parameters = ("profile", "overrides")
    ours = (*parameters, "In", "Out", "get_ipython", "exit", "quit", "open")
    imported = (types.ModuleType, types.FunctionType, type)
    strays = [
        name
        for name, value in namespace.items()
        if not name.startswith("_") and name not in ours and not isinstance(value, imported)
    ]
    # A cell that is run again by hand finds its own variables; only a fresh kernel is checked.
    if strays and not any(isinstance(value, Run) for value in namespace.values()):
        raise ProfileError(
            f"unknown parameter {strays[0]!r}{profiles.nearest(strays[0], list(parameters))}; a notebook takes "
            f"{' and '.join(parameters)}"
        )
    # Read by transformers when it is imported, which happens when a model is loaded.
    os.environ.update(TRANSFORMERS_VERBOSITY="error", HF_HUB_DISABLE_PROGRESS_BARS="1")
    overrides = namespace["overrides"]
    settings = "".join(f" --set {shlex.quote(f'{key}={json.dumps(value)}')}" for key, value in overrides.items())
    command = f"./run_all.sh --profile {namespace['profile']}{settings}"
    return Run(profiles.load(namespace["profile"], overrides), command)
