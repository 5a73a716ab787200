"""A collection of products, queries and answers as BEIR's loader reads it."""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from multimodal_recall.datasets.atomic import AtomicDataset
from multimodal_recall.runtime.kedro_private import TablePreview

CORPUS, QUERIES, QRELS = "corpus.jsonl", "queries.jsonl", "qrels"
COLUMNS = ["product_id", "title", "labels"]


@dataclass(frozen=True)
class BeirCollection:
    """Products, and the queries of some splits with their right products."""

    products: Iterable[ds.Dataset]
    """Chunks; a product may stand in several."""
    labels: list[str]
    """Label names, in order of their numbers."""
    queries: Mapping[str, Mapping[int, str]]
    """By split, the text of each query."""
    answers: Mapping[str, Mapping[int, list[int]]]
    """By split, the right products of each query."""


class BeirFolder(AtomicDataset[BeirCollection, Path]):
    """``corpus.jsonl``, ``queries.jsonl`` and ``qrels/<split>.tsv``; loads the folder's path, which loaders take.

    A product's text is its title, or the names of its labels, each once, where it has none. The qrels hold right
    products alone: many scripts take every line for a right product.
    """

    holds_folder = True

    def _write(self, path: Path, data: BeirCollection) -> None:
        path.mkdir()
        _write_corpus(path / CORPUS, data)
        queries = {query: text for by_id in data.queries.values() for query, text in by_id.items()}
        _write_jsonl(path / QUERIES, pd.Series(queries.keys(), dtype=np.int64), pd.Series(queries.values(), dtype=str))
        (path / QRELS).mkdir()
        for split, answers in data.answers.items():
            right = [(query, product) for query in answers for product in dict.fromkeys(answers[query])]
            table = pd.DataFrame(right, columns=["query-id", "corpus-id"], dtype=np.int64).assign(score=1)
            table.to_csv(path / QRELS / f"{split}.tsv", sep="\t", index=False)

    def _read(self, path: Path) -> Path:
        return path

    def preview(self, rows: int = 5) -> TablePreview:
        """Show the first products in kedro-viz."""
        with (self.load() / CORPUS).open(encoding="utf-8") as file:
            head = [json.loads(line) for line, _ in zip(file, range(rows), strict=False)]
        return TablePreview(pd.DataFrame(head).to_dict(orient="split"))


def _write_corpus(path: Path, data: BeirCollection) -> None:
    """Write each product once, with a batch of a chunk in memory."""
    written = np.empty(0, np.int64)
    path.touch()
    for products in data.products:
        for batch in products.to_batches(columns=COLUMNS):
            ids = batch["product_id"].to_numpy()
            new = ~np.isin(ids, written)
            table = pa.Table.from_batches([batch]).filter(pa.array(new))
            _write_jsonl(path, pd.Series(ids[new]), product_texts(table, data.labels))
            written = np.concatenate([written, ids[new]])


def product_texts(products: pa.Table, labels: list[str]) -> pd.Series:
    """Give each product's title, or the names of its labels where it has none or an empty one."""
    boxes = products["labels"].combine_chunks()
    row = np.repeat(np.arange(len(products)), boxes.value_lengths().fill_null(0).to_numpy())
    shown = pd.DataFrame({"row": row, "label": boxes.flatten().to_numpy()}).drop_duplicates()
    ends = np.append(0, np.cumsum(np.bincount(shown["row"], minlength=len(products)))).astype(np.int32)
    names = pa.array(labels).take(pa.array(shown["label"].to_numpy()))
    named = pc.binary_join(pa.ListArray.from_arrays(ends, names), ", ")
    titles = products["title"].combine_chunks()
    return pc.if_else(pc.fill_null(pc.not_equal(titles, ""), False), titles, named).to_pandas()


def _write_jsonl(path: Path, ids: pd.Series, texts: pd.Series) -> None:
    """Append a line an id: BEIR's ids are texts, and its title stays empty, as titles are the text here."""
    table = pd.DataFrame({"_id": ids.astype(str), "title": "", "text": texts.to_numpy()})
    with path.open("a", encoding="utf-8") as file:
        table.to_json(file, orient="records", lines=True, force_ascii=False)
