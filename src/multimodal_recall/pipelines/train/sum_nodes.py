"""Solve a ranker in closed form from sums over the training chunks. torch takes seconds to import: functions import it.

What has types that torch comes with has no type hint: ``sums`` are ``WordSums``.
"""

import logging
import time
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import HardwareOptions, IngestOptions
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.chunk_reader import draw_products
from multimodal_recall.data.consistency import check_tables
from multimodal_recall.data.official_tsv import OfficialTsv
from multimodal_recall.data.own_table import OwnTable
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.pipelines.train.nodes import common_encoding, versions_of, with_card
from multimodal_recall.runs.records import name_first
from multimodal_recall.runtime.device import use_hardware
from multimodal_recall.runtime.progress import bar, rate

logger = logging.getLogger(__name__)


class SumsMismatch(Exception):
    """The sums of a chunk are not those that a model is to be solved from."""


def draw_landmarks(
    tsv: OfficialTsv | OwnTable, labels: list[str], ingest: IngestOptions, options: RankerOptions
) -> pa.Table:
    """Draw the products whose boxes are landmarks, as a table of ``products``.

    They are drawn from the training file, not from the ingested products: otherwise a chunk that is ingested again
    would change the landmarks, and with them the sums of every other chunk.
    """
    products = draw_products(tsv, len(labels), ingest, options.model.landmarks, options.seed)
    logger.info("drew %s landmarks from %s", f"{len(products):,}", tsv.path.name)
    return products


def draw_joined_landmarks(
    table: OwnTable, products: OwnTable, labels: list[str], ingest: IngestOptions, options: RankerOptions
) -> pa.Table:
    """Draw landmarks from a table of pairs, whose products stand in a table of their own; see ``draw_landmarks``."""
    return draw_landmarks(table.join(products), labels, ingest, options)


def sum_words(
    products: ds.Dataset,
    pairs: ds.Dataset,
    query_features: ds.Dataset,
    landmarks: ds.Dataset,
    options: RankerOptions,
    hardware: HardwareOptions,
    chunk: Chunk,
) -> Any:
    """Sum what the pairs of a chunk add to the regression: ``WordSums``; one chunk is in memory."""
    from multimodal_recall.training.summed import landmark_features, sum_chunk

    start, tables = time.perf_counter(), {"products": products, "query_features": query_features, "pairs": pairs}
    check_tables(chunk, tables)
    features, count = landmark_features(landmarks, options, use_hardware(hardware).device), pairs.count_rows()
    with bar(f"sum {chunk.title}", count, "pairs") as shown:
        sums = sum_chunk(tables, features, options, _origin(tables, landmarks, options), shown.advance)
    logger.info("sum %s: %s pairs, %s", chunk.title, f"{count:,}", rate(count, start))
    return sums


def solve_ranker(
    train_examples: dict[str, ChunkTables],
    valid_examples: dict[str, ChunkTables],
    valid_answers: dict[int, list[int]],
    word_vectors: ds.Dataset,
    label_vectors: ds.Dataset,
    landmarks: ds.Dataset,
    options: RankerOptions,
    hardware: HardwareOptions,
    *sums: Any,
    ranker: str,
) -> dict[str, Any]:
    """Add up the sums of all chunks, which stand in the order of ``train_examples``, and solve the regression.

    Returns:
        ``model``, the trained ranker, and ``training_log`` with a single row: the training is a single pass.

    Raises:
        SumsMismatch: If sums were made with other tables, landmarks or options of the kernel than the model is to have.
    """
    from multimodal_recall.training.summed import landmark_features, solve_summed

    encoding, chosen = common_encoding(train_examples, valid_examples, word_vectors), use_hardware(hardware)
    wanted = {f"{ranker}.sums.{name}": _origin(tables, landmarks, options) for name, tables in train_examples.items()}
    _check_origins(wanted, {name: part.origin for name, part in zip(wanted, sums, strict=True)})
    features = landmark_features(landmarks, options, chosen.device)
    vectors = word_vectors, label_vectors
    trained, log = solve_summed(options, features, sums, valid_examples, valid_answers, vectors)
    logger.info("solved %s pairs, valid nDCG@5 %.4f", f"{log[0].pairs:,}", log[0].valid_ndcg_at_5)
    return with_card(trained, log, chosen, inputs=versions_of(train_examples), query_features=asdict(encoding))


def _origin(tables: ChunkTables, landmarks: ds.Dataset, options: RankerOptions) -> dict[str, Any]:
    """Describe what sums are made of: sums of other tables, landmarks or kernels cannot be added up."""
    sources = {kind: tables[kind] for kind in ("products", "query_features")} | {"landmarks": landmarks}
    versions = {kind: Path(table.files[0]).parent.name for kind, table in sources.items()}
    model = options.model
    return {
        **versions,
        "kernel": model.kernel,
        "gamma": model.gamma,
        "boxes": model.boxes,
        "max_boxes": options.max_boxes,
    }


def _check_origins(wanted: dict[str, dict[str, Any]], found: dict[str, dict[str, Any]]) -> None:
    """Compare what the sums of each namespace are to be made of with what they are made of."""
    stale = [name for name, origin in wanted.items() if found[name] != origin]
    if stale:
        first, other = wanted[stale[0]], found[stale[0]]
        differing = [f"{name} {other[name]}, wanted {value}" for name, value in first.items() if other[name] != value]
        raise SumsMismatch(
            f"{name_first([f'{name}.word_sums' for name in stale])}: made with {'; '.join(differing)}. Make sums "
            f"and model anew: kedro run --from-nodes={','.join(f'{name}.sum_words' for name in stale)}"
        )
