"""From scores to the paper's tables and galleries."""

from __future__ import annotations

import re
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, metadata
from typing import TYPE_CHECKING

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lib.assets import known
from lib.effects import METRICS, metrics_of, values
from lib.explain import HYBRID, STEERING, TOP_K, Method, pictures
from lib.figures import COLOURS
from lib.stats import Estimate, bootstrap, bootstrap_ratio
from lib.store import ROOT, hub_id
from lib.truth import MEASURES, Truth

if TYPE_CHECKING:
    from lib.run import Run


def _shown(mode: str) -> tuple[str, str, str]:
    """The three methods of a gallery."""
    return (f"top-k-{mode}", "steering-add", f"hybrid-{mode}-add")


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
        if part.empty:
            continue
        estimates = {metric: bootstrap(part[metric].to_numpy()) for metric in metrics_of(scored)}
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
        for metric, title in metrics_of(scored).items():
            e = row.estimates[metric]
            cells |= {metric: e.mean, f"{metric}_low": e.low, f"{metric}_high": e.high}
            text[title] = str(e)
            if metric in paper:  # the published runs add; what replacing gives was not published
                known = len(theirs) and row.method.steer != "replace"
                value = float(theirs[metric].iloc[0]) if known else None
                cells[f"{metric}_paper"] = value
                text[f"{title}, paper"] = "-" if value is None else f"{value:.3f}"
        numbers.append({**cells, "failed": row.failed, "n": row.n})
        shown.append({**text, "failed": row.failed, "n": row.n})
    return pd.DataFrame(numbers), pd.DataFrame(shown)


def control_table(scored: pd.DataFrame, truth: Truth | None) -> pd.DataFrame:
    """Steering against its controls: the four metrics; and where the truth is known its two measures and ceilings."""
    latents = sorted(set(scored.latent))
    rows: list[dict[str, object]] = []
    if truth:
        single = {m: np.array([truth.best_element(i, m)[1] for i in latents]) for m in MEASURES}
        sentence = {m: np.array([truth.best_sentence(i, m)[1] for i in latents]) for m in MEASURES}
        rows += [
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
        row: dict[str, object] = {"explanation": name}
        if truth:
            strict = values(scored, method, "patch_f1", control)
            row |= {m: str(bootstrap(values(scored, method, m, control))) for m in MEASURES}
            row["share of ceiling"] = str(bootstrap_ratio(strict, single["patch_f1"]))
            if control and strict.any():
                times = bootstrap_ratio(values(scored, method, "patch_f1"), strict)
                row["times control"] = f"{times.mean:.1f} [{times.low:.1f}, {times.high:.1f}]"
        for metric in ("iou", "auroc", "synthetic", "clip"):
            row[METRICS[metric]] = f"{values(scored, method, metric, control).mean():.3f}"
        rows.append(row)
    table = pd.DataFrame(rows).fillna("-").assign(n=len(latents))
    return table.rename(columns={"patch_f1": "patch F1"})


def family_of(key: str) -> str:
    """The paper's name of the method with this key."""
    stems = {"steering": "Steering", "top": "Top-k", "hybrid": "Steering-informed Top-k", "blank": "No intervention"}
    return stems[key.split("-")[0]]


def colour_of(key: str) -> str:
    """The colour of the method with this key."""
    return COLOURS[family_of(key)]


def table6(scored: pd.DataFrame, hybrid: pd.DataFrame, paper: pd.DataFrame) -> pd.DataFrame:
    """Methods and their controls, the published numbers beside ours where there are any (appendix J).

    Parameters
    ----------
    scored : the main run's table, with Steering's controls.
    hybrid : from :func:`lib.experiments.hybrid_controls`.
    paper : published rows of Table 6.
    """
    theirs = {"random": "Random-vector Steering", "permuted": "Random-perm Steering"}
    main = scored[scored.method.isin(["steering-add", "steering-replace", "top-k-masks"])]
    rows = []
    for (method, control), part in pd.concat([main, hybrid]).groupby(["method", "control"], sort=False):
        row: dict[str, object] = {"method": method, "control": control or "-"}
        name = family_of(method) if not control else theirs.get(control) if method == "steering-add" else None
        match = (
            paper[paper.method == name] if method in ("steering-add", "top-k-masks", "hybrid-masks-add") else paper[:0]
        )
        for metric, title in metrics_of(part).items():
            row[title] = str(bootstrap(part[metric].to_numpy()))
            if metric in paper:
                row[f"{title}, paper"] = f"{match[metric].iloc[0]:.3f}" if len(match) else "-"
        rows.append({**row, "n": len(part)})
    return pd.DataFrame(rows)


def quality_of(scored: pd.DataFrame) -> str:
    """The best measure of quality that a table has: ``correctness``, or else ``iou``."""
    return "correctness" if "correctness" in scored else "iou"


def gallery_latents(scored: pd.DataFrame, count: int) -> list[int]:
    """Latents at evenly spaced ranks of the three methods' mean correctness, or IoU where that is not known."""
    own = scored[(scored.control == "") & scored.method.isin(_shown("masks"))]
    order = own.groupby("latent")[quality_of(scored)].mean().sort_values(ascending=False, kind="stable").index
    return [int(order[rank]) for rank in np.linspace(0, len(order) - 1, 2 * count + 1).astype(int)[1::2]]


def gallery(run: Run, scored: pd.DataFrame, latents: list[int], mode: str = "masks") -> Figure:
    """Top images under masks or heatmaps, three explanations with their scores, and the best sentence if known.

    Scores are correctness, or IoU where that is not known.
    """
    k = run.profile.explain.k
    fig, axes = plt.subplots(
        len(latents), k + 1, figsize=(9.2, 1.12 * len(latents)), width_ratios=[1] * k + [4.6], squeeze=False
    )
    for row, latent in zip(axes, latents):
        shown = pictures(run.explain_evidence, run.sets["explain"], latent, k, mode)
        for axis, picture in zip(row, shown):
            axis.imshow(picture)
        for axis in row:
            axis.axis("off")
        row[0].set_title(f"latent {latent}", fontsize=7.5, pad=2)
        lines = []
        for method in _shown(mode):
            cell = scored[(scored.latent == latent) & (scored.method == method) & (scored.control == "")].iloc[0]
            lines.append(
                (colour_of(method), f"{family_of(method)}: {cell.explanation or '(nothing)'}", cell[quality_of(scored)])
            )
        if run.knows_truth:
            sentence, ceiling = run.truth.best_sentence(latent)
            lines.append((COLOURS["Ceiling"], f"best possible: {sentence}", ceiling))
        for height, (colour, text, score) in zip((0.86, 0.6, 0.34, 0.08), lines):
            row[-1].text(0.02, height, f"{score:.2f}", color=colour, fontsize=8, weight="bold", va="center")
            row[-1].text(
                0.12, height, text if len(text) < 74 else text[:71] + "...", color=colour, fontsize=8, va="center"
            )
    return fig


def evidence_sheet(run: Run, found: pd.DataFrame, what: str = "share", held_out: bool = False) -> Figure:
    """Top images under masks of some latents, one row each, with a line about it.

    ``found`` has columns ``query, latent, method, explanation`` and a number ``what``; ``held_out``
    shows the images that metrics see, and not those that the explainer saw.
    """
    k = run.profile.explain.k
    evidence, images = (
        (run.evaluate_evidence, run.sets["evaluate"]) if held_out else (run.explain_evidence, run.sets["explain"])
    )
    fig, axes = plt.subplots(
        len(found), k + 1, figsize=(9, 0.95 * len(found)), width_ratios=[1] * k + [4.2], squeeze=False
    )
    for row, item in zip(axes, found.itertuples()):
        for axis in row:
            axis.axis("off")
        for axis, picture in zip(row, pictures(evidence, images, item.latent, k, "masks")):
            axis.imshow(picture)
        text = f"{item.query}\nlatent {item.latent}, {what} {getattr(item, what):.2f}\n"
        row[-1].text(0.02, 0.5, text, fontsize=7.5, va="center")
        row[-1].text(0.02, 0.16, item.explanation[:84], fontsize=7.5, va="center", color=colour_of(item.method))
    return fig


def verdicts(scored: pd.DataFrame, truth: Truth | None) -> list[str]:
    """What the tables say, in sentences made from the numbers."""
    rows = {row.method.key: row for row in rows_of(scored)}
    lines = []
    for metric, title in metrics_of(scored).items():
        order = sorted(
            ("steering-add", "top-k-masks", "hybrid-masks-add"), key=lambda m: -rows[m].estimates[metric].mean
        )
        first, second = (rows[m].estimates[metric] for m in order[:2])
        clear = "clearly" if first.low > second.high else "with overlapping intervals"
        lines.append(f"{title}, masks: {' > '.join(rows[m].family for m in order)} (first over second {clear}).")
    if truth is None:
        return lines
    latents = sorted(set(scored.latent))
    ceiling = np.array([truth.best_element(i, "patch_f1")[1] for i in latents])
    for steer in ("add", "replace"):
        own = values(scored, f"steering-{steer}", "patch_f1")
        share = bootstrap_ratio(own, ceiling)
        best = max(("random", "permuted"), key=lambda c: values(scored, f"steering-{steer}", "patch_f1", c).mean())
        control = bootstrap(values(scored, f"steering-{steer}", "patch_f1", best))
        lines.append(
            f"Steering ({steer}) reaches {share.mean:.0%} of the ceiling in patch F1 "
            f"[{share.low:.0%}, {share.high:.0%}] and "
            f"{own.mean() / max(control.mean, 1e-3):.1f} times its stronger control ({best} direction)."
        )
    return lines


def assets(run: Run) -> pd.DataFrame:
    """Models and images of the run and of the paper, with licences (the paper's tables 4 and 5)."""
    p = run.profile
    roles = {f"explainer {name}": model for name, model in p.explainers.items()}
    roles |= {
        "subject and explainer": p.subject.model,
        "CLIP score": p.score.clip,
        "sentence embeddings": p.score.sentences,
        "boxes": p.score.detector,
        "masks": p.score.segmenter,
        "synthetic images": p.score.generator,
        "images": p.images.source,
    }
    roles |= {f"variant {name}": c["subject.model"] for name, c in p.variants.items() if "subject.model" in c}
    if p.images.source == "scenes":
        roles["images"] = "Emoji Scenes, of OpenMoji drawings"
    rows = [
        {"whose": "ours", "role": role, "asset": name, "licence": licence(name)} for role, name in roles.items() if name
    ]
    for table in ("table4", "table5"):
        theirs = pd.read_csv(ROOT / "data" / "paper" / f"{table}.csv")
        rows += [
            {"whose": f"paper, {table}", "role": r.role, "asset": r.asset, "licence": r.license}
            for r in theirs.itertuples()
        ]
    return pd.DataFrame(rows)


def licence(name: str) -> str:
    """What a local model's card, the list of assets on the hub, or the package that holds a model states."""
    card, listed = ROOT / name / "README.md", known().get(hub_id(name)[0])
    if listed:
        return listed["licence"]
    if name == "Emoji Scenes, of OpenMoji drawings":
        return "CC BY-SA 4.0"
    if card.is_file():
        stated = re.search(r"^license: *(\S+)", card.read_text(), re.MULTILINE)
        return stated[1] if stated else "not stated"
    try:
        about = metadata(name.replace("_", "-"))
    except (PackageNotFoundError, ValueError):
        return "see its page on the hub"
    return about.get("License-Expression") or about.get("License") or "not stated"
