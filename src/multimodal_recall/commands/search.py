"""Free-text queries against all products of a split, ranked by a trained model."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from kedro.io import CatalogProtocol, Version

from multimodal_recall.config.layout import SPLITS, read_layout
from multimodal_recall.config.options import IngestOptions, QueryOptions
from multimodal_recall.data.official_format import BadRow, decode_query
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.data.text import strip_leading_token, words_of
from multimodal_recall.models.query_features import featurize_queries
from multimodal_recall.runtime.device import Hardware, choose_hardware
from multimodal_recall.runtime.progress import bar

if TYPE_CHECKING:  # torch takes seconds to import
    from multimodal_recall.models.ranker import Ranker


PAIRS_AT_ONCE = 1 << 20
"""Scores in memory, whatever the number of queries."""
PRODUCT_COLUMNS = ["product_id", "image_h", "image_w", "top", "left", "bottom", "right", "labels"]


class SearchError(ValueError):
    """There is nothing to search with, in or for."""


def search(
    catalog: CatalogProtocol,
    queries: Sequence[str],
    split: str | None = None,
    ranker: str | None = None,
    top: int = 10,
) -> pd.DataFrame:
    """Rank all products of a split for each query, by the newest model of a ranker.

    A query goes the way of the queries that the model was trained on: the same cleaning, language model, word vectors
    and lengths, in the versions of then, which the records of its training chunks name.

    Args:
        catalog: The project's; ``catalog`` in a notebook.
        queries: Free texts. Those that cleaning makes the same are one.
        split: Whose products; by default the last that this environment runs.
        ranker: Its name; by default the first of ``rankers``.
        top: Products a query.

    Returns:
        One row a query and product, best first: ``query`` as it is read, ``unknown_words`` (those without a word vector
        of their own), ``rank`` from 1, ``product_id``, ``score`` (to be compared within a query), ``labels`` (names,
        one a box), and the image's size and the boxes' sides in pixels, which ``evaluation.report.drawings`` reads.

    Raises:
        SearchError: If a query is empty, or split, ranker or the record of the training are not there.
        DatasetError: If a version that the model was trained with is gone.
    """
    layout = read_layout()
    split, ranker = split or next(reversed(layout.chunks)), ranker or next(iter(layout.rankers), "two_tower")
    _check_present(catalog, split, ranker)
    model = catalog.load(f"{ranker}.model")
    hardware = choose_hardware(catalog.load("params:hardware"))
    hardware.set_threads()
    features = _featurize(catalog, queries, ranker, model.card["inputs"], hardware)
    module = model.build().to(hardware.device)
    found = best_products(module, features, catalog.load(f"{split}_examples"), top)
    names = catalog.load("labels")
    return found.assign(labels=[[names[label] for label in labels] for labels in found["labels"]])


def best_products(
    ranker: "Ranker", query_features: pa.Table, examples: dict[str, ChunkTables], top: int
) -> pd.DataFrame:
    """Find the best products of a split for each query, with one chunk in memory at a time.

    Args:
        ranker: A trained module.
        query_features: Of the queries, with their ``unknown_words``.
        examples: The split's chunks; of each, ``products`` is read.
        top: Products a query; one that stands in several chunks comes once, with its best score.

    Returns:
        As ``search``, ``labels`` as numbers. Of equal scores the lower product id comes first.
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
            del arrays  # else this chunk stays while the next is read
    best["rank"] = best.groupby("query_row").cumcount() + 1
    for name, values in {"query": texts, "unknown_words": unknown}.items():
        best[name] = [values[row] for row in best["query_row"]]
    return best[["query", "unknown_words", "rank", "product_id", "score", *PRODUCT_COLUMNS[1:]]].reset_index(drop=True)


def _best_of_block(
    ranker: "Ranker", arrays: Any, products: pa.Table, block: np.ndarray, queries: int, top: int
) -> pd.DataFrame:
    """The best of some products of a chunk, by the number of the query."""
    from multimodal_recall.data.pairs import Pairs

    pairs = Pairs(np.tile(np.arange(queries), len(block)), np.repeat(block, queries), np.zeros(len(block) * queries))
    with bar(type(ranker).__name__, len(pairs.query_rows), "pairs") as shown:
        scores = ranker.score(arrays, pairs, shown.advance).reshape(len(block), queries)  # each product is encoded once
    ids = products["product_id"].to_numpy()[block]
    order = np.stack([np.lexsort((ids, -scores[:, query]))[:top] for query in range(queries)])
    table = products.take(block[order.ravel()]).to_pandas()
    own = np.repeat(np.arange(queries), order.shape[1])
    return table.assign(query_row=own, score=scores[order.ravel(), own])


def _best_of(one: pd.DataFrame, other: pd.DataFrame, top: int) -> pd.DataFrame:
    """The best rows of both tables, each product of a query once."""
    both = pd.concat([one, other]).sort_values(["query_row", "score", "product_id"], ascending=[True, False, True])
    return both.drop_duplicates(["query_row", "product_id"]).groupby("query_row").head(top)


def _check_present(catalog: CatalogProtocol, split: str, ranker: str) -> None:
    """Refuse a split or a ranker that no run has made."""
    there = [name for name in SPLITS if catalog.get(f"{name}_examples").exists()]
    if split not in there:
        raise SearchError(
            f"there are no products of {split!r}; this environment's data has the splits {there}. Name one of these "
            "with --split, or make it first: kedro run with the same --env"
        )
    if not catalog.get(f"{ranker}.model").exists():
        raise SearchError(
            f"there is no model of {ranker!r} in this environment's data. Name one that was trained with --ranker, or "
            f"train it first: kedro run --params=rankers={ranker} with the same --env"
        )


def _featurize(
    catalog: CatalogProtocol,
    queries: Sequence[str],
    ranker: str,
    trained_on: dict[str, dict[str, str]],
    hardware: Hardware,
) -> pa.Table:
    """``query_features`` of the cleaned queries, and a column ``unknown_words``.

    Args:
        catalog: The project's.
        queries: Free texts.
        ranker: Its name.
        trained_on: The versions of the model's training chunks; all of them encoded alike.
        hardware: What the language model computes with.
    """
    made = _made_alike(catalog, ranker, trained_on)
    cleaning = IngestOptions(**made["products"]["options"]["params:ingest"])
    texts = list(dict.fromkeys(_clean(query, cleaning) for query in queries))
    if not texts:
        raise SearchError("there is no query: name one or more")
    inputs = made["query_features"]["inputs"]
    options = QueryOptions(**made["query_features"]["options"]["params:featurize"])
    language_model: Path = catalog.load("language_model", version=inputs["language_model"])
    word_vectors: ds.Dataset = catalog.load("word_vectors", version=inputs["word_vectors"])
    pairs = pa.table({"query": texts, "query_row": pa.array(range(len(texts)), pa.int32())})
    with bar("featurize", len(texts), "queries") as shown:
        features = featurize_queries(ds.dataset(pairs), language_model, word_vectors, options, hardware, shown.advance)
    known = set(word_vectors.to_table(columns=["word"])["word"].to_pylist())
    unknown = [[word for word in words_of(text) if word not in known] for text in texts]
    return features.append_column("unknown_words", pa.array(unknown, pa.list_(pa.string())))


def _made_alike(catalog: CatalogProtocol, ranker: str, trained_on: dict[str, dict[str, str]]) -> dict[str, Any]:
    """The records of the products and query features of one training chunk, which are made as all the others."""
    found = []
    for chunk, versions in trained_on.items():
        made = {}
        for kind in ("products", "query_features"):
            name = f"train.{chunk}.{kind}"
            made[kind] = catalog.get(name, version=Version(versions[kind], None)).record()
            if made[kind] is None:
                raise SearchError(
                    f"how {name} of {versions[kind]} was made, on which {ranker} was trained, is not recorded, so "
                    f"the encoding of its queries is not known. Make both again: "
                    f"kedro run --from-nodes=train.{chunk}.ingest with the same --env"
                )
        found.append(made)
        if _encoding_of(made) != _encoding_of(found[0]):
            raise SearchError(
                f"{ranker} was trained on queries of two encodings: {chunk} was made with other options, another "
                f"language model or other word vectors than {next(iter(trained_on))}. Make all chunks alike and train "
                "again: kedro run --pipelines=featurize,sample_negatives,train,evaluate with the same --env"
            )
    return found[0]


def _encoding_of(made: dict[str, Any]) -> tuple[Any, ...]:
    """What decides how a chunk's queries were encoded."""
    features = made["query_features"]
    language = {name: features["inputs"][name] for name in ("language_model", "word_vectors")}
    return made["products"]["options"]["params:ingest"], features["options"], language


def _clean(query: str, options: IngestOptions) -> str:
    """A query's text as ingest keeps it."""
    try:
        text = decode_query(query.encode())
    except BadRow as error:
        raise SearchError(f"query {query!r}: {error}. Name the product in a word or more") from error
    return strip_leading_token(text) if options.strip_leading_tokens else text
