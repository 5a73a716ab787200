"""Turn queries and labels into vectors. torch and gensim take seconds to import: functions import them."""

import logging
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.loader import in_project
from multimodal_recall.config.options import (
    HardwareOptions,
    IngestOptions,
    LanguageModelOptions,
    QueryOptions,
    WordVectorOptions,
)
from multimodal_recall.data.official_tsv import OfficialTsv
from multimodal_recall.data.origins import QueryEncoding, stamp_origin
from multimodal_recall.data.own_table import OwnTable
from multimodal_recall.data.schemas import TABLES, ChunkTables
from multimodal_recall.data.text import normal_form, strip_leading_token, words_of
from multimodal_recall.datasets.model_folders import CheckpointFile
from multimodal_recall.models.query_features import digest_folder, encode_queries, featurize_queries
from multimodal_recall.runs.code import digest_code
from multimodal_recall.runs.versions import fingerprint
from multimodal_recall.runtime.device import use_hardware
from multimodal_recall.runtime.processes import run_in_processes
from multimodal_recall.runtime.progress import bar, rate, training_progress

logger = logging.getLogger(__name__)


def collect_queries(tsv: OfficialTsv | OwnTable, options: IngestOptions) -> pa.Table:
    """Count the distinct queries of the training file, in order of first appearance.

    It reads the TSV, not the ingested pairs: otherwise a chunk that is ingested again would make the language model
    stale, and with the model every other chunk. Only the query field is decoded: 1.1 GB/s from a warm disk cache. Rows
    without a query are left out; ingest reports them.
    """
    counts = Counter[str]()
    unit, name = tsv.unit
    with bar("collect queries", tsv.size / unit, name) as shown:
        for size, query in tsv.queries(options.max_line_bytes):
            if query:
                counts[strip_leading_token(query) if options.strip_leading_tokens else query] += 1
            shown.advance(size / unit)
    return pa.table([list(counts.keys()), list(counts.values())], TABLES["queries"])


def prepare_language_model(
    queries: ds.Dataset, options: LanguageModelOptions, hardware: HardwareOptions, seed: int, checkpoints: str
) -> tuple[Any, Any]:
    """Load or build the language model, and train it; see ``training.masked_words.prepare``.

    A killed training goes on from its checkpoint, to the same weights.
    """
    from multimodal_recall.training.masked_words import prepare

    texts = list(dict.fromkeys(map(normal_form, queries.to_table(columns=["query"])["query"].to_pylist())))
    checkpoint = CheckpointFile.of(checkpoints, "language_model")
    start = in_project(options.start_from or "")
    content = digest_folder(start) if options.start_from and start.is_dir() else None  # its name may stay
    decisive = fingerprint([asdict(options), digest_code(prepare), content, seed, texts])
    with training_progress("language model, ", "queries") as progress:
        arguments = (texts, options, seed, use_hardware(hardware), checkpoint, progress, decisive)
        return run_in_processes(1, prepare, *arguments)


def make_word_vectors(queries: ds.Dataset, labels: list[str], options: WordVectorOptions, seed: int) -> pa.Table:
    """Give each word of the training queries and label names a vector; see ``data.word_vectors``."""
    from multimodal_recall.data import word_vectors

    texts = queries.to_table(columns=["query"])["query"].to_pylist()
    words, vectors = word_vectors.make_word_vectors([*texts, *labels], options, seed)
    return pa.table([words, list(vectors)], TABLES["word_vectors"])


def average_label_words(labels: list[str], word_vectors: ds.Dataset) -> pa.Table:
    """Average the word vectors of each label's name; a name without a known word gets the unknown word's vector."""
    table = word_vectors.to_table()
    rows = {word: row for row, word in enumerate(table["word"].to_pylist())}
    vectors = np.stack(table["vector"].to_numpy())
    known = [[rows[word] for word in words_of(name) if word in rows] or [0] for name in labels]
    return pa.table([labels, [vectors[row].mean(axis=0) for row in known]], TABLES["label_vectors"])


def encode_part(
    queries: ds.Dataset, language_model: Path, options: QueryOptions, hardware: HardwareOptions, chunk: Chunk
) -> pa.Table:
    """Give each query of one of ``chunk.count`` equal parts of ``queries`` its language-model vector.

    A query stands in several chunks of the training rows: 1.35 million texts in 3 million rows. Encoded here, each is
    encoded once, and no chunk depends on another chunk.
    """
    chosen, texts = use_hardware(hardware), queries.to_table(columns=["query"])["query"].to_pylist()
    part = texts[chunk.number * len(texts) // chunk.count : (chunk.number + 1) * len(texts) // chunk.count]
    start = time.perf_counter()
    with bar(f"encode {chunk.title}", len(part), "queries") as shown:
        vectors = encode_queries(part, language_model, options, chosen, shown.advance)
    logger.info("encode %s: %s, %s", chunk.title, f"{len(part):,}", rate(len(part), start))
    encoding = QueryEncoding(digest_folder(language_model), precision=chosen.precision, words="none")
    return stamp_origin(pa.table([part, list(vectors)], TABLES["query_vectors"]), encoding.metadata())


def list_vectors(*tables: ds.Dataset, chunks: Sequence[Chunk]) -> dict[str, ChunkTables]:
    """Group the lazy tables ``query_vectors``; the saved list records their versions."""
    return {chunk.name: {"query_vectors": table} for chunk, table in zip(chunks, tables, strict=True)}


def featurize_chunk(
    pairs: ds.Dataset,
    language_model: Path,
    word_vectors: ds.Dataset,
    query_vectors: dict[str, ChunkTables],
    options: QueryOptions,
    hardware: HardwareOptions,
    chunk: Chunk,
) -> pa.Table:
    """Give each distinct query of a chunk its vector and word ids; see ``featurize_queries``."""
    chosen, start = use_hardware(hardware), time.perf_counter()
    encoded = [tables["query_vectors"] for tables in query_vectors.values()]
    queries = pc.count_distinct(pairs.to_table(columns=["query_row"])[0]).as_py()
    with bar(f"featurize {chunk.title}", queries, "queries") as shown:
        table = featurize_queries(pairs, language_model, word_vectors, options, chosen, shown.advance, encoded)
    word_ids = table["word_ids"].combine_chunks().flatten().to_numpy()
    logger.info(
        "featurize %s: %s distinct queries, %s; %s of %s words are unknown",
        *(chunk.title, f"{len(table):,}", rate(len(table), start), f"{(word_ids == 0).sum():,}", f"{len(word_ids):,}"),
    )
    return table
