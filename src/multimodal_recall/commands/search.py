"""Free-text queries against all products of a split, ranked by a trained model."""

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from kedro.io import CatalogProtocol

from multimodal_recall.config.layout import SPLITS, read_layout
from multimodal_recall.config.options import IngestOptions, QueryOptions
from multimodal_recall.data.official_format import BadRow, decode_query
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.data.text import strip_leading_token, vocabulary_note, words_of
from multimodal_recall.evaluation.report.drawings import short_label
from multimodal_recall.models.query_features import featurize_queries
from multimodal_recall.runs.lineage import pinned
from multimodal_recall.runtime.device import Hardware, choose_hardware
from multimodal_recall.runtime.progress import bar

if TYPE_CHECKING:  # torch takes seconds to import
    from multimodal_recall.models.ranker import Ranker

PAIRS_AT_ONCE = 1 << 20
"""Pairs of a query and a product that are scored at a time: bounds the memory for any number of queries."""
PRODUCT_COLUMNS = ["product_id", "title", "image_h", "image_w", "top", "left", "bottom", "right", "labels"]


class SearchError(ValueError):
    """Query, split, ranker or the record of its training is missing."""


def search(
    catalog: CatalogProtocol, queries: Sequence[str], split: str | None = None, ranker: str | None = None, top: int = 10
) -> pd.DataFrame:
    """Rank all products of a split for each query, by the newest model of a ranker.

    Queries are encoded like those that the model was trained on: with the cleaning, language model, word vectors and
    lengths that the records of its training chunks name.

    Args:
        catalog: The project's; ``catalog`` in a notebook.
        queries: Free texts; texts that are equal after cleaning are searched once.
        split: Split whose products are ranked; by default the last that this environment runs.
        ranker: Name of the ranker; by default the first of ``rankers``.
        top: Products a query.

    Returns:
        One row a query and product, best first: ``query`` after cleaning, ``unknown_words`` (words without a vector of
        their own), ``rank`` from 1, ``product_id``, ``score`` (comparable within a query only), ``title`` (missing
        where the product has none), ``labels`` (names, one a box), and the image's size and the boxes' sides in pixels,
        which ``evaluation.report.drawings`` reads.

    Raises:
        SearchError: If a query is empty, or if split, ranker or the record of the training do not exist.
        DatasetError: If a version that the model was trained with has been dropped.
    """
    layout = read_layout()
    split, ranker = split or next(reversed(layout.chunks)), ranker or next(iter(layout.rankers), "two_tower")
    _check_present(catalog, split, ranker)
    saved = catalog.get(f"{ranker}.model")
    model = saved.load()
    hardware = choose_hardware(catalog.load("params:hardware"))
    hardware.set_threads()
    features = _featurize(catalog, queries, ranker, model.card["inputs"], hardware)
    module, examples = model.build().to(hardware.device), catalog.load(f"{split}_examples")
    best = best_products(module, features, examples, top)
    names = catalog.load("labels")
    products, version = (
        sum(tables["products"].count_rows() for tables in examples.values()),
        saved.load_path().parent.name,
    )
    best.attrs["source"] = (
        f"{products:,} products of {split}, ranked by {ranker} of {version}: {model.card['epoch'] + 1} epochs, "
        f"nDCG@5 on valid {model.card['valid_ndcg_at_5']:.3f}"
    )
    return best.assign(labels=[[names[label] for label in labels] for labels in best["labels"]])


def list_products(products: pd.DataFrame) -> str:
    """Write the products that ``search`` found for a query as lines: rank, id, score, and title.

    The labels of its boxes, counted, stand in place of a title that is missing.
    """
    query, unknown = products[["query", "unknown_words"]].iloc[0]
    note = vocabulary_note(query, unknown)
    lines = [note] if note else []
    titles = products["title"].fillna("")
    lines.append(f"{'rank':>4} {'product_id':>12} {'score':>8}  {'title' if titles.any() else 'labels'}")
    for row, title in zip(products.itertuples(), titles, strict=True):
        counts = Counter(map(short_label, row.labels)).most_common()
        labels = ", ".join(f"{count} x {label}" for label, count in counts)
        lines.append(f"{row.rank:4} {row.product_id:12} {row.score:8.3f}  {title or labels}")
    return "\n".join(lines)


def best_products(
    ranker: "Ranker", query_features: pa.Table, examples: dict[str, ChunkTables], top: int
) -> pd.DataFrame:
    """Find the best products of a split for each query, with one chunk in memory at a time.

    A product of several chunks comes once, with its best score. Of equal scores the lower product id comes first.
    ``query_features`` has a column ``unknown_words``.

    Returns:
        As ``search``, ``labels`` as numbers.
    """
    from multimodal_recall.data.examples import read_chunk

    texts, unknown = (query_features[name].to_pylist() for name in ("query", "unknown_words"))
    rows = {chunk: tables["products"].count_rows() for chunk, tables in examples.items()}
    best = pd.DataFrame()
    with bar("search", sum(rows.values()), "products") as shown:
        for chunk, tables in examples.items():
            arrays = read_chunk({**tables, "query_features": ds.dataset(query_features)}, ranker.reading)
            products = tables["products"].to_table(columns=PRODUCT_COLUMNS)
            for block in np.array_split(np.arange(rows[chunk]), -(-rows[chunk] * len(texts) // PAIRS_AT_ONCE)):
                best = _best_of(best, _best_of_block(ranker, arrays, products, block, len(texts), top), top)
                shown.advance(len(block))
            del arrays  # the next chunk must not be read while this one is in memory
    best["rank"] = best.groupby("query_row").cumcount() + 1
    for name, values in {"query": texts, "unknown_words": unknown}.items():
        best[name] = [values[row] for row in best["query_row"]]
    return best[["query", "unknown_words", "rank", "product_id", "score", *PRODUCT_COLUMNS[1:]]].reset_index(drop=True)


def _best_of_block(
    ranker: "Ranker", arrays: Any, products: pa.Table, block: np.ndarray, queries: int, top: int
) -> pd.DataFrame:
    """Rank a block of a chunk's products for each query."""
    from multimodal_recall.data.pairs import Pairs

    pairs = Pairs(np.tile(np.arange(queries), len(block)), np.repeat(block, queries), np.zeros(len(block) * queries))
    with bar(type(ranker).__name__, len(pairs.query_rows), "pairs") as shown:
        scores = ranker.score(arrays, pairs, shown.advance).reshape(len(block), queries)  # each product is encoded once
    ids = products["product_id"].to_numpy()[block]
    order = np.stack([np.lexsort((ids, -scores[:, query]))[:top] for query in range(queries)])
    table = products.take(block[order.ravel()]).to_pandas()
    query_rows = np.repeat(np.arange(queries), order.shape[1])
    return table.assign(query_row=query_rows, score=scores[order.ravel(), query_rows])


def _best_of(first: pd.DataFrame, second: pd.DataFrame, top: int) -> pd.DataFrame:
    """Keep the best rows of both tables, each product of a query once."""
    both = pd.concat([first, second]).sort_values(["query_row", "score", "product_id"], ascending=[True, False, True])
    return both.drop_duplicates(["query_row", "product_id"]).groupby("query_row").head(top)


def _check_present(catalog: CatalogProtocol, split: str, ranker: str) -> None:
    splits = [name for name in SPLITS if catalog.get(f"{name}_examples").exists()]
    if not splits:
        raise SearchError(
            "this environment's data has no products. Make them first: kedro run; or name another environment as --env"
        )
    if split not in splits:
        raise SearchError(
            f"there are no products of {split!r}; this environment's data has the splits {splits}. Name one of these "
            "with --split, or make the products first: kedro run"
        )
    if not catalog.get(f"{ranker}.model").exists():
        raise SearchError(
            f"there is no model of {ranker!r} in this environment's data. Name a trained ranker with --ranker, or "
            f"train {ranker} first: kedro run --params=rankers={ranker}"
        )


def _featurize(
    catalog: CatalogProtocol,
    queries: Sequence[str],
    ranker: str,
    trained_on: dict[str, dict[str, str]],
    hardware: Hardware,
) -> pa.Table:
    """Compute ``query_features`` of the cleaned queries, with a column ``unknown_words``."""
    records = _records_of_a_chunk(catalog, ranker, trained_on)
    cleaning = IngestOptions(**records["products"]["options"]["params:ingest"])
    texts = list(dict.fromkeys(_clean(query, cleaning) for query in queries))
    if not texts:
        raise SearchError("there is no query: name one or more")
    inputs = records["query_features"]["inputs"]
    options = QueryOptions(**records["query_features"]["options"]["params:featurize"])
    language_model: Path = catalog.load("language_model", version=inputs["language_model"])
    word_vectors: ds.Dataset = catalog.load("word_vectors", version=inputs["word_vectors"])
    pairs = pa.table({"query": texts, "query_row": pa.array(range(len(texts)), pa.int32())})
    with bar("featurize", len(texts), "queries") as shown:
        features = featurize_queries(ds.dataset(pairs), language_model, word_vectors, options, hardware, shown.advance)
    known = set(word_vectors.to_table(columns=["word"])["word"].to_pylist())
    unknown = [[word for word in words_of(text) if word not in known] for text in texts]
    return features.append_column("unknown_words", pa.array(unknown, pa.list_(pa.string())))


def _records_of_a_chunk(catalog: CatalogProtocol, ranker: str, trained_on: dict[str, dict[str, str]]) -> dict[str, Any]:
    """Give the records of the first training chunk's products and query features; all chunks are encoded alike."""
    first: dict[str, Any] = {}
    for chunk, versions in trained_on.items():
        records = {}
        for kind in ("products", "query_features"):
            name = f"train.{chunk}.{kind}"
            records[kind] = pinned(name, versions[kind], catalog).record()
            if records[kind] is None:
                raise SearchError(
                    f"the record of {name} {versions[kind]}, on which {ranker} was trained, is missing, so the query "
                    f"encoding is not known. Make chunk and model again: "
                    f"kedro run --from-nodes=train.{chunk}.ingest"
                )
        first = first or records
        if _encoding_of(records) != _encoding_of(first):
            raise SearchError(
                f"{ranker} was trained on queries of two encodings: {chunk} was made with other options, another "
                f"language model or other word vectors than {next(iter(trained_on))}. Make all chunks alike and train "
                "again: kedro run --pipelines=featurize,sample_negatives,train,evaluate"
            )
    return first


def _encoding_of(records: dict[str, Any]) -> tuple[Any, ...]:
    features = records["query_features"]
    language = {name: features["inputs"][name] for name in ("language_model", "word_vectors")}
    return records["products"]["options"]["params:ingest"], features["options"], language


def _clean(query: str, options: IngestOptions) -> str:
    try:
        text = decode_query(query.encode())
    except BadRow as error:
        raise SearchError(f"query {query!r}: {error}. Name the product in a word or more") from error
    return strip_leading_token(text) if options.strip_leading_tokens else text
