import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from multimodal_recall.layout import Chunk
from multimodal_recall.negatives import NegativeError
from multimodal_recall.options import IngestOptions, NegativeOptions
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk
from multimodal_recall.pipelines.sample_negatives.nodes import list_examples_of, sample_chunk
from multimodal_recall.tables import TABLES
from tests.conftest import make_row
from tests.pipelines.test_ingest import tsv_of

LABELS = [*(f"label {number}" for number in range(28)), "others", *(f"label {number}" for number in range(29, 33))]


@pytest.fixture(scope="module")
def chunk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ds.Dataset]:
    rows = [make_row(product, 1 + product % 4, query=f"query {product % 30}") for product in range(90)]
    tsv = tsv_of(tmp_path_factory.mktemp("raw") / "t.tsv", *rows)
    made = ingest_chunk(tsv, LABELS, IngestOptions(feature_size=8), Chunk("train", 0, 1))
    return {"products": ds.dataset(made["products"]), "pairs": ds.dataset(made["pairs"])}


def sample(chunk: dict[str, ds.Dataset], seed: int = 0, name: str = "train.chunk_000", **options: object) -> pa.Table:
    return sample_chunk(chunk["products"], chunk["pairs"], LABELS, NegativeOptions(**options), seed, name)


def test_each_right_pair_is_followed_by_its_wrong_ones_in_every_epoch(chunk: dict[str, ds.Dataset]) -> None:
    table = sample(chunk, negatives_per_positive=3, epochs=2)
    assert table.schema.equals(TABLES["samples"])
    samples = table.to_pandas()
    assert samples.groupby("epoch").size().to_dict() == {0: 360, 1: 360}
    pairs = chunk["pairs"].to_table().to_pandas()
    for _, epoch in samples.groupby("epoch"):
        groups = epoch.to_numpy().reshape(90, 4, -1)
        np.testing.assert_array_equal(groups[:, :, 1], pairs[["query_row"]].to_numpy().repeat(4, axis=1))
        np.testing.assert_array_equal(groups[:, 0, 2], pairs["product_row"])
        np.testing.assert_array_equal(groups[:, :, 3], np.tile([1, 0, 0, 0], (90, 1)))


def test_no_right_answer_is_ever_drawn_as_a_wrong_one(chunk: dict[str, ds.Dataset]) -> None:
    samples = sample(chunk, epochs=20).to_pandas()
    right = set(map(tuple, chunk["pairs"].to_table().to_pandas()[["query_row", "product_row"]].to_numpy()))
    wrong = samples[samples["relevance"] == 0]
    assert not right & set(map(tuple, wrong[["query_row", "product_row"]].to_numpy()))


def test_every_epoch_seed_and_chunk_draws_anew_and_the_same_again(chunk: dict[str, ds.Dataset]) -> None:
    one = sample(chunk, epochs=2)
    assert one.equals(sample(chunk, epochs=2))
    first, second = (one.filter(pa.compute.equal(one["epoch"], epoch))["product_row"] for epoch in (0, 1))
    assert not first.equals(second)
    assert not one.equals(sample(chunk, epochs=2, seed=1))
    assert not one.equals(sample(chunk, epochs=2, name="train.chunk_001"))
    # an epoch's draw does not depend on how many others are made
    assert sample(chunk, epochs=1)["product_row"].to_pylist() == first.to_pylist()


def test_a_misspelt_label_is_refused_and_hard_negatives_are_never_quietly_off(chunk: dict[str, ds.Dataset]) -> None:
    with pytest.raises(NegativeError, match=r"ignored_labels names \['otters'\], no label of"):
        sample(chunk, ignored_labels=("otters",))


def test_what_is_replaced_by_chance_is_counted(chunk: dict[str, ds.Dataset], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "multimodal_recall")
    sample(chunk, epochs=1, ignored_labels=tuple(LABELS))
    assert "train.chunk_000: 90 of 90 wrong products share no label and are random" in caplog.text


def test_a_list_groups_the_tables_of_each_chunk(chunk: dict[str, ds.Dataset]) -> None:
    chunks = [Chunk("train", 0, 2), Chunk("train", 1, 2)]
    one, two, three, four = (object() for _ in range(4))
    listed = list_examples_of(chunks, ("products", "pairs"))(one, two, three, four)
    assert listed == {"chunk_000": {"products": one, "pairs": two}, "chunk_001": {"products": three, "pairs": four}}
