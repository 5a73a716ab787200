"""Approximate search: with all cells it is exact search, with some it says what it misses."""

import json
from collections import Counter
from pathlib import Path

import faiss
import numpy as np
import pytest
from kedro.io import Version

from multimodal_recall.config.options import IndexOptions
from multimodal_recall.config.rankers import MULTIPLIED
from multimodal_recall.datasets import atomic, cells_folder
from multimodal_recall.datasets.atomic import DamagedError
from multimodal_recall.datasets.cells_folder import FILE, CellsFolder
from multimodal_recall.datasets.digests import digest_file
from multimodal_recall.models.cells import Cells, CellsError, build_cells, share_found
from multimodal_recall.models.index import EncodingError, IndexChunk, ProductIndex, search_index
from multimodal_recall.models.indexable import DotRanker
from tests.models.test_index import INDEXED, Equal
from tests.tiny_rankers import SYSTEMS, make_ranker, options_of

WIDTH, RANDOM = 8, np.random.default_rng(0)
ALL = IndexOptions(approximate=True, cells=9, probes=9)


class Scaled(Equal):
    scale = 3.0


def chunk(name: str, ids: np.ndarray, values: np.ndarray) -> IndexChunk:
    order = np.argsort(ids)
    return IndexChunk("x", "m", "p", ids[order], values[order].astype(np.float16), False, Path(f"/{name}/v/encoded"))


IDS = np.unique(RANDOM.integers(-(2**62), 2**62, 700))
VALUES = RANDOM.normal(size=(len(IDS), WIDTH)).astype(np.float16)
MIXED = RANDOM.permutation(len(IDS))
PARTS = {"a": MIXED[:300], "b": MIXED[250:500], "c": MIXED[500:]}  # a and b share products


@pytest.fixture(scope="module")
def index() -> ProductIndex:
    return ProductIndex("x", "m", {name: chunk(name, IDS[rows], VALUES[rows]) for name, rows in PARTS.items()})


@pytest.fixture(scope="module")
def differing() -> ProductIndex:
    """An index whose chunks have other vectors of the products that they share."""
    random = np.random.default_rng(1)
    chunks = {name: chunk(name, IDS[rows], random.normal(size=(len(rows), WIDTH))) for name, rows in PARTS.items()}
    return ProductIndex("x", "m", chunks)


@pytest.fixture(scope="module")
def queries() -> np.ndarray:
    return RANDOM.normal(size=(6, WIDTH)).astype(np.float32)


def both(cells: Cells, index: ProductIndex, queries: np.ndarray, masks: dict, top: int) -> list:
    chunks = [(index.chunks[name], mask) for name, mask in masks.items()]
    return [search(Scaled(), queries, chunks, top) for search in (cells.search, search_index)]


NO_MASK = dict.fromkeys(PARTS)


@pytest.mark.parametrize("top", [1, 10, 5000])
@pytest.mark.parametrize(
    "masks",
    [
        NO_MASK,
        {"b": None},
        {name: np.arange(len(rows)) % 3 == 0 for name, rows in PARTS.items()},
        {"a": np.arange(300) == 7, "b": np.zeros(250, bool)},
    ],
    ids=["all", "one chunk", "a third", "one product"],
)
@pytest.mark.parametrize("name", ["index", "differing"])
def test_with_all_cells_it_is_exact_search(
    request: pytest.FixtureRequest, name: str, queries: np.ndarray, masks: dict, top: int
) -> None:
    index = request.getfixturevalue(name)
    found, best = both(build_cells(index, ALL), index, queries, masks, top)
    np.testing.assert_array_equal(found[0], best[0])
    np.testing.assert_allclose(found[1], best[1], rtol=1e-5, atol=1e-5)


def test_with_some_cells_it_finds_a_part_and_as_many_as_are_wanted(index: ProductIndex, queries: np.ndarray) -> None:
    cells = build_cells(index, IndexOptions(approximate=True, cells=50, probes=1))
    found, best = both(cells, index, queries, NO_MASK, 10)
    assert 0 < share_found(found[0], best[0]) < 1
    found, best = both(cells, index, queries, NO_MASK, 400)  # more than a cell holds
    assert found[0].shape == best[0].shape == (6, 400)
    assert all(len({*row}) == 400 for row in found[0].tolist())


def test_a_narrow_filter_costs_no_recall(index: ProductIndex, queries: np.ndarray) -> None:
    cells = build_cells(index, IndexOptions(approximate=True, cells=50, probes=5))
    masks = {name: np.arange(len(rows)) % 20 == 0 for name, rows in PARTS.items()}
    found, best = both(cells, index, queries, masks, 10)
    np.testing.assert_array_equal(found[0], best[0])


def test_of_equal_scores_the_lower_ids_come_first(queries: np.ndarray) -> None:
    ids = np.arange(40)[::-1]
    index = ProductIndex("x", "m", {"a": chunk("a", ids, np.ones((40, WIDTH)))})
    found, _ = both(build_cells(index, ALL), index, queries, {"a": None}, 40)
    assert found[0].tolist() == [[*range(40)]] * 6


def test_the_numbers_of_cells_follow_from_the_products(index: ProductIndex) -> None:
    cells, vectors = build_cells(index, IndexOptions(approximate=True)), sum(map(len, PARTS.values()))
    assert cells.file.nlist == round(2 * len(IDS) ** 0.5)
    assert cells.probes == cells.file.nlist  # fewer than the 64 of the options
    assert cells.file.ntotal == len(cells.product_ids) == vectors > len(IDS)
    assert cells.most_chunks == 2
    one = ProductIndex("x", "m", {"a": chunk("a", IDS[:1], VALUES[:1])})
    assert build_cells(one, IndexOptions(approximate=True)).file.nlist == 1


def empty(name: str) -> IndexChunk:
    """A chunk whose rows have all been rejected, as ``encode_catalogue`` encodes it."""
    return IndexChunk("x", "m", "p", np.empty(0, np.int64), np.empty(0, np.float16), False, Path(f"/{name}/v/encoded"))


def test_chunks_without_products_are_left_out(index: ProductIndex, queries: np.ndarray) -> None:
    index = ProductIndex("x", "m", {"first": empty("first"), **index.chunks, "last": empty("last")})
    found, best = both(build_cells(index, ALL), index, queries, dict.fromkeys(index.chunks), 10)
    np.testing.assert_array_equal(found[0], best[0])
    with pytest.raises(CellsError, match="the index of x has no product"):
        build_cells(ProductIndex("x", "m", {"first": empty("first")}), ALL)


def test_a_query_that_cannot_be_compared_is_refused(index: ProductIndex, queries: np.ndarray) -> None:
    with pytest.raises(EncodingError, match="encodes a query as NaN or infinite"):
        build_cells(index, ALL).search(Scaled(), queries * np.nan, [], 5)


def saved(index: ProductIndex, folder: Path) -> CellsFolder:
    dataset = CellsFolder(str(folder / "cells"), Version(None, None))
    dataset.save(build_cells(index, ALL))
    return CellsFolder(str(folder / "cells"), Version(None, None))


def test_the_file_comes_back(index: ProductIndex, queries: np.ndarray, tmp_path: Path) -> None:
    cells = saved(index, tmp_path).load()
    assert cells.starts == {Path("/a/v/encoded"): 0, Path("/b/v/encoded"): 300, Path("/c/v/encoded"): 550}
    found, best = both(cells, index, queries, NO_MASK, 20)
    np.testing.assert_array_equal(found[0], best[0])
    assert saved(index, tmp_path).preview()["data"][0][:2] == ["9", "2"]


def test_the_file_is_hashed_once_a_load_and_guarded_with_a_record_or_without(
    index: ProductIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = CellsFolder(str(tmp_path / "cells"), Version(None, None))
    dataset.new_record = {"node": "x.part_index"}
    dataset.save(build_cells(index, ALL))
    hashed = Counter()
    for module in (atomic, cells_folder):
        monkeypatch.setattr(module, "digest_file", lambda file: hashed.update([file.name]) or digest_file(file))
    dataset.load()
    assert hashed == {FILE: 1, "product_ids.npy": 1, "facts.json": 1}
    dataset.verify_whole(dataset.load_path())
    file = dataset.load_path() / FILE
    file.write_bytes(file.read_bytes()[:-1] + b"?")
    for compare in (dataset.load, lambda: dataset.verify_whole(dataset.load_path())):
        with pytest.raises(DamagedError, match=r"cells.faiss is damaged: .* with: kedro run --pipelines=index"):
            compare()
    file.unlink()
    with pytest.raises(DamagedError, match=r"cells.faiss is gone\. .* with: kedro run --pipelines=index"):
        dataset.load()


def test_cells_of_another_version_of_the_code_are_named(index: ProductIndex, tmp_path: Path) -> None:
    dataset = saved(index, tmp_path)
    facts = dataset.load_path() / "facts.json"
    old = json.loads(facts.read_text()) | {"made_of": {"a": "v"}}
    facts.write_text(json.dumps({name: old[name] for name in ("probes", "made_of", "recall", "queries", "digest")}))
    with pytest.raises(DamagedError, match=r"another version of the code\. .* with: kedro run --pipelines=index"):
        dataset.load()


def test_faiss_reads_no_file_that_is_not_the_saved_one(
    index: ProductIndex, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset = saved(index, tmp_path)
    file = dataset.load_path() / FILE
    whole = file.read_bytes()
    file.write_bytes(whole[:99] + bytes([whole[99] ^ 1]) + whole[100:])
    monkeypatch.setattr(faiss, "read_index", lambda *_: pytest.fail("faiss has read a damaged file"))
    with pytest.raises(DamagedError, match=r"cells.faiss is damaged: .* with: kedro run --pipelines=index"):
        dataset.load()


def test_without_faiss_the_extra_is_named(index: ProductIndex, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "faiss", None)
    with pytest.raises(CellsError, match=r'pip install -e "\.\[index\]", or set index.approximate to false'):
        build_cells(index, ALL)


def test_the_systems_that_multiply_vectors() -> None:
    rankers = {name: make_ranker(options=options_of(name)) for name in INDEXED}
    multiplied = {
        SYSTEMS[name].kind
        for name, ranker in rankers.items()
        if isinstance(ranker, DotRanker) and not ranker.word_major and type(ranker).compare is DotRanker.compare
    }
    assert multiplied == {*MULTIPLIED}
