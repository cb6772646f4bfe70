"""Which scenes there are: how objects, sizes and surfaces come together, and how often."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from lib.scenes.catalogue import OBJECTS, SURFACES, habitats, surfaces_of
from lib.scenes.drawing import SIZE, Layout, Placed, Scene, draw, random_ground

_NAMES = tuple(OBJECTS)
# Who lives on each surface; patterns and plain colours are named by their habitat, not by colour.
_DWELLERS = {s: tuple(o for o in _NAMES if any(s in surfaces_of(h) for h in habitats(o))) for s in SURFACES}


@dataclass(frozen=True)
class Mix:
    """What kinds of scene a set holds.

    Attributes
    ----------
    cooccurrence : chance that an object stands in one of its habitats, else anywhere. This is the
        knob of contextual bias (section 5.1): at 1, water always comes with sea animals or boats.
    closeup, wallpaper, empty : shares of scenes filled by one huge object, by a crowd of one
        object, and by nothing but a surface; the rest are ordinary.
    most_objects : objects in an ordinary scene, at the most.
    smallest : smallest longest side of an object in an ordinary scene, pixels.
    """

    cooccurrence: float = 0.8
    closeup: float = 0.05
    wallpaper: float = 0.05
    empty: float = 0.05
    most_objects: int = 3
    smallest: int = 30


def _pick(rng: np.random.Generator, names: tuple[str, ...]) -> str:
    return names[int(rng.integers(len(names)))]


def _placed(name: str, rng: np.random.Generator, low: float, high: float) -> Placed:
    """An object of random side within the frame (a side larger than the frame overflows it)."""
    side = rng.uniform(low, high)
    room = max(0.0, (SIZE - side) / 2)
    slack = room if side < SIZE else (side - SIZE) / 4
    y, x = SIZE / 2 + rng.uniform(-slack, slack, 2)
    return Placed(name, float(x), float(y), float(side), bool(rng.random() < 0.5))


def _apart(objects: list[Placed], new: Placed) -> bool:
    """Whether ``new`` hides little of the others."""
    return all(np.hypot(o.x - new.x, o.y - new.y) > 0.42 * (o.side + new.side) for o in objects)


def sample(rng: np.random.Generator, mix: Mix = Mix(), obj: str | None = None, surface: str | None = None) -> Layout:
    """Draw the plan of one scene at random.

    Scenes are stratified over objects, which are then placed in their habitats, so that every
    object is equally frequent; an empty surface is uniform over surfaces.

    Parameters
    ----------
    rng : source of randomness.
    mix : what kinds of scene there are.
    obj, surface : an object, or a surface, that the scene must have; what is not asked for is
        filled in as the mix would.
    """
    kind = rng.random()
    if obj is None and kind < mix.empty:
        return random_ground(surface or _pick(rng, SURFACES), rng)
    first = obj or _pick(rng, (_DWELLERS[surface] or _NAMES) if surface else _NAMES)
    ground = random_ground(surface or _home(rng, first, mix), rng)
    if kind < mix.empty + mix.closeup:
        return replace(ground, objects=(_placed(first, rng, 1.1 * SIZE, 2.0 * SIZE),))
    if kind < mix.empty + mix.closeup + mix.wallpaper:
        return replace(ground, objects=_crowd((first,), rng))
    objects = [_placed(first, rng, mix.smallest, 86)]
    for _ in range(int(rng.integers(mix.most_objects))):
        dwellers = _DWELLERS[ground.surface] if rng.random() < mix.cooccurrence else _NAMES
        new = _placed(_pick(rng, dwellers or _NAMES), rng, mix.smallest, 60)
        if _apart(objects, new):
            objects.append(new)
    return replace(ground, objects=tuple(objects))


def _home(rng: np.random.Generator, obj: str, mix: Mix) -> str:
    """A surface for ``obj``: one of its habitats, then one of its colours; or any surface."""
    if rng.random() < mix.cooccurrence:
        return _pick(rng, surfaces_of(_pick(rng, habitats(obj))))
    return _pick(rng, SURFACES)


def arrange(rng: np.random.Generator, mix: Mix, names: Sequence[str], surface: str | None = None) -> Layout:
    """An ordinary scene with exactly the named objects, side by side, on a surface.

    Without objects the surface is empty; without a surface the first object's habitat is drawn.
    """
    ground = random_ground(surface or _home(rng, names[0], mix), rng)
    largest = 86 if len(names) == 1 else 50
    objects: list[Placed] = []
    for name in names:
        tries = [_placed(name, rng, mix.smallest, largest) for _ in range(30)]
        objects.append(next((new for new in tries if _apart(objects, new)), tries[0]))
    return replace(ground, objects=tuple(objects))


def crowd(names: tuple[str, ...], rng: np.random.Generator) -> Layout:
    """A scene crowded with several objects, as wallpaper is with one."""
    return replace(random_ground(_home(rng, names[0], Mix()), rng), objects=_crowd(names, rng))


def _crowd(names: tuple[str, ...], rng: np.random.Generator) -> tuple[Placed, ...]:
    """The named objects all over the frame, rows shifted like a wallpaper's."""
    step = rng.uniform(22, 48)
    y0, x0 = rng.uniform(-step / 2, step / 2, 2)
    side, mirrored = step * rng.uniform(0.85, 1.05), bool(rng.random() < 0.5)
    rows = np.arange(y0, SIZE + step, step)
    return tuple(
        Placed(_pick(rng, names), float(x + (r % 2) * step / 2), float(y), side, mirrored)
        for r, y in enumerate(rows)
        for x in np.arange(x0, SIZE + step, step)
    )


def scenes(n: int, seed: int, mix: Mix = Mix(), start: int = 0) -> Iterator[Scene]:
    """``n`` scenes, deterministic: scene i depends on ``seed`` and i alone, so sets can be resumed.

    Parameters
    ----------
    n : how many scenes.
    seed : names the stream; different seeds give different sets.
    mix : what kinds of scene.
    start : index of the first scene.
    """
    for i in range(start, start + n):
        yield draw(sample(np.random.default_rng([seed, i]), mix))
