"""Rankings by the words of titles, without a look at a photo: what a model must beat to be worth its training."""

import numpy as np
import pandas as pd

from multimodal_recall.data.text import words_of
from multimodal_recall.evaluation.metrics import IDS

LEAST_DIFFERENCE = 1e-4
"""Products of one score are ordered by chance, by less than this."""


def rank_by_titles(candidates: pd.DataFrame) -> pd.DataFrame:
    """Score candidates by BM25 and by the share of the query's distinct words that stand in the title.

    BM25 (Robertson; Lucene's form, k1 1.5, b 0.75) weighs words by their frequency in the titles of all candidates.

    Args:
        candidates: ``query_id``, ``product_id``, ``query`` and ``title``, a text or missing: no word is in it.

    Returns:
        ``query_id``, ``product_id``, ``bm25``, ``title_overlap``; no row if no title has a word.
    """
    from bm25s import BM25  # it imports numba where there is one

    products = candidates.drop_duplicates("product_id")
    words = [words_of(title) if isinstance(title, str) else [] for title in products["title"]]
    if not any(words):
        return candidates.head(0)[IDS].assign(bm25=0.0, title_overlap=0.0)
    places = pd.Index(products["product_id"]).get_indexer(candidates["product_id"])
    bm25, overlap = np.zeros(len(candidates)), np.zeros(len(candidates))
    index, distinct = BM25(), [frozenset(of_title) for of_title in words]
    index.index(words, show_progress=False)
    for query, rows in candidates.groupby("query", sort=False).indices.items():
        wanted = list(dict.fromkeys(words_of(query)))
        if wanted:
            bm25[rows] = index.get_scores(wanted)[places[rows]]
            overlap[rows] = [sum(word in distinct[place] for word in wanted) / len(wanted) for place in places[rows]]
    chance = LEAST_DIFFERENCE * np.random.default_rng(0).random(len(candidates))
    return candidates[IDS].assign(bm25=bm25 + chance, title_overlap=overlap + chance)
