"""Seconds and memory of an import's tables: products, clicks, lists of candidates; without photos.

python -m benchmarks.shop_tables --products 50000 200000 --clicks 250000 1000000

Products and clicks are made up: titles of five words in 200 categories, queries of two to four words of a title, clicks
by Zipf's law. Each size is a process of its own, each part is what a node of ``import_shop`` does. Seconds are CPU
seconds; memory is the peak of the whole process so far, Python and libraries included.
"""

import argparse
import csv
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from multiprocessing import get_context
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.made_up import made_up_words
from benchmarks.stages import peak_memory
from multimodal_recall.config.import_options import ImportOptions
from multimodal_recall.data.shop_clicks import read_shop_clicks
from multimodal_recall.data.shop_products import read_shop_products
from multimodal_recall.data.shop_tables import ShopTable
from multimodal_recall.pipelines.import_shop.candidates import make_candidates

CATEGORIES, WORDS = 200, 5_000
UNKNOWN_SHARE = 0.02
"""Share of the clicks on products that the table of products lacks."""
Made = TypeVar("Made")


def zipf(count: int, size: tuple[int, ...], random: np.random.Generator) -> np.ndarray:
    """Draw places below ``count`` by Zipf's law."""
    weights = 1 / np.arange(3, count + 3)
    return random.choice(count, size=size, p=weights / weights.sum())


def write_tables(folder: Path, products: int, clicks: int) -> None:
    """Write products.csv (``products`` rows) and clicks.csv (``clicks`` rows)."""
    random = np.random.default_rng(0)
    words = random.permutation(made_up_words(WORDS + CATEGORIES))
    titles = [[*words[CATEGORIES:][row]] for row in zipf(WORDS, (products, 4), random)]
    category = words[:CATEGORIES][zipf(CATEGORIES, (products,), random)]
    with (folder / "products.csv").open("w", newline="") as file:
        rows = ((f"{n:07}", f"{n}.jpg", " ".join([*titles[n], category[n]]), category[n]) for n in range(products))
        csv.writer(file).writerows([("sku", "photo", "title", "category"), *rows])
    shown = random.permutation(round(products / (1 - UNKNOWN_SHARE)))[zipf(products, (clicks,), random)]
    counts = random.integers(1, 4, clicks)
    with (folder / "clicks.csv").open("w", newline="") as file:
        rows = (
            (" ".join([*dict.fromkeys(titles[number % products][:count]), category[number % products]]), f"{number:07}")
            for number, count in zip(shown, counts, strict=True)
        )
        csv.writer(file).writerows([("query", "sku"), *rows])


def timed(part: str, work: Callable[[], Made]) -> Made:
    """Do a part and print its line."""
    start = time.process_time()
    made = work()
    print(f"    {part:32} {time.process_time() - start:7.1f} {peak_memory():8.2f}", flush=True)
    return made


def measure(products: int, clicks: int) -> None:
    """Write the tables into a temporary folder, and time each part."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        writer = get_context("spawn").Process(target=write_tables, args=(folder, products, clicks))
        writer.start()  # a process of its own: its memory is not that of an import
        writer.join()
        print(f"{products:,} products, {clicks:,} clicks; this process holds {peak_memory():.2f} GB", flush=True)
        table, log = ShopTable(folder / "products.csv"), ShopTable(folder / "clicks.csv")
        shop, _ = timed("read products", lambda: read_shop_products(table, {}))
        found, rejected = timed("read clicks", lambda: read_shop_clicks(log, shop, {}))
        print(f"    {len(found['query'].unique()):,} queries, {len(found):,} pairs, {len(rejected):,} rows rejected")
        known = shop.select(["product_id", "title", "category"]).to_pandas()
        lists = timed("make candidates", lambda: make_candidates(found.to_pandas(), known, ImportOptions()))
        print(f"    rows: {', '.join(f'{split} {len(rows):,}' for split, rows in lists.items())}")


def main() -> None:
    """Measure each size in a process of its own."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--products", type=int, nargs="+", default=[50_000, 200_000])
    arguments.add_argument("--clicks", type=int, nargs="+", default=[250_000, 1_000_000])
    options = arguments.parse_args()
    if len(options.products) == 1:
        measure(options.products[0], options.clicks[0])
        return
    print(f"    {'part':32} {'CPU s':>7} {'peak GB':>8}", flush=True)
    for products, clicks in zip(options.products, options.clicks, strict=True):
        sizes = ["--products", str(products), "--clicks", str(clicks)]
        subprocess.run([sys.executable, "-m", "benchmarks.shop_tables", *sizes], check=True)


if __name__ == "__main__":
    main()
