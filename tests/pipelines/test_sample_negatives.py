from pathlib import Path
from typing import get_args

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import IngestOptions, NegativeKind, NegativeOptions
from multimodal_recall.data.consistency import ExamplesError
from multimodal_recall.data.schemas import TABLES, distinct_queries
from multimodal_recall.negatives.drawing import NegativeError
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk
from multimodal_recall.pipelines.sample_negatives.nodes import list_examples, sample_chunk
from tests.conftest import make_row
from tests.pipelines.test_ingest import tsv_of

LABELS = [*(f"label {number}" for number in range(28)), "others", *(f"label {number}" for number in range(29, 33))]


@pytest.fixture(scope="module")
def chunk(tmp_path_factory: pytest.TempPathFactory) -> dict[str, ds.Dataset]:
    rows = [make_row(product, 1 + product % 4, query=f"query {product % 30}") for product in range(90)]
    tsv = tsv_of(tmp_path_factory.mktemp("raw") / "t.tsv", *rows)
    made = ingest_chunk(tsv, LABELS, IngestOptions(feature_size=8), chunk=Chunk("train", 0, 1))
    return {"products": ds.dataset(made["products"]), "pairs": ds.dataset(made["pairs"]), **features_of(made["pairs"])}


def features_of(pairs: pa.Table) -> dict[str, ds.Dataset]:
    """Two far clusters of query vectors."""
    queries = distinct_queries(pairs)
    vectors = np.eye(2)[np.arange(len(queries)) % 2] + np.random.default_rng(0).normal(0, 0.01, (len(queries), 2))
    table = pa.table([queries, list(vectors.astype(np.float16)), [[0]] * len(queries)], TABLES["query_features"])
    return {"query_features": ds.dataset(table)}


def sample(
    chunk: dict[str, ds.Dataset],
    seed: int = 0,
    number: int = 0,
    kind: str = "label_sharing",
    **how: object,
) -> pa.Table:
    tables = (chunk[table] for table in ("products", "pairs", "query_features"))
    return sample_chunk(*tables, LABELS, NegativeOptions(kinds=(kind,), **how), seed, Chunk("train", number, 4))


def drawn_pairs(samples: pa.Table) -> pd.DataFrame:
    return samples.to_pandas().explode("wrong_rows")


def test_every_epoch_and_kind_has_a_row_a_pair(chunk: dict[str, ds.Dataset]) -> None:
    tables = (chunk[table] for table in ("products", "pairs", "query_features"))
    options = NegativeOptions(kinds=("random", "same_cluster"), negatives_per_positive=3, epochs=2)
    table = sample_chunk(*tables, LABELS, options, 0, Chunk("train", 0, 4))
    assert table.schema.equals(TABLES["samples"])
    samples = table.to_pandas()
    pairs = chunk["pairs"].to_table().to_pandas()
    groups = samples.groupby(["epoch", "kind"])
    assert list(groups.groups) == [(0, "random"), (0, "same_cluster"), (1, "random"), (1, "same_cluster")]
    for _, drawn in groups:
        np.testing.assert_array_equal(drawn[["query_row", "product_row"]], pairs[["query_row", "product_row"]])
        assert (drawn["wrong_rows"].str.len() == 3).all()


@pytest.mark.parametrize("kind", get_args(NegativeKind))
def test_no_right_answer_is_ever_drawn_as_a_wrong_one(chunk: dict[str, ds.Dataset], kind: str) -> None:
    right = set(map(tuple, chunk["pairs"].to_table().to_pandas()[["query_row", "product_row"]].to_numpy()))
    assert not right & set(
        map(tuple, drawn_pairs(sample(chunk, kind=kind, epochs=20))[["query_row", "wrong_rows"]].to_numpy())
    )


def test_a_kind_is_drawn_the_same_beside_others(chunk: dict[str, ds.Dataset]) -> None:
    tables = [chunk[table] for table in ("products", "pairs", "query_features")]
    both = NegativeOptions(kinds=("random", "label_sharing"), epochs=1)
    both = sample_chunk(*tables, LABELS, both, 0, Chunk("train", 0, 4))
    alone = sample(chunk, epochs=1)
    assert both.filter(pa.compute.equal(both["kind"], "label_sharing")).equals(alone)


def test_every_epoch_seed_and_chunk_draws_anew_and_the_same_again(chunk: dict[str, ds.Dataset]) -> None:
    one = sample(chunk, epochs=2)
    assert one.equals(sample(chunk, epochs=2))
    first, second = (one.filter(pa.compute.equal(one["epoch"], epoch))["wrong_rows"] for epoch in (0, 1))
    assert not first.equals(second)
    assert not one.equals(sample(chunk, epochs=2, seed=1))
    assert not one.equals(sample(chunk, epochs=2, number=1))
    # an epoch's draw does not depend on how many others are made
    assert sample(chunk, epochs=1)["wrong_rows"].to_pylist() == first.to_pylist()


def test_a_misspelt_label_is_refused_and_hard_negatives_are_never_quietly_off(chunk: dict[str, ds.Dataset]) -> None:
    with pytest.raises(NegativeError, match=r"ignored_labels names \['otters'\], no label of"):
        sample(chunk, ignored_labels=("otters",))


def test_what_is_replaced_by_chance_is_counted(chunk: dict[str, ds.Dataset], caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO", "multimodal_recall")
    sample(chunk, epochs=1, ignored_labels=tuple(LABELS))
    assert "sample_negatives train.chunk_000 (1 of 4): 90 of each kind" in caplog.text
    assert "90 label_sharing are random, since no wrong product fits (100%)" in caplog.text


def test_similar_queries_are_drawn_from_on_demand(chunk: dict[str, ds.Dataset]) -> None:
    # "query 0" to "query 29": all share a word, and a chunk of the same 30 texts has no other products
    samples = drawn_pairs(sample(chunk, kind="similar_query", epochs=20, similar_queries=5))
    pairs = chunk["pairs"].to_table().to_pandas()
    text_of = pairs.set_index("product_row")["query_row"]
    drawn_texts = samples.assign(text=text_of[samples["wrong_rows"]].to_numpy()).groupby("query_row")["text"].nunique()
    assert drawn_texts.between(2, 6).all()


def test_the_cluster_of_a_drawn_product_is_the_querys(chunk: dict[str, ds.Dataset]) -> None:
    samples = drawn_pairs(sample(chunk, kind="same_cluster", epochs=20, queries_per_cluster=15))
    text_of = chunk["pairs"].to_table().to_pandas().set_index("product_row")["query_row"]
    drawn = text_of[samples["wrong_rows"]].to_numpy()
    assert (drawn % 2 == samples["query_row"] % 2).all()
    assert len(set(drawn)) == 30


def chunks_of(path: Path, count: int, products: range) -> dict[str, dict[str, ds.Dataset]]:
    tsv = tsv_of(path, *(make_row(product, query=f"query {product % 9}") for product in products))
    made = {}
    for number in range(count):
        part = Chunk("train", number, count)
        tables = ingest_chunk(tsv, LABELS, IngestOptions(feature_size=8), chunk=part)
        features = features_of(tables["pairs"])
        tables = {name: ds.dataset(tables[name]) for name in ("products", "pairs")}
        made[part.name] = {
            **tables,
            "samples": ds.dataset(sample({**tables, **features}, number=part.number, epochs=1)),
        }
    return made


KINDS = ("products", "pairs", "samples")


def list_them(tables: dict[str, dict[str, ds.Dataset]]) -> dict[str, dict[str, ds.Dataset]]:
    chunks = [Chunk("train", number, len(tables)) for number in range(len(tables))]
    rejected = ds.dataset(pa.table({}))
    listed = (tables[chunk.name][kind] for chunk in chunks for kind in KINDS)
    return list_examples(rejected, *listed, chunks=chunks, kinds=KINDS)


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


def test_a_candidate_that_stands_in_two_chunks_is_refused(tmp_path: Path) -> None:
    rows = [make_row(product, query_id=product // 10, query=f"query {product // 10}") for product in [*range(60), 3]]
    tsv = tsv_of(tmp_path / "t.tsv", *rows)
    chunks = [Chunk("valid", number, 3) for number in range(3)]
    made = [ingest_chunk(tsv, LABELS, IngestOptions(feature_size=8), chunk=chunk) for chunk in chunks]
    tables = [ds.dataset(tables[kind]) for tables in made for kind in ("products", "pairs")]
    with pytest.raises(
        ExamplesError,
        match=r"1 candidates of valid stand in two chunks, first query 0, product 3 in valid\.chunk_000 and "
        r"valid\.chunk_002\. Keep one row of each",
    ):
        list_examples(ds.dataset(pa.table({})), *tables, chunks=chunks, kinds=("products", "pairs"))
