"""Stages by the libraries that a user would take in our place; they need ``pip install -e ".[benchmarks]"``.

Each does what ours does but for the checks: no row is refused, nothing is compared with a digest.
"""

from pathlib import Path

import numpy as np
import pandas as pd
import pybase64

PEERS = {
    "ingest": ("datasets", "polars"),
    "albert": ("sentence_transformers",),  # this and the next in model_peers.py
    "train": ("data_loader",),
    "measures": ("pytrec_eval", "ranx"),
}
"""The peers of each stage that has some."""
MAX_BOXES, WIDTH = 12, 2048
NUMBERS = ("product_id", "image_h", "image_w", "num_boxes", "query_id")


def _shorten(features: bytes) -> bytes:
    return np.frombuffer(features, np.float32)[: MAX_BOXES * WIDTH].astype(np.float16).tobytes()


def ingest_datasets(tsv: Path, folder: Path) -> None:
    """Hugging Face ``datasets``: its CSV reader, ``map`` in batches of 64, ``to_parquet``."""
    from datasets import Features, List, Value, load_dataset

    columns = {name: Value("int64") for name in NUMBERS} | {"query": Value("string")}
    lists = {"boxes": List(Value("float32")), "class_labels": List(Value("int64")), "features": Value("large_binary")}

    def decode(batch: dict[str, list]) -> dict[str, list]:
        boxes, labels, features = (map(pybase64.b64decode, batch[name]) for name in lists)
        return {
            "boxes": [np.frombuffer(field, np.float32)[: 4 * MAX_BOXES] for field in boxes],
            "class_labels": [np.frombuffer(field, np.int64)[:MAX_BOXES] for field in labels],
            "features": list(map(_shorten, features)),
        }

    texts = Features({**columns, **dict.fromkeys(lists, Value("large_string"))})
    rows = load_dataset(
        "csv",
        data_files=str(tsv),
        sep="\t",
        quoting=3,
        features=texts,
        keep_default_na=False,
        cache_dir=str(folder / "cache"),
        split="train",
    )
    decoded = rows.map(decode, batched=True, batch_size=64, features=Features({**columns, **lists}))
    decoded.to_parquet(folder / "chunk.parquet")


def ingest_polars(tsv: Path, folder: Path) -> None:
    """polars: its CSV reader and base64, features rounded by numpy, its parquet writer; the file is in memory."""
    import polars as pl

    table = pl.read_csv(tsv, separator="\t", quote_char=None)
    table = table.with_columns(pl.col("boxes", "class_labels", "features").str.decode("base64"))
    table.with_columns(pl.Series("features", map(_shorten, table["features"]), pl.Binary)).write_parquet(
        folder / "chunk.parquet"
    )


MEASURES = {
    "pytrec_eval": ("ndcg_cut.5,10", "recip_rank", "recall.5", "P.5", "map"),
    "ranx": ("ndcg@5", "ndcg@10", "mrr", "recall@5", "precision@5", "map"),
}


def measure_pytrec_eval(scores: pd.DataFrame, answers: dict[int, list[int]]) -> list[list[float]]:
    """pytrec-eval-terrier, TREC's own code: six measures a query, in the order of ``answers``."""
    import pytrec_eval

    texts = scores.assign(query_id=scores["query_id"].astype(str), product_id=scores["product_id"].astype(str))
    run: dict[str, dict[str, float]] = {query: {} for query in texts["query_id"].unique()}
    for query, product, score in zip(texts["query_id"], texts["product_id"], texts["score"].tolist(), strict=True):
        run[query][product] = score
    right = {str(query): dict.fromkeys(map(str, products), 1) for query, products in answers.items()}
    found = pytrec_eval.RelevanceEvaluator(right, set(MEASURES["pytrec_eval"])).evaluate(run)
    return [list(found[query].values()) for query in right]


def measure_ranx(scores: pd.DataFrame, answers: dict[int, list[int]]) -> dict[str, np.ndarray]:
    """ranx: six measures a query; its functions are compiled when they are first called."""
    from ranx import Qrels, Run, evaluate

    texts = scores.assign(query_id=scores["query_id"].astype(str), product_id=scores["product_id"].astype(str))
    right = Qrels({str(query): dict.fromkeys(map(str, products), 1) for query, products in answers.items()})
    texts = texts.astype({"query_id": object, "product_id": object, "score": float})
    run = Run.from_df(texts, q_id_col="query_id", doc_id_col="product_id", score_col="score")
    return evaluate(right, run, list(MEASURES["ranx"]), return_mean=False)
