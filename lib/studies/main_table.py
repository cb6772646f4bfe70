"""Tables 1 and 3: every method on every metric, with intervals, beside the published numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from lib.effects import values
from lib.methods import COMPARED, STEERED, STEERING, Method, trio
from lib.metrics import metrics_of
from lib.paper import csv_of
from lib.run import Run
from lib.scenes.truth import Truth
from lib.stats import Estimate, bootstrap, bootstrap_ratio


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
        Row(method, len(part), int(part.failed.sum()), {m: bootstrap(part[m].to_numpy()) for m in metrics_of(scored)})
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
    subject, own = run.profile.subject, scored[scored.control == ""].drop_duplicates("method").set_index("method")
    chosen = [f"{m.key} {own.coefficient[m.key]:g}" for m in STEERED if m.key in own.index]
    return (
        f"{subject.name}, layer {subject.layer}; {scored.latent.nunique()} test latents, mean and 95 % bootstrap "
        "interval; protocol: corrected (held-out images, failures scored as failures, AUROC per latent). "
        f"Coefficients in units of the mean norm: {', '.join(chosen)}."
    )


def verdicts(scored: pd.DataFrame, truth: Truth | None) -> list[str]:
    """What the tables say, in sentences made from the numbers."""
    rows = {row.method: row for row in rows_of(scored)}
    lines = []
    for metric, title in metrics_of(scored).items():
        order = sorted(trio("masks"), key=lambda m: -rows[m].estimates[metric].mean)
        first, second = (rows[m].estimates[metric] for m in order[:2])
        clear = "clearly" if first.low > second.high else "with overlapping intervals"
        lines.append(f"{title}, masks: {' > '.join(m.family for m in order)} (first over second {clear}).")
    if truth is None:
        return lines
    ceiling = np.array([truth.best_element(latent, "patch_f1")[1] for latent in sorted(set(scored.latent))])
    for method in STEERING:
        own = values(scored, method.key, "patch_f1")
        controls = {c: values(scored, method.key, "patch_f1", c).mean() for c in ("random", "permuted")}
        share, best = bootstrap_ratio(own, ceiling), max(controls, key=controls.get)
        lines.append(
            f"Steering ({method.steer}) reaches {share.mean:.0%} of the ceiling in patch F1 "
            f"[{share.low:.0%}, {share.high:.0%}] and {own.mean() / max(controls[best], 1e-3):.1f} times its stronger "
            f"control ({best} direction)."
        )
    return lines
