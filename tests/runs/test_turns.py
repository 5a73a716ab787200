"""Runs that share data go one after the other; a killed run leaves nothing that holds up others."""

import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from multimodal_recall.datasets.small_files import JsonFile
from multimodal_recall.runs.turns import BusyError, Claim, claim, end_turn, take_turn

WRITER = Claim("writer", [], ["/data/model"])
READER = Claim("reader", ["/data/model"], ["/data/scores"])
OTHER = Claim("other", ["/data/products"], ["/data/pairs"])
HOLD = (
    "import sys, time; from pathlib import Path; from multimodal_recall.runs.turns import Claim, take_turn;"
    "lock = take_turn(Claim('killed', [], ['/data/model']), Path(sys.argv[1])); print('taken', flush=True);"
    "time.sleep(60)"
)


@pytest.mark.parametrize(
    ("first", "second", "path"),
    [
        (WRITER, READER, "/data/model"),
        (READER, WRITER, "/data/model"),
        (WRITER, WRITER, "/data/model"),
        (WRITER, OTHER, None),
        (Claim("reader", ["/data/model"], []), Claim("reader", ["/data/model"], []), None),
    ],
)
def test_a_path_that_one_writes_is_shared(first: Claim, second: Claim, path: str | None) -> None:
    assert first.conflict(second) == path


def test_a_claim_is_of_the_same_files_from_any_environment(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(tmp_path / "real")
    (tmp_path / "real").mkdir()
    ways = [claim("run", [], [JsonFile(str(tmp_path / folder / "value.json"))]) for folder in ("real", "link")]
    assert ways[0].writes == ways[1].writes == [str(tmp_path / "real" / "value.json")]


def test_the_second_waits_and_says_for_what(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level("INFO")
    first, taken = take_turn(WRITER, tmp_path), []
    waiting = threading.Thread(target=lambda: taken.append(take_turn(READER, tmp_path)))
    waiting.start()
    time.sleep(0.5)
    assert (taken, waiting.is_alive()) == ([], True)
    end_turn(first)
    waiting.join(timeout=5)
    assert len(taken) == 1
    assert caplog.messages == ["waiting for writer, which shares /data/model with this run"]
    end_turn(taken[0])
    assert [path.name for path in tmp_path.iterdir() if path.suffix == ".json"] == []


def test_runs_that_share_nothing_go_at_once(tmp_path: Path) -> None:
    for turn in [take_turn(WRITER, tmp_path, refuse=True), take_turn(OTHER, tmp_path, refuse=True)]:
        end_turn(turn)


def test_the_second_is_refused_where_that_is_asked_for(tmp_path: Path) -> None:
    turn = take_turn(WRITER, tmp_path)
    with pytest.raises(BusyError, match=r"writer is under way and shares /data/model with this run. Start again"):
        take_turn(READER, tmp_path, refuse=True)
    end_turn(turn)
    end_turn(take_turn(READER, tmp_path, refuse=True))


def test_a_killed_run_holds_up_nobody(tmp_path: Path) -> None:
    killed = subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE, text=True)
    assert killed.stdout.readline() == "taken\n"
    with pytest.raises(BusyError, match="killed is under way"):
        take_turn(READER, tmp_path, refuse=True)
    killed.kill()
    killed.wait()
    end_turn(take_turn(READER, tmp_path, refuse=True))
