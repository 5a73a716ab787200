"""From a chunk's query texts to vectors and word ids."""

import hashlib
from collections.abc import Callable, Iterable, Sequence
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


class WordRows:
    """The words that have a vector, and the row of each; row 0 is the unknown word."""

    def __init__(self, word_vectors: ds.Dataset, options: QueryOptions) -> None:
        words = word_vectors.to_table(columns=["word"])["word"].to_pylist()
        self.rows = {word: row for row, word in enumerate(words)}
        self.most_words = options.max_query_words

    def __contains__(self, word: str) -> bool:
        return word in self.rows

    def read(self, query: str) -> list[str]:
        """List the words of a query that are read, in their order."""
        return words_of(query)[: self.most_words]

    def table(self, queries: list[str], vectors: Sequence[np.ndarray]) -> pa.Table:
        """Give distinct texts and their vectors (hidden size,) float16 as ``query_features``, a row each."""
        word_ids = [[self.rows.get(word, 0) for word in self.read(query)] or [0] for query in queries]
        return pa.table([queries, list(vectors), word_ids], TABLES["query_features"])


class QueryEncoder:
    """A language model and the rows of the words, loaded once; after a first call, threads may call at the same time.

    The first call sets the tokenizer's truncation, which no thread may change while another thread reads.
    """

    def __init__(
        self, language_model: Path | None, word_vectors: ds.Dataset, options: QueryOptions, hardware: Hardware
    ) -> None:
        """Load a transformers folder, and the words, with the unknown word in row 0.

        Without a folder, for a ranker that reads words alone, the vectors are zeros of length 1: transformers takes
        seconds to import.
        """
        self.encode = lambda queries, _: np.zeros((len(queries), 1), np.float16)
        if language_model is not None:
            from multimodal_recall.models.language_model import QueryVectors

            tokens = options.max_query_tokens, options.tokens_per_batch
            self.encode = QueryVectors(language_model, *tokens, hardware)
        self.words = WordRows(word_vectors, options)

    def __call__(self, queries: list[str], tell: Callable[[int], None] = lambda _: None) -> pa.Table:
        """Give distinct texts as ``query_features``, a row each; ``tell`` is called with the size of each batch."""
        return self.words.table(queries, self.encode(queries, tell))


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
    encoding = QueryEncoding(digest_folder(language_model), digest_words(word_vectors), hardware.precision)
    vectors = find_vectors(queries, [table for table in encoded if encoding.encoded(table)])
    tell(len(vectors))
    missing = [query for query in queries if query not in vectors]
    vectors |= zip(missing, encode_queries(missing, language_model, options, hardware, tell), strict=True)
    table = WordRows(word_vectors, options).table(queries, [vectors[query] for query in queries])
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


def digest_folder(folder: Path) -> str:
    """Hash the content of all files of a folder into 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
