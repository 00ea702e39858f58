"""What a search is asked for: its words, limits and seed."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import Any

from composer.algebra import Expression, is_number
from composer.data import By
from composer.errors import AlgebraError, DataError, check_whole
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
    by: By = "group"

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
            "by": self.by,
        }


def check_limits(budget: int, seconds: float | None, max_parameters: int, max_cost: float | None, folds: int, seed: int) -> None:
    """Refuse limits under which nothing can be found, before anything is built."""
    check_whole("A search", budget=(budget, 1), max_parameters=(max_parameters, 2), folds=(folds, 0), seed=(seed, 0))
    for name, limit in (("seconds", seconds), ("max_cost", max_cost)):
        if limit is not None and not (is_number(limit) and limit >= 0):
            raise DataError(f"A search with {name}={limit!r} was asked for", "It is a number from 0 on", f"Leave {name} out for no limit")


def check_words(vocabulary: Any, start: Any) -> list[Expression]:
    """The words of a vocabulary as a list. Errors: AlgebraError where there are none, or one is no expression."""
    words: list[Any] = list(vocabulary) if isinstance(vocabulary, Iterable) and not isinstance(vocabulary, str) else [vocabulary]
    strange = [w for w in (*words, *([] if start is None else [start])) if not isinstance(w, Expression)]
    if strange or not words:
        raise AlgebraError(
            "A search was asked for with words of its own",
            f"{strange[0]!r} is no expression" if strange else "There is no word among them",
            "Write vocabulary=[ZBL(), Pair(cutoff=6.0)], or leave it out",
        )
    return words
