"""Neighbours that wait to be fitted, as the journal keeps them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer.algebra import Expression
from composer.algebra import expression as expression_of
from composer.search.moves import normal
from composer.search.rank import Proposal

Array = NDArray[np.float64]
NAN = float("nan")


@dataclass(frozen=True, eq=False)
class Candidate:
    """A neighbour that waits to be fitted. Arguments: criterion that is predicted; change of it and gain, as of a `Proposal`."""

    key: str
    parent: str
    kind: str
    text: str
    expression: Expression
    criterion: float
    change: float
    gain: float
    parameters: int
    start: Array

    @classmethod
    def first(cls, expression: Expression, parameters: int) -> Candidate:
        """Where a search begins."""
        return cls(key_of(expression), "", "start", "", expression, NAN, NAN, NAN, parameters, np.zeros(0))

    @classmethod
    def of(cls, parent: str, row: Mapping[str, Any]) -> Candidate:
        """The candidate of a row of the journal."""
        found = expression_of(json.dumps(row["expression"]))
        criterion, change, gain, parameters = (row[name] for name in ("criterion", "change", "gain", "parameters"))
        return cls(key_of(found), parent, row["kind"], row["text"], found, criterion, change, gain, parameters, np.array(row["start"]))

    @property
    def place(self) -> str:
        """Under which key the journal keeps the fit: what prunes a winner is no part of the sequence of trials."""
        return f"prune-{self.key}" if self.kind == "prune" else self.key

    @property
    def shape(self) -> tuple:
        """What near copies share: where they come from, how, and the kinds of their terms."""
        return self.parent, self.kind, tuple(sorted(type(t).__name__ for t in self.expression.terms()))


def row(p: Proposal, base: float) -> dict[str, Any]:
    """A proposal as the journal keeps it. Arguments: base, criterion of the parent."""
    return {
        "kind": p.move.kind,
        "text": p.move.text,
        "expression": p.move.expression.data(),
        "criterion": float(p.change + base),
        "change": float(p.change),
        "gain": float(p.gain),
        "parameters": int(p.parameters),
        "start": p.start.tolist(),
    }


def key_of(expression: Expression) -> str:
    """The key of an expression: those that differ in names alone share it."""
    return normal(expression).digest
