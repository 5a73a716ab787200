"""Draw wrong products for each pair of a chunk; list the chunk versions that a split's examples are made of."""

import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import NegativeKind, NegativeOptions
from multimodal_recall.data.origins import origin_of, stamp_origin
from multimodal_recall.data.pairs import RightAnswers
from multimodal_recall.data.schemas import TABLES, distinct_queries
from multimodal_recall.data.text import last_word_groups
from multimodal_recall.negatives.drawing import (
    Anywhere,
    LabelSharing,
    SameGroup,
    SimilarQueries,
    clusters,
    draw_others,
    ignored_rows,
)
from multimodal_recall.runtime.progress import rate, track

logger = logging.getLogger(__name__)


class ExamplesError(Exception):
    """Tables that do not belong together were about to be listed as one training or candidate set."""


def sample_chunk(
    products: ds.Dataset,
    pairs: ds.Dataset,
    query_features: ds.Dataset,
    labels: list[str],
    options: NegativeOptions,
    seed: int,
    chunk: Chunk,
) -> pa.Table:
    """Draw, for every epoch, wrong products of every kind for each pair of a chunk.

    Args:
        products: The chunk's products.
        pairs: The chunk's pairs.
        query_features: Of the chunk's queries.
        labels: The label names.
        options: Which kinds, how many, how often, and which labels do not count as shared.
        seed: Seed of the run.
        chunk: The chunk. Its namespace, ``seed``, the kind and the epoch make the random stream, so that a draw depends
            neither on the order in which chunks run nor on the other kinds.

    Returns:
        ``samples``: for each epoch, kind and pair the right product and ``negatives_per_positive`` wrong ones.

    Raises:
        NegativeError: If an ignored label is no label, or a query has every product of the chunk as a right answer.
    """
    table = pairs.to_table(columns=["query", "query_row", "product_row"])
    query_rows, product_rows = (table[name].to_numpy() for name in ("query_row", "product_row"))
    right = RightAnswers(query_rows, product_rows, products.count_rows())
    queries, chosen = distinct_queries(table), (query_rows, product_rows)
    drawers: dict[NegativeKind, Callable[[], Any]] = {
        "random": Anywhere,
        "label_sharing": lambda: _label_sharing(products, labels, options),
        "similar_query": lambda: SimilarQueries(queries, *chosen, options.similar_queries),
        "same_last_word": lambda: SameGroup(last_word_groups(queries), *chosen),
        "same_cluster": lambda: SameGroup(_clusters(query_features, options, seed), *chosen),
    }
    k, parts, replaced, start = options.negatives_per_positive, [], Counter[str](), time.perf_counter()
    wanted = np.repeat(query_rows, k), np.repeat(product_rows, k)
    draws = list(itertools.product(options.kinds, range(options.epochs)))
    for kind, epoch in track(draws, f"sample_negatives {chunk.title}", "draws"):
        if epoch == 0:
            drawer = drawers[kind]()
        random = np.random.default_rng([seed, epoch, *f"{chunk.namespace} {kind}".encode()])
        wrong = drawer.draw(*wanted, right, random)
        missing = np.flatnonzero(wrong < 0)
        wrong[missing] = draw_others(wanted[0][missing], right, random)
        replaced[kind] += len(missing)
        lists = pa.ListArray.from_arrays(np.arange(0, len(wrong) + 1, k, np.int32), wrong.astype(np.int32))
        columns = [np.full(len(query_rows), epoch), [kind] * len(query_rows), *chosen, lists]
        parts.append(pa.table(columns, TABLES["samples"].names).cast(TABLES["samples"]))
    _report(chunk.title, options.epochs * len(wanted[0]), replaced, start)
    return stamp_origin(pa.concat_tables(parts), origin_of(pairs))


def _report(title: str, drawn: int, replaced: Counter[str], start: float) -> None:
    """Log how many negatives of each kind were drawn, and for how many of them there was none of the kind."""
    for_want = "".join(
        f"; {count:,} {kind} are random, for want of one ({count / drawn:.0%})" for kind, count in (+replaced).items()
    )
    speed = rate(drawn * len(replaced), start)
    logger.info("sample_negatives %s: %s of each kind, %s%s", title, f"{drawn:,}", speed, for_want)


def _label_sharing(products: ds.Dataset, labels: list[str], options: NegativeOptions) -> LabelSharing:
    ignored = ignored_rows(labels, options.ignored_labels)
    return LabelSharing(products.to_table(columns=["labels"])["labels"].combine_chunks(), len(labels), ignored)


def _clusters(query_features: ds.Dataset, options: NegativeOptions, seed: int) -> np.ndarray:
    vectors = query_features.to_table(columns=["vector"])["vector"].combine_chunks()
    return clusters(vectors.flatten().to_numpy().reshape(len(vectors), -1), options.queries_per_cluster, seed)


def list_examples(
    rejected: ds.Dataset, *tables: ds.Dataset, chunks: Sequence[Chunk], kinds: Sequence[str]
) -> dict[str, dict[str, ds.Dataset]]:
    """Group a split's lazy tables by chunk; saving the result records their versions.

    Args:
        rejected: Rows of the split's file that were left out; their number is logged.
        tables: Of each chunk in turn, of each kind in turn.
        chunks: The split's chunks.
        kinds: The kinds of table.

    Raises:
        ExamplesError: If a chunk's tables were not made from the same pairs, the chunks not from the same cut of the
            same file, or a candidate stands in two chunks.
    """
    by_chunk = zip(*[iter(tables)] * len(kinds), strict=True)
    listed = {
        chunk.name: dict(zip(kinds, of_chunk, strict=True)) for chunk, of_chunk in zip(chunks, by_chunk, strict=True)
    }
    check_origins(chunks, listed)
    if chunks[0].split != "train":
        check_lists(chunks, [listed[chunk.name]["pairs"] for chunk in chunks])
    logger.info("%s: %d rows of its file were left out", chunks[0].split, rejected.count_rows())
    return listed


def check_origins(chunks: Sequence[Chunk], listed: dict[str, dict[str, ds.Dataset]]) -> None:
    """Refuse tables whose row numbers do not belong together; see ``list_examples``."""
    problems, cuts = [], {}
    for chunk in chunks:
        origins = {kind: origin_of(table) for kind, table in listed[chunk.name].items()}
        first = origins[next(iter(origins))]
        others = [kind for kind, origin in origins.items() if origin[b"pairs"] != first[b"pairs"]]
        if others:
            problems.append(
                f"{', '.join(others)} of {chunk.namespace} are not of the same pairs as its {next(iter(origins))}. "
                f"Make them again: kedro run --namespaces={chunk.namespace}"
            )
        cuts.setdefault(first[b"cut"].decode(), []).append(chunk.namespace)
    if len(cuts) > 1:
        found = "; ".join(f"{', '.join(names)}: {cut}" for cut, names in cuts.items())
        problems.append(f"the chunks are of different cuts ({found}). Cut the file anew: kedro run --pipelines=ingest")
    elif cuts and not next(iter(cuts)).startswith(f"{len(chunks)} "):
        problems.append(
            f"the file was cut into {next(iter(cuts))}, chunks.{chunks[0].split} is {len(chunks)}. Cut it anew: "
            "kedro run --pipelines=ingest"
        )
    if problems:
        raise ExamplesError("\n".join(problems))


def check_lists(chunks: Sequence[Chunk], pairs: list[ds.Dataset]) -> None:
    """Refuse a candidate that stands in two chunks, where ingest, which sees one at a time, cannot see it."""
    ids = ["query_id", "product_id"]
    tables = (table.to_table(columns=ids).to_pandas() for table in pairs)
    candidates = pd.concat(tables, keys=[chunk.namespace for chunk in chunks])
    twice = candidates[candidates.duplicated(ids)]
    if len(twice):
        query, product = twice.iloc[0]
        places = candidates.index[(candidates == [query, product]).all(axis=1)].get_level_values(0)
        raise ExamplesError(
            f"{len(twice)} candidates of {chunks[0].split} stand in two chunks, first query {query}, product {product} "
            f"in {' and '.join(places)}. Keep one row of each in the file (kedro check names them) and cut it anew: "
            "kedro run --pipelines=ingest"
        )
