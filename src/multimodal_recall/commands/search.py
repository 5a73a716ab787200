"""Free-text queries against all products of the catalogue or of a split, ranked by a trained model."""

from collections import Counter
from collections.abc import Iterable, Sequence
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
from kedro.io import CatalogProtocol

from multimodal_recall.commands.find_products import ProductFilter, best_products, fresh_index, search_by_index
from multimodal_recall.config.layout import CATALOGUE, SPLITS, Layout, read_layout
from multimodal_recall.config.options import IngestOptions, QueryOptions
from multimodal_recall.data.official_format import BadRow, decode_query, whole_number
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.data.text import strip_leading_token, vocabulary_note, words_of
from multimodal_recall.evaluation.report.drawings import short_label
from multimodal_recall.models.query_features import featurize_queries
from multimodal_recall.runs.lineage import pinned
from multimodal_recall.runtime.device import Hardware, choose_hardware
from multimodal_recall.runtime.progress import bar


class SearchError(ValueError):
    """Query, split, ranker, label, product or the record of the training is missing."""


def search(
    catalog: CatalogProtocol,
    queries: Sequence[str],
    split: str | None = None,
    ranker: str | None = None,
    top: int = 10,
    labels: Sequence[str] = (),
    product_ids: Sequence[int] | None = None,
) -> pd.DataFrame:
    """Rank all products of the catalogue or of a split for each query, by the newest or the pinned model of a ranker.

    Queries are encoded like those that the model was trained on: with the cleaning, language model, word vectors and
    lengths that the records of its training chunks name. The ranker's index is used if this model made it of the
    present products; else every product is scored. ``attrs["source"]`` of the table says which.

    Args:
        catalog: The project's; ``catalog`` in a notebook.
        queries: Free texts; texts that are equal after cleaning are searched once.
        split: Split whose products are ranked, or ``catalogue``: all. By default the catalogue if it has a file of its
            own or the ranker an index, else the last split that this environment runs.
        ranker: Name of the ranker; by default the first of ``rankers``.
        top: Products a query.
        labels: Names of labels, whole or up to their bracket: only products with a box of one of them are ranked.
        product_ids: Only these products are ranked; ``None``: all.

    Returns:
        One row a query and product, best first: ``query`` after cleaning, ``unknown_words`` (words without a vector of
        their own), ``rank`` from 1, ``product_id``, ``score`` (comparable within a query only), ``title`` (missing
        where the product has none), ``labels`` (names, one a box), and the image's size and the boxes' sides in pixels,
        which ``evaluation.report.drawings`` reads.

    Raises:
        SearchError: If a query is empty, if split, ranker, a label or the record of the training do not exist, or if no
            product is left to rank.
        DatasetError: If a version that the model was trained with has been dropped.
    """
    layout = read_layout()
    ranker = ranker or next(iter(layout.rankers), "two_tower")
    split = split or _default_split(catalog, layout, ranker)
    _check_present(catalog, layout, split, ranker)
    saved = catalog.get(f"{ranker}.model")
    model = saved.load()
    hardware = choose_hardware(catalog.load("params:hardware"))
    hardware.set_threads()
    features = _featurize(catalog, queries, ranker, model.card["inputs"], hardware)
    module, chunks, names = (
        model.build().to(hardware.device),
        _chunks_of(catalog, layout, split),
        catalog.load("labels"),
    )
    wanted = ProductFilter(_numbers_of(labels, names), None if product_ids is None else np.array(product_ids, np.int64))
    index, how = fresh_index(catalog, ranker, model, chunks)
    best = best_products if index is None else partial(search_by_index, index)
    best = best(module, features, chunks, top, wanted)
    if best.empty:
        raise SearchError(f"no product of {split} has such a label or id. Name others, or another --split")
    best.attrs["source"] = (
        f"{_count(chunks):,} products of {split}, ranked by {ranker} of {saved.load_path().parent.name}: "
        f"{model.card['epoch'] + 1} epochs, nDCG@5 on valid {model.card['valid_ndcg_at_5']:.3f}; {how}"
    )
    return best.assign(labels=[[names[label] for label in of_product] for of_product in best["labels"]])


def read_ids(file: Iterable[str]) -> list[int]:
    """Read a product id a line, for ``product_ids`` of ``search``.

    Raises:
        SearchError: If a line is no whole number of 64 bits.
    """
    try:
        return [whole_number("an id", line.strip().encode()) for line in file if line.strip()]
    except BadRow as error:
        raise SearchError(f"the list of ids: {error}") from error


def _default_split(catalog: CatalogProtocol, layout: Layout, ranker: str) -> str:
    indexed = ranker in layout.indexed and catalog.get(f"{ranker}.index").exists()
    return CATALOGUE if indexed or layout.catalogue else next(reversed(layout.chunks))


def _chunks_of(catalog: CatalogProtocol, layout: Layout, split: str) -> dict[str, ChunkTables]:
    """Open the products of a split or of the catalogue by the namespace of their chunk."""
    if split == CATALOGUE:
        names = [chunk.namespace for chunk in layout.catalogue_chunks]
        return {name: {"products": catalog.load(f"{name}.products")} for name in names}
    examples = catalog.load(f"{split}_examples")
    return {f"{split}.{chunk}": {"products": tables["products"]} for chunk, tables in examples.items()}


def _count(chunks: dict[str, ChunkTables]) -> int:
    """Count the distinct products."""
    ids = [tables["products"].to_table(columns=["product_id"])["product_id"].to_numpy() for tables in chunks.values()]
    return len(np.unique(np.concatenate(ids)))


def _numbers_of(labels: Sequence[str], names: list[str]) -> set[int]:
    """Look up labels by their names, or by what stands before a bracket or comma."""
    numbers = {}
    for label in labels:
        found = {number for number, name in enumerate(names) if label in (name, short_label(name))}
        if not found:
            near = get_close_matches(label, [*names, *map(short_label, names)], 1, 0.0)[0]
            raise SearchError(f"there is no label {label!r}. Did you mean {near!r}?")
        numbers |= dict.fromkeys(found)
    return {*numbers}


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


def _check_present(catalog: CatalogProtocol, layout: Layout, split: str, ranker: str) -> None:
    splits = [name for name in SPLITS if catalog.get(f"{name}_examples").exists()]
    if all(catalog.get(f"{chunk.namespace}.products").exists() for chunk in layout.catalogue_chunks):
        splits.append(CATALOGUE)
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
