"""Timings of searches: one query at a time, and cold with the files read from the disk."""

import os
import time
from pathlib import Path

import numpy as np
import pytest

from multimodal_recall.evaluation.search_speed import percentiles, time_cold_queries, time_queries

QUERIES = np.arange(12.0).reshape(6, 2)


def test_each_query_is_searched_alone_and_timed() -> None:
    asked = []

    def search(query: np.ndarray) -> None:
        asked.append(query.tolist())
        time.sleep(0.002 * len(asked))

    times = time_queries(search, QUERIES)
    assert asked == [[row] for row in QUERIES.tolist()]
    assert (times >= 2 * np.arange(1, 7)).all()
    assert times.max() < 1000


def test_each_cold_query_opens_the_files_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, opened, dropped = tmp_path / "values.npy", [], []
    np.save(file, np.arange(100_000))

    def drop(number: int, start: int, length: int, advice: int) -> None:
        dropped.append((len(opened), os.fstat(number).st_ino, start, length, advice))

    monkeypatch.setattr(os, "posix_fadvise", drop, raising=False)
    monkeypatch.setattr(os, "POSIX_FADV_DONTNEED", "drop", raising=False)

    def search(query: np.ndarray) -> np.ndarray:
        opened.append(int(query[0, 0]))
        return np.load(file, mmap_mode="r").sum()

    assert (time_cold_queries(lambda: search, [file], QUERIES) > 0).all()
    assert opened == QUERIES[:, 0].tolist()
    assert dropped == [(before, file.stat().st_ino, 0, 0, "drop") for before in range(len(QUERIES))]


def test_percentiles_are_named() -> None:
    assert percentiles(np.arange(1.0, 102), "cold") == pytest.approx(
        {"p50 cold ms": 51, "p95 cold ms": 96, "p99 cold ms": 100}
    )
