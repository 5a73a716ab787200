"""Which pairs, language model and words a chunk's table belongs to."""

import hashlib
import logging
from collections.abc import Mapping

import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset as ds

from multimodal_recall.data.schemas import ChunkTables

logger = logging.getLogger(__name__)

PARTS = {"language_model": "language model", "words": "list of words"}


class WayError(Exception):
    """Queries became numbers in another way than those that a ranker was, or is to be, trained on."""


def check_way(examples: dict[str, ChunkTables], way: dict[str, str], whose: str) -> None:
    """Refuse chunks whose queries became numbers in another way; warn of those in another precision.

    Args:
        examples: Lazy tables of each chunk.
        way: What it should have been; see ``way_of``.
        whose: What went that way, for the error.

    Raises:
        WayError: With the file, and what was another: equal numbers would not stand for equal words.
    """
    for tables in examples.values():
        found = way_of(tables["query_features"])
        if others := [part for key, part in PARTS.items() if found[key] != way[key]]:
            raise WayError(
                f"{tables['query_features'].files[0]} was made with another {' and '.join(others)} than {whose}. Make "
                "all query features, and what follows from them, alike: kedro run "
                "--pipelines=featurize,sample_negatives,train,evaluate"
            )
        if found["precision"] != way.get("precision", found["precision"]):  # older cards name no precision
            logger.warning(
                "%s holds query vectors made in %s, beside %s in %s: figures may move in the third digit. To make all "
                "alike, set hardware.precision and run --pipelines=featurize,sample_negatives,train,evaluate",
                *(tables["query_features"].files[0], found["precision"], whose, way["precision"]),
            )


ORIGIN = (b"pairs", b"cut")
"""Metadata keys: digest of the chunk's pairs, and how its file was cut."""
WAY = (b"language_model", b"words", b"precision")
"""Metadata keys: what made numbers of a chunk's queries."""


def stamp_origin(table: pa.Table, origin: Mapping[bytes, bytes]) -> pa.Table:
    """Write into a table's metadata which pairs its row numbers belong to; see ``origin_of`` and ``way_of``."""
    return table.replace_schema_metadata(origin)


def origin_of(table: pa.Table | ds.Dataset) -> dict[bytes, bytes]:
    """Which pairs a chunk's table belongs to: their digest, and the cut of the file."""
    metadata = table.schema.metadata or {}
    return {key: metadata.get(key, b"unknown") for key in ORIGIN}


def way_of(query_features: pa.Table | ds.Dataset) -> dict[str, str]:
    """What made numbers of a chunk's queries: digests of language model and list of words, and the precision."""
    metadata = query_features.schema.metadata or {}
    return {key.decode(): metadata.get(key, b"unknown").decode() for key in WAY}


def digest_words(word_vectors: ds.Dataset) -> str:
    """Stand for the words that have a vector and their order, which word ids count from."""
    words = word_vectors.to_table(columns=["word"])["word"].to_pylist()
    return hashlib.sha256("\n".join(words).encode()).hexdigest()[:16]
