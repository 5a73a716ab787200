"""What an environment's raw files hold, and which faults they have, row by row and across files.

Rows are read by the code of ingest, so that the check and a run agree on each row.
"""

import itertools
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import pandas as pd
from kedro.io import CatalogProtocol, DatasetError

from multimodal_recall.commands.check_names import check_names
from multimodal_recall.commands.check_options import FileCheck, check_checkpoints, check_glove
from multimodal_recall.config.layout import CATALOGUE, Chunk, Layout
from multimodal_recall.config.options import IngestOptions
from multimodal_recall.data.boxes import CLIPPED_PIXELS
from multimodal_recall.data.chunk_reader import LINES_PER_BLOCK, ChunkRows, IngestError, contents_of
from multimodal_recall.data.decoding import Rows, feature_width
from multimodal_recall.data.official_format import RawFileError
from multimodal_recall.data.official_tsv import OfficialTsv
from multimodal_recall.data.own_table import OwnTable
from multimodal_recall.data.text import words_of
from multimodal_recall.evaluation.judgements import take_judgements
from multimodal_recall.evaluation.metrics import MetricError
from multimodal_recall.negatives.drawing import NegativeError, ignored_rows

PAIR = ["query_id", "product_id"]


@dataclass
class SplitContents:
    """Contents of a split's sound rows without features: a few numbers a row, and each query text once."""

    labels: np.ndarray
    """Number of kept boxes with each label."""
    parts: list[pd.DataFrame] = field(default_factory=list)
    """``query_id``, ``product_id``, ``boxes``, ``chunk``, and hashes of the query's ``text`` and of the product's
    ``look``, for each block of rows."""
    queries: set[str] = field(default_factory=set)
    covered: float = 0.0
    """Sum of the kept boxes' shares of their image's area."""
    largest_side: float = 0.0
    """Largest side of a kept box, in pixels."""

    def add(self, rows: Rows, chunk: Chunk) -> None:
        """Add the sound rows of a block."""
        columns = {"query_id": rows.query_ids, "product_id": rows.product_ids, "boxes": rows.num_boxes}
        text = pd.util.hash_array(np.array(rows.queries, object))
        look = np.fromiter(map(hash, contents_of(rows)), np.int64)
        self.parts.append(pd.DataFrame(columns).assign(chunk=chunk.number, text=text, look=look))
        self.queries.update(rows.queries)
        self.labels += np.bincount(rows.labels, minlength=len(self.labels))
        top, left, bottom, right = rows.boxes.T.astype(np.float64)
        self.covered += ((bottom - top) * (right - left) / np.repeat(rows.image_h * rows.image_w, rows.counts)).sum()
        self.largest_side = max(self.largest_side, rows.boxes.max(initial=0))

    def pairs(self) -> pd.DataFrame:
        """Give all rows as one table."""
        columns = [*PAIR, "boxes", "chunk", "text", "look"]
        return pd.concat(self.parts) if self.parts else pd.DataFrame(columns=columns, dtype=np.int64)


def check_raw_files(catalog: CatalogProtocol, layout: Layout) -> Iterator[FileCheck]:
    """Check the raw files of an environment's splits, one after the other; the layout has at least one ranker.

    Yields:
        The label file, each split's rows and answers, and the checkpoints and the GloVe file that the options name.
    """
    labels, check = _load(catalog, "labels")
    if labels is not None:
        check.facts.append(f"{len(labels)} labels")
        try:
            ignored_rows(labels, catalog.get("params:sample_negatives").load().ignored_labels)
        except NegativeError as error:
            check.add(str(error))
    yield check
    if labels is not None:  # without labels no row can be judged
        yield from _check_splits(catalog, layout, labels)


def _check_splits(catalog: CatalogProtocol, layout: Layout, labels: list[str]) -> Iterator[FileCheck]:
    options, width_check = _with_width_of_file(catalog, layout, catalog.get("params:ingest").load())
    if width_check is not None:
        yield width_check
    known = set[str]()
    for split in layout.ingested:
        contents, check = _check_split(split, catalog, layout, labels, options)
        if split == "train":
            known = {word for query in contents.queries for word in words_of(query)}
        check.facts += _facts(split, contents, labels, known)
        yield check
        if contents.parts:
            rows, products = _load_rows(catalog, layout, split)[0], contents.pairs()["product_id"].unique()
            yield from check_names(split, rows, _load(catalog, "titles") if layout.titled else None, products)
        if split in layout.answered and contents.parts:
            check_right = _check_qrels if split in layout.judged else _check_answers
            yield check_right(split, catalog, contents.pairs())
    yield from check_checkpoints(catalog)
    glove = catalog.get("params:word_vectors").load()
    if glove.glove_file is not None:
        yield check_glove(glove, known.union(*map(words_of, labels)))


def _load(catalog: CatalogProtocol, name: str) -> tuple[Any, FileCheck]:
    """Load a raw file and open its check; ``None`` stands for a file that cannot be read."""
    dataset = catalog.get(name)
    check = FileCheck(dataset.path.name)
    try:
        return dataset.load(), check  # catalog.load would write to the log
    except DatasetError as error:
        check.add(str(error))
        return None, check


def _load_rows(catalog: CatalogProtocol, layout: Layout, split: str) -> tuple[OfficialTsv | OwnTable | None, FileCheck]:
    """Load the TSV or own table of a split as ingest does, and open its check."""
    name, *further = layout.sources_of(split)
    rows, check = _load(catalog, name)
    for other in further if rows is not None else ():
        products, failed = _load(catalog, other)
        if products is None:
            return None, failed
        rows = rows.join(products)
    return rows, check


def _with_width_of_file(
    catalog: CatalogProtocol, layout: Layout, options: IngestOptions
) -> tuple[IngestOptions, FileCheck | None]:
    """Take the feature width of most of the first training rows, with one fault where the options have another.

    So one line reports the wrong option, and the rows are still checked.
    """
    tsv, check = _load_rows(catalog, layout, "train")
    try:
        lines = itertools.islice(tsv.lines(longest=options.max_line_bytes) if tsv is not None else (), LINES_PER_BLOCK)
        widths = Counter(width for _, line in lines if (width := feature_width(line)) is not None)
    except RawFileError:  # a wrong header: the check of the split reports it
        return options, None
    width = widths.most_common(1)[0][0] if widths else options.feature_size
    if width == options.feature_size:
        return options, None
    check.add(
        f"its features hold {width} numbers a box, ingest.feature_size is {options.feature_size}. Write into "
        f"conf/<env>/parameters.yml: ingest: {{feature_size: {width}}}"
    )
    return replace(options, feature_size=width), check


def _check_split(
    split: str, catalog: CatalogProtocol, layout: Layout, labels: list[str], options: IngestOptions
) -> tuple[SplitContents, FileCheck]:
    """Read all chunks of a split as ingest does, and keep the contents that are compared across files."""
    contents = SplitContents(np.zeros(len(labels), np.int64))
    tsv, check = _load_rows(catalog, layout, split)
    if tsv is None:
        return contents, check
    rows_before = clipped = 0
    for chunk in layout.chunks_of(split):
        rows = ChunkRows(tsv, len(labels), options, chunk)
        try:
            for sound in rows.read():
                contents.add(sound, chunk)
                _note_rejected(rows, rows_before, check)
        except (RawFileError, IngestError) as error:
            check.add(str(error))
            return SplitContents(np.zeros(len(labels), np.int64)), check  # half a split is not compared across files
        rows_before += rows.lines
        clipped += rows.clipped
    check.facts.append(f"{rows_before:,} rows, {rows_before - check.counts.total():,} of them sound")
    check.facts += [f"{clipped:,} boxes leave their image by at most {CLIPPED_PIXELS} pixel: clipped"] * bool(clipped)
    if contents.parts and contents.largest_side <= 1:
        check.add("all boxes lie within 0 to 1, as fractions of the image do. Write pixels: times image_h and image_w")
    _check_texts(contents.pairs(), split, check)
    _check_looks(contents.pairs(), layout.chunks_of(split), check)
    if split not in ("train", CATALOGUE):
        _check_lists(contents.pairs(), layout.chunks_of(split), check)
    return contents, check


def _check_texts(pairs: pd.DataFrame, split: str, check: FileCheck) -> None:
    """Check that a query id has one text: candidates are gathered and answers named by the id."""
    texts = pairs.groupby("query_id")["text"].nunique()
    for query, count in texts[texts > 1].items():
        check.add(f"a query_id of {split} has {count} texts; give each text its own", f"query {query}")


def _check_looks(pairs: pd.DataFrame, chunks: list[Chunk], check: FileCheck) -> None:
    """Check across chunks that a product looks the same everywhere; ingest checks it inside each chunk."""
    first = pairs.drop_duplicates(["product_id", "chunk"])
    differing = first.groupby("product_id")["look"].transform("nunique") > 1
    for product, numbers in first[differing].groupby("product_id")["chunk"]:
        check.add(
            "a product has another size, boxes, labels or features in another chunk; give it the same in all its rows",
            f"product {product}, {' and '.join(chunks[number].namespace for number in numbers)}",
        )


def _check_lists(pairs: pd.DataFrame, chunks: list[Chunk], check: FileCheck) -> None:
    """Check across chunks that a product stands once in a candidate list; ingest checks it inside each chunk."""
    pairs = pairs.drop_duplicates([*PAIR, "chunk"])
    for (query, product), numbers in pairs[pairs.duplicated(PAIR, keep=False)].groupby(PAIR)["chunk"]:
        check.add(
            "a product stands twice in a candidate list; keep one of its rows",
            f"query {query}, product {product}, {' and '.join(chunks[number].namespace for number in numbers)}",
        )


def _note_rejected(rows: ChunkRows, rows_before: int, check: FileCheck) -> None:
    """Move the malformed rows into the check and free the features."""
    for _, row, offset, kind, reason, _ in rows.rejected:
        if kind == "malformed":
            check.add(reason, f"row {rows_before + row:,}" + ("" if offset is None else f", byte {offset:,}"))
    rows.rejected.clear()
    rows.products.batches.clear()


def _facts(split: str, contents: SplitContents, labels: list[str], known: set[str]) -> list[str]:
    pairs = contents.pairs()
    if pairs.empty:
        return []
    boxes = pairs.drop_duplicates("product_id")["boxes"]
    used, most = int((contents.labels > 0).sum()), int(contents.labels.argmax())
    share = contents.labels[most] / contents.labels.sum()
    queries = f"{len(contents.queries):,} query texts, {pairs['query_id'].nunique():,} query ids, "
    facts = [
        f"{queries if split != CATALOGUE else ''}{len(boxes):,} products",
        f"{_range(boxes)} boxes an image, {boxes.mean():.1f} on average",
        f"a box covers {contents.covered / contents.labels.sum():.2%} of its image on average",
        f"{used} of {len(labels)} labels used, {labels[most]!r} by {share:.0%} of the boxes",
    ]
    if split not in ("train", CATALOGUE):
        lengths = pairs.groupby("query_id").size()
        words = [word for query in contents.queries for word in words_of(query)]
        share = np.mean([word in known for word in words]) if words else 0.0
        facts.append(f"{_range(lengths)} candidates a query, {lengths.mean():.1f} on average")
        facts += [f"{share:.1%} of the words stand in training queries"] * bool(known)
    return facts


def _check_answers(split: str, catalog: CatalogProtocol, candidates: pd.DataFrame) -> FileCheck:
    answers, check = _load(catalog, f"{split}_answers")
    if answers is None:
        return check
    right = pd.DataFrame([(query, product) for query in answers for product in answers[query]], columns=PAIR)
    merged = right.merge(candidates[PAIR], how="left", indicator=True)
    for query, product in merged.loc[merged["_merge"] == "left_only", PAIR].itertuples(index=False):
        check.add(f"an answer is no candidate of {split}, and can never be ranked", f"query {query}, product {product}")
    for query in sorted(set(candidates["query_id"]) - answers.keys()):
        check.add(
            f"a query of {split} has no answer, which evaluate refuses. Add one, or leave its rows out",
            f"query {query}",
        )
    counts = right.groupby("query_id").size()
    if len(counts):
        check.facts.append(f"{len(counts):,} queries, {_range(counts)} answers each, {counts.mean():.1f} on average")
    return check


def _check_qrels(split: str, catalog: CatalogProtocol, candidates: pd.DataFrame) -> FileCheck:
    """Take the judgements of a split as a run does, and say how many there are."""
    qrels, check = _load(catalog, f"{split}_qrels")
    if qrels is None:
        return check
    try:
        judged, answers, _ = take_judgements(qrels, candidates, split)
    except MetricError as error:
        check.add(str(error))
        return check
    lists = candidates["query_id"].nunique()
    check.facts.append(f"{len(judged):,} judgements of {len(answers):,} of {lists:,} queries with a right product")
    if split == "valid" and len(answers) < lists:
        check.add(
            "some queries of valid have no right product, and training measures all: judge them, or leave them out"
        )
    return check


def _range(values: pd.Series) -> str:
    low, high = values.min(), values.max()
    return f"{low}" if low == high else f"{low} to {high}"
