"""Refuse chunks whose tables do not belong together."""

from collections.abc import Sequence

import pandas as pd

from multimodal_recall.config.layout import Chunk
from multimodal_recall.data.origins import origin_of
from multimodal_recall.data.schemas import ChunkTables

CUT_ANEW = "kedro run --pipelines=ingest"


class ExamplesError(Exception):
    """The tables of a split's chunks do not belong together."""


def check_origins(chunks: Sequence[Chunk], examples: dict[str, ChunkTables]) -> None:
    """Refuse tables of all chunks of a split, by chunk name, whose row numbers do not belong together.

    Raises:
        ExamplesError: If a chunk's tables were not made from the same pairs, or the chunks not from the same cut of
            the same file.
    """
    problems, cuts = [], {}
    for chunk in chunks:
        tables = examples[chunk.name]
        problems += _mixed_tables(chunk, tables)
        cuts.setdefault(origin_of(next(iter(tables.values())))[b"cut"].decode(), []).append(chunk.namespace)
    first_cut, *other_cuts = cuts
    if other_cuts:
        found = "; ".join(f"{', '.join(names)}: {cut}" for cut, names in cuts.items())
        problems.append(f"the chunks are of different cuts ({found}). Cut the file anew: {CUT_ANEW}")
    elif not first_cut.startswith(f"{len(chunks)} "):
        problems.append(
            f"the file was cut into {first_cut}, chunks.{chunks[0].split} is {len(chunks)}. Cut it anew: {CUT_ANEW}"
        )
    if problems:
        raise ExamplesError("\n".join(problems))


def check_tables(chunk: Chunk, tables: ChunkTables) -> None:
    """Refuse tables of a chunk whose row numbers do not belong together.

    Raises:
        ExamplesError: With the tables that were made from other pairs than the first table.
    """
    if problems := _mixed_tables(chunk, tables):
        raise ExamplesError(problems[0])


def _mixed_tables(chunk: Chunk, tables: ChunkTables) -> list[str]:
    origins = {kind: origin_of(table)[b"pairs"] for kind, table in tables.items()}
    first, *others = origins
    if stale := [kind for kind in others if origins[kind] != origins[first]]:
        return [
            f"{', '.join(stale)} of {chunk.namespace} are not of the same pairs as its {first}. "
            f"Make them again: kedro run --namespaces={chunk.namespace}"
        ]
    return []


def check_candidates(chunks: Sequence[Chunk], examples: dict[str, ChunkTables]) -> None:
    """Refuse a candidate that stands in two chunks of a valid or test split; ingest sees a single chunk at a time.

    Raises:
        ExamplesError: With the first such candidate and its chunks.
    """
    ids = ["query_id", "product_id"]
    tables = [examples[chunk.name]["pairs"].to_table(columns=ids).to_pandas() for chunk in chunks]
    candidates = pd.concat(tables, keys=[chunk.namespace for chunk in chunks])
    twice = candidates[candidates.duplicated(ids)]
    if len(twice):
        query, product = twice.iloc[0]
        places = candidates.index[(candidates == [query, product]).all(axis=1)].get_level_values(0)
        raise ExamplesError(
            f"{len(twice)} candidates of {chunks[0].split} stand in two chunks, first query {query}, product {product} "
            f"in {' and '.join(places)}. Keep one row of each in the file (kedro check names them) and cut it anew: "
            f"{CUT_ANEW}"
        )
