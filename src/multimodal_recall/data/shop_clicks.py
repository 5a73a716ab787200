"""A shop's log of clicks or table of judgements, cleaned and added up: a row a query and product."""

from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any

import pandas as pd
import pyarrow as pa

from multimodal_recall.config.import_options import ImportOptions
from multimodal_recall.data.official_format import RawFileError
from multimodal_recall.data.schemas import TABLES, from_pandas
from multimodal_recall.data.shop_products import (
    clean_cell,
    faulty_lines,
    first_reason,
    keep_rejected,
    rejected_rows,
    require,
    stack_rejected,
)
from multimodal_recall.data.shop_tables import ShopTable
from multimodal_recall.data.text import words_of

CLICK_COLUMNS = ("query", "sku", "count", "date", "relevance")
MOST_CLICKS = 1_000_000_000
"""Of a row: sums of larger counts leave the 64 bits of a count, and become negative."""
LONGEST_QUERY = 500  # characters
DAYS = {r"^(\d{4}-\d{2}-\d{2})(?:$|[T ])": "%Y-%m-%d", r"^(\d{1,2}\.\d{1,2}\.\d{4})(?:$| )": "%d.%m.%Y"}
"""Forms of a date, and how each is read; 11/12/2026 is November or December, by country, and so is none."""
DATES = "2026-11-29, 29.11.2026, or seconds since 1970"
EPOCHS = {r"^(\d{9,10})$": "s", r"^(\d{12,13})$": "ms"}
"""Digits of seconds and of milliseconds since 1970, those of 1973 to 2286."""


def read_shop_clicks(
    table: ShopTable, products: pa.Table, chosen: Mapping[Any, str], by_date: bool = False
) -> tuple[pa.Table, pa.Table]:
    """Read a table of clicks or judgements; queries with the same words in the same order are one query.

    Args:
        table: The shop's table.
        products: ``shop_products``, the known SKUs.
        chosen: Headers by what they hold, where they are not guessed.
        by_date: Whether a row is rejected if its date cannot be read; else the row counts as one without a date.

    Returns:
        ``shop_clicks`` and ``shop_rejected``.

    Raises:
        RawFileError: If the table has no column of queries or SKUs, or no row can be used.
    """
    found = table.find(CLICK_COLUMNS, chosen)
    require(table, found, ("query", "sku"), "click-column")
    if "relevance" in found:
        found.pop("count", None)
    known = products.select(["sku", "product_id"]).to_pandas().set_index("sku")["product_id"]
    parts, rejected = [], []
    for rows, faulty in _blocks(table, found, known, by_date):
        parts.append(rows)
        keep_rejected(rejected, faulty)
    if not sum(map(len, parts)):
        raise RawFileError(f"{table.path}: no row can be used. {first_reason(rejected)}")
    return _clicks_of(pd.concat(parts, ignore_index=True)), stack_rejected(rejected)


def right_pairs(clicks: pd.DataFrame, options: ImportOptions) -> pd.DataFrame:
    """Give the rows of ``shop_clicks`` whose product is right for the query, by clicks or by judgement."""
    total = clicks.groupby("query")["clicks"].transform("sum")
    enough = (clicks["clicks"] >= options.min_clicks) & (clicks["clicks"] >= options.min_click_share * total)
    judged = clicks["relevance"].notna()
    return clicks[(judged & (clicks["relevance"] >= options.min_relevance)) | (~judged & enough)]


def _blocks(
    table: ShopTable, found: Mapping[str, str], known: pd.Series, by_date: bool
) -> Iterator[tuple[pd.DataFrame, list[pd.DataFrame]]]:
    """Read the sound rows of each block, added up, and the rejected ones."""
    without_zeros = {sku.lstrip("0"): sku for sku in known.index if sku.startswith("0")}  # as spreadsheets do
    for block in table.blocks([*found.values()]):
        cells = pd.DataFrame(block.rows, columns=[*found], dtype=object)
        rows = cells.apply(lambda column: column.map(clean_cell)).assign(line=block.lines)
        rows, reasons = _typed(rows, known, without_zeros)
        if by_date and "date" in found:
            reasons = reasons.mask((reasons == "") & rows["day"].isna(), f"its date is none such as {DATES}")
        sound = reasons == ""
        faulty = rejected_rows(table, rows.loc[~sound, [*found, "line"]], reasons)
        yield _added_up(rows[sound]), [faulty_lines(table, block.faults), faulty]


def _typed(rows: pd.DataFrame, known: pd.Series, without_zeros: Mapping[str, str]) -> tuple[pd.DataFrame, pd.Series]:
    """Add ``key``, ``product_id``, ``clicks``, ``grade`` and ``day``, and the reason of each faulty row."""
    keys = {query: " ".join(words_of(query)) for query in rows["query"].unique()}
    count = rows.get("count", pd.Series("1", rows.index))
    grade, date = rows.get("relevance"), rows.get("date")
    typed = rows.assign(
        key=rows["query"].map(keys),
        product_id=rows["sku"].map(known),
        clicks=pd.to_numeric(count, errors="coerce") if grade is None else 0.0,
        grade=float("nan") if grade is None else pd.to_numeric(grade, errors="coerce"),
        day=pd.NaT if date is None else _days(date),
    )
    reasons = pd.Series("", rows.index)
    unknown = "no product has the SKU '" + rows["sku"] + "'" + rows["sku"].map(partial(_hint, without_zeros))
    if grade is None:
        reasons = reasons.mask(~(typed["clicks"] % 1 == 0) | (typed["clicks"] < 0), "its count is no whole number")
        reasons = reasons.mask(typed["clicks"] > MOST_CLICKS, f"its count is above {MOST_CLICKS:,}")
    else:
        reasons = reasons.mask(typed["grade"].isna(), "its relevance is no number")
    reasons = reasons.mask(typed["product_id"].isna(), unknown).mask(rows["sku"] == "", "it has no SKU")
    reasons = reasons.mask(rows["query"].str.len() > LONGEST_QUERY, f"its query has over {LONGEST_QUERY} characters")
    return typed, reasons.mask(typed["key"] == "", "its query has no word")


def _days(dates: pd.Series) -> pd.Series:
    """Read the day of each date; none where it has no form of ``DAYS`` or ``EPOCHS``."""
    days = pd.Series(pd.NaT, dates.index, dtype="datetime64[ns]")
    for form, how in DAYS.items():
        days = days.fillna(pd.to_datetime(dates.str.extract(form)[0], format=how, errors="coerce"))
    for form, unit in EPOCHS.items():
        days = days.fillna(pd.to_datetime(pd.to_numeric(dates.str.extract(form)[0]), unit=unit).dt.floor("D"))
    return days


def _hint(without_zeros: Mapping[str, str], sku: str) -> str:
    return f"; one has '{without_zeros[sku]}': were zeros lost?" if sku in without_zeros else ""


def _added_up(rows: pd.DataFrame) -> pd.DataFrame:
    pairs = rows.groupby(["key", "query", "product_id"], sort=False)
    return pairs.agg(clicks=("clicks", "sum"), relevance=("grade", "max"), first_day=("day", "min")).reset_index()


def _clicks_of(parts: pd.DataFrame) -> pa.Table:
    """Add up the blocks, under each query's most frequent spelling."""
    spellings = parts.groupby(["key", "query"], sort=False).agg(clicks=("clicks", "sum"), rows=("clicks", "size"))
    spellings = spellings.reset_index().sort_values(["clicks", "rows", "query"], ascending=[False, False, True])
    text = spellings.drop_duplicates("key").set_index("key")["query"]
    pairs = parts.groupby(["key", "product_id"], sort=True)
    made = pairs.agg(clicks=("clicks", "sum"), relevance=("relevance", "max"), first_day=("first_day", "min"))
    made = made.reset_index()
    day = made.groupby("key")["first_day"].transform("min")
    made = made.assign(query=made["key"].map(text), first_day=day.dt.date if day.notna().any() else None)
    kinds = {"product_id": "int64", "clicks": "int64"}
    return from_pandas(TABLES["shop_clicks"], made[(made["clicks"] > 0) | made["relevance"].notna()].astype(kinds))
