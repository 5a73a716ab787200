"""Each stage as a capable data scientist writes it first: the other side of the benchmark, and nothing else.

Readable, correct, and without a thought to speed. Results equal ours (``tests/test_benchmarks.py``) but for drawn
negatives, which are random, and float rounding.
"""

import base64
import csv
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from sklearn.feature_extraction.text import TfidfVectorizer
from torch import Tensor, nn
from transformers import AutoModel, AutoTokenizer


def ingest(tsv: Path, folder: Path, max_boxes: int = 12, rows_per_file: int = 2000) -> int:
    """Read with pandas, decode row by row, write one parquet file a piece; the number of rows."""
    folder.mkdir(parents=True, exist_ok=True)
    rows = 0
    pieces = pd.read_csv(tsv, sep="\t", quoting=csv.QUOTE_NONE, keep_default_na=False, chunksize=rows_per_file)
    for number, piece in enumerate(pieces):
        boxes = [np.frombuffer(base64.b64decode(text), np.float32) for text in piece["boxes"]]
        labels = [np.frombuffer(base64.b64decode(text), np.int64) for text in piece["class_labels"]]
        features = [np.frombuffer(base64.b64decode(text), np.float32) for text in piece["features"]]
        piece["boxes"] = [array[: 4 * max_boxes] for array in boxes]
        piece["class_labels"] = [array[:max_boxes] for array in labels]
        piece["features"] = [array[: 2048 * max_boxes].astype(np.float16) for array in features]
        piece.to_parquet(folder / f"{number}.parquet")
        rows += len(piece)
    return rows


def load_text_model(folder: Path) -> tuple[Any, nn.Module]:
    """Load tokenizer and model."""
    tokenizer, model = (kind.from_pretrained(folder, trust_remote_code=False) for kind in (AutoTokenizer, AutoModel))
    return tokenizer, model.eval()


@torch.inference_mode()
def query_vectors(queries: list[str], tokenizer: Any, model: nn.Module, batch_size: int = 64) -> np.ndarray:
    """Pad each batch, run every layer, take the second-to-last, average over the real tokens (queries, hidden)."""
    vectors = []
    for start in range(0, len(queries), batch_size):
        encoded = tokenizer(queries[start : start + batch_size], padding=True, return_tensors="pt")
        hidden = model(**encoded, output_hidden_states=True).hidden_states[-2]
        mask = encoded["attention_mask"].unsqueeze(-1)
        vectors.append((hidden * mask).sum(1) / mask.sum(1))
    return torch.cat(vectors).numpy()


class TwoTower(nn.Module):
    """Section 0 on padded float32 batches: a BiLSTM over words, a BiLSTM over boxes, an MLP on both."""

    def __init__(self, words: int, labels: int = 33, image_state: int = 1024) -> None:
        super().__init__()
        self.words, self.labels = nn.Embedding(words, 300), nn.Embedding(labels, 300)
        for table in (self.words, self.labels):
            table.weight.requires_grad = False
        self.word_lstm = nn.LSTM(300, 64, bidirectional=True, batch_first=True)
        self.box_lstm = nn.LSTM(300 + 2048 + 5, image_state // 2, bidirectional=True, batch_first=True)
        self.head = nn.Sequential(
            nn.Linear(768 + 128 + image_state, 512), nn.ReLU(), nn.Dropout(0.1), nn.Linear(512, 2)
        )

    def forward(self, vectors: Tensor, words: Tensor, features: Tensor, labels: Tensor, positions: Tensor) -> Tensor:
        """Logits (N, 2) of (N, 768), word ids (N, W), features (N, B, 2048), labels (N, B), positions (N, B, 5)."""
        _, (word, _) = self.word_lstm(self.words(words))
        _, (box, _) = self.box_lstm(torch.cat([self.labels(labels), features, positions], dim=2))
        return self.head(torch.cat([vectors, word[0], word[1], box[0], box[1]], dim=1))


def training_step(
    model: TwoTower, optimiser: torch.optim.Optimizer, inputs: tuple[Tensor, ...], target: Tensor
) -> None:
    """One step on a batch in which every pair carries its own copy of query and product."""
    optimiser.zero_grad()
    nn.functional.cross_entropy(model(*inputs), target).backward()
    optimiser.step()


def label_sharing_negatives(
    query_rows: list[int], product_rows: list[int], labels: list[set[int]], seed: int
) -> list[int]:
    """Scan the chunk for each pair, and draw one of the products that share a label and are not right; else -1."""
    random = np.random.default_rng(seed)
    right: dict[int, set[int]] = {}
    for query, product in zip(query_rows, product_rows, strict=True):
        right.setdefault(query, set()).add(product)
    drawn = []
    for query, product in zip(query_rows, product_rows, strict=True):
        sharing = [other for other, found in enumerate(labels) if found & labels[product] and other not in right[query]]
        drawn.append(int(random.choice(sharing)) if sharing else -1)
    return drawn


def similar_query_negatives(
    queries: list[str], query_rows: list[int], product_rows: list[int], k: int, seed: int
) -> list[int]:
    """As the first place: sort all texts by their tf-idf cosine to each, draw one row of the nearest; else -1."""
    random = np.random.default_rng(seed)
    rows_of: dict[int, list[int]] = {}
    for query, product in zip(query_rows, product_rows, strict=True):
        rows_of.setdefault(query, []).append(product)
    vectors = TfidfVectorizer(binary=True, token_pattern=r"\S+").fit_transform(queries)
    neighbours = {}
    for start in range(0, len(queries), 1000):
        similarities = (vectors[start : start + 1000] @ vectors.T).toarray()
        for row, order in enumerate(np.argsort(-similarities, axis=1)[:, : k + 1], start):
            neighbours[row] = [other for other in order if other != row]
    drawn = []
    for query in query_rows:
        products = [product for other in neighbours[query] for product in rows_of[other]]
        products = [product for product in products if product not in rows_of[query]]
        drawn.append(int(random.choice(products)) if products else -1)
    return drawn


def ndcg_at_5(scores: pd.DataFrame, answers: dict[int, list[int]]) -> pd.Series:
    """Sort each query's candidates in a groupby, and add up its gains; by query."""

    def one(candidates: pd.DataFrame) -> float:
        best = candidates.sort_values(["score", "product_id"], ascending=[False, True])["product_id"].head(5)
        right = answers[candidates.name]
        gain = sum(1 / np.log2(rank + 2) for rank, product in enumerate(best) if product in right)
        return gain / sum(1 / np.log2(rank + 2) for rank in range(min(5, len(right))))

    return scores.groupby("query_id")[["product_id", "score"]].apply(one)


def measures(scores: pd.DataFrame, answers: dict[int, list[int]], draws: int) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Six measures of each query in a groupby, and their means over resampled queries."""

    def one(candidates: pd.DataFrame) -> pd.Series:
        ranked = candidates.sort_values(["score", "product_id"], ascending=[False, True])["product_id"]
        right = answers[candidates.name]
        ranks = [rank for rank, product in enumerate(ranked, start=1) if product in right]
        found = {}
        for k in (5, 10):
            ideal = _gain(range(1, min(k, len(right)) + 1))
            found[f"ndcg_at_{k}"] = _gain(rank for rank in ranks if rank <= k) / ideal
        found["reciprocal_rank"] = 1 / ranks[0] if ranks else 0.0
        found["recall_at_5"] = sum(rank <= 5 for rank in ranks) / len(right)
        found["precision_at_5"] = sum(rank <= 5 for rank in ranks) / 5
        found["average_precision"] = sum(hits / rank for hits, rank in enumerate(ranks, start=1)) / len(right)
        return pd.Series(found)

    table = scores.groupby("query_id")[["product_id", "score"]].apply(one)
    return table, pd.DataFrame([table.sample(frac=1, replace=True, random_state=draw).mean() for draw in range(draws)])


def _gain(ranks: Iterable[int]) -> float:
    return sum(1 / np.log2(rank + 1) for rank in ranks)
