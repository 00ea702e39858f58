"""A model: an expression, its species, its numbers, and the kernels that evaluate it."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from functools import cached_property
from math import prod
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from composer.algebra import Expression, Term
from composer.codegen import program as programs
from composer.codegen.jacobian import columns
from composer.codegen.layout import Layout
from composer.codegen.program import Program
from composer.errors import AlgebraError, DataError
from composer.ir import nodes
from composer.ir.indices import Neighbor, Range, neighbors
from composer.ir.nodes import Node, add, parameter
from composer.neighbors import Batch, all_positions, build_batch, fold, update, virial
from composer.quantities import Environment
from composer.runtime.kernel import Kernel, build, check_species, remembered

if TYPE_CHECKING:
    from composer.autograd import Module, Outputs
    from composer.calculator import Calculator
    from composer.data import Data
    from composer.evaluate import Errors

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


@dataclasses.dataclass(frozen=True)
class Result:
    """Energies and their derivatives for a batch of S structures and N atoms."""

    batch: Batch
    energy: Tensor  # eV [S]
    forces: Tensor  # eV/Å [N, 3]
    virial: Tensor  # eV [S, 3, 3], minus the derivative by strain
    _site: Any

    @property
    def stress(self) -> Tensor:
        """Stress dE/dstrain / V in eV/Å^3 [S, 3, 3], positive under tension; refused for structures without three periodic directions."""
        open_ = (~self.batch.pbc.all(1)).nonzero().flatten().tolist()
        if open_:
            raise DataError(
                f"The stress of structure {open_[0]} was asked for. It is not periodic in three directions, so it has no volume. Use .virial (eV) instead."
            )
        volume = torch.linalg.det(self.batch.cells).abs()
        return -self.virial / volume[:, None, None]

    @cached_property
    def energies(self) -> Tensor:
        """Site energies in eV [N]."""
        return self._site()


@dataclasses.dataclass(frozen=True)
class Jacobian:
    """Derivatives of observables by the P free parameters."""

    energy: Tensor  # [S, P], eV per unit of the parameter
    forces: Tensor  # [N, 3, P]
    virial: Tensor  # [S, 3, 3, P], eV
    volume: Tensor  # [S], Å^3 (NaN where a structure is not periodic in three directions)

    @property
    def stress(self) -> Tensor:
        """[S, 3, 3, P], sign of ASE."""
        return -self.virial / self.volume[:, None, None, None]


def compile(expr: Expression, species: Sequence[str], parameters: Mapping[str, Any] | None = None, quiet: bool = False) -> Model:
    """Make a model of an expression for these species.

    Arguments: expr, an expression of terms; species, chemical symbols; parameters, values by name to start from; quiet, print nothing.
    Returns: a Model. Kernels are built when they are first needed.
    Errors: AlgebraError when the expression has no terms, an unknown species or a constant at its root.
    """
    model = Model(expr, species)
    if not quiet:
        print(model.describe())
    return model if parameters is None else model.with_parameters(parameters)


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
        _check(expression, self.species)
        env = Environment(self.species)
        self.node: Node = add(parameter(E0, ("i",)), expression.site(env))
        self.entries = _entries(expression, env)
        self.known = _known(env)
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
        model = object.__new__(Model)
        model.__dict__.update(self.__dict__)
        model.provenance, model.covariance_root = {}, None
        model.flat = self.flat.clone()
        if isinstance(values, Tensor):
            model.flat[self.free] = values.to(torch.float64)
            return model
        names = {e.name: e for e in self.entries}
        for name, value in values.items():
            if name not in names:
                raise AlgebraError(f"Parameter {name!r} was to be set. This model has {', '.join(names)}. Use one of these names.")
            table = model._table(names[name], model.flat)
            new = torch.as_tensor(value, dtype=torch.float64)
            if not bool(torch.isfinite(new).all()):
                raise AlgebraError(f"Parameter {name!r} was to be set to numbers that are not finite. Found {value}. Give finite numbers.")
            table.copy_(new.expand_as(table) if new.dim() == 0 else new.reshape(table.shape))
        return model

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
        names = [n for e in (*self.entries, *self.known) for n in _element_names(e, self.species)]
        return [n for n, keep in zip(names, self.free.tolist(), strict=True) if keep]

    @property
    def size(self) -> int:
        """P, the number of fitted real numbers (E0 included)."""
        return int(self.free.sum())

    @property
    def cutoff(self) -> float:
        """The largest distance at which atoms see each other (Å)."""
        return max((i.cutoff for n in _everything(self.node) for i in n.free if isinstance(i, Neighbor)), default=1.0)

    def describe(self) -> str:
        """The expression, its terms and their parameters, and P."""
        lines = [
            f"E = E0 + {self.expression}",
            f"species {', '.join(self.species)}; cutoff {self.cutoff:g} Å; P = {self.size} fitted numbers",
        ]
        for entry in self.entries:
            count = self.layout.slots[entry.key].size
            lines.append(f"  {entry.name:32s} {count:5d}  {entry.unit:10s} {'fitted' if entry.free else 'fixed'}, per {entry.per}")
        uses = [type(t).__name__ for t in self.expression.terms() if sum(t == w for w in self.expression.walk()) > 1]
        return "\n".join(lines + ([f"  tied (one set of parameters): {', '.join(uses)}"] if uses else []))

    def __repr__(self) -> str:
        return f"Model({self.expression}, species={list(self.species)}, P={self.size})"

    def __reduce__(self) -> tuple:
        known = {"domain": self.domain, "provenance": self.provenance, "covariance_root": self.covariance_root}
        return _rebuild, (self.expression, self.species, self.flat.numpy()), known

    # ---- structures

    def prepare(self, structures: Any, skin: float = 0.0) -> Batch:
        """Structures (ASE Atoms, frames, or lists of them) with their neighbours; `skin` (Å) lets the list be reused."""
        items = structures if isinstance(structures, Sequence) else [structures]
        numbered = [_numbered(s, n, self.species) for n, s in enumerate(items)]
        return build_batch(numbered, self.cutoff, skin, half=self.halved is not None)

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
            _by_structure(batch, site),
            fold(batch, out.forces),
            virial(batch, positions, out.forces),
            lambda: self._energies(batch, site),
        )

    def _energies(self, batch: Batch, site: Tensor) -> Tensor:
        full = self._full(batch)
        return site if full is batch else self.kernel("energies")(full, self.flat).site["e"][: batch.atoms]

    def _full(self, batch: Batch) -> Batch:
        """The batch with each pair listed at both atoms."""
        if not batch.half:
            return batch
        offsets = batch.offsets.tolist()
        pieces = [slice(a, b) for a, b in zip(offsets, offsets[1:], strict=False)]
        x, z, cells, pbc = batch.built_positions.numpy(), batch.species.numpy(), batch.built_cells.numpy(), batch.pbc.numpy()
        full = build_batch([(z[p], x[p], cells[s], pbc[s]) for s, p in enumerate(pieces)], batch.cutoff, batch.skin)
        return update(full, batch.positions, batch.cells)

    def jacobian(self, structures: Any, seeds: Tensor | None = None) -> Jacobian:
        """Derivatives of energy, forces and virial by the free parameters; `seeds` [N] weigh the site energies."""
        batch = self._full(structures if isinstance(structures, Batch) else self.prepare(structures))
        atoms, structures_ = batch.atoms, batch.structures
        ones = torch.ones(atoms, dtype=torch.float64) if seeds is None else seeds.to(torch.float64)
        energy = torch.zeros(structures_, self.layout.size, dtype=torch.float64)
        self.kernel("parameters")(batch, self.flat, inputs={"seed": ones}, into=(None, energy), by_structure=True)
        if not self.factored:
            forces, strained = self._columns_by_tangents(batch)
        else:
            forces = torch.zeros(self.layout.size, atoms, 3, dtype=torch.float64)
            voigt = torch.zeros(self.layout.size, structures_, 6, dtype=torch.float64)
            self.kernel("columns")(batch, self.flat, inputs={"seed": ones}, into=(forces, voigt))
            strained = voigt[:, :, [0, 5, 4, 5, 1, 3, 4, 3, 2]].reshape(-1, structures_, 3, 3)
        volume = torch.where(batch.pbc.all(1), torch.linalg.det(batch.cells).abs(), torch.nan)
        free = self.free
        return Jacobian(energy[:, free], forces[free].permute(1, 2, 0), strained[free].permute(1, 2, 3, 0), volume)

    def _columns_by_tangents(self, batch: Batch) -> tuple[Tensor, Tensor]:
        forces, strained = [], []
        x = all_positions(batch)
        still = torch.zeros_like(x)
        for q in range(self.layout.size):
            unit = torch.zeros_like(self.flat)
            unit[q] = 1.0
            out = self.kernel("tangent")(batch, self.flat, x, tangents=unit, moves=still)
            assert out.forces is not None
            forces.append(fold(batch, out.forces))
            strained.append(virial(batch, x, out.forces))
        return torch.stack(forces), torch.stack(strained)

    # ---- kernels

    @cached_property
    def factored(self) -> bool:
        """Whether one kernel gives all columns of the Jacobian through sums over neighbours: one stage, and no layer of a network in it.

        In a layer every column depends on every sum, and there is nothing to share; each column is then a tangent.
        """
        layered = any(
            n.op in nodes.FUNCTIONS and any(isinstance(i, Range) for i in n.free) and not neighbors(n.free) for n in _everything(self.node)
        )
        return not layered and not any(n.op == "near" for n in _everything(self.node))

    @cached_property
    def halved(self) -> Node | None:
        """The energy for a list with each pair once, where the expression is a plain sum over pairs."""
        per = self.per
        alone = len(self.species) == 1

        def symmetric(leaf: Node) -> bool:
            if leaf.op not in ("param", "param_t"):
                return True
            return alone or per[leaf.data[0]] in ("model", "pair") or leaf.data[0] == E0

        return programs.halved(self.node, symmetric)

    def program(self, kind: str) -> Program:
        """The program of a kernel: forces, half, energies, gradient, parameters, tangent, columns."""
        match kind:
            case "forces":
                return programs.forces(self.node)
            case "seeded":
                return programs.forces(self.node, seeded=True)
            case "half":
                assert self.halved is not None
                return programs.forces(self.halved)
            case "energies":
                return programs.energies(self.node)
            case "parameters":
                return programs.parameters(self.node)
            case "gradient":
                return programs.gradient(self.node)
            case "tangent":
                return programs.tangent(self.node)
            case "columns":
                seeded = programs.site_input("seed") * self.node
                return Program([[columns(seeded, self.per, len(self.species))]], {0: []}, {0: []})  # type: ignore[list-item]
        raise AlgebraError(
            f"A kernel {kind!r} was asked for. Known are forces, seeded, half, energies, parameters, gradient, tangent, columns. Use one of these."
        )

    def kernel(self, kind: str) -> Kernel:
        """The compiled kernel of a kind, built on first use."""
        if kind not in self._kernels:
            self._kernels[kind] = remembered(kind, self.node.key.hex(), lambda: self.program(kind), self.layout)
        return self._kernels[kind]

    def build(self, batch: Batch, kinds: Sequence[str] = ("forces", "energies", "parameters", "gradient", "tangent", "columns")) -> None:
        """Compile several kernels for the row length of a batch, side by side."""
        build([self.kernel(k) for k in kinds if k != "columns" or self.factored], batch)

    def dump(self, kind: str = "forces") -> str:
        """The program of a kernel as text: values, outputs and loops of every stage, with parameters by their names."""
        from composer.codegen.dump import dump

        return dump(self.program(kind), {e.key: e.name for e in self.entries})

    # ---- doors

    def calculator(self, skin: float = 1.0) -> Calculator:
        """An ASE calculator: energy, forces, stress, energies; the list of neighbours has a skin (Å) and is reused."""
        from composer.calculator import Calculator

        return Calculator(self, skin)

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

    def export(self, path: str | Path, neighbors: tuple[int, int] | None = None) -> Path:
        """Write the model to a nep.txt file for GPUMD, calorine and NEP_CPU; see `composer.export.nep.write_nep`."""
        from composer.export.nep import write_nep

        return write_nep(self, path, neighbors)

    def save(self, path: str | Path, provenance: Mapping[str, Any] | None = None) -> Path:
        """Write the model to a file that `composer.read_model` reads; provenance is JSON data that is added to the model's own."""
        from composer.modelfile import save

        return save(self, path, provenance)


def _rebuild(expression: Expression, species: tuple[str, ...], flat: np.ndarray) -> Model:
    model = Model(expression, species)
    model.flat = torch.from_numpy(flat.copy())
    return model


def _by_structure(batch: Batch, site: Tensor) -> Tensor:
    if batch.structures == 1:
        return site.sum().reshape(1)
    total = torch.zeros(batch.structures, dtype=torch.float64)
    home = torch.repeat_interleave(torch.arange(batch.structures), batch.offsets.diff())
    return total.index_add_(0, home, site)


def _check(expression: Expression, species: tuple[str, ...]) -> None:
    from ase.data import atomic_numbers

    if not isinstance(expression, Expression) or not expression.terms():
        raise AlgebraError(f"A model of {expression!r} was asked for. It holds no term. Write for example Pair(cutoff=5.0).")
    unknown = [s for s in species if s not in atomic_numbers]
    if not species or unknown or len(set(species)) != len(species):
        raise DataError(
            f"A model for the species {list(species)} was asked for. They must be distinct chemical symbols. Write species=['Si']."
        )
    parts = getattr(expression, "parts", ())
    if any(not p.terms() for _, p in parts):
        raise AlgebraError(
            f"A constant energy was added to each atom in {expression}. E0 already holds the energy of an atom. Leave the constant out."
        )


def _entries(expression: Expression, env: Environment) -> list[Entry]:
    count = len(env.symbols)
    entries = [Entry(E0, E0, "species", (), "eV", torch.zeros(count, dtype=torch.float64), True)]
    labels = expression.labels()
    for term in expression.terms():
        entries += [_entry(term, name, labels[term.digest], count) for name in term.params()]
    return entries


def _known(env: Environment) -> list[Entry]:
    """Tables of known numbers that terms asked for: part of the flat array, never fitted."""
    return [
        Entry(name, name, per, (), "", torch.tensor(values, dtype=torch.float64), False)
        for name, (per, values) in sorted(env.fixed.items())
    ]


def _entry(term: Term, name: str, label: str, species: int) -> Entry:
    from composer.quantities import BoundParam, rows

    param = term.params()[name]
    shape = tuple(int(getattr(term, s)) for s in param.shape)
    fixed = dict(term.fixed)
    value = fixed.get(name)
    start = np.full((rows(param.per, species), *shape), param.default if value is None else value, dtype=float)
    if param.start and value is None:
        start[:] = np.asarray(getattr(term, param.start)(), dtype=float)
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


def _element_names(entry: Entry, species: tuple[str, ...]) -> list[str]:
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


def _everything(root: Node) -> list[Node]:
    seen: dict[Node, None] = {}
    pending = [root]
    while pending:
        node = pending.pop()
        if node not in seen:
            seen[node] = None
            pending.extend(node.args)
    return list(seen)


def _numbered(structure: Any, place: int, species: tuple[str, ...]) -> tuple:
    """Species numbers, positions, cell, pbc of an ASE Atoms or a frame."""
    symbols = structure.get_chemical_symbols() if hasattr(structure, "get_chemical_symbols") else list(structure.symbols)
    number = {s: n for n, s in enumerate(species)}
    unknown = sorted(set(symbols) - set(number))
    if unknown:
        raise DataError(
            f"Structure {place} holds {', '.join(unknown)}. The model knows {', '.join(species)}. Compile it with species={[*species, *unknown]}."
        )
    cell = np.asarray(structure.cell[:], dtype=float)
    return (
        np.array([number[s] for s in symbols], dtype=np.int32),
        np.asarray(structure.positions, dtype=float),
        cell,
        np.asarray(structure.pbc, dtype=bool),
    )


__all__ = ["E0", "Entry", "Jacobian", "Model", "Result", "compile", "prod"]
