"""Nodes of the import, called on tables in memory."""

import tracemalloc

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from multimodal_recall.config.describing import DescribeOptions
from multimodal_recall.config.import_options import ImportOptions
from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.data.schemas import TABLES
from multimodal_recall.models.vision import describe as describing
from multimodal_recall.pipelines.import_shop.nodes import describe_chunk

PHOTOS, BOXES, WIDTH = 100, DescribeOptions().max_boxes, 400


def test_a_further_photo_adds_its_first_box_before_those_of_a_detector_in_little_memory(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    random = np.random.default_rng(0)
    features = random.random((PHOTOS, BOXES, WIDTH)).astype(np.float16)
    rows = {
        "product_id": np.arange(PHOTOS),
        "image_h": np.arange(PHOTOS) + 10,
        "image_w": np.arange(PHOTOS) + 20,
        "boxes": [[1.0] * 4 * BOXES] * PHOTOS,
        "features": pa.array(list(features.reshape(PHOTOS, -1))),
        "class_labels": [[f"label {photo}"] * BOXES for photo in range(PHOTOS)],
    }
    table = pa.table(rows).cast(TABLES["described"])
    unread = TABLES["rejected_photos"].empty_table()
    monkeypatch.setattr(describing, "describe", lambda *_: (table, unread))
    names = [["a", "b", "c"], *(["d"] for _ in range(PHOTOS - 3))]
    ids = np.arange(PHOTOS - 2) + 7
    shop = pa.Table.from_pylist(
        [{"product_id": number, "photos": photos} for number, photos in zip(ids.tolist(), names, strict=True)],
        TABLES["shop_products"],
    )
    tracemalloc.start()
    made, _ = describe_chunk(
        ds.dataset(shop), ImportOptions(), DescribeOptions(), HardwareOptions(device="cpu"), chunk=Chunk("photos", 0, 1)
    )
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 * table.nbytes
    assert made.schema == TABLES["described"]
    assert made["product_id"].to_pylist() == ids.tolist()
    first = made.slice(0, 1).to_pylist()[0]
    assert first["boxes"] == [1.0] * 4 + [0, 0, 10, 20] * 2 + [1.0] * 4 * (BOXES - 1)  # ingest keeps the first
    assert first["class_labels"] == ["label 0", "label 1", "label 2"] + ["label 0"] * (BOXES - 1)
    wanted = np.concatenate([features[:3, 0], features[0, 1:]])
    assert np.array_equal(np.reshape(first["features"], (-1, WIDTH)), wanted)
    assert made.slice(1).equals(table.slice(3).set_column(0, table.schema.field(0), pa.array(ids[1:])))
