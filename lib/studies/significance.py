"""Which differences are real? Every pair of methods, by the paper's test and by a paired one (appendix C)."""

from __future__ import annotations

from collections import Counter

import pandas as pd

from lib.effects import BOTH, COMPOSITE, COMPOSITES, as_estimates, effect, of_family, titled, with_composites
from lib.findings import contrast, number, side
from lib.methods import METHODS, MODES, Method, Mode, trio
from lib.metrics import METRICS, metrics_of
from lib.stats import Estimate, bootstrap_ratio, difference, mann_whitney, normality, wilcoxon

ALPHA = 0.05
NO_RATIO = Estimate(*[float("nan")] * 3, 0)  # of composites, whose mean is 0
LEAD = "hybrid - Top-k"  # the comparison that the notebook asks about


def called(key: str) -> str:
    """A method in few words, from its key: ``Steering``, ``Top-k, masks``, ``hybrid, heatmaps, replace``."""
    method = METHODS[key]
    shown = "" if method.evidence == "blank" else method.evidence
    return ", ".join(filter(None, [method.short, shown, "replace" if method.steer == "replace" else ""]))


def brief(metric: str) -> str:
    """A metric's title in one word, for narrow tables and axes."""
    return titled(metric).split()[0]


def p_text(p: float) -> str:
    """A p-value for people: three digits, or that it is smaller than these can say."""
    return "<0.001" if p < 0.001 else f"{p:.3f}"


def pairs_of(evidence: Mode) -> dict[str, tuple[Method, Method]]:
    """The comparisons under one kind of evidence, by their names in tables: the first minus the second."""
    steering, topk, hybrid = trio(evidence)
    return {f"{a.short} - {b.short}": (a, b) for a, b in ((steering, topk), (hybrid, topk), (hybrid, steering))}


def normality_table(models: dict[str, pd.DataFrame], methods: tuple[Method, ...]) -> pd.DataFrame:
    """p-values of the test that scores are normally distributed: ``model, method, metric, p, n``."""
    own = {model: scored[scored.control == ""] for model, scored in models.items()}
    return pd.DataFrame(
        [
            {"model": model, "method": method.key, "metric": metric, "p": normality(part[metric]), "n": len(part)}
            for model, scored in own.items()
            for metric in metrics_of(scored)
            for method in methods
            for part in [scored[scored.method == method.key]]
        ]
    )


def normality_shown(table: pd.DataFrame) -> pd.DataFrame:
    """:func:`normality_table` for people: a row for each model and metric, with how many distributions are rejected."""
    rows = [
        {
            "model": model,
            "metric": titled(metric),
            "methods tested": len(part),
            "not normal": int((part.p < ALPHA).sum()),
            "largest p": p_text(part.p.max()),
            "n each": part.n.iloc[0],
        }
        for (model, metric), part in table.groupby(["model", "metric"], sort=False)
    ]
    return pd.DataFrame(rows)


def sides(scored: pd.DataFrame, evidence: str, comparison: str, metric: str) -> tuple[pd.Series, pd.Series]:
    """A metric of the two methods of a comparison, over the same latents; ``both`` kinds of evidence: the mean."""
    first, second = (of_family(scored, family, metric, evidence) for family in comparison.split(" - "))
    return first, second


def comparisons(scored: pd.DataFrame, model: str) -> pd.DataFrame:
    """Every pair of methods on every metric and on composites of them, under masks, under heatmaps, and under both.

    Returns
    -------
    One row for each pair, metric and evidence: mean difference with its interval over the same latents, and its
    p-value by sign flips; the ratio of the means (not of composites, whose zero is arbitrary); the paper's one-sided
    Mann-Whitney p-value, and the two-sided p-value of Wilcoxon's signed-rank test. The last three treat latents as
    independent.
    """
    scored, rows = with_composites(scored), []
    for evidence in (*MODES, BOTH):
        for name in pairs_of("masks"):
            for metric in (*metrics_of(scored), *COMPOSITES):
                a, b = sides(scored, evidence, name, metric)
                ratio = NO_RATIO if metric in COMPOSITES else bootstrap_ratio(a, b)
                rows.append(
                    {
                        "model": model,
                        "evidence": evidence,
                        "comparison": name,
                        "metric": metric,
                        **effect(difference(a, b)),
                        "ratio": ratio.mean,
                        "ratio_low": ratio.low,
                        "ratio_high": ratio.high,
                        "p_greater": mann_whitney(a, b),
                        "p_less": mann_whitney(b, a),
                        "p_wilcoxon": wilcoxon(a, b),
                    }
                )
    return pd.DataFrame(rows)


def comparisons_shown(pairs: pd.DataFrame, model: str) -> pd.DataFrame:
    """:func:`comparisons` of one model, with ``p_holm``, for people: methods less Top-k under either evidence."""
    own = pairs[(pairs.model == model) & pairs.evidence.isin(MODES) & pairs.metric.isin(METRICS)]
    own = own[own.comparison.str.endswith(" - Top-k")].sort_values("comparison", ascending=False, kind="stable")
    return pd.DataFrame(
        {
            "method less Top-k": own.comparison.str.split(" - ").str[0] + ", " + own.evidence,
            "metric": own.metric.map(brief),
            "difference": [str(e) for e in as_estimates(own)],
            "p, ours": own.p.map(p_text),
            "p, paper": own.p_greater.map(p_text),
            "p, Wilcoxon": own.p_wilcoxon.map(p_text),
            "p, Holm": own.p_holm.map(p_text),
        }
    ).reset_index(drop=True)


def winners(pairs: pd.DataFrame) -> pd.DataFrame:
    """Who beats both others on each metric: by the paper's rule, and by the paired test after correction.

    Parameters
    ----------
    pairs : from :func:`comparisons`, with ``p_holm``.
    """
    rows = []
    pairs = pairs[pairs.evidence.isin(MODES) & ~pairs.metric.isin(COMPOSITES)]
    for names, part in pairs.groupby(["model", "evidence", "metric"], sort=False):
        beaten: dict[str, Counter[str]] = {"paper": Counter(), "paired": Counter()}
        for r in part.itertuples():
            first, second = pairs_of(r.evidence)[r.comparison]
            beaten["paper"].update([first.short] * (r.p_greater < ALPHA) + [second.short] * (r.p_less < ALPHA))
            if r.p_holm < ALPHA and r.estimate:
                beaten["paired"][(first if r.estimate > 0 else second).short] += 1
        won = {rule: next((name for name, n in wins.items() if n == 2), "-") for rule, wins in beaten.items()}
        rows.append(
            {
                **dict(zip(("model", "evidence", "metric"), names)),
                "paper's rule": won["paper"],
                "paired, Holm": won["paired"],
                "n": part.n.iloc[0],
            }
        )
    return pd.DataFrame(rows)


def answer(pairs: pd.DataFrame, model: str) -> str:
    """Whether the hybrid's lead over Top-k is more than noise, in one sentence: by the composite of the metrics."""
    own = pairs[(pairs.model == model) & (pairs.comparison == LEAD) & (pairs.metric == COMPOSITE)]
    leads = dict(zip(own.evidence, as_estimates(own)))
    whole, parts = leads[BOTH], {mode: leads[mode] for mode in MODES}
    what = f"over both kinds of evidence its composite minus Top-k's is {number(whole)} standard deviations"
    if side(whole) < 1:
        return f"The hybrid is not shown to lead Top-k in {model}: {what} (n = {whole.n})."
    if all(side(e) for e in parts.values()):
        more = " and ".join(f"{number(e)} under {mode}" for mode, e in parts.items())
    else:
        shown = [mode for mode, e in parts.items() if side(e)]
        more = f"taken alone, {' and '.join(shown) or 'neither'} would show it"
    return f"The hybrid's lead over Top-k in {model} is more than noise: {what}, {more} (n = {whole.n})."


def findings(pairs: pd.DataFrame, model: str) -> list[str]:
    """What the hybrid adds to Top-k in one model, metric by metric, under both kinds of evidence together."""
    own = pairs[(pairs.model == model) & (pairs.evidence == BOTH) & (pairs.comparison == LEAD)]
    return [
        contrast(f"{titled(r.metric)} ({model}, both kinds of evidence)", *r.comparison.split(" - "), estimate)
        for r, estimate in zip(own.itertuples(), as_estimates(own))
        if r.metric not in COMPOSITES
    ]
