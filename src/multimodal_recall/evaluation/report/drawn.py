"""Collect the candidates and products that the report draws."""

import pandas as pd

from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.evaluation.metrics import is_right, rank_candidates
from multimodal_recall.evaluation.scales import normalise


def drawn_candidates(
    scores: pd.DataFrame, model: str, answers: dict[int, list[int]], examples: dict[str, ChunkTables] | None
) -> pd.DataFrame:
    """Rank a model's candidates, and add relevance and the queries' texts from the split's chunks.

    Returns:
        One row a candidate in order of query and rank: ``query_id``, ``product_id``, ``score`` as log-odds, ``rank``,
        ``query`` (missing without chunks), ``right``.
    """
    ranked = rank_candidates(normalise(scores, [model], "logit").rename(columns={model: "score"}))
    texts: dict[int, str] = {}
    for tables in (examples or {}).values():
        pairs = tables["pairs"].to_table(columns=["query_id", "query"]).to_pandas().drop_duplicates("query_id")
        texts |= pairs.set_index("query_id")["query"].to_dict()
    return ranked.assign(query=ranked["query_id"].map(texts).astype(object), right=is_right(ranked, answers))


def drawn_products(examples: dict[str, ChunkTables], labels: list[str]) -> pd.DataFrame:
    """Read the boxes of the chunks' products; row i of a single chunk's result is row i of its ``products``.

    Returns:
        One row a product: ``product_id``, ``title`` and ``sku`` (missing where it has none), ``image_h``, ``image_w``,
        the sides of its boxes (pixels) and the names of their ``labels`` as lists.
    """
    columns = ["product_id", "title", "sku", "image_h", "image_w", "top", "left", "bottom", "right", "labels"]
    tables = (tables["products"].to_table(columns=columns).to_pandas() for tables in examples.values())
    products = pd.concat(tables).drop_duplicates("product_id")
    return products.assign(labels=[[labels[label] for label in numbers] for numbers in products["labels"]])
