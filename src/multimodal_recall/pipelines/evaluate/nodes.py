"""Score the candidates of a split with one ranker, write its submission, and judge the negatives it learnt from."""

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from multimodal_recall.config.options import HardwareOptions, RerankOptions
from multimodal_recall.data.origins import QueryEncoding
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.data.schemas import TABLES, ChunkTables
from multimodal_recall.evaluation import rankings, submission
from multimodal_recall.evaluation.negatives import draws_of, false_share, hardness
from multimodal_recall.evaluation.scoring import score_examples
from multimodal_recall.runtime.device import use_hardware
from multimodal_recall.runtime.progress import bar, rate

if TYPE_CHECKING:  # torch takes seconds to import
    from multimodal_recall.models.ranker import Ranker

logger = logging.getLogger(__name__)

JUDGED_PAIRS = 500


def score_candidates(
    model: Any, examples: dict[str, ChunkTables], options: RerankOptions, hardware: HardwareOptions
) -> pa.Table:
    """Score every candidate of a split: chunk by chunk, and again in the light of its query's other candidates.

    Args:
        model: A ``TrainedRanker``.
        examples: Lazy tables of each chunk.
        options: What is made of the scores inside the candidate lists; all of it off, one chunk is in memory at a time,
            else the split. With ``smooth_boxes``, so are copies of the boxes of some 4,096 candidates, or of the
            longest list where that is longer.
        hardware: What the ranker computes with.

    Returns:
        ``scores``: one row a candidate, in file order, higher is better.
    """

    QueryEncoding(**model.card["query_features"]).check(examples, "those that the ranker was trained on")
    ranker, start = model.build().to(use_hardware(hardware).device), time.perf_counter()
    scores = score_examples(ranker, examples)
    logger.info("%s: %s candidates, %s", model.options.model.kind, f"{len(scores):,}", rate(len(scores), start))
    rescored = _rescore(ranker, examples, scores, options)
    empty = pa.nulls(len(scores), pa.float32())
    for name in rankings.RESCORED:
        scores = scores.append_column(name, pa.array(rescored[name]) if name in rescored else empty)
    return scores.cast(TABLES["scores"])


def _rescore(
    ranker: "Ranker", examples: dict[str, ChunkTables], scores: pa.Table, options: RerankOptions
) -> dict[str, np.ndarray]:
    """The columns ``smoothed`` and ``reranked``, where they are wanted and the ranker can have them."""
    from multimodal_recall.data.examples import read_split
    from multimodal_recall.evaluation.reranking import candidate_lists, rerank, score_smoothed
    from multimodal_recall.models.ranker import TowerRanker

    reranks = options.k_reciprocal and isinstance(ranker, TowerRanker)
    if not (options.smooth_boxes or reranks):
        return {}
    arrays, pairs = read_split(examples, ranker.reading)
    lists, rescored = candidate_lists(*(scores[name].to_numpy() for name in rankings.IDS)), {}
    if reranks:
        with bar(type(ranker).__name__, len(scores), "pairs") as shown:
            vectors = ranker.product_vectors(arrays, pairs, shown.advance)
        rescored["reranked"] = rerank(scores["score"].to_numpy(), vectors, lists)
    if options.smooth_boxes:
        rescored["smoothed"] = score_smoothed(ranker, arrays, pairs, lists)
    return rescored


def encode_candidates(model: Any, examples: dict[str, ChunkTables], hardware: HardwareOptions) -> pa.Table:
    """Give each candidate of a split the vector by which the ranker scores it, chunk by chunk.

    Args:
        model: A ``TrainedRanker``.
        examples: Lazy tables of each chunk.
        hardware: What the ranker computes with.

    Returns:
        ``vectors``, in the order of ``score_candidates``.
    """
    from multimodal_recall.data.examples import read_candidates, read_chunk

    QueryEncoding(**model.card["query_features"]).check(examples, "those that the ranker was trained on")
    ranker = model.build().to(use_hardware(hardware).device)
    encoded = []
    for tables in examples.values():
        candidates, pairs = read_candidates(tables)
        with bar(type(ranker).__name__, len(candidates), "pairs") as shown:
            vectors = ranker.vectors(read_chunk(tables, ranker.reading), pairs, shown.advance)
        ends = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
        column = pa.ListArray.from_arrays(ends, pa.array(vectors.ravel()))
        encoded.append(candidates.select(rankings.IDS).append_column("vector", column))
    return pa.concat_tables(encoded).cast(TABLES["vectors"])


def make_submission(scores: ds.Dataset) -> pd.DataFrame:
    """Give each query its five best products, in the official form; see ``submission.make_submission``."""
    return submission.make_submission(scores.to_table().to_pandas())


def judge_negatives(
    model: Any, train_examples: dict[str, ChunkTables], hardware: HardwareOptions, seed: int
) -> pd.DataFrame:
    """Say of each kind of negatives how false it is, and how hard for a trained ranker.

    All draws of the first training chunk are judged false or not; 500 of its pairs are scored with all their draws. The
    ranker was trained on these pairs: hardness compares kinds of negatives, it is no measure of the ranker.

    Args:
        model: A ``TrainedRanker``.
        train_examples: The training chunks.
        hardware: What the ranker computes with.
        seed: Which pairs are scored.

    Returns:
        A row a kind: ``kind``, ``negatives`` (drawn), ``false_share``, ``candidates`` (the right one and its draws),
        ``beaten`` and ``ndcg_at_5``; see ``hardness``.
    """
    from multimodal_recall.data.examples import read_chunk

    QueryEncoding(**model.card["query_features"]).check(train_examples, "those that the ranker was trained on")
    tables, ranker = next(iter(train_examples.values())), model.build().to(use_hardware(hardware).device)
    arrays, judged = read_chunk(tables, ranker.reading), []
    for kind in pc.unique(tables["samples"].to_table(columns=["kind"])["kind"]).to_pylist():
        query_rows, products = draws_of(tables["samples"], kind)
        some = np.random.default_rng(seed).permutation(len(query_rows))[:JUDGED_PAIRS]
        shown = products[some]
        pairs = Pairs(np.repeat(query_rows[some], shown.shape[1]), shown.ravel(), np.zeros(shown.size, np.int8))
        with bar(type(ranker).__name__, shown.size, "pairs") as progress:
            scores = ranker.score(arrays, pairs, progress.advance).reshape(shown.shape)
        found = hardness(scores)
        facts = false_share(tables, query_rows, products)
        judged.append({"kind": kind, **facts, "candidates": shown.shape[1], **found})
    return pd.DataFrame(judged).round(6)
