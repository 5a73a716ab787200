"""From photos to the table of boxes and features, and to the ranks of an own table."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image, ImageDraw
from pydantic import ValidationError

from multimodal_recall.config.describing import DescribeOptions
from multimodal_recall.data.own_parquet import ParquetRows
from multimodal_recall.data.schemas import TABLES
from multimodal_recall.models.pretrained import CheckpointError
from multimodal_recall.models.vision import describe as module
from multimodal_recall.models.vision.describe import ProductPhoto, describe, load_detector
from multimodal_recall.models.vision.embedder import Embedder
from multimodal_recall.models.vision.weak import WeakDescriptor
from multimodal_recall.runtime.device import Hardware
from tests.conftest import by_precision, forced_hardware
from tests.tiny_vision import clip, dfine, owlv2, save_checkpoint, siglip2

WEAK = DescribeOptions()


@pytest.fixture
def photos(tmp_path: Path) -> list[ProductPhoto]:
    """Five products on white, a missing photo in their midst, and a photo without a plain background."""
    found = []
    for number, colour in enumerate(["red", "green", "blue", "black", "orange"]):
        picture = Image.new("RGB", (90 + number, 120), "white")
        ImageDraw.Draw(picture).rectangle((20, 30, 59, 99), fill=colour)
        picture.save(tmp_path / f"{number}.png")
        found.append(ProductPhoto(10 + number, tmp_path / f"{number}.png", "shirts" if number % 2 else None))
    noise = np.random.default_rng(0).integers(0, 256, (60, 80, 3), dtype=np.uint8)
    Image.fromarray(noise).save(tmp_path / "noise.png")
    return [*found[:2], ProductPhoto(7, tmp_path / "absent.png"), *found[2:], ProductPhoto(20, tmp_path / "noise.png")]


def features(table: pa.Table, row: int) -> np.ndarray:
    boxes = len(table["class_labels"][row])
    return np.array(table["features"][row].as_py(), np.float32).reshape(boxes, -1)


def test_a_row_a_photo_that_can_be_read_and_a_reason_for_the_others(photos: list[ProductPhoto]) -> None:
    done: list[int] = []
    described, rejected = describe(photos, replace(WEAK, batch_size=3), forced_hardware(), done.append)
    assert described.schema == TABLES["described"]
    assert described["product_id"].to_pylist() == [10, 11, 12, 13, 14, 20]
    assert described["image_w"].to_pylist() == [90, 91, 92, 93, 94, 80]
    assert described["image_h"].to_pylist() == [120] * 5 + [60]
    assert described["boxes"][1].as_py() == [0, 0, 120, 91, 30, 20, 100, 60]
    assert described["class_labels"].to_pylist() == [["photo", "product"], ["shirts"] * 2] * 2 + [
        ["photo", "product"],
        ["photo"],
    ]
    assert rejected.to_pylist() == [
        {
            "product_id": 7,
            "photo": str(photos[2].path),
            "reason": "there is no such file in the folder of photos: absent.png",
        }
    ]
    assert done == [3, 3, 1]


def test_the_features_are_those_of_the_crops(photos: list[ProductPhoto]) -> None:
    described, _ = describe(photos, WEAK, forced_hardware())
    with Image.open(photos[0].path) as photo:
        wanted = WeakDescriptor().embed([photo.convert("RGB"), photo.convert("RGB").crop((20, 30, 60, 100))], 2)
    np.testing.assert_allclose(features(described, 0), wanted, atol=1e-3)


@pytest.mark.precision
@pytest.mark.parametrize("zero_shot", [False, True])
def test_one_batch_equals_many(tmp_path: Path, photos: list[ProductPhoto], zero_shot: bool) -> None:
    detector = save_checkpoint(owlv2 if zero_shot else dfine, tmp_path / "detector")
    embedder = save_checkpoint(siglip2 if zero_shot else clip, tmp_path / "embedder")
    labels = ("red shirt", "bag") if zero_shot else ()
    options = DescribeOptions(
        str(embedder), zero_shot, str(detector), labels, threshold=0.0, max_boxes=6, batch_size=64
    )
    one, rejected = describe(photos, options, forced_hardware())
    many, rejected_too = describe(photos, replace(options, batch_size=1), forced_hardware())
    assert rejected.equals(rejected_too)
    assert one.drop(["features", "boxes"]).equals(many.drop(["features", "boxes"]))
    assert {label for labels in one["class_labels"].to_pylist() for label in labels} > {"photo", "product"}
    for row in range(len(one)):
        np.testing.assert_allclose(one["boxes"][row].as_py(), many["boxes"][row].as_py(), atol=0.01)
        np.testing.assert_allclose(features(one, row), features(many, row), atol=by_precision(2e-3, 0.03))


def test_the_boxes_are_the_whole_photo_the_product_and_the_best_of_the_detector(
    tmp_path: Path, photos: list[ProductPhoto]
) -> None:
    options = DescribeOptions(detector=str(save_checkpoint(dfine, tmp_path / "d")), threshold=0.0, max_boxes=5)
    described, _ = describe(photos, options, forced_hardware())
    detector = load_detector(options, forced_hardware())
    assert detector is not None
    with Image.open(photos[0].path) as photo:
        [found] = detector.detect([photo.convert("RGB")])
    boxes = np.reshape(described["boxes"][0].as_py(), (-1, 4))
    assert len(boxes) == 5
    np.testing.assert_allclose(boxes[0], (0, 0, 120, 90))
    np.testing.assert_allclose(boxes[1], (30, 20, 100, 60))
    np.testing.assert_allclose(boxes[2:], [detection.sides for detection in found[:3]], atol=0.01)
    assert described["class_labels"][0].as_py() == ["photo", "product", *(each.label for each in found[:3])]


def test_an_own_table_takes_the_columns(tmp_path: Path, photos: list[ProductPhoto]) -> None:
    """The importer gives ids to the labels; the rest is read as it is."""
    described, _ = describe(photos, WEAK, forced_hardware())
    number = ("photo", "product", "shirts").index
    ids = [list(map(number, labels)) for labels in described["class_labels"].to_pylist()]
    table = described.set_column(5, "class_labels", pa.array(ids))
    pq.write_table(table, tmp_path / "catalogue.parquet")
    rows = list(ParquetRows(tmp_path / "catalogue.parquet"))
    assert [row.product_id for row in rows] == described["product_id"].to_pylist()
    np.testing.assert_allclose(rows[0].features, features(described, 0))
    np.testing.assert_allclose(rows[0].boxes, [[0, 0, 120, 90], [30, 20, 100, 60]])


def test_all_photos_may_be_bad_and_none_may_be_given(tmp_path: Path) -> None:
    nothing, rejected = describe([ProductPhoto(1, tmp_path / "absent.jpg")], WEAK, forced_hardware())
    assert (len(nothing), len(rejected)) == (0, 1)
    assert nothing.schema == TABLES["described"]
    nothing, rejected = describe([], WEAK, forced_hardware())
    assert (len(nothing), len(rejected)) == (0, 0)
    assert rejected.schema == TABLES["rejected_photos"]


def test_a_photo_is_opened_once_and_few_are_held(
    tmp_path: Path, photos: list[ProductPhoto], monkeypatch: pytest.MonkeyPatch
) -> None:
    opened: list[Path] = []
    real = module.open_photo
    monkeypatch.setattr(module, "open_photo", lambda path: (opened.append(path), real(path))[1])
    embedder = save_checkpoint(clip, tmp_path / "clip")
    held: list[int] = []
    embed = Embedder._embed

    def counting(self: Embedder, crops: list[Image.Image]) -> np.ndarray:
        held.append(len(crops))
        return embed(self, crops)

    monkeypatch.setattr(Embedder, "_embed", counting)
    describe(photos, DescribeOptions(str(embedder), batch_size=2), forced_hardware())
    assert opened == [photo.path for photo in photos]
    assert max(held) == 2


def test_a_checkpoint_that_cannot_be_used_is_refused_before_any_photo() -> None:
    with pytest.raises(
        CheckpointError, match=r"^describe.embedder is '/absent': there is no folder /absent\. Name a folder"
    ):
        describe([], DescribeOptions(embedder="/absent"), Hardware())
    with pytest.raises(
        CheckpointError, match=r"^describe.detector is '/absent': there is no folder /absent\. Name a folder"
    ):
        describe([], DescribeOptions(detector="/absent"), Hardware())


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"labels": ["shirt"]}, "describe.labels is set and describe.detector null"),
        ({"detector": "owl", "labels": ["shirt", "shirt"]}, "name each label once"),
        ({"detector": "owl", "labels": [""]}, "at least 1 character"),
        ({"threshold": 1.5}, "less than or equal to 1"),
        ({"batch_size": 0}, "greater than 0"),
        ({"embeder": "x"}, "Unexpected keyword argument"),
    ],
)
def test_options_that_do_not_fit_are_refused(options: dict[str, object], reason: str) -> None:
    with pytest.raises(ValidationError, match=reason):
        DescribeOptions(**options)
