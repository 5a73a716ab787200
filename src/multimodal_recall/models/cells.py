"""Approximate search by faiss: an inverted file parts the products into cells, and a query visits some cells alone.

faiss is imported where it is used: torch and faiss each load an OpenMP library, which macOS may refuse together.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal_recall.config.options import IndexOptions
from multimodal_recall.models.index import IndexChunk, ProductIndex, check_queries
from multimodal_recall.models.indexable import DotRanker

if TYPE_CHECKING:
    import faiss

ADDED_AT_ONCE = 1 << 16  # products that are float32 at a time
SAMPLED_OF_A_CELL = 50  # products on average that the centres are fitted on


class CellsError(Exception):
    """Approximate search is asked for, and faiss is not installed."""


@dataclass(frozen=True)
class Cells:
    """An inverted file of a ``ProductIndex`` whose ranker multiplies vectors."""

    file: "faiss.IndexIVF"
    """The vectors as float16; the id of a vector is its product's place in ``product_ids``."""
    product_ids: np.ndarray
    """(P,) int64, ascending; a product of several chunks stands once, with the vector of the first."""
    probes: int
    """Cells that a query visits."""
    made_of: dict[str, str]
    """Version of each chunk of the index, by the chunk's namespace."""
    recall: float | None = None
    """Share of the ten best products that are found, over ``queries``; ``None``: not measured yet."""
    queries: int = 0

    def __str__(self) -> str:
        """Say how many cells are visited and what is found of what exact search finds."""
        return (
            f"approximate, {self.probes:,} of {self.file.nlist:,} cells: recall@10 of exact search {self.recall:.3f} "
            f"over {self.queries:,} queries"
        )

    @property
    def bytes_of_a_product(self) -> int:
        """Give the bytes of its vector and of its place."""
        return self.file.code_size + 8

    def search(
        self,
        ranker: DotRanker,
        queries: np.ndarray,
        chunks: Iterable[tuple[IndexChunk, np.ndarray | None]],
        top: int,
        tell: Callable[[int], None] = lambda _: None,
    ) -> tuple[np.ndarray, np.ndarray]:
        """Find nearly the best products for each query; arguments, result and errors are those of ``search_index``.

        The fewer products may be found, the more cells are visited, so that a narrow filter costs no recall.
        """
        check_queries(ranker, queries)
        chunks, count = list(chunks), len(self.product_ids)
        places = self._places(chunks)
        allowed = count if places is None else len(places)
        top = min(top, allowed)
        scaled = np.ascontiguousarray(ranker.scale * queries, np.float32)
        probes = min(self.file.nlist, math.ceil(self.probes * count / max(1, allowed)))
        scores, found = self._visit(scaled, top, probes, places)
        while (found < 0).any() and probes < self.file.nlist:  # the cells hold fewer products than are wanted
            probes = min(self.file.nlist, 2 * probes)
            scores, found = self._visit(scaled, top, probes, places)
        tell(sum(len(chunk.product_ids) for chunk, _ in chunks))
        order = np.lexsort((found, -scores))
        ids = self.product_ids[np.take_along_axis(found, order, axis=1)]
        return ids, np.take_along_axis(scores, order, axis=1)

    def _places(self, chunks: list[tuple[IndexChunk, np.ndarray | None]]) -> np.ndarray | None:
        """Give the places of the products that may be found, ascending; ``None``: all."""
        if all(mask is None for _, mask in chunks) and len(chunks) == len(self.made_of):
            return None
        parts = [chunk.product_ids if mask is None else chunk.product_ids[mask] for chunk, mask in chunks]
        return np.searchsorted(self.product_ids, np.unique(np.concatenate([np.empty(0, np.int64), *parts])))

    def _visit(
        self, queries: np.ndarray, top: int, probes: int, places: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Search some cells: scores and places (Q, top), -1 where the cells hold fewer products."""
        import faiss

        if top == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        chosen = {} if places is None else {"sel": faiss.IDSelectorBatch(places)}
        return self.file.search(queries, top, params=faiss.SearchParametersIVF(nprobe=probes, **chosen))


def build_cells(index: ProductIndex, options: IndexOptions) -> Cells:
    """Part the products of an index into cells; memory holds them once as float16, and a block or a sample as float32.

    Raises:
        CellsError: If faiss is not installed.
    """
    faiss = import_faiss()
    chunks = list(index.chunks.values())
    product_ids, first = np.unique(np.concatenate([chunk.product_ids for chunk in chunks]), return_index=True)
    counts = [len(chunk.product_ids) for chunk in chunks]
    kept = np.split(np.isin(np.arange(sum(counts)), first), np.cumsum(counts)[:-1])
    cells = min(options.cells or round(2 * math.sqrt(len(product_ids))), len(product_ids))
    file = faiss.index_factory(chunks[0].values.shape[1], f"IVF{cells},SQfp16", faiss.METRIC_INNER_PRODUCT)
    file.cp.min_points_per_centroid = 1  # faiss warns of small catalogues
    file.by_residual = False  # else the distances to a centre are rounded, and scores differ from those of exact search
    step = max(1, len(product_ids) // (SAMPLED_OF_A_CELL * cells))
    sample = [_read(chunk.values, np.flatnonzero(rows)[::step]) for chunk, rows in zip(chunks, kept, strict=True)]
    file.train(np.concatenate(sample))
    blocks = [
        (chunk, block) for chunk, rows in zip(chunks, kept, strict=True) for block in _blocks(np.flatnonzero(rows))
    ]
    nearest = [file.quantizer.assign(_read(chunk.values, block), 1)[:, 0] for chunk, block in blocks]
    _reserve(file, np.bincount(np.concatenate(nearest), minlength=cells))
    for (chunk, block), of_block in zip(blocks, nearest, strict=True):
        places, vectors = np.searchsorted(product_ids, chunk.product_ids[block]), _read(chunk.values, block)
        file.add_core(len(block), *map(faiss.swig_ptr, (vectors, places, of_block)))
    made_of = {name: chunk.folder.parent.name for name, chunk in index.chunks.items()}
    return Cells(file, product_ids, min(options.probes, file.nlist), made_of)


def _read(values: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Copy rows (P, D) as float32; a memory map is opened anew, so that the pages that are read do not stay."""
    if isinstance(values, np.memmap):
        values = np.memmap(values.filename, values.dtype, "r", values.offset, values.shape)
    return values[rows].astype(np.float32)


def _reserve(file: "faiss.IndexIVF", counts: np.ndarray) -> None:
    """Give each cell room for its products (cells,) at once: lists that grow hold up to twice their size."""
    for cell, count in enumerate(counts.tolist()):
        file.invlists.resize(cell, count)
        file.invlists.resize(cell, 0)


def _blocks(rows: np.ndarray) -> Iterable[np.ndarray]:
    return (rows[start : start + ADDED_AT_ONCE] for start in range(0, len(rows), ADDED_AT_ONCE))


def import_faiss() -> Any:
    """Import faiss.

    Raises:
        CellsError: If it is not installed.
    """
    try:
        import faiss
    except ImportError as error:
        raise CellsError(
            'index.approximate needs faiss: pip install -e ".[index]", or set index.approximate to false'
        ) from error
    return faiss


def share_found(found: np.ndarray, best: np.ndarray) -> float:
    """Give the share of the best products (Q, k) of exact search that stand among those found (Q, k)."""
    return float(np.mean([np.isin(exact, row).mean() for exact, row in zip(best, found, strict=True)]))
