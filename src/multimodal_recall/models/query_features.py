"""From a chunk's query texts to vectors and word ids."""

import hashlib
from collections.abc import Callable
from pathlib import Path

import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.config.options import QueryOptions
from multimodal_recall.data.origins import QueryEncoding, digest_words, origin_of, stamp_origin
from multimodal_recall.data.schemas import TABLES, distinct_queries
from multimodal_recall.data.text import words_of
from multimodal_recall.runtime.device import Hardware


class QueryEncoder:
    """A language model and the rows of the words, loaded once; after a first call, threads may call at the same time.

    The first call sets the tokenizer's truncation, which no thread may change while another thread reads.
    """

    def __init__(
        self, language_model: Path, word_vectors: ds.Dataset, options: QueryOptions, hardware: Hardware
    ) -> None:
        """Load a transformers folder, and the words, with the unknown word in row 0."""
        from multimodal_recall.models.language_model import QueryVectors

        self.vectors = QueryVectors(language_model, options.max_query_tokens, options.tokens_per_batch, hardware)
        self.rows = {word: row for row, word in enumerate(word_vectors.to_table(columns=["word"])["word"].to_pylist())}
        self.most_words = options.max_query_words

    def __call__(self, queries: list[str], tell: Callable[[int], None] = lambda _: None) -> pa.Table:
        """Give distinct texts as ``query_features``, a row each; ``tell`` is called with the size of each batch."""
        vectors = self.vectors(queries, tell)
        word_ids = [[self.rows.get(word, 0) for word in self.read_words(query)] or [0] for query in queries]
        return pa.table([queries, list(vectors), word_ids], TABLES["query_features"])

    def read_words(self, query: str) -> list[str]:
        """List the words of a query that are read, in their order."""
        return words_of(query)[: self.most_words]


def featurize_queries(
    pairs: ds.Dataset,
    language_model: Path,
    word_vectors: ds.Dataset,
    options: QueryOptions,
    hardware: Hardware,
    tell: Callable[[int], None] = lambda _: None,
) -> pa.Table:
    """Give each distinct query of a chunk its language-model vector and its word ids.

    Args:
        pairs: The chunk's pairs; ``query_row`` numbers the distinct queries.
        language_model: A transformers folder.
        word_vectors: The words, with the unknown word in row 0.
        tell: Called with the number of queries of each batch.

    Returns:
        ``query_features``: row i is the query with ``query_row`` i.
    """
    queries = distinct_queries(pairs.to_table(columns=["query", "query_row"]))
    table = QueryEncoder(language_model, word_vectors, options, hardware)(queries, tell)
    encoding = QueryEncoding(digest_files(language_model), digest_words(word_vectors), hardware.precision)
    return stamp_origin(table, origin_of(pairs) | encoding.metadata())


def digest_files(folder: Path) -> str:
    """Hash the content of all files of a folder into 16 hexadecimal digits."""
    digest = hashlib.sha256()
    for path in sorted(path for path in folder.iterdir() if path.is_file()):
        with path.open("rb") as file:
            digest.update(hashlib.file_digest(file, "sha256").digest())
    return digest.hexdigest()[:16]
