"""Figures of executed notebooks in the book: words for those who do not see them, and other colours for dark pages.

:func:`lib.figures.save_figure` shows a figure and, right below it, its caption. So the output after a picture names it.
The same caption lies in ``figures/desk``, beside the figure as it is drawn for dark pages.
"""

from __future__ import annotations

from base64 import b64decode
from functools import cache
from hashlib import sha256
from io import BytesIO
from itertools import pairwise
from pathlib import Path

import numpy as np
from docutils import nodes
from PIL import Image
from sphinx.transforms import SphinxTransform

from lib.pages import FIGURES, caption_of, first_sentence
from lib.running.collection import opened

DESK = FIGURES / "desk"
ALIKE = 0.8  # the same figure at another size has a correlation above it, others mostly below
_SIDE = 48  # pixels, to which pictures are shrunk before they are compared


def captioned(notebook: Path) -> dict[str, tuple[str, bytes]]:
    """The pictures among a notebook's outputs that have a caption right below them.

    Returns
    -------
    By the SHA-256 of each picture, its caption and the PNG itself.
    """
    found = {}
    for cell in opened(notebook).cells:
        data = [output.get("data", {}) for output in cell.get("outputs", ())]
        for shown, below in pairwise(data):
            said = below.get("text/markdown", "")
            if "image/png" in shown and len(said) > 2 and said[0] == said[-1] == "*":
                png = b64decode(shown["image/png"])
                found[sha256(png).hexdigest()] = said[1:-1], png
    return found


def dark_of(caption: str, png: bytes) -> str:
    """The name of a figure of the desk run that has a dark version; ``""`` if there is none that is surely the same.

    Its caption must be the same to the letter, and no other figure's; and the figure for light pages must look like
    what the notebook shows.
    """
    names = _names().get(caption, ())
    if len(names) != 1:
        return ""
    light, dark = (DESK / f"{names[0]}{kind}.png" for kind in ("", ".dark"))
    there = light.is_file() and dark.is_file()
    return names[0] if there and _looks(light) @ _looks(BytesIO(png)) > ALIKE else ""


@cache
def _names() -> dict[str, list[str]]:
    names: dict[str, list[str]] = {}
    for path in sorted(DESK.glob("*.txt")):
        names.setdefault(caption_of(path.stem), []).append(path.stem)
    return names


def _looks(file: Path | BytesIO) -> np.ndarray:
    """A picture's greys, coarsely; the product of two such vectors is the correlation of the pictures."""
    with Image.open(file) as image:
        greys = np.asarray(image.convert("L").resize((_SIDE, _SIDE), Image.Resampling.BOX), float).ravel()
    greys -= greys.mean()
    return greys / max(float(np.linalg.norm(greys)), 1e-9)


class Described(SphinxTransform):
    """Gives each picture that has no description one, and a notebook's figure its version for dark pages."""

    default_priority = 500

    def apply(self, **kwargs) -> None:
        """Go through the pictures of one page."""
        path = Path(self.env.doc2path(self.env.docname))
        found = captioned(path) if path.suffix == ".ipynb" else {}
        for image in list(self.document.findall(nodes.image)):
            if image.get("alt"):
                continue
            caption, png = found.get(Path(image["uri"]).stem, ("", b""))  # files of outputs are named by their bytes
            image["alt"] = first_sentence(caption) or _where(image)
            if name := caption and dark_of(caption, png):
                dark = nodes.image(uri=f"/figures/desk/{name}.dark.png", alt=image["alt"], classes=["only-dark"])
                image["classes"].append("only-light")
                image.parent.insert(image.parent.index(image) + 1, dark)


def _where(image: nodes.image) -> str:
    """Where a picture stands that has no caption: notebook and section."""
    node, titles = image.parent, []
    while node is not None:
        if isinstance(node, nodes.section):
            titles.append(node.next_node(nodes.title).astext())
        node = node.parent
    return "Figure in " + ", ".join(reversed(titles))
