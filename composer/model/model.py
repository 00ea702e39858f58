"""A model: an expression, its species, its numbers, and the kernels that evaluate it."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from composer.algebra import Expression
from composer.codegen.layout import Layout
from composer.codegen.program import Program
from composer.errors import AlgebraError
from composer.ir.nodes import Node, add, parameter
from composer.model import programs
from composer.model.entries import E0, Entry, check, element_names, entries_of, known_of, table_of
from composer.model.jacobian import jacobian, site_jacobian
from composer.model.result import Jacobian, Result
from composer.model.structures import batch_of, by_structure, whole
from composer.model.totals import raw_totals
from composer.neighbors import Batch, all_positions, fold, virial
from composer.ops.operators import sites_of, words
from composer.quantities import Environment
from composer.runtime.kernel import Kernel, build, check_species, remembered

if TYPE_CHECKING:
    from composer.autograd import Module, Outputs
    from composer.calculator import Calculator
    from composer.data import Data
    from composer.evaluate import Errors
    from composer.export import Export


class Model:
    """An expression with numbers, callable on structures; immutable (`with_parameters` gives a new one that shares the kernels).

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
        self._kernels: dict[str, Kernel] = {}

    # ---- parameters

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

    def with_parameters(self, values: Mapping[str, Any] | Tensor) -> Model:
        """The same model with other numbers: tables by name, or the flat vector of the free ones."""
        if not isinstance(values, (Mapping, Tensor)):
            found = f"A {type(values).__name__} was given"
            raise AlgebraError("The numbers of a model were to be set", found, "Give {name: table}, or a torch tensor like model.theta")
        model = object.__new__(Model)
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

    def holding(self, keys: Collection[str]) -> Model:
        """The same model with the tables of these keys no longer free."""
        model = self.with_parameters({})
        model.entries = [replace(e, free=e.free and e.key not in keys) for e in self.entries]
        return model._without("free", "parameter_names", "staged")

    def part(self, node: Node) -> Model:
        """The same numbers under a part of the site energy."""
        model = self.with_parameters({})
        model.node, model._kernels = node, {}
        return model._without("halved", "staged")

    def _without(self, *derived: str) -> Model:
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

    def plan(self, structures: Any) -> str:
        """How the global operations of the model (Ewald sums) are done for structures, and what learned charges sum to: a line for each."""
        batch = self.prepare(structures)
        sites = sites_of(batch, batch.positions, batch.cells)
        found = [f"structure {s}: {line}" for s in range(batch.structures) for d in programs.sums(self.node) for line in words(d, sites, s)]
        raw = [f"structure {s}: raw total of {n} {q:+.3g} e" for n, t in raw_totals(self, structures).items() for s, q in enumerate(t)]
        return "\n".join(found + raw)

    def __repr__(self) -> str:
        return f"Model({self.expression}, species={list(self.species)}, P={self.size})"

    def __reduce__(self) -> tuple:
        known = {"domain": self.domain, "provenance": self.provenance, "covariance_root": self.covariance_root, "entries": self.entries}
        return _rebuild, (self.expression, self.species, self.flat.numpy()), known

    # ---- structures

    def prepare(self, structures: Any, skin: float = 0.0) -> Batch:
        """Structures (ASE Atoms, frames, or lists of them) with their neighbours; `skin` (Å) lets the list be reused."""
        return batch_of(structures, self.species, self.cutoff, skin, half=self.halved is not None)

    # ---- evaluation

    def __call__(self, structures: Any) -> Result:
        """Energy [S] eV, forces [N, 3] eV/Å, stress [S, 3, 3] eV/Å^3 and site energies [N] of structures or of a prepared Batch."""
        batch = structures if isinstance(structures, Batch) else self.prepare(structures)
        check_species(batch, len(self.species))
        positions = all_positions(batch)
        out = self.kernel("half" if batch.half else "forces")(batch, self.flat, positions)
        assert out.forces is not None
        site = out.site["e"][: batch.atoms]
        return Result(
            batch,
            by_structure(batch, site),
            fold(batch, out.forces),
            virial(batch, positions, out.forces, out.cells),
            lambda: self._energies(batch, site),
        )

    def _energies(self, batch: Batch, site: Tensor) -> Tensor:
        full = whole(batch)
        return site if full is batch else self.kernel("energies")(full, self.flat).site["e"][: batch.atoms]

    def jacobian(self, structures: Any, seeds: Tensor | None = None) -> Jacobian:
        """Derivatives of energy, forces and virial by the free parameters; `seeds` [N] weigh the site energies."""
        batch = structures if isinstance(structures, Batch) else self.prepare(structures)
        return jacobian(self.kernel, whole(batch), self.flat, self.free, self.staged, seeds)

    def site_jacobian(self, structures: Any) -> Tensor:
        """Derivatives of the site energies by the free parameters [N, P]."""
        batch = structures if isinstance(structures, Batch) else self.prepare(structures)
        return site_jacobian(self.kernel, whole(batch), self.flat, self.free.nonzero().flatten())

    @cached_property
    def staged(self) -> list[int] | None:
        """Free numbers whose columns are tangents (of several stages, or behind a layer of a network); None if no others have neighbours."""
        local, keys = programs.parts(self.node)
        slots = [self.layout.slots[e.key] for e in self.entries if e.key in keys and e.free]
        return None if local is None else [q for s in slots for q in range(s.offset, s.offset + s.size)]

    # ---- kernels

    @cached_property
    def halved(self) -> Node | None:
        """The energy for a list with each pair once, where the expression is a plain sum over pairs."""
        return programs.halved(self.node, self.per, len(self.species))

    def program(self, kind: str) -> Program:
        """The program of a kernel: forces, seeded, half, energies, parameters, gradient, tangent, columns."""
        return programs.program(kind, self.node, self.halved, self.per, len(self.species))

    def kernel(self, kind: str) -> Kernel:
        """The compiled kernel of a kind, built on first use."""
        if kind not in self._kernels:
            self._kernels[kind] = remembered(kind, self.node.key.hex(), lambda: self.program(kind), self.layout)
        return self._kernels[kind]

    def build(self, batch: Batch, kinds: Sequence[str] = ("forces", "energies", "parameters", "gradient", "tangent", "columns")) -> None:
        """Compile several kernels for the row length of a batch, side by side."""
        build([self.kernel(k) for k in kinds if k != "columns" or self.staged is not None], batch)

    def dump(self, kind: str = "forces") -> str:
        """The program of a kernel as text: values, outputs and loops of every stage, with parameters by their names."""
        from composer.codegen.dump import dump

        return dump(self.program(kind), {e.key: e.name for e in self.entries})

    # ---- doors

    def calculator(self, skin: float = 1.0, grades: Callable[[Batch], Any] | None = None) -> Calculator:
        """An ASE calculator: energy, forces, stress, energies, and grades of extrapolation by `fisher(...).grades`; its list has a skin (Å)."""
        from composer.calculator import Calculator

        return Calculator(self, skin, grades)

    def call(self, batch: Batch, positions: Tensor, cells: Tensor, parameters: Mapping[str, Tensor] | Tensor | None = None) -> Outputs:
        """Energy, forces, virial and site energies as functions that torch differentiates; see `composer.autograd.call`."""
        from composer.autograd import call

        return call(self, batch, positions, cells, parameters)

    def as_module(self) -> Module:
        """The model as a torch.nn.Module whose parameters carry their names, for torch optimisers."""
        from composer.autograd import as_module

        return as_module(self)

    def evaluate(self, data: Data | Sequence[Any]) -> Errors:
        """Errors on data: energy (meV/atom), forces (eV/Å), stress (GPa), by config_type and for the worst frame; printable."""
        from composer.evaluate import evaluate

        return evaluate(self, data)

    def export(self, path: str | Path, target: str | None = None) -> Export:
        """Write the model for another program, compared with the model first; see `composer.export.export`.

        Arguments: path, a folder, or a file nep.txt; target (c, lammps, gpumd, ...), by default gpumd for a file *.txt and else lammps.
        """
        from composer.export import export

        return export(self, path, target)

    def save(self, path: str | Path, provenance: Mapping[str, Any] | None = None) -> Path:
        """Write the model to a file that `composer.read_model` reads; provenance is JSON data that is added to the model's own."""
        from composer.modelfile import save

        return save(self, path, provenance)


def _rebuild(expression: Expression, species: tuple[str, ...], flat: np.ndarray) -> Model:
    model = Model(expression, species)
    model.flat = torch.from_numpy(flat.copy())
    return model
