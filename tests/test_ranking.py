import pandas as pd
import pytest

from multimodal_recall.ranking import COLUMNS, SubmissionError, check_submission, make_submission

SCORES = pd.DataFrame(
    [(query, 10 * query + product, -float(product)) for query in (1, 2) for product in range(7)],
    columns=["query_id", "product_id", "score"],
)


def test_the_five_best_in_order() -> None:
    submission = make_submission(SCORES.sample(frac=1, random_state=0))
    assert submission.columns.tolist() == COLUMNS
    assert submission.to_numpy().tolist() == [[1, 10, 11, 12, 13, 14], [2, 20, 21, 22, 23, 24]]


def test_a_query_with_four_candidates_is_refused() -> None:
    with pytest.raises(SubmissionError, match="1 queries have fewer than 5 candidates, first 1"):
        make_submission(SCORES.drop(SCORES.index[:3]))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda s: s.rename(columns={"product5": "product6"}), "the header is"),
        (lambda s: pd.concat([s, s.head(1)]), "1 queries stand twice, first 1"),
        (lambda s: s.head(1), "1 queries are missing, first 2"),
        (lambda s: s.assign(**{"query-id": [1, 3]}), "1 queries are not of this split, first 3"),
        (lambda s: s.assign(product2=s["product1"]), "2 queries name a product twice, first 1"),
        (lambda s: s.assign(product1=[99, 20]), "1 queries name a product that is no candidate of theirs, first 1"),
    ],
)
def test_faults_are_named(change: object, message: str) -> None:
    with pytest.raises(SubmissionError, match=message):
        check_submission(change(make_submission(SCORES)), SCORES)
