"""An expression with numbers: tables of parameters by name, the free ones as one vector."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor

from composer.algebra import Expression
from composer.codegen.layout import Layout
from composer.errors import AlgebraError
from composer.ir.nodes import Node, add, parameter
from composer.model import programs
from composer.model.entries import E0, Entry, check, element_names, entries_of, known_of, table_of
from composer.quantities import Environment


class Numbers:
    """An expression for species, with its numbers; immutable (`with_parameters` gives a new one that shares the kernels).

    A fit leaves what it knows: domain, shortest distance (Å) of the data by pair {"Si-Si": 2.1}; provenance, JSON data; covariance_root
    C [P, n] with covariance C C^T of theta. The last two belong to these numbers and are not carried to others.
    """

    domain: dict[str, float] = {}
    provenance: dict[str, Any] = {}
    covariance_root: Any = None

    def __init__(self, expression: Expression, species: Sequence[str]) -> None:
        self.expression, self.species = expression, tuple(species)
        check(expression, self.species)
        env = Environment(self.species)
        self.node: Node = add(parameter(E0, ("i",)), expression.site(env))
        self.entries = entries_of(expression, env)
        self.known = known_of(env)
        self.layout = Layout([(e.key, e.per, e.shape) for e in (*self.entries, *self.known)], len(self.species))
        self.flat = torch.cat([e.start.reshape(-1) for e in (*self.entries, *self.known)]).contiguous()  # [P all]
        self._kernels: dict[str, Any] = {}

    @property
    def per(self) -> dict[str, str]:
        """How the species choose the rows of each table, by key."""
        return {e.key: e.per for e in (*self.entries, *self.known)}

    @property
    def parameters(self) -> dict[str, Tensor]:
        """All parameter tables by name; physical values."""
        return {e.name: self._table(e).clone() for e in self.entries}

    def _table(self, entry: Entry, flat: Tensor | None = None) -> Tensor:
        slot = self.layout.slots[entry.key]
        shape = (*(() if entry.per == "model" else (slot.rows,)), *entry.shape)
        return (self.flat if flat is None else flat)[slot.offset : slot.offset + slot.size].reshape(shape)

    def with_parameters(self, values: Mapping[str, Any] | Tensor) -> Self:
        """The same model with other numbers: tables by name, or the flat vector of the free ones."""
        if not isinstance(values, (Mapping, Tensor)):
            found = f"A {type(values).__name__} was given"
            raise AlgebraError("The numbers of a model were to be set", found, "Give {name: table}, or a torch tensor like model.theta")
        model = object.__new__(type(self))
        model.__dict__.update(self.__dict__)
        model.provenance, model.covariance_root = {}, None
        model.flat = self.flat.clone()
        if isinstance(values, Tensor):
            if values.shape != (self.size,):
                found = f"They have the shape {list(values.shape)}, and the model has {self.size} free numbers"
                raise AlgebraError("The free numbers of a model were to be set", found, "Give a vector like model.theta")
            model.flat[self.free] = values.to(torch.float64)
            return model
        names = {e.name: e for e in self.entries}
        for name, value in values.items():
            if name not in names:
                raise AlgebraError(f"Parameter {name!r} was to be set. This model has {', '.join(names)}. Use one of these names.")
            table = model._table(names[name], model.flat)
            new = table_of(name, value, table)
            table.copy_(new.expand_as(table) if new.dim() == 0 else new.reshape(table.shape))
        return model

    def holding(self, keys: Collection[str]) -> Self:
        """The same model with the tables of these keys no longer free."""
        model = self.with_parameters({})
        model.entries = [replace(e, free=e.free and e.key not in keys) for e in self.entries]
        return model._without("free", "parameter_names", "staged")

    def part(self, node: Node) -> Self:
        """The same numbers under a part of the site energy."""
        model = self.with_parameters({})
        model.node, model._kernels = node, {}
        return model._without("halved", "staged")

    def _without(self, *derived: str) -> Self:
        """Forget what was derived from what a new model has otherwise."""
        for name in derived:
            self.__dict__.pop(name, None)
        return self

    @cached_property
    def free(self) -> Tensor:
        """Which numbers of the flat array are fitted [P all]."""
        return torch.cat([torch.full((self.layout.slots[e.key].size,), e.free) for e in (*self.entries, *self.known)])

    @property
    def theta(self) -> Tensor:
        """The free numbers [P]."""
        return self.flat[self.free]

    @cached_property
    def parameter_names(self) -> list[str]:
        """Names of the free numbers, in the order of `theta` and of Jacobian columns."""
        names = [n for e in (*self.entries, *self.known) for n in element_names(e, self.species)]
        return [n for n, keep in zip(names, self.free.tolist(), strict=True) if keep]

    def each(self, value: Callable[[Entry], Any]) -> np.ndarray:
        """What holds for an entry, for each of the free numbers [P]."""
        return np.concatenate([np.full(self.layout.slots[e.key].size, value(e)) for e in self.entries if e.free])

    @property
    def size(self) -> int:
        """P, the number of fitted real numbers (E0 included)."""
        return int(self.free.sum())

    @property
    def cutoff(self) -> float:
        """The largest distance at which atoms see each other (Å)."""
        return programs.cutoff(self.node)

    def describe(self) -> str:
        """The expression, its terms and their parameters, and P."""
        lines = [
            f"E = E0 + {self.expression}",
            f"species {', '.join(self.species)}; cutoff {self.cutoff:g} Å; P = {self.size} fitted numbers",
        ]
        for entry in self.entries:
            count = self.layout.slots[entry.key].size
            if not count:  # for several species only
                continue
            lines.append(f"  {entry.name:32s} {count:5d}  {entry.unit:10s} {'fitted' if entry.free else 'fixed'}, per {entry.per}")
        uses = [type(t).__name__ for t in self.expression.terms() if sum(t == w for w in self.expression.walk()) > 1]
        return "\n".join(lines + ([f"  tied (one set of parameters): {', '.join(uses)}"] if uses else []))

    def __repr__(self) -> str:
        return f"Model({self.expression}, species={list(self.species)}, P={self.size})"


__all__ = ["Numbers"]
