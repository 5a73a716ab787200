"""Which pairs, language model and words a chunk's table belongs to."""

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

ORIGIN = (b"pairs", b"cut")
"""Metadata keys: digest of the chunk's pairs, and how its file was cut."""


class EncodingMismatch(Exception):
    """Queries were encoded otherwise than those that a ranker was, or is to be, trained on."""


@dataclass(frozen=True)
class QueryEncoding:
    """What encoded a chunk's queries."""

    language_model: str
    """Digest of the language model's files."""
    words: str
    """Digest of the words that have a vector; see ``digest_words``."""
    precision: str = "unknown"
    """``float32`` or ``bfloat16``; model cards of version 0.1.0 name none."""

    @classmethod
    def of(cls, query_features: pa.Table | ds.Dataset) -> Self:
        """Read the encoding from a table's metadata."""
        metadata = query_features.schema.metadata or {}
        return cls(*(metadata.get(key.encode(), b"unknown").decode() for key in cls.__dataclass_fields__))

    def metadata(self) -> dict[bytes, bytes]:
        """The encoding as a table's metadata."""
        return {key.encode(): value.encode() for key, value in asdict(self).items()}

    def check(self, examples: dict[str, ChunkTables], owner: str) -> None:
        """Refuse chunks whose queries were encoded otherwise; warn of those in another precision.

        Args:
            examples: Lazy tables of each chunk.
            owner: Whose encoding this is, for the error.

        Raises:
            EncodingMismatch: With the file and what differs: equal numbers would not stand for equal words.
        """
        for tables in examples.values():
            found, file = QueryEncoding.of(tables["query_features"]), tables["query_features"].files[0]
            parts = {
                "language model": found.language_model != self.language_model,
                "list of words": found.words != self.words,
            }
            if any(parts.values()):
                raise EncodingMismatch(
                    f"{file} was made with another {' and '.join(part for part in parts if parts[part])} than {owner}. "
                    "Make all query features, and what follows from them, alike: kedro run "
                    "--pipelines=featurize,sample_negatives,train,evaluate"
                )
            if self.precision not in (found.precision, "unknown"):
                logger.warning(
                    "%s holds query vectors made in %s, beside %s in %s: figures may move in the third digit. To make "
                    "all alike, set hardware.precision and run --pipelines=featurize,sample_negatives,train,evaluate",
                    *(file, found.precision, owner, self.precision),
                )


def stamp_origin(table: pa.Table, origin: Mapping[bytes, bytes]) -> pa.Table:
    """Write into a table's metadata which pairs its row numbers belong to, and what encoded its queries."""
    return table.replace_schema_metadata(origin)


def origin_of(table: pa.Table | ds.Dataset) -> dict[bytes, bytes]:
    """Which pairs a chunk's table belongs to: their digest, and the cut of the file."""
    metadata = table.schema.metadata or {}
    return {key: metadata.get(key, b"unknown") for key in ORIGIN}


def digest_words(word_vectors: ds.Dataset) -> str:
    """Stand for the words that have a vector and their order, which word ids count from."""
    words = word_vectors.to_table(columns=["word"])["word"].to_pylist()
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
