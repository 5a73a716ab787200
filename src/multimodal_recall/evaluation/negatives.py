"""Drawn negatives: the share of false ones, and their hardness for a ranker."""

import numpy as np
import pandas as pd
import pyarrow.compute as pc
import pyarrow.dataset as ds

from multimodal_recall.data.pairs import RightAnswers
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.evaluation.metrics import ndcg_at_5
from multimodal_recall.negatives.drawing import text_cosines

LEAST_COSINE = 0.8
"""Least cosine of the binary tf-idf vectors of two near-identical query texts."""
MOST_NEIGHBOURS = 200
"""Near-identical texts of a query that count, the nearest first."""


def near_identical(queries: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Find all pairs of near-identical texts among distinct ones (Q,), in both orders: two arrays of rows (pairs,)."""
    cosines = text_cosines(queries, top_n=MOST_NEIGHBOURS, threshold=LEAST_COSINE).tocoo()
    distinct = cosines.row != cosines.col
    return cosines.row[distinct], cosines.col[distinct]


def are_false(
    queries: list[str], right: tuple[np.ndarray, np.ndarray], wrong: tuple[np.ndarray, np.ndarray], products: int
) -> np.ndarray:
    """Tell which drawn negatives (n,) are right answers of a near-identical query, so most likely of their own too.

    Args:
        queries: The chunk's distinct texts.
        right: Query rows and product rows of the right pairs.
        wrong: Query rows (n,) and product rows (n,) of the drawn negatives.
        products: Number of products of the chunk.
    """
    query, neighbour = near_identical(queries)
    answers = pd.DataFrame({"neighbour": right[0], "product": right[1]})
    near = pd.DataFrame({"query": query, "neighbour": neighbour}).merge(answers, on="neighbour")
    if near.empty:
        return np.zeros(len(wrong[0]), bool)
    return RightAnswers(near["query"].to_numpy(), near["product"].to_numpy(), products).hold(*wrong)


def hardness(scores: np.ndarray) -> dict[str, float]:
    """Measure how hard negatives are for a ranker.

    Args:
        scores: (pairs, 1 + draws) of the right product, then of the negatives drawn for it.

    Returns:
        ``beaten``: share of negatives that score above their right product; ``ndcg_at_5`` of the right product among
        its negatives, ties lost.
    """
    pairs, candidates = scores.shape
    table = pd.DataFrame(
        {
            "query_id": np.repeat(np.arange(pairs), candidates),
            # The right product's id is the highest, so that it loses ties.
            "product_id": np.tile(np.arange(candidates)[::-1], pairs),
            "score": scores.ravel(),
        }
    )
    answers = {pair: [candidates - 1] for pair in range(pairs)}
    ndcg = ndcg_at_5(table, answers)["ndcg_at_5"].mean()
    return {"beaten": float((scores[:, 1:] > scores[:, :1]).mean()), "ndcg_at_5": float(ndcg)}


def draws_of(samples: ds.Dataset, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Gather all draws of one kind for the pairs of a chunk.

    Returns:
        Query row of each pair (n,), and product rows (n, 1 + epochs * k): the right product, then all negatives drawn.
    """
    table = samples.to_table(filter=ds.field("kind") == kind)
    epochs = len(pc.unique(table["epoch"]))
    pairs = table.num_rows // epochs
    wrong = pc.list_flatten(table["wrong_rows"]).to_numpy().reshape(epochs, pairs, -1)
    query_rows, product_rows = (table[name].to_numpy()[:pairs] for name in ("query_row", "product_row"))
    return query_rows, np.column_stack([product_rows, *wrong])


def false_share(tables: ChunkTables, query_rows: np.ndarray, products: np.ndarray) -> dict[str, float]:
    """Count the ``negatives`` that ``draws_of`` gives, and measure their ``false_share``; see ``are_false``."""
    queries = tables["query_features"].to_table(columns=["query"])["query"].to_pylist()
    wrong = products[:, 1:]
    drawn = np.repeat(query_rows, wrong.shape[1]), wrong.ravel()
    false = are_false(queries, (query_rows, products[:, 0]), drawn, tables["products"].count_rows())
    return {"negatives": wrong.size, "false_share": float(false.mean())}
