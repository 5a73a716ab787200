"""Read byte ranges of an official TSV into tables of products, pairs and rejected rows."""

import hashlib
import itertools
import logging
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.datasets.decoding import Rows, decode_rows, float16_cast
from multimodal_recall.datasets.official_tsv import OfficialTsv
from multimodal_recall.layout import Chunk
from multimodal_recall.options import IngestOptions
from multimodal_recall.progress import bar, rate
from multimodal_recall.tables import TABLES, stamp_origin
from multimodal_recall.text import strip_leading_token

logger = logging.getLogger(__name__)

LINES_PER_BLOCK = 64  # 3 MB of text, which the processor's cache holds
CROWDED_BOXES = 40
REJECTED_CHARACTERS = 200


class IngestError(Exception):
    """A chunk cannot be trusted: too many rows, or too many bad ones."""


@dataclass
class ProductColumns:
    """Collects distinct products; what one holds beyond its id is written once."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    seen: dict[int, tuple[int, tuple[int, int, bytes, bytes]]] = field(default_factory=dict)

    def add(self, rows: Rows) -> list[int]:
        """Give each row's product its row number, keeping those that appear for the first time.

        Returns:
            (n,) row numbers; -1 where the product was seen with another image size, other boxes or labels.
        """
        ends = np.cumsum(rows.counts)
        boxes, labels = rows.boxes.tobytes(), rows.labels.tobytes()
        columns = (rows.product_ids, rows.image_h, rows.image_w, ends - rows.counts, ends)
        new, numbers = np.zeros(len(ends), bool), []
        for place, (product, height, width, start, end) in enumerate(
            zip(*(column.tolist() for column in columns), strict=True)
        ):
            looks = (height, width, boxes[16 * start : 16 * end], labels[8 * start : 8 * end])
            if product not in self.seen:
                self.seen[product] = (len(self.seen), looks)
                new[place] = True
            number, first_looks = self.seen[product]
            numbers.append(number if looks == first_looks else -1)
        self.batches.append(_product_batch(rows.take(new)))
        return numbers

    def table(self) -> pa.Table:
        """All products so far."""
        return pa.Table.from_batches(self.batches, TABLES["products"])


def _product_batch(rows: Rows) -> pa.RecordBatch:
    """Rows as a batch of ``products``; the features are not copied."""
    ends = np.concatenate([[0], np.cumsum(rows.counts)])
    feature_bytes = ends * rows.features.shape[1] * rows.features.itemsize
    offsets = pa.array(ends, pa.int32())
    columns = [
        pa.array(rows.product_ids),
        pa.array(rows.image_h, pa.int32()),
        pa.array(rows.image_w, pa.int32()),
        *(pa.ListArray.from_arrays(offsets, pa.array(np.ascontiguousarray(side))) for side in rows.boxes.T),
        pa.ListArray.from_arrays(offsets, pa.array(rows.labels.astype(np.int16))),
        pa.Array.from_buffers(
            pa.large_binary(), len(rows.counts), [None, pa.py_buffer(feature_bytes), pa.py_buffer(rows.features)]
        ),
    ]
    return pa.RecordBatch.from_arrays(columns, schema=TABLES["products"])


class ChunkRows:
    """Collects what is kept of a chunk and what is not, block after block."""

    def __init__(self, tsv: OfficialTsv, label_count: int, options: IngestOptions, chunk: Chunk) -> None:
        self.tsv, self.label_count, self.options, self.chunk = tsv, label_count, options, chunk
        self.training = chunk.split == "train"
        self.cast = float16_cast(tsv.path.stat().st_size // chunk.count)
        self.products = ProductColumns()
        self.pairs: list[tuple[int, str, int, int, int]] = []
        self.rejected: list[tuple[str, int, int, str, str, str]] = []
        self.query_rows: dict[str, int] = {}
        self.candidates: set[tuple[int, int]] = set()
        self.lines = self.stripped = 0

    def read(self) -> Iterator[Rows]:
        """Take all lines of the chunk, block by block.

        Yields:
            The sound rows of each block.

        Raises:
            IngestError: If there are more lines than ``max_rows_per_chunk``, or none.
        """
        most, lines = self.options.max_rows_per_chunk, self.tsv.lines(self.chunk.number, self.chunk.count)
        size_in_mb = self.tsv.path.stat().st_size / self.chunk.count / 1e6
        with bar(f"read {self.chunk.title}", size_in_mb, "MB") as shown:
            while block := list(itertools.islice(lines, LINES_PER_BLOCK)):
                if self.lines + len(block) > most:
                    raise _too_many_rows(self.tsv, self.chunk, self.options, block[most - self.lines][0])
                yield self.add(*zip(*block, strict=True))
                shown.advance(sum(len(line) for _, line in block) / 1e6)
        if self.lines == 0:
            raise IngestError(
                f"{self.tsv.path}: {self.chunk.name} of {self.chunk.count} holds no rows. Put a whole file there, or "
                f"lower chunks.{self.chunk.split} (now {self.chunk.count})."
            )

    def add(self, offsets: Sequence[int], lines: Sequence[bytes]) -> Rows:
        """Take the next lines of the chunk, each with its byte offset in the file; gives the sound rows."""
        options = self.options
        rows, malformed = decode_rows(
            lines,
            options.feature_size,
            self.label_count,
            options.max_boxes,
            options.box_order == "largest_first",
            self.cast,
        )
        cleaned = reasons_to_drop(rows, options) if self.training else {}
        rows = rows.take(~np.isin(rows.places, list(cleaned)))
        malformed |= self._keep(rows)
        for place in sorted(malformed | cleaned):
            kind = "cleaned" if place in cleaned else "malformed"
            text = lines[place][: 4 * REJECTED_CHARACTERS].decode("utf-8", "replace").rstrip("\r\n")
            found = (self.lines + place + 1, offsets[place], kind, (malformed | cleaned)[place])
            self.rejected.append((self.tsv.path.name, *found, text[:REJECTED_CHARACTERS]))
        self.lines += len(lines)
        return rows

    def _keep(self, rows: Rows) -> dict[int, str]:
        """Keep the pairs and products of sound rows; the reasons for those that contradict what was kept before."""
        queries, reasons = rows.queries, {}
        if self.options.strip_leading_tokens:
            queries = [strip_leading_token(query) for query in queries]
            self.stripped += sum(query != before for query, before in zip(queries, rows.queries, strict=True))
        ids = (rows.places.tolist(), rows.query_ids.tolist(), rows.product_ids.tolist())
        for place, query_id, product_id, query, product_row in zip(*ids, queries, self.products.add(rows), strict=True):
            if product_row < 0:
                reasons[place] = f"product {product_id} stands in this chunk with another size, boxes or labels"
            elif (query_id, product_id) in self.candidates:
                reasons[place] = f"product {product_id} stands twice in the candidate list of query {query_id}"
            else:
                query_row = self.query_rows.setdefault(query, len(self.query_rows))
                self.pairs.append((query_id, query, query_row, product_id, product_row))
                if not self.training:
                    self.candidates.add((query_id, product_id))
        return reasons


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
    rows = ChunkRows(tsv, len(labels), options, chunk)
    start = time.perf_counter()
    for _ in rows.read():
        pass
    logger.info("ingest %s: %s rows, %s", chunk.title, f"{rows.lines:,}", rate(rows.lines, start))
    if rows.stripped:
        logger.info("%s: a leading leftover was stripped from %d queries", chunk.namespace, rows.stripped)
    _report(tsv, chunk, options, rows.lines, rows.rejected)
    tables = {
        "products": rows.products.table(),
        "pairs": _table("pairs", rows.pairs),
        "rejected": _table("rejected", rows.rejected),
    }
    origin = _origin(tsv, chunk, tables["pairs"])
    return {name: stamp_origin(table, origin) for name, table in tables.items()}


def ingest_of(chunk: Chunk) -> Callable[..., dict[str, pa.Table]]:
    """Bind ``ingest_chunk`` to its chunk; the type hints stay, from which Kedro builds the options."""

    def ingest(tsv: OfficialTsv, labels: list[str], options: IngestOptions) -> dict[str, pa.Table]:
        """Decode one byte range of a TSV; see ``ingest_chunk``."""
        return ingest_chunk(tsv, labels, options, chunk)

    return ingest


def reasons_to_drop(rows: Rows, options: IngestOptions) -> dict[int, str]:
    """Apply the published cleaning rules that the options turn on, to training rows.

    Candidates of valid and test are never dropped, only their queries' text is cleaned.

    Returns:
        The reason for each place of a sound row that a rule leaves out.
    """
    reasons = {}
    if options.drop_crowded_images:
        crowded = rows.places[rows.num_boxes > CROWDED_BOXES].tolist()
        reasons |= dict.fromkeys(crowded, f"image has more than {CROWDED_BOXES} boxes")
    if options.drop_possessive_queries:
        possessive = [place for place, query in zip(rows.places, rows.queries, strict=True) if query.startswith("'s")]
        reasons |= dict.fromkeys(possessive, "query starts with 's")
    return reasons


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
