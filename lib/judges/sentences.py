"""Sentence embeddings through sentence-transformers: how alike two explanations are (section 5.1)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from lib.device import DEVICE
from lib.hub import Asset, load_whole


@dataclass(frozen=True)
class SentenceEmbedder:
    """A sentence-transformers model; loads when first used.

    Attributes
    ----------
    name : a folder, an installed package that carries a model, or ``id@revision`` on the hub.
    """

    name: Asset

    @cached_property
    def model(self) -> Any:
        """The model itself.

        Raises
        ------
        Damaged
            If its checkpoint lacks weights.
        """
        from sentence_transformers import SentenceTransformer  # takes seconds; few notebooks need it

        source, revision = self.name.pretrained()
        model = SentenceTransformer(source, device=DEVICE, **revision)
        if inner := getattr(model[0], "auto_model", None):  # of which the package would fill gaps at random
            load_whole(type(inner), source, unused=("pooler.",), **revision)
        return model

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Unit embeddings ``[n, d]``; each different text is embedded once."""
        unique = list(dict.fromkeys(texts))
        found = self.model.encode(unique, normalize_embeddings=True, convert_to_tensor=True, show_progress_bar=False)
        place = {text: i for i, text in enumerate(unique)}
        return found.cpu()[torch.tensor([place[text] for text in texts], dtype=torch.long)]
