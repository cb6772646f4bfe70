"""Tables 1 and 3: every method on every metric, with intervals, beside the published numbers."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from lib.effects import BOTH, COMPOSITE, column, titled, values, with_composites
from lib.findings import contrast, number
from lib.methods import COMPARED, MODES, STEERED, STEERING, Method
from lib.metrics import METRICS, metrics_of
from lib.paper import csv_of
from lib.run import Run
from lib.stats import Estimate, bootstrap, bootstrap_ratio, difference
from lib.studies.significance import sides


@dataclass(frozen=True)
class Row:
    """A row of Table 1.

    Attributes
    ----------
    method : whose.
    n, failed : test latents, and how many explanations of them failed.
    estimates : metric -> its mean over the latents, with the interval.
    """

    method: Method
    n: int
    failed: int
    estimates: dict[str, Estimate]


def published(table: str, model: str) -> pd.DataFrame:
    """The paper's own numbers for a model: ``data/paper/<table>.csv``."""
    numbers = csv_of(table)
    return numbers[numbers.model == model]


def rows_of(scored: pd.DataFrame) -> list[Row]:
    """The rows of Table 1, in the paper's order."""
    own = scored[scored.control == ""]
    parts = {method: own[own.method == method.key] for method in COMPARED}
    return [
        Row(method, len(part), int(part.failed.sum()), {m: bootstrap(column(part, m)) for m in metrics_of(scored)})
        for method, part in parts.items()
        if len(part)
    ]


def main_table(scored: pd.DataFrame, paper: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table 1 with intervals, the published numbers beside ours where there are any.

    Returns
    -------
    The table with a column for every number, and the same for people to read.
    """
    numbers, shown = [], []
    for row in rows_of(scored):
        method = row.method
        theirs = paper[(paper.method == method.family) & (paper.evidence == method.evidence)]
        names = {"method": method.family, "evidence": method.evidence, "intervention": method.steer or "none"}
        cells, text = {**names}, {**names}
        for metric, title in metrics_of(scored).items():
            e = row.estimates[metric]
            cells |= {metric: e.mean, f"{metric}_low": e.low, f"{metric}_high": e.high}
            text[title] = str(e)
            if metric in paper:  # the published runs add; what replacing gives was not published
                there = len(theirs) and method.steer != "replace"
                value = float(theirs[metric].iloc[0]) if there else None
                cells[f"{metric}_paper"] = value
                text[f"{title}, paper"] = "-" if value is None else f"{value:.3f}"
        numbers.append({**cells, "failed": row.failed, "n": row.n})
        shown.append({**text, "failed": row.failed, "n": row.n})
    return pd.DataFrame(numbers), pd.DataFrame(shown)


def table_note(run: Run, scored: pd.DataFrame) -> str:
    """What stands under a table of scores: protocol, numbers, coefficients."""
    subject, own = run.profile.subject, scored[scored.control == ""]
    chosen = []
    for method in (m for m in STEERED if m.key in set(own.method)):
        found = own[own.method == method.key].drop_duplicates("dictionary").coefficient
        chosen.append(f"{method.key} {', '.join(f'{c:g}' for c in found)}")
    number, latents = own.dictionary.nunique(), own.groupby("dictionary").latent.nunique()
    which = (
        f"{number} dictionaries of {latents.min()} test latents each" if number > 1 else f"{latents.min()} test latents"
    )
    return (
        f"{subject.name}, layer {subject.layer}; {which}, mean and 95 % bootstrap interval over dictionaries, concepts "
        "and latents; protocol: corrected (held-out images, failures scored as failures, AUROC per latent). "
        f"Coefficients in units of the mean norm, by dictionary: {'; '.join(chosen)}."
    )


def findings(scored: pd.DataFrame, ceiling: pd.DataFrame | None) -> list[str]:
    """What the main table says, in sentences made from the numbers; notebook 08 has every metric and pair.

    Parameters
    ----------
    ceiling : from :func:`lib.studies.controls.ceilings`; None where nobody knows the truth.
    """
    full, lines = with_composites(scored), []
    for metric in (COMPOSITE, *(m for m in metrics_of(scored) if METRICS[m].needs == "truth")):
        for first in ("Steering", "hybrid"):
            e = difference(*sides(full, BOTH, f"{first} - Top-k", metric))
            lines.append(contrast(f"{_unit(metric)}, both evidences", first, "Top-k", e))
    leads = {}
    for mode in MODES:
        a, b = sides(full, mode, "hybrid - Top-k", COMPOSITE)
        lines.append(contrast(f"{_unit(COMPOSITE)}, {mode}", "hybrid", "Top-k", difference(a, b)))
        leads[mode] = a - b
    more = difference(leads["heatmaps"], leads["masks"])
    lines.append(contrast(f"{_unit(COMPOSITE)}, the hybrid's lead over Top-k", "with heatmaps it", "with masks", more))
    if ceiling is None:
        return lines
    for method in STEERING:
        own = values(scored, method.key, "patch_f1")
        most = ceiling["best single element", "patch_f1"].reindex(own.index)
        lines.append(
            f"Steering ({method.steer}) reaches {number(bootstrap_ratio(own, most), 2)} of the ceiling in patch F1; "
            f"its controls {', '.join(_share(scored, method, c, most) for c in ('random', 'permuted'))}."
        )
    return lines


def _unit(metric: str) -> str:
    """A metric as sentences call it."""
    return f"{titled(metric)}{' (standard deviations)' * (metric == COMPOSITE)}"


def _share(scored: pd.DataFrame, method: Method, control: str, most: pd.Series) -> str:
    e = bootstrap_ratio(values(scored, method.key, "patch_f1", control), most)
    return f"{number(e, 2)} ({control} direction)"
