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
from lib.demo import about, others, side
from lib.dictionary import make_all
from lib.hooks import Intervention
from lib.images import BLANK
from lib.methods import STEERING
from lib.questions import Question, content
from lib.run import Run
from lib.store import RUNS, MissingStage, short, write_atomically


class Panel(anywidget.AnyWidget):
    """A panel that steers the run's subject.

    Parameters
    ----------
    run : its dictionary is trained if it is not there; what is known of latents is shown where evidence and
        explanations are there.
    """

    about = traitlets.Dict().tag(sync=True)

    def __init__(self, run: Run) -> None:
        make_all([run.dictionary], lambda: run.vlm)
        self._run, self._unsteered = run, {}
        # Given to this widget, not to the class: the bundle is made when a panel is, not when the module is imported.
        super().__init__(_esm=bundle("widget.js", "esm"), _css=bundle("demo.css"), about=about(run, known(run)))
        self.on_msg(self._asked)

    def _repr_mimebundle_(self, **how: Any) -> Any:
        made = super()._repr_mimebundle_(**how)
        words = "A live panel: run this notebook in JupyterLab (./run_all.sh demo), or open the book's page."
        (made[0] if isinstance(made, tuple) else made)["text/plain"] = words
        return made

    @cached_property
    def _directions(self) -> tuple[Tensor, Tensor]:
        own = self._run.sae.directions
        return own, self._run.control("random", []).directions(own)

    def answer(self, request: dict[str, Any]) -> dict[str, Any]:
        """Answer a question of the front-end.

        Parameters
        ----------
        request : ``latent``; ``coefficient``, in mean norms of the stream; ``mode``, add or replace; ``patches``,
            base64 of a byte for each patch, 1 where it is steered, or None for all; ``picture``, base64 of RGB
            ``[side, side, 3]``, or None for the blank one; ``only``, which of the answers are wanted.

        Returns
        -------
        What the model says with the latent's ``own`` direction, a ``random`` one, the ``other`` latent's, and ``none``,
        and how many milliseconds it took.

        Raises
        ------
        ValueError
            If there is no such latent, or the bytes are too few or too many.
        """
        begun, vlm, latent = time.perf_counter(), self._run.vlm, int(request["latent"])
        own, random = self._directions
        if not 0 <= latent < len(own):
            raise ValueError(f"no latent {latent}: the dictionary has 0 to {len(own) - 1}")
        picture = self._picture(request.get("picture"))
        pushed = {"own": own[latent], "random": random[latent], "other": own[others(len(own))[latent]]}
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
        mode = "replace" if request.get("mode") == "replace" else "add"
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
    """What is known of latents without making anything: ``latent, words, role, concept, fit``."""
    columns = ["latent", "words", "role", "concept", "fit"]
    if not (run.shown.made and run.held_out.made):
        return pd.DataFrame(columns=columns)
    rows = []
    for role, latents in run.latents.items():
        try:
            words = run.explained.table(run.variation(run.at_best(STEERING.add)), latents).explanation.tolist()
        except MissingStage:
            words = [""] * len(latents)
        for latent, said in zip(latents, words):
            fit = run.truth.best_element(latent) if run.truth else (None, None)
            rows.append([latent, said, role, fit[0].name if fit[0] else "", fit[1]])
    return pd.DataFrame(rows, columns=columns)


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
    os.execv(sys.executable, [sys.executable, "-m", "jupyterlab", str(path)])
