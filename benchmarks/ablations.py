"""What each idea is worth: nDCG@5 of rankings with and without it, everything else equal.

kedro run --env=photos --pipelines=ingest,featurize,sample_negatives,train --params=rankers=kernel_words
python -m benchmarks.ablations --env=photos --seeds 0 1 2                     # 50 minutes of one busy core
python -m benchmarks.ablations --env=photos --only kernel_words boxes scales  # 2 minutes

Options are those of the environment, merged with conf/base. The nodes of ``train`` run without Kedro, so that a row
"as it is" has what ``kedro run`` gives on one thread. Seeds are those of the rankers: language model, word vectors and
negatives are those that were saved. A training that is finished is kept in data/ablations/<env>, by ranker, seed,
options and versions of its inputs, and is not repeated; a killed one goes on from its last epoch. After a change of the
code, delete that folder. Prints a table for each ablation and replaces the ablation's rows in
benchmarks/plots/ablations_<env>.csv. A query's nDCG@5 is averaged over the seeds; intervals are over queries, and
differences to the first row of each ablation are paired by query.
"""

import argparse
import logging
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import CatalogProtocol
from omegaconf import OmegaConf

from benchmarks.experiments import PLOTS, Examples, draw_kinds, load
from benchmarks.rankers import PROJECT, SPLITS, columns_of
from multimodal_recall.config.layout import Chunk
from multimodal_recall.config.options import EvaluateOptions, HardwareOptions, NegativeOptions
from multimodal_recall.config.rankers import RankerOptions
from multimodal_recall.datasets.atomic_write import write_atomically
from multimodal_recall.datasets.model_folders import RankerFolder
from multimodal_recall.evaluation.blending import blend, weigh_out_of_fold
from multimodal_recall.evaluation.metrics import IDS, ndcg_at_5
from multimodal_recall.evaluation.scoring import score_examples
from multimodal_recall.models.saved import TrainedRanker
from multimodal_recall.pipelines.train.nodes import train_ranker, versions_of
from multimodal_recall.pipelines.train.sum_nodes import solve_ranker, sum_words
from multimodal_recall.runs.versions import fingerprint

ONE_THREAD = HardwareOptions(threads=1)


@dataclass(frozen=True)
class Setting:
    """A ranker of the environment with some options changed."""

    ranker: str
    changes: dict[str, Any] = field(default_factory=dict)
    """Values by dotted option, such as ``model.pooling``."""
    start_changes: dict[str, Any] = field(default_factory=dict)
    """The same of the ranker that it starts from."""
    relative_margin: float | None = None
    """Of ``similar_query``, which is then drawn anew."""


@dataclass(frozen=True)
class Ranking:
    """A ranker, or several whose scores are added up."""

    settings: tuple[Setting, ...]
    how: Literal["z_score", "rank", "out_of_fold"] = "z_score"
    """The scale of the scores; ``out_of_fold``: z-scores, with weights that are searched on the other folds."""


@dataclass(frozen=True)
class Environment:
    """What an environment has saved, its options, and the folder of the trainings."""

    examples: Examples
    catalog: CatalogProtocol
    parameters: dict[str, Any]
    folder: Path


def alone(ranker: str, *changes: Any, **more: Any) -> Ranking:
    """One ranker with changed options."""
    return Ranking((Setting(ranker, *changes, **more),))


def set_reader(ranker: str, pooling: str, *start_changes: dict[str, Any]) -> dict[str, Ranking]:
    """A ranker of sets of boxes: as it is, with generalised pooling, with a share of boxes and words left out."""
    return {
        "as it is": alone(ranker),
        "pooling: gpo": alone(ranker, {pooling: "gpo"}, *start_changes),
        "boxes and words left out": alone(ranker, {"drop_boxes": 0.2, "drop_words": 0.2}),
    }


BLEND = tuple(map(Setting, ("bag_of_words", "query_likelihood", "kernel_words")))
HSL, TUNED = Setting("hsl"), Setting("graph_reasoning_tuned")
ALL_BOXES = Setting("kernel_words", {"model.boxes": "all"})
HEADS = "model.image_encoder.pooling"
MINED = {"negatives": {"similar_query": 1.0}, "epochs": 10}
ABLATIONS: dict[str, dict[str, Ranking]] = {
    "kernel_words": {
        "default blend": Ranking(BLEND),
        "without kernel_words": Ranking(BLEND[:2]),
        "kernel_words of all boxes": Ranking((*BLEND[:2], ALL_BOXES)),
    },
    "boxes": {"kernel_words": alone("kernel_words"), "of all boxes": Ranking((ALL_BOXES,))},
    "scales": {
        "default blend": Ranking(BLEND),
        "of ranks": Ranking(BLEND, "rank"),
        "weights searched out of fold": Ranking(BLEND, "out_of_fold"),
        **{setting.ranker: Ranking((setting,)) for setting in BLEND},
    },
    "graph_reasoning": set_reader("graph_reasoning", "model.pooling"),
    "hsl": {
        "as it is": alone("hsl"),
        "pooling: gpo": alone("hsl", {"model.pooling": "gpo"}),
        "no boxes and words left out": alone("hsl", {"drop_boxes": 0.0, "drop_words": 0.0}),
    },
    "hsl_in_sums": {"graph_reasoning_tuned": Ranking((TUNED,)), "with hsl": Ranking((TUNED, HSL))},
    "hsl_in_blend": {"default blend": Ranking(BLEND), "with hsl": Ranking((*BLEND, HSL))},
    "negatives": {
        "two_tower, similar_query": alone("two_tower", MINED),
        "relative_margin: 0.05": alone("two_tower", MINED, relative_margin=0.05),
        "random": alone("two_tower", MINED | {"negatives": {"random": 1.0}}),
    },
    "word_level": set_reader("word_level", HEADS, {HEADS: "gpo"}),
    "siamese": set_reader("siamese", "model.pooling"),
}


def open_environment(project: Path, env: str) -> Environment:
    """Read what an environment has saved, and its options."""
    examples = load(project, env)
    bootstrap_project(project)
    with KedroSession.create(project, env=env) as session:
        context = session.load_context()
    return Environment(examples, context.catalog, context.config_loader["parameters"], project / "data/ablations" / env)


def options_of(environment: Environment, ranker: str, changes: dict[str, Any]) -> RankerOptions:
    """A ranker's options, conf/base merged with the environment, then changed."""
    group = OmegaConf.create(asdict(RankerOptions(**environment.parameters[ranker])))
    for name, value in changes.items():
        OmegaConf.update(group, name, value, merge=False)
    return RankerOptions(**OmegaConf.to_container(group))


def with_margin(environment: Environment, margin: float) -> Examples:
    """The examples with ``similar_query`` drawn with a relative margin, in files, as trainings record versions."""
    options = NegativeOptions(**environment.parameters["sample_negatives"])
    options = replace(options, kinds=("similar_query",), relative_margin=margin)
    training = draw_kinds(environment.examples, options, environment.parameters["seed"])
    for chunk, tables in training.items():
        drawn_before = Path(environment.examples.training[chunk]["samples"].files[0]).parent.name
        path = environment.folder / "samples" / chunk / f"{drawn_before}, margin {margin}" / "samples.parquet"
        with write_atomically(path) as unfinished:
            pq.write_table(tables["samples"].to_table(), unfinished)
        training[chunk] = tables | {"samples": ds.dataset(path)}
    return replace(environment.examples, training=training)


def fit(
    environment: Environment, examples: Examples, ranker: str, options: RankerOptions, start: TrainedRanker | None
) -> TrainedRanker:
    """Train as ``kedro run`` does."""
    catalog, valid = environment.catalog, (examples.candidates["valid"], examples.answers["valid"])
    vectors = catalog.load("word_vectors"), catalog.load("label_vectors")
    if options.loss != "ridge":
        given = catalog.load("language_model"), options, ONE_THREAD, str(environment.folder / "checkpoints"), start
        return train_ranker(examples.training, *valid, *vectors, *given, ranker=ranker)["model"]
    landmarks, sums = catalog.load(f"{ranker}.landmarks"), []
    for number, (chunk, tables) in enumerate(examples.training.items()):
        inputs = tables["products"], examples.pairs[chunk], tables["query_features"], landmarks, options, ONE_THREAD
        sums.append(sum_words(*inputs, chunk=Chunk("train", number, len(examples.training))))
    given = landmarks, options, ONE_THREAD, *sums
    return solve_ranker(examples.training, *valid, *vectors, *given, ranker=ranker)["model"]


def finished(environment: Environment, setting: Setting, seed: int) -> Path:
    """Train and score, unless that is done: the folder of ``model`` and ``scores.parquet``."""
    options = options_of(environment, setting.ranker, setting.changes | {"seed": seed})
    examples, start = environment.examples, None
    if setting.relative_margin is not None:
        examples = with_margin(environment, setting.relative_margin)
    if options.start_from is not None:
        start = finished(environment, Setting(options.start_from, setting.start_changes), seed)
    inputs = [versions_of(tables) for tables in (examples.training, *examples.candidates.values())]
    digest = fingerprint([asdict(options), None if start is None else start.name, inputs])[:12]
    folder = environment.folder / f"{setting.ranker}-{seed}-{digest}"
    if not (folder / "scores.parquet").exists():
        start_model = None if start is None else RankerFolder(str(start / "model")).load()
        model = fit(environment, examples, setting.ranker, options, start_model)
        RankerFolder(str(folder / "model")).save(model)
        scores = {split: score_examples(model.build(), examples.candidates[split]).to_pandas() for split in SPLITS}
        with write_atomically(folder / "scores.parquet") as unfinished:
            pd.concat(scores, names=["split", None]).reset_index("split").to_parquet(unfinished)
    return folder


def per_query(
    ranking: Ranking, scores: list[pd.Series], answers: dict[int, list[int]], evaluate: EvaluateOptions
) -> np.ndarray:
    """nDCG@5 of each query by a ranking, from the scores of its rankers by query and product."""
    models = [f"model {number}" for number in range(len(scores))]
    table = pd.concat(scores, axis=1, keys=models).reset_index()
    if ranking.how == "out_of_fold":
        searched = weigh_out_of_fold(table, answers, models, "z_score", evaluate.folds, evaluate.shuffles, 0)
        return ndcg_at_5(searched.scores, answers)["ndcg_at_5"].to_numpy()
    return ndcg_at_5(blend(table, models, ranking.how), answers)["ndcg_at_5"].to_numpy()


def measure(environment: Environment, rankings: dict[str, Ranking], seeds: Iterable[int]) -> pd.DataFrame:
    """A row a ranking, as ``benchmarks.rankers`` gives it."""
    evaluate, found = EvaluateOptions(**environment.parameters["evaluate"]), {split: [] for split in SPLITS}
    for seed in seeds:
        folders = [[finished(environment, one, seed) for one in ranking.settings] for ranking in rankings.values()]
        tables = [[pd.read_parquet(folder / "scores.parquet") for folder in of_ranking] for of_ranking in folders]
        for split in SPLITS:
            scores = [[one[one["split"] == split].set_index(IDS)["score"] for one in of_one] for of_one in tables]
            inputs = zip(rankings.values(), scores, strict=True)
            answers = environment.examples.answers[split]
            found[split].append([per_query(ranking, of_one, answers, evaluate) for ranking, of_one in inputs])
    columns = {}
    for split, values in found.items():
        columns |= columns_of(split, list(rankings), np.stack(values))
    return pd.DataFrame(columns).round(3)


def keep(path: Path, ablation: str, table: pd.DataFrame) -> None:
    """Replace an ablation's rows in the file of all."""
    kept = {}
    if path.exists():
        kept = {name: rows.droplevel(0) for name, rows in pd.read_csv(path, index_col=[0, 1]).groupby(level=0)}
    kept[ablation] = table
    rows = pd.concat({name: kept[name] for name in ABLATIONS if name in kept}, names=["ablation", "ranking"])
    with write_atomically(path) as unfinished:
        rows.to_csv(unfinished)


def main() -> None:
    """Train, print, keep."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--env", default="photos")
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments.add_argument("--only", nargs="+", choices=list(ABLATIONS), default=list(ABLATIONS))
    options = arguments.parse_args()
    environment = open_environment(PROJECT, options.env)
    logging.getLogger("multimodal_recall").setLevel(logging.ERROR)
    for ablation in options.only:
        table = measure(environment, ABLATIONS[ablation], options.seeds)
        keep(PLOTS / f"ablations_{options.env}.csv", ablation, table)
        print(f"\n{ablation}\n{table.to_string()}", flush=True)


if __name__ == "__main__":
    main()
