"""From three files to a search result by the shell's own commands, and what can go wrong on the way."""

import json
import shutil
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow.dataset as ds
import pyarrow.parquet as pq
import pytest
import yaml
from click import ClickException
from click.testing import CliRunner, Result
from kedro.framework.cli.cli import KedroCLI

from multimodal_recall.commands import import_shop
from multimodal_recall.commands.import_shop import _files
from multimodal_recall.config.describing import WEAK, DescribeOptions
from multimodal_recall.datasets import atomic
from multimodal_recall.models.vision import describe as describing
from tests.conftest import SMALL, copy_project, forced_options, load, run_project
from tests.drawn_shop import draw_shop, write_csv

Kedro = Callable[..., Result]
TINY = {name: SMALL[name] for name in ("language_model", "word_vectors", "evaluate")} | {
    "bag_of_words": {"steps": 60, "batch_size": 64},
    "hardware": forced_options(),
}


def kedro_of(project: Path) -> Kedro:
    return lambda *words: CliRunner().invoke(KedroCLI(project), list(map(str, words)))


@pytest.fixture(scope="module")
def imported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with an imported shop of sixty products in three chunks, beside the shop's own files."""
    folder = tmp_path_factory.mktemp("imported")
    files = draw_shop(folder / "shop")
    project = copy_project(folder / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("DO_NOT_TRACK", "1")
        patch.setattr("multimodal_recall.commands.import_shop.PRODUCTS_PER_CHUNK", 20)
        result = kedro_of(project)("import-shop", *files, "--env=mine")
    assert result.exit_code == 0, result.output
    return project


@pytest.fixture
def project(imported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy that a test may change."""
    shutil.copytree(imported.parent, tmp_path / "copy", symlinks=True)
    monkeypatch.chdir(tmp_path / "copy/project")
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    return tmp_path / "copy/project"


def of(project: Path, name: str) -> pd.DataFrame:
    return load(project, name, "mine").to_table().to_pandas()


def test_sixty_products_are_found_by_their_skus(project: Path) -> None:
    kedro = kedro_of(project)
    result = kedro("check", "--env=mine")
    assert result.output.endswith("nothing is wrong\n"), result.output
    parameters = project / "conf/mine/parameters.yml"
    options = yaml.safe_load(parameters.read_text())
    assert options["rankers"] == ["bag_of_words"]
    assert options["bag_of_words"] == {"steps": 400, "batch_size": 64}  # of 205 right pairs
    parameters.write_text(yaml.safe_dump(options | TINY))
    run_project(project, "mine", parameters={})
    result = kedro("search", "--env=mine", "red shirt", "--top=3")
    assert result.exit_code == 0, result.output
    assert result.output.splitlines()[3].split() == ["rank", "sku", "score", "title"]
    assert "there is no index, which makes search faster: kedro run --env=mine --pipelines=index\n" in result.output
    assert f"The features of the boxes come from the {WEAK}." in load(project, "evaluation.report", "mine")
    found = [line.split()[1] for line in result.output.splitlines()[-3:]]
    products = of(project, "shop.products").set_index("sku")["title"]
    assert set(found) <= set(products.index)
    (project / "skus.txt").write_text("0000-S\n0001-D\n")
    result = kedro("search", "--env=mine", "shirt", "--ids=skus.txt")
    assert {line.split()[1] for line in result.output.splitlines()[-2:]} == {"0000-S", "0001-D"}
    best = load(project, "bag_of_words.testA_best", "mine")
    assert (best["sku"].map(products) == best["title"]).all()
    run_project(project, "mine", parameters={}, pipeline_names=["exchange"])
    run = load(project, "exchange.testA_runs", "mine")["bag_of_words"].read_text().split("\n")
    assert {line.split()[2] for line in run[:-1]} <= set(products.index)
    comparison = load(project, "comparison", "mine")
    assert {"BM25 over titles", "title overlap", "random order"} <= set(comparison["ranking"])
    report = load(project, "evaluation.report", "mine")
    assert "0000-S" in report
    assert "data:image/" in report


def test_the_raw_files_hold_what_the_tables_say(imported: Path) -> None:
    products = of(imported, "shop.products").set_index("product_id")
    raw = pq.read_table(imported / "data/01_raw/mine/products.parquet").to_pandas().set_index("product_id")
    assert (raw[["sku", "title"]] == products.loc[raw.index, ["sku", "title"]]).all(axis=None)
    labels = load(imported, "labels", "mine")
    assert raw["class_labels"].map(lambda numbers: labels[numbers[0]]).eq(products.loc[raw.index, "category"]).all()
    clicks = of(imported, "shop.clicks")
    clicked = set(zip(clicks["query"], clicks["product_id"], strict=True))
    tables = {s: pd.read_parquet(imported / f"data/01_raw/mine/{s}.parquet") for s in ("train", "valid", "testA")}
    assert clicked >= set(zip(tables["train"]["query"], tables["train"]["product_id"], strict=True))
    for split in ("valid", "testA"):
        answers = json.loads((imported / f"data/01_raw/mine/{split}_answer.json").read_text())
        pairs = tables[split].set_index(["query_id", "product_id"])["query"]
        right = {(pairs[int(query), product], product) for query, of_query in answers.items() for product in of_query}
        assert right <= clicked
        assert set(pairs.index.get_level_values(0)) == set(map(int, answers))
        wrong = set(zip(pairs.to_numpy(), pairs.index.get_level_values(1), strict=True)) - right
        assert not wrong & clicked
    photos = {path.stem: path.resolve().name for path in (imported / "data/01_raw/mine/photos").iterdir()}
    assert photos == {str(number): names[0] for number, names in products["photos"].items()}


def test_a_dry_run_says_all_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = draw_shop(tmp_path / "shop", 20)
    project = copy_project(tmp_path / "project")
    monkeypatch.chdir(project)
    result = kedro_of(project)("import-shop", *files, "--env=mine", "--dry-run")
    assert result.exit_code == 0, result.output
    assert "sku = 'sku' (guessed)" in result.output
    assert "20 products, 20 with a title" in result.output
    assert f"{files[2]}: 20 of the 20 photos that the table names\n" in result.output
    assert "would write conf/mine/parameters.yml" in result.output
    assert "would then run kedro run --env=mine --pipelines=import_shop" in result.output
    assert not (project / "conf/mine").exists()
    assert not (project / "data").exists()


@pytest.mark.parametrize(
    ("pairs", "steps", "batch_size", "word_epochs"),
    [
        (0, 400, 2, 300),
        (5, 400, 2, 300),
        (205, 400, 64, 300),
        (384, 400, 128, 300),
        (2_500, 400, 128, 300),
        (5_139, 803, 128, 145),
        (10_000_000, 20_000, 128, 10),
    ],
)
def test_the_length_of_training_follows_the_pairs(pairs: int, steps: int, batch_size: int, word_epochs: int) -> None:
    files = _files("mine", ["p.csv", "c.csv", "photos"], ({}, {}), pairs, 100, DescribeOptions())
    written = yaml.safe_load(files["parameters.yml"])
    assert written["bag_of_words"] == {"steps": steps, "batch_size": batch_size}
    assert written["word_vectors"] == {"epochs": word_epochs}
    numbers = [*written["bag_of_words"].values(), word_epochs]
    assert all(isinstance(number, int) for number in numbers)


def test_a_dry_run_counts_the_photos_that_are_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    *files, photos = draw_shop(tmp_path / "shop", 20)
    project = copy_project(tmp_path / "project")
    monkeypatch.chdir(project)
    for photo in sorted(photos.iterdir())[:7]:
        photo.unlink()
    result = kedro_of(project)("import-shop", *files, photos, "--env=mine", "--dry-run")
    assert result.exit_code == 0, result.output
    assert f"{photos}: 13 of the 20 photos that the table names\n  ! no such file: dress-1.png\n" in result.output
    assert "  ! and 2 more\n" in result.output
    result = kedro_of(project)("import-shop", *files, project / "conf", "--env=mine")
    assert (result.exit_code, "Error: no photo is there. Name the folder" in result.output) == (1, True)
    assert not (project / "conf/mine").exists()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda conf: (conf / "mine").mkdir(), "conf/mine exists, and import-shop did not write it"),
        (lambda conf: shutil.copytree(conf / "photos", conf / "mine"), "import-shop did not write it"),
    ],
)
def test_an_environment_of_another_origin_stays(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable, message: str
) -> None:
    files = draw_shop(tmp_path / "shop", 5)
    project = copy_project(tmp_path / "project")
    monkeypatch.chdir(project)
    change(project / "conf")
    result = kedro_of(project)("import-shop", *files, "--env=mine")
    assert result.exit_code == 1
    assert message in result.output
    assert not (project / "data").exists()


def test_raw_files_of_another_origin_stay(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    files = draw_shop(tmp_path / "shop", 5)
    project = copy_project(tmp_path / "project")
    monkeypatch.chdir(project)
    (project / "data/01_raw/mine").mkdir(parents=True)
    (project / "data/01_raw/mine/train.parquet").write_text("of the user")
    result = kedro_of(project)("import-shop", *files, "--env=mine")
    assert result.exit_code == 1
    assert "data/01_raw/mine holds files, and no import wrote them" in result.output
    assert not (project / "conf/mine").exists()


def test_an_option_that_the_environment_does_not_have_is_refused(tmp_path: Path) -> None:
    conf = tmp_path / "mine"
    options = {"import_shop": {"click_columns": {"query": "q"}}, "describe": {"embedder": None, "labels": []}}
    import_shop._write(conf, {"parameters.yml": yaml.safe_dump(options)})
    import_shop._refuse_other_options(conf, yaml.safe_dump(options | {"import_shop": {}}))
    other = options | {"describe": {"embedder": "models/clip"}}
    with pytest.raises(ClickException, match=r"asks for describe.embedder models/clip, and conf/mine/.* has none. Set"):
        import_shop._refuse_other_options(conf, yaml.safe_dump(other))


@pytest.mark.parametrize("env", ["base", "local", "../mine", "a b", ""])
def test_a_name_that_is_none_is_refused(project: Path, env: str) -> None:
    files = files_of(project.parent / "shop/products.csv")
    result = kedro_of(project)("import-shop", *files, f"--env={env}")
    assert result.exit_code == 2
    assert "is no name for an environment of your own" in result.output


def test_an_import_of_other_files_is_another_environment(project: Path) -> None:
    other = draw_shop(project.parent / "other", 5)
    result = kedro_of(project)("import-shop", *other, "--env=mine")
    assert result.exit_code == 1
    assert "conf/mine is an import of" in result.output


def test_a_chunk_is_described_again_alone(project: Path) -> None:
    before = {n: of(project, f"photos.chunk_{n:03}.described") for n in range(3)}
    sizes = [len(table) for table in before.values()]
    assert sum(sizes) == 60
    assert min(sizes) > 5
    run_project(project, "mine", parameters={}, pipeline_names=["import_shop"], namespaces=["photos.chunk_001"])
    places = [project / f"data/02_intermediate/mine/photos/chunk_{n:03}/described.parquet" for n in range(3)]
    versions = {n: len(list(place.iterdir())) for n, place in enumerate(places)}
    assert versions == {0: 1, 1: 2, 2: 1}
    pd.testing.assert_frame_equal(of(project, "photos.chunk_001.described"), before[1])


class Killed(BaseException):
    """Stands for a signal."""


def test_an_import_that_was_killed_goes_on(imported: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.copytree(imported.parent / "shop", tmp_path / "shop")
    project = copy_project(tmp_path / "project")
    monkeypatch.chdir(project)
    monkeypatch.setattr("multimodal_recall.commands.import_shop.PRODUCTS_PER_CHUNK", 20)
    files = [tmp_path / "shop" / name for name in ("products.csv", "clicks.csv", "photos")]
    whole, calls = describing.describe, []

    def die_in_the_second_chunk(*inputs: object) -> object:
        calls.append(inputs)
        if len(calls) == 2:
            raise Killed
        return whole(*inputs)

    monkeypatch.setattr(describing, "describe", die_in_the_second_chunk)
    with pytest.raises(Killed):
        kedro_of(project)("import-shop", *files, "--env=mine")
    assert not (project / "data/01_raw/mine").exists()
    result = kedro_of(project)("import-shop", *files, "--env=mine")
    assert result.exit_code == 0, result.output
    assert "conf/mine stays as it is" in result.output
    assert len(calls) == 4  # two chunks were left
    for name in ("products.parquet", "train.parquet", "valid.parquet", "testA.parquet"):
        place = Path("data/01_raw/mine") / name
        assert pq.read_table(project / place).equals(pq.read_table(imported / place)), name


def test_a_second_import_that_was_killed_between_its_lists_goes_on(
    project: Path, imported: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Given a finished import, further clicks, and a kill after train is written and before valid is
    clicks = project.parent / "shop/clicks.csv"
    with clicks.open("a") as log:
        log.writelines(f"shirt {number},{sku},9\n" for number, sku in enumerate(["0000-S", "0005-S", "0010-S"] * 4))
    globals_ = project / "conf/mine/globals.yml"
    globals_.write_text(globals_.read_text().replace(str(imported.parent / "shop/clicks.csv"), str(clicks)))
    shop = imported.parent / "shop"
    files, kedro = [shop / "products.csv", clicks, shop / "photos"], kedro_of(project)
    whole, write, calls = describing.describe, atomic.write_atomically, []
    monkeypatch.setattr(describing, "describe", lambda *inputs: (calls.append(inputs), whole(*inputs))[1])

    def die_before_valid(path: Path, advice: str) -> AbstractContextManager[Path]:
        if path.name == "valid.parquet":
            raise Killed
        return write(path, advice)

    with monkeypatch.context() as patch:
        patch.setattr(atomic, "write_atomically", die_before_valid)
        with pytest.raises(Killed):
            kedro("import-shop", *files, "--env=mine")
    assert len(calls) == 3
    # When the same command is given again
    result = kedro("import-shop", *files, "--env=mine")
    assert result.exit_code == 0, result.output
    # Then no photo is described again, and all lists are of the new clicks
    assert len(calls) == 3
    names = ["train.parquet", "valid.parquet", "testA.parquet", "valid_answer.json", "testA_answer.json"]
    places = [project / "data/01_raw/mine" / name for name in names]
    went_on = [place.read_bytes() for place in places]
    result = kedro("import-shop", *files, "--env=mine")
    assert result.exit_code == 0, result.output
    assert len(calls) == 6  # after a finished import all is imported anew
    assert [place.read_bytes() for place in places] == went_on
    assert went_on[3] != (imported / "data/01_raw/mine/valid_answer.json").read_bytes()


def test_an_import_that_failed_takes_what_was_corrected(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    # Given a shop whose photos are empty files, and with too few queries
    products, clicks, photos = draw_shop(tmp_path / "shop", 20)
    log, elsewhere = clicks.read_text(), tmp_path / "elsewhere"
    shutil.copytree(photos, elsewhere)
    for photo in photos.iterdir():
        photo.write_bytes(b"")
    clicks.write_text("query,sku\nshirt,0000-S\n")
    project = copy_project(tmp_path / "project")
    monkeypatch.chdir(project)
    kedro = kedro_of(project)
    result = kedro("import-shop", *files_of(products), "--env=mine")
    assert (result.exit_code, "no photo could be described" in result.output) == (1, True)
    assert "20 of 20 photos cannot be used, such as shirt-0.png: the file is empty" in caplog.text
    # When the photos are brought, then the queries
    shutil.copytree(elsewhere, photos, dirs_exist_ok=True)
    result = kedro("import-shop", *files_of(products), "--env=mine")
    assert (result.exit_code, "the clicks name 1 queries" in result.output) == (1, True)
    described = project / "data/02_intermediate/mine/photos/chunk_000/described.parquet"
    assert len(list(described.iterdir())) == 2
    clicks.write_text(log)
    result = kedro("import-shop", *files_of(products), "--env=mine")
    # Then the import is that of the corrected files, and no photo is described a third time
    assert result.exit_code == 0, result.output
    assert len(list(described.iterdir())) == 2
    assert len(of(project, "shop.clicks")) > 20
    assert pq.read_table(project / "data/01_raw/mine/products.parquet").num_rows == 20


def test_what_cannot_be_used_is_named_with_its_sku(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    products, clicks, photos = draw_shop(tmp_path / "shop", 30)
    project = copy_project(tmp_path / "project")
    monkeypatch.chdir(project)
    (photos / "shirt-0.png").write_bytes(b"no photo")
    (photos / "dress-1.png").unlink()
    rows = [line.split(",") for line in products.read_text().splitlines()[1:]]
    rows[2][1] = "../secret.png"
    rows[3][1] = "missing.png|handbag-3.png"
    rows.append(["NEW", "", "none", "hat"])
    write_csv(products, ("sku", "photo", "title", "category"), rows)
    with clicks.open("a") as log:
        log.write("shirt,no-such-sku,1\n")
    result = kedro_of(project)("import-shop", *files_of(products), "--env=mine")
    assert result.exit_code == 0, result.output
    rejected = of(project, "shop.rejected").set_index("sku")
    place = result.output.split(f"{len(rejected)} rows or photos are not used; which and why: ")[1].splitlines()[0]
    assert pd.read_parquet(place).set_index("sku").equals(rejected)
    assert rejected.loc["NEW", ["file", "line", "reason"]].tolist() == ["products.csv", 32, "it names no photo"]
    assert rejected.loc["no-such-sku", "reason"].startswith("no product has the SKU 'no-such-sku'")
    titles = {row[0]: row[2] for row in rows}
    for sku, reason in (("0000-S", "no photo of a known kind"), ("0001-D", "no such file"), ("0002-S", "leads out")):
        assert rejected.loc[sku, "file"] == "photos"
        assert rejected.loc[sku, "title"] == titles[sku]
        assert reason in rejected.loc[sku, "reason"]
    raw = pq.read_table(project / "data/01_raw/mine/products.parquet")
    assert set(raw["sku"].to_pylist()) == {row[0] for row in rows} - {"0000-S", "0001-D", "0002-S", "NEW"}
    assert "missing.png" in rejected.loc["0003-H", "text"]  # the product has another photo


def files_of(products: Path) -> list[Path]:
    return [products.with_name(name) for name in ("products.csv", "clicks.csv", "photos")]


def test_further_photos_add_features(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    products = draw_shop(tmp_path / "shop", 30)[0]
    project = copy_project(tmp_path / "project")
    monkeypatch.chdir(project)
    rows = [line.split(",") for line in products.read_text().splitlines()[1:]]
    rows[0][1] += "|dress-1.png"
    write_csv(products, ("sku", "photo", "title", "category"), rows)
    result = kedro_of(project)("import-shop", *files_of(products), "--env=mine")
    assert result.exit_code == 0, result.output
    raw = pq.read_table(project / "data/01_raw/mine/products.parquet").to_pandas().set_index("sku")
    first, other = raw.loc["0000-S"], raw.loc["0001-D"]
    width = len(other["features"]) // len(other["class_labels"])
    assert len(first["class_labels"]) == len(raw.loc["0005-S", "class_labels"]) + 1
    assert np.array_equal(first["features"][width : 2 * width], other["features"][:width])
    assert first["boxes"][4:8].tolist() == [0, 0, first["image_h"], first["image_w"]]


def test_too_small_a_shop_is_told_what_it_lacks(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    products, clicks, _ = draw_shop(tmp_path / "shop", 5)
    write_csv(clicks, ("query", "sku"), [("shirt", "0000-S"), ("dress", "0001-D")])
    project = copy_project(tmp_path / "project")
    monkeypatch.chdir(project)
    result = kedro_of(project)("import-shop", *files_of(products), "--env=mine")
    assert result.exit_code == 1
    assert "the clicks name 2 queries with a right product; wanted at least 4" in result.output


def test_a_replaced_table_is_stale(project: Path) -> None:
    kedro = kedro_of(project)
    result = kedro("stale", "--env=mine", "--pipelines=import_shop")
    assert result.output == "nothing is stale\n", result.output
    table = project / "data/01_raw/mine/train.parquet"
    pq.write_table(pq.read_table(table).slice(1), table)
    result = kedro("stale", "--env=mine", "--pipelines=import_shop")
    assert "train_table is not the file that make_lists wrote" in result.output.replace("raw.", "")
    with (project.parent / "shop/clicks.csv").open("a") as log:
        log.write("shirt,0000-S,1\n")
    options = yaml.safe_load((project / "conf/mine/globals.yml").read_text())
    (project / "conf/mine/globals.yml").write_text(
        yaml.safe_dump(options | {"clicks": str(project.parent / "shop/clicks.csv")})
    )
    result = kedro("stale", "--env=mine", "--pipelines=import_shop")
    assert "clicks_file is not the file that was read" in result.output


def test_the_links_lead_to_photos(imported: Path) -> None:
    folder = load(imported, "photo_links", "mine")
    assert all(path.is_file() for path in folder.iterdir())
    assert ds.dataset(imported / "data/01_raw/mine/products.parquet").count_rows() == len(list(folder.iterdir()))


@pytest.mark.external
def test_two_dask_workers_make_the_same_files(project: Path, imported: Path) -> None:
    from multimodal_recall.runtime.dask_runner import ADDRESS, DaskRunner
    from tests.runtime.test_dask_runner import cluster, started

    shutil.rmtree(project / "data")
    run = ["kedro", "run", "--env=mine", "--pipelines=import_shop", f"--runner={DaskRunner.__module__}.DaskRunner"]
    with cluster(project) as address, started(project, *run, **{ADDRESS: address}) as running:
        assert running.wait(240) == 0
    for name in ("products", "train", "valid", "testA"):
        place = Path(f"data/01_raw/mine/{name}.parquet")
        assert pq.read_table(project / place).equals(pq.read_table(imported / place)), name
    for number in range(3):
        name = f"photos.chunk_{number:03}.described"
        pd.testing.assert_frame_equal(of(project, name), of(imported, name))
