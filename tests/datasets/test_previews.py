import json
from pathlib import Path

import pandas as pd

from multimodal_recall.datasets.previews import ComparisonCsv

KINDS = {"leak-free": 9, "fitted on valid, out of fold": 2, "uses the candidate-list leak": 1}


def test_twelve_rankings_of_two_splits_have_a_row_each_and_points_side_by_side(tmp_path: Path) -> None:
    # Given twelve rankings; of testA those that are fitted on valid are missing
    names = [(f"{kind} <{number}>", kind) for kind, count in KINDS.items() for number in range(count)]
    columns = ["split", "ranking", "kind", "nDCG@5", "low", "high"]
    rows = [
        (split, name, kind, place / 20, place / 20 - 0.01, place / 20 + 0.03)
        for split in ("valid", "testA")
        for place, (name, kind) in enumerate(names)
        if split == "valid" or "fitted" not in kind
    ]
    table = ComparisonCsv(str(tmp_path / "comparison.csv"))
    table.save(pd.DataFrame(rows, columns=columns))
    plot = table.preview()
    json.dumps(plot)
    # Then each ranking has a row with its name, the best of its kind first, below the kind's own row
    axis, (valid, test_a) = plot["layout"]["yaxis"], plot["data"]
    assert axis["tickvals"] == list(range(len(names) + len(KINDS)))
    assert axis["ticktext"][:3] == ["<b>leak-free</b>", "leak-free &lt;8&gt;", "leak-free &lt;7&gt;"]
    assert axis["range"][0] > axis["range"][1]  # the first row is on top
    # and no two points lie on one line
    assert (valid["name"], test_a["name"]) == ("valid", "testA")
    assert not set(valid["y"]) & set(test_a["y"])
    for split in (valid, test_a):
        places = [round(y) for y in split["y"]]
        assert len(set(places)) == len(places)
        written = [axis["ticktext"][place].replace("&lt;", "<").replace("&gt;", ">") for place in places]
        assert written == split["text"]
    assert valid["marker"]["symbol"] != test_a["marker"]["symbol"]
    assert "valid" in plot["layout"]["annotations"][0]["text"]


def test_a_single_split_stands_in_the_middle_of_its_rows(tmp_path: Path) -> None:
    table = ComparisonCsv(str(tmp_path / "comparison.csv"))
    row = {"split": "valid", "ranking": "mcan", "kind": "leak-free", "nDCG@5": 0.5, "low": 0.4, "high": 0.7}
    table.save(pd.DataFrame([row]))
    (trace,) = table.preview()["data"]
    assert trace["y"] == [1]
    assert [round(trace["error_x"][side][0], 6) for side in ("array", "arrayminus")] == [0.2, 0.1]
