"""Kill ``kedro run`` again and again, resume it each time, and compare all it makes with a run left alone.

python -m benchmarks.kill --kills 20 [--seed 0] [--small]
"""

import argparse
import hashlib
import json
import os
import random
import re
import signal
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import yaml
from kedro.framework.project import pipelines
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io.core import is_parameter
from safetensors.numpy import load_file

from benchmarks.small_project import SMALL, copy_project
from multimodal_recall.datasets.atomic import AtomicDataset
from multimodal_recall.datasets.chunk_list import ChunkList
from multimodal_recall.datasets.model_folders import CheckpointFile
from multimodal_recall.models.saved import CARD

START = [sys.executable, "-m", "kedro", "run"]
RESUME = [*START, "--only-missing-outputs"]
LONGEST_RUN = 1800  # seconds
TRAIN = "Running node: train:"  # the one node that goes on where it was killed
BEFORE_MESSAGE = re.compile(r"^(\[.*?\])?\s+([A-Z]+ )?\s*")


class Run:
    """One ``kedro run`` in a process group of its own; follows its log. A node is known by its line in the log."""

    def __init__(self, command: list[str], project: Path) -> None:
        self.seconds: dict[str, float] = {}  # of each node that ended, in order
        self.node, self.since, self.lines = "", 0.0, [""]
        log = yaml.safe_load((project / "conf" / "logging.yml").read_text(encoding="utf-8"))
        # Of a plain handler's log no line is dropped or broken.
        log["handlers"] = {"plain": {"class": "logging.StreamHandler", "stream": "ext://sys.stdout"}}
        log["root"]["handlers"] = ["plain"]
        config = project / "conf" / "whole_log.yml"
        config.write_text(yaml.safe_dump(log), encoding="utf-8")
        self.process = subprocess.Popen(
            command,
            cwd=project,
            env={**os.environ, "KEDRO_LOGGING_CONFIG": str(config)},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )
        self.reader = threading.Thread(target=self._read)
        self.reader.start()

    def _read(self) -> None:
        for line in self.process.stdout:
            message = BEFORE_MESSAGE.sub("", line).strip()
            self.lines.append(message)
            if message.startswith("Running node: "):
                self.node, self.since = message, time.monotonic()
            elif message.startswith("Completed node: "):
                self.seconds[self.node] = time.monotonic() - self.since
                self.node = ""

    def kill(self) -> None:
        """Kill it with all its processes."""
        os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        self.reader.join()

    def finish(self) -> "Run":
        """Wait for the end of a run that must succeed."""
        self.process.wait(LONGEST_RUN)
        self.reader.join()
        if self.process.returncode:
            raise SystemExit("\n".join([*self.lines, f"exit {self.process.returncode}"]))
        return self


class Plan:
    """When to kill: moments spread over the work of a run left alone, each uniform in its part of it.

    Half of a node's share of the work is by its seconds, half is the same for all, so that short nodes are hit as well.
    """

    def __init__(self, seconds: dict[str, float], finished: Path, kills: int, seed: int) -> None:
        draw, total = random.Random(seed), sum(seconds.values())
        self.seconds, self.done, self.trained = seconds, set[str](), 0.0
        self.shares = {node: (taken / total + 1 / len(seconds)) / 2 for node, taken in seconds.items()}
        self.moments = [(part + draw.random()) / kills for part in range(kills)]
        self.epochs = read_state(finished)["epoch"]
        self.chunks = sum("train.chunk_" in node and node.startswith("Running node: ingest:") for node in seconds)

    def wait(self, run: Run, moment: float) -> bool:
        """Wait until a run has come to that moment; false if it ended before."""
        while run.process.poll() is None:
            if self.reached(run) >= moment:
                return True
            time.sleep(0.01)
        return False

    def reached(self, run: Run) -> float:
        """Share of the work that is done."""
        node, ahead = run.node, sum(self.shares[node] for node in self.done | set(run.seconds))
        if not node:
            return ahead
        inside = (time.monotonic() - run.since) / self.seconds[node] + self.trained * node.startswith(TRAIN)
        return ahead + self.shares[node] * min(1.0, inside)

    def note(self, run: Run, project: Path) -> None:
        """Keep what a killed run got done."""
        self.done |= set(run.seconds)
        if state := read_state(project):
            self.trained = (state["epoch"] * self.chunks + state["chunk"]) / self.epochs / self.chunks


def read_state(project: Path) -> dict[str, Any] | None:
    """How far the training's checkpoint is; ``None`` where there is none."""
    kept = CheckpointFile(project / "data/06_models/shop/two_tower/checkpoint.safetensors").read()
    return kept and kept[1]["state"]


def read_all(project: Path) -> dict[str, Any]:
    """Read everything that exists in the catalog to its last byte; contents by name."""
    bootstrap_project(project)
    pipelines.configure("multimodal_recall.pipeline_registry")
    with KedroSession.create(project) as session:
        catalog = session.load_context().catalog
        names = [name for name in sorted(pipelines["__default__"].datasets()) if not is_parameter(name)]
        datasets = {name: catalog.get(name) for name in names if catalog.exists(name)}
        return {name: read_dataset(dataset) for name, dataset in datasets.items() if isinstance(dataset, AtomicDataset)}


def read_dataset(dataset: AtomicDataset) -> Any:
    """Load a dataset, then read each of its files."""
    loaded, path = dataset.load(), dataset.load_path()
    unfinished = [version for version in dataset.list_versions() if "unfinished" in version]
    if unfinished:
        raise SystemExit(f"versions that are unfinished: {unfinished}")
    if isinstance(dataset, ChunkList):  # its text holds versions, which differ
        return {
            chunk: {kind: read_file(Path(table.files[0])) for kind, table in tables.items()}
            for chunk, tables in loaded.items()
        }
    files = [file for file in sorted(path.rglob("*")) if file.is_file()] if path.is_dir() else [path]
    return {file.name: read_file(file) for file in files}


def read_file(file: Path) -> Any:
    """Read a file as what it is; its digest, or what it holds without seconds, versions and commit, which differ."""
    if file.suffix == ".parquet":
        table = pq.ParquetFile(file).read()
        if file.name == "training_log.parquet":
            return table.drop_columns(["seconds"]).to_pylist()
    elif file.suffix == ".safetensors":
        load_file(file)
    elif file.suffix == ".json":
        value = json.loads(file.read_text(encoding="utf-8"))
        if file.name == CARD:
            return {key: value[key] for key in value if key not in ("inputs", "git_commit")}
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()


def kill_and_compare(alone: Path, killed: Path, seconds: dict[str, float], kills: int, seed: int) -> list[str]:
    """Run a project with kills; print a line a kill.

    Args:
        alone: Another project with the same options, whose run is done.
        killed: A project without data.
        seconds: Of each node, known by its line in the log.
        kills: How many.
        seed: Seed of their moments.

    Returns:
        What is not as in the run left alone; empty if nothing is.
    """
    plan = Plan(seconds, alone, kills, seed)
    wanted, problems, command = read_all(alone), [], START
    for number, moment in enumerate(plan.moments, 1):
        run = Run(command, killed)
        if not plan.wait(run, moment):
            run.finish()
            print(f"no kill {number}: the run came to its end before", flush=True)
            break
        run.kill()
        plan.note(run, killed)
        found, command = read_all(killed), RESUME
        wrong = [name for name in found if found[name] != wanted[name]]
        problems += [f"kill {number}: {name} is not as in the run left alone" for name in wrong]
        print(
            f"kill {number:2} at {moment:4.0%} of the work: {len(found):2} datasets whole, {len(wrong)} wrong; "
            f"last line: {run.lines[-1][:90]}",
            flush=True,
        )
    Run(RESUME, killed).finish()
    found = read_all(killed)
    return problems + [f"{name} is not as in the run left alone" for name in wanted if found.get(name) != wanted[name]]


def set_options(project: Path, parameters: dict[str, Any]) -> None:
    """Change the options of every run of a project."""
    (project / "conf" / "local" / "parameters.yml").write_text(json.dumps(parameters))


def main() -> None:
    """Print a line a kill, then the verdict."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--kills", type=int, default=20)
    arguments.add_argument("--seed", type=int, default=0)
    arguments.add_argument("--small", action="store_true", help="the small shop, seconds a run")
    options = arguments.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        alone, killed = (copy_project(Path(folder) / name) for name in ("alone", "killed"))
        for project in (alone, killed):
            set_options(project, SMALL if options.small else {})
        seconds = Run(START, alone).finish().seconds
        print(f"{len(seconds)} nodes, {sum(seconds.values()):.0f} s of work", flush=True)
        problems = kill_and_compare(alone, killed, seconds, options.kills, options.seed)
    if problems:
        raise SystemExit("\n".join(problems))
    print("the same bits as a run left alone: all data, weights, metrics and the comparison")


if __name__ == "__main__":
    main()
