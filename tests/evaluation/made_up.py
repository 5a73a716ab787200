"""Made-up scores of three models with their answers."""

import numpy as np
import pandas as pd

from multimodal_recall.evaluation.metrics import measure_queries

MODELS = ["good", "fair", "noise"]


def made_up(queries: int = 60, seed: int = 0) -> tuple[pd.DataFrame, dict[int, list[int]]]:
    """Two good models, one of noise; ties, queries of different lengths, six answers or fewer, rows in no order."""
    random = np.random.default_rng(seed)
    frames, answers = [], {}
    for query in range(queries):
        products = random.permutation(1000)[: random.integers(8, 30)]
        right = products[: random.integers(1, 7)]
        answers[query] = [*right.tolist(), 5000] if query % 7 == 0 else right.tolist()  # 5000 is no candidate
        columns = {"query_id": query, "product_id": products}
        for model, signal in zip(MODELS, (1.5, 1.0, 0.0), strict=True):
            columns[model] = (signal * np.isin(products, right) + random.normal(size=len(products))).round(1)
        frames.append(pd.DataFrame(columns))
    answers[queries] = [1]  # without candidates
    return pd.concat(frames).sample(frac=1, random_state=seed, ignore_index=True), answers


def ndcg(scores: pd.DataFrame, answers: dict[int, list[int]]) -> float:
    return measure_queries(scores, answers)["ndcg_at_5"].mean()
