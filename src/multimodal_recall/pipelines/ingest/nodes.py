"""Read byte ranges of an official TSV into tables of products, pairs and rejected rows."""

import hashlib
import logging
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.datasets.official_tsv import BadRow, OfficialRow, OfficialTsv, decode_row
from multimodal_recall.layout import Chunk
from multimodal_recall.options import IngestOptions
from multimodal_recall.tables import TABLES, stamp_origin
from multimodal_recall.text import strip_leading_token

logger = logging.getLogger(__name__)

PRODUCTS_PER_BATCH = 1000
CROWDED_BOXES = 40
REJECTED_CHARACTERS = 200


class IngestError(Exception):
    """A chunk cannot be trusted: too many rows, or too many bad ones."""


class CleanedRow(BadRow):
    """A sound row that a cleaning option leaves out."""


@dataclass
class ProductColumns:
    """Collects distinct products; what one holds beyond its id is written once."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    waiting: list[OfficialRow] = field(default_factory=list)
    seen: dict[int, tuple[int, bytes]] = field(default_factory=dict)

    def row_of(self, row: OfficialRow) -> int:
        """Give the product's row number, adding it at its first appearance.

        Raises:
            BadRow: If the product was seen with another image size or other boxes.
        """
        looks = b"%d %d " % (row.image_h, row.image_w) + row.boxes.tobytes() + row.labels.tobytes()
        if row.product_id not in self.seen:
            self.seen[row.product_id] = (len(self.seen), looks)
            self.waiting.append(row)
            if len(self.waiting) == PRODUCTS_PER_BATCH:
                self.flush()
        number, first_looks = self.seen[row.product_id]
        if looks != first_looks:
            raise BadRow(f"product {row.product_id} stands in this chunk with another size, boxes or labels")
        return number

    def flush(self) -> None:
        """Turn the waiting rows into a finished batch."""
        rows, schema = self.waiting, TABLES["products"]
        offsets = np.cumsum([0] + [len(row.boxes) for row in rows], dtype=np.int32)
        sides = np.concatenate([row.boxes for row in rows])
        labels = np.concatenate([row.labels for row in rows]).astype(np.int16)
        columns = [
            pa.array([row.product_id for row in rows], pa.int64()),
            pa.array([row.image_h for row in rows], pa.int32()),
            pa.array([row.image_w for row in rows], pa.int32()),
            *(pa.ListArray.from_arrays(offsets, np.ascontiguousarray(sides[:, side])) for side in range(4)),
            pa.ListArray.from_arrays(offsets, labels),
            pa.array([row.features.tobytes() for row in rows], pa.large_binary()),
        ]
        self.batches.append(pa.RecordBatch.from_arrays(columns, schema=schema))
        self.waiting = []

    def table(self) -> pa.Table:
        """All products so far."""
        if self.waiting:
            self.flush()
        return pa.Table.from_batches(self.batches, TABLES["products"])


def ingest_chunk(tsv: OfficialTsv, labels: list[str], options: IngestOptions, chunk: Chunk) -> dict[str, pa.Table]:
    """Decode one byte range of a TSV.

    Args:
        tsv: Handle on the split's file.
        labels: The label names; a row's labels must be among them.
        options: What is kept.
        chunk: Which range.

    Returns:
        ``products``, ``pairs`` and ``rejected``, as in ``tables.TABLES``; row numbers in ``rejected`` count from the
        start of the chunk.

    Raises:
        IngestError: If the range holds no row or more than ``max_rows_per_chunk``, or if more than
            ``max_rejected_share`` of them are malformed, or all are left out.
    """
    products, pairs, rejected = ProductColumns(), [], []
    query_rows: dict[str, int] = {}
    candidates: set[tuple[int, int]] = set()
    training, largest_first = chunk.split == "train", options.box_order == "largest_first"
    lines = stripped = 0
    for offset, line in tsv.lines(chunk.number, chunk.count):
        lines += 1
        if lines > options.max_rows_per_chunk:
            raise _too_many_rows(tsv, chunk, options, offset)
        try:
            decoded = decode_row(line, options.feature_size, len(labels), options.max_boxes, largest_first)
            row = clean(decoded, options, training)
            if not training and (row.query_id, row.product_id) in candidates:
                raise BadRow(f"product {row.product_id} stands twice in the candidate list of query {row.query_id}")
            product_row = products.row_of(row)
        except BadRow as error:
            kind = "cleaned" if isinstance(error, CleanedRow) else "malformed"
            text = line[: 4 * REJECTED_CHARACTERS].decode("utf-8", "replace")[:REJECTED_CHARACTERS]
            rejected.append((tsv.path.name, lines, offset, kind, str(error), text))
            continue
        stripped += row.query != decoded.query
        candidates.add((row.query_id, row.product_id))
        query_row = query_rows.setdefault(row.query, len(query_rows))
        pairs.append((row.query_id, row.query, query_row, row.product_id, product_row))
    if stripped:
        logger.info("%s: a leading leftover was stripped from %d queries", chunk.namespace, stripped)
    _report(tsv, chunk, options, lines, rejected)
    made = {"products": products.table(), "pairs": _table("pairs", pairs), "rejected": _table("rejected", rejected)}
    origin = _origin(tsv, chunk, made["pairs"])
    return {name: stamp_origin(table, origin) for name, table in made.items()}


def ingest_of(chunk: Chunk) -> Callable[..., dict[str, pa.Table]]:
    """Bind ``ingest_chunk`` to its chunk; the type hints stay, from which Kedro builds the options."""

    def ingest(tsv: OfficialTsv, labels: list[str], options: IngestOptions) -> dict[str, pa.Table]:
        return ingest_chunk(tsv, labels, options, chunk)

    return ingest


def clean(row: OfficialRow, options: IngestOptions, training: bool) -> OfficialRow:
    """Apply the published cleaning rules that the options turn on.

    Candidates of valid and test are never dropped, only their queries' text is cleaned.

    Raises:
        CleanedRow: If a rule leaves the row out.
    """
    if training and options.drop_possessive_queries and row.query.startswith("'s"):
        raise CleanedRow("query starts with 's")
    if training and options.drop_crowded_images and row.num_boxes > CROWDED_BOXES:
        raise CleanedRow(f"image has more than {CROWDED_BOXES} boxes")
    if options.strip_leading_tokens:
        return replace(row, query=strip_leading_token(row.query))
    return row


def merge_rejected(*tables: ds.Dataset) -> pa.Table:
    """Put a split's rejected rows together, with row numbers counted from the start of the file.

    Args:
        tables: ``rejected``, then ``pairs``, of each chunk in file order; kept and rejected rows of a chunk add up
            to the lines it had.
    """
    merged, rows_before = [], 0
    for rejected, pairs in zip(tables[::2], tables[1::2], strict=True):
        table = rejected.to_table()
        column = table.schema.get_field_index("row")
        rows = pa.array(table.column(column).to_numpy() + rows_before, pa.int64())
        merged.append(table.set_column(column, "row", rows))
        rows_before += table.num_rows + pairs.count_rows()
    return pa.concat_tables(merged)


def _origin(tsv: OfficialTsv, chunk: Chunk, pairs: pa.Table) -> dict[bytes, bytes]:
    """What later stages compare, so that row numbers are never read in another chunk's tables."""
    digest = hashlib.blake2b(digest_size=16)
    for column in pairs.combine_chunks().columns:
        for buffer in column.chunk(0).buffers() if column.num_chunks else ():
            digest.update(buffer or b"")
    cut = f"{chunk.count} chunks of {tsv.path.name}, {tsv.path.stat().st_size} bytes"
    return {b"pairs": digest.hexdigest().encode(), b"cut": cut.encode()}


def _table(name: str, rows: list[tuple]) -> pa.Table:
    schema = TABLES[name]
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.table([pa.array(column, kind.type) for column, kind in zip(columns, schema, strict=True)], schema)


def _too_many_rows(tsv: OfficialTsv, chunk: Chunk, options: IngestOptions, offset: int) -> IngestError:
    size = tsv.path.stat().st_size
    row_bytes = (offset - chunk.number * size // chunk.count) / options.max_rows_per_chunk
    wanted = int(size / (row_bytes * options.max_rows_per_chunk)) + 1
    return IngestError(
        f"{tsv.path}: {chunk.name} of {chunk.count} holds more than {options.max_rows_per_chunk} rows "
        f"(ingest.max_rows_per_chunk). Set chunks.{chunk.split} to at least {wanted}."
    )


def _report(tsv: OfficialTsv, chunk: Chunk, options: IngestOptions, lines: int, rejected: list[tuple]) -> None:
    """Log what was left out of the chunk, and refuse a chunk with too much of it."""
    if lines == 0:
        raise IngestError(
            f"{tsv.path}: {chunk.name} of {chunk.count} holds no rows. Put a whole file there, or lower "
            f"chunks.{chunk.split} (now {chunk.count})."
        )
    if not rejected:
        return
    reasons = Counter((kind, reason) for *_, kind, reason, _ in rejected)
    counts = "; ".join(f"{count} x {reason}" for (_, reason), count in reasons.most_common(5))
    logger.warning("%s: %d of %d rows left out: %s", chunk.namespace, len(rejected), lines, counts)
    malformed = [row for row in rejected if row[3] == "malformed"]
    if len(malformed) > options.max_rejected_share * lines:
        _, row, offset, _, reason, text = malformed[0]
        raise IngestError(
            f"{tsv.path}: {len(malformed)} of {lines} rows of {chunk.name} are malformed, more than "
            f"ingest.max_rejected_share ({options.max_rejected_share:.2%}). Most frequent: {counts}. First: row {row} "
            f"of the chunk, byte {offset} of the file: {reason}: {text[:80]!r}. Mend the file, or raise the share."
        )
    if len(rejected) == lines:
        raise IngestError(f"{tsv.path}: all {lines} rows of {chunk.name} are left out: {counts}. Look at the options.")
