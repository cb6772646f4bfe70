"""The folder of notebooks: which are the companion's, what each says of itself, how outputs are put back into it."""

from __future__ import annotations

from pathlib import Path

import nbformat

from lib.profile import Profile
from lib.store import ROOT, write_atomically

NOTEBOOKS = ROOT / "notebooks"
# Each station builds on those before it, so they run first, one by one. Branches build on stations alone, studies on
# branches, too: those of a kind may run side by side. The verdict reads them all.
KINDS = ("station", "branch", "study", "verdict")
SIDE_BY_SIDE = ("branch", "study")
SCENES = "scenes"  # tag of cells, and need of notebooks


class BrokenNotebook(ValueError):
    """A file that is no notebook: truncated, empty, or with the marks of a merge conflict."""


def opened(notebook: Path) -> nbformat.NotebookNode:
    """A notebook.

    Raises
    ------
    BrokenNotebook
        If the file cannot be read as one.
    """
    try:
        book = nbformat.read(notebook, 4)
        nbformat.validate(book)
        _ = [cell.source for cell in book.cells]  # an older format has no cells at the top
    except (OSError, ValueError, AttributeError, TypeError, KeyError, nbformat.ValidationError) as error:
        why = " ".join(str(error).split())[:100]
        raise BrokenNotebook(f"{notebook.name} is no notebook that can be read ({why})") from error
    return book


def _ours(book: nbformat.NotebookNode, path: Path) -> dict[str, str]:
    """What a notebook says of itself, if it is one of the companion's, and no copy of one under another name."""
    said = book.metadata.get("companion")
    return said if isinstance(said, dict) and said.get("kind") in KINDS and said.get("name") == path.stem else {}


def survey() -> tuple[dict[str, Path], dict[str, str], list[str]]:
    """What the folder of notebooks holds.

    Returns
    -------
    The companion's notebooks by number, in order; why those of some other numbers cannot be read; and a line for each
    file that is none of them: someone's own, or a copy, which never stands in for the notebook whose number it bears.
    """
    found: dict[str, Path] = {}
    broken: dict[str, str] = {}
    left_out = []
    for path in sorted(NOTEBOOKS.glob("[0-9][0-9]*_*.ipynb")):
        number = number_of(path)
        try:
            ours = _ours(opened(path), path)
        except BrokenNotebook as error:
            broken[number] = str(error)
            continue
        if ours:
            found[number] = path
        else:
            left_out.append(f"{path.name} is none of the companion's (metadata companion.name), and is left out")
    for number in found.keys() & broken.keys():  # somebody's own that happens to bear the number
        left_out.append(broken.pop(number))
    return found, broken, left_out


def number_of(notebook: Path) -> str:
    """A notebook's number, ``02`` or ``01b``: what stands before the first underscore of its name."""
    return notebook.name.partition("_")[0]


def notebooks() -> dict[str, Path]:
    """The companion's notebooks in order, by number."""
    return survey()[0]


def kind(notebook: Path) -> str:
    """One of :data:`KINDS`, from the notebook's own metadata."""
    return _ours(opened(notebook), notebook)["kind"]


def long(notebook: Path) -> bool:
    """Whether a notebook takes much longer than others, so that others had better end beside it than before it."""
    return bool(_ours(opened(notebook), notebook).get("long"))


def fits(notebook: Path, profile: Profile) -> bool:
    """Whether a notebook has anything to say about a profile's images: some are about Emoji Scenes alone."""
    return _ours(opened(notebook), notebook).get("needs") != SCENES or profile.images.source == "scenes"


def cells_for(notebook: Path, scenes: bool) -> nbformat.NotebookNode:
    """The notebook; for photographs without the cells tagged ``scenes``, which need to know the truth."""
    book = opened(notebook)
    book.cells = [c for c in book.cells if scenes or SCENES not in c.metadata.get("tags", [])]
    return book


def put_back(executed: Path, notebook: Path) -> None:
    """Write outputs into the notebook itself, without the traces of this run."""
    source, done = nbformat.read(notebook, 4), nbformat.read(executed, 4)
    outputs = [c for c in done.cells if "injected-parameters" not in c.metadata.get("tags", [])]
    for cell, run in zip(source.cells, outputs, strict=True):
        if cell.cell_type == "code":
            cell.outputs = [o for o in run.outputs if o.get("name") != "stderr"]
            cell.execution_count = None
            for output in cell.outputs:
                output.pop("execution_count", None)
                if output.output_type == "execute_result":
                    output.execution_count = None
    nbformat.validate(source)
    write_atomically(notebook, lambda path: nbformat.write(source, path))
