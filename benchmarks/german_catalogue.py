"""A catalogue as one's own would be: parquet tables, features 512 wide and of both signs, 7 labels, German queries.

python -m benchmarks.german_catalogue                # writes it and its environment into this project
python -m benchmarks.german_catalogue --pairs=200    # the same with fewer training pairs

It says what to run next.
"""

import argparse
import json
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from multimodal_recall.datasets.atomic_write import write_atomically

PROJECT = Path(__file__).parents[1]
RAW, CONF = Path("data/01_raw/mine"), Path("conf/mine")
COMMANDS = (
    f"kedro write-tsv {RAW}/train.parquet {RAW}/train.tsv",
    f"kedro write-tsv {RAW}/valid.parquet {RAW}/valid.tsv",
    "kedro check --env=mine",
    "kedro run --env=mine",
)

LABELS = ["Schuhe", "Kleider", "Jacken und Mäntel", "Mützen", "Gürtel", "Handtaschen", "Möbel"]
NOUNS = ("Stiefel", "Röcke", "Mäntel", "Mützen", "Gürtel", "Rucksäcke", "Stühle")
COLOURS = ("rote", "grüne", "weiße", "schwarze", "blaue", "gelbe")
WIDTH = 512
PAIRS, QUERIES, CANDIDATES = 900, 40, 10

GLOBALS = "{raw: data/01_raw/mine, collection: mine}"
PARAMETERS = """
make_shop: null
rankers: [bag_of_words]
bag_of_words: {steps: 400}
chunks: {train: 1}
ingest: {feature_size: 512}
sample_negatives: {ignored_labels: []}
"""


def products(first_id: int, kinds: np.ndarray, seed: int) -> pd.DataFrame:
    """Products of some kinds (n, 2), a noun and a colour each; every box shows both, under noise."""
    random, directions = np.random.default_rng([seed, first_id]), np.random.default_rng(seed)
    nouns, colours = (directions.standard_normal((len(names), WIDTH)) for names in (NOUNS, COLOURS))
    boxes = random.integers(1, 5, len(kinds))
    corners = [np.tile([10, 20, 110, 220], (count, 1)) + random.integers(0, 80, (count, 1)) for count in boxes]
    features = [
        nouns[noun] + colours[colour] + random.standard_normal((count, WIDTH))
        for (noun, colour), count in zip(kinds, boxes, strict=True)
    ]
    return pd.DataFrame(
        {
            "product_id": first_id + np.arange(len(kinds)),
            "title": [f"{query_of(*kind)}, Größe {number % 9 + 36}" for number, kind in enumerate(kinds)],
            "image_h": 300,
            "image_w": 400,
            "boxes": [list(corner.astype(float)) for corner in corners],
            "features": [list(feature.astype(np.float32)) for feature in features],
            "class_labels": [np.full(count, noun) for noun, count in zip(kinds[:, 0], boxes, strict=True)],
        }
    )


def query_of(noun: int, colour: int) -> str:
    """What a shopper types for a kind."""
    return f"{COLOURS[colour]} {NOUNS[noun]}"


def write_tables(folder: Path, pairs: int) -> None:
    """Write ``train.parquet``, ``valid.parquet``, ``valid_answer.json`` and ``multimodal_labels.txt``."""
    random = np.random.default_rng(0)
    kinds = np.column_stack([random.integers(len(names), size=pairs) for names in (NOUNS, COLOURS)])
    train = products(1, kinds, seed=0).assign(query_id=np.arange(pairs), query=[query_of(*kind) for kind in kinds])
    lists, answers = [], {}
    for query_id in range(QUERIES):
        kinds = np.column_stack([random.integers(len(names), size=CANDIDATES) for names in (NOUNS, COLOURS)])
        found = products(10_000 + 100 * query_id, kinds, seed=0).assign(query_id=query_id, query=query_of(*kinds[0]))
        answers[query_id] = found["product_id"][(kinds == kinds[0]).all(axis=1)].tolist()
        lists.append(found)
    folder.mkdir()
    train.to_parquet(folder / "train.parquet")
    pd.concat(lists).to_parquet(folder / "valid.parquet")
    (folder / "valid_answer.json").write_text(json.dumps(answers))
    lines = ["category_id\tcategory_name", *(f"{number}\t{name}" for number, name in enumerate(LABELS))]
    (folder / "multimodal_labels.txt").write_text("\n".join(lines))


def write_environment(folder: Path) -> None:
    """Write ``globals.yml`` and ``parameters.yml``."""
    folder.mkdir()
    (folder / "globals.yml").write_text(GLOBALS)
    (folder / "parameters.yml").write_text(PARAMETERS)


def main(words: list[str] | None = None) -> None:
    """Write catalogue and environment, and print the commands to run next."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("project", nargs="?", type=Path, default=PROJECT, help="folder of a project; default: this")
    arguments.add_argument("--pairs", type=int, default=PAIRS, help="training pairs; default: %(default)s")
    chosen = arguments.parse_args(words)
    project = chosen.project
    if not (project / "conf/base").is_dir():
        arguments.error(f"{project} has no conf/base: name the folder of a project")
    if there := [str(project / folder) for folder in (RAW, CONF) if (project / folder).exists()]:
        arguments.error(f"already there: {', '.join(there)}. Nothing is overwritten: move or remove it first")
    for folder, write in ((RAW, partial(write_tables, pairs=chosen.pairs)), (CONF, write_environment)):
        with write_atomically(project / folder) as unfinished:
            write(unfinished)
    print(f"written: {project / RAW}, {project / CONF}. Next, in {project}:", *COMMANDS, sep="\n  ")


if __name__ == "__main__":
    main()
