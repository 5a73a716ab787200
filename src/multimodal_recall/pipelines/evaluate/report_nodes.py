"""Render the report of a split."""

from pathlib import Path

import pandas as pd
import pyarrow.dataset as ds

from multimodal_recall.config.loader import in_project
from multimodal_recall.config.options import EvaluateOptions
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.evaluation.report.drawn import drawn_candidates, drawn_products
from multimodal_recall.evaluation.summary import verdict
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
    *further: ds.Dataset | Path,
    split: str,
    rankers: tuple[str, ...],
    features: str = "",
) -> str:
    """Render a split's rankings as an HTML page; see ``evaluation.report.page``.

    ``comparison`` and ``breakdown`` are of all splits, the other tables of this one. ``examples`` hold the queries'
    texts and the products' boxes; there are none where given scores alone are evaluated. ``further`` are the training
    logs of the rankers, then the folder of photos where a stage makes it: else that of the options counts. ``features``
    says what the boxes' features come from.
    """
    # matplotlib takes 0.2 s to import
    from multimodal_recall.evaluation.report.content import ReportContent
    from multimodal_recall.evaluation.report.page import render_page

    headline = headline_of(model_scores.head(1).to_pandas(), options)
    of_split = comparison[comparison["split"] == split]
    content = ReportContent(
        title=f"How {headline} ranks {split}",
        split=split,
        confidence=options.confidence,
        headline=of_split.rename(columns={"nDCG@5": "ndcg_at_5"}),
        ranking=headline,
        calibration=calibration,
        candidates=drawn_candidates(model_scores.to_table().to_pandas(), headline, answers, examples),
        queries=query_metrics.to_table(filter=ds.field("ranking") == headline).to_pandas(),
        breakdown=breakdown[breakdown["split"] == split],
        training_logs={name: log.to_table().to_pandas() for name, log in zip(rankers, further, strict=False)},
        products=None if examples is None else drawn_products(examples, labels),
        rejected_rows=None if rejected is None else rejected.count_rows(),
        photos=further[-1] if len(further) > len(rankers) else in_project(options.photos),
        verdict=verdict(of_split, headline)[0],
        features=features,
    )
    return render_page(content)
