"""Expressions from their JSON: only registered terms are built, nothing is evaluated."""

from __future__ import annotations

import dataclasses
import json
from typing import Any

from composer.algebra.functions import Function
from composer.algebra.operators import Constant, Expression, Product, Sum, is_number
from composer.algebra.term import REGISTRY, Term, tuples
from composer.errors import AlgebraError


def expression(text: str) -> Expression:
    """The expression of a JSON text written by `Expression.json()`; only registered terms are built, nothing is evaluated."""
    try:
        content = json.loads(text)
        return from_data(content["expression"] if isinstance(content, dict) and "expression" in content else content)
    except (json.JSONDecodeError, KeyError, TypeError, ValueError, RecursionError) as error:
        raise AlgebraError(
            f"An expression was to be read from JSON. Found {text[:80]!r} ({error}). Use text written by expr.json()."
        ) from None


def from_data(data: Any) -> Expression:
    if is_number(data):
        return Constant(float(data))
    if "sum" in data:
        return Sum.of([(float(f), from_data(p)) for f, p in data["sum"]])
    if "product" in data:
        return Product.of([b for base, n in data["product"] for b in [from_data(base)] * int(n)])
    if "function" in data:
        return Function(str(data["function"]), from_data(data["of"]))
    return _term_from(dict(data))


def _term_from(data: dict[str, Any]) -> Term:
    kind = data.pop("term")
    if kind not in REGISTRY:
        raise AlgebraError(
            f"A term named {kind!r} was asked for. Known are {', '.join(sorted(REGISTRY))}. Import the module that defines it, or mend the name."
        )
    cls = REGISTRY[kind]
    known = {f.name for f in dataclasses.fields(cls)}
    if set(data) - known:
        raise AlgebraError(f"{kind} was asked for with {sorted(set(data) - known)}. Its fields are {sorted(known)}. Mend the file.")
    values: dict[str, Any] = {
        k: from_data(v) if isinstance(v, dict) and ({"term", "sum", "product", "function"} & set(v)) else tuples(v) for k, v in data.items()
    }
    return cls(**values)
