"""What ``kedro check`` finds of the titles and SKUs of products."""

from collections.abc import Callable, Iterator

import numpy as np
import pyarrow as pa
import pyarrow.dataset as ds

from multimodal_recall.commands.check_options import FileCheck
from multimodal_recall.data.official_format import RawFileError
from multimodal_recall.data.official_tsv import OfficialTsv
from multimodal_recall.data.own_table import OwnTable
from multimodal_recall.data.titles import names_of, titles_of


def check_names(
    split: str,
    rows: OfficialTsv | OwnTable,
    titles: tuple[ds.Dataset | None, FileCheck] | None,
    product_ids: np.ndarray,
) -> Iterator[FileCheck]:
    """Look up titles and SKUs of a split's products (n,), as ingest does for each chunk.

    ``titles`` is the file of titles and its check, where there is such a file: it goes before the titles of ``rows``.
    """
    ids, own = pa.array(product_ids), rows.names(0, 1)
    if titles is not None:
        file, check = titles
        if file is not None:
            _look_up(split, "title", lambda: titles_of(file, ids), check)
        yield check
    if own is not None:
        check = FileCheck(f"{rows.path.name}, names")
        for kind in ("sku",) if titles is not None else ("title", "sku"):
            _look_up(split, kind, lambda kind=kind: names_of(own, kind, ids, lambda: rows.path), check)
        yield check


def _look_up(split: str, kind: str, find: Callable[[], pa.Array], check: FileCheck) -> None:
    try:
        found = find()
    except RawFileError as error:
        check.add(str(error))
    else:
        have = f"{len(found) - found.null_count:,} of the {len(found):,} products of {split} have a {kind}"
        check.facts += [have] * (kind == "title" or found.null_count < len(found))
