"""Score the candidates of a split, measure the ranking, write the submission, compare."""

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall import ranking
from multimodal_recall.datasets.chunk_list import ChunkTables
from multimodal_recall.metrics import MEASURES, bootstrap_interval, measure_queries
from multimodal_recall.options import EvaluateOptions
from multimodal_recall.tables import TABLES

if TYPE_CHECKING:  # torch takes seconds to import
    from multimodal_recall.models.ranker import Ranker

logger = logging.getLogger(__name__)

REFERENCES = {"random": "random order", "noun_alone": "noun alone", "truth": "generator's truth"}


def score_candidates(model: Any, examples: dict[str, ChunkTables]) -> pa.Table:
    """Score every candidate of a split, chunk by chunk.

    Args:
        model: A ``TrainedRanker``.
        examples: Lazy tables of each chunk.

    Returns:
        ``scores``: one row a candidate, in file order, higher is better.
    """
    from multimodal_recall.models.hardware import best_device

    return score_examples(model.build().to(best_device()), examples)


def score_examples(ranker: "Ranker", examples: dict[str, ChunkTables]) -> pa.Table:
    """Score with a module that is built already; see ``score_candidates``."""
    from multimodal_recall.examples import read_candidates, read_chunk

    scored = []
    for tables in examples.values():
        candidates, pairs = read_candidates(tables)
        scores = ranker.score(read_chunk(tables), pairs)
        scored.append(candidates.select(["query_id", "product_id"]).append_column("score", pa.array(scores)))
    return pa.concat_tables(scored).cast(TABLES["scores"])


def measure_scores(
    scores: ds.Dataset,
    examples: dict[str, ChunkTables],
    answers: dict[int, list[int]],
    options: EvaluateOptions,
    seed: int,
) -> dict[str, Any]:
    """Measure a ranking by the answers.

    Args:
        scores: One row a candidate.
        examples: The split's chunks, for the text of the queries.
        answers: Right products of each query.
        options: How the intervals are drawn.
        seed: Seed of the intervals.

    Returns:
        ``metrics``: each measure's mean and interval over the queries; ``query_metrics``: one row a query.
    """
    queries = measure_queries(scores.to_table().to_pandas(), answers)
    pairs = pa.concat_tables(t["pairs"].to_table(columns=["query_id", "query"]) for t in examples.values())
    texts = pairs.to_pandas().drop_duplicates("query_id")
    table = queries.merge(texts, how="left", on="query_id")[TABLES["query_metrics"].names]
    return {
        "metrics": summarise(queries, options, seed),
        "query_metrics": pa.Table.from_pandas(table, TABLES["query_metrics"], preserve_index=False),
    }


def summarise(queries: pd.DataFrame, options: EvaluateOptions, seed: int) -> dict[str, Any]:
    """Mean, interval and number of queries of each measure."""
    summary: dict[str, Any] = {"queries": len(queries)}
    for measure in MEASURES:
        values = queries[measure].to_numpy()
        random = np.random.default_rng([seed, *measure.encode()])
        low, high = bootstrap_interval(values, options.bootstrap_draws, options.confidence, random)
        summary[measure] = {"mean": float(values.mean()), "low": low, "high": high}
    return summary


def measure_references(
    scores: ds.Dataset, answers: dict[int, list[int]], options: EvaluateOptions, seed: int
) -> dict[str, Any]:
    """Measure the rankings that the made-up shop knows: by chance, by the product noun alone, by its own truth."""
    table = scores.to_table().to_pandas()
    return {
        name: summarise(measure_queries(table.rename(columns={column: "score"}), answers), options, seed)
        for column, name in REFERENCES.items()
    }


def make_submission(scores: ds.Dataset) -> pd.DataFrame:
    """Give each query its five best products, in the official form; see ``ranking.make_submission``."""
    return ranking.make_submission(scores.to_table().to_pandas())


def compare_rankings_of(split: str) -> Callable[..., pd.DataFrame]:
    """Bind the comparison to its split, which the log names."""

    def compare_rankings(
        references: dict[str, dict[str, Any]] | None = None, **metrics: dict[str, Any]
    ) -> pd.DataFrame:
        """Put the metrics of all rankings of a split into a table, worst first, and log it.

        Args:
            references: Metrics of the reference rankings by name; only the made-up shop has them.
            metrics: Metrics of each ranker.
        """
        rows = [
            {
                "ranking": name,
                "nDCG@5": found["ndcg_at_5"]["mean"],
                "low": found["ndcg_at_5"]["low"],
                "high": found["ndcg_at_5"]["high"],
                "MRR": found["reciprocal_rank"]["mean"],
                "recall@5": found["recall_at_5"]["mean"],
                "queries": found["queries"],
            }
            for name, found in ((references or {}) | metrics).items()
        ]
        table = pd.DataFrame(rows).sort_values("nDCG@5", ignore_index=True).round(4)
        logger.info("rankings of %s:\n%s", split, table.to_string(index=False))
        return table

    return compare_rankings
