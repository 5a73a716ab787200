"""Free-text queries on the small shop: the scores of the candidates, whoever asks and however the split is cut."""

import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import pytest
import torch
from kedro.io import CatalogProtocol

from multimodal_recall.commands.find_products import best_products
from multimodal_recall.commands.search import SearchError, list_products, read_ids, search
from multimodal_recall.datasets.atomic import record_path
from multimodal_recall.evaluation.report.page import render_found
from multimodal_recall.evaluation.scoring import score_examples
from multimodal_recall.models.language_model import load_tokenizer
from multimodal_recall.models.ranker import InputSizes, Ranker, build_ranker
from tests.conftest import SMALL, open_catalog, set_options
from tests.tiny_rankers import SYSTEMS, options_of

Run = tuple[Path, Callable[..., None]]
ALL = 1_000_000


@pytest.fixture(scope="module")
def catalog(finished_project: Path) -> CatalogProtocol:
    return open_catalog(finished_project)


@pytest.fixture(scope="module")
def examples(catalog: CatalogProtocol) -> dict:
    return catalog.load("valid_examples")


def named(features: ds.Dataset) -> pa.Table:
    """The query features of a chunk with the column that a search adds."""
    table = features.to_table()
    return table.append_column("unknown_words", pa.nulls(len(table), pa.list_(pa.string())))


@pytest.fixture(params=SYSTEMS)
def ranker(request: pytest.FixtureRequest, catalog: CatalogProtocol) -> Ranker:
    """An untrained ranker of every system that fits the small shop."""
    model, trained = SYSTEMS[request.param], catalog.load("two_tower.model")
    tokenizer = load_tokenizer(str(catalog.load("language_model")), 12) if hasattr(model, "max_tokens") else None
    tokens = 0 if tokenizer is None else tokenizer.get_vocab_size()
    torch.manual_seed(0)
    sizes = InputSizes(**{**vars(trained.sizes), "tokens": tokens, "landmarks": 7})
    options = options_of(request.param)
    if hasattr(model, "image_encoder"):  # attention over boxes of 2,048 numbers takes seconds
        narrow = replace(model.image_encoder, box_size=12)
        options = replace(options, model=replace(model, image_encoder=narrow))
    ranker = build_ranker(options, sizes, tokenizer)
    vectors = (catalog.load(f"{kind}_vectors").to_table()["vector"].to_numpy() for kind in ("word", "label"))
    ranker.start(*map(np.stack, vectors))
    return ranker


def with_texts(scores: pd.DataFrame, examples: dict) -> pd.DataFrame:
    pairs = examples["chunk_000"]["pairs"].to_table(columns=["query_id", "query"]).to_pandas().drop_duplicates()
    return scores.merge(pairs, on="query_id")


def agree(found: pd.DataFrame, scores: pd.DataFrame) -> None:
    """Every scored candidate is found with its score."""
    both = scores.merge(found, on=["query", "product_id"], suffixes=("", "_found"))
    assert len(both) == len(scores) > 200
    np.testing.assert_allclose(both["score_found"], both["score"], atol=2e-5, rtol=1e-5)


def test_the_queries_of_a_split_get_the_scores_of_its_candidates(catalog: CatalogProtocol, examples: dict) -> None:
    scores = with_texts(catalog.load("two_tower.valid_scores").to_table().to_pandas(), examples)
    found = search(catalog, scores["query"].unique().tolist(), "valid", "two_tower", ALL)
    products = examples["chunk_000"]["products"].count_rows()
    assert (found.groupby("query")["product_id"].nunique() == products).all()
    agree(found, scores)
    assert (found.groupby("query")["rank"].agg(list) == pd.Series([list(range(1, products + 1))] * 8).values).all()
    assert found["unknown_words"].map(len).sum() < len(found)


def test_every_system_scores_as_it_does_for_candidates(ranker: Ranker, examples: dict) -> None:
    scores = with_texts(score_examples(ranker, examples).to_pandas(), examples)
    agree(best_products(ranker, named(examples["chunk_000"]["query_features"]), examples, ALL), scores)


def test_chunks_and_blocks_give_what_the_whole_gives(
    ranker: Ranker, examples: dict, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given three chunks of which the last has ten products of the first again
    products = examples["chunk_000"]["products"].to_table()
    cut = [products[:40], products[40:], products[:10]]
    parts = {f"chunk_{number}": {"products": ds.dataset(part)} for number, part in enumerate(cut)}
    queries = named(examples["chunk_000"]["query_features"])
    whole = best_products(ranker, queries, examples, 60)
    monkeypatch.setattr("multimodal_recall.commands.find_products.PAIRS_AT_ONCE", 100)
    chunked = best_products(ranker, queries, parts, 60)
    assert not chunked.duplicated(["query", "product_id"]).any()
    np.testing.assert_allclose(chunked["score"], whole["score"], atol=2e-5, rtol=1e-5)
    # equal but for products whose scores are equal up to rounding
    same = (chunked["product_id"] == whole["product_id"]).to_numpy()
    assert same.mean() > 0.9
    boxes = ["query", "product_id", "image_h", "image_w", "top", "labels"]
    first, second = (table.loc[same, boxes].astype(str).reset_index(drop=True) for table in (chunked, whole))
    pd.testing.assert_frame_equal(first, second)


def test_the_best_products_with_label_names_and_unknown_words(catalog: CatalogProtocol) -> None:
    found = search(catalog, ["red dress", "schwarzes kleid", "red dress"], top=3)
    assert found["query"].tolist() == ["red dress"] * 3 + ["schwarzes kleid"] * 3
    assert found["rank"].tolist() == [1, 2, 3] * 2
    assert found["unknown_words"].tolist()[-1] == ["schwarzes", "kleid"]
    assert "red" not in found["unknown_words"].tolist()[0]
    assert {name for names in found["labels"] for name in names} <= set(catalog.load("labels"))
    of_testa = catalog.load("testA_examples")["chunk_000"]["products"].to_table(columns=["product_id"])
    assert set(found["product_id"]) <= set(of_testa["product_id"].to_pylist())  # the last split by default
    longest = search(catalog, ["red " * 500], "train", top=1)
    assert len(longest) == 1


def test_a_query_of_signs_is_told_to_mean_little(catalog: CatalogProtocol) -> None:
    found = search(catalog, ["!!!"], top=2)
    assert list_products(found).splitlines()[0] == "no word in the query: the ranking means little"
    assert "No word in the query: the ranking means little." in render_found(found, "Found", Path("nowhere"))


def test_labels_stand_in_place_of_a_missing_title(catalog: CatalogProtocol) -> None:
    found = search(catalog, ["red dress"], top=3)
    assert found["title"].str.split().str.len().tolist() == [6, 6, 6]
    labels = pd.Series([["shoes", "others", "shoes"]] * 3)
    missing = pa.array(["red hat", None, ""]).to_pandas()  # as a chunk's table gives them
    lines = list_products(found.assign(title=missing, labels=labels)).splitlines()
    assert [line.rpartition("  ")[2] for line in lines] == ["title", "red hat", *["2 x shoes, 1 x others"] * 2]
    lines = list_products(found.assign(title=pa.nulls(3, pa.string()).to_pandas(), labels=labels)).splitlines()
    assert [line.rpartition("  ")[2] for line in lines] == ["labels", *["2 x shoes, 1 x others"] * 3]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"queries": [" "]}, r"query ' ': empty query\. Name the product"),
        ({"queries": ["caf\udce9"]}, r"query 'caf\\udce9': query is not UTF-8"),  # as Python reads such an argument
        ({"queries": []}, "there is no query"),
        ({"split": "testB"}, r"no products of 'testB'; this environment's data has the splits \['train', 'valid', 't"),
        ({"ranker": "mcan"}, r"no model of 'mcan' .* kedro run --params=rankers=mcan"),
        ({"ranker": "../mcam"}, r"there is no ranker '\.\./mcam'\. Did you mean 'mcan'\?"),
    ],
)
def test_what_cannot_be_searched_is_said(catalog: CatalogProtocol, how: dict, message: str) -> None:
    with pytest.raises(SearchError, match=message):
        search(catalog, **{"queries": ["red dress"], **how})


def test_a_query_is_encoded_as_those_of_the_models_training(run_copy: Run) -> None:
    project, run = run_copy
    before = search(open_catalog(project), ["cut red dress"])
    # Given a later language model, other word vectors, lengths and cleaning, of which the model knows nothing
    changed = {
        **SMALL,
        "seed": 3,
        "featurize": {"max_query_words": 1},
        "ingest": {"strip_leading_tokens": True},
        "word_vectors": {"size": 8, "epochs": 2},
    }
    run(namespaces=["language"], parameters=changed)
    run(namespaces=["valid"], parameters=changed)
    pd.testing.assert_frame_equal(search(open_catalog(project), ["cut red dress"]), before)
    # and one that is trained after it goes their way
    run(namespaces=["train"], parameters=changed)
    run(node_names=["two_tower.train"], parameters=changed)
    after = search(open_catalog(project), ["cut red dress", "red dress"])
    assert after["query"].unique().tolist() == ["red dress"]
    assert not np.allclose(after["score"], before["score"], atol=1e-3)
    record = record_path(next(project.glob("data/04_feature/shop/train/chunk_000/*/*/query_features.parquet")))
    for path in project.glob(f"data/04_feature/shop/train/chunk_000/*/*/{record.name}"):
        path.unlink()
    with pytest.raises(SearchError, match=r"is missing, .* kedro run --from-nodes=train\.chunk_000\.ingest"):
        search(open_catalog(project), ["red dress"])


def test_a_list_of_ids_that_is_not_utf8(tmp_path: Path) -> None:
    (tmp_path / "ids.txt").write_bytes(b"12\nSchl\xfcssel\n")
    with (
        (tmp_path / "ids.txt").open(encoding="utf-8") as file,
        pytest.raises(SearchError, match=r"the list of ids is not UTF-8: .*0xfc.* Save it as UTF-8"),
    ):
        read_ids(file, {})


QUERIES = ["red dress", "black leather boots", "schwarzes kleid"]


def test_the_index_finds_what_scoring_every_product_finds(catalog: CatalogProtocol, indexed_project: Path) -> None:
    with_index = open_catalog(indexed_project)
    for split in ("catalogue", "valid"):
        scored = search(catalog, QUERIES, split, top=ALL)
        found = search(with_index, QUERIES, split, top=ALL)
        assert "; every product was scored: there is no index" in scored.attrs["source"]
        assert re.search(r"^\d+ products of \w+, .*; by the index of 20\S+Z$", found.attrs["source"])
        both = found.merge(scored, on=["query", "product_id"], suffixes=("", "_scored"))
        assert len(both) == len(found) == len(scored)
        np.testing.assert_allclose(both["score"], both["score_scored"], atol=2e-3)
        for name in ("image_h", "labels", "left"):
            assert both[name].map(str).equals(both[f"{name}_scored"].map(str))
    assert "products of catalogue" in search(with_index, ["red dress"]).attrs["source"]  # the default with an index


@pytest.mark.parametrize("use_index", [False, True])
def test_labels_and_ids_choose_the_products(run_copy: Run, indexed_project: Path, use_index: bool) -> None:
    project = indexed_project if use_index else run_copy[0]
    set_options(project, SMALL)
    catalog = open_catalog(project)
    shoes = search(catalog, QUERIES, "catalogue", top=ALL, labels=["shoes"])
    every = search(catalog, QUERIES, "catalogue", top=ALL)
    has = every["labels"].map(lambda names: "shoes" in names)
    assert 0 < has.sum() < len(every)
    assert {*shoes["product_id"]} == {*every.loc[has, "product_id"]}
    both = search(catalog, QUERIES, "catalogue", top=ALL, labels=["shoes", "top clothes"])
    assert len(both) > len(shoes)
    ids = shoes["product_id"].unique()[:5].tolist()
    chosen = search(catalog, QUERIES, "catalogue", top=3, labels=["shoes"], product_ids=[*ids, 123456789])
    assert {*chosen["product_id"]} <= {*ids}
    assert len(chosen) == 3 * len(QUERIES)
    with pytest.raises(SearchError, match="no product of catalogue has such a label or id"):
        search(catalog, QUERIES, "catalogue", product_ids=[])
    with pytest.raises(SearchError, match=r"there is no label 'shoe'\. Did you mean 'shoes'\?"):
        search(catalog, QUERIES, labels=["shoe"])


def test_an_index_of_another_model_or_of_other_products_is_not_used(indexed: Run) -> None:
    project, run = indexed
    run(node_names=["train.chunk_001.ingest"])
    source = search(open_catalog(project), ["red dress"]).attrs["source"]
    assert source.endswith("the index is of other products. Make it anew: kedro run --pipelines=index")
    assert search(open_catalog(project), ["red dress"], "valid").attrs["source"].count("by the index") == 1
    run(node_names=["two_tower.train"], parameters={**SMALL, "seed": 3})
    source = search(open_catalog(project), ["red dress"], "valid").attrs["source"]
    assert re.search(r"the index is of the model of 20\S+Z\. Make it anew: kedro run --pipelines=index$", source)
