"""Record in a chunk's table which pairs, language model and words the table belongs to, and compare."""

import hashlib
import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Self

import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset as ds

from multimodal_recall.data.schemas import ChunkTables

logger = logging.getLogger(__name__)

ORIGIN = (b"pairs", b"cut")  # metadata keys: digest of the chunk's pairs, and the cut of the file into chunks


class EncodingMismatch(Exception):
    """A chunk's queries were not encoded as the queries that the ranker is trained on."""


@dataclass(frozen=True)
class QueryEncoding:
    """The language model, words and precision that encoded a chunk's queries."""

    language_model: str  # digest of the language model's files
    words: str  # digest of the words that have a vector; see `digest_words`
    precision: str = "unknown"  # `float32` or `bfloat16`; `unknown` for model cards of version 0.1.0

    @classmethod
    def of(cls, query_features: pa.Table | ds.Dataset) -> Self:
        """Read the encoding from a table's metadata."""
        metadata = query_features.schema.metadata or {}
        return cls(*(metadata.get(key.encode(), b"unknown").decode() for key in cls.__dataclass_fields__))

    def metadata(self) -> dict[bytes, bytes]:
        """Give the encoding as a table's metadata."""
        return {key.encode(): value.encode() for key, value in asdict(self).items()}

    def encoded(self, query_vectors: ds.Dataset) -> bool:
        """Whether a table of query vectors was made by this language model in this precision."""
        made = QueryEncoding.of(query_vectors)
        return (made.language_model, made.precision) == (self.language_model, self.precision)

    def check(self, examples: dict[str, ChunkTables], owner: str) -> None:
        """Refuse chunks with another language model or other words than ``owner``; warn of another precision.

        Raises:
            EncodingMismatch: With the file and what differs: the same word id would stand for another word.
        """
        for tables in examples.values():
            found, file = QueryEncoding.of(tables["query_features"]), tables["query_features"].files[0]
            differing = ["language model"] * (found.language_model != self.language_model)
            differing += ["list of words"] * (found.words != self.words)
            if differing:
                raise EncodingMismatch(
                    f"{file} was made with another {' and '.join(differing)} than {owner}. "
                    "Make all query features, and what follows from them, alike: kedro run "
                    "--pipelines=featurize,sample_negatives,train,evaluate"
                )
            if self.precision not in (found.precision, "unknown"):
                logger.warning(
                    "%s holds query vectors made in %s, beside %s in %s: figures may move in the third digit. To make "
                    "all alike, set hardware.precision and run --pipelines=featurize,sample_negatives,train,evaluate",
                    *(file, found.precision, owner, self.precision),
                )


def new_origin(pairs: pa.Table, cut: str) -> dict[bytes, bytes]:
    """Identify a chunk's pairs and the cut of the file, so that later stages refuse tables of other pairs."""
    digest = hashlib.blake2b(digest_size=16)
    for column in pairs.combine_chunks().columns:
        for buffer in column.chunk(0).buffers() if column.num_chunks else ():
            digest.update(buffer or b"")
    return {b"pairs": digest.hexdigest().encode(), b"cut": cut.encode()}


def stamp_origin(table: pa.Table, origin: Mapping[bytes, bytes]) -> pa.Table:
    """Write the pairs that a table's row numbers belong to, and maybe the query encoding, into its metadata."""
    return table.replace_schema_metadata(origin)


def origin_of(table: pa.Table | ds.Dataset) -> dict[bytes, bytes]:
    """Read the digest of the pairs that a chunk's table belongs to, and the cut of the file."""
    metadata = table.schema.metadata or {}
    return {key: metadata.get(key, b"unknown") for key in ORIGIN}


def digest_words(word_vectors: ds.Dataset) -> str:
    """Hash the words that have a vector, in the order of their word ids."""
    words = word_vectors.to_table(columns=["word"])["word"].to_pylist()
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
