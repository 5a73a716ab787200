"""Search the whole catalogue for each query of a split, in one stage or two, and measure what is found.

torch takes seconds to import: functions import what imports it, and what has its types has no type hint. ``model`` is a
``TrainedRanker``, ``index`` a ``ProductIndex``.
"""

import logging
import time
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.config.options import EvaluateOptions, HardwareOptions
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.data.schemas import TABLES, ChunkTables, from_pandas
from multimodal_recall.evaluation.blending import blend
from multimodal_recall.evaluation.metrics import IDS, MetricError, rank_candidates
from multimodal_recall.evaluation.rankings import RANDOM_ORDER, join_scores
from multimodal_recall.evaluation.recall import (
    DEEPEST,
    measure_retrieved,
    random_order,
    recall_of_all,
    summarise_recall,
)
from multimodal_recall.evaluation.scoring import build_for
from multimodal_recall.runtime.progress import bar, rate

logger = logging.getLogger(__name__)

LOGGED = {"recall@10": "R@10", "recall@100": "R@100", "recall@1000": "R@1000", "judged@10": "J@10"}


def retrieve(
    model: Any,
    index: Any,
    examples: dict[str, ChunkTables],
    answers: dict[int, list[int]],
    options: EvaluateOptions,
    hardware: HardwareOptions,
) -> pa.Table:
    """Find the best products of the catalogue for each query with answers: ``retrieved``.

    Raises:
        IndexMismatch: If another model made the index.
        MetricError: If no query of the split has an answer.
    """
    from multimodal_recall.data.examples import read_queries, read_split_queries
    from multimodal_recall.models.index import search_index

    index.check_model(model.folder.parent.name)
    query_ids, features = read_split_queries(examples, answers)
    if not len(query_ids):
        raise MetricError(
            f"none of the {len(answers):,} queries with answers is a query of the split: take the same split's answers"
        )
    ranker, start = build_for(model, examples, hardware), time.perf_counter()
    vectors = ranker.query_vectors(read_queries(ds.dataset(features), ranker.reading))
    top = max(DEEPEST, options.recall.candidates if options.recall else 0)
    chunks = [(chunk, None) for chunk in index.chunks.values()]
    with bar("search", sum(len(chunk.product_ids) for chunk, _ in chunks), "products") as shown:
        ids, scores = search_index(ranker, vectors, chunks, top, shown.advance)
    logger.info("%s: searched the catalogue for %d queries, %s", index.ranker, len(ids), rate(len(ids), start))
    count = ids.shape[1]
    ranks = np.tile(np.arange(1, count + 1, dtype=np.int32), len(ids))
    return pa.table([np.repeat(query_ids, count), ids.ravel(), ranks, scores.ravel()], TABLES["retrieved"])


def rescore(
    model: Any,
    retrieved: ds.Dataset,
    examples: dict[str, ChunkTables],
    answers: dict[int, list[int]],
    options: EvaluateOptions,
    hardware: HardwareOptions,
    *products: ds.Dataset,
) -> pa.Table:
    """Order the first stage's candidates by a second ranker: ``retrieved`` again, of ``recall.candidates`` a query.

    ``products`` are the chunks of the catalogue; the products that were found in one are in memory at a time. A product
    of several chunks has its best score.

    Raises:
        IndexMismatch: If a product that was found stands in none of the chunks.
    """
    from multimodal_recall.data.examples import read_chunk, read_split_queries
    from multimodal_recall.models.index import IndexMismatch

    ranker = build_for(model, examples, hardware)
    query_ids, features = read_split_queries(examples, answers)
    found = retrieved.to_table(filter=ds.field("rank") <= options.recall.candidates).to_pandas()
    queries, scores = pd.Index(query_ids).get_indexer(found["query_id"]), np.full(len(found), -np.inf, np.float32)
    seen, wanted = np.zeros(len(found), bool), pa.array(found["product_id"].unique())
    for table in products:
        needed = table.to_table(filter=ds.field("product_id").isin(wanted))
        rows = pd.Index(needed["product_id"].to_numpy()).get_indexer(found["product_id"])
        here = np.flatnonzero(rows >= 0)
        if len(here):
            arrays = read_chunk(
                {"products": ds.dataset(needed), "query_features": ds.dataset(features)}, ranker.reading
            )
            pairs = Pairs(queries[here], rows[here], np.zeros(len(here), np.int8))
            with bar(type(ranker).__name__, len(here), "pairs") as shown:
                scores[here] = np.maximum(scores[here], ranker.score(arrays, pairs, shown.advance))  # NaN stays
            seen[here] = True
    if not seen.all():
        raise IndexMismatch(
            f"{(~seen).sum()} products that the first stage has found stand in no chunk of the catalogue. "
            "Make the index anew: kedro run --pipelines=index,recall"
        )
    return from_pandas(TABLES["retrieved"], rank_candidates(found[IDS].assign(score=scores)))


def blend_rescored(*rescored: ds.Dataset, rankers: tuple[str, ...]) -> pa.Table:
    """Order the first stage's candidates by the sum of several rankers' z-scores within the query: ``retrieved``."""
    named = zip(rankers, rescored, strict=True)
    tables = {name: table.to_table(columns=[*IDS, "score"]).to_pandas() for name, table in named}
    scores = join_scores({name: table.rename(columns={"score": name}) for name, table in tables.items()})
    blended = blend(scores, list(rankers), "z_score")
    return from_pandas(TABLES["retrieved"], rank_candidates(blended.astype({"score": np.float32})))


def measure_recall(
    options: EvaluateOptions,
    seed: int,
    index: Any,
    judged: dict[str, ChunkTables] | ds.Dataset,
    answers: dict[int, list[int]],
    *retrieved: ds.Dataset,
    rankings: tuple[str, ...],
) -> pa.Table:
    """Measure each ranking of the catalogue, and random order: ``recall_metrics``.

    ``judged`` are the split's candidates, or its judgements where qrels stand in for the answers.

    The last of the ``rankings`` is that of the second stage if ``options.recall`` is set, the first stage before it.
    """
    found = {name: table.to_table().to_pandas() for name, table in zip(rankings, retrieved, strict=True)}
    chance = random_order(np.fromiter(answers, np.int64), index.product_ids(), np.random.default_rng(seed))
    tables = [chunk["pairs"] for chunk in judged.values()] if isinstance(judged, dict) else [judged]
    products = pd.concat([table.to_table(columns=IDS).to_pandas() for table in tables])
    measured = []
    for name, table in {RANDOM_ORDER: chance, **found}.items():
        part = measure_retrieved(table, answers, products).assign(ranking=name, ceiling=np.nan)
        if options.recall is not None and name == rankings[-1]:
            part["ceiling"] = recall_of_all(table, answers)
        measured.append(part)
    return from_pandas(TABLES["recall_metrics"], pd.concat(measured, ignore_index=True))


def compare_recall(
    options: EvaluateOptions, seed: int, index: Any, *metrics: ds.Dataset, splits: tuple[str, ...]
) -> pd.DataFrame:
    """Put the means of all rankings of the catalogue into a table, a row a split, ranking and measure, and log them."""
    parts, products = [], len(index.product_ids())
    for split, table in zip(splits, metrics, strict=True):
        part = summarise_recall(table.to_table().to_pandas(), products, options, seed)
        shown = part.pivot(index="ranking", columns="measure", values="value")
        shown = shown.loc[part["ranking"].unique(), list(LOGGED)].rename(columns=LOGGED).round(3)
        text = shown.reset_index().to_string(index=False)
        logger.info("recall of %s in %s products:\n%s", split, f"{products:,}", text)
        part.insert(0, "split", split)
        parts.append(part)
    return pd.concat(parts, ignore_index=True).round(6)


def report_recall(options: EvaluateOptions, recall: pd.DataFrame, speed: pd.DataFrame) -> str:
    """Render the rankings of the last split with answers as an HTML page; see ``report.recall_page``."""
    from multimodal_recall.evaluation.report.recall_page import render_recall

    return render_recall(recall[recall["split"] == recall["split"].iloc[-1]], speed, options.confidence)
