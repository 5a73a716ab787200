"""Approximate search by faiss: an inverted file parts the products into cells, and a query visits some cells alone.

faiss is imported where it is used: torch and faiss each load an OpenMP library, which macOS may refuse together.
"""

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from multimodal_recall.config.options import IndexOptions
from multimodal_recall.models.index import IndexChunk, ProductIndex, check_queries, keep_best
from multimodal_recall.models.indexable import DotRanker

if TYPE_CHECKING:
    import faiss

ADDED_AT_ONCE = 1 << 16  # vectors that are float32 at a time
SAMPLED_OF_A_CELL = 50  # vectors on average that the centres are fitted on


class CellsError(Exception):
    """Approximate search is asked for, and faiss is not installed or there is no product."""


@dataclass(frozen=True)
class Cells:
    """An inverted file of a ``ProductIndex`` whose ranker multiplies vectors."""

    file: "faiss.IndexIVF"
    """The vectors as float16; the id of a vector is its place in ``product_ids``."""
    product_ids: np.ndarray
    """(V,) int64, chunk after chunk; a product of several chunks has a vector of each, which may differ."""
    probes: int
    """Cells that a query visits."""
    starts: dict[Path, int]
    """Place of the first product of each chunk of the index, by the chunk's folder."""
    most_chunks: int
    """Chunks in which the most repeated product stands."""
    recall: float | None = None
    """Share of the ten best products that are found, over ``queries``; ``None``: not measured yet."""
    queries: int = 0

    def __str__(self) -> str:
        """Say how many cells are visited and what is found of what exact search finds."""
        return (
            f"approximate, {self.probes:,} of {self.file.nlist:,} cells: recall@10 of exact search {self.recall:.3f} "
            f"over {self.queries:,} queries"
        )

    def is_of(self, index: ProductIndex) -> bool:
        """Whether the cells were made of this index."""
        return [*self.starts] == [chunk.folder for chunk in index.chunks.values()]

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

        The fewer products may be found, the more cells are visited, so that a narrow filter costs no recall. With all
        cells, the result is that of ``search_index``; of products whose scores equal the last one, any are found.
        """
        check_queries(ranker, queries)
        chunks, count = list(chunks), len(self.product_ids)
        places = self._places(chunks)
        allowed = count if places is None else len(places)
        wanted = min(top * self.most_chunks, allowed)  # as many vectors are of ``top`` products or more
        scaled = np.ascontiguousarray(ranker.scale * queries, np.float32)
        probes = min(self.file.nlist, math.ceil(self.probes * count / max(1, allowed)))
        scores, found = self._visit(scaled, wanted, probes, places)
        while (found < 0).any() and probes < self.file.nlist:  # the cells hold fewer vectors than are wanted
            probes = min(self.file.nlist, 2 * probes)
            scores, found = self._visit(scaled, wanted, probes, places)
        tell(sum(len(chunk.product_ids) for chunk, _ in chunks))
        return keep_best(self.product_ids[found], scores, top)

    def _places(self, chunks: list[tuple[IndexChunk, np.ndarray | None]]) -> np.ndarray | None:
        """Give the places of the vectors that may be found; ``None``: all."""
        if all(mask is None for _, mask in chunks) and len(chunks) == len(self.starts):
            return None
        parts = [
            self.starts[chunk.folder] + (np.arange(len(chunk.product_ids)) if mask is None else np.flatnonzero(mask))
            for chunk, mask in chunks
        ]
        return np.concatenate([np.empty(0, np.int64), *parts])

    def _visit(
        self, queries: np.ndarray, wanted: int, probes: int, places: np.ndarray | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Search some cells: scores and places (Q, wanted), -1 where the cells hold fewer vectors."""
        import faiss

        if wanted == 0:
            return np.empty((len(queries), 0), np.float32), np.empty((len(queries), 0), np.int64)
        chosen = {} if places is None else {"sel": faiss.IDSelectorBatch(places)}
        return self.file.search(queries, wanted, params=faiss.SearchParametersIVF(nprobe=probes, **chosen))


def build_cells(index: ProductIndex, options: IndexOptions) -> Cells:
    """Part the products of an index into cells; memory holds them once as float16, and a block or a sample as float32.

    Raises:
        CellsError: If faiss is not installed, or the index has no product.
    """
    faiss, chunks = import_faiss(), list(index.chunks.values())
    product_ids = np.concatenate([chunk.product_ids for chunk in chunks])
    if not len(product_ids):
        raise CellsError(f"the index of {index.ranker} has no product. Look for the faults: kedro check")
    starts = np.cumsum([0, *(len(chunk.product_ids) for chunk in chunks)]).tolist()
    values = {start: chunk.values for start, chunk in zip(starts, chunks, strict=False) if len(chunk.product_ids)}
    times = np.unique(product_ids, return_counts=True)[1]
    cells = min(options.cells or round(2 * math.sqrt(len(times))), len(product_ids))
    file = faiss.index_factory(values[0].shape[1], f"IVF{cells},SQfp16", faiss.METRIC_INNER_PRODUCT)
    file.cp.min_points_per_centroid = 1  # faiss warns of small catalogues
    file.by_residual = False  # else the distances to a centre are rounded, and scores differ from those of exact search
    step = max(1, len(product_ids) // (SAMPLED_OF_A_CELL * cells))
    file.train(np.concatenate([_read(of_chunk, slice(None, None, step)) for of_chunk in values.values()]))
    _fill(file, values)
    return Cells(
        file,
        product_ids,
        min(options.probes, file.nlist),
        starts=dict(zip((chunk.folder for chunk in chunks), starts, strict=False)),
        most_chunks=int(times.max()),
    )


def _fill(file: "faiss.IndexIVF", values: dict[int, np.ndarray]) -> None:
    """Add the vectors (P, D) of chunks to a trained file; each chunk is named by the place of its first vector."""
    import faiss

    blocks = [
        (start, of_chunk, slice(first, first + ADDED_AT_ONCE))
        for start, of_chunk in values.items()
        for first in range(0, len(of_chunk), ADDED_AT_ONCE)
    ]
    nearest = [file.quantizer.assign(_read(of_chunk, rows), 1)[:, 0] for _, of_chunk, rows in blocks]
    _reserve(file, np.bincount(np.concatenate(nearest), minlength=file.nlist))
    for (start, of_chunk, rows), cells in zip(blocks, nearest, strict=True):
        vectors = _read(of_chunk, rows)
        places = start + rows.start + np.arange(len(vectors))
        file.add_core(len(vectors), *map(faiss.swig_ptr, (vectors, places, cells)))


def _read(values: np.ndarray, rows: slice) -> np.ndarray:
    """Copy rows (P, D) as float32; a memory map is opened anew, so that the pages that are read do not stay."""
    if isinstance(values, np.memmap):
        values = np.memmap(values.filename, values.dtype, "r", values.offset, values.shape)
    return values[rows].astype(np.float32)


def _reserve(file: "faiss.IndexIVF", counts: np.ndarray) -> None:
    """Give each cell room for its vectors (cells,) at once: lists that grow hold up to twice their size."""
    for cell, count in enumerate(counts.tolist()):
        file.invlists.resize(cell, count)
        file.invlists.resize(cell, 0)


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
