"""Which definitions a function reaches, and what changes their digests."""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from multimodal_recall.pipelines.evaluate.nodes import score_candidates
from multimodal_recall.pipelines.featurize.nodes import collect_queries
from multimodal_recall.pipelines.ingest.nodes import ingest_chunk
from multimodal_recall.pipelines.train.nodes import train_ranker
from multimodal_recall.pipelines.wiring import bind
from multimodal_recall.runs import code
from multimodal_recall.runs.code import code_of, digest_code
from tests.conftest import PROJECT


def forget() -> None:
    code._parse.cache_clear()
    code._definition.cache_clear()


@pytest.fixture
def edit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[str, str, str], None]]:
    """Replace text in a copy of the source that digests are taken of."""
    source = shutil.copytree(PROJECT / "src" / "multimodal_recall", tmp_path / "source")
    monkeypatch.setattr(code, "SOURCE", source)
    forget()

    def replace(file: str, old: str, new: str) -> None:
        text = (source / file).read_text()
        assert old in text
        (source / file).write_text(text.replace(old, new, 1))
        forget()

    yield replace
    forget()


def changed(before: dict[str, str], after: dict[str, str]) -> set[str]:
    return {name for name in before.keys() | after.keys() if before.get(name) != after.get(name)}


def test_what_a_node_calls_is_reached_through_modules_classes_and_local_imports() -> None:
    ingest = code_of(ingest_chunk)
    assert {"data.decoding.decode_rows", "data.chunk_reader.ChunkRows", "data.text.strip_leading_token"} < set(ingest)
    assert not any(name.startswith(("models.", "config.", "runtime.", "evaluation.")) for name in ingest)
    training = code_of(train_ranker, ["mcan"])
    wanted = {"training.loop.Trainer", "training.losses.focal", "negatives.mixing.read_samples", "models.ranker.Ranker"}
    assert wanted < set(training)
    assert any(name.startswith("models.systems.mcan.") for name in training)
    assert not any(name.startswith("models.systems.two_tower.") for name in training)
    assert code_of(bind(ingest_chunk, chunk=None)) == ingest
    assert code_of(pytest.raises) == {}


def test_a_changed_function_is_named(edit: Callable[[str, str, str], None]) -> None:
    before = code_of(ingest_chunk)
    edit("data/text.py", "def strip_leading_token(", "def strip_leading_token(\n    ")  # line breaks alone
    assert code_of(ingest_chunk) == before
    edit("data/chunk_reader.py", "CROWDED_BOXES = 40", "CROWDED_BOXES = 41")
    assert changed(before, code_of(ingest_chunk)) == {"data.chunk_reader.CROWDED_BOXES"}


def test_comments_and_docstrings_do_not_count(edit: Callable[[str, str, str], None]) -> None:
    before = digest_code(train_ranker, ["two_tower"])
    edit("training/losses.py", '"""', '"""Another first word. ')
    edit("training/losses.py", "    loss = cross_entropy(", "    # a comment\n    loss = cross_entropy(")
    edit("models/systems/two_tower.py", '    """', '    """Another first word of the class. ')
    assert digest_code(train_ranker, ["two_tower"]) == before
    edit("training/losses.py", "gamma: float = 2.0", "gamma: float = 2.5")
    assert digest_code(train_ranker, ["two_tower"]) != before


def test_another_ranker_or_table_does_not_count(edit: Callable[[str, str, str], None]) -> None:
    scoring, queries = code_of(score_candidates, ["two_tower"]), code_of(collect_queries)
    assert {name for name in queries if "TABLES" in name} == {
        "data.schemas.TABLES[queries]",
        "data.schemas.TABLES[names]",
    }
    edit("models/systems/mcan.py", "class Mcan(", "class Mcan2(")
    edit("data/schemas.py", '"word_vectors": pa.schema({"word"', '"word_vectors": pa.schema({"wort"')
    assert (code_of(score_candidates, ["two_tower"]), code_of(collect_queries)) == (scoring, queries)
    edit("data/schemas.py", '"rows": pa.int64()', '"rows": pa.int32()')
    assert changed(queries, code_of(collect_queries)) == {"data.schemas.TABLES[queries]"}
    assert changed(code_of(score_candidates, ["mcan"]), scoring) >= {"models.systems.mcan.build"}
