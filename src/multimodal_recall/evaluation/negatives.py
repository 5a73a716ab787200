"""How false and how hard drawn negatives are."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from multimodal_recall.data.pairs import RightAnswers
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.data.text import words_of
from multimodal_recall.evaluation.metrics import ndcg_at_5
from multimodal_recall.runtime.cores import usable_cores

NEAR = 0.8
"""Cosine of binary tf-idf vectors from which on two query texts ask for much the same."""


MOST = 200
"""Texts near one that are looked at, the nearest first."""


def near_identical(queries: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Find all pairs of distinct texts (Q,) that ask for much the same, both ways round.

    Returns:
        Two arrays of row numbers (pairs,).
    """
    from sklearn.feature_extraction.text import TfidfVectorizer
    from sparse_dot_topn import sp_matmul_topn

    vectors = TfidfVectorizer(analyzer=words_of, binary=True, dtype=np.float32).fit_transform(queries)
    found = sp_matmul_topn(vectors, vectors.T.tocsr(), top_n=MOST, threshold=NEAR, n_threads=usable_cores()).tocoo()
    others = found.row != found.col
    return found.row[others], found.col[others]


def are_false(
    queries: list[str], right: tuple[np.ndarray, np.ndarray], wrong: tuple[np.ndarray, np.ndarray], products: int
) -> np.ndarray:
    """Tell which drawn negatives are right answers of a near-identical query, so most likely of this one too.

    Args:
        queries: The chunk's distinct texts.
        right: Query and product row of each right pair.
        wrong: The same of each drawn negative, (n,) and (n,).
        products: Products of the chunk.

    Returns:
        (n,) bools.
    """
    one, other = near_identical(queries)
    pairs = pd.DataFrame({"other": right[0], "product": right[1]})
    near = pd.DataFrame({"one": one, "other": other}).merge(pairs, on="other")
    if near.empty:
        return np.zeros(len(wrong[0]), bool)
    return RightAnswers(near["one"].to_numpy(), near["product"].to_numpy(), products).hold(*wrong)


def hardness(scores: np.ndarray) -> dict[str, float]:
    """How a ranker copes with negatives.

    Args:
        scores: (pairs, 1 + draws): of the right product, then of the wrong ones drawn for it.

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

    Args:
        samples: Of the chunk.
        kind: Of negatives.

    Returns:
        Query row of each pair (n,), and product rows (n, 1 + epochs * k): the right one, then all that were drawn.
    """
    table = samples.to_table(filter=ds.field("kind") == kind)
    epochs = len(pc.unique(table["epoch"]))
    pairs = table.num_rows // epochs
    wrong = pa.compute.list_flatten(table["wrong_rows"]).to_numpy().reshape(epochs, pairs, -1)
    query_rows, product_rows = (table[name].to_numpy()[:pairs] for name in ("query_row", "product_row"))
    return query_rows, np.column_stack([product_rows, *wrong])


def false_share(tables: ChunkTables, query_rows: np.ndarray, products: np.ndarray) -> dict[str, float]:
    """How many negatives were drawn for the pairs of a chunk, and the share of false ones; see ``are_false``."""
    queries = tables["query_features"].to_table(columns=["query"])["query"].to_pylist()
    wrong = products[:, 1:]
    drawn = np.repeat(query_rows, wrong.shape[1]), wrong.ravel()
    false = are_false(queries, (query_rows, products[:, 0]), drawn, tables["products"].count_rows())
    return {"negatives": wrong.size, "false_share": float(false.mean())}
