"""A shop as a merchant has it: drawn photos, a table of products and a log of clicks."""

import csv
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from multimodal_recall.pipelines.make_shop.pictures import draw_picture

NOUNS = ("shirt", "dress", "shoes", "handbag", "hat")
COLOURS = ("black", "white", "red", "blue", "green", "pink")
PATTERNS = ("plain", "striped")


def draw_shop(folder: Path, products: int = 60, seed: int = 0) -> tuple[Path, Path, Path]:
    """Draw products, and make up clicks: each query names colour and noun, or noun alone, and clicks fit.

    Returns:
        The table of products, the log of clicks, the folder of photos.
    """
    random, rows = np.random.default_rng(seed), []
    photos = folder / "photos"
    photos.mkdir(parents=True)
    for number in range(products):
        noun, colour, pattern = NOUNS[number % 5], COLOURS[number // 5 % 6], PATTERNS[number // 30 % 2]
        values = {"audience": "women", "season": "summer", "colour": colour, "pattern": pattern, "material": "cotton"}
        (photos / f"{noun}-{number}.png").write_bytes(draw_picture(noun, values, 120, 120))
        rows.append((f"{number:04}-{noun[0].upper()}", f"{noun}-{number}.png", f"{pattern} {colour} {noun}", noun))
    write_csv(folder / "products.csv", ("sku", "photo", "title", "category"), rows)
    clicks = []
    for query in [f"{how}{word}" for word in _words() for how in ("", "new ", "cheap ")]:
        fits = [row for row in rows if all(word in row[2].split() for word in query.split() if word not in USELESS)]
        some = random.permutation(len(fits))[: 1 + random.integers(4)]
        clicks += [(query, fits[place][0], int(random.integers(1, 9))) for place in some]
    write_csv(folder / "clicks.csv", ("query", "sku", "count"), clicks)
    return folder / "products.csv", folder / "clicks.csv", photos


USELESS = ("new", "cheap")


def _words() -> list[str]:
    return [*NOUNS, *(f"{colour} {noun}" for colour in COLOURS for noun in NOUNS)]


def write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[object]]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
