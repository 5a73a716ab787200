"""Score the candidates of a split, chunk by chunk."""

from typing import TYPE_CHECKING

import pyarrow as pa

from multimodal_recall.data.schemas import ChunkTables

if TYPE_CHECKING:  # torch takes seconds to import
    from multimodal_recall.models.ranker import Ranker


def score_examples(ranker: "Ranker", examples: dict[str, ChunkTables]) -> pa.Table:
    """Score the candidates of all chunks: ``query_id``, ``product_id``, ``score``, in the order of the chunks."""
    from multimodal_recall.data.examples import read_candidates, read_chunk

    scored = []
    for tables in examples.values():
        candidates, pairs = read_candidates(tables)
        scores = ranker.score(read_chunk(tables, ranker.reading), pairs)
        scored.append(candidates.select(["query_id", "product_id"]).append_column("score", pa.array(scores)))
    return pa.concat_tables(scored)
