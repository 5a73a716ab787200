"""Read one chunk of an official TSV: sound rows into columns, faulty rows with their reason."""

import itertools
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np
import pyarrow as pa

from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import IngestOptions
from multimodal_recall.data.decoding import Rows, decode_rows, float16_cast
from multimodal_recall.data.official_tsv import OfficialTsv
from multimodal_recall.data.schemas import TABLES
from multimodal_recall.data.text import strip_leading_token
from multimodal_recall.runtime.progress import bar

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
        self.batches.append(product_batch(rows.take(new)))
        return numbers

    def table(self) -> pa.Table:
        """All products so far."""
        return pa.Table.from_batches(self.batches, TABLES["products"])


def product_batch(rows: Rows) -> pa.RecordBatch:
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
                    raise too_many_rows(self.tsv, self.chunk, self.options, block[most - self.lines][0])
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


def table_of(name: str, rows: list[tuple]) -> pa.Table:
    """Turn rows into the table of that name."""
    schema = TABLES[name]
    columns = zip(*rows, strict=True) if rows else [()] * len(schema)
    return pa.table([pa.array(column, kind.type) for column, kind in zip(columns, schema, strict=True)], schema)


def too_many_rows(tsv: OfficialTsv, chunk: Chunk, options: IngestOptions, offset: int) -> IngestError:
    """Say how many chunks would hold the file; ``offset`` is where the last row that fits ends."""
    size = tsv.path.stat().st_size
    row_bytes = (offset - chunk.number * size // chunk.count) / options.max_rows_per_chunk
    wanted = int(size / (row_bytes * options.max_rows_per_chunk)) + 1
    return IngestError(
        f"{tsv.path}: {chunk.name} of {chunk.count} holds more than {options.max_rows_per_chunk} rows "
        f"(ingest.max_rows_per_chunk). Set chunks.{chunk.split} to at least {wanted}."
    )
