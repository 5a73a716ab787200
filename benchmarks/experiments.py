"""Which negatives, how many, and LSTM or attention: nDCG@5 of rankers trained on an environment's saved examples.

kedro run --pipelines=make_shop,ingest,featurize,sample_negatives           # once; --env=photos: without make_shop
python -m benchmarks.experiments negatives --env=photos --pairs=2000       # 55 minutes on one busy core
python -m benchmarks.experiments attention --env=photos --seconds=10       # 7 minutes

No Kedro run, no candidates written: the training loop alone. Writes table (CSV) and plot (SVG) to benchmarks/plots.
Intervals are over queries, as in benchmarks.rankers. ``negatives`` measures the last weights, so that a training of
many short epochs has no more to choose from than one of few long ones, and pools valid and testA. ``attention`` keeps
the epoch, and the learning rate, that is best on valid, and is to be read on testA.
"""

import argparse
import logging
from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import median
from typing import Any, get_args

import matplotlib as mpl
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.dataset as ds
import yaml
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.rankers import PROJECT, SPLITS, columns_of
from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import HardwareOptions, NegativeKind, NegativeOptions
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.data.schemas import ChunkTables
from multimodal_recall.evaluation.metrics import ndcg_at_5
from multimodal_recall.evaluation.scoring import score_examples
from multimodal_recall.pipelines.sample_negatives.nodes import sample_chunk
from multimodal_recall.runtime.device import choose_hardware
from multimodal_recall.training.checkpoint import EpochLog
from multimodal_recall.training.ranker import RankerTraining

ONE_THREAD = choose_hardware(HardwareOptions(threads=1))
PLOTS = Path(__file__).parent / "plots"
IN_BATCH: dict[str, Any] = {"negatives_per_positive": 0, "loss": "in_batch_softmax"}
STEPS = {"batch_size": 78, "learning_rate": 0.001}  # 39 times 1:1, 11 times 1:6, 6 times 1:12
COUNTS = (
    ("1:1 redrawn", 1, True, 7),
    ("1:1 once", 1, False, 7),
    ("1:6 once", 6, False, 2),
    ("1:12 once", 12, False, 1),
    ("1:6 once, as many passes", 6, False, 7),
    ("1:12 once, as many passes", 12, False, 7),
)
READERS = ("lstm", "transformer")
RATES = (0.0005, 0.0015)
SHARES = (0.1, 0.3, 1.0)


@dataclass(frozen=True)
class Examples:
    """What an environment has saved."""

    training: dict[str, ChunkTables]
    pairs: dict[str, ds.Dataset]
    """Of each training chunk."""
    candidates: dict[str, dict[str, ChunkTables]]
    """Of valid and testA."""
    answers: dict[str, dict[int, list[int]]]
    vectors: tuple[np.ndarray, np.ndarray]
    """Of the words and of the labels."""
    labels: list[str]


@dataclass(frozen=True)
class Training:
    """One row of a table: what is trained, on what."""

    name: str
    options: RankerOptions
    examples: dict[str, ChunkTables]


class LastWeights:
    """The checkpoint of a training that is not to be resumed; it holds the last weights."""

    def __init__(self) -> None:
        self.weights: dict[str, Tensor] = {}

    def read(self) -> None:
        """Nothing to go on from."""

    def write(self, tensors: dict[str, Tensor], facts: dict[str, Any]) -> None:
        """Keep the weights, not the optimiser's state."""
        del facts
        self.weights = {
            name.removeprefix("model."): tensor for name, tensor in tensors.items() if name.startswith("model.")
        }


def load(project: Path, env: str) -> Examples:
    """Read an environment's newest examples from the catalog, all but small tables lazy."""
    bootstrap_project(project)
    with KedroSession.create(project, env=env) as session:
        catalog = session.load_context().catalog
    vectors = (catalog.load(f"{name}_vectors").to_table()["vector"].to_numpy() for name in ("word", "label"))
    training = catalog.load("train_examples")
    return Examples(
        training,
        {chunk: catalog.load(f"train.{chunk}.pairs") for chunk in training},
        {split: catalog.load(f"{split}_examples") for split in SPLITS},
        {split: catalog.load(f"{split}_answers") for split in SPLITS},
        tuple(map(np.stack, vectors)),
        catalog.load("labels"),
    )


def ranker_group(name: str, **changes: Any) -> RankerOptions:
    """A ranker of ``conf/base``, changed."""
    group = yaml.safe_load((PROJECT / "conf/base/rankers" / f"{name}.yml").read_text())[name]
    return RankerOptions(**group | changes)


def cut(training: dict[str, ChunkTables], share: float) -> dict[str, ChunkTables]:
    """Leave a share of the right pairs, and their negatives, of each chunk; a smaller share's are among them."""

    def cut_samples(samples: ds.Dataset) -> ds.Dataset:
        table = samples.to_table()
        draws = len(table.select(["epoch", "kind"]).group_by(["epoch", "kind"]).aggregate([]))
        pairs = len(table) // draws
        kept = np.random.default_rng(0).permutation(pairs)[: max(1, round(share * pairs))]
        return ds.dataset(table.filter(pa.array(np.isin(np.arange(len(table)) % pairs, kept))))

    return {chunk: tables | {"samples": cut_samples(tables["samples"])} for chunk, tables in training.items()}


def draw(examples: Examples, negatives: int, epochs: int) -> dict[str, ChunkTables]:
    """The training chunks with label-sharing negatives drawn anew, in memory."""
    return draw_kinds(examples, NegativeOptions(("label_sharing",), negatives, epochs), 0)


def draw_kinds(examples: Examples, options: NegativeOptions, seed: int) -> dict[str, ChunkTables]:
    """The training chunks with negatives drawn anew, in memory."""
    drawn = {}
    for chunk, tables in examples.training.items():
        inputs = tables["products"], examples.pairs[chunk], tables["query_features"], examples.labels
        drawn_chunk = Chunk("train", int(chunk.removeprefix("chunk_")), len(examples.training))
        drawn[chunk] = tables | {"samples": ds.dataset(sample_chunk(*inputs, options, seed, drawn_chunk))}
    return drawn


def right_pairs(training: dict[str, ChunkTables]) -> int:
    """Right pairs of all chunks."""
    samples = [tables["samples"].to_table(columns=["epoch", "kind"]) for tables in training.values()]
    return sum(len(table) // len(table.group_by(["epoch", "kind"]).aggregate([])) for table in samples)


def share_of(examples: Examples, pairs: int | None) -> float:
    """What share of the right pairs so many are; at most, and where no number is given, all."""
    return min(1.0, (pairs or np.inf) / right_pairs(examples.training))


def train(
    examples: Examples, training: Training, seed: int, last: bool
) -> tuple[dict[str, np.ndarray], list[EpochLog]]:
    """Train once: nDCG@5 of each query of the splits, by the last weights or the best on valid, and the log."""
    checkpoint = LastWeights()
    options, valid = replace(training.options, seed=seed), (examples.candidates["valid"], examples.answers["valid"])
    fitted = RankerTraining(options, training.examples, *valid, *examples.vectors, None, ONE_THREAD, checkpoint, "")
    trained, log = fitted.fit()
    ranker = replace(trained, weights=checkpoint.weights).build() if last else trained.build()
    scored = {split: score_examples(ranker, examples.candidates[split]).to_pandas() for split in SPLITS}
    return {split: ndcg_at_5(scored[split], examples.answers[split])["ndcg_at_5"].to_numpy() for split in SPLITS}, log


def train_all(examples: Examples, trainings: Iterable[Training], seeds: list[int], last: bool) -> pd.DataFrame:
    """A row a training: nDCG@5 as ``benchmarks.rankers`` gives it, pairs and seconds of its steps, mean of seeds."""
    rows = []
    for training in trainings:
        found, logs = zip(*(train(examples, training, seed, last) for seed in seeds), strict=True)
        ndcg = {split: np.stack([of_seed[split] for of_seed in found])[:, None] for split in SPLITS}
        ndcg["both"] = np.concatenate(list(ndcg.values()), axis=2)
        row = {}
        for split, values in ndcg.items():
            row |= columns_of(split, [training.name], values)
        done = {name: [sum(getattr(epoch, name) for epoch in log) for log in logs] for name in ("pairs", "seconds")}
        done = {name: pd.Series(np.mean(values), [training.name]) for name, values in done.items()}
        rows.append(pd.DataFrame(row | done | {"epochs": training.options.epochs}))
        print(rows[-1].round(3).to_csv(header=len(rows) == 1, sep="|").strip(), flush=True)
    return pd.concat(rows)


def negatives(examples: Examples, seeds: list[int], epochs: int, pairs: int | None) -> pd.DataFrame:
    """Train two rankers on every kind of negatives; then one on 1:1 redrawn each epoch, and on 1:6 and 1:12 drawn once.

    Kinds: all see the same right pairs, as many a step; in-batch has half the pairs, as it has no drawn negatives.
    Counts: first all see as many pairs, right and wrong together, as many a step, so that steps and computing are the
    same but a right pair is seen 7, 2 and 1 times; then as often, which gives 1:12 6.5 times the steps of 1:1.
    """
    share = share_of(examples, pairs)
    training, trainings = cut(examples.training, share), []
    cosine = {"loss": "hinge", "margin": 2.8, "negatives_per_positive": 1}  # of the score: 14 x 0.2
    for name, changes, margin in (("two_tower", {}, 0.0), ("graph_reasoning", cosine, 0.7)):
        one = ranker_group(name, **changes, **STEPS, epochs=epochs)
        trainings += [
            Training(f"{name}, {kind}", replace(one, negatives={kind: 1.0}), training)
            for kind in get_args(NegativeKind)
        ]
        in_batch = replace(one, **IN_BATCH, margin=margin, batch_size=one.batch_size // 2)
        trainings.append(Training(f"{name}, in_batch softmax", in_batch, training))
        if name == "two_tower":  # the loss of its other rows, to tell the negatives from the loss
            in_batch = replace(in_batch, loss="in_batch_cross_entropy")
            trainings.append(Training(f"{name}, in_batch cross_entropy", in_batch, training))
    for name, count, fresh, passes in COUNTS:
        how = {"negatives_per_positive": count, "fresh_negatives": fresh, "epochs": passes * max(1, round(epochs / 7))}
        options = ranker_group("two_tower", **how, **STEPS)
        drawn = cut(draw(examples, count, options.epochs if fresh else 1), share)
        trainings.append(Training(f"two_tower, label_sharing {name}", options, drawn))
    return train_all(examples, trainings, seeds, last=True).drop(columns="seconds")


def reader_options(reader: str, **changes: Any) -> RankerOptions:
    """The two-tower ranker with one reader of words and boxes, trained in-batch: in as many steps it learns most."""
    group = ranker_group("two_tower", **IN_BATCH, margin=0.0, batch_size=64, **changes)
    return replace(group, model=replace(group.model, words=reader, boxes=reader))


def pairs_per_second(examples: Examples, repeats: int = 3) -> dict[str, float]:
    """How fast each reader trains, medians of alternated epochs."""
    training, found = cut(examples.training, SHARES[1]), {reader: [] for reader in READERS}
    for _ in range(repeats):
        for reader in READERS:
            _, log = train(examples, Training(reader, reader_options(reader, epochs=2), training), 0, last=True)
            found[reader].append(log[-1].pairs / log[-1].seconds)
    return {reader: median(speeds) for reader, speeds in found.items()}


def attention(examples: Examples, seeds: list[int], seconds: float, pairs: int | None) -> pd.DataFrame:
    """BiLSTMs against transformers of two layers, in as many seconds of training steps, on 10, 30 and 100 %.

    The learning rate of each is the one that is best on valid. Epochs are whole: where few fit into the seconds, times
    differ by up to half an epoch.
    """
    whole = cut(examples.training, share_of(examples, pairs))
    speeds, rows = pairs_per_second(examples), []
    print({reader: round(speed) for reader, speed in speeds.items()}, "pairs/s")
    for share in SHARES:
        training = cut(whole, share)
        count = right_pairs(training)
        for reader in READERS:
            epochs = max(1, round(seconds * speeds[reader] / count))
            tried = []
            for rate in RATES:
                options = reader_options(reader, epochs=epochs, learning_rate=rate)
                one = Training(f"{reader}, {count}", options, training)
                tried.append(train_all(examples, [one], seeds, last=False).assign(rate=str(rate)))
            rows.append(max(tried, key=lambda row: row["valid"].item()))
    return pd.concat(rows)


def plot_negatives(table: pd.DataFrame, title: str) -> Figure:
    """A dot and its interval a training; kinds on the left, a colour a ranker, how many negatives on the right."""
    counts = table.index.str.contains(":")
    figure = Figure((10, 3.4), layout="constrained")
    left, right = figure.subplots(1, 2, sharex=True)
    kinds = list(dict.fromkeys(name.partition(", ")[2] for name in table.index[~counts]))
    for number, ranker in enumerate(dict.fromkeys(name.partition(", ")[0] for name in table.index)):
        rows = table[~counts & table.index.str.startswith(ranker)]
        _dots(left, rows, np.arange(len(rows)) + 0.25 * number - 0.125, ranker, f"C{number}")
    left.set_yticks(range(len(kinds)), kinds)
    left.legend(fontsize=8)
    names = [name.rpartition("label_sharing ")[2] for name in table.index[counts]]
    _dots(right, table[counts], np.arange(len(names)), None, "C0")
    right.set_yticks(range(len(names)), names)
    for axes, of in ((left, "kind of negatives, 1:1"), (right, "two_tower, label_sharing")):
        axes.invert_yaxis()
        axes.set_title(of, fontsize=10)
        axes.set_xlabel("nDCG@5, valid and testA")
        axes.grid(axis="x", alpha=0.3)
    figure.suptitle(title, fontsize=11)
    return figure


def _dots(axes: Any, rows: pd.DataFrame, places: np.ndarray, label: str | None, colour: str) -> None:
    ends = np.abs(rows[["both low", "both high"]].to_numpy().T - rows["both"].to_numpy())
    axes.errorbar(rows["both"], places, xerr=ends, fmt="o", capsize=3, label=label, color=colour)


def plot_attention(table: pd.DataFrame, title: str) -> Figure:
    """A line a reader over the number of right pairs, testA, with intervals."""
    figure = Figure((5.5, 3.6), layout="constrained")
    axes = figure.subplots()
    for number, reader in enumerate(READERS):
        rows = table[table.index.str.startswith(reader)]
        pairs = [int(name.rpartition(", ")[2]) for name in rows.index]
        ends = np.abs(rows[["testA low", "testA high"]].to_numpy().T - rows["testA"].to_numpy())
        axes.errorbar(np.array(pairs) * (1 + 0.04 * number), rows["testA"], ends, fmt="o-", capsize=3, label=reader)
    axes.set_xscale("log")
    axes.set_xticks(pairs, [f"{count:,}" for count in pairs])
    axes.minorticks_off()
    axes.set_xlabel("right training pairs")
    axes.set_ylabel("nDCG@5, testA")
    axes.grid(alpha=0.3)
    axes.legend()
    axes.set_title(title, fontsize=10)
    return figure


def save(figure: Figure, path: Path) -> None:
    """Write an SVG whose text is text, the same bytes for the same figure."""
    with mpl.rc_context({"svg.fonttype": "none", "svg.hashsalt": "plots"}):
        figure.savefig(path, metadata={"Date": None})


def main() -> None:
    """Train, print, draw."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("experiment", choices=["negatives", "attention"])
    arguments.add_argument("--env", default="base")
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1])
    arguments.add_argument("--epochs", type=int, default=16, help="negatives: epochs of each kind")
    arguments.add_argument("--pairs", type=int, help="right pairs to train on, of all")
    arguments.add_argument("--seconds", type=float, default=12, help="attention: of each training")
    options = arguments.parse_args()
    examples = load(PROJECT, options.env)
    logging.getLogger("multimodal_recall").setLevel(logging.ERROR)
    where = "shop" if options.env == "base" else options.env
    name, seeds = f"{options.experiment}_{where}", f"seeds {', '.join(map(str, options.seeds))}"
    if options.experiment == "negatives":
        table = negatives(examples, options.seeds, options.epochs, options.pairs)
        figure = plot_negatives(table, f"{where}: {options.epochs} epochs, {seeds}")
    else:
        table = attention(examples, options.seeds, options.seconds, options.pairs)
        figure = plot_attention(table, f"{where}: {options.seconds:g} s each, {seeds}")
    PLOTS.mkdir(exist_ok=True)
    table.round(3).to_csv(PLOTS / f"{name}.csv")
    save(figure, PLOTS / f"{name}.svg")
    print(table.round(3).to_string())


if __name__ == "__main__":
    main()
