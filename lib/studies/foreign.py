"""A language model that someone else trained: what it answers, and what can be read of it.

It speaks English, not the catalogue's. :func:`lib.scenes.language.read` takes synonyms, narrower words and near
relatives (:mod:`lib.scenes.english`), and guesses nothing: a word that it does not know is counted as unread, and an
answer of which it knows none counts as naming nothing, which is scored as a failure.

Such a model is fetched, and slow on a CPU. So its profile is run once, and its scored answers are kept in
``data/answers``, with the date and the machine; every other run reads them.
"""

from __future__ import annotations

import time
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd

from lib.device import machine
from lib.hub import PRETRAINED
from lib.methods import METHODS, NOTHING, STEERING
from lib.run import Run
from lib.scenes.language import join
from lib.scenes.language import read as read_text
from lib.store import ROOT, note, read, write_json, write_table
from lib.studies.language_model import by_language_model, language_model, size_of

ANSWERS = ROOT / "data" / "answers" / "smollm2.parquet"
ABOUT = ANSWERS.with_suffix(".json")


def answers_of(run: Run) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The scored answers of a run's explainers, and how they came to be.

    Returns
    -------
    As :func:`lib.studies.language_model.by_language_model` has them, with ``best``, the element that explains the
    latent best, and ``read``, what is read of the answer. And ``profile, date, machine``, and ``parameters`` by size.
    """
    scored = by_language_model(run, run.some_latents)
    sizes = {size_of(name): language_model(run, name).language_parameters for name in run.profile.explainers}
    best = {latent: run.truth.best_element(latent)[0].phrase for latent in set(scored.latent)}
    scored = scored.assign(best=scored.latent.map(best), read=[as_read(text) for text in scored.explanation])
    made = {"profile": run.profile.label, "date": time.strftime("%Y-%m-%d"), "machine": machine()}
    return scored, {**made, "parameters": sizes}


def as_read(text: str) -> str:
    """The names of the elements that a text is read as; empty if it names none."""
    names = [element.name for element in read_text(text).elements]
    return join(names) if names else ""


def keep(run: Run) -> Path:
    """Write down the answers of a run, for all others; returns the file."""
    answers, about = answers_of(run)
    write_table(ANSWERS, answers)
    write_json(ABOUT, about)
    return ANSWERS


def answers_for(run: Run) -> tuple[pd.DataFrame, dict[str, Any]]:
    """The answers of a run that has such a model among its explainers; for all others, those that are kept.

    Raises
    ------
    FileNotFoundError, Damaged
        If they are not there, or cannot be read.
    """
    if PRETRAINED in run.profile.explainers.values():
        return answers_of(run)
    for path in (ANSWERS, ABOUT):
        note("used", path)
    return read(ANSWERS), read(ABOUT)


def unread(answers: pd.DataFrame) -> pd.DataFrame:
    """What of the answers cannot be read, by size of language model and method.

    Columns: ``size, method, n``; ``with an unread word`` and ``naming nothing``, shares of the answers; and the
    ``commonest unread`` words, with how many answers have them.
    """
    rows = []
    for (size, method), part in answers[answers.method != NOTHING.key].groupby(["size", "method"], sort=False):
        readings = [read_text(text) for text in part.explanation]
        words = Counter(word for reading in readings for word in reading.unknown)
        rows.append(
            {
                "size": size,
                "method": METHODS[method].family,
                "n": len(part),
                "with an unread word": sum(bool(r.unknown) for r in readings) / len(part),
                "naming nothing": sum(not r.elements for r in readings) / len(part),
                "commonest unread": ", ".join(f"{word} ({n})" for word, n in words.most_common(5)) or "-",
            }
        )
    return pd.DataFrame(rows)


def examples(answers: pd.DataFrame, n: int = 8) -> pd.DataFrame:
    """What the largest model says of the first latents when steered, beside the element that explains each best."""
    own = answers[(answers["size"] == answers["size"].iloc[-1]) & (answers.method == STEERING.add.key)]
    return own[["latent", "best", "explanation", "read", "correctness"]].head(n).reset_index(drop=True)
