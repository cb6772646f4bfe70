"""How the page of claims is read: its tables as people see them, what its figure leaves out, and what it comes to."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from lib.studies.claims import CANNOT, CONTRADICTED, HOLDS, NOTHING, UNDECIDED, Verdict

# What the paper's abstract, introduction and conclusions say, and both halves of section 5.1's first heading (Steering
# performs well on IoU but lags behind in the rest of metrics), by the ids of claims.yaml.
MAIN = (
    "steering_iou_competitive",
    "steering_behind_elsewhere",
    "less_contextual_bias",
    "low_level_by_steering",
    "scales_with_language_model",
    "hybrid_best",
    "hybrid_no_extra_cost",
    "steering_cheaper",
)
_PHRASES = {  # of one claim, of several
    HOLDS: ("holds here", "hold here"),
    CONTRADICTED: ("is contradicted here", "are contradicted here"),
    NOTHING: ("shows no effect larger than the margin", "show no effect larger than the margin"),
    UNDECIDED: ("is undecided", "are undecided"),
    CANNOT: ("cannot be tested at this scale",) * 2,
}


def in_short(page: pd.DataFrame) -> pd.DataFrame:
    """The page for a reader in a hurry: ``claim, section, verdict, effect, n``."""
    return page[["claim", "section", "verdict", "effect", "n"]].rename(columns={"effect": "effect [95 % interval]"})


def in_full(page: pd.DataFrame) -> pd.DataFrame:
    """What a verdict follows from: effect, margin, corrected p-value, n."""
    names = {"p, corrected": "p (Holm)", "matters": "margin", "effect": "effect [95 % interval]"}
    return page[["claim", "verdict", "effect", "matters", "p, corrected", "n"]].rename(columns=names)


def evidence(page: pd.DataFrame) -> str:
    """What stands below the full page: of each claim the published evidence, the row that decides, and the note."""
    lines = []
    for row in page.to_dict("records"):
        parts = [f"Published: {row['published'].rstrip('.')}."]
        parts += [f"Decided by `{row['of']}`."] if row["of"] != "-" else []
        parts += [f"{row['n that would decide']} latents would decide it."] if row["n that would decide"] != "-" else []
        parts += [f"By counting rows: {row['by the old rule']}."] if row["by the old rule"] != "-" else []
        lines.append(f"* **{row['claim']}** ({row['section']}) {' '.join([*parts, row['note']]).strip()}")
    return "\n".join(lines)


def counted(page: pd.DataFrame) -> pd.DataFrame:
    """The verdict beside the one by counting rows, where the two rules do not say the same."""
    other = page["by the old rule"].str.partition(" (")
    held = other[0].replace({"does not hold": CONTRADICTED, CANNOT: UNDECIDED})
    differ = (page["by the old rule"] != "-") & (held != page.verdict)
    rows = other[2].str.rstrip(")").str.replace(" for it", " for").str.replace(" undecided", " open")
    table = pd.DataFrame(
        {"claim": page.claim, "by one effect": page.verdict, "by counting rows": other[0], "rows": rows}
    )
    return table[differ].reset_index(drop=True)


def left_out(verdicts: Sequence[Verdict], shown: pd.DataFrame) -> str:
    """Which claims a figure of effects leaves out, and why: the end of a caption."""
    rest = [v for v in verdicts if v.claim["claim"] not in set(shown.claim)]
    cannot = sum(v.effect is None for v in rest)
    exact = sum(v.effect is not None and v.effect.error == 0 for v in rest)
    reasons = {
        "cannot be tested": cannot,
        "are counted and have no interval": exact,
        "say that two things are alike, and have no side": len(rest) - cannot - exact,
    }
    told = ", ".join(f"{number} {why}" for why, number in reasons.items() if number)
    return f"Left out of {len(verdicts)} claims: {told}." if told else f"All {len(verdicts)} claims are shown."


def findings(verdicts: Sequence[Verdict]) -> list[str]:
    """What the page comes to: the answer, the paper's main conclusions one by one, and what is left."""
    main = sorted((v for v in verdicts if v.claim["id"] in MAIN), key=lambda v: MAIN.index(v.claim["id"]))
    answer = f"Of {len(verdicts)} claims {numbers(verdicts)}."
    if main:
        answer += f" Of the paper's {len(main)} main conclusions {numbers(main)}."
    lines = [answer]
    lines += [f"Main conclusion, **{v.verdict}**: {_told(v)}." for v in main]
    for word in (CONTRADICTED, NOTHING, UNDECIDED):
        rest = [v for v in verdicts if v.verdict == word and v not in main]
        if rest:
            lines.append(f"Of the others **{word}**: {'; '.join(map(_told, rest))}.")
    return lines


def numbers(verdicts: Sequence[Verdict]) -> str:
    """How many claims have each verdict: ``14 hold here, 1 is undecided``."""
    counts = {word: sum(v.verdict == word for v in verdicts) for word in _PHRASES}
    return ", ".join(f"{n} {_PHRASES[word][n > 1]}" for word, n in counts.items() if n)


def _told(v: Verdict) -> str:
    claim = f"“{v.claim['claim'].rstrip('.')}”"
    if v.effect is None:
        return claim
    if v.effect.error == 0:
        return f"{claim} ({v.effect.estimate:.3f}, without an interval)"
    needed = f"; about {v.needed} latents would decide it" if v.needed else ""
    return f"{claim} ({v.effect}, n = {v.effect.n}{needed})"
