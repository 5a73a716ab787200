"""Read a shop's tables, describe its photos, and write the raw files that ingest reads."""

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from multimodal_recall.config.describing import DescribeOptions
from multimodal_recall.config.import_options import ImportOptions
from multimodal_recall.config.layout import SHOP_SPLITS, Chunk
from multimodal_recall.config.loader import in_project
from multimodal_recall.config.options import HardwareOptions
from multimodal_recall.data.own_table import OwnTable
from multimodal_recall.data.photos import PhotoError, photo_path
from multimodal_recall.data.schemas import TABLES, from_pandas
from multimodal_recall.data.shop_clicks import read_shop_clicks
from multimodal_recall.data.shop_products import ID_BITS, read_shop_products
from multimodal_recall.data.shop_tables import ShopTable
from multimodal_recall.pipelines.import_shop.splits import ShopError
from multimodal_recall.runtime.device import use_hardware
from multimodal_recall.runtime.progress import bar

if TYPE_CHECKING:
    from multimodal_recall.models.vision.describe import ProductPhoto

logger = logging.getLogger(__name__)

PAIRS = pa.schema({"query_id": pa.int64(), "query": pa.string(), "product_id": pa.int64()})
LOOKS = ("product_id", "image_h", "image_w", "boxes", "features")
NAMES = {"title": pa.string(), "sku": pa.string()}
RAW_PRODUCTS = pa.schema(
    {name: TABLES["described"].field(name).type for name in LOOKS} | {"class_labels": pa.list_(pa.int64())} | NAMES
)


def read_products(table: ShopTable, options: ImportOptions) -> tuple[pa.Table, pa.Table]:
    """Read a shop's products, and number their SKUs; see ``read_shop_products``."""
    return read_shop_products(table, options.product_columns)


def read_clicks(table: ShopTable, products: ds.Dataset, options: ImportOptions) -> tuple[pa.Table, pa.Table]:
    """Read a shop's clicks or judgements; see ``read_shop_clicks``."""
    return read_shop_clicks(table, products.to_table(), options.click_columns, options.split_by == "date")


def describe_chunk(
    products: ds.Dataset,
    options: ImportOptions,
    describing: DescribeOptions,
    hardware: HardwareOptions,
    *,
    chunk: Chunk,
) -> tuple[pa.Table, pa.Table]:
    """Describe the photos of a chunk's products.

    A product looks as in its first readable photo. Each further photo adds the feature of the whole photo, as a box of
    the size of the first. A product belongs to a chunk by its number: it keeps its chunk when others come or go.

    Returns:
        ``described`` and ``rejected_photos``.
    """
    from multimodal_recall.models.vision.describe import describe  # torch takes seconds to import

    photos = _photos_of(products, chunk)
    named, outside = _named_photos(photos, in_project(options.photos))
    with bar(f"describe {chunk.title}", len(named), "photos") as shown:
        described, unread = describe(named, describing, use_hardware(hardware), shown.advance)
    logger.info("describe %s: %s photos by %s", chunk.title, f"{len(named):,}", describing.descriptor)
    unread = unread.to_pandas().rename(columns={"product_id": "place"}).set_index("place")
    rejected = photos.join(pd.concat([unread["reason"], outside]).rename("reason"), how="inner")
    if len(rejected):
        logger.warning(
            "%s: %d of %d photos cannot be used, such as %s: %s",
            *(chunk.title, len(rejected), len(photos), *rejected[["photo", "reason"]].iloc[0]),
        )
    refused = from_pandas(TABLES["rejected_photos"], rejected)
    return _by_product(described, photos["product_id"].to_numpy()), refused


def _photos_of(products: ds.Dataset, chunk: Chunk) -> pd.DataFrame:
    """List the photos of a chunk's products: ``product_id``, ``photo``, ``category``."""
    low, high = (number * (1 << ID_BITS) // chunk.count for number in (chunk.number, chunk.number + 1))
    wanted = (ds.field("product_id") >= low) & (ds.field("product_id") < high)
    rows = products.to_table(["product_id", "photos", "category"], filter=wanted).to_pandas()
    return rows.explode("photos").rename(columns={"photos": "photo"}).reset_index(drop=True)


def _named_photos(photos: pd.DataFrame, folder: Path) -> tuple[list["ProductPhoto"], pd.Series]:
    """Find the files of photos, each under its place in the table, and say why others are none."""
    from multimodal_recall.models.vision.describe import ProductPhoto

    named, outside = [], {}
    for place, _, photo, category in photos.itertuples():
        try:
            path = photo_path(folder, photo)
        except PhotoError as error:
            outside[place] = str(error)
        else:
            named.append(ProductPhoto(place, path, category if isinstance(category, str) else None))
    return named, pd.Series(outside, dtype=object)


def _by_product(described: pa.Table, product_ids: np.ndarray) -> pa.Table:
    """Join the photos of each product; ``product_id`` of ``described`` is the photo's place in ``product_ids``."""
    ids = product_ids[described["product_id"].to_numpy()]
    described = described.set_column(0, TABLES["described"].field(0), pa.array(ids, pa.int64()))
    _, first, product = np.unique(ids, return_index=True, return_inverse=True)
    return described if len(first) == len(ids) else _join_photos(described, first[product])


def _join_photos(described: pa.Table, main: np.ndarray) -> pa.Table:
    """Add the first box of each further photo to its product; ``main`` (photos,) is the row of the product's first.

    The added boxes stand behind the whole photo and before its other boxes: ingest cuts off the last boxes.
    """
    order = np.argsort(main, kind="stable")  # product by product, the first photo first
    is_main = main[order] == order
    sizes = pc.list_value_length(described["class_labels"]).to_numpy()
    kept = np.where(is_main, sizes[order], 1)
    rows = np.repeat(order, kept)  # of each kept box, its photo
    nth = np.arange(len(rows)) - np.repeat(np.cumsum(kept) - kept, kept)
    turn = np.where(main[rows] != rows, 1, 2 * (nth > 0))
    place = np.lexsort((turn, np.repeat(np.cumsum(is_main), kept)))
    boxes, rows = ((np.cumsum(sizes) - sizes)[rows] + nth)[place], rows[place]
    flat = {name: described[name].combine_chunks().flatten() for name in ("boxes", "features", "class_labels")}
    sides, features = (flat[name].to_numpy().reshape(sizes.sum(), -1)[boxes] for name in ("boxes", "features"))
    size = np.stack([described[name].to_numpy() for name in ("image_h", "image_w")], axis=1)
    further = main[rows] != rows
    sides[further] = np.hstack([np.zeros_like(size), size])[main[rows[further]]]
    made, ends = described.take(order[is_main]), np.cumsum([0, *np.bincount(main[rows])[order[is_main]]])
    columns = {"boxes": sides, "features": features, "class_labels": flat["class_labels"].take(pa.array(boxes))}
    for name, values in columns.items():
        items = values if isinstance(values, pa.Array) else pa.array(values.ravel())
        offsets = pa.array(ends * (len(items) // len(boxes)), pa.int32())
        place = made.schema.get_field_index(name)
        made = made.set_column(place, made.schema.field(name), pa.ListArray.from_arrays(offsets, items))
    return made


def gather_products(products: ds.Dataset, *described: ds.Dataset) -> tuple[pa.RecordBatchReader, list[str]]:
    """Put all described products into one table with labels as numbers, and list the labels.

    Raises:
        ShopError: If no photo could be described.
    """
    labels = sorted({name for table in described for name in _labels_of(table)})
    if not labels:
        raise ShopError(
            "no photo could be described; the log above says why. Is import_shop.photos the folder of the photos that "
            "the table of products names?"
        )
    names = products.to_table(["product_id", "title", "sku"])
    return pa.RecordBatchReader.from_batches(RAW_PRODUCTS, _raw_batches(names, labels, described)), labels


def _labels_of(described: ds.Dataset) -> list[str]:
    return pc.unique(pc.list_flatten(described.to_table(["class_labels"])["class_labels"])).to_pylist()


def _raw_batches(names: pa.Table, labels: list[str], described: tuple[ds.Dataset, ...]) -> Iterator[pa.RecordBatch]:
    for table in described:
        for batch in table.to_batches():
            place = pc.index_in(batch["product_id"], value_set=names["product_id"].combine_chunks())
            numbers = pc.index_in(batch["class_labels"].flatten(), value_set=pa.array(labels)).cast(pa.int64())
            columns = {name: batch[name] for name in RAW_PRODUCTS.names if name in batch.schema.names}
            columns["class_labels"] = pa.ListArray.from_arrays(_offsets(batch["class_labels"]), numbers)
            columns |= {name: names[name].combine_chunks().take(place) for name in ("title", "sku")}
            yield pa.RecordBatch.from_arrays([columns[name] for name in RAW_PRODUCTS.names], schema=RAW_PRODUCTS)


def _offsets(lists: pa.ListArray) -> pa.Array:
    return pa.array(np.concatenate([[0], np.cumsum(lists.value_lengths().to_numpy())]), pa.int32())


def link_photos(
    products: ds.Dataset, table: OwnTable, options: ImportOptions, *rejected: ds.Dataset
) -> dict[int, Path]:
    """Give the photo in which each product of the raw table is drawn: its first that could be read."""
    refused = {(row["product_id"], row["photo"]) for part in rejected for row in part.to_table().to_pylist()}
    rows = products.to_table(["product_id", "photos"]).to_pandas().explode("photos")
    rows = rows[rows["product_id"].isin(table.ids())]
    kept = [pair not in refused for pair in rows.itertuples(index=False, name=None)]
    first = rows[kept].drop_duplicates("product_id")
    return {product: photo_path(in_project(options.photos), photo) for product, photo in first.itertuples(index=False)}


def make_lists(
    clicks: ds.Dataset, products: ds.Dataset, table: OwnTable, options: ImportOptions
) -> dict[str, pa.Table | dict[int, list[int]]]:
    """Make the tables of train, valid and testA, and the answers of the latter two; see ``make_candidates``."""
    from multimodal_recall.pipelines.import_shop.candidates import make_candidates  # imports scikit-learn

    shop = products.to_table(["product_id", "title", "category"]).to_pandas()
    made = make_candidates(clicks.to_table().to_pandas(), shop[shop["product_id"].isin(table.ids())], options)
    outputs: dict[str, pa.Table | dict[int, list[int]]] = {
        f"{split}_table": from_pandas(PAIRS, rows) for split, rows in made.items()
    }
    for split in SHOP_SPLITS[1:]:
        right = made[split][made[split]["right"]]
        outputs[f"{split}_answers"] = right.groupby("query_id")["product_id"].agg(list).to_dict()
    return outputs


def gather_rejected(products: ds.Dataset, *rejected: ds.Dataset) -> pa.Table:
    """Put what could not be used into one table: rows of both tables, then photos, each with SKU, title and reason.

    ``rejected`` are those of the table of products, of the clicks, then of the photos of each chunk.
    """
    of_tables, photos = rejected[:2], pd.concat([part.to_table().to_pandas() for part in rejected[2:]])
    names = products.to_table(["product_id", "sku", "title"]).to_pandas().set_index("product_id")
    named = photos.join(names, on="product_id").assign(file="photos", line=None).rename(columns={"photo": "text"})
    kinds = TABLES["shop_rejected"]
    made = pa.concat_tables([*(part.to_table() for part in of_tables), from_pandas(kinds, named)])
    if len(made):
        counts = pd.Series(made["file"].to_pylist()).value_counts()
        logger.warning("not used: %s", ", ".join(f"{count:,} of {file}" for file, count in counts.items()))
    return made
