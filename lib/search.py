"""Find features by what their explanations mean (section 5.3)."""

from __future__ import annotations

import pandas as pd
import torch

from lib.judges.sentences import SentenceEmbedder


class Search:
    """Explanations that can be searched by any text.

    Parameters
    ----------
    explained : a table with columns ``latent, method, explanation``; empty explanations are left out.
    embedder : embeds explanations and queries.
    """

    def __init__(self, explained: pd.DataFrame, embedder: SentenceEmbedder) -> None:
        self.table = explained[explained.explanation != ""].reset_index(drop=True)
        self.embedder = embedder
        self.embeddings = embedder.embed(self.table.explanation.tolist())

    def __call__(self, query: str, n: int = 10) -> pd.DataFrame:
        """The ``n`` explanations nearest to ``query``, best first, with their cosine ``similarity``.

        Raises
        ------
        ValueError
            If the query is empty.
        """
        if not query.strip():
            raise ValueError("search for what? The query is empty")
        similarity = self.embeddings @ self.embedder.embed([query])[0]
        best = torch.argsort(similarity, descending=True, stable=True)[:n].tolist()
        return self.table.iloc[best].assign(similarity=similarity[best].tolist()).reset_index(drop=True)
