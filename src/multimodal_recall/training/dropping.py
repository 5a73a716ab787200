"""Boxes and words that an epoch of training leaves out, as VSE-infinity does (Chen et al., CVPR 2021)."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.random import Generator

from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.batch import ChunkArrays


def drop(arrays: ChunkArrays, options: RankerOptions, specials: Sequence[int], random: Generator) -> ChunkArrays:
    """Leave out ``drop_boxes`` of a chunk's boxes, and ``drop_words`` of its words and tokens.

    A product keeps at least a box, and a query a word and a token. What is left keeps its order. Each entry is drawn
    for the whole epoch, so that several processes leave out the same entries, whatever their shares of a batch. The box
    features are not copied. Publication: a caption's words are also masked or replaced; here they are left out.

    Args:
        arrays: The chunk. Of a product's boxes, those beyond ``max_boxes`` are never read.
        options: Of the ranker.
        specials: Ids of the tokens that stand around a query, all of which are kept.
        random: Stream of the chunk in the epoch.
    """
    changes = {}
    if options.drop_boxes:
        owners, places = _owners(arrays.box_counts)
        rows = np.flatnonzero(places < (arrays.max_boxes or np.inf))
        rows = rows[_kept(owners[rows], options.drop_boxes, random, np.zeros(len(rows), bool))]
        counts = np.bincount(owners[rows], minlength=len(arrays.box_counts))
        changes |= {"box_rows": rows, "box_counts": counts}
    if options.drop_words:
        for name, always in (("word", []), ("token", specials)):
            ids, counts = getattr(arrays, f"{name}_ids"), getattr(arrays, f"{name}_counts")
            if ids is not None:
                owners, _ = _owners(counts)
                kept = _kept(owners, options.drop_words, random, np.isin(ids, always))
                counts = np.bincount(owners[kept], minlength=len(counts))
                changes |= {f"{name}_ids": ids[kept], f"{name}_counts": counts}
    return replace(arrays, **changes)


def _owners(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Number the sequence of each entry (entries,), and its place in the sequence."""
    owners = np.repeat(np.arange(len(counts)), counts)
    return owners, np.arange(len(owners)) - np.repeat(np.cumsum(counts) - counts, counts)


def _kept(owners: np.ndarray, share: float, random: Generator, always: np.ndarray) -> np.ndarray:
    """Mark the entries (entries,) that stay: those of ``always``, and of each owner's other entries one at least."""
    drawn = np.where(always, -1.0, random.random(len(owners)))
    highest = np.full(owners.max(initial=0) + 1, -1.0)
    np.maximum.at(highest, owners, drawn)
    return always | (drawn >= share) | (drawn == highest[owners])
