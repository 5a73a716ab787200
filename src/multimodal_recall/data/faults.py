"""Count faults by kind, so that a thousand faults of one kind are one line and not a thousand."""

import re
from collections import Counter
from dataclasses import dataclass, field

VARYING = re.compile(r"'[^']*'|\"[^\"]*\"|-?(?:\d[\d.,e+-]*|\binf\b)")
"""What differs between two faults of one kind: quoted texts and numbers."""


@dataclass
class FaultCounts:
    """Number of faults of each kind; faults are of one kind if their reasons differ in texts and numbers alone."""

    counts: Counter[str] = field(default_factory=Counter)
    first: dict[str, str] = field(default_factory=dict)
    """The first fault of each kind, with its place."""

    def add(self, reason: str, place: str = "") -> None:
        """Count a fault."""
        kind = VARYING.sub("#", reason)
        self.counts[kind] += 1
        self.first.setdefault(kind, f"{place}: {reason}" if place else reason)

    def total(self) -> int:
        """Count the faults of all kinds."""
        return self.counts.total()

    def most_common(self, kinds: int) -> list[str]:
        """Describe the most frequent kinds, each by its count and its first fault."""
        common = self.counts.most_common(kinds)
        return [f"{count:,} x {'such as ' * (count > 1)}{self.first[kind]}" for kind, count in common]
