"""Is an explanation right? What the paper could not measure, and Emoji Scenes can.

Every patch of a scene shows one atom (an object or a surface), and an explanation names a set of
atoms. So all that must be kept of a latent, over any number of held-out images, is how often and
how strongly it is active on each atom: three small tables decide every sentence.

Two measures, both F1 scores between 0 and 1:

``correctness``
    Precision is the share of the latent's activation mass that lies on what the explanation names.
    Recall is the share of the *occurrences* of it (image by image) on which the latent is active at
    all. A latent that marks the beak of every parrot is thus rightly explained by "a parrot".
``patch_f1``
    The strict version: a patch counts as selected where code > 0, and every patch of a named thing
    must be selected.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from lib.codes import CodeBatch
from lib.scenes.catalogue import ATOMS, Element, elements, membership
from lib.scenes.drawing import Scene
from lib.scenes.language import join, read
from lib.store import read as read_file
from lib.store import write_tensors

MEASURES = ("patch_f1", "correctness")
STEP = 2**-24  # codes are summed in such steps: float64 then holds sums below 2^29 exactly, whatever is added first


class TruthCounter:
    """Observer of a pass over scenes: counts every latent's activity on every atom.

    Parameters
    ----------
    latents : size of the dictionary.
    scene : from the index of a picture to the scene behind it.
    """

    def __init__(self, latents: int, scene: Callable[[int], Scene]) -> None:
        self.scene = scene
        shape = (latents, len(ATOMS))
        self.mass, self.active, self.met = (torch.zeros(shape, dtype=torch.float64) for _ in range(3))
        self.patches, self.occurrences = (torch.zeros(len(ATOMS), dtype=torch.float64) for _ in range(2))

    def see(self, codes: CodeBatch) -> None:
        """Count one batch."""
        codes, n = codes.cpu(), len(codes.values)
        owner = torch.from_numpy(
            np.stack([self.scene(i).patches().ravel() for i in codes.images.tolist()]).astype(np.int64)
        )
        atoms, latents = len(ATOMS), self.mass.shape[0]
        self.patches += torch.bincount(owner.ravel(), minlength=atoms)
        present = torch.zeros(n, atoms).scatter_(1, owner, 1.0)
        self.occurrences += present.sum(0)
        cell = codes.indices * atoms + owner[..., None]  # [n, patches, k]: which (latent, atom)
        on = codes.values > 0
        size = latents * atoms
        self.active += torch.bincount(cell[on], minlength=size).reshape(latents, atoms)
        mass = (codes.values[on].double() / STEP).round() * STEP
        self.mass += torch.bincount(cell[on], weights=mass, minlength=size).reshape(latents, atoms)
        once = (cell + size * torch.arange(n)[:, None, None])[on].unique()  # each (latent, atom) once per image
        self.met += torch.bincount(once % size, minlength=size).reshape(latents, atoms)

    def merge(self, other: TruthCounter) -> None:
        """Add what was counted on other scenes: exactly as if they had been seen here."""
        self.mass += other.mass
        self.active += other.active
        self.met += other.met
        self.patches += other.patches
        self.occurrences += other.occurrences

    def result(self) -> Truth:
        """The counts."""
        return Truth(self.mass, self.active, self.met, self.patches, self.occurrences)


@dataclass(frozen=True)
class Truth:
    """What every latent is active on, over a set of scenes.

    Attributes
    ----------
    mass : summed codes of each latent on each atom, ``[latents, atoms]``.
    active : patches on which the latent is active, ``[latents, atoms]``.
    met : occurrences (images with the atom) on which it is active, ``[latents, atoms]``.
    patches : patches that show each atom, ``[atoms]``.
    occurrences : images that show each atom, ``[atoms]``.
    """

    mass: Tensor
    active: Tensor
    met: Tensor
    patches: Tensor
    occurrences: Tensor

    def _f1(self, latent: int, measure: str, sets: np.ndarray) -> np.ndarray:
        """F1 of sets of atoms ``[n, atoms]`` bool: ``[n]``."""
        hit, total = (self.mass, self.met) if measure == "correctness" else (self.active, self.active)
        size = self.occurrences if measure == "correctness" else self.patches
        inside = sets @ hit[latent].numpy()
        precision = inside / max(float(hit[latent].sum()), 1e-12)
        recall = (sets @ total[latent].numpy()) / np.maximum(sets @ size.numpy(), 1e-12)
        return 2 * precision * recall / np.maximum(precision + recall, 1e-12)

    def score(self, latent: int, text: str, measure: str = "correctness") -> float:
        """How right a sentence is about a latent; 0 if it names nothing.

        Raises
        ------
        KeyError
            If there is no such measure.
        """
        if measure not in MEASURES:
            raise KeyError(f"no measure {measure!r}; there are {' and '.join(MEASURES)}")
        atoms = np.zeros((1, len(ATOMS)), bool)
        atoms[0, list(read(text).atoms)] = True
        return float(self._f1(latent, measure, atoms)[0])

    def best_latent(self, text: str, measure: str = "correctness") -> tuple[int, float]:
        """The latent that a sentence explains best, and how well."""
        scores = [self.score(latent, text, measure) for latent in range(len(self.mass))]
        return int(np.argmax(scores)), max(scores)

    def best_element(self, latent: int, measure: str = "correctness") -> tuple[Element, float]:
        """The single element that explains a latent best, and how right it is."""
        scores = self._f1(latent, measure, membership())
        row = int(scores.argmax())
        return list(elements().values())[row], float(scores[row])

    def best_sentence(self, latent: int, measure: str = "correctness", most: int = 3) -> tuple[str, float]:
        """The ceiling: the best sentence found that names up to ``most`` elements.

        The search is greedy, so a still better sentence may exist.

        Returns
        -------
        The sentence, and how right it is; never less than the best single element.
        """
        table = membership()
        names: list[Element] = []
        chosen, best = np.zeros(len(ATOMS), bool), 0.0
        for _ in range(most):
            scores = self._f1(latent, measure, table | chosen)
            row = int(scores.argmax())
            if scores[row] <= best + 1e-9:
                break
            names.append(list(elements().values())[row])
            chosen, best = table[row] | chosen, float(scores[row])
        return (join(e.phrase for e in names) if names else ""), best

    def save(self, path: Path) -> Path:
        """Write as safetensors."""
        return write_tensors(path, vars(self))

    @classmethod
    def load(cls, path: Path) -> Truth:
        """Read what :meth:`save` wrote."""
        return cls(**read_file(path))
