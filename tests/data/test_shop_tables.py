"""A shop's tables as office programs, exports and merchants write them: each row is read right, or named."""

from pathlib import Path

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from multimodal_recall.config.import_options import ImportOptions
from multimodal_recall.data import shop_clicks
from multimodal_recall.data.official_format import RawFileError
from multimodal_recall.data.shop_clicks import read_shop_clicks, right_pairs
from multimodal_recall.data.shop_products import number_texts, read_shop_products
from multimodal_recall.data.shop_tables import ShopTable

HEADER = "sku,photo,title,category\n"


def read(path: Path, content: str | bytes, **chosen: str) -> tuple[list[dict], list[tuple]]:
    """The products of a table, and line and reason of its rejected rows."""
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    products, rejected = read_shop_products(ShopTable(path), chosen)
    rows = [{name: row[name] for name in ("sku", "photos", "title", "category")} for row in products.to_pylist()]
    return rows, [(row["line"], row["reason"]) for row in rejected.to_pylist()]


def product(sku: str, photo: str, title: str | None = None, category: str | None = None) -> dict:
    return {"sku": sku, "photos": photo.split("|"), "title": title, "category": category}


@pytest.mark.parametrize(
    ("name", "content", "wanted"),
    [
        ("a byte order mark", b"\xef\xbb\xbfsku,photo\nA,a.jpg\n", [product("A", "a.jpg")]),
        ("UTF-16", "sku\tphoto\nÄ,a.jpg".replace(",", "\t").encode("utf-16"), [product("Ä", "a.jpg")]),
        ("semicolons", "SKU;Photo;Title\nA;a.jpg;red, long\n", [product("A", "a.jpg", "red, long")]),
        ("Latin-1", "sku,photo,title\nA,a.jpg,Mütze 5 €\n".encode("cp1252"), [product("A", "a.jpg", "Mütze 5 €")]),
        ("Windows line ends", "sku,photo\r\nA,a.jpg\r\nB,b.jpg\r\n", [product("A", "a.jpg"), product("B", "b.jpg")]),
        ("old Mac line ends", "sku,photo\rA,a.jpg\rB,b.jpg", [product("A", "a.jpg"), product("B", "b.jpg")]),
        ("leading zeros", "sku,photo\n007,a.jpg\n7,b.jpg\n", [product("007", "a.jpg"), product("7", "b.jpg")]),
        ("more than 18 digits", f"sku,photo\n{'9' * 30},a.jpg\n", [product("9" * 30, "a.jpg")]),
        ("quotes", HEADER + '"A","a,b.jpg","the ""best"", yes",x\n', [product("A", "a,b.jpg", 'the "best", yes', "x")]),
        ("a quote inside", HEADER + 'A,a.jpg,12" pizza,food\n', [product("A", "a.jpg", '12" pizza', "food")]),
        ("a quoted word first", HEADER + 'A,a.jpg,"Best" shirt,x\n', [product("A", "a.jpg", '"Best" shirt', "x")]),
        ("a tab in a title", HEADER + "A,a.jpg,red\tshirt,x\n", [product("A", "a.jpg", "red shirt", "x")]),
        ("a line end in a title", HEADER + 'A,a.jpg,"red\nshirt",x\n', [product("A", "a.jpg", "red shirt", "x")]),
        ("a soft hyphen", "sku,photo,title\nA,a.jpg,Baum\u00adwolle\n", [product("A", "a.jpg", "Baum\u00adwolle")]),
        ("spaces of a file's name", "sku,photo\nA,a  b\u202fPM.jpg\n", [product("A", "a  b\u202fPM.jpg")]),
        ("a tab-separated file", "sku\tphoto\ttitle\nA\ta.jpg\tred, long\n", [product("A", "a.jpg", "red, long")]),
        ("several photos", "sku,photo\nA,a|b\nB,c\nA,d\n", [product("A", "a|b|d"), product("B", "c")]),
        ("a title in one of two rows", HEADER + "A,a,,x\nA,b,red,x\n", [product("A", "a|b", "red", "x")]),
        ("blank lines", HEADER + "\nA,a.jpg,,\n   \n", [product("A", "a.jpg")]),
        ("no last field", HEADER + "A,a.jpg,red\n", [product("A", "a.jpg", "red")]),
        ("empty fields after", HEADER + "A,a.jpg,red,x,,,\n", [product("A", "a.jpg", "red", "x")]),
        ("other headers", "Item ID,Image,Name,Type\nA,a.jpg,red,x\n", [product("A", "a.jpg", "red", "x")]),
        (
            "German headers",
            "Art.-Nr.;Bilddatei;Bezeichnung;Warengruppe\n007;a.jpg;M\xfctze;H\xfcte\n".encode("cp1252"),
            [product("007", "a.jpg", "Mütze", "Hüte")],
        ),
    ],
)  # fmt: skip
def test_a_table_is_read_right(tmp_path: Path, name: str, content: str | bytes, wanted: list[dict]) -> None:
    assert read(tmp_path / "products.csv", content) == (wanted, []), name


@pytest.mark.parametrize(
    ("row", "reason"),
    [
        ("B,,red,x", "it names no photo"),
        ("B, | ,red,x", "it names no photo"),
        ("B,https://shop/b.jpg,red,x", "its photo is an address: download the photo, and name the file"),
        (" ,b.jpg,red,x", "it has no SKU"),
        ("A,b.jpg,blue,x", "its SKU has another title in line 2"),
        ("A,b.jpg,red,y", "its SKU has another category in line 2"),
        (f"B,b.jpg,{'x' * 1_000_000},x", "its title has more than 2,000 characters"),
        (f"{'B' * 300},b.jpg,red,x", "its sku has more than 200 characters"),
        ("B,b.jpg", "2 fields, the header has 4"),
        ("B,b.jpg,red, long,x", "5 fields, the header has 4: put a field that holds the separator into quotes"),
        ('B,b.jpg,"red,x', "a quote opens here and does not close"),
    ],
)
def test_a_row_that_cannot_be_used_is_named_and_the_others_stay(tmp_path: Path, row: str, reason: str) -> None:
    content = f"{HEADER}A,a.jpg,red,x\n{row}\nZ,z.jpg,last,x\n"
    products, rejected = read(tmp_path / "products.csv", content)
    assert rejected == [(3, reason)]
    assert [found["sku"] for found in products] == ["A", "Z"]


@pytest.mark.parametrize("mark", [b"", b"\xef\xbb\xbf"])
@pytest.mark.parametrize("end", [b"\n", b"\r"])
def test_a_byte_that_is_no_utf8_rejects_its_row_alone(tmp_path: Path, mark: bytes, end: bytes) -> None:
    lines = [
        "sku,photo,title,note",
        "A,a.jpg,Mütze,",
        "B,b.jpg,caf\udce9,",
        "C,c.jpg,Größe,",
        "D,d.jpg,red,\udcff",
        "E\udce9",
    ]
    lines += ["F,f.jpg,Hüte,", "G,g.jpg,Röcke,"]
    content = mark + end.join(line.encode(errors="surrogateescape") for line in lines)
    products, rejected = read(tmp_path / "p.csv", content)
    assert [row["title"] for row in products] == ["Mütze", "Größe", "red", "Hüte", "Röcke"]  # the note is not read
    reason = "it has a byte that is no UTF-8, unlike most of the file"
    assert rejected == [(3, reason), (6, "1 fields, the header has 4")]
    _, faults = read_shop_products(ShopTable(tmp_path / "p.csv"), {})
    assert faults["text"].to_pylist() == ["B,b.jpg,caf\ufffd,\n", "E\ufffd\n"]


def test_latin_1_stays_latin_1_whatever_one_line_looks_like(tmp_path: Path) -> None:
    rows = [("A", "Mütze"), ("B", "Größe"), ("C", "cafÃ©")]  # the last title's bytes are UTF-8
    content = "sku,photo,title\n" + "".join(f"{sku},a.jpg,{title}\n" for sku, title in rows)
    products, rejected = read(tmp_path / "p.csv", content.encode("cp1252"))
    assert ([(row["sku"], row["title"]) for row in products], rejected) == (rows, [])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "has no header"),
        (b"\0" * 100, "no column is known as the sku"),
        ("name,file\n", "no column is known as the sku. Its columns are .*Name it: --product-column sku=HEADER"),
        ("sku,photo\n", "no row can be used. It has no rows below its header"),
        ("sku,photo\nA,\n", "no row can be used. Line 2: it names no photo"),
        ("sku,sku,photo\nA,B,c\n", "has 2 columns 'sku'"),
        (b"PAR1 and no more", "is no sound parquet file"),
    ],
)
def test_a_file_that_cannot_be_used_is_named(tmp_path: Path, content: str | bytes, message: str) -> None:
    with pytest.raises(RawFileError, match=message):
        read(tmp_path / "products.csv", content)


def test_headers_can_be_named(tmp_path: Path) -> None:
    content = "code,sku,photo,Grafik\nA,1,old.jpg,a.jpg\n"
    assert read(tmp_path / "p.csv", content, sku="code", photo="Grafik") == ([product("A", "a.jpg")], [])
    with pytest.raises(RawFileError, match=r"has no column 'Bild'. Its columns are"):
        read(tmp_path / "p.csv", content, photo="Bild")


def test_parquet_is_read_as_text_is(tmp_path: Path) -> None:
    table = pa.table({"sku": [7, 8], "photo": ["a.jpg", None], "title": pa.array(["x", "y"]).dictionary_encode()})
    pq.write_table(table, tmp_path / "products.csv")  # by its content, not by its name
    products, rejected = read_shop_products(ShopTable(tmp_path / "products.csv"), {})
    assert products["sku"].to_pylist() == ["7"]
    assert rejected["line"].to_pylist() == [2]


def test_a_damaged_page_names_the_file(tmp_path: Path) -> None:
    path = tmp_path / "products.parquet"
    pq.write_table(pa.table({"sku": ["A"], "photo": ["a.jpg"]}), path)
    content = bytearray(path.read_bytes())
    content[4:30] = bytes(26)
    path.write_bytes(content)
    with pytest.raises(RawFileError, match=r"products.parquet is damaged: "):
        read_shop_products(ShopTable(path), {})


def test_numbers_that_pandas_wrote_as_floats_are_their_digits(tmp_path: Path) -> None:
    table = pa.table({"sku": [4006381333931.0, 7.0, None], "photo": ["a.jpg", "b.jpg", "c.jpg"]})
    pq.write_table(table, tmp_path / "products.parquet")
    products, rejected = read_shop_products(ShopTable(tmp_path / "products.parquet"), {})
    assert products["sku"].to_pylist() == ["4006381333931", "7"]
    assert rejected["reason"].to_pylist() == ["it has no SKU"]


def test_many_rows_keep_their_lines(tmp_path: Path) -> None:
    rows = [f'{n},"a\n{n}.jpg"' if n % 1000 == 0 else f"{n},{n}.jpg" for n in range(100_000)]
    (tmp_path / "p.csv").write_text("sku,photo\n" + "\n".join([*rows, "lost,", "last,z.jpg"]))
    products, rejected = read_shop_products(ShopTable(tmp_path / "p.csv"), {})
    assert products.num_rows == 100_001
    assert rejected.to_pylist()[0]["line"] == 2 + 100_000 + 100


def test_of_many_rejected_rows_the_first_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Given a log of which two of three rows name no known product, in more blocks than are kept
    monkeypatch.setattr("multimodal_recall.data.shop_products.MOST_REJECTED", 10)
    monkeypatch.setattr("multimodal_recall.data.shop_tables.ROWS_PER_BLOCK", 12)
    kept: list[int] = []
    keep = shop_clicks.keep_rejected
    monkeypatch.setattr(shop_clicks, "keep_rejected", lambda old, new: (keep(old, new), kept.append(len(old))))
    log = tmp_path / "clicks.csv"
    log.write_text("query,sku\n" + "hat,A\nhat,B\nhat,C\n" * 100)
    products = pa.table({"sku": ["A"], "product_id": [1]})
    clicks, rejected = read_shop_clicks(ShopTable(log), products, {})
    assert clicks["clicks"].to_pylist() == [100]
    assert rejected["line"].to_pylist() == [3, 4, 6, 7, 9, 10, 12, 13, 15, 16]
    assert len(kept) == 25
    assert kept[-1] == kept[1]  # nothing is kept of later blocks
    assert rejected["text"].to_pylist()[:2] == ["hat, B", "hat, C"]


def test_a_sku_keeps_its_number_when_other_products_come_and_go() -> None:
    skus = [f"A-{number}" for number in range(1_000)]
    numbers = dict(zip(skus, number_texts(skus).tolist(), strict=True))
    assert len(set(numbers.values())) == 1_000
    assert max(numbers.values()) < 2**53
    some = skus[::-3]
    assert number_texts(some).tolist() == [numbers[sku] for sku in some]


@pytest.fixture
def shop(tmp_path: Path) -> pa.Table:
    (tmp_path / "products.csv").write_text("sku,photo\n007,a.jpg\nB,b.jpg\nC,c.jpg\n")
    return read_shop_products(ShopTable(tmp_path / "products.csv"), {})[0]


def clicks_of(path: Path, content: str, shop: pa.Table, by_date: bool = False) -> tuple[pd.DataFrame, list[tuple]]:
    path.write_text(content)
    clicks, rejected = read_shop_clicks(ShopTable(path), shop, {}, by_date)
    skus = dict(zip(shop["product_id"].to_pylist(), shop["sku"].to_pylist(), strict=True))
    table = clicks.to_pandas()
    return table.assign(sku=table["product_id"].map(skus)), [
        (row["line"], row["reason"]) for row in rejected.to_pylist()
    ]


def test_clicks_are_added_up_under_the_most_frequent_spelling(tmp_path: Path, shop: pa.Table) -> None:
    content = "query,sku,count\nRed  Shirt,B,1\nred shirt,B,5\nred-shirt,B,1\nred shirt!,007,1\nred shirt,C,0\n"
    content += "Baum\u00adwolle,C,1\nBaumwolle,C,2\n"
    clicks, rejected = clicks_of(tmp_path / "c.csv", content, shop)
    assert rejected == []
    found = set(clicks[["query", "sku", "clicks"]].itertuples(index=False, name=None))
    assert found == {("red shirt", "B", 6), ("red shirt", "007", 1), ("red-shirt", "B", 1), ("Baumwolle", "C", 3)}


def test_clicks_that_cannot_be_used_are_named(tmp_path: Path, shop: pa.Table) -> None:
    rows = ["x,7,1,2026-01-01", "x,Q,1,2026-01-01", "?!,B,1,2026-01-01", "x,B,1.5,2026-01-01", "x,B,1,11/12/2026"]
    rows += ["x,B,-1,2026-01-01", "x,,1,2026-01-01", "x,B,2,2026-01-01T10:00:00"]
    clicks, rejected = clicks_of(tmp_path / "c.csv", "query,sku,count,date\n" + "\n".join(rows), shop, by_date=True)
    assert rejected == [
        (2, "no product has the SKU '7'; one has '007': were zeros lost?"),
        (3, "no product has the SKU 'Q'"),
        (4, "its query has no word"),
        (5, "its count is no whole number"),
        (6, "its date is none such as 2026-11-29, 29.11.2026, or seconds since 1970"),
        (7, "its count is no whole number"),
        (8, "it has no SKU"),
    ]
    assert clicks[["sku", "clicks"]].values.tolist() == [["B", 2]]
    assert str(clicks["first_day"][0]) == "2026-01-01"


@pytest.mark.parametrize(
    "date",
    [*("29.11.2026", "29.11.2026 10:00", "2026-11-29 10:00", "2026-11-29T10:00:00Z"), "1795946400", "1795946400123"],
)
def test_a_date_is_read_in_four_forms(tmp_path: Path, shop: pa.Table, date: str) -> None:
    clicks, rejected = clicks_of(tmp_path / "c.csv", f"Suchanfrage;Artikelnummer;Datum\nx;B;{date}\n", shop)
    assert rejected == []
    assert str(clicks["first_day"][0]) == "2026-11-29"


def test_a_date_that_cannot_be_read_is_none_unless_dates_matter(tmp_path: Path, shop: pa.Table) -> None:
    content = "query,sku,timestamp\nx,B,noon\ny,B,11/12/2026\nz,C,\n"
    clicks, rejected = clicks_of(tmp_path / "c.csv", content, shop)
    assert (clicks["query"].tolist(), clicks["first_day"].tolist(), rejected) == (["x", "y", "z"], [None] * 3, [])
    clicks, rejected = clicks_of(tmp_path / "c.csv", content + "x,C,2026-11-29\n", shop)
    days = dict(zip(clicks["query"], clicks["first_day"].map(str), strict=True))
    assert (days, rejected) == ({"x": "2026-11-29", "y": "None", "z": "None"}, [])
    with pytest.raises(RawFileError, match=r"no row can be used. Line 2: its date is none such as 2026-11-29"):
        clicks_of(tmp_path / "c.csv", content, shop, by_date=True)


def test_right_products_have_enough_clicks_and_enough_of_the_querys_clicks(tmp_path: Path, shop: pa.Table) -> None:
    content = "query,sku,count\nx,B,96\nx,C,3\nx,007,1\ny,C,1\n"
    clicks, _ = clicks_of(tmp_path / "c.csv", content, shop)
    right = right_pairs(clicks, ImportOptions(min_click_share=0.03))
    assert set(right["query"] + right["sku"]) == {"xB", "xC", "yC"}
    assert right_pairs(clicks, ImportOptions(min_clicks=2, min_click_share=0.05))["sku"].tolist() == ["B"]


def test_a_count_that_no_sum_could_hold_is_named(tmp_path: Path, shop: pa.Table) -> None:
    content = "query,sku,count\nx,B,1e300\nx,B,5000000000000000000\nx,B,1000000000\nx,B,1000000000\n"
    clicks, rejected = clicks_of(tmp_path / "c.csv", content, shop)
    assert rejected == [(line, "its count is above 1,000,000,000") for line in (2, 3)]
    assert clicks["clicks"].tolist() == [2_000_000_000]


def test_judgements_stand_in_for_clicks(tmp_path: Path, shop: pa.Table) -> None:
    content = "query,sku,relevance\nx,B,2\nx,C,0\nx,007,1\n"
    clicks, _ = clicks_of(tmp_path / "c.csv", content, shop)
    assert len(clicks) == 3
    assert set(right_pairs(clicks, ImportOptions())["sku"]) == {"B", "007"}
    assert right_pairs(clicks, ImportOptions(min_relevance=2))["sku"].tolist() == ["B"]
