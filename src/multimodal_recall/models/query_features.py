"""From a chunk's query texts to vectors and word ids."""

import hashlib
from collections.abc import Callable, Iterable
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from multimodal_recall.config.options import QueryOptions
from multimodal_recall.data.origins import QueryEncoding, digest_words, origin_of, stamp_origin
from multimodal_recall.data.schemas import TABLES, distinct_queries
from multimodal_recall.data.text import words_of
from multimodal_recall.runtime.device import Hardware


def featurize_queries(
    pairs: ds.Dataset,
    language_model: Path,
    word_vectors: ds.Dataset,
    options: QueryOptions,
    hardware: Hardware,
    tell: Callable[[int], None] = lambda _: None,
    encoded: Iterable[ds.Dataset] = (),
) -> pa.Table:
    """Give each distinct query of a chunk its language-model vector and its word ids.

    Args:
        pairs: The chunk's pairs; ``query_row`` numbers the distinct queries.
        language_model: A transformers folder.
        word_vectors: The words, with the unknown word in row 0.
        tell: Called with the number of queries of each batch.
        encoded: Tables ``query_vectors`` to take vectors from. A table of another language model or precision is left
            out, and queries that no table has are encoded.

    Returns:
        ``query_features``: row i is the query with ``query_row`` i.
    """
    queries = distinct_queries(pairs.to_table(columns=["query", "query_row"]))
    encoding = QueryEncoding(digest_files(language_model), digest_words(word_vectors), hardware.precision)
    vectors = find_vectors(queries, [table for table in encoded if encoding.encoded(table)])
    tell(len(vectors))
    missing = [query for query in queries if query not in vectors]
    vectors |= zip(missing, encode_queries(missing, language_model, options, hardware, tell), strict=True)
    rows = {word: row for row, word in enumerate(word_vectors.to_table(columns=["word"])["word"].to_pylist())}
    word_ids = [[rows.get(word, 0) for word in words_of(query)[: options.max_query_words]] or [0] for query in queries]
    table = pa.table([queries, [vectors[query] for query in queries], word_ids], TABLES["query_features"])
    return stamp_origin(table, origin_of(pairs) | encoding.metadata())


def find_vectors(queries: list[str], encoded: Iterable[ds.Dataset]) -> dict[str, np.ndarray]:
    """Read the vectors (hidden size,) float16 of the queries that the tables have, a table at a time."""
    wanted, found = pa.array(queries, pa.string()), {}
    for table in encoded:
        rows = table.to_table(filter=pc.field("query").isin(wanted))
        found |= zip(rows["query"].to_pylist(), rows["vector"].to_numpy(), strict=True)
    return found


def encode_queries(
    queries: list[str],
    language_model: Path,
    options: QueryOptions,
    hardware: Hardware,
    tell: Callable[[int], None] = lambda _: None,
) -> np.ndarray:
    """Encode query texts by the language model into vectors (queries, hidden size) float16; without a text, (0, 0)."""
    if not queries:
        return np.empty((0, 0), np.float16)
    from multimodal_recall.models.language_model import QueryVectors

    return QueryVectors(language_model, options.max_query_tokens, options.tokens_per_batch, hardware)(queries, tell)


def digest_files(folder: Path) -> str:
    """Hash the content of all files of a folder into 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
