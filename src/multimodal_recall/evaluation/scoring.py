"""Score the candidates of a split, chunk by chunk. torch is imported where it is used: it takes seconds."""

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

import pyarrow as pa

from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.data.origins import QueryEncoding
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.runtime.device import use_hardware
from multimodal_recall.runtime.progress import bar

if TYPE_CHECKING:
    from multimodal_recall.data.batch import ChunkArrays, Reading
    from multimodal_recall.models.ranker import Ranker

ScoredChunk = tuple[pa.Table, Pairs, "ChunkArrays"]
"""Ids of a chunk's candidates, their rows in the chunk's arrays, and the arrays."""


def build_for(model: Any, examples: dict[str, ChunkTables], hardware: HardwareOptions) -> "Ranker":
    """Build a trained ranker; refuse examples whose queries were encoded in another way than its training queries."""
    QueryEncoding(**model.card["query_features"]).check(examples, "the ranker's training queries")
    return model.build().to(use_hardware(hardware).device)


def score_examples(ranker: "Ranker", examples: dict[str, ChunkTables]) -> pa.Table:
    """Score the candidates of all chunks, one chunk in memory at a time; see ``score_chunks``."""
    return score_chunks(ranker, read_chunks(examples, ranker.reading))


def read_chunks(examples: dict[str, ChunkTables], reading: "Reading") -> Iterator[ScoredChunk]:
    """Read the candidates of each chunk and all that a ranker reads of them."""
    from multimodal_recall.data.examples import read_candidates, read_chunk

    for tables in examples.values():
        candidates, pairs = read_candidates(tables)
        yield candidates.select(["query_id", "product_id"]), pairs, read_chunk(tables, reading)


def score_chunks(ranker: "Ranker", chunks: Iterable[ScoredChunk]) -> pa.Table:
    """Score the candidates of some chunks: ``query_id``, ``product_id``, ``score``."""
    tables = []
    for ids, pairs, arrays in chunks:
        with bar(type(ranker).__name__, len(ids), "pairs") as shown:
            scores = ranker.score(arrays, pairs, shown.advance)
        tables.append(ids.append_column("score", pa.array(scores)))
    return pa.concat_tables(tables)
