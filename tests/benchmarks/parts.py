"""The parts of the benchmark, and where their results lie.

A part is a module of this folder with

    TITLE : its heading on the page.
    TEXT  : what is compared and how to read it, in Markdown.
    run(tiny: bool = False) -> list[Row]

A row is a plain dictionary of what one line of a table says; its key ``table`` names the table. Keys are columns, in
the order in which they first appear. Where a contender cannot run, its row says so under ``note``: none is dropped.
``tiny`` asks for sizes that take a second, by which a test sees that the part runs; its numbers mean nothing.
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

from lib.store import read, write_json
from tests.benchmarks.timing import machine

PARTS = ("sae", "evidence", "explanations", "streaming_memory")  # in the page's order
RESULTS = Path(__file__).parent / "results"


def measure(part: str, folder: Path = RESULTS, tiny: bool = False) -> Path:
    """Run a part and keep its rows, with the machine that they were measured on, in ``<part>.json``."""
    module, where = import_module(f"tests.benchmarks.{part}"), machine()
    rows = module.run(tiny)
    return write_json(folder / f"{part}.json", {"machine": where, "rows": rows})


def results(folder: Path = RESULTS) -> dict[str, dict]:
    """What has been measured, part by part."""
    return {part: read(folder / f"{part}.json") for part in PARTS if (folder / f"{part}.json").exists()}
