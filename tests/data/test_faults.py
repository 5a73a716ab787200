import pytest

from multimodal_recall.data.faults import FaultCounts


def test_faults_are_counted_by_kind_with_the_first_of_each() -> None:
    counts = FaultCounts()
    for row in range(3, 1003):
        counts.add(f"product {10 * row} stands twice in the candidate list of query {row % 7}", f"row {row}")
    counts.add("empty query", "row 2")
    assert counts.total() == 1001
    assert counts.most_common(5) == [
        "1,000 x such as row 3: product 30 stands twice in the candidate list of query 3",
        "1 x row 2: empty query",
    ]
    assert len(counts.most_common(1)) == 1


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("right by 12.5 pixels", "right by 1e+08 pixels", True),
        ("right by 12.5 pixels", "right by inf pixels", True),
        ("right by 12.5 pixels", "left by 12.5 pixels", False),
        ("id: '00123'", "id: 'A-7'", True),
        ("7 fields, wanted 9", "1 fields, wanted 9", True),
        ("query starts with 's", "query is not UTF-8", False),
    ],
)
def test_reasons_that_differ_in_numbers_and_texts_are_one_kind(one: str, other: str, same: bool) -> None:
    counts = FaultCounts()
    counts.add(one)
    counts.add(other)
    assert (len(counts.counts) == 1) is same
