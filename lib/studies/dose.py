"""Does the context cause the bias? Worlds in which objects stand in their habitats never, sometimes, always."""

from __future__ import annotations

from dataclasses import replace

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch

from lib.dictionary import make_all as make_dictionaries
from lib.effects import as_estimates, column, effect, estimates
from lib.evidence import Active, Gathered
from lib.figures import colour_of, curve, side_by_side
from lib.findings import trend
from lib.methods import METHODS, STEERING, TOP_K, Method
from lib.run import Run
from lib.scenes.images import SceneImages
from lib.stats import Estimate, bootstrap_means, difference, p_of
from lib.studies.context import background_latents, judge, top_objects

DOSED = (STEERING.add, *TOP_K)  # the methods whose response to the dose is measured
TOGETHER = "Top-k, both"  # the mean of both kinds of evidence, latent by latent
BEYOND = f"{TOGETHER} - Steering"
METRICS = ("context", "error", "object")
USUAL = "#888888"  # colour of the world of all other notebooks
FIXED, REFITTED = "fixed", "refitted"  # the dictionary: of the main run, or trained in the world itself
# Only ordinary scenes, objects on a surface: empty ones have no context; wallpaper and close-ups hide most of the
# surface, so that they are hardly ever top images of a background latent, and would but thin the others out.
ORDINARY = {"closeup": 0.0, "wallpaper": 0.0, "empty": 0.0}


def shown_at(run: Run, dose: float) -> Gathered:
    """Evidence from ordinary scenes in which objects stand in their habitats with chance ``dose``, else anywhere."""
    mix = replace(run.world.mix, cooccurrence=dose, **ORDINARY)
    images = SceneImages(run.profile.seed + 3, 0, run.profile.study.dose_images, mix)
    return Gathered(run.dictionary.home, run.dictionary, images)


def dose_response(run: Run, latents: list[int]) -> pd.DataFrame:
    """Explanations of background latents when their top images come from worlds of growing co-occurrence.

    The dictionary, the latents and the objects stay. Steering sees no images, so what it says cannot change; whether an
    object that it names stands in the top images can. See :func:`worlds` for dictionaries that grew up in the world.

    Returns
    -------
    One row per latent, dose and method, with the columns of :func:`lib.studies.context.judge`.
    """
    tables = []
    for dose in run.profile.study.doses:
        shown = shown_at(run, dose)
        shown.make(lambda: run.vlm)
        tables.append(_judged(run, run, latents, shown, dose))
    return pd.concat(tables, ignore_index=True)


def worlds(run: Run) -> pd.DataFrame:
    """As :func:`dose_response`, with a dictionary trained in each world; its own background latents.

    Coefficients are those of the main run, so that the world alone differs.
    """
    tables, wanted = [], run.profile.study.latents
    grown = {dose: _world(run, dose) for dose in run.profile.study.worlds}
    make_dictionaries([world.dictionary for world in grown.values()], lambda: run.vlm)
    for dose, world in grown.items():
        world.gather()
        # No coefficient is chosen here, so no latent is set apart for it.
        active = Active(world.shown, world.held_out, world.profile.explain.min_images, 0, 2 * wanted)
        latents = background_latents(world.truth, active.latents["test"])[:wanted]
        tables.append(_judged(run, world, latents, world.shown, dose))
    return pd.concat(tables, ignore_index=True)


def _world(run: Run, dose: float) -> Run:
    """A run in a world of a dose, with the same encoder."""
    n = run.profile.study.dose_images
    mix = {f"images.{name}": share for name, share in {**ORDINARY, "cooccurrence": dose}.items()}
    world = run.changed({**mix, "images.train": 2 * n, "images.explain": n, "images.evaluate": n})
    world.vlm = run.vlm
    return world


def _judged(run: Run, world: Run, latents: list[int], shown: Gathered, dose: float) -> pd.DataFrame:
    """What is said of latents of a world's dictionary, with the outcomes; coefficients are those of ``run``."""
    tables = world.answers([world.variation(run.at_best(method), shown=shown) for method in DOSED], latents)
    said = judge(pd.concat(tables, ignore_index=True), top_objects(shown, latents, world.profile.explain.k))
    return said.assign(dose=dose, dictionary=world.profile.sae.seed, concept=[world.concept(i) for i in said.latent])


def together(table: pd.DataFrame) -> pd.DataFrame:
    """The same with rows for :data:`TOGETHER`."""
    both = table[table.method.isin([method.key for method in TOP_K])]
    keys = ["latent", "dictionary", "concept", "dose"]
    return pd.concat([table, both.groupby(keys, as_index=False)[list(METRICS)].mean().assign(method=TOGETHER)])


def dose_table(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Shares at every dose: ``dictionary, method, dose, metric, estimate, low, high, n``.

    Parameters
    ----------
    tables : :data:`FIXED` and :data:`REFITTED` -> what :func:`dose_response` and :func:`worlds` give.
    """
    parts = [estimates(together(t), ["method", "dose"], METRICS).assign(dictionary=name) for name, t in tables.items()]
    out = pd.concat(parts, ignore_index=True)
    return out[["dictionary", *out.columns.drop("dictionary")]]


def shown(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`dose_table` for a page: a row for each dictionary, method and dose, a column for each outcome."""
    own = table[(table.method != TOGETHER) & (table.metric != "object")]
    keys = ["dictionary", "method", "dose", "n"]
    cells = own.assign(cell=[str(e) for e in as_estimates(own)], method=own.method.map(lambda key: METHODS[key].label))
    return side_by_side(cells, keys, "metric")[["dictionary", "method", "dose", "context", "error", "n"]]


def effects_shown(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`dose_effects` for a page, with names in words."""
    names = {method.key: method.label for method in DOSED}
    slopes = [str(e) for e in as_estimates(table)]
    own = {"dictionary": table.dictionary, "explanation": table.method.replace(names), "slope": slopes}
    return pd.DataFrame({**own, "p": table.p.round(4), "n": table.n})


def apart(a: pd.Series, b: pd.Series) -> Estimate:
    """Mean of ``a`` minus mean of ``b``, which are about different latents, with its 95 % interval and p-value.

    The concepts of each side are drawn apart. Each side is one dictionary: what another would have given is not in it.
    ``n`` counts the latents of both sides.
    """
    concepts = [f"{side} {c}" for side, s in (("a", a), ("b", b)) for c in s.index.get_level_values("concept")]
    index = pd.Index(concepts, name="concept")
    value = pd.Series([*a, *b], index, dtype=float)
    of_a = pd.Series([1.0] * len(a) + [0.0] * len(b), index)
    columns = value * of_a, of_a, value * (1 - of_a), 1 - of_a
    with np.errstate(invalid="ignore"):  # draws that leave a side empty are left out
        e = bootstrap_means(lambda m: m[..., 0] / m[..., 1] - m[..., 2] / m[..., 3], *columns)
    return replace(e, p=p_of(e.mean, e.low, e.high))


def dose_effects(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Context errors at the highest dose minus at the lowest: ``what, dictionary, method, estimate, low, high, n, p``.

    With the fixed dictionary over the same latents; where it is refitted, over different ones (:func:`apart`). The row
    :data:`BEYOND` takes Steering's from Top-k's: Steering sees no image, so its own is coincidence. A table of one
    dose alone has no row.
    """
    rows = []
    for name, table in tables.items():
        low, high = table.dose.min(), table.dose.max()
        if low == high:
            continue
        contrast = difference if name == FIXED else apart
        groups = together(table).groupby(["method", "dose"])
        sides = {names: column(part, "context") for names, part in groups}
        for dose in (low, high):
            sides[BEYOND, dose] = sides[TOGETHER, dose] - sides[STEERING.add.key, dose]
        for method in (*(m.key for m in DOSED), TOGETHER, BEYOND):
            slope = contrast(sides[method, high], sides[method, low])
            rows.append({"what": "slope", "dictionary": name, "method": method, **effect(slope)})
    return pd.DataFrame(rows)


def dose_figure(table: pd.DataFrame, usual: float) -> Figure:
    """Dose and response: lines with the fixed dictionary, diamonds with one of each world, from :func:`dose_table`.

    Parameters
    ----------
    usual : co-occurrence in the world of all other notebooks.
    """
    titles = {"context": "context: the object stood in a top image", "error": "error: it stood in none"}
    fig, axes = plt.subplots(1, 2, figsize=(8.6, 3.7), sharey=True)
    for axis, (metric, title) in zip(axes, titles.items()):
        for method in DOSED:
            _responses(axis, table[(table.method == method.key) & (table.metric == metric)], method)
        axis.axvline(usual, color=USUAL, lw=1.2, ls=":", zorder=0)
        axis.set(title=title, xlabel="dose: co-occurrence of object and habitat")
    axes[0].set_ylabel("share of background latents")
    lines: list[Artist] = [
        Line2D([], [], color=colour_of(m.key), ls=_style(m), marker="o", ms=3, label=m.label) for m in DOSED
    ]
    counts = _counts(table)
    lines.append(Patch(facecolor="black", alpha=0.15, label=f"fixed dictionary (n = {counts[FIXED]}), 95 % band"))
    if REFITTED in counts:
        label = f"dictionary trained in each world (n = {counts[REFITTED]}), 95 % bar; hollow: masks"
        lines.append(Line2D([], [], color="black", ls="", marker="D", ms=5, label=label))
    lines.append(Line2D([], [], color=USUAL, lw=1.2, ls=":", label="world of the other notebooks"))
    fig.legend(handles=lines, loc="outside lower center", ncols=2)
    return fig


def _counts(table: pd.DataFrame) -> dict[str, str]:
    """Latents at each dose, by kind of dictionary: ``38``, or ``80 and 70`` where doses differ."""
    groups = table.groupby("dictionary", sort=False).n
    return {str(name): " and ".join(dict.fromkeys(map(str, n))) for name, n in groups}


def dose_caption(table: pd.DataFrame, usual: float) -> str:
    """What :func:`dose_figure` shows, for those who see nothing else."""
    counts = _counts(table)
    grown = f" Diamonds (hollow: masks): the same with a dictionary trained in each world (n = {counts.get(REFITTED)})."
    return (
        f"Share of background latents that are explained by an object, as objects stand in their habitats never (0) to "
        f"always (1) in the images from which top images are taken. Left: the object stood in a top image; right: in "
        f"none. Lines and 95 % bands: Steering (orange), Top-k with masks (blue, dashed) and with heatmaps (blue, "
        f"solid), one fixed dictionary (n = {counts[FIXED]} latents, the same at each dose)."
        f"{grown if REFITTED in counts else ''} Dotted: the world of the other notebooks ({usual:g})."
    )


def _style(method: Method) -> str:
    return "--" if method == TOP_K.masks else "-"


def _responses(axis: Axes, table: pd.DataFrame, method: Method) -> None:
    """One method's line, and its diamonds with intervals, beside each other where methods would cover each other."""
    fixed, refitted = (table[table.dictionary == name] for name in (FIXED, REFITTED))
    colour, aside = colour_of(method.key), 0.012 * (DOSED.index(method) - 1)
    curve(axis, fixed.dose, as_estimates(fixed), colour, ls=_style(method))
    ends = [refitted.estimate - refitted.low, refitted.high - refitted.estimate]
    face = "none" if method == TOP_K.masks else colour
    axis.errorbar(refitted.dose + aside, refitted.estimate, ends, fmt="D", mfc=face, ms=5, color=colour, lw=0.8)


def findings(effects: pd.DataFrame) -> list[str]:
    """The response to the dose in words, from :func:`dose_effects`: Top-k's beyond Steering's, which is coincidence."""
    lines = []
    names = {FIXED: "with the dictionary fixed", REFITTED: "with a dictionary trained in each world"}
    for row, e in zip(effects.to_dict("records"), as_estimates(effects)):
        if row["method"] == BEYOND:
            what = f"Top-k's share of context errors, beyond Steering's, {names[row['dictionary']]},"
            lines.append(trend(what, "from the lowest to the highest co-occurrence", e))
    return lines
