"""Which pictures a language model in training is asked about, alone or together, and what they have in common."""

from __future__ import annotations

from functools import cache

import numpy as np

from lib.scenes.catalogue import ATOMS, OBJECTS, elements, membership
from lib.scenes.language import common_element, join


@cache
def _kinds() -> tuple[list[list[int]], dict[str, bool]]:
    """Rows of elements by whether they are objects, and single; and of each phrase, whether it is of an object."""
    parts: dict[tuple[bool, bool], list[int]] = {}
    of = {}
    for row, element in enumerate(elements().values()):
        thing = max(element.atoms) < len(OBJECTS)
        parts.setdefault((thing, len(element.atoms) == 1), []).append(row)
        of[element.phrase] = thing
    return list(parts.values()), of


def alike(rng: np.random.Generator, k: int, shows: np.ndarray) -> tuple[list[int], str]:
    """``k`` scenes that share an element, and the phrase for all that they share, at most three of the most specific.

    The element is of an object as often as of a surface, and a single atom as often as a larger group.
    """
    table, parts = membership(), _kinds()[0]
    while True:
        rows = parts[int(rng.integers(len(parts)))]
        having = np.flatnonzero(shows[:, rows[int(rng.integers(len(rows)))]])
        if len(having):
            break
    chosen = rng.choice(having, k)
    common = np.flatnonzero(shows[chosen].all(0))
    common = [i for i in common if not any(j != i and (table[j] <= table[i]).all() for j in common)]
    names = list(elements().values())
    return chosen.tolist(), join(names[i].phrase for i in common[:3])


def evenly(rng: np.random.Generator, answers: list[str], n: int) -> np.ndarray:
    """``n`` scenes whose answers name objects as often as surfaces, and each name as often as any other of its kind.

    Otherwise a language model would lean towards what most pictures mainly show, and so would its errors.
    """
    rows: dict[bool, dict[str, list[int]]] = {True: {}, False: {}}
    for row, answer in enumerate(answers):
        rows[_kinds()[1][answer]].setdefault(answer, []).append(row)
    kinds = [list(part.values()) for part in rows.values() if part]
    groups = [kinds[i % len(kinds)][int(rng.integers(len(kinds[i % len(kinds)])))] for i in range(n)]
    return np.array([group[int(rng.integers(len(group)))] for group in groups])


def shared(rng: np.random.Generator, k: int) -> tuple[list[int], str]:
    """``k`` atoms with something in common, and the phrase for it.

    The answer is the most specific element that covers them all; one stray in five or more does
    not change it, since the top images of a real feature are seldom pure.
    """
    table = membership()
    # Half of the time one atom; else a larger element, each as likely as any other.
    single = rng.random() < 0.5
    rows = np.flatnonzero(table.sum(1) == 1) if single else np.flatnonzero(table.sum(1) > 1)
    members = np.flatnonzero(table[rng.choice(rows)])
    chosen = rng.choice(members, k).tolist()
    answer = common_element([ATOMS[i] for i in chosen])
    if k >= 5 and rng.random() < 0.25:
        chosen[int(rng.integers(k))] = int(rng.integers(len(ATOMS)))
    return chosen, answer.phrase
