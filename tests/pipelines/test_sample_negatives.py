from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from multimodal_recall.layout import Chunk
from multimodal_recall.negatives import NegativeError
from multimodal_recall.options import IngestOptions, NegativeOptions
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk
from multimodal_recall.pipelines.sample_negatives.nodes import ExamplesError, list_examples_of, sample_chunk
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
    assert "train.chunk_000: 90 of 90 wrong products are random, for want of a label-sharing one" in caplog.text


def test_similar_queries_are_drawn_from_on_demand(chunk: dict[str, ds.Dataset]) -> None:
    # "query 0" to "query 29": all share a word, and a chunk of the same 30 texts has no other products
    samples = sample(chunk, kind="similar_query", epochs=20, similar_queries=5).to_pandas()
    pairs = chunk["pairs"].to_table().to_pandas()
    text_of = pairs.set_index("product_row")["query_row"]
    wrong = samples[samples["relevance"] == 0]
    drawn_texts = wrong.assign(text=text_of[wrong["product_row"]].to_numpy()).groupby("query_row")["text"].nunique()
    assert drawn_texts.between(2, 6).all()


def chunks_of(path: Path, count: int, products: range) -> dict[str, dict[str, ds.Dataset]]:
    tsv = tsv_of(path, *(make_row(product, query=f"query {product % 9}") for product in products))
    made = {}
    for number in range(count):
        part = Chunk("train", number, count)
        tables = ingest_chunk(tsv, LABELS, IngestOptions(feature_size=8), part)
        tables = {name: ds.dataset(tables[name]) for name in ("products", "pairs")}
        samples = sample_chunk(
            tables["products"], tables["pairs"], LABELS, NegativeOptions(epochs=1), 0, part.namespace
        )
        made[part.name] = {**tables, "samples": ds.dataset(samples)}
    return made


KINDS = ("products", "pairs", "samples")


def list_them(tables: dict[str, dict[str, ds.Dataset]]) -> dict[str, dict[str, ds.Dataset]]:
    chunks = [Chunk("train", number, len(tables)) for number in range(len(tables))]
    rejected = ds.dataset(pa.table({}))
    return list_examples_of(chunks, KINDS)(rejected, *(tables[chunk.name][kind] for chunk in chunks for kind in KINDS))


def test_a_list_groups_the_tables_of_each_chunk(tmp_path: Path) -> None:
    tables = chunks_of(tmp_path / "t.tsv", 2, range(60))
    assert list_them(tables) == tables


def test_tables_of_other_pairs_are_refused(tmp_path: Path) -> None:
    # Given that chunk_001 was ingested again from a changed file, and its samples are still the old ones
    tables, newer = chunks_of(tmp_path / "t.tsv", 2, range(60)), chunks_of(tmp_path / "t.tsv", 2, range(1, 61))
    tables["chunk_001"] |= {kind: newer["chunk_001"][kind] for kind in ("products", "pairs")}
    with pytest.raises(ExamplesError, match=r"samples of train\.chunk_001 are not of the same pairs as its products"):
        list_them(tables)


def test_chunks_of_different_cuts_are_refused(tmp_path: Path) -> None:
    three, two = (chunks_of(tmp_path / "t.tsv", count, range(60)) for count in (3, 2))
    with pytest.raises(ExamplesError, match=r"different cuts \(train\.chunk_000: 2 chunks .*; train\.chunk_001, train"):
        list_them({**three, "chunk_000": two["chunk_000"]})
    with pytest.raises(ExamplesError, match=r"cut into 3 chunks of t\.tsv, \d+ bytes, chunks\.train is 2"):
        list_them({name: three[name] for name in ("chunk_000", "chunk_001")})
