"""Writes the page of the benchmark from its results: no number on it is typed."""

from __future__ import annotations

from importlib import import_module
from pathlib import Path

import pandas as pd

from lib.store import write_text
from tests.benchmarks.parts import RESULTS, results

PAGE = Path(__file__).parent / "README.md"
HEAD = """# Benchmarks

```bash
./run_all.sh bench                # every part, then this page; about ten minutes
./run_all.sh bench sae            # one part
./run_all.sh bench --peers        # first fetch the libraries that ours is compared with
```

Everything below is written from `results/` by `page.py`. Contenders run in one process, in turn, after a warm-up: on a
busy machine ratios count, and milliseconds do not. Peers are optional; [requirements.txt](requirements.txt) pins them,
and they are put into `tests/benchmarks/.peers`, apart from the project's own packages. Parts: [parts.py](parts.py).
"""


def shown(value: object) -> str:
    """A cell: numbers to three digits, nothing as a dash."""
    if value is None or value != value:
        return "-"
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
    return f"{value:,}" if isinstance(value, int) else str(value)


def tables(rows: list[dict]) -> str:
    """The rows as Markdown, one table for each value of ``table``."""
    parts = []
    for name in dict.fromkeys(row["table"] for row in rows):
        mine = [{key: value for key, value in row.items() if key != "table"} for row in rows if row["table"] == name]
        columns = list(dict.fromkeys(key for row in mine for key in row))
        cells = pd.DataFrame([[shown(row.get(key)) for key in columns] for row in mine], columns=columns)
        align = ["right" if any(isinstance(r.get(key), int | float) for r in mine) else "left" for key in columns]
        table = cells.to_markdown(index=False, disable_numparse=True, colalign=align)
        parts.append(f"### {name}\n\n{table}\n")
    return "\n".join(parts)


def write(page: Path = PAGE, folder: Path = RESULTS) -> Path:
    """Write the page."""
    parts = [HEAD]
    for part, found in results(folder).items():
        module = import_module(f"tests.benchmarks.{part}")
        where = ", ".join(f"{key} {value}" for key, value in found["machine"].items())
        parts.append(f"## {module.TITLE}\n\n{module.TEXT.strip()}\n\nMeasured on: {where}.\n\n{tables(found['rows'])}")
    return write_text(page, "\n".join(parts))
