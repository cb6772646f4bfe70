"""The kernel in which the runner executes a notebook: ``python -m lib.running.kernel -f FILE``.

It is IPython's, with three additions: it ends with the process that started it, it tells the runner of every table
and published number that is read in it, so that a notebook is run again when one of them changes, and it gives shards
to workers where there are some.
"""

from __future__ import annotations

import logging
import os
import sys
from typing import Any

from lib.running.process import CLUSTER, end_with
from lib.store import ROOT, note

WATCHED = (f"{ROOT / 'figures'}{os.sep}", f"{ROOT / 'data' / 'paper'}{os.sep}")
_noted: set[str] = set()


def note_reading(event: str, arguments: tuple[Any, ...]) -> None:
    """Audit hook: whatever opens one of the watched files to read it, it is noted as used."""
    if event != "open" or not isinstance(arguments[0], str) or not str(arguments[1]).startswith("r"):
        return
    path = os.path.abspath(arguments[0])
    if path.startswith(WATCHED) and path not in _noted:
        _noted.add(path)
        note("used", ROOT / path)


def is_news(record: logging.LogRecord) -> bool:
    """Log filter: nbclient interrupts each kernel that it ends, and one that has just answered calls that an error."""
    return not record.getMessage().startswith("KeyboardInterrupt caught in kernel")


def main(arguments: list[str] | None = None) -> None:
    """Serve until the runner is done, or gone."""
    end_with(os.getppid())
    sys.addaudithook(note_reading)
    if CLUSTER in os.environ:
        from lib.running.cluster import use

        use(os.environ[CLUSTER])
    from ipykernel.kernelapp import IPKernelApp

    app = IPKernelApp.instance()
    app.initialize(arguments)
    app.log.addFilter(is_news)
    app.start()


if __name__ == "__main__":
    main()
