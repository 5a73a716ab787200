"""Score the candidates of a split, chunk by chunk."""

from typing import TYPE_CHECKING

import pyarrow as pa

from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.runtime.progress import bar

if TYPE_CHECKING:  # torch takes seconds to import
    from multimodal_recall.models.ranker import Ranker


def score_examples(ranker: "Ranker", examples: dict[str, ChunkTables]) -> pa.Table:
    """Score chunk by chunk, with a module that is built already: ``query_id``, ``product_id``, ``score``."""
    from multimodal_recall.data.examples import read_candidates, read_chunk

    scored = []
    for tables in examples.values():
        candidates, pairs = read_candidates(tables)
        with bar(type(ranker).__name__, len(candidates), "pairs") as shown:
            scores = ranker.score(read_chunk(tables, ranker.reading), pairs, shown.advance)
        scored.append(candidates.select(["query_id", "product_id"]).append_column("score", pa.array(scores)))
    return pa.concat_tables(scored)
