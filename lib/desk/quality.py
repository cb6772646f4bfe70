"""How good the desk models are, on held-out pictures that no training has seen: the figures of their cards."""

from __future__ import annotations

import numpy as np
from PIL import Image

from lib import prompts
from lib.desk.groups import alike
from lib.desk.views import view
from lib.judges.clip import OpenClip
from lib.questions import Question
from lib.scenes.catalogue import ATOMS, OBJECTS, elements, membership
from lib.scenes.drawing import Scene
from lib.scenes.language import caption, read
from lib.scenes.sampling import scenes
from lib.stats import Estimate, bootstrap
from lib.vlm import VLM

_HELD_OUT = 99_991  # seed of pictures that no training has seen


def ask(vlm: VLM, pictures: list[list[Image.Image]], prompt: str, batch: int = 64) -> list[str]:
    """The cleaned answers to one prompt about many groups of pictures."""
    answers: list[str] = []
    for first in range(0, len(pictures), batch):
        answers += vlm.answer([Question(tuple(p), prompt) for p in pictures[first : first + batch]], 24)
    return [prompts.clean(answer) for answer in answers]


def measure_subject(vlm: VLM, n: int) -> dict[str, Estimate]:
    """Held-out quality of a subject, each figure with its 95 % interval.

    ``object recall``: share of a scene's visible objects that its caption names; ``background
    accuracy``: whether it names the right surface; ``in common``: whether what five whole pictures share is named
    exactly; ``masks``/``heatmaps``, ``k images``: whether the highlighted element is named exactly, which none but a
    taught explainer has learnt.
    """
    held_out = list(scenes(n, _HELD_OUT))
    captions = ask(vlm, [[s.image] for s in held_out], prompts.DESCRIBE)
    recall, background = [], []
    for scene, text in zip(held_out, captions):
        named = {e.name for e in read(text).elements}
        visible = [ATOMS[i] for i in np.unique(scene.patches()) if i < len(OBJECTS)]
        recall.append(np.mean([v in named for v in visible]) if visible else np.nan)
        background.append(scene.layout.surface in named)
    out = {"object recall": bootstrap(np.array(recall)), "background accuracy": bootstrap(np.array(background))}
    out["naming what five whole pictures share"] = bootstrap(_in_common(vlm, held_out, n))
    for mode in ("masks", "heatmaps"):
        for k in (1, 5):
            rng = np.random.default_rng([_HELD_OUT, k])
            atoms = [ATOMS[int(rng.integers(len(ATOMS)))] for _ in range(n)]
            groups = [[Image.fromarray(view(atom, mode, rng).pixels) for _ in range(k)] for atom in atoms]
            answers = ask(vlm, groups, prompts.TOP_K[mode])
            right = [[e.name for e in read(a).elements] == [atom] for a, atom in zip(answers, atoms)]
            out[f"naming one highlighted element, {mode}, {k} image{'s' * (k > 1)}"] = bootstrap(np.array(right))
    return out


def _in_common(vlm: VLM, held_out: list[Scene], n: int) -> np.ndarray:
    """Whether exactly what five whole pictures share is named, ``[n]``."""
    rng, shows = np.random.default_rng([_HELD_OUT, 9]), np.zeros((len(held_out), len(ATOMS)), bool)
    for row, scene in enumerate(held_out):
        shows[row, np.unique(scene.patches())] = True
    groups = [alike(rng, 5, shows @ membership().T) for _ in range(n)]
    answers = ask(vlm, [[held_out[i].image for i in rows] for rows, _ in groups], prompts.TOP_K["masks"])
    wanted = [read(answer).atoms for _, answer in groups]
    return np.array([read(said).atoms == atoms for said, atoms in zip(answers, wanted)])


def measure_judge(judge: OpenClip, n: int) -> dict[str, Estimate]:
    """Held-out quality of the CLIP judge: how often it picks the right one of many texts."""
    rng = np.random.default_rng([_HELD_OUT, 7])
    atoms = rng.integers(0, len(ATOMS), n)
    pictures = [Image.fromarray(view(ATOMS[i], "masks", rng).pixels) for i in atoms]
    names = judge.embed_texts([elements()[a].phrase for a in ATOMS])
    masked = (judge.embed_images(pictures) @ names.T).argmax(1).numpy() == atoms
    held_out = list(scenes(n, _HELD_OUT))
    texts = [caption(s.layout) for s in held_out]
    unique = list(dict.fromkeys(texts))
    best = (judge.embed_images([s.image for s in held_out]) @ judge.embed_texts(unique).T).argmax(1).tolist()
    whole = [unique[i] == text for i, text in zip(best, texts)]
    return {
        f"naming a masked element (of {len(ATOMS)})": bootstrap(masked),
        f"matching a scene to its caption (of {len(unique)})": bootstrap(np.array(whole)),
    }
