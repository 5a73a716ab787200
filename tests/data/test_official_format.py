"""The first 1,000 real training rows, with made-up features, go through ingest unchanged."""

import json
from pathlib import Path

import numpy as np
import pytest

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import IngestOptions
from multimodal_recall.data.official_format import OfficialRow
from multimodal_recall.datasets.official_files import OfficialTsvDataset
from multimodal_recall.datasets.small_files import LabelsFile
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk
from tests.conftest import SHARED

OFFICIAL = SHARED / "official-format"
pytestmark = pytest.mark.skipif(not OFFICIAL.exists(), reason=f"{OFFICIAL} with the real rows is not here")


def test_real_rows_come_back_equal(tmp_path: Path) -> None:
    real = [json.loads(line) for line in (OFFICIAL / "train_head_1000.jsonl").read_text().splitlines()]
    labels = LabelsFile(str(OFFICIAL / "multimodal_labels.txt")).load()
    random = np.random.default_rng(0)
    rows = [
        OfficialRow(
            row["product_id"],
            row["image_h"],
            row["image_w"],
            np.array(row["boxes"], np.float32),
            random.random((row["num_boxes"], 2048), np.float32),
            np.array(row["class_labels"]),
            row["query"],
            row["query_id"],
        )
        for row in real
    ]
    dataset = OfficialTsvDataset(str(tmp_path / "train.tsv"))
    dataset.save(rows)
    made = ingest_chunk(dataset.load(), labels, IngestOptions(max_boxes=100), chunk=Chunk("train", 0, 1))
    assert made["rejected"].num_rows == 0
    products, pairs = made["products"].to_pylist(), made["pairs"].to_pylist()
    assert len(pairs) == len(real) == 1000
    for pair, row in zip(pairs, real, strict=True):
        product = products[pair["product_row"]]
        sides = (product[side] for side in ("top", "left", "bottom", "right"))
        assert [list(box) for box in zip(*sides, strict=True)] == row["boxes"]
        assert product["labels"] == row["class_labels"]
        assert (product["image_h"], product["image_w"]) == (row["image_h"], row["image_w"])
        assert (pair["product_id"], pair["query"], pair["query_id"]) == (
            row["product_id"],
            row["query"],
            row["query_id"],
        )
