"""Photos a second and memory of the description of a shop's photos, and what the features are worth to a ranker.

python -m benchmarks.photos speed PHOTOS --count 500 2000 8000 --embedder data/mobilenet_v2
python -m benchmarks.photos rank PHOTOS data/01_raw/photos OUT --embedder data/mobilenet_v2

``speed`` describes the first photos of a folder, each number in a process of its own. Its seconds are CPU seconds, so
that other work on the machine counts little. ``rank`` writes a copy of the environment ``photos`` into the folder OUT,
with boxes and features of our own from ``PHOTOS/<product_id>.jpg``, and runs bag_of_words there. Without ``--embedder``
both take the weak descriptor, with ``--colours-and-edges`` both descriptors.
"""

import argparse
import itertools
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pybase64

from benchmarks.small_project import copy_project
from benchmarks.stages import peak_memory
from multimodal_recall.config.describing import DescribeOptions
from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.data.official_format import OfficialRow
from multimodal_recall.datasets.official_files import OfficialTsvDataset
from multimodal_recall.datasets.small_files import LabelsFile
from multimodal_recall.models.vision.describe import ProductPhoto, describe
from multimodal_recall.runtime.device import use_hardware

SPLITS = ("train", "valid", "testA")
COLUMNS = ["product_id", "class_labels", "query", "query_id"]


def describe_all(photos: list[ProductPhoto], options: DescribeOptions) -> pa.Table:
    """Describe photos on the hardware that a run would choose; a rejected photo ends the benchmark."""
    described, rejected = describe(photos, options, use_hardware(HardwareOptions()))
    if len(rejected):
        raise SystemExit(f"rejected: {rejected.slice(0, 5).to_pylist()}")
    return described


def time_photos(folder: Path, count: int, options: DescribeOptions) -> None:
    """Print a line for the first photos of a folder."""
    files = list(itertools.islice(sorted(folder.iterdir()), count))
    start = time.process_time()
    described = describe_all(list(itertools.starmap(ProductPhoto, enumerate(files))), options)
    seconds = time.process_time() - start
    boxes = sum(map(len, described["class_labels"]))
    print(f"{len(files):7} {boxes:7} {seconds:7.1f} {len(files) / seconds:9.1f} {peak_memory():8.2f}", flush=True)


def time_each(options: argparse.Namespace) -> None:
    """Time each number of photos in a process of its own."""
    print(f"{'photos':>7} {'boxes':>7} {'CPU s':>7} {'a second':>9} {'peak GB':>8}", flush=True)
    for count in options.count:
        again = [sys.executable, "-m", "benchmarks.photos", "one", str(options.photos), "--count", str(count)]
        again += ["--embedder", options.embedder] if options.embedder else []
        subprocess.run([*again, *(["--colours-and-edges"] if options.colours_and_edges else [])], check=True)


def read_pairs(raw: Path, split: str) -> pd.DataFrame:
    """Read a split's ids, queries and the label of each product's first box."""
    table = pd.read_csv(raw / f"{split}.tsv", sep="\t", usecols=COLUMNS, quoting=3, keep_default_na=False)
    first = [int(np.frombuffer(pybase64.b64decode(text), "<i8")[0]) for text in table["class_labels"]]
    return table.assign(label=first)


def own_rows(pairs: pd.DataFrame, described: dict[int, dict], labels: list[str]) -> Iterator[OfficialRow]:
    """Join a split's pairs with the boxes and features of our own."""
    for pair in pairs.itertuples():
        product = described[pair.product_id]
        count = len(product["class_labels"])
        yield OfficialRow(
            pair.product_id, product["image_h"], product["image_w"],
            np.reshape(product["boxes"], (count, 4)), np.reshape(product["features"], (count, -1)),
            np.array([labels.index(label) for label in product["class_labels"]]), pair.query, pair.query_id,
        )  # fmt: skip


def rank(options: argparse.Namespace) -> None:
    """Write the raw files with features of our own, run bag_of_words, and print its rows of the comparison."""
    labels = LabelsFile(str(options.raw / "multimodal_labels.txt")).load()
    pairs = {split: read_pairs(options.raw, split) for split in SPLITS}
    products = pd.concat(pairs.values()).drop_duplicates("product_id")
    photos = [
        ProductPhoto(product.product_id, options.photos / f"{product.product_id}.jpg", labels[product.label])
        for product in products.itertuples()
    ]
    described = describe_all(photos, DescribeOptions(options.embedder, options.colours_and_edges))
    by_product = {row["product_id"]: row for row in described.to_pylist()}
    project = copy_project(options.out)
    raw = project / "data" / "01_raw" / "photos"
    for name in ("valid_answer.json", "testA_answer.json", "multimodal_labels.txt"):
        raw.mkdir(parents=True, exist_ok=True)
        shutil.copy(options.raw / name, raw)
    for split in SPLITS:
        OfficialTsvDataset(str(raw / f"{split}.tsv")).save(own_rows(pairs[split], by_product, labels))
    width = len(described["features"][0]) // len(described["class_labels"][0])
    changes = {"ingest": {"feature_size": width}, "rankers": ["bag_of_words"]}
    (project / "conf" / "photos" / "parameters_own.yml").write_text(json.dumps(changes))
    subprocess.run([sys.executable, "-m", "kedro", "run", "--env=photos"], cwd=project, check=True)
    comparison = pd.read_csv(max((project / "data/08_reporting/photos/comparison.csv").glob("*/comparison.csv")))
    print(comparison.loc[comparison["ranking"] == "bag_of_words"].to_string(index=False))


def main() -> None:
    """Run the part that the command names."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("part", choices=["speed", "rank", "one"])
    arguments.add_argument("photos", type=Path)
    arguments.add_argument("raw", type=Path, nargs="?")
    arguments.add_argument("out", type=Path, nargs="?")
    arguments.add_argument("--embedder")
    arguments.add_argument("--colours-and-edges", action="store_true")
    arguments.add_argument("--count", type=int, nargs="+", default=[500, 2000, 8000])
    options = arguments.parse_args()
    if options.part == "rank":
        rank(options)
    elif options.part == "speed":
        time_each(options)
    else:
        time_photos(options.photos, options.count[0], DescribeOptions(options.embedder, options.colours_and_edges))


if __name__ == "__main__":
    main()
