from pathlib import Path

import pandas as pd
import pytest
from kedro.io import DatasetError

from multimodal_recall.data.official_format import SUBMISSION_COLUMNS
from multimodal_recall.datasets.small_files import SubmissionFile
from multimodal_recall.evaluation.submission import SubmissionError, check_submission, make_submission

SCORES = pd.DataFrame(
    [(query, 10 * query + product, -float(product)) for query in (1, 2) for product in range(7)],
    columns=["query_id", "product_id", "score"],
)


def test_the_five_best_in_order() -> None:
    submission = make_submission(SCORES.sample(frac=1, random_state=0))
    assert submission.columns.tolist() == SUBMISSION_COLUMNS
    assert submission.to_numpy().tolist() == [[1, 10, 11, 12, 13, 14], [2, 20, 21, 22, 23, 24]]


@pytest.mark.parametrize("lists", [(4, 7), (3, 1)])  # in the second, nobody has a fourth
def test_a_query_with_fewer_candidates_ends_with_empty_cells(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, lists: tuple[int, int]
) -> None:
    scores = SCORES.assign(product_id=SCORES["product_id"] + 10**17)  # which a float rounds
    kept = pd.concat([scores[:7].head(lists[0]), scores[7:].head(lists[1])])
    submission = make_submission(kept)
    for (_, row), (query, candidates) in zip(submission.iterrows(), kept.groupby("query_id"), strict=True):
        assert row.dropna().tolist() == [query, *candidates["product_id"].head(5)]
    short = sum(length < 5 for length in lists)
    assert f"{short} queries have fewer than 5 candidates, first 1: their rows end with empty cells" in caplog.text
    file = SubmissionFile(str(tmp_path / "submission.csv"))
    file.save(submission)
    pd.testing.assert_frame_equal(file.load(), submission)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.rename(columns={"product5": "product6"}), "the header is"),
        (lambda s: pd.concat([s, s.head(1)]), "1 queries have two rows, first 1"),
        (lambda s: s.head(1), "1 queries are missing, first 2"),
        (lambda s: s.assign(**{"query-id": [1, 3]}), "1 queries are not of this split, first 3"),
        (lambda s: s.assign(product2=s["product1"]), "2 queries name a product twice, first 1"),
        (lambda s: s.assign(product5=pd.NA), "2 queries leave cells empty though they have more candidates, first 1"),
        (lambda s: s.assign(product1=[99, 20]), "1 queries name a product that is not their candidate, first 1"),
    ],
)
def test_faults_are_named(change: object, message: str) -> None:
    with pytest.raises(SubmissionError, match=message):
        check_submission(change(make_submission(SCORES)), SCORES)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("query-id,product1,product2,product3,product4,product5\n1,2,3,4,5,6,7\n", "line 2 is '1,2,3,4,5,6,7"),
        ("query-id,product1,product2,product3,product4,product5\n1,2,3,4,5\n", "Wanted a query id and 5 product ids"),
        ("query-id,product1,product2,product3,product4,product5\n1,2,,4,5,6\n", "line 2 is '1,2,,4,5,6"),
        ("query-id,product1,product2,product3,product4,product5\n1,,,,,\n", "line 2 is '1,,,,,"),
        ("1,2,3,4,5,6\n", "the first line is '1,2,3,4,5,6'. Wanted the header query-id,product1"),
        ("query-id,product1,product2,product3,product4,product5\n1,2,3,4,5,six\n", "line 2 is"),
    ],
)
def test_a_file_that_is_no_submission(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "submission.csv"
    path.write_text(text)
    with pytest.raises(DatasetError, match=message):
        SubmissionFile(str(path)).load()


def test_a_submission_is_read_as_it_was_saved(tmp_path: Path) -> None:
    submission = pd.DataFrame([[1, 2, 3, 4, 5, 6]], columns=SUBMISSION_COLUMNS, dtype="Int64")
    file = SubmissionFile(str(tmp_path / "submission.csv"))
    file.save(submission)
    pd.testing.assert_frame_equal(file.load(), submission)
