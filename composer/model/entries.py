"""Parameter tables of a model: what an expression asks for, and the names of its numbers."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import torch
from torch import Tensor

from composer.algebra import Expression, Term
from composer.errors import AlgebraError, DataError
from composer.quantities import BoundParam, Environment, rows

E0 = "E0"


@dataclasses.dataclass(frozen=True)
class Entry:
    """One parameter table of a model: `key` in programs, `name` for people, rows chosen per `per`, further `shape`."""

    key: str
    name: str
    per: str
    shape: tuple[int, ...]
    unit: str
    start: Tensor  # [rows, *shape]
    free: bool
    positive: bool = False
    bounds: tuple[float, float] | None = None
    term: str = ""  # digest of the term


def check(expression: Expression, species: tuple[str, ...]) -> None:
    """Refuse what no model can be made of: expressions without terms or with a constant energy, unknown or repeated species."""
    from ase.data import atomic_numbers

    asked = f"A model of {expression!r} was asked for"
    if not isinstance(expression, Expression):
        advice = "Join terms by +: ZBL() + Pair(cutoff=5.0)"
        advice = f"Write composer.parse_expression({expression!r})" if isinstance(expression, str) else advice
        raise AlgebraError(asked, f"It is a {type(expression).__name__} and no expression", advice)
    if not expression.terms():
        raise AlgebraError(asked, "It holds no term", "Write for example Pair(cutoff=5.0)")
    if not species or len(set(species)) != len(species) or not set(species) <= set(atomic_numbers):
        meant = list(dict.fromkeys(str(s).capitalize() for s in species))
        advice = meant if meant and set(meant) <= set(atomic_numbers) else ["Si"]
        found = "They must be distinct chemical symbols"
        raise DataError(f"A model for the species {list(species)} was asked for", found, f"Write species={advice}")
    parts = getattr(expression, "parts", ())
    if any(not p.terms() for _, p in parts):
        raise AlgebraError(
            f"A constant energy was added to each atom in {expression}. E0 already holds the energy of an atom. Leave the constant out."
        )


def entries_of(expression: Expression, env: Environment) -> list[Entry]:
    """The tables of E0 and of every parameter of every term."""
    entries = [Entry(E0, E0, "species", (), "eV", torch.zeros(len(env.symbols), dtype=torch.float64), True)]
    labels = expression.labels()
    for term in expression.terms():
        entries += [_entry(term, name, labels[term.digest], env.symbols) for name in term.params()]
    return entries


def known_of(env: Environment) -> list[Entry]:
    """Tables of known numbers that terms asked for: part of the flat array, never fitted."""
    return [
        Entry(name, name, per, (), "", torch.tensor(values, dtype=torch.float64), False)
        for name, (per, values) in sorted(env.fixed.items())
    ]


def _entry(term: Term, name: str, label: str, symbols: tuple[str, ...]) -> Entry:
    param = term.params()[name]
    shape = tuple(int(getattr(term, s)) for s in param.shape)
    fixed = dict(term.fixed)
    value = fixed.get(name)
    start = np.full((rows(param.per, len(symbols)), *shape), param.default if value is None else value, dtype=float)
    if param.start and value is None:
        given = getattr(term, param.start)
        start[:] = np.asarray(given() if shape else given(symbols), dtype=float)
    return Entry(
        BoundParam(term, param).key,
        f"{label}.{name}",
        param.per,
        shape,
        param.unit,
        torch.from_numpy(start),
        param.fitted and name not in fixed,
        param.positive,
        param.bounds,
        term.digest,
    )


def element_names(entry: Entry, species: tuple[str, ...]) -> list[str]:
    """Names of the numbers of a table in their order, such as Pair.coefficients[Si-Si,0]."""
    rows_ = _row_names(entry.per, species)
    inner = [",".join(map(str, i)) for i in np.ndindex(*entry.shape)] if entry.shape else [""]
    return [entry.name + (f"[{text}]" if (text := ",".join(p for p in (r, i) if p)) else "") for r in rows_ for i in inner]


def _row_names(per: str, species: tuple[str, ...]) -> list[str]:
    s = range(len(species))
    pairs = [(a, b) for a in s for b in s if a <= b]
    keys: list[tuple[int, ...]] = {
        "model": [()],
        "species": [(a,) for a in s],
        "pair": pairs,
        "ordered pair": [(a, b) for a in s for b in s],
        "triplet": [(a, *p) for a in s for p in pairs],
        "ordered triplet": [(a, b, c) for a in s for b in s for c in s],
        "unlike triplet": [(a, b, c) for a in s for b, c in pairs if b != c],
    }[per]
    return ["-".join(species[k] for k in key) for key in keys]


def table_of(name: str, value: Any, table: Tensor) -> Tensor:
    """A user's value of a parameter: one number, or as many as the table holds."""
    try:
        new = torch.as_tensor(value, dtype=torch.float64)
    except (TypeError, ValueError, RuntimeError) as error:
        raise AlgebraError(f"Parameter {name!r} was to be set", f"{value!r} are no numbers", "Give numbers") from error
    if not bool(torch.isfinite(new).all()):
        raise AlgebraError(f"Parameter {name!r} was to be set to numbers that are not finite. Found {value}. Give finite numbers.")
    if new.dim() and new.numel() != table.numel():
        found = f"{new.numel()} numbers were given, and it holds {table.numel()}, of shape {list(table.shape)}"
        raise AlgebraError(f"Parameter {name!r} was to be set", found, "Give one number, or a table of that shape")
    return new
