import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds
import pytest

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.loader import RememberingConfigLoader
from multimodal_recall.config.options import (
    HardwareOptions,
    IngestOptions,
    LanguageModelOptions,
    QueryOptions,
    WordVectorOptions,
)
from multimodal_recall.data.schemas import TABLES, distinct_queries
from multimodal_recall.models.query_features import featurize_queries
from multimodal_recall.pipelines.featurize.nodes import (
    average_label_words,
    collect_queries,
    encode_part,
    featurize_chunk,
    list_vectors,
    make_word_vectors,
    prepare_language_model,
)
from tests.conftest import copy_project, forced_hardware, forced_options, make_row
from tests.pipelines.test_ingest import tsv_of

pytestmark = pytest.mark.precision


def forced() -> HardwareOptions:
    return HardwareOptions(**forced_options())


WORDS = ds.dataset(
    pa.table(
        [["<unknown>", "red", "shirt", "shoes"], [[0.0, 0.0], [1.0, 0.0], [0.0, 2.0], [4.0, 4.0]]],
        TABLES["word_vectors"],
    )
)


def test_queries_are_counted_in_order_of_appearance(tmp_path: Path) -> None:
    queries = ["red shirt", "blue hat", "red shirt", "& blue hat"]
    tsv = tsv_of(tmp_path / "t.tsv", *(make_row(number, query=query) for number, query in enumerate(queries)))
    tsv.path.write_bytes(tsv.path.read_bytes() + b"a\tb\tcut row\n" + b"\t" * 7 + b"caf\xe9\t1\n")
    plain = collect_queries(tsv, IngestOptions())
    assert plain.to_pydict() == {"query": ["red shirt", "blue hat", "& blue hat"], "rows": [2, 1, 1]}
    cleaned = collect_queries(tsv, IngestOptions(strip_leading_tokens=True))
    assert cleaned.to_pydict() == {"query": ["red shirt", "blue hat"], "rows": [2, 2]}


def test_a_label_is_the_mean_of_its_known_words() -> None:
    table = average_label_words(["red shirt", "shoes (boots, etc.)", "furniture"], WORDS)
    assert table["vector"].to_pylist() == [[0.5, 1.0], [4.0, 4.0], [0.0, 0.0]]


def test_distinct_queries_follow_query_row() -> None:
    pairs = pa.table({"query": ["b", "a", "b", "c"], "query_row": pa.array([0, 1, 0, 2], pa.int32())})
    assert distinct_queries(pairs) == ["b", "a", "c"]


def save_language_model(path: Path, checkpoints: Path) -> Path:
    options = LanguageModelOptions(hidden_size=16, layers=2, heads=2, pretrain_epochs=1)
    queries = ds.dataset(pa.table([["red shirt", "blue hat"], [1, 1]], TABLES["queries"]))
    for part in prepare_language_model(queries, options, forced(), 0, str(checkpoints)):
        part.save_pretrained(path)
    return path


@pytest.fixture(scope="module")
def language_model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("language_model")
    return save_language_model(path, path / "checkpoints")


def test_a_language_model_from_its_last_checkpoint_is_the_same(language_model: Path, tmp_path: Path) -> None:
    for file in save_language_model(tmp_path, language_model / "checkpoints").iterdir():
        assert file.read_bytes() == (language_model / file.name).read_bytes()


def test_a_start_that_has_changed_is_trained_anew(
    language_model: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    start = shutil.copytree(language_model, tmp_path / "start")
    options = LanguageModelOptions(start_from=str(start), pretrain_epochs=1)
    queries = ds.dataset(pa.table([["red shirt", "blue hat"], [1, 1]], TABLES["queries"]))
    model, _ = prepare_language_model(queries, options, forced(), 0, str(tmp_path))
    model.albert.embeddings.LayerNorm.bias.data += 1
    model.save_pretrained(start)
    prepare_language_model(queries, options, forced(), 0, str(tmp_path))
    assert "belongs to other data, options, seed or code: training starts anew" in caplog.text


def test_paths_are_relative_to_the_project_and_not_to_the_working_directory(
    language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = copy_project(tmp_path)
    shutil.copytree(language_model, project / "models/start")
    (project / "vectors.txt").write_text("red 1 2 3\n")
    RememberingConfigLoader(str(project / "conf"))
    monkeypatch.chdir(tmp_path)
    queries = ds.dataset(pa.table([["red shirt"], [1]], TABLES["queries"]))
    options = LanguageModelOptions(start_from="models/start", pretrain_epochs=1)
    model, _ = prepare_language_model(queries, options, forced(), 0, "checkpoints")
    assert model.config.hidden_size == 16
    assert list((project / "checkpoints/language_model").iterdir())
    vectors = make_word_vectors(queries, [], WordVectorOptions(glove_file="vectors.txt", size=3), 0)
    assert vectors["word"].to_pylist() == ["<unknown>", "red"]


def test_each_distinct_query_gets_a_vector_and_word_ids(language_model: Path) -> None:
    rows = [
        (1, "red shirt", 0, 5, 0),
        (2, "green shirt red shoes", 1, 6, 1),
        (1, "red shirt", 0, 7, 2),
        (3, "...", 2, 8, 3),
    ]
    pairs = pa.table([list(column) for column in zip(*rows, strict=True)], TABLES["pairs"])
    made = featurize_queries(
        ds.dataset(pairs), language_model, WORDS, QueryOptions(max_query_words=3), forced_hardware()
    )
    assert made.schema.equals(TABLES["query_features"])
    assert made["query"].to_pylist() == ["red shirt", "green shirt red shoes", "..."]
    # unknown words are row 0, words beyond the third are cut, a query without words is one unknown word
    assert made["word_ids"].to_pylist() == [[1, 2], [0, 2, 1], [0]]
    vectors = np.stack(made["vector"].to_numpy())
    assert vectors.shape == (3, 16)
    assert not np.array_equal(vectors[0], vectors[1])


TEXTS = ["red shirt", "blue hat", "green shirt red shoes", "hat", "red shirt red hat"]


def encoded(language_model: Path, parts: int, **hardware: str) -> dict:
    queries = ds.dataset(pa.table([TEXTS, [1] * len(TEXTS)], TABLES["queries"]))
    chunks = [Chunk("queries", number, parts) for number in range(parts)]
    chosen = HardwareOptions(**forced_options() | hardware)
    tables = [encode_part(queries, language_model, QueryOptions(), chosen, chunk) for chunk in chunks]
    return list_vectors(*map(ds.dataset, tables), chunks=chunks)


def featurized(language_model: Path, texts: list[str], query_vectors: dict) -> pa.Table:
    columns = [[1] * len(texts), texts, range(len(texts)), [5] * len(texts), [0] * len(texts)]
    pairs = ds.dataset(pa.table(list(map(list, columns)), TABLES["pairs"]))
    return featurize_chunk(pairs, language_model, WORDS, query_vectors, QueryOptions(), forced(), Chunk("train", 0, 1))


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_each_query_stands_in_one_part(language_model: Path, parts: int) -> None:
    tables = [part["query_vectors"].to_table() for part in encoded(language_model, parts).values()]
    assert pa.concat_tables(tables)["query"].to_pylist() == TEXTS
    assert len(tables) == parts


@pytest.mark.parametrize("parts", [1, 3, 7])
def test_encoded_queries_have_the_vectors_that_the_chunk_would_give_them(language_model: Path, parts: int) -> None:
    texts = ["hat", "red shirt", "a query of valid alone", "green shirt red shoes"]
    found = featurized(language_model, texts, encoded(language_model, parts))
    alone = featurized(language_model, texts, {})
    assert found.drop(["vector"]).equals(alone.drop(["vector"]), check_metadata=True)
    vectors = [np.stack(table["vector"].to_numpy()).astype(np.float32) for table in (found, alone)]
    np.testing.assert_allclose(*vectors, atol=0.02 if forced_hardware().precision == "bfloat16" else 2e-3)


def test_an_encoded_query_is_not_encoded_again(language_model: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    known = encoded(language_model, 2)
    monkeypatch.setattr("multimodal_recall.models.language_model.QueryVectors", None)  # a call would raise
    assert featurized(language_model, TEXTS[::-1], known)["query"].to_pylist() == TEXTS[::-1]
    with pytest.raises(TypeError):
        featurized(language_model, ["new"], known)


def test_vectors_of_another_model_or_precision_are_not_taken(
    language_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    other = shutil.copytree(language_model, tmp_path / "other", ignore=shutil.ignore_patterns("checkpoints"))
    (other / "more.txt").write_text("another model")
    precision = {"float32": "bfloat16", "bfloat16": "float32"}[forced_hardware().precision]
    unfit = [encoded(other, 2), encoded(language_model, 2, precision=precision)]
    monkeypatch.setattr("multimodal_recall.models.language_model.QueryVectors", None)
    for query_vectors in unfit:
        with pytest.raises(TypeError):
            featurized(language_model, TEXTS, query_vectors)
