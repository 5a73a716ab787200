"""Judge the negatives that a ranker was trained with."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow.compute as pc

from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.data.origins import QueryEncoding
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.evaluation.negatives import draws_of, false_share, hardness
from multimodal_recall.runtime.device import use_hardware
from multimodal_recall.runtime.progress import bar

JUDGED_PAIRS = 500


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
    from multimodal_recall.data.pairs import Pairs

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
