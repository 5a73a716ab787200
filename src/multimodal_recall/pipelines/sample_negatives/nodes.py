"""Draw wrong products for each pair of a chunk; list the chunk versions that a split's examples are made of."""

import logging
import time
from collections.abc import Sequence

import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import NegativeOptions
from multimodal_recall.data.consistency import check_candidates, check_origins
from multimodal_recall.data.origins import origin_of, stamp_origin
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.negatives.sampling import draw_samples
from multimodal_recall.runtime.progress import rate

logger = logging.getLogger(__name__)


def sample_chunk(
    products: ds.Dataset,
    pairs: ds.Dataset,
    query_features: ds.Dataset,
    labels: list[str],
    options: NegativeOptions,
    seed: int,
    chunk: Chunk,
) -> pa.Table:
    """Draw, for every epoch, wrong products of every kind for each pair of a chunk; see ``draw_samples``."""
    start = time.perf_counter()
    tables = {"products": products, "pairs": pairs, "query_features": query_features}
    samples, replaced = draw_samples(tables, labels, options, seed, chunk)
    negatives = len(samples) * options.negatives_per_positive
    of_a_kind = negatives // len(replaced)
    notes = [
        f"; {count:,} {kind} are random, since no wrong product fits ({count / of_a_kind:.0%})"
        for kind, count in replaced.items()
        if count
    ]
    speed = rate(negatives, start)
    logger.info("sample_negatives %s: %s of each kind, %s%s", chunk.title, f"{of_a_kind:,}", speed, "".join(notes))
    return stamp_origin(samples, origin_of(pairs))


def list_examples(
    rejected: ds.Dataset, *tables: ds.Dataset, chunks: Sequence[Chunk], kinds: Sequence[str]
) -> dict[str, ChunkTables]:
    """Group a split's lazy tables by chunk; the saved list records the versions of the tables.

    The tables are those of the first chunk, in the order of ``kinds``, then those of the next chunks.

    Raises:
        ExamplesError: See ``check_origins`` and ``check_candidates``.
    """
    by_chunk = zip(*[iter(tables)] * len(kinds), strict=True)
    examples = {
        chunk.name: dict(zip(kinds, of_chunk, strict=True)) for chunk, of_chunk in zip(chunks, by_chunk, strict=True)
    }
    check_origins(chunks, examples)
    if chunks[0].split != "train":
        check_candidates(chunks, examples)
    if faulty := rejected.count_rows():
        logger.info("%s: %d rows of its file were rejected", chunks[0].split, faulty)
    return examples
