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

# Words that carry no element. All others that the reader does not know are reported.
_FUNCTION_WORDS = frozenset(
    "a an the of with and or on in at to from by for is are it its this that these those there some "
    "something several many images image picture pictures shows show showing seen only nothing else "
    "front behind against under over background colour color which into".split()
)


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
    if re.search(r"(s|x|z|ch|sh)$", word):
        return word + "es"
    if re.search(r"[^aeiou]y$", word):
        return word[:-1] + "ies"
    return word + "s"


def _words(text: str) -> list[str]:
    return re.findall(r"[a-z]+(?:-[a-z]+)?", text.lower())


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
    for element in catalogue.values():  # the phrase may be all that tells "a blurred background"
        add(re.sub(r"^(an?|something) ", "", element.phrase), element)
    return table


def read(sentence: str) -> Reading:
    """Read a sentence into the scene elements it names.

    The longest name wins ("red stripes" is not "red" and "stripes"); synonyms and plurals count;
    a word that the catalogue does not know is reported in ``unknown``, never guessed.
    """
    lexicon = _lexicon()
    longest = max(map(len, lexicon))
    words, found, unknown, at = _words(sentence), [], [], 0
    while at < len(words):
        for length in range(min(longest, len(words) - at), 0, -1):
            element = lexicon.get(tuple(words[at : at + length]))
            if element is not None:
                found.append(element)
                at += length
                break
        else:
            if words[at] not in _FUNCTION_WORDS:
                unknown.append(words[at])
            at += 1
    return Reading(tuple(dict.fromkeys(found)), tuple(dict.fromkeys(unknown)))


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
