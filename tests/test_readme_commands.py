"""Every command of README.md and docs/*.md is run: here, on the small shop, or by the test named in ``ELSEWHERE``.

A new ``kedro`` or ``python -m`` command needs nothing: it is found and run, and must end with 0. One that is too slow
for a test has a smaller form in ``SMALLER``; a new placeholder needs a value in ``FILLED``.
"""

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from click.testing import CliRunner
from kedro.framework.cli.cli import KedroCLI

from tests.conftest import PROJECT, SMALL
from tests.pages import COMMANDS, PAGES, commands_of
from tests.test_whole_run import scores_of
from tests.tiny_rankers import tiny_recipe

pytestmark = pytest.mark.docs

WHOLE_RUN = "python3 -m venv .venv && .venv/bin/pip install -e . && .venv/bin/kedro run"
TESTS = 'python3 -m venv .venv && .venv/bin/pip install -e ".[dev]" && .venv/bin/pytest'
ON_A_CLUSTER = "tests/runtime/test_dask_runner.py::test_a_run_with_a_killed_worker_ends_as_without"
DASK_RUNNER = "multimodal_recall.runtime.dask_runner.DaskRunner"
OWN_CATALOGUE = (
    "tests/commands/test_check.py::test_the_advised_ranker_beats_random_order_and_one_that_learns_nothing_says_so"
)
JUDGED = "tests/pipelines/test_exchange.py::test_judgements_of_some_queries_are_evaluated"
IMPORTED = "tests/pipelines/import_shop/test_import_shop.py::test_sixty_products_are_found_by_their_skus"
ONE_CHUNK = "tests/pipelines/import_shop/test_import_shop.py::test_a_chunk_is_described_again_alone"
KILLED = "tests/pipelines/import_shop/test_import_shop.py::test_an_import_that_was_killed_goes_on"
STALE_TABLES = "tests/pipelines/import_shop/test_import_shop.py::test_a_replaced_table_is_stale"
VIZ_PAGE = "tests/test_viz.py::test_the_page_draws_the_graph_and_shows_previews_without_errors"

ELSEWHERE = {
    WHOLE_RUN: "tests/test_default_run.py::test_the_default_run_learns_attributes_and_not_only_nouns",
    TESTS: ".ci/run",
    "dask scheduler": ON_A_CLUSTER,
    "dask worker tcp://host:8786 --nthreads 1 --nworkers 4 --memory-limit 0": ON_A_CLUSTER,
    f"DASK_SCHEDULER_ADDRESS=tcp://host:8786 kedro run --runner={DASK_RUNNER}": ON_A_CLUSTER,
    "kedro run --env=leaderboard": "tests/test_given_scores.py::test_the_leaderboard",
    "kedro run --nodes=two_tower.train --params=two_tower.processes=4": (
        "tests/test_whole_run.py::test_two_processes_train_the_same_ranker"
    ),
    "kedro run --from-nodes=train.chunk_002.ingest --params=rankers=kernel_words": (
        "tests/pipelines/test_train_sums.py::test_a_chunk_made_anew_changes_exactly_its_share"
    ),
    'pip install -e ".[notebooks]" && jupyter lab notebooks': (
        "tests/test_notebooks.py::test_it_runs_on_the_default_run"
    ),
    "kedro write-tsv train.parquet data/01_raw/mine/train.tsv": OWN_CATALOGUE,
    "kedro write-tsv valid.parquet data/01_raw/mine/valid.tsv": OWN_CATALOGUE,
    "kedro write-tsv testA.parquet data/01_raw/mine/testA.tsv": OWN_CATALOGUE,
    "kedro check --env=mine": "tests/commands/test_check.py::test_a_sound_catalogue_is_described",
    "kedro run --env=mine": OWN_CATALOGUE,
    "kedro import-shop products.csv clicks.csv photos/ --env=mine": IMPORTED,
    "kedro import-shop": IMPORTED,
    'kedro search --env=mine "red shoes"': IMPORTED,
    "kedro search --ids": IMPORTED,
    "kedro run --env=mine --pipelines=import_shop": IMPORTED,
    "kedro run --env=mine --pipelines=import_shop --namespaces=photos.chunk_000": ONE_CHUNK,
    "kedro run --env=mine --pipelines=import_shop --only-missing-outputs": KILLED,
    "kedro stale --env=mine --pipelines=import_shop": STALE_TABLES,
    "kedro run --pipelines=qrels,evaluate": JUDGED,
    "kedro run --pipelines=qrels,recall": JUDGED,
    "kedro compare <stamp> <stamp>": "tests/runs/test_compare.py::test_another_training",
    "kedro compare": "tests/test_cli.py::test_comparing_needs_two_runs_and_names_those_there",
    "python -m benchmarks.pictures": VIZ_PAGE,
    "python -m http.server -d build": VIZ_PAGE,
    "kedro search --serve": "tests/commands/test_serve.py::test_the_command_serves_until_ctrl_c",
    "kedro viz run": "tests/test_viz.py::test_kedro_viz_serves_the_same_lineage",
    "python -m benchmarks --peers": "tests/test_benchmarks.py::test_a_side_of_a_stage_runs_alone",
    "python -m benchmarks --only rankers": (
        "tests/test_benchmarks.py::test_the_speed_of_both_sides_is_measured_and_printed"
    ),
    "python -m benchmarks --only runners --repeats 1": (
        "tests/test_benchmarks.py::test_each_runner_does_its_work_anew"
    ),
    "python -m benchmarks.ablations --env=photos --seeds 0 1 2": (
        "tests/test_benchmarks.py::test_ablations_are_trained_once"
    ),
    "python -m benchmarks.choices precision": "tests/test_benchmarks.py::test_both_sides_of_each_choice_are_timed",
    "python -m benchmarks.choices recurrent": "tests/test_benchmarks.py::test_both_sides_of_each_choice_are_timed",
    "python -m benchmarks.choices compile --rankers two_tower siamese --seconds=5": (
        "tests/test_benchmarks.py::test_both_sides_of_each_choice_are_timed"
    ),
    "python -m benchmarks.gpu": "tests/test_benchmarks.py::test_the_script_for_a_gpu_runs_its_parts",
    "python -m benchmarks.photos speed <photos>": (
        "tests/test_photo_benchmarks.py::test_speed_prints_a_line_for_each_number_of_photos"
    ),
    "python -m benchmarks.photos rank <photos> <raw> <out>": (
        "tests/test_photo_benchmarks.py::test_rank_gives_the_pairs_features_of_our_own"
    ),
    "python -m benchmarks.rehearsal": "tests/test_benchmarks.py::test_a_published_ranker_is_killed_resumes_and_submits",
    "python -m benchmarks.whole --rows 100000": "tests/test_benchmarks.py::test_all_stages_run_at_the_published_sizes",
    "python -m benchmarks.growth --rows 5000 20000 80000 320000": (
        "tests/test_benchmarks.py::test_growth_times_a_stage_of_a_project_of_its_own"
    ),
    "python -m benchmarks.together --repeats 20 --kills 50": (
        "tests/test_together.py::test_two_runs_at_once_report_what_each_reports_alone"
    ),
    "python -m benchmarks.kill --kills 21": "tests/test_kill.py::test_a_killed_run_resumes_to_the_same_bits",
}
SMALLER = {
    "python -m benchmarks.serve --seconds 60": "python -m benchmarks.serve --seconds 1",
    "python -m benchmarks.shop_tables": "python -m benchmarks.shop_tables --products 500 --clicks 3000",
    "python -m benchmarks.kernel_words": "python -m benchmarks.kernel_words --rows 2000 --landmarks 100",
    "python -m benchmarks.index": "python -m benchmarks.index --products 2000",
    "python -m benchmarks.index --rows 50000": "python -m benchmarks.index --rows 300 --chunk-rows 150",
    "python -m benchmarks.rankers --env=mine --rankers bag_of_words --seeds 0 1 2": (
        "python -m benchmarks.rankers --env=photos --rankers bag_of_words --seeds 0"
    ),
    "python -m benchmarks.rankers --env=photos --seeds 0 1 2": "python -m benchmarks.rankers --env=photos --seeds 0",
    "python -m benchmarks.rankers --env=photos --seeds 0 1 2 --rankers two_tower "
    "two_tower_transformer mcan visual_bert image_tags word_level sentence_level siamese hsl concat_query "
    "graph_reasoning graph_reasoning_tuned query_likelihood kernel_words bag_of_words": (
        "python -m benchmarks.rankers --env=photos --seeds 0 --rankers query_likelihood bag_of_words"
    ),
    "python -m benchmarks.experiments negatives --env=photos --pairs=2000": (
        "python -m benchmarks.experiments negatives --env=base --pairs=40 --seeds 0 --epochs=1"
    ),
    "python -m benchmarks.experiments attention --env=photos --seconds=10": (
        "python -m benchmarks.experiments attention --env=base --pairs=40 --seeds 0 --seconds=0.1"
    ),
}
FILLED = {
    "chunk_002": "chunk_001",
    "<pipeline>": "train",
    "<dags folder>": "dags",
    "--keep=N": "--keep=2",
    "<option>=<value>": "batch_size=40",
}
STALE = {0, 1}  # 1 where something is stale


@pytest.fixture(scope="module")
def project(finished_project: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of the finished project with tiny rankers, the benchmarks, and small files for the other environments."""
    project = tmp_path_factory.mktemp("readme") / "project"
    shutil.copytree(finished_project, project)
    shutil.copytree(PROJECT / "benchmarks", project / "benchmarks", ignore=shutil.ignore_patterns("__pycache__"))
    files = sorted((PROJECT / "conf/base/rankers").glob("*.yml"))
    recipes = {path.stem: yaml.safe_load(path.read_text())[path.stem] for path in files}
    tiny = {name: tiny_recipe(name, recipe) for name, recipe in recipes.items()}
    (project / "conf/kddcup/rankers/two_tower.yml").unlink()  # SMALL's is written into parameters.yml
    small = {**SMALL, **tiny}
    set_options(project, "local", small)
    set_options(project, "photos", {**small, "make_shop": None, "chunks": {"train": 1}})
    language_model = next(project.glob("data/03_primary/shop/language_model/*/language_model"))
    hub = shutil.copytree(language_model, project / "albert-base-v2")  # prune may drop the version
    fetched = {"start_from": str(hub), "pretrain_epochs": 0}
    set_options(project, "kddcup", {**SMALL, "make_shop": None, "language_model": fetched})
    copy_raw_files(project / "data/01_raw")
    write_scores(project)
    return project


def set_options(project: Path, env: str, options: dict) -> None:
    (project / "conf" / env).mkdir(exist_ok=True)
    path = project / "conf" / env / "parameters.yml"
    theirs = yaml.safe_load(path.read_text()) if path.exists() else {}
    path.write_text(yaml.safe_dump({**theirs, **json.loads(json.dumps(options))}))


def copy_raw_files(raw: Path) -> None:
    """The shop's files as those of photos and, in the archive's folders, as the official ones; testB has no answers."""
    (raw / "photos").mkdir()
    for path in (raw / "shop").iterdir():
        split = path.name.partition(".")[0].removesuffix("_answer")
        if split in ("train", "valid", "testA"):
            shutil.copy(path, raw / "photos")
            (raw / split).mkdir(exist_ok=True)
            shutil.copy(path, raw / split)
    (raw / "testB").mkdir()
    shutil.copy(raw / "shop/testA.tsv", raw / "testB/testB.tsv")
    for folder in (raw, raw / "photos"):
        shutil.copy(raw / "shop/multimodal_labels.txt", folder)
    vector = " ".join(["0.5"] * SMALL["word_vectors"]["size"])
    (raw / "glove.840B.300d.txt").write_text(f"red {vector}\ndress {vector}\n")


def write_scores(project: Path) -> None:
    folder = project / "data/01_raw/scores"
    folder.mkdir()
    scores = scores_of(project)[["query_id", "product_id", "score"]]
    scores.assign(other=-scores["score"]).to_parquet(folder / "valid_scores.parquet")
    shutil.copy(project / "data/01_raw/shop/valid_answer.json", folder)


def fill(command: str, project: Path) -> str:
    """The command with values for its placeholders; a version is the newest of the dataset it stands behind."""
    for placeholder, value in FILLED.items():
        command = command.replace(placeholder, value)
    for name in re.findall(r"([\w.]+):<version>", command):
        folder = project / f"data/05_model_input/shop/{name.replace('.', '/')}.parquet"
        if name.partition(".")[2] in ("model", "training_log"):
            folder = next((project / "data/06_models/shop").glob(f"{name.replace('.', '/')}*"))
        if name.endswith("_examples"):
            folder = project / f"data/05_model_input/shop/{name.removesuffix('_examples')}/examples.json"
        command = command.replace(f"{name}:<version>", f"{name}:{max(path.name for path in folder.iterdir())}")
    assert "<" not in command, "FILLED has no value for this placeholder"
    return command


def versions(project: Path) -> set[Path]:
    return set(project.glob("data/**/????-??-??T??.??.??.???Z"))


@pytest.mark.parametrize("command", [one for one in COMMANDS if one not in ELSEWHERE])
def test_the_command_works(command: str, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(project)
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    words = shlex.split(fill(SMALLER.get(command, command), project))
    before = versions(project)
    if words[0] == "kedro":  # in this process: torch is imported once
        finished = CliRunner().invoke(KedroCLI(project), words[1:])
        wanted = STALE if words[1] == "stale" else {0}
        assert finished.exception is None or isinstance(finished.exception, SystemExit), finished.output
        assert finished.exit_code in wanted, f"{finished.output}\n{finished.exception!r}"
    else:
        assert words[:2] == ["python", "-m"], f"not a command that this test can run; name one that does in {__file__}"
        variables = {**os.environ, "PYTHONPATH": str(project / "src"), "OMP_NUM_THREADS": "1"}
        run = subprocess.run([sys.executable, *words[1:]], env=variables, capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr
        assert run.stdout
    if words[:2] == ["kedro", "run"] and "--only-missing-outputs" not in words:
        assert versions(project) > before


@pytest.mark.parametrize(("command", "test"), ELSEWHERE.items())
def test_the_test_that_runs_a_command_exists(command: str, test: str) -> None:
    assert command in COMMANDS, "no page has such a command: drop it here"
    path, _, function = test.partition("::")
    assert (f"def {function}(" if function else "python3 -m venv") in (PROJECT / path).read_text()


def test_a_smaller_command_is_the_same_program() -> None:
    assert set(SMALLER) <= set(COMMANDS), "no page has such a command: drop it here"
    for command, smaller in SMALLER.items():
        assert smaller.split()[:3] == command.split()[:3]


def test_commands_are_found_in_blocks_tables_and_prose() -> None:
    text = "`kedro run\n--env=x`, `kedro`\n\n```bash\npython -m a \\\n    --b  # c\n```\n| `kedro stale` | `dask x` |\n"
    assert commands_of(text) == ["python -m a --b", "kedro run --env=x", "kedro stale", "dask x"]


@pytest.mark.parametrize("extra", sorted(set(re.findall(r'pip install -e "\.\[(\w+)\]"', "\n".join(PAGES.values())))))
def test_every_extra_exists(extra: str) -> None:
    assert f"\n{extra} = [" in (PROJECT / "pyproject.toml").read_text()
