"""Run a whole environment with several seeds and print each nDCG@5 and their mean.

python benchmarks/seeds.py --env=photos --seeds 0 1 2
"""

import argparse
import subprocess
import sys
from pathlib import Path
from statistics import mean, stdev

import pandas as pd
import yaml

PROJECT = Path(__file__).parents[1]


def newest_comparison(env: str) -> pd.DataFrame:
    """The comparison that the last run saved, by split and ranking."""
    collection = yaml.safe_load((PROJECT / "conf" / env / "globals.yml").read_text())["collection"]
    versions = PROJECT / "data" / "08_reporting" / collection / "comparison.csv"
    return pd.read_csv(max(versions.iterdir()) / versions.name).set_index(["split", "ranking"])


def main() -> None:
    """Run ``kedro run`` once a seed."""
    arguments = argparse.ArgumentParser(description=__doc__)
    arguments.add_argument("--env", default="base")
    arguments.add_argument("--ranker", default="two_tower")
    arguments.add_argument("--splits", nargs="+", default=["valid", "testA"])
    arguments.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    options = arguments.parse_args()
    found: dict[str, list[float]] = {split: [] for split in options.splits}
    for seed in options.seeds:
        command = [sys.executable, "-m", "kedro", "run", f"--env={options.env}", f"--params=seed={seed}"]
        subprocess.run(command, cwd=PROJECT, check=True, stdout=subprocess.DEVNULL)
        for split in options.splits:
            ndcg, low, high = newest_comparison(options.env).loc[(split, options.ranker), ["nDCG@5", "low", "high"]]
            found[split].append(ndcg)
            print(f"seed {seed}  {split}  {ndcg:.4f}  ({low:.3f} to {high:.3f})", flush=True)
    for split, values in found.items():
        spread = f", standard deviation {stdev(values):.4f}" if len(values) > 1 else ""
        print(f"mean of {len(values)} seeds  {split}  {mean(values):.4f}{spread}")


if __name__ == "__main__":
    main()
