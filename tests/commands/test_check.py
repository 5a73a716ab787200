"""A catalogue of one's own: written as TSVs, checked, clean and with faults, then trained on and evaluated."""

import gzip
import json
import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pybase64
import pytest
from benchmarks.german_catalogue import COMMANDS, PARAMETERS, RAW, main
from click.testing import CliRunner, Result
from kedro.framework.cli.cli import KedroCLI

from multimodal_recall.config.options import LanguageModelOptions
from multimodal_recall.data.official_format import TSV_COLUMNS
from multimodal_recall.models.language_model import new_albert, train_tokenizer
from tests.conftest import SMALL, copy_project, load, run_project
from tests.tiny_text import save_sentence_encoder
from tests.tiny_vision import clip, dfine, save_checkpoint

BOXES, FEATURES, QUERY = (TSV_COLUMNS.index(name) for name in ("boxes", "features", "query"))
Kedro = Callable[..., Result]

TINY = {name: SMALL[name] for name in ("language_model", "word_vectors", "evaluate")} | {
    "two_tower": {**SMALL["two_tower"], "epochs": 8, "learning_rate": 0.01},
    "rerank": {"smooth_boxes": False, "k_reciprocal": False},
}


def kedro_of(project: Path) -> Kedro:
    """The shell's ``kedro`` in a project, which must be the working directory."""
    return lambda *words: CliRunner().invoke(KedroCLI(project), list(words))


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A project with the catalogue's tables, its TSVs and its environment."""
    project = copy_project(tmp_path_factory.mktemp("mine"))
    main([str(project)])
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        patch.setenv("DO_NOT_TRACK", "1")
        for command in COMMANDS[:2]:
            result = kedro_of(project)(*command.split()[1:])
            assert result.exit_code == 0, result.output
    return project


@pytest.fixture
def kedro(written: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Kedro:
    """The shell's ``kedro`` in a copy of it."""
    project = tmp_path / "project"
    shutil.copytree(written, project)
    monkeypatch.chdir(project)
    monkeypatch.setenv("DO_NOT_TRACK", "1")
    return kedro_of(project)


def check(kedro: Kedro, code: int) -> list[str]:
    """What ``kedro check`` said; it must have ended with ``code``."""
    result = kedro("check", "--env=mine")
    assert result.exit_code == code, result.output
    return result.output.splitlines()


def spoil(split: str, row: int, column: int, value: bytes) -> None:
    """Replace a field; rows count from 1."""
    path = RAW / f"{split}.tsv"
    lines = path.read_bytes().split(b"\n")
    fields = lines[row].split(b"\t")
    fields[column] = value
    lines[row] = b"\t".join(fields)
    path.write_bytes(b"\n".join(lines))


def field(split: str, row: int, column: int) -> bytes:
    return (RAW / f"{split}.tsv").read_bytes().split(b"\n")[row].split(b"\t")[column]


def test_the_example_says_what_to_run_next_and_overwrites_nothing(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    project = tmp_path / "project"
    with pytest.raises(SystemExit):
        main([str(project)])
    assert "has no conf/base: name the folder of a project" in capsys.readouterr().err
    (project / "conf/base").mkdir(parents=True)
    main([str(project)])
    assert [line.strip() for line in capsys.readouterr().out.splitlines()[1:]] == list(COMMANDS)
    tables = {path: path.read_bytes() for path in project.rglob("*.*") if path.is_file()}
    shutil.rmtree(project / "conf/mine")
    with pytest.raises(SystemExit):
        main([str(project)])
    assert f"already there: {project / RAW}. Nothing is overwritten" in capsys.readouterr().err
    assert not (project / "conf/mine").exists()
    assert all(path.read_bytes() == tables[path] for path in (project / RAW).iterdir())


def test_a_sound_catalogue_is_described(kedro: Kedro) -> None:
    assert check(kedro, 0) == [
        "multimodal_labels.txt",
        "  7 labels",
        "train.tsv",
        "  900 rows, 900 of them sound",
        "  42 query texts, 900 query ids, 900 products",
        "  1 to 4 boxes an image, 2.5 on average",
        "  a box covers 16.67% of its image on average",
        "  7 of 7 labels used, 'Möbel' by 16% of the boxes",
        "titles.parquet",
        "  900 of the 900 products of train have a title",
        "valid.tsv",
        "  400 rows, 400 of them sound",
        "  24 query texts, 40 query ids, 400 products",
        "  1 to 4 boxes an image, 2.4 on average",
        "  a box covers 16.67% of its image on average",
        "  7 of 7 labels used, 'Mützen' by 17% of the boxes",
        "  10 candidates a query, 10.0 on average",
        "  100.0% of the words stand in training queries",
        "titles.parquet",
        "  400 of the 400 products of valid have a title",
        "valid_answer.json",
        "  40 queries, 1 to 4 answers each, 1.1 on average",
        "nothing is wrong",
    ]


def test_titles_of_the_tables_of_all_splits_stand_in_one_file(kedro: Kedro) -> None:
    titles = pd.read_parquet(RAW / "titles.parquet").set_index("product_id")["title"]
    assert len(titles) == 1300
    own = pd.read_parquet(RAW / "valid.parquet").set_index("product_id")["title"]
    assert titles[own.index].equals(own)
    # A table that is written again replaces the titles of its products
    changed = pd.read_parquet(RAW / "valid.parquet").assign(title="neu", sku="007")
    changed.to_parquet(RAW / "valid.parquet")
    result = kedro("write-tsv", f"{RAW}/valid.parquet", f"{RAW}/valid.tsv")
    assert "valid.parquet: SKUs are not written. To keep them, delete the TSV" in result.output
    assert result.output.splitlines()[-1] == f"{RAW}/titles.parquet: titles of 400 products"
    titles = pd.read_parquet(RAW / "titles.parquet")
    assert (len(titles), (titles["title"] == "neu").sum()) == (1300, 400)


def test_wrong_titles_are_one_fault_of_check_and_of_the_run(kedro: Kedro, written: Path) -> None:
    path = RAW / "titles.parquet"
    titles = pd.read_parquet(path)
    pd.concat([titles, titles[titles["product_id"] == 10_000].assign(title="zwei")]).to_parquet(path)
    said = "titles.parquet: 1 products have two different titles, such as [10000]. Keep one row of each"
    lines = check(kedro, 1)
    assert [line.endswith(said) for line in lines if line.startswith("  ! ")] == [True]
    result = kedro("run", "--env=mine", "--nodes=valid.chunk_000.ingest")
    assert result.exit_code == 1
    assert said in " ".join(result.output.split())
    titles.astype({"product_id": str}).to_parquet(path)
    faults = [line for line in check(kedro, 1) if line.startswith("  ! ")]
    assert len(faults) == 2  # of train and of valid
    assert all("titles.parquet has the columns product_id (" in fault for fault in faults)


def test_a_catalogue_without_titles_is_as_before(kedro: Kedro) -> None:
    (RAW / "titles.parquet").unlink()
    assert "titles.parquet" not in check(kedro, 0)


def test_each_wrong_row_is_named_with_its_reason(kedro: Kedro) -> None:
    boxes = np.frombuffer(pybase64.b64decode(field("train", 1, BOXES)), "<f4").reshape(-1, 4)
    spoil("train", 1, BOXES, pybase64.b64encode(boxes[:, [2, 3, 0, 1]].tobytes()))  # bottom, right, top, left
    spoil("train", 9, FEATURES, field("train", 9, FEATURES)[:-4])
    spoil("train", 30, QUERY, b"sch\xf6n")  # Latin-1
    spoil("train", 40, QUERY, b" ")
    lines = check(kedro, 1)
    box, features, *queries = [line for line in lines if line.startswith("  ! ")]
    start = f"  ! row 1, byte {len('	'.join(TSV_COLUMNS)) + 1}: a box has its sides out of order: ["
    assert box.startswith(start)
    assert box.endswith("] (top, left, bottom, right)")
    assert re.fullmatch(r"  ! row 9, byte [\d,]+: features has \d+ characters, num_boxes \d wants \d+", features)
    assert [line.partition(": ")[2] for line in queries] == ["query is not UTF-8", "empty query"]
    assert "  900 rows, 896 of them sound" in lines
    assert lines[-1] == "faults: 4"


def test_boxes_beyond_the_image_by_rounding_are_counted(kedro: Kedro) -> None:
    count = int(field("train", 1, BOXES - 1))
    spoil("train", 1, BOXES, pybase64.b64encode(np.array([[0, 0, 300.0001, 400.5]] * count, np.float32).tobytes()))
    assert f"  {count} boxes leave their image by at most 1 pixel: clipped" in check(kedro, 0)


def test_boxes_as_fractions_of_the_image_are_noticed(kedro: Kedro) -> None:
    for row in range(1, 401):
        boxes = np.frombuffer(pybase64.b64decode(field("valid", row, BOXES)), "<f4").reshape(-1, 4)
        spoil("valid", row, BOXES, pybase64.b64encode((boxes / np.float32([300, 400, 300, 400])).tobytes()))
    lines = check(kedro, 1)
    fault = "all boxes lie within 0 to 1, as fractions of the image do. Write pixels: times image_h and image_w"
    assert [line for line in lines if "!" in line] == [f"  ! {fault}"]
    covered = [line for line in lines if "of its image on average" in line]
    assert covered == [f"  a box covers {share} of its image on average" for share in ("16.67%", "0.00%")]


@pytest.mark.parametrize("chunks", [1, 3])
def test_a_product_has_one_set_of_features(kedro: Kedro, chunks: int) -> None:
    Path("conf/mine/parameters.yml").write_text(PARAMETERS.replace("{train: 1}", f"{{train: {chunks}}}"))
    path = RAW / "train.tsv"
    first = path.read_bytes().split(b"\n")[1].split(b"\t")
    features = np.frombuffer(pybase64.b64decode(first[FEATURES]), "<f4") * 0.5
    first[FEATURES] = pybase64.b64encode(features.tobytes())
    path.write_bytes(path.read_bytes().rstrip(b"\n") + b"\n" + b"\t".join(first) + b"\n")
    (line,) = [line for line in check(kedro, 1) if line.startswith("  ! ")]
    product, looks = first[0].decode(), "another size, boxes, labels or features"
    place = {
        1: "row 901, byte ",
        3: f"product {product}, train.chunk_000 and train.chunk_002: a product has {looks} in",
    }
    assert line.startswith(f"  ! {place[chunks]}")
    assert looks in line


def test_a_query_id_stands_for_one_text(kedro: Kedro) -> None:
    spoil("valid", 15, QUERY, b"andere M\xc3\xbctzen")
    query = field("valid", 15, QUERY + 1).decode()
    assert f"  ! query {query}: a query_id of valid has 2 texts; give each text its own" in check(kedro, 1)


@pytest.mark.parametrize("chunks", [1, 3])
def test_a_product_stands_once_in_a_candidate_list(kedro: Kedro, chunks: int) -> None:
    Path("conf/mine/parameters.yml").write_text(PARAMETERS.replace("{train: 1}", f"{{train: 1, valid: {chunks}}}"))
    path = RAW / "valid.tsv"
    path.write_bytes(path.read_bytes().rstrip(b"\n") + b"\n" + path.read_bytes().split(b"\n")[1] + b"\n")
    place = "query 0, product 10000, valid.chunk_000 and valid.chunk_002"
    fault = {
        1: "product 10000 stands twice in the candidate list of query 0",  # ingest's own
        3: f"  ! {place}: a product stands twice in a candidate list; keep one of its rows",
    }
    (line,) = [line for line in check(kedro, 1) if line.startswith("  ! ")]
    assert line.endswith(fault[chunks])


def test_another_width_is_one_fault_with_the_line_to_write_and_the_rest_is_checked(kedro: Kedro) -> None:
    Path("conf/mine/parameters.yml").write_text(PARAMETERS.replace("ingest: {feature_size: 512}", ""))
    spoil("valid", 3, QUERY, b"")
    lines = check(kedro, 1)
    assert [line for line in lines if "!" in line] == [
        "  ! its features hold 512 numbers a box, ingest.feature_size is 2048. Write into conf/<env>/parameters.yml: "
        "ingest: {feature_size: 512}",
        next(line for line in lines if line.startswith("  ! row 3, ") and line.endswith(": empty query")),
    ]


def test_labels_beyond_the_file_and_ignored_ones_that_are_none(kedro: Kedro) -> None:
    labels = RAW / "multimodal_labels.txt"
    labels.write_text("\n".join(labels.read_text().splitlines()[:-1]))
    Path("conf/mine/parameters.yml").write_text(PARAMETERS.replace("ignored_labels: []", "ignored_labels: [others]"))
    lines = check(kedro, 1)
    assert lines[2].startswith("  ! sample_negatives.ignored_labels names ['others'], no label of ['Schuhe', ")
    assert lines[2].endswith("set it to [] in conf/<env>/parameters.yml")
    assert sum("unknown label, wanted 0 to 5, found 6 to 6" in line for line in lines) > 20
    faults = next(place for place, line in enumerate(lines) if " more; by kind:" in line)
    kind = r"  ! \d+ x such as row \d+, byte [\d,]+: unknown label, wanted 0 to 5, found \d to 6"
    assert re.fullmatch(kind, lines[faults + 1])


def test_answers_and_candidates_must_fit(kedro: Kedro) -> None:
    path = RAW / "valid_answer.json"
    answers = json.loads(path.read_text())
    answers.pop("4")
    path.write_text(json.dumps({**answers, "5": [10_000], "77": [1]}))
    assert check(kedro, 1)[-5:-1] == [
        "  40 queries, 1 to 4 answers each, 1.1 on average",
        "  ! query 5, product 10000: an answer is no candidate of valid, and can never be ranked",
        "  ! query 77, product 1: an answer is no candidate of valid, and can never be ranked",
        "  ! query 4: a query of valid has no answer, which evaluate refuses. Add one, or leave its rows out",
    ]


def test_judgements_are_taken_as_a_run_takes_them(kedro: Kedro) -> None:
    (RAW / "valid.qrels").write_text("1 0 7 2\n1 0 8 0\n77 0 7 1\n")
    assert check(kedro, 1)[-4:-1] == [
        "valid.qrels",
        "  2 judgements of 1 of 40 queries with a right product",
        "  ! some queries of valid have no right product, and training measures all: judge them, or leave them out",
    ]
    (RAW / "valid.qrels").write_text("77 0 7 1\n")
    assert (
        "  ! the qrels of valid judge 1 queries. None of these is one of the 40 queries of valid" in check(kedro, 1)[-2]
    )


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("train.tsv", None, "does not exist. Put the file there"),
        ("train.tsv", "a\tb\n", "the first line is b'a\\tb\\n'. Wanted the header product_id"),
        ("train.tsv", "\t".join(TSV_COLUMNS) + "\n", "holds no rows"),
        ("valid_answer.json", "[]", "Wanted {query_id: [product_id, ...]}"),
        ("multimodal_labels.txt", "id\tname\n1\tSchuhe", "wanted ids 0, 1, 2"),
    ],
)
def test_files_that_cannot_be_read(kedro: Kedro, name: str, text: str | None, message: str) -> None:
    (RAW / name).unlink()
    (RAW / name).with_suffix(".parquet").unlink(missing_ok=True)  # which stands in for a missing TSV
    if text is not None:
        (RAW / name).write_text(text)
    lines = check(kedro, 1)
    assert any(line.startswith("  ! ") and message in line for line in lines), lines


@pytest.mark.parametrize("name", ["train.tsv", "valid_answer.json", "multimodal_labels.txt"])
@pytest.mark.parametrize(("make_it", "found"), [(Path.mkdir, "a folder"), (os.mkfifo, "no file, but a pipe")])
def test_a_folder_or_pipe_in_the_place_of_a_file(
    kedro: Kedro, name: str, make_it: Callable[[Path], None], found: str
) -> None:
    (RAW / name).unlink()
    make_it(RAW / name)
    assert any(f"{name} is {found}" in line and line.startswith("  ! ") for line in check(kedro, 1))
    finished = kedro("run", "--env=mine")
    assert finished.exit_code == 1
    assert f"{name} is {found}" in finished.output


def test_what_a_glove_file_knows(kedro: Kedro) -> None:
    settings = "word_vectors: {glove_file: vectors.txt, size: 3}"
    Path("conf/mine/parameters.yml").write_text(PARAMETERS + settings)
    assert any("vectors.txt does not exist" in line for line in check(kedro, 1))
    Path("vectors.txt").write_text("grüne 1 2 3\nmützen 1 2 3\nkatze 1 2 3\n")
    known = ["vectors.txt", "  vectors for 2 of the 19 words of training queries and labels"]
    assert check(kedro, 0)[-3:-1] == known
    Path("vectors.txt").write_text("grüne 1 2 3\nmützen 1 2 3\ngrüne 4 5 6\n")
    assert check(kedro, 0)[-3:-1] == known


def test_a_checkpoint_is_loaded_as_the_run_loads_it(kedro: Kedro, tmp_path: Path) -> None:
    def named(start: str, code: int) -> str:
        Path("conf/mine/parameters.yml").write_text(PARAMETERS + f"language_model: {{start_from: {start}}}")
        lines = check(kedro, code)
        return lines[lines.index(f"language_model.start_from: {start}") + 1]

    tokenizer = train_tokenizer(["grüne Mützen"], 60)
    for part in (new_albert(LanguageModelOptions(hidden_size=16, heads=2), tokenizer), tokenizer):
        part.save_pretrained("models/albert")
    assert named("models/albert", 0) == "  AlbertModel: vectors of 16 numbers"
    Path("models/albert/config.json").unlink()
    assert named("models/albert", 1).startswith("  ! language_model.start_from is 'models/albert': the checkpoint in")
    assert named("./models/none", 1).startswith("  ! language_model.start_from is './models/none': there is no folder")
    refused = kedro("run", "--env=mine")
    assert (refused.exit_code, "ingest" in refused.output) == (1, False)  # before the first node
    assert "language_model.start_from is './models/none': there is no folder" in refused.output
    assert "not in this machine's cache: the run asks the hub for it" in named("nobody/nothing-at-all", 0)
    siamese = PARAMETERS.replace("[bag_of_words]", "[siamese]") + "siamese: {model: {text_model: ./models/none}}"
    Path("conf/mine/parameters.yml").write_text(siamese)
    message = "  ! siamese.model.text_model is './models/none': there is no folder"
    assert any(line.startswith(message) for line in check(kedro, 1))
    assert message.removeprefix("  ! ") in kedro("run", "--env=mine").output


def test_a_text_model_of_other_sizes_is_refused_before_the_first_node(kedro: Kedro) -> None:
    save_sentence_encoder(Path("models/encoder"))
    siamese = PARAMETERS.replace("[bag_of_words]", "[siamese]") + "siamese: {model: {text_model: models/encoder}}"
    Path("conf/mine/parameters.yml").write_text(siamese)
    message = "siamese.model.text_model is 'models/encoder': text_model has other sizes than the ranker. Set the"
    assert any(line.startswith(f"  ! {message}") for line in check(kedro, 1))
    refused = kedro("run", "--env=mine")
    assert (refused.exit_code, "ingest" in refused.output) == (1, False)
    assert f"{message} ranker's model to {{state: 16, heads: 2}}, or name another text_model" in refused.output
    fitting = siamese.replace("models/encoder", "models/encoder, state: 16, layers: 2, heads: 2")
    Path("conf/mine/parameters.yml").write_text(fitting)
    assert "  BertModel: vectors of 16 numbers" in check(kedro, 0)


def test_paths_of_the_options_are_relative_to_the_project(kedro: Kedro, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("conf/mine/parameters.yml").write_text(PARAMETERS + "word_vectors: {glove_file: vectors.txt, size: 3}")
    Path("vectors.txt").write_text("grüne 1 2 3\n")
    monkeypatch.chdir("conf/mine")
    assert "  vectors for 1 of the 19 words of training queries and labels" in check(kedro, 0)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("grüne 1 2 3\nmützen 1 nan 3\n".encode(), "vectors.txt, line 2: the vector of 'mützen' holds nan"),
        (gzip.compress("grüne 1 2 3\n".encode()), "vectors.txt is gzip, a packed file"),
        ("grüne 1 2\n".encode(), "vectors.txt holds 2 numbers a word, word_vectors.size is 3: 'grüne 1 2'"),
    ],
    ids=["nan", "gzip", "width"],
)
def test_a_glove_file_that_training_would_refuse(kedro: Kedro, content: bytes, message: str) -> None:
    Path("conf/mine/parameters.yml").write_text(PARAMETERS + "word_vectors: {glove_file: vectors.txt, size: 3}")
    Path("vectors.txt").write_bytes(content)
    assert any(line.startswith("  ! ") and message in line for line in check(kedro, 1))


def test_an_environment_without_rankers_has_no_rows_to_check(kedro: Kedro) -> None:
    (Path("data/01_raw/scores")).mkdir()
    for name in ("valid_scores.parquet", "valid_answer.json"):
        (Path("data/01_raw/scores") / name).touch()
    result = kedro("check", "--env=scores")
    assert (result.exit_code, "trains no ranker" in result.output) == (2, True)


@pytest.mark.slow
def test_the_advised_ranker_beats_random_order_and_one_that_learns_nothing_says_so(
    written: Path, caplog: pytest.LogCaptureFixture
) -> None:
    run_project(written, env="mine", parameters=TINY)
    comparison = load(written, "comparison", "mine").set_index("ranking")
    assert comparison.loc["bag_of_words", "low"] > comparison.loc["random order", "high"]
    assert len(load(written, "bag_of_words.training_log", "mine").to_table()) == 50  # 400 steps of 128 of 900 pairs
    assert any("is better than random order" in message for message in caplog.messages)
    caplog.clear()
    idle = {
        "two_tower": {**TINY["two_tower"], "epochs": 1, "learning_rate": 1e-9, "batch_size": 600},
        "rankers": "two_tower",
    }
    run_project(written, env="mine", parameters=TINY | idle, pipeline_names=["sample_negatives", "train", "evaluate"])
    assert any("is no better than random order" in message for message in caplog.messages)
    assert any(message.startswith("3 training steps are few") for message in caplog.messages)
    words = load(written, "word_vectors", "mine").to_table()["word"].to_pylist()
    assert {"weiße", "grüne", "röcke", "mützen"} < set(words)


def test_the_vision_models_of_a_shop_are_loaded_as_the_import_loads_them(kedro: Kedro) -> None:
    def found(describe: str, line: str) -> str:
        shop = f"import_shop: {{photos: photos, chunks: 1}}\ndescribe: {describe}\n"
        Path("conf/mine/parameters.yml").write_text(PARAMETERS + shop)
        lines = check(kedro, 1)  # the raw files are not imported yet
        return lines[lines.index(line) + 1]

    save_checkpoint(clip, Path("models/clip"))
    save_checkpoint(dfine, Path("models/dfine"))
    models = "{embedder: models/clip, detector: models/dfine}"
    assert found(models, "describe.embedder: models/clip") == "  CLIPModel: features of 24 numbers, and texts"
    assert found(models, "describe.detector: models/dfine") == "  DFineForObjectDetection: 3 labels"
    weak = "  features of the weak descriptor (colours and edges, no vision model)"
    assert found("{embedder: null}", "describe.embedder: null") == weak
    wrong = found("{detector: models/clip}", "describe.detector: models/clip")
    assert wrong.startswith("  ! describe.detector is 'models/clip': the checkpoint in")
