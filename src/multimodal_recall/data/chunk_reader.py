"""Read one chunk of an official TSV or own table: sound rows become columns, faulty rows are rejected with a reason."""

import itertools
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np
import pyarrow as pa

from multimodal_recall.config.layout import CATALOGUE, Chunk
from multimodal_recall.config.options import IngestOptions
from multimodal_recall.data.decoding import Rows, decode_rows
from multimodal_recall.data.official_tsv import OfficialTsv
from multimodal_recall.data.own_table import OwnTable
from multimodal_recall.data.schemas import TABLES
from multimodal_recall.data.text import normal_form, strip_leading_token
from multimodal_recall.runtime.progress import bar

LINES_PER_BLOCK = 64  # 3 MB of text, which the processor's cache holds
TORCH_PAYS_BYTES = 300_000_000
"""Size of a chunk from which torch rounds its features, if torch is not imported anyhow: six times as fast as numpy,
after an import of 2.6 s that every later stage needs too. A chunk of 2 GB wins the import back alone."""
CROWDED_BOXES = 40
REJECTED_CHARACTERS = 200
Content = tuple[int, int, bytes, bytes, bytes]


class IngestError(Exception):
    """A chunk has no rows, too many rows, or too many malformed rows."""


@dataclass
class ProductColumns:
    """Collects the distinct products of a chunk."""

    batches: list[pa.RecordBatch] = field(default_factory=list)
    seen: dict[int, tuple[int, Content]] = field(default_factory=dict)
    """Row number and content of each product id; see ``contents_of``."""

    def add(self, rows: Rows) -> list[int]:
        """Number the products of the rows, and keep each product that appears for the first time.

        Returns:
            (n,) row numbers; -1 where the product was seen with another image size, other boxes, labels or features.
        """
        new, numbers = np.zeros(len(rows.counts), bool), []
        for place, (product, content) in enumerate(zip(rows.product_ids.tolist(), contents_of(rows), strict=True)):
            if product not in self.seen:
                self.seen[product] = (len(self.seen), content)
                new[place] = True
            number, first_content = self.seen[product]
            numbers.append(number if content == first_content else -1)
        self.batches.append(rows.take(new).to_products())
        return numbers

    def table(self) -> pa.Table:
        """Give all products so far as a table."""
        return pa.Table.from_batches(self.batches, TABLES["products"])


class ChunkRows:
    """Collects the kept and the rejected rows of a chunk, block after block."""

    def __init__(self, tsv: OfficialTsv | OwnTable, label_count: int, options: IngestOptions, chunk: Chunk) -> None:
        self.tsv, self.label_count, self.options, self.chunk = tsv, label_count, options, chunk
        self.training, self.with_queries = chunk.split == "train", chunk.split != CATALOGUE
        self.with_torch = "torch" in sys.modules or tsv.stored_bytes // chunk.count >= TORCH_PAYS_BYTES
        self.products = ProductColumns()
        self.pairs: list[tuple[int, str, int, int, int]] = []
        self.rejected: list[tuple[str, int, int | None, str, str, str]] = []
        self.query_rows: dict[str, int] = {}
        self.candidates: set[tuple[int, int]] = set()
        self.lines = self.stripped = self.clipped = 0

    def read(self) -> Iterator[Rows]:
        """Read the whole chunk.

        Yields:
            The sound rows of each block of lines.

        Raises:
            IngestError: If the chunk has no line, or more lines than ``max_rows_per_chunk``.
            RawFileError: If the header is not the official header.
        """
        most = self.options.max_rows_per_chunk
        lines = self.tsv.lines(self.chunk.number, self.chunk.count, self.options.max_line_bytes)
        unit, name = self.tsv.unit
        with bar(f"read {self.chunk.title}", self.tsv.size / self.chunk.count / unit, name) as shown:
            while block := list(itertools.islice(lines, LINES_PER_BLOCK)):
                if self.lines + len(block) > most:
                    raise self._too_many_rows(block[most - self.lines][0])
                yield self._add(*zip(*block, strict=True))
                shown.advance((block[-1][0] - block[0][0]) / unit)
        if self.lines == 0:
            raise IngestError(
                f"{self.tsv.path}: {self.chunk.name} of {self.chunk.count} holds no rows. Put a whole file there, or "
                f"lower chunks.{self.chunk.split} (now {self.chunk.count})."
            )

    def _add(self, offsets: Sequence[int], lines: Sequence[bytes]) -> Rows:
        """Take the next lines of the chunk, each with its byte offset in the file, and return the sound rows."""
        options = self.options
        kept = options.max_boxes, options.box_order == "largest_first"
        how = (*kept, self.with_torch, self.with_queries)
        rows, malformed = decode_rows(lines, options.feature_size, self.label_count, *how)
        cleaned = _reasons_to_drop(rows, options) if self.training else {}  # candidates are never dropped
        rows = rows.take(~np.isin(rows.places, list(cleaned)))
        self.clipped += int(rows.clipped.sum())
        malformed |= self._keep(rows)
        for place, reason in sorted((malformed | cleaned).items()):
            kind = "cleaned" if place in cleaned else "malformed"
            text = self.tsv.shown(lines[place])
            location = (self.tsv.path.name, self.lines + place + 1, self.tsv.byte(offsets[place]))
            self.rejected.append((*location, kind, reason, text[:REJECTED_CHARACTERS]))
        self.lines += len(lines)
        return rows

    def _keep(self, rows: Rows) -> dict[int, str]:
        """Keep the pairs and products of sound rows; give the reason for each row that contradicts an earlier row."""
        queries, reasons = rows.queries, {}
        if self.options.strip_leading_tokens:
            queries = [strip_leading_token(query) for query in queries]
            self.stripped += sum(query != before for query, before in zip(queries, rows.queries, strict=True))
        ids = (rows.places.tolist(), rows.query_ids.tolist(), rows.product_ids.tolist())
        for place, query_id, product_id, query, product_row in zip(*ids, queries, self.products.add(rows), strict=True):
            if product_row < 0:
                reasons[place] = (
                    f"product {product_id} stands in this chunk with another size, boxes, labels or features"
                )
            elif (query_id, product_id) in self.candidates:
                reasons[place] = f"product {product_id} stands twice in the candidate list of query {query_id}"
            else:
                query_row = self.query_rows.setdefault(query, len(self.query_rows))
                self.pairs.append((query_id, query, query_row, product_id, product_row))
                if self.with_queries and not self.training:  # a product may stand twice in a catalogue
                    self.candidates.add((query_id, product_id))
        return reasons

    def _too_many_rows(self, offset: int) -> IngestError:
        """Say how many chunks would hold the file, where the last row that fits ends at ``offset``."""
        chunk, most, size = self.chunk, self.options.max_rows_per_chunk, self.tsv.size
        row_size = (offset - chunk.number * size // chunk.count) / most
        return IngestError(
            f"{self.tsv.path}: {chunk.name} of {chunk.count} holds more than {most} rows "
            f"(ingest.max_rows_per_chunk). Set chunks.{chunk.split} to at least {int(size / (row_size * most)) + 1}."
        )


def draw_products(
    tsv: OfficialTsv | OwnTable, label_count: int, options: IngestOptions, wanted: int, seed: int
) -> pa.Table:
    """Draw products of a TSV or own table at random places, as its ``draw_lines`` does.

    Rows are decoded as for a chunk; malformed rows are left out, a product of several rows comes once.

    Raises:
        IngestError: If no drawn row is sound.
        RawFileError: If the header is not the official header.
    """
    products, random = ProductColumns(), np.random.default_rng(seed)
    lines = (line for _, line in tsv.draw_lines(wanted, random, options.max_line_bytes))
    kept = options.max_boxes, options.box_order == "largest_first"
    while block := list(itertools.islice(lines, LINES_PER_BLOCK)):
        rows, _ = decode_rows(block, options.feature_size, label_count, *kept, "torch" in sys.modules)
        products.add(rows)
    if not products.seen:
        raise IngestError(f"{tsv.path}: no row of {wanted} drawn rows is sound. Look at its rows with: kedro check")
    return products.table()


def _reasons_to_drop(rows: Rows, options: IngestOptions) -> dict[int, str]:
    """Give the place and reason of each sound training row that a published cleaning rule, if turned on, leaves out."""
    reasons = {}
    if options.drop_crowded_images:
        crowded = rows.places[rows.num_boxes > CROWDED_BOXES].tolist()
        reasons |= dict.fromkeys(crowded, f"image has more than {CROWDED_BOXES} boxes")
    if options.drop_possessive_queries:
        possessive = [
            place for place, query in zip(rows.places, rows.queries, strict=True) if normal_form(query).startswith("'s")
        ]
        reasons |= dict.fromkeys(possessive, "query starts with 's")
    return reasons


def contents_of(rows: Rows) -> Iterator[Content]:
    """Give what all rows of a product have in common: height, width, boxes, labels, digests of the features."""
    ends = np.cumsum(rows.counts)
    boxes, labels, features = rows.boxes.tobytes(), rows.labels.tobytes(), digest_boxes(rows.features).tobytes()
    columns = (rows.image_h, rows.image_w, ends - rows.counts, ends)
    for height, width, start, end in zip(*(column.tolist() for column in columns), strict=True):
        by_box = (boxes[16 * start : 16 * end], labels[8 * start : 8 * end], features[8 * start : 8 * end])
        yield height, width, *by_box


def digest_boxes(features: np.ndarray) -> np.ndarray:
    """Digest the float16 features (b, F) of each box to a number (b,) uint64: a sum of its bits, four at a time."""
    # 2 microseconds for 5 boxes of 2048 numbers, where crc32 takes 5 and sha1 11 (one AVX2 core).
    bits = features.view(np.uint16)
    if missing := -bits.shape[1] % 4:
        bits = np.pad(bits, ((0, 0), (0, missing)))
    fours = bits.view(np.uint64)
    return fours @ _odd_weights(fours.shape[1])


@lru_cache
def _odd_weights(count: int) -> np.ndarray:
    """Draw odd numbers (count,) uint64: modulo 2^64, a product with them is different for each number."""
    return np.random.default_rng(0).integers(2**63, size=count, dtype=np.uint64) * np.uint64(2) + np.uint64(1)


def table_of(schema: pa.Schema, rows: list[tuple]) -> pa.Table:
    """Turn rows into a table."""
    columns = map(list, zip(*rows, strict=True)) if rows else [[]] * len(schema)
    return pa.table(list(columns), schema)
