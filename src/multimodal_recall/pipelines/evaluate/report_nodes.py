"""Gather what the report of a split shows."""

import pandas as pd
import pyarrow.dataset as ds

from multimodal_recall.config.loader import project_folder
from multimodal_recall.config.options import EvaluateOptions
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.evaluation.metrics import is_right, rank_candidates
from multimodal_recall.evaluation.scales import normalise
from multimodal_recall.pipelines.evaluate.compare_nodes import headline_of


def make_report(
    options: EvaluateOptions,
    comparison: pd.DataFrame,
    model_scores: ds.Dataset,
    query_metrics: ds.Dataset,
    breakdown: pd.DataFrame,
    calibration: pd.DataFrame,
    answers: dict[int, list[int]],
    examples: dict[str, ChunkTables] | None = None,
    labels: list[str] | None = None,
    rejected: ds.Dataset | None = None,
    *training_logs: ds.Dataset,
    split: str,
    rankers: tuple[str, ...],
) -> str:
    """Render what is known of a split's rankings as one HTML page; see ``evaluation.report.page``.

    Args:
        options: Which model is drawn; where photos lie.
        comparison: Of all rankings and splits.
        model_scores: A column a model.
        query_metrics: Of all rankings.
        breakdown: Of the headline model, of all splits.
        calibration: Of the headline model.
        answers: Right products of each query.
        examples: The split's chunks, for the queries' texts and the products' boxes.
        labels: The label names.
        rejected: Rows of the split's file that were left out.
        training_logs: Of each ranker.
    """
    # matplotlib takes 0.2 s to import
    from multimodal_recall.evaluation.report.content import ReportContent
    from multimodal_recall.evaluation.report.page import render_page

    headline = headline_of(model_scores.head(1).to_pandas(), options)
    content = ReportContent(
        title=f"How {headline} ranks {split}",
        split=split,
        confidence=options.confidence,
        headline=comparison[comparison["split"] == split].rename(columns={"nDCG@5": "ndcg_at_5"}),
        ranking=headline,
        calibration=calibration,
        candidates=drawn_candidates(model_scores.to_table().to_pandas(), headline, answers, examples),
        queries=query_metrics.to_table(filter=ds.field("ranking") == headline).to_pandas(),
        breakdown=breakdown[breakdown["split"] == split],
        training_logs={name: log.to_table().to_pandas() for name, log in zip(rankers, training_logs, strict=True)},
        products=None if examples is None else drawn_products(examples, labels),
        rejected_rows=None if rejected is None else rejected.count_rows(),
        photos=project_folder() / options.photos,
    )
    return render_page(content)


def drawn_candidates(
    scores: pd.DataFrame, model: str, answers: dict[int, list[int]], examples: dict[str, ChunkTables] | None
) -> pd.DataFrame:
    """Give a model's candidates as they are drawn.

    Args:
        scores: A column a model.
        model: Whose ranking it is.
        answers: Right products of each query.
        examples: The split's chunks, for the queries' texts.

    Returns:
        One row a candidate in order of query and rank: ``query_id``, ``product_id``, ``score`` as log-odds, ``rank``,
        ``query`` (missing where it is not known), ``right``.
    """
    scored = normalise(scores, [model], "logit").rename(columns={model: "score"})
    ranked = rank_candidates(scored)
    queries: dict[int, str] = {}
    for tables in (examples or {}).values():
        pairs = tables["pairs"].to_table(columns=["query_id", "query"]).to_pandas().drop_duplicates("query_id")
        queries |= pairs.set_index("query_id")["query"].to_dict()
    return ranked.assign(query=ranked["query_id"].map(queries).astype(object), right=is_right(ranked, answers))


def drawn_products(examples: dict[str, ChunkTables], labels: list[str]) -> pd.DataFrame:
    """Give the products of some chunks as they are drawn.

    Args:
        examples: The chunks; of a single one, row i is row i of its ``products``.
        labels: The label names.

    Returns:
        One row a product: ``product_id``, ``image_h``, ``image_w``, the sides of its boxes (pixels) and the names of
        their ``labels`` as lists.
    """
    columns = ["product_id", "image_h", "image_w", "top", "left", "bottom", "right", "labels"]
    tables = (tables["products"].to_table(columns=columns).to_pandas() for tables in examples.values())
    products = pd.concat(tables).drop_duplicates("product_id")
    return products.assign(labels=[[labels[label] for label in found] for found in products["labels"]])
