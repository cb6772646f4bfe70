"""Sentence embeddings through sentence-transformers: how alike two explanations are (section 5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import Tensor

from lib.store import ROOT, hub_id
from lib.vlm import DEVICE


class SentenceEmbedder:
    """A sentence-transformers model.

    Parameters
    ----------
    name : ``id@revision`` on the hub, a folder, or an installed package that carries a model in ``model/``.
    """

    def __init__(self, name: str) -> None:
        from sentence_transformers import SentenceTransformer  # takes seconds; few notebooks need it

        package, revision = find_spec(name) if name.isidentifier() else None, None
        if package is not None:
            name = str(Path(package.submodule_search_locations[0]) / "model")
        elif (ROOT / name).is_dir():
            name = str(ROOT / name)
        else:
            name, revision = hub_id(name)
        self.model = SentenceTransformer(name, revision=revision, device=DEVICE)

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings ``[n, d]``; each different text is embedded once."""
        unique = list(dict.fromkeys(texts))
        found = self.model.encode(unique, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False)
        place = {text: i for i, text in enumerate(unique)}
        return found.cpu()[torch.tensor([place[text] for text in texts], dtype=torch.long)]
