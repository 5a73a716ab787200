"""Start two runs of one collection at once, again and again, kill others among them, and compare each with a run alone.

python -m benchmarks.together --repeats 20 --kills 50 [--seed 0]
"""

import argparse
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

from benchmarks.small_project import SMALL, copy_project

KINDS = {"long": "two_tower.epochs=4", "short": "two_tower.epochs=1"}
"""Two runs that end with other figures."""
LATEST_START = 6.0  # seconds between the starts of the two runs
LATEST_KILL = 15.0  # seconds after the start of a run that is killed
LONGEST_RUN = 600  # seconds
TABLE = "rankings of testA, leak-free:"


class Run:
    """A training and its evaluation in a process group of its own; its log goes into a file, which never fills up."""

    def __init__(self, project: Path, kind: str) -> None:
        self.log = tempfile.TemporaryFile("w+")  # noqa: SIM115  (lives as long as the run)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "kedro", "run", "--pipelines=train,evaluate", f"--params={KINDS[kind]}"],
            cwd=project,
            env={**os.environ, "COLUMNS": "150"},
            stdout=self.log,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )

    def kill(self) -> bool:
        """Kill the run with all its processes; false if it has ended before."""
        alive = self.process.poll() is None
        if alive:
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.wait()
        return alive

    def reported(self) -> list[str]:
        """Wait for the table that the run ends with; a run that fails ends this command."""
        self.process.wait(LONGEST_RUN)
        self.log.seek(0)
        lines = [line.strip() for line in self.log]
        if self.process.returncode:
            raise SystemExit("\n".join(lines))
        first = next(number for number, line in enumerate(lines) if line.endswith(TABLE))
        return lines[first + 1 : first + 4]


def repeat(project: Path, draw: random.Random, kills: int, alone: dict[str, list[str]]) -> tuple[int, int]:
    """Run both kinds at once, and kill others meanwhile.

    Returns:
        How many of the two report something else than a run alone, and how many others were killed.
    """
    kinds = draw.sample(list(KINDS), 2)
    first = Run(project, kinds[0])
    time.sleep(draw.uniform(0, LATEST_START))
    second, killed = Run(project, kinds[1]), 0
    for _ in range(kills):
        other = Run(project, draw.choice(list(KINDS)))
        time.sleep(draw.uniform(0, LATEST_KILL))
        killed += other.kill()
    wrong = sum(run.reported() != alone[kind] for run, kind in zip((first, second), kinds, strict=True))
    return wrong, killed


def main() -> None:
    """Print a line a repeat, and the sums."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--repeats", type=int, default=20)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    draw, wrong, killed = random.Random(asked.seed), 0, 0
    with tempfile.TemporaryDirectory() as folder:
        project = copy_project(Path(folder))
        options = {**SMALL, "hardware": {"threads": 1}}
        (project / "conf/local").mkdir(exist_ok=True)
        (project / "conf/local/parameters.yml").write_text(yaml.safe_dump(options), encoding="utf-8")
        subprocess.run([sys.executable, "-m", "kedro", "run"], cwd=project, check=True, capture_output=True)
        alone = {kind: Run(project, kind).reported() for kind in KINDS}
        if alone["long"] == alone["short"]:
            raise SystemExit("both kinds of run report the same: nothing could be told apart")
        for number in range(asked.repeats):
            kills = asked.kills * (number + 1) // asked.repeats - asked.kills * number // asked.repeats
            differ, ended = repeat(project, draw, kills, alone)
            wrong, killed = wrong + differ, killed + ended
            print(f"{number + 1}: {differ} of 2 runs differ, {ended} kills", flush=True)
        checked = subprocess.run(
            [sys.executable, "-m", "kedro", "check", "--data"], cwd=project, capture_output=True, text=True, check=False
        )
        print(checked.stdout.strip().splitlines()[-1])
        left = [path.name for path in (project / "data/.runs").glob("*.json")]
    print(f"{asked.repeats} pairs of runs, {killed} kills: {wrong} runs differ; {len(left)} killed runs still listed")


if __name__ == "__main__":
    main()
