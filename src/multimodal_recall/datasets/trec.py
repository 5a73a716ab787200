"""TREC run files and qrels, which every toolkit of information retrieval reads."""

import csv
import re
from collections.abc import Mapping, Sequence
from itertools import islice
from math import isnan
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import pyarrow as pa
import pyarrow.csv
from kedro.io import DatasetError

from multimodal_recall.data.official_format import BadRow, whole_number
from multimodal_recall.data.trec import QRELS_COLUMNS, RUN_COLUMNS, decreasing_scores
from multimodal_recall.datasets.atomic import AtomicDataset
from multimodal_recall.datasets.small_files import RAW_ADVICE
from multimodal_recall.runtime.kedro_private import TablePreview

BETWEEN_WORDS = re.compile(r"[^\w.+-]+")


class _TrecFile(AtomicDataset[pd.DataFrame, pd.DataFrame]):
    """Lines of words with white space between; loads the columns of ``types`` as these types."""

    advice = RAW_ADVICE
    columns: ClassVar[Sequence[str]]
    types: ClassVar[Mapping[str, str]]
    unique: ClassVar[Sequence[str]]
    """Columns that no two lines share."""

    def _write(self, path: Path, data: pd.DataFrame) -> None:
        write_lines(path, [data[name].to_numpy() if name in data else name for name in self.columns], len(data))

    def _read(self, path: Path) -> pd.DataFrame:
        wanted = f"Wanted {len(self.columns)} words a line: {' '.join(self.columns)}"
        words = {"header": None, "names": [*self.columns, "more"], "dtype": str, "sep": r"\s+", "encoding": "utf-8"}
        texts = {"quoting": csv.QUOTE_NONE, "keep_default_na": False, "na_values": [""], "skip_blank_lines": False}
        try:
            read = pd.read_csv(path, **words, **texts)
        except ValueError as error:
            raise DatasetError(f"{path} is no such text file: {str(error).strip()}. {wanted}") from error
        if not isinstance(read.index, pd.RangeIndex):  # of the words that line 1 has beyond the names
            raise DatasetError(f"{path}: line 1 has fewer or more words. {wanted}")
        read = read.dropna(how="all")
        if read.empty:
            raise DatasetError(f"{path} has no line. {wanted}")
        odd = read[self.columns[-1]].isna() | read["more"].notna()
        if odd.any():
            raise DatasetError(f"{path}: line {odd.idxmax() + 1} has fewer or more words. {wanted}")
        table = pd.DataFrame({name: _as_type(path, read[name], kind) for name, kind in self.types.items()})
        twice = table.duplicated([*self.unique])
        if twice.any():
            values = ", ".join(f"{name} {table.loc[twice.idxmax(), name]}" for name in self.unique)
            raise DatasetError(f"{path}: line {twice.idxmax() + 1} repeats {values}. Keep one line each")
        return table.reset_index(drop=True)

    def preview(self, rows: int = 10) -> TablePreview:
        """Show the first rows in kedro-viz; a file that is written for others may have SKUs in place of ids."""
        with self.load_path().open(encoding="utf-8") as file:
            data = [line.split() for line in islice(file, rows)]
        return TablePreview({"index": list(range(len(data))), "columns": list(self.columns), "data": data})


def _as_type(path: Path, column: pd.Series, kind: str) -> pd.Series:
    """Turn texts into numbers, or name the first line that is none."""
    if kind == "str":
        return column
    try:
        numbers = column.astype(kind)
    except (ValueError, OverflowError):
        numbers = None
    if numbers is not None and (numbers.notna() if kind == "float64" else numbers.astype(str) == column).all():
        return numbers
    line = next(line for line, text in column.items() if not _is_number(text, kind))
    wanted = "a whole number of 64 bits in its own digits" if kind == "int64" else "a number"
    raise DatasetError(f"{path}: line {line + 1}: {column.name} is {column[line][:60]!r}. Wanted {wanted}")


def _is_number(text: str, kind: str) -> bool:
    try:
        return not isnan(float(text)) if kind == "float64" else whole_number("", text.encode()) is not None
    except (ValueError, BadRow):
        return False


class QrelsFile(_TrecFile):
    """``query_id 0 product_id relevance`` a line: right where the relevance is 1 or more, else judged wrong.

    Raises:
        DatasetError: With the first line that has other words, no number in place of a number, or a product that was
            judged for the query before.
    """

    columns, unique = QRELS_COLUMNS, ("query_id", "product_id")
    types: ClassVar = dict.fromkeys(("query_id", "product_id", "relevance"), "int64")


class RunFile(_TrecFile):
    """``query_id Q0 product_id rank score tag`` a line, of one ranking or of several, which their tags tell apart.

    The rank is not read: the score orders, as it does for trec_eval.

    Raises:
        DatasetError: As ``QrelsFile``.
    """

    columns, unique = RUN_COLUMNS, ("query_id", "product_id", "tag")
    types: ClassVar = {**dict.fromkeys(("query_id", "product_id"), "int64"), "score": "float64", "tag": "str"}


class RunFolder(AtomicDataset[Mapping[str, pd.DataFrame], dict[str, Path]]):
    """A run file for each ranking: saves ranked tables by name, loads the files' paths by tag.

    A table has ``query_id``, ``product_id``, ``rank`` and ``score``, each query's rows together and best first. The
    tag, which names the file too, is the ranking's name with ``_`` for what lies between its words. Scores decrease
    strictly: see ``decreasing_scores``.

    Raises:
        DatasetError: If two rankings have the same tag.
    """

    holds_folder = True

    def _write(self, path: Path, data: Mapping[str, pd.DataFrame]) -> None:
        path.mkdir()
        for name, ranked in data.items():
            tag = BETWEEN_WORDS.sub("_", name)
            file = path / f"{tag}.run"
            if file.exists():
                raise DatasetError(f"two rankings have the tag {tag}, one of them is {name!r}: rename one of them")
            columns = [ranked[column].to_numpy() for column in ("query_id", "product_id", "rank")]
            query_ids, product_ids, ranks = columns
            write_lines(file, [query_ids, "Q0", product_ids, ranks, decreasing_scores(ranked), tag], len(ranked))

    def _read(self, path: Path) -> dict[str, Path]:
        return {file.stem: file for file in sorted(path.glob("*.run"))}

    def preview(self) -> TablePreview:
        """Show the files in kedro-viz."""
        rows = [(tag, str(file)) for tag, file in self.load().items()]
        return TablePreview(pd.DataFrame(rows, columns=["tag", "file"]).to_dict(orient="split"))


def write_lines(path: Path, columns: Sequence[Any], rows: int) -> None:
    """Write columns (rows,) with a space between; a text stands in every line."""
    arrays = [pa.repeat(column, rows) if isinstance(column, str) else pa.array(column) for column in columns]
    table = pa.Table.from_arrays(arrays, [str(place) for place in range(len(arrays))])
    options = pyarrow.csv.WriteOptions(include_header=False, delimiter=" ", quoting_style="none")
    pyarrow.csv.write_csv(table, path, options)
