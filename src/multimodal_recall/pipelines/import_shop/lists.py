"""Draw candidate lists in which the number of lists that hold a product says nothing about whether it is right.

In the contest's lists the wrong products came from a pool that many lists shared, and the right ones did not: counting
lists found the right ones. Here each right product of a list brings equally many wrong ones along:

- A product that is right in r lists of a split stands as wrong in k r other lists of the split: k is the same for all.
- Each such product has d doubles, products that are right in no list. A double stands in as many lists of each split as
  its product, and is wrong in all of them.

So among the candidates that stand in any number of lists, of this split or of both, the same share is right: 1 of
(1 + k) (1 + d). Which list a wrong product goes to is drawn, then changed by swaps between two lists, which keep all
counts: a swap is made if both lists look harder after it.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd

MOST_DOUBLES = 4
TRIES = 200
"""Places that are tried for a product that its place does not take."""
SWAPS_PER_PLACE = 100


@dataclass(frozen=True)
class Plan:
    """The lists of a split, before wrong products are given to them: n lists, p products of all lists."""

    right: np.ndarray
    """(n, p) bool: the right products of each list."""
    barred: np.ndarray
    """(n, p) bool: the products that a list must not hold as wrong, the right ones among them."""
    places: np.ndarray
    """(n,) wrong products that each list holds."""
    uses: np.ndarray
    """(p,) lists in which each product stands as wrong."""


def limit_right(right: pd.DataFrame, most: int, lists: int, random: np.random.Generator) -> pd.DataFrame:
    """Keep a product right in at most ``most`` of a split's lists, drawn: a best seller leaves no list to be wrong in.

    ``right`` has a row a list and right product (``query_id``, ``product_id``).
    """
    drawn = right.assign(draw=random.random(len(right)))
    kept = drawn.groupby("product_id")["draw"].rank() <= max(1, min(most, lists))
    return right[kept]


def choose_doubles(
    products: pd.Series, others: pd.Series, count: int, random: np.random.Generator
) -> dict[int, np.ndarray]:
    """Draw ``count`` doubles for each product, of the same category where there are enough.

    Args:
        products: Category of each product that is right in some list, by id.
        others: Category of each product that is right in none, by id; at least ``count`` times as many.
        count: d of the module's docstring.
        random: The stream of draws.
    """
    wanted = products.loc[np.repeat(products.index, count)].to_frame("category")
    spare = others.sample(frac=1, random_state=random).to_frame("category")
    for table in (wanted, spare):
        table["turn"] = table.groupby("category", dropna=False).cumcount()
    spare = spare.rename_axis("double").reset_index()
    paired = wanted.rename_axis("product").reset_index().merge(spare, on=["category", "turn"], how="left")
    left = spare[~spare["double"].isin(paired["double"])]["double"].to_numpy()
    missing = paired["double"].isna().to_numpy()
    doubles = paired["double"].fillna(0).to_numpy(np.int64).copy()
    doubles[missing] = left[: missing.sum()]
    rows = paired.groupby("product").indices
    return {product: doubles[rows.get(product, [])] for product in products.index}


def place_wrong(
    plan: Plan, closeness: np.ndarray, hard_share: float, random: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Give the wrong products to the lists.

    Args:
        plan: The lists.
        closeness: (n, p) how much each product looks right for each list.
        hard_share: Share of the places whose products are swapped until they look right.
        random: The stream of draws.

    Returns:
        List (w,) and product (w,) of each wrong candidate. A product that no list can take any more is left out, so
        that a list may be shorter than planned.
    """
    lists = random.permutation(np.repeat(np.arange(len(plan.places)), plan.places))
    items = np.repeat(np.arange(len(plan.uses)), plan.uses)
    held, kept = plan.barred.copy(), np.zeros(len(lists), bool)
    for place in range(len(lists)):
        kept[place] = _take(place, lists, items, held, kept, random)
    lists, items = lists[kept], items[kept]
    _make_harder(lists, items, held, closeness, hard_share, random)
    return lists, items


def _take(
    place: int, lists: np.ndarray, items: np.ndarray, held: np.ndarray, kept: np.ndarray, random: np.random.Generator
) -> bool:
    """Put a product into its list; where the list holds it already, swap lists with another place."""
    if not held[lists[place], items[place]]:
        held[lists[place], items[place]] = True
        return True
    for other in random.integers(len(lists), size=TRIES):
        mine, its = lists[place], lists[other]
        freed = kept[other] and not held[mine, items[other]]
        if not held[its, items[place]] and (freed or other > place):
            if kept[other]:
                held[its, items[other]], held[mine, items[other]] = False, True
            lists[place], lists[other] = its, mine
            held[its, items[place]] = True
            return True
    return False


def _make_harder(
    lists: np.ndarray,
    items: np.ndarray,
    held: np.ndarray,
    closeness: np.ndarray,
    hard_share: float,
    random: np.random.Generator,
) -> None:
    """Swap products between pairs of lists where the sum of their closeness grows; counts stay."""
    table = _by_list(random.permutation(len(lists)), lists, len(held), hard_share)
    widths = (table >= 0).sum(axis=1)
    busy = np.flatnonzero(widths)
    for _ in range(SWAPS_PER_PLACE * int(widths.max(initial=0))):
        half = len(busy) // 2
        one, two = random.permutation(busy)[: 2 * half].reshape(2, half)
        here, there = (table[rows, random.integers(widths[rows])] for rows in (one, two))
        mine, its = items[here], items[there]
        gain = closeness[one, its] + closeness[two, mine] - closeness[one, mine] - closeness[two, its]
        good = (gain > 0) & ~held[one, its] & ~held[two, mine]
        one, two, here, there, mine, its = (values[good] for values in (one, two, here, there, mine, its))
        held[one, mine] = held[two, its] = False
        held[one, its] = held[two, mine] = True
        items[here], items[there] = its, mine


def _by_list(places: np.ndarray, lists: np.ndarray, count: int, share: float) -> np.ndarray:
    """Put a share of each list's places into a row (count, most); -1 where a row has fewer."""
    order = places[np.argsort(lists[places], kind="stable")]
    sizes = np.bincount(lists, minlength=count)
    turn = np.arange(len(order)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    kept = turn < np.round(share * sizes)[lists[order]]
    table = np.full((count, int(turn[kept].max(initial=-1)) + 1), -1)
    table[lists[order[kept]], turn[kept]] = order[kept]
    return table
