"""How much does it move the ranking what the models were taught? Ours, as the paper's models come as they are.

Variants of the profile swap the subject's model for one that was taught otherwise, and nothing else. Of the desk's
subjects one has never seen a covered picture, one has an encoder that learned from labels of patches, and one has
practised the very questions that Top-k asks; the default has seen covered pictures, and was taught none of the methods.
"""

from __future__ import annotations

from itertools import product

import pandas as pd

from lib.effects import BOTH, COMPOSITES, as_estimates, effect, titled, with_composites
from lib.findings import contrast
from lib.methods import MODES
from lib.metrics import metrics_of
from lib.run import Run
from lib.stats import difference
from lib.studies.significance import sides

PAIRS = ("Steering - Top-k", "hybrid - Top-k")


def subjects(run: Run) -> dict[str, Run]:
    """This run's subject, and those variants that swap the model alone: by the variants' names."""
    own = run.profile.subject
    variants = {name: run.changed(name) for name in run.profile.variants}
    swapped = {
        name: one
        for name, one in variants.items()
        if one.profile.subject.model != own.model and one.profile.subject.published is None
    }
    return {"default": run, **swapped}


def ranking(scored: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Differences between methods, by how the models were taught, under each kind of evidence and under both.

    Parameters
    ----------
    scored : by name, scored explanations by the paper's methods.

    Returns
    -------
    ``taught, evidence, comparison, metric, estimate, low, high, n, p``; composites are in standard deviations.
    """
    rows = []
    for taught, table in scored.items():
        table = with_composites(table)
        for evidence, pair in product((BOTH, *MODES), PAIRS):
            for metric in (*metrics_of(table), *COMPOSITES):
                e = difference(*sides(table, evidence, pair, metric))
                names = {"taught": taught, "evidence": evidence, "comparison": pair, "metric": metric}
                rows.append({**names, **effect(e)})
    return pd.DataFrame(rows)


def findings(table: pd.DataFrame) -> list[str]:
    """What the ranking is under each way of teaching: by correctness, or by the composite where that is not known.

    Steering's is by the mean of both kinds of evidence; the hybrid's by each: it tells who can read that without help.
    """
    judge = "correctness" if "correctness" in set(table.metric) else "composite"
    own = table[(table.metric == judge) & ((table.evidence == BOTH) != (table.comparison == PAIRS[1]))]
    return [
        contrast(f"{titled(r.metric)}, {r.taught}, {r.evidence}", *r.comparison.split(" - "), e)
        for r, e in zip(own.itertuples(), as_estimates(own))
    ]
