"""TREC files: what is read, and what is refused with its line."""

from pathlib import Path

import ir_measures
import pandas as pd
import pytest
from kedro.io import DatasetError, Version

from multimodal_recall.datasets.trec import QrelsFile, RunFile, RunFolder
from multimodal_recall.evaluation.metrics import rank_candidates


def read(kind: type, path: Path, text: str) -> pd.DataFrame:
    path.write_text(text, encoding="utf-8")
    return kind(str(path)).load()


def test_any_white_space_and_empty_lines_are_read(tmp_path: Path) -> None:
    table = read(QrelsFile, tmp_path / "x.qrels", "7 0 -3 2\r\n\n7\t0  4\t0\n8 Q0 4 -1\n")
    assert table.to_dict("list") == {"query_id": [7, 7, 8], "product_id": [-3, 4, 4], "relevance": [2, 0, -1]}
    run = read(RunFile, tmp_path / "x.run", '7 Q0 3 1 1e-3 "a"\n7 Q0 4 9 -2 nan\n7 Q0 3 1 4 nan')
    assert run["tag"].tolist() == ['"a"', "nan", "nan"]
    assert run["score"].tolist() == [0.001, -2, 4]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 0 2 1\n1 0 x 1\n", r"line 2: product_id is 'x'\. Wanted a whole number of 64 bits in its own digits"),
        ("1 0 2 1\n\n1 0 007 1\n", "line 3: product_id is '007'"),
        ("1 0 2.0 1\n", "line 1: product_id is '2.0'"),
        ("1 0 nan 1\n", "line 1: product_id is 'nan'"),
        (f"1 0 {2**63} 1\n", f"line 1: product_id is '{2**63}'"),
        ("red_dress 0 2 1\n", "line 1: query_id is 'red_dress'"),
        (
            "1 0 2 1\n1 0 2\n",
            r"line 2 has fewer or more words\. Wanted 4 words a line: query_id 0 product_id relevance",
        ),
        ("1 0 2 1 5\n", "line 1 has fewer or more words"),
        ("1 Q0 2 1 0.5 run\n1 Q0 3 2 0.4 run\n", r"line 1 has fewer or more words\. Wanted 4 words a line"),
        ("1 0 2 1\n1 0 2 1 5 6 7\n", "is no such text file: .*line 2.*Wanted 4 words a line"),
        ("1 0 2 1\n3 0 2 1\n1 0 2 0\n", r"line 3 repeats query_id 1, product_id 2\. Keep one line each"),
        (" \n\n", "has no line"),
    ],
)
def test_what_is_no_judgement(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        read(QrelsFile, tmp_path / "x.qrels", text)


def test_a_file_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "x.qrels").write_bytes(b"PAR1\xff\xfe\x00")
    with pytest.raises(DatasetError, match="is no such text file"):
        QrelsFile(str(tmp_path / "x.qrels")).load()


@pytest.mark.parametrize("score", ["high", "nan", "-NaN"])
def test_a_score_that_is_no_number(tmp_path: Path, score: str) -> None:
    with pytest.raises(DatasetError, match=rf"line 2: score is '{score}'\. Wanted a number"):
        read(RunFile, tmp_path / "x.run", f"1 Q0 2 1 0.5 a\n1 Q0 3 2 {score} a\n")


def test_rankings_come_back_in_our_order_by_any_reader(tmp_path: Path) -> None:
    # pytrec_eval would place 9 before 10, and 10 before 5, of equal scores
    scores = pd.DataFrame({"query_id": [1, 1, 1, 1, 2], "product_id": [10, 9, 5, 7, 5], "score": [1.0, 1, 1, 3, 0]})
    folder = RunFolder(str(tmp_path / "runs"), Version(None, None))
    folder.save({"two tower, smoothed": rank_candidates(scores), "b/../c": rank_candidates(scores.assign(score=0.0))})
    files = folder.load()
    assert [*files] == ["b_.._c", "two_tower_smoothed"]
    lines = list(ir_measures.read_trec_run(str(files["two_tower_smoothed"])))
    assert [(line.query_id, line.doc_id) for line in lines] == [
        ("1", "7"),
        ("1", "5"),
        ("1", "9"),
        ("1", "10"),
        ("2", "5"),
    ]
    assert [line.score for line in lines[:2]] == [3, 1]
    for place, right in enumerate(["7", "5", "9", "10"], start=1):
        judged = [ir_measures.Qrel("1", right, 1)]
        assert ir_measures.calc_aggregate([ir_measures.RR], judged, lines)[ir_measures.RR] == pytest.approx(1 / place)
    table = RunFile(str(files["two_tower_smoothed"])).load()
    assert table["tag"].unique().tolist() == ["two_tower_smoothed"]
    ranked = rank_candidates(table)
    assert ranked["product_id"].tolist() == [7, 5, 9, 10, 5]
    assert {row[0] for row in folder.preview()["data"]} == {*files}


def test_two_rankings_of_one_tag_are_refused(tmp_path: Path) -> None:
    ranked = rank_candidates(pd.DataFrame({"query_id": [1], "product_id": [1], "score": [1.0]}))
    with pytest.raises(DatasetError, match="two rankings have the tag a_b, one of them is 'a, b'"):
        RunFolder(str(tmp_path / "runs")).save({"a b": ranked, "a, b": ranked})
    assert not (tmp_path / "runs").exists()
