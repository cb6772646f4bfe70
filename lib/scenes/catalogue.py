"""The vocabulary of Emoji Scenes: everything that can stand in a picture, and every name for it.

A picture is a partition of its pixels into **atoms**: each pixel shows one object (``dog``) or one
surface (``red stripes``). An **element** is anything a sentence can name, and is a set of atoms:
``dog`` is one atom, ``mammal`` five, ``animal`` all animals, ``stripes`` the stripes of every
colour, ``red`` every red surface. The exact mask of any sentence is therefore a look-up, and so is
the truth of any explanation.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cache

import numpy as np

# category -> (kind or "", habitats, {object: emoji}). A habitat names a surface or a pattern;
# several categories share each habitat, as cows and footballs share grass.
_CATEGORIES: dict[str, tuple[str, tuple[str, ...], dict[str, str]]] = {
    "mammal": ("animal", ("grass", "forest"), {"dog": "🐕", "cow": "🐄", "elephant": "🐘", "fox": "🦊", "panda": "🐼"}),
    "bird": ("animal", ("sky", "snow"), {"penguin": "🐧", "parrot": "🦜", "flamingo": "🦩", "owl": "🦉"}),
    "sea animal": ("animal", ("water",), {"shark": "🦈", "whale": "🐳", "octopus": "🐙", "crab": "🦀"}),
    "insect": ("animal", ("grass", "rocks"), {"bee": "🐝", "butterfly": "🦋", "ladybug": "🐞", "ant": "🐜"}),
    "reptile": ("animal", ("sand", "rocks"), {"turtle": "🐢", "crocodile": "🐊", "snake": "🐍", "dinosaur": "🦕"}),
    "fruit": (
        "food",
        ("wood", "checkers"),
        {"apple": "🍎", "banana": "🍌", "grapes": "🍇", "strawberry": "🍓", "watermelon": "🍉"},
    ),
    "vegetable": ("food", ("wood", "tiles"), {"carrot": "🥕", "broccoli": "🥦", "corn": "🌽", "eggplant": "🍆"}),
    "dessert": ("food", ("dots", "plain"), {"cake": "🎂", "donut": "🍩", "cookie": "🍪", "lollipop": "🍭"}),
    "fast food": ("food", ("checkers", "tiles"), {"pizza": "🍕", "hamburger": "🍔", "hotdog": "🌭", "fries": "🍟"}),
    "road vehicle": ("vehicle", ("road", "bricks"), {"car": "🚙", "tractor": "🚜", "truck": "🚒"}),
    "boat": ("vehicle", ("water",), {"sailboat": "⛵", "speedboat": "🚤", "canoe": "🛶"}),
    "aircraft": ("vehicle", ("sky", "night"), {"airplane": "✈", "helicopter": "🚁", "rocket": "🚀"}),
    "clothing": ("", ("stripes", "plain"), {"shirt": "👕", "dress": "👗", "hat": "🎩", "socks": "🧦"}),
    "furniture": ("", ("tiles", "blur"), {"chair": "🪑", "couch": "🛋", "bed": "🛏"}),
    "instrument": ("", ("stripes", "night"), {"guitar": "🎸", "trumpet": "🎺", "drum": "🥁", "piano": "🎹"}),
    "ball": ("", ("grass", "blur"), {"football": "⚽", "basketball": "🏀", "tennis ball": "🎾"}),
    "tool": ("", ("bricks", "wood"), {"hammer": "🔨", "saw": "🪚", "wrench": "🔧", "scissors": "✂"}),
    "building": ("", ("snow", "perspective"), {"house": "🏠", "castle": "🏰", "church": "⛪", "tent": "⛺"}),
    "tree": ("plant", ("sand", "forest"), {"palm": "🌴", "fir": "🌲", "cactus": "🌵"}),
    "flower": ("plant", ("dots", "perspective"), {"sunflower": "🌻", "rose": "🌹", "tulip": "🌷"}),
}

COLOURS: dict[str, tuple[int, int, int]] = {
    "red": (214, 40, 40),
    "yellow": (247, 202, 24),
    "green": (46, 150, 60),
    "blue": (40, 90, 200),
    "purple": (135, 60, 165),
    "black": (35, 35, 38),
}
PATTERNS = ("stripes", "checkers", "dots")
NATURAL = ("grass", "sand", "water", "sky", "snow", "forest", "night", "rocks")
MAN_MADE = ("bricks", "wood", "road", "tiles")
TEXTURES = ("blur", "perspective")
PLAIN = tuple(f"plain {colour}" for colour in ("white", *COLOURS))
COLOURED_PATTERNS = tuple(f"{colour} {pattern}" for pattern in PATTERNS for colour in COLOURS)

OBJECTS: dict[str, str] = {n: e for _, _, members in _CATEGORIES.values() for n, e in members.items()}
SURFACES: tuple[str, ...] = NATURAL + MAN_MADE + TEXTURES + COLOURED_PATTERNS + PLAIN
ATOMS: tuple[str, ...] = tuple(OBJECTS) + SURFACES
ATOM_INDEX: dict[str, int] = {name: i for i, name in enumerate(ATOMS)}
CATEGORY_OF: dict[str, str] = {n: c for c, (_, _, members) in _CATEGORIES.items() for n in members}
KIND_OF: dict[str, str] = {c: kind for c, (kind, _, _) in _CATEGORIES.items() if kind}

# How an element stands in a sentence, where it is not "a/an <name>".
_PHRASES = {
    "grapes": "grapes",
    "fries": "fries",
    "socks": "socks",
    "scissors": "scissors",
    "broccoli": "broccoli",
    "corn": "corn",
    "clothing": "clothing",
    "furniture": "furniture",
    "fast food": "fast food",
    "food": "food",
    "night": "a night sky",
    "sky": "a blue sky",
    "forest": "a forest",
    "road": "a road",
    "blur": "a blurred background",
    "perspective": "converging lines",
    "fir": "a fir tree",
    "palm": "a palm tree",
    "plain": "a plain colour",
    "pattern": "a pattern",
}
# Where an object stands on a surface; "in front of" unless named here.
_PREPOSITIONS = {
    "grass": "on",
    "sand": "on",
    "snow": "on",
    "rocks": "on",
    "wood": "on",
    "road": "on",
    "tiles": "on",
    "water": "in",
    "forest": "in",
    "sky": "in",
    "night": "in",
}
# Other words that a reader must take for the same element. Plurals are derived, not listed.
_SYNONYMS = {
    "dog": ("puppy",),
    "cow": ("cattle", "ox"),
    "fox": ("fox face",),
    "panda": ("panda bear",),
    "parrot": ("macaw",),
    "whale": ("spouting whale",),
    "bee": ("honeybee", "bumblebee"),
    "ladybug": ("ladybird", "lady beetle", "beetle"),
    "crocodile": ("alligator",),
    "snake": ("serpent",),
    "dinosaur": ("sauropod",),
    "turtle": ("tortoise",),
    "corn": ("maize", "ear of corn"),
    "eggplant": ("aubergine",),
    "donut": ("doughnut",),
    "cake": ("birthday cake",),
    "cookie": ("biscuit",),
    "lollipop": ("candy",),
    "hamburger": ("burger", "cheeseburger"),
    "hotdog": ("hot dog",),
    "fries": ("french fries", "chips"),
    "car": ("automobile",),
    "truck": ("fire engine", "fire truck"),
    "sailboat": ("yacht",),
    "speedboat": ("motorboat",),
    "canoe": ("kayak",),
    "airplane": ("aeroplane", "plane", "jet"),
    "shirt": ("t-shirt", "tee shirt"),
    "dress": ("gown",),
    "hat": ("top hat",),
    "socks": ("sock",),
    "couch": ("sofa",),
    "piano": ("keyboard", "piano keys"),
    "football": ("soccer ball",),
    "saw": ("handsaw",),
    "wrench": ("spanner",),
    "tent": ("camping tent",),
    "palm": ("palm tree",),
    "fir": ("fir tree", "evergreen", "evergreen tree", "pine tree"),
    "bird": ("fowl",),
    "sea animal": ("marine animal", "sea creature", "ocean animal"),
    "insect": ("bug",),
    "road vehicle": ("motor vehicle",),
    "boat": ("watercraft", "vessel"),
    "clothing": ("clothes", "garment"),
    "dessert": ("sweet", "sweets"),
    "instrument": ("musical instrument",),
    "tree": ("trees",),
    "animal": ("creature",),
    "food": ("foods",),
    "grass": ("lawn", "meadow"),
    "sand": ("beach", "desert"),
    "water": ("sea", "ocean", "waves"),
    "sky": ("blue sky", "clouds"),
    "forest": ("woods",),
    "night": ("night sky", "stars", "starry sky"),
    "rocks": ("stones", "rock"),
    "bricks": ("brick wall", "brick"),
    "wood": ("wooden planks", "planks"),
    "road": ("asphalt", "street"),
    "tiles": ("tile", "tiled floor"),
    "blur": ("blurred background", "blurry background", "blurred", "blurry"),
    "perspective": ("converging lines", "vanishing point", "receding lines"),
    "stripes": ("striped", "stripe"),
    "checkers": ("checkered", "checkerboard", "checks"),
    "dots": ("polka dots", "dotted", "spots"),
    "plain": ("plain colour", "plain color", "solid colour"),
    "plain white": ("white background", "blank image", "white"),
    "snow": ("snowfield",),
}


@dataclass(frozen=True)
class Element:
    """One thing that a sentence can name.

    Attributes
    ----------
    name : canonical name, unique in the catalogue.
    level : ``object``, ``category``, ``kind``, ``surface``, ``pattern``, ``colour`` or ``group``.
    atoms : indices into :data:`ATOMS` of all that the name covers.
    phrase : the noun phrase that names it in a sentence, with its article.
    synonyms : other names that mean the same.
    """

    name: str
    level: str
    atoms: frozenset[int]
    phrase: str
    synonyms: tuple[str, ...] = ()


def _element(name: str, level: str, members: list[str]) -> Element:
    plain_noun = level in ("surface", "pattern")
    article = "an" if name[0] in "aeiou" else "a"
    phrase = _PHRASES.get(name) or (name if plain_noun else f"{article} {name}")
    if name in PLAIN:
        phrase = f"a {name} background"
    if level == "colour":
        phrase = f"something {name}"
    return Element(name, level, frozenset(ATOM_INDEX[m] for m in members), phrase, _SYNONYMS.get(name, ()))


@cache
def elements() -> dict[str, Element]:
    """Every element, by canonical name, specific ones first."""
    out = [_element(name, "object", [name]) for name in OBJECTS]
    out += [_element(name, "surface", [name]) for name in SURFACES]
    out += [_element(c, "category", list(members)) for c, (_, _, members) in _CATEGORIES.items()]
    for kind in dict.fromkeys(KIND_OF.values()):
        out.append(_element(kind, "kind", [o for o, c in CATEGORY_OF.items() if KIND_OF.get(c) == kind]))
    for pattern in PATTERNS:
        out.append(_element(pattern, "pattern", [f"{c} {pattern}" for c in COLOURS]))
    for colour in COLOURS:
        out.append(_element(colour, "colour", [f"plain {colour}", *(f"{colour} {p}" for p in PATTERNS)]))
    out.append(_element("pattern", "group", list(COLOURED_PATTERNS)))
    out.append(_element("plain", "group", list(PLAIN)))
    return {element.name: element for element in out}


def preposition(surface: str) -> str:
    """How an object stands on ``surface``: "on", "in" or "in front of"."""
    return _PREPOSITIONS.get(surface, "in front of")


def habitats(obj: str) -> tuple[str, ...]:
    """Where ``obj`` usually stands: surfaces, patterns, or ``plain``; see :func:`surfaces_of`."""
    return _CATEGORIES[CATEGORY_OF[obj]][1]


@cache
def surfaces_of(habitat: str) -> tuple[str, ...]:
    """The surfaces that a habitat stands for: ``stripes`` -> the stripes of all colours."""
    if habitat == "plain":
        return PLAIN
    if habitat in PATTERNS:
        return tuple(f"{c} {habitat}" for c in COLOURS)
    return (habitat,)


@cache
def membership() -> np.ndarray:
    """Boolean ``[n_elements, n_atoms]``: which atoms each element covers, rows as in :func:`elements`."""
    table = np.zeros((len(elements()), len(ATOMS)), dtype=bool)
    for row, element in enumerate(elements().values()):
        table[row, list(element.atoms)] = True
    table.setflags(write=False)
    return table
