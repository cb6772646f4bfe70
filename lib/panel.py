"""The live panel in Jupyter: the same front-end as the book's page, on any profile's subject, run by PyTorch."""

from __future__ import annotations

import base64
import os
import sys
import time
from functools import cached_property
from typing import Any

import anywidget
import nbformat
import numpy as np
import pandas as pd
import torch
import traitlets
from PIL import Image
from torch import Tensor

from lib import prompts
from lib.bundle import bundle
from lib.demo import about, side
from lib.dictionary import make_all
from lib.hooks import Intervention
from lib.images import BLANK
from lib.methods import STEERING
from lib.questions import Question, content
from lib.run import Run
from lib.store import RUNS, MissingStage, short, write_atomically
from lib.studies.latents import concept_of, exchanged, roles


class Panel(anywidget.AnyWidget):
    """A panel that steers the run's subject.

    Parameters
    ----------
    run : its dictionary is trained if it is not there; what is known of latents is shown where evidence and
        explanations are there.
    """

    # What is no trait does not reach the front-end. They are filled when a panel is made, not when this is imported.
    _esm = traitlets.Unicode().tag(sync=True)
    _css = traitlets.Unicode().tag(sync=True)
    about = traitlets.Dict().tag(sync=True)

    def __init__(self, run: Run) -> None:
        make_all([run.dictionary], lambda: run.vlm)
        self._run, self._unsteered = run, {}
        super().__init__(_esm=bundle("widget.js", "esm"), _css=bundle("demo.css"), about=about(run, known(run)))
        self.on_msg(self._asked)

    def _repr_mimebundle_(self, **how: Any) -> Any:
        made = super()._repr_mimebundle_(**how)
        words = "A live panel: run this notebook in JupyterLab (./run_all.sh demo), or open the book's page."
        (made[0] if isinstance(made, tuple) else made)["text/plain"] = words
        return made

    @cached_property
    def _directions(self) -> tuple[Tensor, Tensor]:
        """Of all latents, the direction and a random one, ``[latents, d]`` each; random ones are drawn on the CPU."""
        own = self._run.sae.directions.cpu()
        return own, self._run.control("random", []).directions(own)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a question of the front-end.

        Parameters
        ----------
        request : ``latent``; ``coefficient``, in mean norms of the stream; ``mode``, ``add`` (usual) or ``replace``;
            ``patches``, base64 of a byte for each patch, 1 where it is steered, or None for all, a class token among
            them; ``picture``, base64 of RGB ``[side, side, 3]``, or None for the blank one; ``only``, which of ``own``,
            ``random`` and ``other`` are wanted.

        Returns
        -------
        What the model says with the latent's ``own`` direction, a ``random`` one, the ``other`` latent's, and ``none``,
        and how many milliseconds it took.

        Raises
        ------
        ValueError
            If there is no such latent or mode, or the bytes are too few or too many.
        """
        begun, vlm, latent = time.perf_counter(), self._run.vlm, int(request["latent"])
        own, random = self._directions
        if not 0 <= latent < len(own):
            raise ValueError(f"no latent {latent}: the dictionary has 0 to {len(own) - 1}")
        if (mode := request.get("mode", "add")) not in ("add", "replace"):
            raise ValueError(f"no mode {mode!r}: choose add or replace")
        picture = self._picture(request.get("picture"))
        pushed = {"own": own[latent], "random": random[latent], "other": own[self.about["latents"][latent]["other"]]}
        wanted = [name for name in pushed if name in request.get("only", pushed)]
        vectors = (
            torch.stack([pushed[name] for name in wanted])
            * float(request["coefficient"])
            * self._run.dictionary.report["norm"]
        )
        where = None
        if request.get("patches") is not None:
            painted = _bytes(request["patches"], (1, vlm.patches)) > 0
            where = vlm.positions(torch.from_numpy(painted)).expand(len(wanted), -1)
        question, longest = Question((picture,), prompts.STEERING), self._run.profile.explain.max_new_tokens
        said = vlm.answer([question] * len(wanted), longest, Intervention(vectors, mode, where))
        seen = content(picture)
        if seen not in self._unsteered:
            self._unsteered = {seen: vlm.answer([question], longest)[0]}  # the latest picture's, as the slider moves
        words = dict(zip([*wanted, "none"], map(prompts.clean, [*said, self._unsteered[seen]])))
        return words | {"ms": round(1000 * (time.perf_counter() - begun))}

    def _picture(self, sent: str | None) -> Image.Image:
        if sent is None:
            return BLANK
        size = side(self._run)
        return Image.fromarray(_bytes(sent, (size, size, 3)))

    def _asked(self, _widget: Any, sent: dict[str, Any], _buffers: Any) -> None:
        if sent.get("kind") != "ask":
            return
        try:
            self.send({"id": sent["id"], "answer": self.answer(sent["request"])})
        except Exception as error:  # it would be lost in the kernel's log; the panel shows it
            self.send({"id": sent["id"], "error": f"{type(error).__name__}: {error}"})


def _bytes(sent: str, shape: tuple[int, ...]) -> np.ndarray:
    found = np.frombuffer(base64.b64decode(sent), np.uint8)
    if found.size != np.prod(shape):
        raise ValueError(f"{found.size} bytes were sent; {' x '.join(map(str, shape))} are needed")
    return found.reshape(shape)


def known(run: Run) -> pd.DataFrame:
    """What is known of latents without making anything, as :attr:`EveryLatent.known` has it.

    No row as long as there is no evidence; no words as long as Steering has not explained the latents of a role.
    """
    rows: list[list[Any]] = []
    there = run.shown.made and run.held_out.made
    other = exchanged(run) if there else []
    for role, latents in roles(run).items() if there else ():
        words = _said(run, latents) if role != "silent" else [""] * len(latents)
        for latent, said in zip(latents, words):
            concept, _, fit = concept_of(run, latent)
            rows.append([latent, said, role, concept, fit, other[latent]])
    return pd.DataFrame(rows, columns=["latent", "words", "role", "concept", "fit", "other"])


def _said(run: Run, latents: list[int]) -> list[str]:
    """What Steering says of some latents, each ``""`` if it has not been asked."""
    try:
        return run.explained.table(run.variation(run.at_best(STEERING.add)), latents).explanation.tolist()
    except MissingStage:
        return [""] * len(latents)


_TEXT = """# Steer {name}

Run both cells (in the menu: *Run*, *Run All Cells*), then move the slider. The dictionary is trained first if it is not
there. What the panel computes is said in it; notebook 00 explains it line by line."""


def notebook(profile: str, overrides: dict[str, Any]) -> nbformat.NotebookNode:
    """A notebook that opens the panel on a profile's subject."""
    cells = [
        nbformat.v4.new_markdown_cell(_TEXT.format(name=f"the subject of profile `{profile}`"), id="text"),
        nbformat.v4.new_code_cell(
            f"from lib.notebook import open_run\nfrom lib.panel import Panel\n\n"
            f"run = open_run({profile!r}, {overrides!r})",
            id="run",
        ),
        nbformat.v4.new_code_cell("Panel(run)", id="panel"),
    ]
    kernel = {"name": "python3", "display_name": "Python 3", "language": "python"}
    return nbformat.v4.new_notebook(cells=cells, metadata={"kernelspec": kernel})


def main_demo(profile: str, overrides: dict[str, Any]) -> int:
    """Open JupyterLab on the panel's notebook; does not return while it runs."""
    name = "".join(letter if letter.isalnum() else "-" for letter in os.path.basename(profile))
    made = notebook(profile, overrides)
    path = write_atomically(RUNS / "demo" / f"{name}.ipynb", lambda target: nbformat.write(made, target))
    print(f"JupyterLab opens {short(path)}; Ctrl-C ends it", flush=True)
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []  # who is root has chosen to be
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", *root, str(path)])
