"""A shop's table of products, cleaned: a row a product, with the number that stands for its SKU."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import regex

from multimodal_recall.data.official_format import RawFileError
from multimodal_recall.data.schemas import TABLES, from_pandas
from multimodal_recall.data.shop_tables import SHOWN_CHARACTERS, ShopTable

PRODUCT_COLUMNS = ("sku", "photo", "title", "category")
ID_BITS = 53
"""Numbers below 2^53 are held exactly by JSON readers and spreadsheets too."""
LONGEST = {"sku": 200, "title": 2_000, "category": 200, "photo": 4_000}
"""Characters of a cell."""
BETWEEN_PHOTOS = "|"
SPACES = regex.compile(r"[[\s\p{C}]--[\u00ad\u200c\u200d]]+", regex.V1)
"""What becomes a space. Soft hyphens and joiners stand inside words, and ``words_of`` decides on them."""
CONTROLS = regex.compile(r"[\p{Cc}\p{Cs}]+")
MOST_REJECTED = 100_000
"""Rejected rows of a table that are kept; a log of clicks may have millions."""
CELLS = ("sku", "title", "reason", "text")


def read_shop_products(table: ShopTable, chosen: Mapping[Any, str]) -> tuple[pa.Table, pa.Table]:
    """Read and clean a table of products; several rows of a SKU are one product with several photos.

    Args:
        table: The shop's table.
        chosen: Headers by what they hold, where they are not guessed.

    Returns:
        ``shop_products``, in order of first appearance, and ``shop_rejected``.

    Raises:
        RawFileError: If the table has no column of SKUs or photos, or no row can be used.
    """
    found = table.find(PRODUCT_COLUMNS, chosen)
    require(table, found, ("sku", "photo"), "product-column")
    parts, rejected = [], []
    for block in table.blocks([*found.values()]):
        rows = pd.DataFrame(block.rows, columns=[*found], dtype=object).reindex(
            columns=[*PRODUCT_COLUMNS], fill_value=""
        )
        cells = {kind: rows[kind].map(clean_name if kind == "photo" else clean_cell) for kind in PRODUCT_COLUMNS}
        rows = pd.DataFrame(cells).assign(line=block.lines)
        reasons = _faults(rows)
        keep_rejected(rejected, [faulty_lines(table, block.faults), rejected_rows(table, rows[reasons != ""], reasons)])
        parts.append(rows[reasons == ""])
    rows = pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=[*PRODUCT_COLUMNS, "line"])
    rows, differing = _split_differing(table, rows)
    if rows.empty:
        raise RawFileError(f"{table.path}: no row can be used. {first_reason([*rejected, differing])}")
    return _products_of(rows), stack_rejected([*rejected, differing])


def clean_cell(text: str) -> str:
    """Write a cell on one line: a tab, a line end or a control character becomes a space."""
    return SPACES.sub(" ", text).strip()


def clean_name(text: str) -> str:
    """Write a file's name on one line; the spaces inside stay as they are, since they name another file."""
    return CONTROLS.sub(" ", text).strip()


def number_texts(texts: list[str]) -> np.ndarray:
    """Number distinct texts (n,), SKUs or queries, by a digest of the text: the number stays when others come and go.

    Of two texts with the same number, once in 18,000 shops of a million products, the later gets the next free one.
    """
    taken, numbers = set[int](), np.zeros(len(texts), np.int64)
    for place, text in enumerate(texts):
        number = int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest()) >> (64 - ID_BITS)
        while number in taken:
            number = (number + 1) % (1 << ID_BITS)
        taken.add(number)
        numbers[place] = number
    return numbers


def require(table: ShopTable, found: Mapping[str, str], wanted: tuple[str, ...], option: str) -> None:
    """Refuse a table without the wanted columns.

    Raises:
        RawFileError: With the columns that it has, and how to name one.
    """
    for kind in wanted:
        if kind not in found:
            raise RawFileError(
                f"{table.path} ({table.form}): no column is known as the {kind}. Its columns are {table.columns}. Name "
                f"it: --{option} {kind}=HEADER"
            )


def rejected_rows(table: ShopTable, rows: pd.DataFrame, reasons: pd.Series) -> pd.DataFrame:
    """Make rows of ``shop_rejected`` of cleaned rows with ``line``, and reasons by their index."""
    columns = (rows[name].astype(str) for name in rows.columns.drop("line"))
    texts = [", ".join(cells)[:SHOWN_CHARACTERS] for cells in zip(*columns, strict=True)]
    named = {name: rows[name].str[:SHOWN_CHARACTERS] if name in rows else None for name in ("sku", "title")}
    return rows[["line"]].assign(file=table.path.name, **named, reason=reasons.reindex(rows.index), text=texts)


def faulty_lines(table: ShopTable, faults: list[tuple[int, str, str]]) -> pd.DataFrame:
    """Make rows of ``shop_rejected`` of lines that cannot be split."""
    rows = pd.DataFrame(faults, columns=["line", "reason", "text"])
    return rows.assign(file=table.path.name, sku=None, title=None)


def keep_rejected(kept: list[pd.DataFrame], parts: list[pd.DataFrame]) -> None:
    """Keep rejected rows of a block, unless ``MOST_REJECTED`` are kept already: a log of a day may have millions."""
    if sum(map(len, kept)) < MOST_REJECTED:
        kept += parts


def stack_rejected(parts: list[pd.DataFrame]) -> pa.Table:
    """Put rejected rows together in order of their lines, the first ``MOST_REJECTED``."""
    filled = [part for part in parts if len(part)]
    if not filled:
        return TABLES["shop_rejected"].empty_table()
    rows = pd.concat(filled, ignore_index=True).sort_values("line", kind="stable").head(MOST_REJECTED)
    texts = rows[[*CELLS]].astype(object)
    return from_pandas(TABLES["shop_rejected"], rows.assign(**texts.where(texts.notna(), None)))


def first_reason(parts: list[pd.DataFrame]) -> str:
    """Name the first rejected row."""
    rows = stack_rejected(parts).slice(0, 1).to_pylist()
    return f"Line {rows[0]['line']}: {rows[0]['reason']}" if rows else "It has no rows below its header"


def _faults(rows: pd.DataFrame) -> pd.Series:
    """Give the reason for which a row cannot be used, or an empty text."""
    reasons = pd.Series("", rows.index)
    photos = rows["photo"].str.replace(BETWEEN_PHOTOS, "").str.strip()
    found = {
        "it names no photo": photos == "",
        "its photo is an address: download the photo, and name the file": photos.str.contains("://", regex=False),
        "it has no SKU": rows["sku"] == "",
    }
    for name, most in LONGEST.items():
        found[f"its {name} has more than {most:,} characters"] = rows[name].str.len() > most
    for reason, faulty in found.items():
        reasons = reasons.mask(faulty, reason)
    return reasons


def _split_differing(table: ShopTable, rows: pd.DataFrame) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Reject the rows whose SKU stands above with another title or category."""
    reasons = pd.Series("", rows.index)
    for name in ("title", "category"):
        filled = rows[name].where(rows[name] != "")
        first = filled.groupby(rows["sku"]).transform("first")
        lines = rows["line"].where(filled.notna()).groupby(rows["sku"]).transform("first").fillna(0).astype(int)
        differs = filled.notna() & (filled != first)
        reasons = reasons.mask(differs, f"its SKU has another {name} in line " + lines.astype(str))
    sound = reasons == ""
    return rows[sound], rejected_rows(table, rows[~sound], reasons)


def _products_of(rows: pd.DataFrame) -> pa.Table:
    photos = rows.assign(photo=rows["photo"].str.split(BETWEEN_PHOTOS, regex=False)).explode("photo")
    photos["photo"] = photos["photo"].str.strip()
    photos = (
        photos[photos["photo"] != ""].drop_duplicates(["sku", "photo"]).groupby("sku", sort=False)["photo"].agg(list)
    )
    texts = rows[["sku", "title", "category"]].replace({"title": {"": None}, "category": {"": None}})
    products = texts.groupby("sku", sort=False).first().reset_index()
    products = products.assign(
        photos=photos.loc[products["sku"]].to_numpy(), product_id=number_texts([*products["sku"]])
    )
    return from_pandas(TABLES["shop_products"], products)
