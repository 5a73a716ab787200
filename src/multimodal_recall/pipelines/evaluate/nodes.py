"""Score the candidates of a split with a ranker, write its submission, and judge the negatives that it learnt from.

torch takes seconds to import: functions import what imports it, and ``model``, a ``TrainedRanker``, has no type hint.
"""

import logging
import time
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from multimodal_recall.config.describing import DescribeOptions
from multimodal_recall.config.options import HardwareOptions, RerankOptions
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.data.schemas import TABLES, ChunkTables
from multimodal_recall.evaluation import submission
from multimodal_recall.evaluation.metrics import IDS, rank_candidates
from multimodal_recall.evaluation.negatives import draws_of, false_share, hardness
from multimodal_recall.evaluation.rankings import RESCORED
from multimodal_recall.evaluation.scoring import build_for, score_examples
from multimodal_recall.runtime.device import use_hardware
from multimodal_recall.runtime.progress import bar, rate

if TYPE_CHECKING:
    from multimodal_recall.models.ranker import Ranker

logger = logging.getLogger(__name__)

JUDGED_PAIRS = 500
LISTED_PRODUCTS = 10
"""Best products of a query that are listed for people."""


def score_candidates(
    model: Any, examples: dict[str, ChunkTables], options: RerankOptions, hardware: HardwareOptions
) -> pa.Table:
    """Score every candidate of a split chunk by chunk, then again in the light of the other candidates of its query.

    With both options off, one chunk is in memory at a time, else the whole split. With ``smooth_boxes``, so are copies
    of the boxes of some 4,096 candidates, or of the longest list if it is longer.

    Returns:
        ``scores``: one row a candidate, in file order, higher is better.
    """
    ranker, start = build_for(model, examples, hardware), time.perf_counter()
    scores = score_examples(ranker, examples)
    logger.info("%s: %s candidates, %s", model.options.model.kind, f"{len(scores):,}", rate(len(scores), start))
    rescored = _rescore(ranker, examples, scores, options)
    empty = pa.nulls(len(scores), pa.float32())
    for name in RESCORED:
        scores = scores.append_column(name, pa.array(rescored[name]) if name in rescored else empty)
    return scores.cast(TABLES["scores"])


def rank_zero_shot(
    examples: dict[str, ChunkTables], describing: DescribeOptions, hardware: HardwareOptions
) -> pa.Table:
    """Rank the candidates of a split by the embedder's two towers: ``zero_shot_scores``; see ``score_zero_shot``.

    An embedder without a text tower gives no row.
    """
    from multimodal_recall.models.vision.describe import load_embedder
    from multimodal_recall.models.vision.zero_shot import score_zero_shot

    embedder = load_embedder(describing, use_hardware(hardware))
    if embedder is None or not embedder.reads_text:
        return TABLES["zero_shot_scores"].empty_table()
    return score_zero_shot(examples.values(), embedder, describing.batch_size)


def _rescore(
    ranker: "Ranker", examples: dict[str, ChunkTables], scores: pa.Table, options: RerankOptions
) -> dict[str, np.ndarray]:
    """Compute the columns ``smoothed`` and ``reranked``, as far as the options and the ranker allow."""
    from multimodal_recall.data.examples import read_split
    from multimodal_recall.evaluation.reranking import candidate_lists, rerank, score_smoothed
    from multimodal_recall.models.indexable import TowerRanker

    reranks = options.k_reciprocal and isinstance(ranker, TowerRanker)
    if not (options.smooth_boxes or reranks):
        return {}
    arrays, pairs = read_split(examples, ranker.reading)
    lists, rescored = candidate_lists(*(scores[name].to_numpy() for name in IDS)), {}
    if reranks:
        with bar(type(ranker).__name__, len(scores), "pairs") as shown:
            vectors = ranker.product_vectors(arrays, pairs, shown.advance)
        rescored["reranked"] = rerank(scores["score"].to_numpy(), vectors, lists)
    if options.smooth_boxes:
        rescored["smoothed"] = score_smoothed(ranker, arrays, pairs, lists)
    return rescored


def encode_candidates(model: Any, examples: dict[str, ChunkTables], hardware: HardwareOptions) -> pa.Table:
    """Compute the pair vector of each candidate, from which the ranker's last layer scores it, chunk by chunk.

    The order of ``vectors`` is that of ``score_candidates``.
    """
    from multimodal_recall.data.examples import read_candidates, read_chunk

    ranker, encoded = build_for(model, examples, hardware), []
    for tables in examples.values():
        candidates, pairs = read_candidates(tables)
        with bar(type(ranker).__name__, len(candidates), "pairs") as shown:
            vectors = ranker.vectors(read_chunk(tables, ranker.reading), pairs, shown.advance)
        ends = np.arange(len(vectors) + 1, dtype=np.int32) * vectors.shape[1]
        column = pa.ListArray.from_arrays(ends, pa.array(vectors.ravel()))
        encoded.append(candidates.select(IDS).append_column("vector", column))
    return pa.concat_tables(encoded).cast(TABLES["vectors"])


def list_best(scores: ds.Dataset, examples: dict[str, ChunkTables]) -> pd.DataFrame:
    """List the best products of each query as people know them, in place of a submission, which has numbers alone.

    Returns:
        ``query``, ``rank``, ``sku``, ``title``, ``score``, ``query_id``, ``product_id``.
    """
    ranked = rank_candidates(scores.to_table(columns=[*IDS, "score"]).to_pandas())
    best = ranked[ranked["rank"] <= LISTED_PRODUCTS]
    for kind, key, columns in (("pairs", "query_id", ["query"]), ("products", "product_id", ["sku", "title"])):
        tables = [tables[kind].to_table(columns=[key, *columns]).to_pandas() for tables in examples.values()]
        best = best.merge(pd.concat(tables).drop_duplicates(key), on=key, how="left")
    return best[["query", "rank", "sku", "title", "score", *IDS]].sort_values(["query_id", "rank"], ignore_index=True)


def make_submission(scores: ds.Dataset) -> pd.DataFrame:
    """Give each query its five best products, in the official form; see ``submission.make_submission``."""
    return submission.make_submission(scores.to_table().to_pandas())


def judge_negatives(
    model: Any, train_examples: dict[str, ChunkTables], hardware: HardwareOptions, seed: int
) -> pd.DataFrame:
    """Measure the share of false negatives of each kind, and the kind's hardness for a trained ranker.

    All draws of the first training chunk are judged false or not; 500 of its pairs are scored with all their draws. The
    ranker was trained on these pairs, so that its hardness compares kinds of negatives and does not measure the ranker.

    Returns:
        One row a kind: ``kind``, ``negatives`` (drawn), ``false_share``, ``candidates`` (the right product and its
        draws), ``beaten`` and ``ndcg_at_5``; see ``hardness``.
    """
    from multimodal_recall.data.examples import read_chunk

    ranker, tables = build_for(model, train_examples, hardware), next(iter(train_examples.values()))
    arrays, judged = read_chunk(tables, ranker.reading), []
    for kind in pc.unique(tables["samples"].to_table(columns=["kind"])["kind"]).to_pylist():
        query_rows, products = draws_of(tables["samples"], kind)
        rows = np.random.default_rng(seed).permutation(len(query_rows))[:JUDGED_PAIRS]
        drawn = products[rows]
        pairs = Pairs(np.repeat(query_rows[rows], drawn.shape[1]), drawn.ravel(), np.zeros(drawn.size, np.int8))
        with bar(type(ranker).__name__, drawn.size, "pairs") as shown:
            scores = ranker.score(arrays, pairs, shown.advance).reshape(drawn.shape)
        shares = false_share(tables, query_rows, products)
        judged.append({"kind": kind, **shares, "candidates": drawn.shape[1], **hardness(scores)})
    return pd.DataFrame(judged).round(6)
