"""The small official files (answers, labels) and the small files that this project writes (JSON, CSV)."""

import json
from collections import Counter
from pathlib import Path
from typing import Any

import pandas as pd
from kedro.io import DatasetError

from multimodal_recall.data.official_format import SUBMISSION_COLUMNS, BadRow, is_id, whole_number
from multimodal_recall.datasets.atomic import AtomicDataset
from multimodal_recall.runtime.kedro_private import JSONPreview, TablePreview

RAW_ADVICE = " Put the file there, official or your own, or point `raw` in conf/<env>/globals.yml to its folder."
MOST_LABELS = 1 << 15
"""Chunks hold labels as int16."""


class JsonFile(AtomicDataset[Any, Any]):
    """Any JSON value.

    Raises:
        DatasetError: If the file is no JSON, or an object has a key twice, of which Python would keep the last.
    """

    def _write(self, path: Path, data: Any) -> None:
        path.write_text(json.dumps(data, indent=2), encoding="utf-8")

    def _read(self, path: Path) -> Any:
        try:
            return json.loads(path.read_text(encoding="utf-8"), object_pairs_hook=_distinct)
        except ValueError as error:
            raise DatasetError(f"{path} is no sound JSON: {error}") from error

    def preview(self) -> JSONPreview:
        """Show the whole value in kedro-viz."""
        return JSONPreview(json.dumps(self.load()))


def _distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Make the dictionary of an object whose keys are distinct."""
    made = dict(pairs)
    if len(made) < len(pairs):
        key, count = Counter(key for key, _ in pairs).most_common(1)[0]
        raise ValueError(f"the key {key!r} stands {count} times. Join its values, or give each its own key")
    return made


class AnswersFile(JsonFile):
    """``{split}_answer.json``: ``{query_id: [product_id, ...]}``, ids as whole numbers of 64 bits in their own digits.

    Raises:
        DatasetError: If a key or an answer is no whole number, a query stands twice, or a query has no answer.
    """

    advice = RAW_ADVICE

    def _read(self, path: Path) -> dict[int, list[int]]:
        answers = {}
        try:
            for query, right in super()._read(path).items():
                if not isinstance(right, list) or not all(map(is_id, right)):
                    raise TypeError(f"the answers of query {query} are {json.dumps(right)[:120]}")
                answers[whole_number("the key", query.encode())] = right
        except (AttributeError, TypeError, ValueError) as error:
            raise DatasetError(
                f"{path}: {error}. Wanted {{query_id: [product_id, ...]}} with whole numbers of 64 bits"
            ) from error
        empty = [query for query, right in answers.items() if not right]
        if empty:
            raise DatasetError(f"{path}: {len(empty)} queries have no answer, first {empty[0]}. Leave them out.")
        return answers


class LabelsFile(AtomicDataset[list[str], list[str]]):
    """``multimodal_labels.txt``: a header, then ``category_id<TAB>category_name``; loads the names in order of id.

    Raises:
        DatasetError: If a line has no tab, the ids are not 0, 1, 2, ... in order, or there are more labels than a chunk
            can hold.
    """

    advice = RAW_ADVICE

    def _write(self, path: Path, data: list[str]) -> None:
        lines = ["category_id\tcategory_name", *(f"{number}\t{name}" for number, name in enumerate(data))]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")

    def _read(self, path: Path) -> list[str]:
        lines = path.read_text(encoding="utf-8").splitlines()[1:]
        parts = [line.partition("\t") for line in lines if line.strip()]
        found = [number.strip() for number, _, _ in parts]
        if found != [str(number) for number in range(len(parts))] or not parts:
            raise DatasetError(f"{path}: wanted ids 0, 1, 2, ... each with a tab and a name; found {found[:40]}")
        if len(found) > MOST_LABELS:
            raise DatasetError(
                f"{path} names {len(found):,} labels, wanted at most {MOST_LABELS:,}: join rare labels into one"
            )
        return [name.strip() for _, _, name in parts]

    def preview(self) -> TablePreview:
        """Show all labels with their ids in kedro-viz."""
        table = pd.DataFrame(enumerate(self.load()), columns=["id", "name"])
        return TablePreview(table.to_dict(orient="split"))


FORMULA_SIGNS = ("=", "+", "-", "@", "\t", "\r")
"""First signs that make a spreadsheet compute a text (OWASP, CSV injection)."""


class CsvFile(AtomicDataset[pd.DataFrame, pd.DataFrame]):
    """A pandas table as CSV without index; only an empty cell is a missing value.

    In the file a quote stands before a text that a spreadsheet would compute: ``'=1+1``.
    """

    def _write(self, path: Path, data: pd.DataFrame) -> None:
        texts = data.select_dtypes(["object", "str"]).columns
        data.assign(**{name: data[name].map(_as_text) for name in texts}).to_csv(path, index=False)

    def _read(self, path: Path) -> pd.DataFrame:
        table = pd.read_csv(path, keep_default_na=False, na_values=[""])  # pandas' default reads "null" as missing
        texts = table.select_dtypes(["object", "str"]).columns
        return table.assign(**{name: table[name].map(_as_it_was) for name in texts})

    def preview(self, rows: int = 10) -> TablePreview:
        """Show the first rows in kedro-viz."""
        return TablePreview(self.load().head(rows).astype(str).to_dict(orient="split"))


def _as_text(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA_SIGNS) else value


def _as_it_was(value: Any) -> Any:
    marked = isinstance(value, str) and value.startswith("'") and value[1:].startswith(FORMULA_SIGNS)
    return value[1:] if marked else value


class SubmissionFile(CsvFile):
    """The official submission: ``query-id,product1,...,product5``, whole numbers; loads as nullable integers.

    A query with fewer than five candidates has empty cells after its products.

    Raises:
        DatasetError: If the header differs, or a line does not have six fields.
    """

    def _read(self, path: Path) -> pd.DataFrame:
        with path.open(encoding="utf-8") as file:
            header = file.readline().rstrip("\r\n")
            if header.split(",") != SUBMISSION_COLUMNS:
                raise DatasetError(
                    f"{path}: the first line is {header[:120]!r}. Wanted the header {','.join(SUBMISSION_COLUMNS)}"
                )
            for number, line in enumerate(file, start=2):
                fields = line.rstrip("\r\n").split(",")
                filled = line.rstrip("\r\n,").split(",")
                if len(fields) != len(SUBMISSION_COLUMNS) or len(filled) < 2 or not all(map(_is_number, filled)):
                    raise DatasetError(
                        f"{path}: line {number} is {line[:120]!r}. Wanted a query id and {len(SUBMISSION_COLUMNS) - 1} "
                        "product ids, whole numbers with commas between"
                    )
        return pd.read_csv(path, dtype="Int64")  # pandas' default reads whole numbers beside empty cells as floats


def _is_number(text: str) -> bool:
    try:
        whole_number("", text.encode())
    except BadRow:
        return False
    return True
