"""What a search is asked for: its words, limits and seed."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from composer.algebra import Expression
from composer.errors import DataError
from composer.fit.weights import Weights


@dataclass(frozen=True, eq=False)
class Settings:
    """What a result depends on, beside the data."""

    vocabulary: list[Expression]
    start: Expression | None
    weights: Weights | None
    max_parameters: int
    max_cost: float | None
    folds: int
    seed: int

    def data(self) -> dict[str, Any]:
        """The settings as JSON data; the order of the vocabulary is no part of them."""
        return {
            "vocabulary": sorted({w.canonical for w in self.vocabulary}),
            "start": None if self.start is None else self.start.canonical,
            "weights": None if self.weights is None else asdict(self.weights),
            "max_parameters": self.max_parameters,
            "max_cost": self.max_cost,
            "folds": self.folds,
            "seed": self.seed,
        }


def check_limits(budget: int, seconds: float | None, max_parameters: int, max_cost: float | None, folds: int) -> None:
    """Refuse limits under which nothing can be found, before anything is built."""
    least = {"budget": (budget, 1), "max_parameters": (max_parameters, 2), "folds": (folds, 0)}
    for name, (value, bound) in least.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < bound:
            raise DataError(f"A search with {name}={value!r} was asked for", f"It is a whole number from {bound} on", f"Leave {name} out")
    for name, limit in (("seconds", seconds), ("max_cost", max_cost)):
        if limit is not None and not limit >= 0:
            raise DataError(f"A search with {name}={limit!r} was asked for", "It is not negative", f"Leave {name} out for no limit")
