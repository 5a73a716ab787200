"""Write a made-up training file in the official layout, fast.

python -m benchmarks.made_up --rows 100000 data/01_raw/large/train.tsv

Every row has a product of its own; boxes and features are those of a pool of made-up images, so that a row costs a copy
and not a draw. Queries stand on 2.2 rows on average, as in the official file.
"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from multimodal_recall.config.options import ShopOptions
from multimodal_recall.data.official_format import TSV_COLUMNS, encode_row
from multimodal_recall.pipelines.make_shop.nodes import make_training_file

# 2,000 images are 85 MB of text: more than any compressor's window, so that files compress as if all were different.
IMAGES = 2000
ROWS_PER_QUERY = 2.2
FOLDER = Path(tempfile.gettempdir()) / "multimodal-recall-benchmarks"
WORD_COUNTS = {2: 0.2, 3: 0.25, 4: 0.25, 5: 0.2, 6: 0.1}
NOUNS, MODIFIERS = 2_000, 20_000  # distinct last words as in the official queries, and many words before them
SYLLABLES = [consonant + vowel for consonant in "bdfgklmnprstvz" for vowel in "aeiou"]


def made_up_words(count: int) -> np.ndarray:
    """Pronounceable words of three syllables, all different."""
    return np.array(["".join(parts) for parts in itertools.islice(itertools.product(SYLLABLES, repeat=3), count)])


def made_up_queries(count: int, random: np.random.Generator) -> list[str]:
    """Draw distinct queries of two to six words, the noun last; words are as frequent as Zipf's law says."""
    words = random.permutation(made_up_words(NOUNS + MODIFIERS))
    nouns, modifiers = words[:NOUNS], words[NOUNS:]
    weights = [1 / np.arange(3, len(kind) + 3) for kind in (nouns, modifiers)]
    shares = [weight / weight.sum() for weight in weights]
    queries: dict[str, None] = {}
    while len(queries) < count:
        lengths = random.choice(list(WORD_COUNTS), size=count, p=list(WORD_COUNTS.values()))
        before = iter(random.choice(modifiers, size=int((lengths - 1).sum()), p=shares[1]))
        for length, noun in zip(lengths, random.choice(nouns, size=count, p=shares[0]), strict=True):
            queries[" ".join([*itertools.islice(before, int(length) - 1), noun])] = None
    return list(itertools.islice(queries, count))


def made_up_lines(rows: int, seed: int = 0) -> Iterator[bytes]:
    """Give the file's lines, header first, each with its line end."""
    random = np.random.default_rng(seed)
    options = ShopOptions(seed=seed, train_rows=IMAGES)
    images = [encode_row(row).split(b"\t")[1:7] for row in make_training_file(options)]
    images = [b"\t".join(fields) for fields in images]
    queries = [query.encode() for query in made_up_queries(max(1, round(rows / ROWS_PER_QUERY)), random)]
    yield "\t".join(TSV_COLUMNS).encode() + b"\n"
    picks = zip(random.integers(IMAGES, size=rows), random.integers(len(queries), size=rows), strict=True)
    for row, (image, query) in enumerate(picks):
        yield b"%d\t%b\t%b\t%d\n" % (1_000_000 + row, images[image], queries[query], query)


def write_made_up(path: Path, rows: int, seed: int = 0) -> Path:
    """Write the file, folders included."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("wb", buffering=1 << 22) as file:
        file.writelines(made_up_lines(rows, seed))
    return path


def made_up_tsv(rows: int) -> Path:
    """A training file, written once."""
    path = FOLDER / f"train_{rows}.tsv"
    return path if path.exists() else write_made_up(path, rows)


def main() -> None:
    """Write one file and say how long it took."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("path", type=Path)
    arguments.add_argument("--rows", type=int, required=True)
    arguments.add_argument("--seed", type=int, default=0)
    options = arguments.parse_args()
    start = time.perf_counter()
    size = write_made_up(options.path, options.rows, options.seed).stat().st_size
    seconds = time.perf_counter() - start
    print(
        f"{options.path}: {options.rows} rows, {size / 1e9:.2f} GB in {seconds:.1f} s, {size / seconds / 1e6:.0f} MB/s"
    )


if __name__ == "__main__":
    main()
