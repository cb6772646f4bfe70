"""A figure on a dark page: ink and paper change places, the colours that mean something stay."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from matplotlib.artist import Artist
from matplotlib.collections import Collection
from matplotlib.colors import to_rgba_array
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.text import Text

PAPER, INK = 0.09, 0.93  # lightness of a dark page, and of what is printed on it
GREY = 0.06  # colours whose channels differ by less are shades of ink

# What of an artist has a colour: its getter and setter are named after it.
COLOURED: dict[type[Artist], tuple[str, ...]] = {
    Text: ("color",),
    Line2D: ("color", "markerfacecolor", "markeredgecolor"),
    Patch: ("facecolor", "edgecolor"),
    Collection: ("facecolor", "edgecolor"),
}


def turned(colour: Any) -> np.ndarray:
    """Colours as they are on a dark page: greys from black to white turn round, others stay.

    Parameters
    ----------
    colour : whatever matplotlib takes for one colour, or for several.

    Returns
    -------
    ``[n, 4]``, red, green, blue and opacity from 0 to 1; ``[0, 4]`` for ``"none"``.
    """
    rgba = to_rgba_array(colour)
    grey = np.ptp(rgba[:, :3], axis=1) < GREY
    rgba[grey, :3] = INK + (PAPER - INK) * rgba[grey, :3]
    return rgba


def _parts(fig: Figure) -> Iterator[Artist]:
    """All that is drawn, and texts' boxes and arrows, which matplotlib does not count among a figure's parts."""
    for artist in fig.findobj():
        yield artist
        hidden = (artist.get_bbox_patch() if isinstance(artist, Text) else None, getattr(artist, "arrow_patch", None))
        yield from (part for part in hidden if part is not None)


def _changes(fig: Figure) -> Iterator[tuple[Callable[[Any], None], Any, Any]]:
    """What sets each colour, what it is, and what it will be."""
    for artist in _parts(fig):
        if isinstance(artist, Collection) and artist.get_array() is not None:
            continue  # its colours are numbers, by a colour map
        for name in (n for kind, names in COLOURED.items() if isinstance(artist, kind) for n in names):
            was = getattr(artist, f"get_{name}")()
            new = turned(was)
            if len(new):
                yield getattr(artist, f"set_{name}"), was, new if isinstance(artist, Collection) else tuple(new[0])


@contextmanager
def on_dark_page(fig: Figure) -> Iterator[None]:
    """Turn a figure's greys round for as long as the block lasts.

    Pictures, colour maps and saturated colours stay. A figure must have been drawn before: labels of ticks are made
    while drawing.
    """
    changes = list(_changes(fig))  # all are read before any is made: a line's marker follows its line
    try:
        for put, _, new in changes:
            put(new)
        yield
    finally:
        for put, was, _ in reversed(changes):
            put(was)
