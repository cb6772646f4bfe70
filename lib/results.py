"""From scores to the paper's main table and what it says."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.explain import HYBRID, STEERING, TOP_K, Method, pictures
from lib.figures import COLOURS
from lib.stats import Estimate, bootstrap, bootstrap_ratio
from lib.store import ROOT
from lib.truth import MEASURES, Truth

if TYPE_CHECKING:
    from lib.run import Run

METRICS = {
    "iou": "IoU",
    "auroc": "AUROC",
    "synthetic": "Synthetic activation",
    "clip": "CLIP score",
    "correctness": "Correctness",
}
_GALLERY = ("top-k-masks", "steering-add", "hybrid-masks-add")


@dataclass(frozen=True)
class Row:
    """One row of Table 1: a method, with an estimate of every metric over the test latents."""

    method: Method
    n: int
    failed: int
    estimates: dict[str, Estimate]

    @property
    def family(self) -> str:
        """The paper's name of the method."""
        return self.method.family

    @property
    def label(self) -> str:
        """Name for an axis: method, evidence, kind of intervention."""
        parts = [
            self.family,
            *([self.method.evidence] if self.method.evidence != "blank" else []),
            *([self.method.steer] if self.method.steer else []),
        ]
        return ", ".join(parts)


def published(table: str, model: str) -> pd.DataFrame:
    """The paper's own numbers for a model: ``data/paper/<table>.csv``."""
    numbers = pd.read_csv(ROOT / "data" / "paper" / f"{table}.csv")
    return numbers[numbers.model == model]


def rows_of(scored: pd.DataFrame) -> list[Row]:
    """The rows of Table 1, in the paper's order."""
    own = scored[scored.control == ""]
    rows = []
    for method in (*STEERING, *TOP_K, *HYBRID):
        part = own[own.method == method.key]
        estimates = {metric: bootstrap(part[metric].to_numpy()) for metric in METRICS}
        rows.append(Row(method, len(part), int(part.failed.sum()), estimates))
    return rows


def main_table(scored: pd.DataFrame, paper: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Table 1 with intervals, the published numbers beside ours where there are any.

    Returns
    -------
    The table with a column for every number, and the same for people to read.
    """
    numbers, shown = [], []
    for row in rows_of(scored):
        theirs = paper[(paper.method == row.family) & (paper.evidence == row.method.evidence)]
        names = {"method": row.family, "evidence": row.method.evidence, "intervention": row.method.steer or "none"}
        cells, text = {**names}, {**names}
        for metric, title in METRICS.items():
            e = row.estimates[metric]
            cells |= {metric: e.mean, f"{metric}_low": e.low, f"{metric}_high": e.high}
            text[title] = str(e)
            if metric in paper:  # the published runs add; what replacing gives was not published
                value = None if row.method.steer == "replace" else float(theirs[metric].iloc[0])
                cells[f"{metric}_paper"] = value
                text[f"{title}, paper"] = "-" if value is None else f"{value:.3f}"
        numbers.append({**cells, "failed": row.failed, "n": row.n})
        shown.append({**text, "failed": row.failed, "n": row.n})
    return pd.DataFrame(numbers), pd.DataFrame(shown)


def _values(scored: pd.DataFrame, method: str, measure: str, control: str = "") -> np.ndarray:
    """A measure of all test latents, in latent order."""
    part = scored[(scored.method == method) & (scored.control == control)].sort_values("latent")
    return part[measure].to_numpy()


def control_table(scored: pd.DataFrame, truth: Truth) -> pd.DataFrame:
    """Steering against its controls and the ceilings: both measures of truth, and the four metrics."""
    latents = sorted(set(scored.latent))
    single = {m: np.array([truth.best_element(i, m)[1] for i in latents]) for m in MEASURES}
    sentence = {m: np.array([truth.best_sentence(i, m)[1] for i in latents]) for m in MEASURES}
    rows: list[dict[str, object]] = [
        {"explanation": f"ceiling: {name}", **{m: str(bootstrap(values[m])) for m in MEASURES}}
        for name, values in (("best single element", single), ("best sentence found", sentence))
    ]
    wanted = [("Top-k, masks", "top-k-masks", ""), ("Steering-informed Top-k, masks, add", "hybrid-masks-add", "")]
    for steer in ("add", "replace"):
        wanted += [
            (f"Steering, {steer}", f"steering-{steer}", ""),
            (f"random direction, {steer}", f"steering-{steer}", "random"),
            (f"permuted direction, {steer}", f"steering-{steer}", "permuted"),
        ]
    wanted.append(("no intervention", "blank", ""))
    for name, method, control in wanted:
        strict = _values(scored, method, "patch_f1", control)
        row: dict[str, object] = {"explanation": name}
        row |= {m: str(bootstrap(_values(scored, method, m, control))) for m in MEASURES}
        row["share of ceiling"] = str(bootstrap_ratio(strict, single["patch_f1"]))
        if control and strict.any():
            times = bootstrap_ratio(_values(scored, method, "patch_f1"), strict)
            row["times control"] = f"{times.mean:.1f} [{times.low:.1f}, {times.high:.1f}]"
        for metric in ("iou", "auroc", "synthetic", "clip"):
            row[METRICS[metric]] = f"{_values(scored, method, metric, control).mean():.3f}"
        rows.append(row)
    table = pd.DataFrame(rows).fillna("-").assign(n=len(latents))
    return table.rename(columns={"patch_f1": "patch F1"})


def gallery_latents(scored: pd.DataFrame, count: int) -> list[int]:
    """Latents at evenly spaced ranks of the mean correctness of the three methods, best first."""
    own = scored[(scored.control == "") & scored.method.isin(_GALLERY)]
    order = own.groupby("latent").correctness.mean().sort_values(ascending=False, kind="stable").index
    return [int(order[rank]) for rank in np.linspace(0, len(order) - 1, 2 * count + 1).astype(int)[1::2]]


def gallery(run: Run, scored: pd.DataFrame, latents: list[int]) -> Figure:
    """Top images under masks, three explanations with their scores, and the best sentence possible."""
    k = run.profile.explain.k
    fig, axes = plt.subplots(len(latents), k + 1, figsize=(9.2, 1.12 * len(latents)), width_ratios=[1] * k + [4.6])
    for row, latent in zip(axes, latents):
        shown = pictures(run.explain_evidence, run.sets["explain"], latent, k, "masks")
        for axis, picture in zip(row, shown):
            axis.imshow(picture)
        for axis in row:
            axis.axis("off")
        row[0].set_title(f"latent {latent}", fontsize=7.5, pad=2)
        lines = []
        for method in _GALLERY:
            cell = scored[(scored.latent == latent) & (scored.method == method) & (scored.control == "")].iloc[0]
            family = {"top-k-masks": "Top-k", "steering-add": "Steering"}.get(method, "Steering-informed Top-k")
            lines.append((COLOURS[family], f"{family}: {cell.explanation or '(nothing)'}", cell.correctness))
        sentence, ceiling = run.truth.best_sentence(latent)
        lines.append((COLOURS["Ceiling"], f"best possible: {sentence}", ceiling))
        for height, (colour, text, score) in zip((0.86, 0.6, 0.34, 0.08), lines):
            row[-1].text(0.02, height, f"{score:.2f}", color=colour, fontsize=8, weight="bold", va="center")
            row[-1].text(
                0.12, height, text if len(text) < 74 else text[:71] + "...", color=colour, fontsize=8, va="center"
            )
    return fig


def verdicts(scored: pd.DataFrame, truth: Truth) -> list[str]:
    """What the tables say, in sentences made from the numbers."""
    rows = {row.method.key: row for row in rows_of(scored)}
    lines = []
    for metric, title in METRICS.items():
        order = sorted(
            ("steering-add", "top-k-masks", "hybrid-masks-add"), key=lambda m: -rows[m].estimates[metric].mean
        )
        first, second = (rows[m].estimates[metric] for m in order[:2])
        clear = "clearly" if first.low > second.high else "with overlapping intervals"
        lines.append(f"{title}, masks: {' > '.join(rows[m].family for m in order)} (first over second {clear}).")
    latents = sorted(set(scored.latent))
    ceiling = np.array([truth.best_element(i, "patch_f1")[1] for i in latents])
    for steer in ("add", "replace"):
        own = _values(scored, f"steering-{steer}", "patch_f1")
        share = bootstrap_ratio(own, ceiling)
        best = max(("random", "permuted"), key=lambda c: _values(scored, f"steering-{steer}", "patch_f1", c).mean())
        control = bootstrap(_values(scored, f"steering-{steer}", "patch_f1", best))
        lines.append(
            f"Steering ({steer}) reaches {share.mean:.0%} of the ceiling in patch F1 "
            f"[{share.low:.0%}, {share.high:.0%}] and "
            f"{own.mean() / max(control.mean, 1e-3):.1f} times its stronger control ({best} direction)."
        )
    return lines
