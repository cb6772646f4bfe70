"""Between pictures and sentences: captions of scenes, and the way back from any sentence.

Reading is what makes the desk judges exact: the segmenter looks up the masks of the elements that
an explanation names, the generator draws them, and correctness compares them with the truth.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable
from dataclasses import dataclass
from functools import cache

from lib.scenes.catalogue import (
    ATOM_INDEX,
    ATOMS,
    CATEGORY_OF,
    COLOURED_PATTERNS,
    KIND_OF,
    PATTERNS,
    Element,
    elements,
    preposition,
)
from lib.scenes.drawing import Layout
from lib.scenes.english import beyond

# Words that carry no element. All others that the reader does not know are reported.
_FUNCTION_WORDS = frozenset(
    "a an the of with and or on in at to from by for is are it its this that these those there some "
    "something several many images image picture pictures shows show showing seen only nothing else "
    "front behind against under over background colour color which into "
    # of free English
    "one two three four five near by next beside above below inside outside has have having there's it's "
    "photo photograph drawing illustration close up view main thing object".split()
)
_IRREGULAR = {"wolf": "wolves", "calf": "calves", "bookshelf": "bookshelves", "fish": "fish"}
THINGS = ("object", "category", "kind")  # levels of elements that a colour may stand before


@dataclass(frozen=True)
class Reading:
    """What a sentence names: elements in order of appearance, and the words it left unread."""

    elements: tuple[Element, ...]
    unknown: tuple[str, ...]

    @property
    def atoms(self) -> frozenset[int]:
        """All atoms named: the exact meaning of the sentence."""
        return frozenset().union(*(element.atoms for element in self.elements))


def _plural(word: str) -> str:
    *before, last = word.split(" ")
    if last in _IRREGULAR:
        return " ".join([*before, _IRREGULAR[last]])
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + "s"


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+(?:['-][a-z]+)?", text.lower().replace("\u2019", "'"))


@cache
def _lexicon() -> dict[tuple[str, ...], Element]:
    """Every way to name an element, as a tuple of words."""
    table: dict[tuple[str, ...], Element] = {}
    catalogue = elements()

    def add(text: str, element: Element) -> None:
        table.setdefault(tuple(_words(text)), element)

    for element in catalogue.values():
        for name in (element.name, *element.synonyms):
            add(name, element)
            add(_plural(name), element)
    for name in COLOURED_PATTERNS:
        colour, pattern = name.split()
        for word in (pattern, *catalogue[pattern].synonyms):
            for form in ("{c} {p}", "{c} and white {p}", "white and {c} {p}", "{c} {p} pattern"):
                add(form.format(c=colour, p=word), catalogue[name])
    for name, words in beyond().items():
        for word in words:
            add(word, catalogue[name])
            add(_plural(word), catalogue[name])
    for element in catalogue.values():  # the phrase may be all that tells "a blurred background"
        add(re.sub(r"^(an?|something) ", "", element.phrase), element)
    return table


def read(sentence: str) -> Reading:
    """Read a sentence into the scene elements it names.

    The longest name wins ("red stripes" is not "red" and "stripes"); synonyms and plurals count;
    a colour right before a thing is the thing's ("a blue car" names no blue surface); a word that is not known is
    reported in ``unknown``, never guessed.
    """
    found: list[Element] = []
    unknown: list[str] = []
    for part in re.split("[,;:.]", sentence):  # no name goes on behind a comma
        _read(part, found, unknown)
    return Reading(tuple(dict.fromkeys(found)), tuple(dict.fromkeys(unknown)))


def _read(part: str, found: list[Element], unknown: list[str]) -> None:
    """Read a part of a sentence that has no comma, and add what it names and what it leaves unread."""
    words = [w for word in _words(part) for w in ([word] if word in _known_words() else word.split("-"))]
    at = 0
    while at < len(words):
        length, element = _longest(words[at:])
        if element is None:
            if words[at] not in _FUNCTION_WORDS:
                unknown.append(words[at])
        else:
            after = _longest(words[at + length :])[1]
            colour = element.level == "colour" or words[at : at + length] == ["white"]
            if not colour or after is None or after.level not in THINGS:
                found.append(element)
        at += length


def _longest(words: list[str]) -> tuple[int, Element | None]:
    """How many of the first words are the longest name that is known, and what it names; one word, if none is."""
    lexicon = _lexicon()
    for length in range(min(_most_words(), len(words)), 0, -1):
        if element := lexicon.get(tuple(words[:length])):
            return length, element
    return 1, None


@cache
def _most_words() -> int:
    return max(map(len, _lexicon()))


@cache
def _known_words() -> frozenset[str]:
    return frozenset(word for name in _lexicon() for word in name)


def join(phrases: Iterable[str]) -> str:
    """ "a", "a and b", "a, b and c"."""
    *first, last = phrases
    return f"{', '.join(first)} and {last}" if first else last


def generalise(name: str, detail: str) -> str:
    """The element that ``name`` belongs to at a level of detail.

    Parameters
    ----------
    name : an object or a surface.
    detail : ``specific`` (dog, red stripes), ``category`` (mammal, stripes) or ``kind`` (animal,
        pattern); a level that does not exist for ``name`` falls back to the next specific one.

    Raises
    ------
    ValueError
        If ``detail`` is none of the three.
    """
    if detail not in ("specific", "category", "kind"):
        raise ValueError(f"detail must be specific, category or kind, not {detail!r}")
    if detail == "specific":
        return name
    if name in CATEGORY_OF:
        category = CATEGORY_OF[name]
        return KIND_OF.get(category, category) if detail == "kind" else category
    if name.split()[-1] in PATTERNS:
        return "pattern" if detail == "kind" else name.split()[-1]
    return name


def caption(layout: Layout, detail: str = "specific", seen: Collection[str] = ATOMS) -> str:
    """Describe a scene: its objects, each once, and where they are.

    ``a dog and a cookie on grass``; at ``category`` detail ``a mammal and a dessert on grass``. Of a partly covered
    picture only what is ``seen`` is named: ``a dog`` if no grass is.
    """
    table = elements()
    names = dict.fromkeys(generalise(name, detail) for name in layout.object_names if name in seen)
    objects = join(table[n].phrase for n in names) if names else ""
    if layout.surface not in seen:
        return objects
    surface = table[generalise(layout.surface, detail)].phrase
    return f"{objects} {preposition(layout.surface)} {surface}" if names else surface


def common_element(names: Iterable[str]) -> Element | None:
    """The most specific element that covers all the named objects or surfaces, if there is one."""
    atoms = {ATOM_INDEX[name] for name in names}
    covering = [e for e in elements().values() if atoms <= e.atoms]
    return min(covering, key=lambda e: len(e.atoms), default=None)
