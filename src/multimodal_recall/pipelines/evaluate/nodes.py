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


def measure_scores(scores: ds.Dataset, examples: dict[str, ChunkTables], answers: dict[int, list[int]]) -> pa.Table:
    """Measure each query's ranking by the answers.

    Args:
        scores: One row a candidate.
        examples: The split's chunks, for the text of the queries.
        answers: Right products of each query.

    Returns:
        ``query_metrics``: one row a query of the answers.
    """
    queries = measure_queries(scores.to_table().to_pandas(), answers)
    pairs = pa.concat_tables(t["pairs"].to_table(columns=["query_id", "query"]) for t in examples.values())
    texts = pairs.to_pandas().drop_duplicates("query_id")
    table = queries.merge(texts, how="left", on="query_id")[TABLES["query_metrics"].names]
    # Without pandas' own metadata, which names a type of `top_5` that pandas then fails to read.
    return pa.Table.from_pandas(table, TABLES["query_metrics"], preserve_index=False).replace_schema_metadata()


def summarise_metrics(query_metrics: ds.Dataset, options: EvaluateOptions, seed: int) -> dict[str, Any]:
    """Give each measure's mean over the queries and its bootstrap interval; see ``summarise``."""
    return summarise(query_metrics.to_table().to_pandas(), options, seed)


def summarise(queries: pd.DataFrame, options: EvaluateOptions, seed: int) -> dict[str, Any]:
    """Mean, interval and number of queries of each measure."""
    summary: dict[str, Any] = {"queries": len(queries)}
    for measure in MEASURES:
        values = queries[measure].to_numpy()
        random = np.random.default_rng([seed, *measure.encode()])
        low, high = bootstrap_interval(values, options.bootstrap_draws, options.confidence, random)
        summary[measure] = {"mean": float(values.mean()), "low": low, "high": high}
    return summary


def measure_references_of(splits: tuple[str, ...]) -> Callable[..., dict[str, Any]]:
    """Bind the reference rankings to the splits of the node's inputs."""

    def measure_references(options: EvaluateOptions, seed: int, *inputs: Any) -> dict[str, Any]:
        """Measure the rankings that the made-up shop knows: by chance, by the noun alone, by its own truth.

        Args:
            options: How the intervals are drawn.
            seed: Seed of the intervals.
            inputs: ``reference_scores`` and answers of each split in turn.

        Returns:
            Metrics by split and name of the ranking.
        """
        measured = {}
        for split, scores, answers in zip(splits, inputs[::2], inputs[1::2], strict=True):
            table = scores.to_table().to_pandas()
            measured[split] = {
                name: summarise(measure_queries(table.rename(columns={column: "score"}), answers), options, seed)
                for column, name in REFERENCES.items()
            }
        return measured

    return measure_references


def make_submission(scores: ds.Dataset) -> pd.DataFrame:
    """Give each query its five best products, in the official form; see ``ranking.make_submission``."""
    return ranking.make_submission(scores.to_table().to_pandas())


def compare_rankings_of(rankings: list[tuple[str, str]]) -> Callable[..., pd.DataFrame]:
    """Bind the comparison to the (split, ranker) of each of its inputs."""

    def compare_rankings(*metrics: dict[str, Any]) -> pd.DataFrame:
        """Put the metrics of all rankings into a table, worst of a split first, and log it.

        Args:
            metrics: Of each ranker; then, where a shop is made, of the reference rankings by split and name.
        """
        named = [(split, ranker, found) for (split, ranker), found in zip(rankings, metrics, strict=False)]
        for references in metrics[len(rankings) :]:
            named += [(split, name, found) for split, group in references.items() for name, found in group.items()]
        rows = [
            {
                "split": split,
                "ranking": name,
                "nDCG@5": found["ndcg_at_5"]["mean"],
                "low": found["ndcg_at_5"]["low"],
                "high": found["ndcg_at_5"]["high"],
                "MRR": found["reciprocal_rank"]["mean"],
                "recall@5": found["recall_at_5"]["mean"],
                "queries": found["queries"],
            }
            for split, name, found in named
        ]
        table = pd.DataFrame(rows).sort_values(["split", "nDCG@5"], ascending=[False, True], ignore_index=True)
        # 51 columns: beside Kedro's time and level they fit a terminal of 80.
        shown = table[["split", "ranking", "nDCG@5", "low", "high"]].round(3)
        logger.info("comparison of rankings:\n%s", shown.to_string(index=False))
        return table.round(6)

    return compare_rankings
