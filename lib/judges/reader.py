"""Understands explanations of photographs by asking a language model, and keeps every answer."""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

from filelock import FileLock
from tqdm import tqdm

from lib import identity
from lib.questions import Question
from lib.store import Damaged, read, short, write_json
from lib.vlm import VLM, Checkpoint

BATCH = 32  # texts asked about in one call, and lost at the most if the run is killed
PHRASES = 5  # at the most, for one text
PHRASE_WORDS = 5  # a detector fails on long phrases
NAME_WORDS = 4
SAMPLE = 20  # texts of a cluster that its name is made from, as in the paper

PHRASES_OPENING = "Phrases:"
NAME_OPENING = "Name:"


@dataclass(frozen=True)
class Kind:
    """A kind of question: what precedes the text, and how long the answer may be (in tokens)."""

    prompt: str
    max_new_tokens: int


KINDS = {
    "phrases": Kind(
        "Below is a description of something visual. Which visible things does it name? List them as short noun "
        f"phrases: at most {PHRASES}, of at most {PHRASE_WORDS} words each, the most important first, separated by "
        "commas. Add nothing that the description does not name. If it names nothing visible, write: none. "
        f"Start your answer with: {PHRASES_OPENING}\n\nDescription: ",
        64,
    ),
    "label": Kind(
        "What is the following description mainly about? Answer with one word: background (surroundings, scenery, "
        "ground, sky, water, plants as scenery, blur), animal (an animal or a part of one), or other (anything "
        "else).\n\nDescription: ",
        16,
    ),
    "level": Kind(
        "What kind of visual concept does the following description express? Answer with one of: object (a thing, a "
        "living being, or a part of one), place (a scene, a surface or surroundings), low-level (a colour, texture, "
        "pattern, edge, shape or light, of nothing in particular), unreadable (it makes no sense).\n\nDescription: ",
        16,
    ),
    "blank": Kind(
        "Does the following description call the picture empty, blank, or plain without any content? Answer yes or "
        "no.\n\nDescription: ",
        16,
    ),
    "cluster": Kind(
        "Below are descriptions of visual concepts: those of one group, then some from outside it. Name what the "
        "group has in common and the others lack. Use at most "
        f"{NAME_WORDS} words. Start your answer with: {NAME_OPENING}\n\n",
        24,
    ),
}

_NOTHING = re.compile(r"\b(none|nothing|n/a)\b")  # no noun phrase has these words
# A phrase that is cut must not end in one of these.
_DANGLING = set("a an the of and or with in on at by for from to as is are that which its their very".split())
_EDGES = " \t.:!?\"'`*_()[]{}<>-–—•“”‘’"


@dataclass(frozen=True)
class LanguageModelReader:
    """Asks a language model about texts, each text once per kind of question.

    Attributes
    ----------
    checkpoint : the model that answers.
    folder : where answers are kept, below a folder that is named by the model and this code.
    load : gives the model, when it is first needed.
    """

    checkpoint: Checkpoint
    folder: Path = field(metadata=identity.NOT_PART, compare=False)
    load: Callable[[], VLM] = field(metadata=identity.NOT_PART, compare=False, repr=False)

    def ask(self, prompts: Sequence[str], max_new_tokens: int) -> list[str]:
        """The raw completions of prompts without pictures, one for each."""
        return self.load().answer([Question((), prompt) for prompt in prompts], max_new_tokens)

    @cached_property
    def answers(self) -> Path:
        """The folder of the answers: ``<kind>.json`` maps each text to its raw answer."""
        return self.folder / identity.digest(identity.of(self))

    @cached_property
    def _known(self) -> dict[str, dict[str, str]]:
        return {}

    def phrases(self, text: str) -> list[str]:
        """At most five short noun phrases for what ``text`` names, lower case; none if it names nothing.

        An answer without any phrase is replaced by the first words of ``text``.
        """
        if not _tidy(text):
            return []
        found = read_phrases(self._answer("phrases", text))
        return leading_words(text) if found is None else found

    def label(self, text: str) -> str:
        """``background``, ``animal`` or ``other``; an empty text and an answer without any are ``other``."""
        return _first(self._answer("label", text), ("background", "animal", "other")) or "other"

    def level(self, text: str) -> str:
        """``object``, ``place``, ``low-level``, or ``unreadable``, which an empty text is, too."""
        answer = re.sub(r"\blow[\s_–]?level\b", "low-level", self._answer("level", text).lower())
        return _first(answer, ("object", "place", "low-level", "unreadable")) or "unreadable"

    def is_blank(self, text: str) -> bool:
        """Whether a text calls a picture empty; an empty text calls it nothing."""
        return _first(self._answer("blank", text), ("yes", "no")) == "yes"

    def cluster_name(self, inside: Sequence[str], outside: Sequence[str]) -> str:
        """What the texts ``inside`` a cluster share, in at most four words.

        At most 20 texts of either side are shown, the same ones at every call and in any order.

        Raises
        ------
        ValueError
            If no text is inside.
        """
        shown = _sample(inside)
        if not shown:
            raise ValueError("a cluster without texts has no name; leave it out")
        lists = f"In the group: {'; '.join(shown)}. Outside it: {'; '.join(_sample(outside)) or 'none'}."
        lines = map(_bare, _after(self._answer("cluster", lists), NAME_OPENING).splitlines())
        name = next((line for line in lines if line), "")
        return _cut(name, NAME_WORDS) or _cut(" ".join(leading_words(shown[0])), NAME_WORDS)

    def prepare(self, kind: str, texts: Iterable[str]) -> None:
        """Ask about all texts that have no answer yet, 32 in one call; empty texts are left out.

        Raises
        ------
        ValueError
            For an unknown kind, or if ``ask`` returns too few or too many answers.
        Damaged
            If the file of answers cannot be read.
        """
        if kind not in KINDS:
            raise ValueError(f"no question {kind!r}; choose from {', '.join(KINDS)}")
        known = self._known.setdefault(kind, {})
        new = [text for text in dict.fromkeys(map(_tidy, texts)) if text and text not in known]
        if new:
            known |= self._stored(kind)
            new = [text for text in new if text not in known]
        for first in tqdm(range(0, len(new), BATCH), desc=f"ask: {kind}", mininterval=5, disable=len(new) <= BATCH):
            part = new[first : first + BATCH]
            answers = self.ask([KINDS[kind].prompt + text for text in part], KINDS[kind].max_new_tokens)
            if len(answers) != len(part):
                raise ValueError(f"{len(part)} prompts got {len(answers)} answers; `ask` must answer each, in order")
            self.answers.mkdir(parents=True, exist_ok=True)
            with FileLock(self.answers / f".{kind}.json.lock"):
                # Where another process was faster its answers stand, so that all processes agree.
                known |= dict(zip(part, answers)) | self._stored(kind)
                write_json(self.answers / f"{kind}.json", known)

    def _stored(self, kind: str) -> dict[str, str]:
        path = self.answers / f"{kind}.json"
        found = read(path) if path.exists() else {}
        if not isinstance(found, dict):
            raise Damaged(f"{short(path)} holds no answers. Remove it and run again: they are then asked for anew")
        return found

    def _answer(self, kind: str, text: str) -> str:
        """The raw answer; empty for an empty text."""
        self.prepare(kind, [text])
        return self._known[kind].get(_tidy(text), "")


def read_phrases(answer: str) -> list[str] | None:
    """Phrases of an answer that should be a list, but may have bullets, numbers, or words before it.

    Returns
    -------
    The phrases; empty if the answer says that there are none, None if it says nothing at all.
    """
    answer = _after(answer, PHRASES_OPENING)
    answer = re.sub(r"^[^\n]*?:\s+", "", answer.strip())  # words that lead to the list: "Sure, here they are:"
    items = re.split(r"(?:^|\s)\d+[.)]\s|[,;\n]|\s[•*]\s|(?<=\w)\.\s", answer)
    items = [item for item in (re.sub(r"^(\d+[.)]\s|and\s)", "", _bare(item).lower()) for item in items) if item]
    found = [_cut(item, PHRASE_WORDS) for item in items if not _NOTHING.search(item)]
    found = list(dict.fromkeys(item for item in found if re.search(r"[^\W\d_]", item)))
    return found[:PHRASES] if found or any(map(_NOTHING.search, items)) else None


def leading_words(text: str) -> list[str]:
    """The first clause of a text as one phrase, cut after five words; none if it has no words."""
    clauses = [_bare(clause).lower() for clause in re.split(r"[,.;:!?()\n]|\s[-–—]\s", text)]
    phrase = next((_cut(clause, PHRASE_WORDS) for clause in clauses if clause), "")
    return [phrase] if phrase else []


def _tidy(text: str) -> str:
    return " ".join(text.split())


def _bare(text: str) -> str:
    """Without the signs and spaces around it."""
    return _tidy(text).strip(_EDGES)


def _cut(text: str, words: int) -> str:
    kept = text.split()[:words]
    while kept and len(text.split()) > words and kept[-1].lower() in _DANGLING:
        kept.pop()
    return _bare(" ".join(kept))


def _after(answer: str, opening: str) -> str:
    """What follows the opening that was asked for; the whole answer if it is missing."""
    before, found, after = re.sub(r"[*_`]+", "", answer).partition(opening)
    if not found:
        before, found, after = before.partition(opening.lower())
    return after if found else before


def _first(answer: str, words: Sequence[str]) -> str | None:
    """The one of these words that an answer holds first; None if it holds none."""
    found = re.search(rf"\b({'|'.join(map(re.escape, words))})s?\b", answer.lower())
    return found.group(1) if found else None


def _sample(texts: Sequence[str]) -> list[str]:
    distinct = sorted({_tidy(text) for text in texts} - {""})
    return random.Random(0).sample(distinct, min(SAMPLE, len(distinct)))
