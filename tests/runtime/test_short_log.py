import logging

from multimodal_recall.runtime.short_log import ShortLines


def lines_of(*records: tuple[str, tuple]) -> list[str]:
    short, shown = ShortLines(), []
    for message, values in records:
        record = logging.LogRecord("kedro", logging.INFO, "", 0, message, values, None)
        if short.filter(record):
            shown.append(record.getMessage())
    return shown


def test_a_node_is_one_line() -> None:
    assert lines_of(
        ("Using synchronous mode for loading and saving data. Use the --async flag", ()),
        ("Running node: %s", ("ingest: ingest_chunk([train_tsv]) -> [products]",)),
        ("ingest %s: %d rows", ("train.chunk_000", 53)),
        ("Completed node: %s", ("train.chunk_000.ingest",)),
        ("Completed %d out of %d tasks", (8, 44)),
    ) == ["ingest train.chunk_000: 53 rows", "8 of 44: train.chunk_000.ingest"]
