"""Train rankers of an environment with several seeds: each one's nDCG@5, time and size, and the best blend of two.

python -m benchmarks.rankers --env=photos --rankers two_tower mcan --seeds 0 1 2

A run a seed (``kedro run``, everything from the raw files), all rankers in it. A query's nDCG@5 is averaged over the
seeds; intervals are over queries. Blends are sums of z-scores; the pair is the best on valid. A seed ensemble is the
blend of a ranker's, or a pair's, scores over all seeds. Differences are to the first ranker, paired by query. Runs that
are there already are taken with --measure.
"""

import argparse
import itertools
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pandas as pd
import yaml

from multimodal_recall.datasets.small_files import AnswersFile
from multimodal_recall.evaluation.blending import blend
from multimodal_recall.evaluation.bootstrap import bootstrap_means, interval
from multimodal_recall.evaluation.metrics import ndcg_at_5

PROJECT = Path(__file__).parents[1]
SPLITS = ("valid", "testA")
ENSEMBLE = ", seed ensemble"


def run(env: str, seed: int, rankers: list[str]) -> None:
    """One whole run."""
    parameters = f"--params=seed={seed},rankers={' '.join(rankers)}"
    command = [sys.executable, "-m", "kedro", "run", f"--env={env}", parameters]
    subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)


def version_of(collection: str, ranker: str, seed: int) -> str:
    """The newest version of a ranker that was trained with a seed."""
    folder = PROJECT / "data" / "06_models" / collection / ranker / "model"
    cards = {path.parent.parent.name: json.loads(path.read_text()) for path in folder.glob("*/model/card.json")}
    versions = [version for version, card in cards.items() if card["seed"] == seed]
    if not versions:
        raise SystemExit(f"{folder} has no model of seed {seed}: run it, or name a ranker without a seed of its own")
    return max(versions)


def scores_of(collection: str, ranker: str, split: str, version: str) -> pd.Series:
    """A ranker's scores of one run, by query and product."""
    name = f"{split}_scores.parquet"
    path = PROJECT / "data" / "07_model_output" / collection / ranker / name / version / name
    return pd.read_parquet(path).set_index(["query_id", "product_id"])["score"]


def groups_of(rankers: list[str]) -> dict[str, tuple[str, ...]]:
    """What is measured: each ranker, each two of them, and all of them."""
    groups = [*((ranker,) for ranker in rankers), *itertools.combinations(rankers, 2), tuple(rankers)]
    return {" + ".join(group): group for group in groups}


def per_query(scores: list[pd.DataFrame], answers: dict[int, list[int]]) -> dict[str, np.ndarray]:
    """nDCG@5 of each query by each group of rankers, their z-scores added up over the seeds that are given.

    Args:
        scores: Of each seed, by query and product, a column a ranker.
        answers: Right products of each query.
    """
    seeds = range(len(scores))
    table = pd.concat(dict(enumerate(scores)), axis=1).reset_index()
    table.columns = ["query_id", "product_id", *((seed, ranker) for seed in seeds for ranker in scores[0].columns)]
    found = {}
    for name, group in groups_of(list(scores[0].columns)).items():
        columns = [(seed, ranker) for seed in seeds for ranker in group]
        blended = blend(table[["query_id", "product_id", *columns]], columns, "z_score")
        found[name] = ndcg_at_5(blended, answers)["ndcg_at_5"].to_numpy()
    return found


def columns_of(split: str, names: list[str], ndcg: np.ndarray) -> dict[str, pd.Series]:
    """A split's columns, of nDCG@5 (seeds, names, queries): the mean, its interval over queries, each seed's mean.

    Then the difference to the first name, with its interval over queries.
    """
    of_query = ndcg.mean(axis=0)
    ends = [
        interval(bootstrap_means(values.T, 1000, np.random.default_rng(0)), 0.95)
        for values in (of_query, of_query - of_query[0])
    ]
    seeds = [" ".join(f"{mean:.3f}" for mean in of_name) for of_name in ndcg.mean(axis=2).T]
    difference = [
        f"{mean:+.3f} ({low:+.3f} to {high:+.3f})"
        for mean, low, high in zip((of_query - of_query[0]).mean(axis=1), *ends[1], strict=True)
    ]
    columns = {"": of_query.mean(axis=1), " low": ends[0][0], " high": ends[0][1], " seeds": seeds}
    columns |= {" difference": difference}
    return {f"{split}{name}": pd.Series(values, names) for name, values in columns.items()}


def measure(settings: dict, rankers: list[str], seeds: list[int]) -> pd.DataFrame:
    """A row a ranker, blend or seed ensemble: mean over seeds, interval over queries, each seed's mean, by split."""
    collection, columns = settings["collection"], {}
    for split in SPLITS:
        answers = AnswersFile(str(PROJECT / settings["raw"] / f"{split}_answer.json")).load()
        scores = []
        for seed in seeds:
            versions = {ranker: version_of(collection, ranker, seed) for ranker in rankers}
            one = {ranker: scores_of(collection, ranker, split, version) for ranker, version in versions.items()}
            scores.append(pd.DataFrame(one))
        single, ensemble = [per_query([of_seed], answers) for of_seed in scores], per_query(scores, answers)
        names = list(ensemble)
        ndcg = np.stack([[of_seed[name] for name in names] for of_seed in single])  # (seeds, names, queries)
        means = columns_of(split, names, ndcg)
        together = columns_of(split, [f"{name}{ENSEMBLE}" for name in names], np.stack(list(ensemble.values()))[None])
        columns |= {name: pd.concat([means[name], together[name]]) for name in means}
    return pd.DataFrame(columns)


def cost(collection: str, ranker: str, seeds: list[int]) -> tuple[int, float]:
    """Parameters, and mean seconds of training."""
    models = PROJECT / "data" / "06_models" / collection / ranker
    seconds = []
    for seed in seeds:
        version = version_of(collection, ranker, seed)
        log = pd.read_parquet(models / "training_log.parquet" / version / "training_log.parquet")
        seconds.append(log["seconds"].sum())
        card = json.loads((models / "model" / version / "model" / "card.json").read_text())
    return card["parameters"], float(np.mean(seconds))


def main() -> None:
    """Run, measure, print."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--env", default="base")
    arguments.add_argument("--rankers", nargs="+", default=["two_tower"])
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    arguments.add_argument("--measure", action="store_true", help="take the newest runs of these seeds")
    options = arguments.parse_args()
    for seed in [] if options.measure else options.seeds:
        run(options.env, seed, options.rankers)
    settings = yaml.safe_load((PROJECT / "conf" / options.env / "globals.yml").read_text())
    table = measure(settings, options.rankers, options.seeds).round(3)
    costs = {ranker: cost(settings["collection"], ranker, options.seeds) for ranker in options.rankers}
    costs = pd.DataFrame.from_dict(costs, "index", columns=["parameters", "seconds"]).round()
    print(table.loc[options.rankers].join(costs).sort_values("valid").to_string())
    ensembles = table.index.str.endswith(ENSEMBLE)
    for title, rows in (("blends", table[~ensembles].iloc[len(options.rankers) :]), ("all", table[ensembles])):
        print(f"\n{title}, best on valid:\n{rows.nlargest(5, 'valid').to_string()}")


if __name__ == "__main__":
    main()
