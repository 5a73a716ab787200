"""Read ranges of an official TSV or an own parquet table into tables of products, pairs and rejected rows."""

import logging
import time

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import IngestOptions
from multimodal_recall.data.boxes import CLIPPED_PIXELS
from multimodal_recall.data.chunk_reader import ChunkRows, IngestError, table_of
from multimodal_recall.data.faults import FaultCounts
from multimodal_recall.data.official_tsv import OfficialTsv
from multimodal_recall.data.origins import new_origin, stamp_origin
from multimodal_recall.data.own_table import OwnTable
from multimodal_recall.data.schemas import TABLES
from multimodal_recall.data.titles import names_of, titles_of
from multimodal_recall.runtime.progress import rate

logger = logging.getLogger(__name__)


def ingest_chunk(
    tsv: OfficialTsv | OwnTable,
    labels: list[str],
    options: IngestOptions,
    titles: ds.Dataset | None = None,
    *,
    chunk: Chunk,
) -> dict[str, pa.Table]:
    """Decode one range of a TSV or own table into ``products``, ``pairs`` and ``rejected``, as in ``schemas.TABLES``.

    A row's labels must be among ``labels``. Row numbers in ``rejected`` count from the start of the chunk. ``titles``
    has a row for each product that has a title; ``None``: the titles are those of the parquet table.

    Raises:
        IngestError: If the range holds no row or more than ``max_rows_per_chunk`` rows, if more than
            ``max_rejected_share`` of the rows are malformed, or if every row is rejected.
        RawFileError: If the header is not the official header, a column is missing, or a product of the
            chunk has two different titles or SKUs.
    """
    rows = ChunkRows(tsv, len(labels), options, chunk)
    start = time.perf_counter()
    for _ in rows.read():
        pass
    logger.info("ingest %s: %s rows, %s", chunk.title, f"{rows.lines:,}", rate(rows.lines, start))
    if rows.stripped:
        logger.info("%s: stripped a leading leftover from %d queries", chunk.namespace, rows.stripped)
    if rows.clipped:
        pixels = f"at most {CLIPPED_PIXELS} pixel"
        logger.info("%s: clipped %s boxes that left the image by %s", chunk.namespace, f"{rows.clipped:,}", pixels)
    _report(tsv, chunk, options, rows.lines, rows.rejected)
    products = _named(rows.products.table(), tsv, titles, chunk)
    tables = {
        "products": products,
        "pairs": table_of(TABLES["pairs"], rows.pairs),
        "rejected": table_of(TABLES["rejected"], rows.rejected),
    }
    origin = new_origin(tables["pairs"], tsv.cut(chunk.count))
    return {name: stamp_origin(table, origin) for name, table in tables.items()}


def ingest_joined_chunk(
    table: OwnTable,
    products: OwnTable,
    labels: list[str],
    options: IngestOptions,
    titles: ds.Dataset | None = None,
    *,
    chunk: Chunk,
) -> dict[str, pa.Table]:
    """Decode one range of a table of pairs, whose products stand in a table of their own; see ``ingest_chunk``."""
    return ingest_chunk(table.join(products), labels, options, titles, chunk=chunk)


def _named(products: pa.Table, tsv: OfficialTsv | OwnTable, titles: ds.Dataset | None, chunk: Chunk) -> pa.Table:
    """Add titles and SKUs to a chunk's products."""
    ids, own = products["product_id"].combine_chunks(), tsv.names(chunk.number, chunk.count)
    found = {} if own is None else {kind: names_of(own, kind, ids, lambda: tsv.path) for kind in ("title", "sku")}
    if titles is not None:
        found["title"] = titles_of(titles, ids)
    for kind, texts in found.items():
        products = products.set_column(products.schema.get_field_index(kind), kind, texts)
    return products


def merge_rejected(*tables: ds.Dataset) -> pa.Table:
    """Concatenate a split's rejected rows, and count their row numbers from the start of the file.

    The tables are ``rejected`` and ``pairs`` of each chunk in file order: together a row for each of the chunk's lines.
    """
    merged, rows_before = [], 0
    for rejected, pairs in zip(tables[::2], tables[1::2], strict=True):
        table = rejected.to_table()
        column = table.schema.get_field_index("row")
        merged.append(table.set_column(column, "row", pc.add(table["row"], rows_before)))
        rows_before += table.num_rows + pairs.count_rows()
    return pa.concat_tables(merged)


def _report(
    tsv: OfficialTsv | OwnTable, chunk: Chunk, options: IngestOptions, lines: int, rejected: list[tuple]
) -> None:
    """Log the rejected rows, and refuse a chunk with too many."""
    if not rejected:
        return
    faults = FaultCounts()
    for _, row, _, _, reason, _ in rejected:
        faults.add(reason, f"row {row}")
    counts = "; ".join(faults.most_common(5))
    logger.warning("%s: %d of %d rows rejected: %s", chunk.namespace, len(rejected), lines, counts)
    malformed = [row for row in rejected if row[3] == "malformed"]
    if len(malformed) > options.max_rejected_share * lines:
        _, row, offset, _, reason, text = malformed[0]
        place = f"row {row} of the chunk" + ("" if offset is None else f", byte {offset} of the file")
        raise IngestError(
            f"{tsv.path}: {len(malformed)} of {lines} rows of {chunk.name} are malformed, more than "
            f"ingest.max_rejected_share ({options.max_rejected_share:.2%}). Most frequent: {counts}. First: {place}: "
            f"{reason}: {text[:80]!r}. Mend the file, or raise the share."
        )
    if len(rejected) == lines:
        raise IngestError(
            f"{tsv.path}: all {lines} rows of {chunk.name} are rejected: {counts}. Mend the file, or switch off "
            "ingest's cleaning."
        )
