import pytest

from multimodal_recall.data.text import strip_leading_token, words_of


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
        ("3 m² ½", ["3", "m²", "½"]),
        ("...", []),
    ],
)
def test_words(text: str, words: list[str]) -> None:
    assert words_of(text) == words


@pytest.mark.parametrize(
    ("query", "cleaned"),
    [("'s shirt", "shirt"), ("& red shirt", "red shirt"), ("and", "and"), ("& ", "& "), ("red shirt", "red shirt")],
)
def test_a_leading_leftover_goes_when_something_is_left(query: str, cleaned: str) -> None:
    assert strip_leading_token(query) == cleaned
