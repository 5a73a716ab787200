"""Draw the wrong products of a training chunk for all epochs, of all kinds."""

from typing import Protocol

import numpy as np
import pyarrow as pa

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import NegativeKind, NegativeOptions
from multimodal_recall.data.pairs import RightAnswers
from multimodal_recall.data.schemas import TABLES, ChunkTables, distinct_queries
from multimodal_recall.data.text import last_word_groups
from multimodal_recall.negatives import drawing
from multimodal_recall.negatives.relative_margin import RelativeMargin
from multimodal_recall.runtime.progress import bar


class Drawer(Protocol):
    """Draws wrong products by one kind of rule."""

    def draw(
        self, query_rows: np.ndarray, product_rows: np.ndarray, right: RightAnswers, random: np.random.Generator
    ) -> np.ndarray:
        """Draw a wrong product for each pair; -1 where the rule finds no wrong product."""


def draw_samples(
    tables: ChunkTables, labels: list[str], options: NegativeOptions, seed: int, chunk: Chunk
) -> tuple[pa.Table, dict[NegativeKind, int]]:
    """Draw, for every epoch, wrong products of every kind for each pair of a chunk.

    The random stream of a draw is that of chunk, seed, kind and epoch, so that the draw depends neither on the order in
    which chunks run nor on other kinds and epochs. ``products``, ``pairs`` and ``query_features`` are read.

    Returns:
        ``samples``, and for each kind the number of negatives that are random because the rule found no wrong product.

    Raises:
        NegativeError: If an ignored label is no label, or all products of the chunk are right answers of a query.
    """
    pairs = tables["pairs"].to_table(columns=["query", "query_row", "product_row"])
    query_rows, product_rows = (pairs[name].to_numpy() for name in ("query_row", "product_row"))
    right, k = RightAnswers(query_rows, product_rows, tables["products"].count_rows()), options.negatives_per_positive
    wanted = np.repeat(query_rows, k), np.repeat(product_rows, k)
    samples, replaced = [], dict.fromkeys(options.kinds, 0)
    with bar(f"sample_negatives {chunk.title}", len(options.kinds) * options.epochs, "draws") as shown:
        for kind in options.kinds:
            drawer = _drawer(kind, tables, pairs, labels, options, seed)
            for epoch in range(options.epochs):
                random = np.random.default_rng([seed, epoch, *f"{chunk.namespace} {kind}".encode()])
                wrong = drawer.draw(*wanted, right, random)
                missing = np.flatnonzero(wrong < 0)
                wrong[missing] = drawing.draw_others(wanted[0][missing], right, random)
                replaced[kind] += len(missing)
                lists = pa.ListArray.from_arrays(np.arange(0, len(wrong) + 1, k, np.int32), wrong.astype(np.int32))
                columns = [np.full(len(pairs), epoch), [kind] * len(pairs), query_rows, product_rows, lists]
                samples.append(pa.table(columns, TABLES["samples"].names).cast(TABLES["samples"]))
                shown.advance()
    return pa.concat_tables(samples), replaced


def _drawer(
    kind: NegativeKind, tables: ChunkTables, pairs: pa.Table, labels: list[str], options: NegativeOptions, seed: int
) -> Drawer:
    rows = pairs["query_row"].to_numpy(), pairs["product_row"].to_numpy()
    if kind == "random":
        return drawing.Anywhere()
    if kind == "label_sharing":
        lists = tables["products"].to_table(columns=["labels"])[0].combine_chunks()
        return drawing.LabelSharing(lists, len(labels), drawing.ignored_rows(labels, options.ignored_labels))
    if kind == "similar_query":
        queries, margin = distinct_queries(pairs), None
        if options.relative_margin is not None:
            margin = RelativeMargin(queries, *rows, tables["products"].count_rows(), options.relative_margin)
        return drawing.SimilarQueries(queries, *rows, options.similar_queries, margin)
    if kind == "same_last_word":
        return drawing.SameGroup(last_word_groups(distinct_queries(pairs)), *rows)
    vectors = tables["query_features"].to_table(columns=["vector"])[0].combine_chunks()
    values = vectors.flatten().to_numpy().reshape(len(vectors), -1)
    return drawing.SameGroup(drawing.clusters(values, options.queries_per_cluster, seed), *rows)
