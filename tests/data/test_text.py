import pytest

from multimodal_recall.data.text import normal_form, strip_leading_token, vocabulary_note, words_of


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("red shirt", ["red", "shirt"]),
        ("Women's T-shirt, red", ["women", "'s", "t-shirt", "red"]),
        ("high-quality 3ds game", ["high-quality", "3ds", "game"]),
        ("makeup & beauty (tools / oils)", ["makeup", "beauty", "tools", "oils"]),
        ("grüne Füße", ["grüne", "füße"]),
        ("GRU\u0308NE", ["grüne"]),  # two code points for one letter, as some systems write it
        ("हिन्दी कपड़े", ["हिन्दी", "कपड़े"]),
        ("红色连衣裙 2件 T恤", ["红", "色", "连", "衣", "裙", "2", "件", "t", "恤"]),
        ("빨간 원피스", ["빨간", "원피스"]),
        ("3 m² 1½", ["3", "m2", "1", "1", "2"]),
        ("women’s women‘s women＇s", ["women", "'s"] * 3),
        ("Ｔｅｅ－Ｓｅｔ ２", ["tee-set", "2"]),
        ("t\u2011shirt t\u2010shirt t-shirt t-\u00adshirt", ["t-shirt"] * 4),
        ("ﬁne Logo™", ["fine", "logotm"]),
        ("...", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


def test_a_text_of_ascii_is_its_own_normal_form() -> None:
    text = "".join(map(chr, range(128)))
    assert normal_form(text) is text
    assert normal_form(normal_form("women’s ＡＢＣ ½ ´")) == normal_form("women’s ＡＢＣ ½ ´")


@pytest.mark.parametrize(
    ("query", "unknown", "note"),
    [
        ("red shirt", [], ""),
        ("red kleid", ["kleid"], "not in the vocabulary: kleid"),
        ("kleid!", ["kleid"], "not in the vocabulary: kleid (no word of the query is: the ranking means little)"),
        ("!!!", [], "no word in the query: the ranking means little"),
        ("… \u200b 👗", [], "no word in the query: the ranking means little"),
    ],
)
def test_what_a_query_cannot_mean_is_said(query: str, unknown: list[str], note: str) -> None:
    assert vocabulary_note(query, unknown) == note


@pytest.mark.parametrize(
    ("query", "cleaned"),
    [
        ("'s shirt", "shirt"),
        ("& red shirt", "red shirt"),
        ("and", "and"),
        ("& ", "& "),
        ("’s shirt", "shirt"),
        ("red shirt", "red shirt"),
    ],
)
def test_a_leading_leftover_goes_when_something_is_left(query: str, cleaned: str) -> None:
    assert strip_leading_token(query) == cleaned
