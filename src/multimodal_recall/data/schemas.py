"""The columns of every table that a stage hands to the next; the catalog checks them on save and on load."""

from collections.abc import Mapping

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

PAIR_IDS = {"query_id": pa.int64(), "product_id": pa.int64()}
REFERENCE_SCORES = {**PAIR_IDS, "random": pa.float32(), "noun_alone": pa.float32(), "truth": pa.float32()}
TABLES: Mapping[str, pa.Schema] = {
    # Raw: one row a product that has a title, in any order.
    "titles": pa.schema({"product_id": pa.int64(), "title": pa.string()}),
    # One row a product of an imported shop: the map of its SKU to its number.
    "shop_products": pa.schema(
        {
            "product_id": pa.int64(),
            "sku": pa.string(),
            "photos": pa.list_(pa.string()),  # names below the folder of photos, at least one
            "title": pa.string(),  # null where there is none
            "category": pa.string(),  # null where there is none
        }
    ),
    # One row a query and product of an imported shop.
    "shop_clicks": pa.schema(
        {
            "query": pa.string(),  # the spelling with the most clicks
            "product_id": pa.int64(),
            "clicks": pa.int64(),  # 0 in judgements
            "relevance": pa.float64(),  # null in clicks
            "first_day": pa.date32(),  # of the query's first click; null where the table has no dates
        }
    ),
    # One row a row of a shop's tables, or a product, that cannot be used.
    "shop_rejected": pa.schema(
        {
            "file": pa.string(),
            "line": pa.int64(),  # null of a photo
            "sku": pa.string(),
            "title": pa.string(),
            "reason": pa.string(),
            "text": pa.string(),  # the row's first 200 characters, or the name of the photo
        }
    ),
    # One row a product of an own table, as people read it.
    "names": pa.schema({"product_id": pa.int64(), "title": pa.string(), "sku": pa.string()}),
    # One row a product of a shop whose photo could be read.
    "described": pa.schema(
        {
            "product_id": pa.int64(),
            "image_h": pa.int32(),  # pixels of the photo as it was opened, upright and perhaps scaled down
            "image_w": pa.int32(),
            "boxes": pa.list_(pa.float32()),  # top, left, bottom, right of each box, pixels
            "features": pa.list_(pa.float16()),  # of each box, of length 1
            "class_labels": pa.list_(pa.string()),  # name of each box's label
        }
    ),
    # One row a product of a shop whose photo could not be read.
    "rejected_photos": pa.schema({"product_id": pa.int64(), "photo": pa.string(), "reason": pa.string()}),
    # One row a distinct product of the chunk, in order of first appearance.
    "products": pa.schema(
        {
            "product_id": pa.int64(),
            "title": pa.string(),  # null where the product has none
            "sku": pa.string(),  # the shop's own name of the product; null where its number is the name
            "image_h": pa.int32(),  # pixels
            "image_w": pa.int32(),
            "top": pa.list_(pa.float32()),  # of each kept box, pixels
            "left": pa.list_(pa.float32()),
            "bottom": pa.list_(pa.float32()),
            "right": pa.list_(pa.float32()),
            "labels": pa.list_(pa.int16()),
            "features": pa.large_binary(),  # (kept boxes, F) little-endian float16
        }
    ),
    # One row a kept row of the TSV, in file order.
    "pairs": pa.schema(
        {
            "query_id": pa.int64(),
            "query": pa.string(),
            "query_row": pa.int32(),  # row of the query's text among the chunk's distinct texts
            "product_id": pa.int64(),
            "product_row": pa.int32(),  # row in `products`
        }
    ),
    # One row a rejected row of the TSV.
    "rejected": pa.schema(
        {
            "file": pa.string(),
            "row": pa.int64(),  # 1 is the first line after the header
            "byte": pa.int64(),  # where the row starts in the file; null in a parquet table
            "kind": pa.string(),  # malformed, or cleaned (left out by an option)
            "reason": pa.string(),
            "text": pa.string(),  # the row's first 200 characters
        }
    ),
    # One row a distinct query text of the training split.
    "queries": pa.schema({"query": pa.string(), "rows": pa.int64()}),
    # Row 0 is the unknown word.
    "word_vectors": pa.schema({"word": pa.string(), "vector": pa.list_(pa.float32())}),
    # Row i is label i.
    "label_vectors": pa.schema({"name": pa.string(), "vector": pa.list_(pa.float32())}),
    # One row a query of a part of `queries`.
    "query_vectors": pa.schema({"query": pa.string(), "vector": pa.list_(pa.float16())}),
    # One row a distinct query text of the chunk, in order of first appearance.
    "query_features": pa.schema(
        {
            "query": pa.string(),
            "vector": pa.list_(pa.float16()),  # of the language model
            "word_ids": pa.list_(pa.int32()),  # rows of `word_vectors`
        }
    ),
    # For each epoch and kind of negatives, one row a pair, in the order of `pairs`.
    "samples": pa.schema(
        {
            "epoch": pa.int16(),
            "kind": pa.string(),
            "query_row": pa.int32(),
            "product_row": pa.int32(),  # the right product
            "wrong_rows": pa.list_(pa.int32()),  # the wrong products, equally many in each row
        }
    ),
    "scores": pa.schema(
        {
            **PAIR_IDS,
            "score": pa.float32(),
            "smoothed": pa.float32(),  # with smoothed box features; null where smoothing is off
            "reranked": pa.float32(),  # k-reciprocal; null where it is off or the ranker has no product vectors
        }
    ),
    # One row a candidate, in the order of `scores`.
    "vectors": pa.schema(
        {
            **PAIR_IDS,
            "vector": pa.list_(pa.float16()),  # input of the ranker's last layer
        }
    ),
    # One row a candidate, in the order of the model's scores; no row where no candidate has a title.
    "title_scores": pa.schema({**PAIR_IDS, "bm25": pa.float32(), "title_overlap": pa.float32()}),
    "zero_shot_scores": pa.schema({**PAIR_IDS, "score": pa.float32()}),  # cosines; no row without a text tower
    "reference_scores": pa.schema(REFERENCE_SCORES),
    "all_reference_scores": pa.schema({"split": pa.string(), **REFERENCE_SCORES}),
    # One row a candidate of each ranking that combines the models' scores.
    "rankings": pa.schema(
        {
            "ranking": pa.string(),
            "kind": pa.string(),  # leak-free, fitted or using the leak: see `rankings.RANKING_KINDS`
            **PAIR_IDS,
            "score": pa.float64(),
        }
    ),
    "list_counts": pa.schema({"product_id": pa.int64(), "lists_with_product": pa.int64()}),
    # One row a query of the answers.
    "query_facts": pa.schema(
        {
            "query_id": pa.int64(),
            "query": pa.string(),
            "words": pa.int64(),
            "last_word": pa.string(),
            "boxes": pa.float64(),  # mean of the right products
            "label": pa.string(),  # most frequent label of the right products' boxes
        }
    ),
    # One row a query and ranking.
    "query_metrics": pa.schema(
        {
            "ranking": pa.string(),
            "kind": pa.string(),
            "query_id": pa.int64(),
            "leak_poor": pa.bool_(),
            "candidates": pa.int64(),
            "answers": pa.int64(),
            "ndcg_at_5": pa.float64(),
            "ndcg_at_10": pa.float64(),
            "reciprocal_rank": pa.float64(),
            "recall_at_5": pa.float64(),
            "precision_at_5": pa.float64(),
            "average_precision": pa.float64(),
            "top_5": pa.list_(pa.int64()),  # best product first
        }
    ),
    # One row a judgement of a qrels file about a query of the split.
    "judged": pa.schema({**PAIR_IDS, "relevance": pa.int64()}),
    # One row a product that a search of the whole catalogue has found for a query of the answers, best first.
    "retrieved": pa.schema({**PAIR_IDS, "rank": pa.int32(), "score": pa.float32()}),
    # One row a query of the answers and ranking of the whole catalogue.
    "recall_metrics": pa.schema(
        {
            "ranking": pa.string(),
            "query_id": pa.int64(),
            **{f"recall_at_{cut}": pa.float64() for cut in (10, 50, 100, 1000)},
            **{f"success_at_{cut}": pa.float64() for cut in (10, 50, 100, 1000)},
            "reciprocal_rank": pa.float64(),
            "ndcg_at_10": pa.float64(),
            "judged_at_10": pa.float64(),
            "wrong_at_10": pa.float64(),
            "top_10": pa.list_(pa.int64()),
            "ceiling": pa.float64(),  # recall of all candidates of the second stage; null for a single stage
        }
    ),
    "training_log": pa.schema(
        {
            "epoch": pa.int64(),
            "loss": pa.float64(),
            "loss_parts": pa.list_(pa.float64()),  # `loss` is their sum
            "valid_ndcg_at_5": pa.float64(),
            "pairs": pa.int64(),
            "seconds": pa.float64(),
        }
    ),
}


class TableError(ValueError):
    """A table does not have the columns of its schema."""


class TableValidator:
    """Checks, as a validator of Kedro's catalog, that a table has the columns of ``TABLES[table]`` in their order."""

    def __init__(self, table: str) -> None:
        self.schema = TABLES[table]

    def validate(self, data: pa.Table | ds.Dataset) -> pa.Table | ds.Dataset:
        """Return ``data`` unchanged.

        Raises:
            TableError: If names, types or order differ; with the columns found and the columns wanted.
        """
        if not data.schema.equals(self.schema):
            found, wanted = ({field.name: str(field.type) for field in schema} for schema in (data.schema, self.schema))
            differing = sorted(name for name in found.keys() | wanted.keys() if found.get(name) != wanted.get(name))
            raise TableError(
                f"columns {differing or 'in another order'}: found {found}, wanted {wanted}. "
                "Run the stage that makes this table again"
            )
        return data


def distinct_queries(pairs: pa.Table) -> list[str]:
    """List the distinct query texts of a chunk's ``pairs`` in order of ``query_row``."""
    _, first = np.unique(pairs["query_row"].to_numpy(), return_index=True)
    return pairs["query"].take(pa.array(first)).to_pylist()


def from_pandas(schema: pa.Schema, data: pd.DataFrame) -> pa.Table:
    """Turn a data frame into a table, without pandas' metadata, which pandas may fail to read."""
    return pa.Table.from_pandas(data[schema.names], schema, preserve_index=False).replace_schema_metadata()


ChunkTables = dict[str, ds.Dataset]  # the tables of one chunk by kind (`products`, `query_features`, ...), lazy
