import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.config.systems import TwoTowerOptions
from multimodal_recall.data.examples import ROWS_AT_ONCE, read_products
from multimodal_recall.data.schemas import TABLES
from multimodal_recall.datasets.parquet_table import open_table
from multimodal_recall.negatives.drawing import NegativeError
from multimodal_recall.negatives.mixing import mixture, read_samples

PAIRS = 400


def options(**changes: object) -> RankerOptions:
    return RankerOptions(TwoTowerOptions(), **changes)


@pytest.fixture(scope="module")
def tables() -> dict[str, ds.Dataset]:
    """Two epochs of two kinds, three wrong ones a pair, each number telling epoch, kind, pair and place."""
    parts = [
        pa.table(
            [
                [epoch] * PAIRS,
                [kind] * PAIRS,
                list(range(PAIRS)),
                list(range(PAIRS)),
                [
                    [1_000_000 * epoch + 100_000 * code + 10 * pair + place for place in range(3)]
                    for pair in range(PAIRS)
                ],
            ],
            TABLES["samples"],
        )
        for epoch in range(2)
        for code, kind in enumerate(("random", "label_sharing"), start=1)
    ]
    return {"samples": ds.dataset(pa.concat_tables(parts))}


def wrong(tables: dict[str, ds.Dataset], epoch: int, how: RankerOptions, seed: int = 0) -> np.ndarray:
    pairs = read_samples(tables, epoch, how, np.random.default_rng(seed))
    k = how.negatives_per_positive
    groups = pairs.product_rows.reshape(PAIRS, k + 1)
    np.testing.assert_array_equal(groups[:, 0], np.arange(PAIRS))
    np.testing.assert_array_equal(
        pairs.query_rows.reshape(PAIRS, k + 1), np.arange(PAIRS)[:, None].repeat(k + 1, axis=1)
    )
    np.testing.assert_array_equal(pairs.relevance.reshape(PAIRS, k + 1), [[1] + [0] * k] * PAIRS)
    assert pairs.negatives_per_positive == k
    return groups[:, 1:]


def test_a_pair_is_followed_by_its_own_draws(tables: dict[str, ds.Dataset]) -> None:
    drawn = wrong(tables, 1, options(negatives_per_positive=2))
    np.testing.assert_array_equal(drawn, 1_200_000 + 10 * np.arange(PAIRS)[:, None] + np.arange(2))


def test_epochs_start_over_or_stay_with_the_first_draw(tables: dict[str, ds.Dataset]) -> None:
    np.testing.assert_array_equal(wrong(tables, 2, options()), wrong(tables, 0, options()))
    static = options(fresh_negatives=False)
    np.testing.assert_array_equal(wrong(tables, 1, static), wrong(tables, 0, options()))


def test_without_negatives_there_are_right_pairs_alone(tables: dict[str, ds.Dataset]) -> None:
    # and no kind needs to have been drawn
    assert wrong(
        tables, 0, options(negatives_per_positive=0, negatives={"same_cluster": 1}, loss="in_batch_softmax")
    ).shape == (PAIRS, 0)


def test_kinds_are_mixed_by_weight_pair_by_pair(tables: dict[str, ds.Dataset]) -> None:
    how = options(negatives={"random": 3, "label_sharing": 1}, negatives_per_positive=3)
    drawn = wrong(tables, 0, how)
    kind = drawn // 100_000
    assert np.bincount(kind.ravel(), minlength=3)[1] / drawn.size == pytest.approx(0.75, abs=0.06)
    np.testing.assert_array_equal(drawn % 10, np.tile(np.arange(3), (PAIRS, 1)))
    np.testing.assert_array_equal(drawn, wrong(tables, 0, how))
    assert (drawn != wrong(tables, 0, how, seed=1)).any()


def test_a_mixture_moves_evenly_from_first_to_last_epoch() -> None:
    how = options(negatives={"random": 2}, negatives_at_end={"random": 1, "same_last_word": 3}, epochs=5)
    assert mixture(how, 0) == {"random": 1}
    assert mixture(how, 2) == pytest.approx({"random": 0.625, "same_last_word": 0.375})
    assert mixture(how, 4) == pytest.approx({"random": 0.25, "same_last_word": 0.75})


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"negatives": {"same_cluster": 1}}, r"negatives name \['same_cluster'\], but the samples hold"),
        ({"negatives_per_positive": 4}, "takes 4 negatives a right pair, but 3 were drawn. Set sample_negatives"),
    ],
)
def test_what_was_not_drawn_is_not_made_up(tables: dict[str, ds.Dataset], how: dict, message: str) -> None:
    with pytest.raises(NegativeError, match=message):
        wrong(tables, 0, options(**how))


def products_of(boxes: np.ndarray, features: np.ndarray) -> pa.Table:
    """Products (P,) with so many boxes each, and the features (boxes, F) float16 of all."""
    parts = np.split(features, np.cumsum(boxes)[:-1])
    sides = [np.ones(count, np.float32).tolist() for count in boxes]
    one = np.ones(len(boxes), np.int32)
    columns = {
        "product_id": np.arange(len(boxes)),
        "image_h": one,
        "image_w": one,
        "features": [p.tobytes() for p in parts],
    }
    columns |= dict.fromkeys(("top", "left", "bottom", "right"), sides) | {"labels": [[0] * count for count in boxes]}
    columns |= dict.fromkeys(("title", "sku"), [None] * len(boxes))
    return pa.table({field.name: pa.array(columns[field.name], field.type) for field in TABLES["products"]})


@pytest.mark.parametrize("rows_of_a_group", [1, 7, 10 * ROWS_AT_ONCE])
def test_features_are_those_of_the_file_whatever_its_row_groups(tmp_path: Path, rows_of_a_group: int) -> None:
    random = np.random.default_rng(0)
    boxes = random.integers(1, 5, 2 * ROWS_AT_ONCE + 3)
    features = random.normal(size=(boxes.sum(), 6)).astype(np.float16)
    pq.write_table(products_of(boxes, features), tmp_path / "products.parquet", row_group_size=rows_of_a_group)
    arrays = read_products(open_table(tmp_path / "products.parquet"))
    np.testing.assert_array_equal(arrays.features, features)
    np.testing.assert_array_equal(arrays.box_counts, boxes)


def test_products_with_other_numbers_than_their_boxes_are_refused(tmp_path: Path) -> None:
    products = products_of(np.array([2, 1]), np.ones((3, 4), np.float16))
    torn = [bytes(8 * count) for count in (2, 2)]  # the second product has numbers for two boxes
    column = pa.array(torn, TABLES["products"].field("features").type)
    pq.write_table(products.set_column(products.column_names.index("features"), "features", column), tmp_path / "p")
    with pytest.raises(ValueError, match="cannot reshape"):
        read_products(open_table(tmp_path / "p"))


PEAK = """
import sys, resource
from pathlib import Path
from multimodal_recall.data.examples import read_products
from multimodal_recall.datasets.parquet_table import open_table

def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)

read_products(open_table(Path(sys.argv[1])))
before = peak()
features = read_products(open_table(Path(sys.argv[2]))).features
print((peak() - before) / features.nbytes)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no module resource")
def test_memory_holds_the_features_of_a_chunk_once(tmp_path: Path) -> None:
    files = [tmp_path / "small.parquet", tmp_path / "large.parquet"]
    for file, products in zip(files, (10, 40_000), strict=True):
        pq.write_table(
            products_of(np.ones(products, int), np.ones((products, 2048), np.float16)), file, row_group_size=4_000
        )
    finished = subprocess.run(
        [sys.executable, "-c", PEAK, *map(str, files)], capture_output=True, text=True, check=True
    )
    assert float(finished.stdout) < 1.6  # 164 MB, and the row groups and columns that are being read
