"""Judge the negatives that a ranker was trained with."""

from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from multimodal_recall.datasets.chunk_list import ChunkTables
from multimodal_recall.hardness import are_false, hardness
from multimodal_recall.options import HardwareOptions
from multimodal_recall.runtime.device import use_hardware

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
    from multimodal_recall.examples import check_way, read_chunk
    from multimodal_recall.models.batch import Pairs

    check_way(train_examples, model.card["query_features"], "those that the ranker was trained on")
    tables, ranker = next(iter(train_examples.values())), model.build().to(use_hardware(hardware).device)
    arrays, judged = read_chunk(tables, ranker.reading), []
    for kind in pc.unique(tables["samples"].to_table(columns=["kind"])["kind"]).to_pylist():
        query_rows, products = draws_of(tables["samples"], kind)
        some = np.random.default_rng(seed).permutation(len(query_rows))[:JUDGED_PAIRS]
        shown = products[some]
        pairs = Pairs(np.repeat(query_rows[some], shown.shape[1]), shown.ravel(), np.zeros(shown.size, np.int8))
        found = hardness(ranker.score(arrays, pairs).reshape(shown.shape))
        facts = _false_share(tables, query_rows, products)
        judged.append({"kind": kind, **facts, "candidates": shown.shape[1], **found})
    return pd.DataFrame(judged).round(6)


def draws_of(samples: ds.Dataset, kind: str) -> tuple[np.ndarray, np.ndarray]:
    """Gather all draws of one kind for the pairs of a chunk.

    Args:
        samples: Of the chunk.
        kind: Of negatives.

    Returns:
        Query row of each pair (n,), and product rows (n, 1 + epochs * k): the right one, then all that were drawn.
    """
    table = samples.to_table(filter=ds.field("kind") == kind)
    epochs = len(pc.unique(table["epoch"]))
    pairs = table.num_rows // epochs
    wrong = pa.compute.list_flatten(table["wrong_rows"]).to_numpy().reshape(epochs, pairs, -1)
    query_rows, product_rows = (table[name].to_numpy()[:pairs] for name in ("query_row", "product_row"))
    return query_rows, np.column_stack([product_rows, *wrong])


def _false_share(tables: ChunkTables, query_rows: np.ndarray, products: np.ndarray) -> dict[str, float]:
    queries = tables["query_features"].to_table(columns=["query"])["query"].to_pylist()
    wrong = products[:, 1:]
    drawn = np.repeat(query_rows, wrong.shape[1]), wrong.ravel()
    false = are_false(queries, (query_rows, products[:, 0]), drawn, tables["products"].count_rows())
    return {"negatives": wrong.size, "false_share": float(false.mean())}
