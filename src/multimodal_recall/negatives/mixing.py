"""Read one epoch's pairs of a chunk: right pairs, and wrong pairs of the kinds that the ranker mixes."""

import numpy as np
import pyarrow as pa
import pyarrow.compute
import pyarrow.dataset as ds

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.pairs import Pairs
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.negatives.drawing import NegativeError


def read_samples(tables: ChunkTables, epoch: int, options: RankerOptions, random: np.random.Generator) -> Pairs:
    """Read the pairs of an epoch, from 0, of a training chunk's ``samples``; epochs beyond the last draw start over.

    Returns:
        Pairs with ``negatives_per_positive``: each right pair is followed by its wrong pairs.

    Raises:
        NegativeError: If a kind was not drawn, or too few negatives were drawn.
    """
    samples, k = tables["samples"], options.negatives_per_positive
    draws = int(pa.compute.max(samples.to_table(columns=["epoch"])["epoch"]).as_py()) + 1
    drawn = samples.to_table(filter=ds.field("epoch") == (epoch % draws if options.fresh_negatives else 0))
    wrong = {kind: _wrong_rows(drawn, kind, k) for kind in pa.compute.unique(drawn["kind"]).to_pylist()}
    weights = mixture(options, epoch) if k else {next(iter(wrong)): 1.0}
    if unknown := sorted(set(weights) - set(wrong)):
        raise NegativeError(
            f"the ranker's negatives name {unknown}, but the samples hold {sorted(wrong)}. Add them to "
            "sample_negatives.kinds, then: kedro run --pipelines=sample_negatives,train,evaluate"
        )
    first = drawn.filter(pa.compute.equal(drawn["kind"], next(iter(wrong))))
    query_rows, product_rows = (first[name].to_numpy() for name in ("query_row", "product_row"))
    kinds = random.choice(len(weights), (len(first), k), p=np.array(list(weights.values())))
    mixed = np.stack([wrong[kind] for kind in weights])[kinds, np.arange(len(first))[:, None], np.arange(k)]
    return Pairs.grouped(query_rows, np.column_stack([product_rows, mixed]))


def count_right_pairs(samples: ds.Dataset) -> int:
    """Count the right pairs of a training chunk, all of which every draw holds."""
    first = samples.to_table(columns=["kind"], filter=ds.field("epoch") == 0)["kind"]
    return len(first) // len(pa.compute.unique(first))


def _wrong_rows(drawn: pa.Table, kind: str, wanted: int) -> np.ndarray:
    """Select the first ``wanted`` wrong products of each pair (n, wanted)."""
    rows = drawn.filter(pa.compute.equal(drawn["kind"], kind))["wrong_rows"].combine_chunks()
    wrong = rows.flatten().to_numpy().reshape(len(rows), -1)
    if wrong.shape[1] < wanted:
        raise NegativeError(
            f"the ranker takes {wanted} negatives a right pair, but {wrong.shape[1]} were drawn. Set "
            f"sample_negatives.negatives_per_positive to {wanted}, then: kedro run "
            "--pipelines=sample_negatives,train,evaluate"
        )
    return wrong[:, :wanted]


def mixture(options: RankerOptions, epoch: int) -> dict[str, float]:
    """Give each kind's share of an epoch's negatives: from ``negatives`` at first to ``negatives_at_end``."""
    ends = [options.negatives, options.negatives if options.negatives_at_end is None else options.negatives_at_end]
    done = epoch / max(options.epochs - 1, 1)
    first, last = ({kind: weight / sum(end.values()) for kind, weight in end.items()} for end in ends)
    mixed = {kind: (1 - done) * first.get(kind, 0) + done * last.get(kind, 0) for kind in {**first, **last}}
    return {kind: share for kind, share in mixed.items() if share > 0}
