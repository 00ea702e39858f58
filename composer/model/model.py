"""A model: an expression, its species, its numbers, and the kernels that evaluate it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from torch import Tensor

from composer.algebra import Expression
from composer.codegen.program import Program
from composer.ir.nodes import Node
from composer.model import programs
from composer.model.jacobian import along, gradient, jacobian, rows, site_jacobian
from composer.model.numbers import Numbers
from composer.model.placed import Placed
from composer.model.result import Jacobian, Result
from composer.model.structures import batch_of, by_structure, refuse_overlap, whole
from composer.model.totals import raw_totals
from composer.neighbors import Batch, all_positions, fold, virial
from composer.ops.operators import sites_of, words
from composer.runtime.kernel import Kernel, build, check_species, remembered
from composer.runtime.memory import installed

if TYPE_CHECKING:
    from composer.autograd import Module, Outputs
    from composer.calculator import Calculator
    from composer.data import Data
    from composer.evaluate import Errors
    from composer.export import Export


class Model(Numbers):
    """An expression with numbers, callable on structures; immutable (`with_parameters` gives a new one that shares the kernels)."""

    places_images = True  # whether its kernels take positions of periodic images beside those of atoms

    @property
    def host(self) -> Model:
        """The same model on the CPU: itself, if it is there."""
        return self

    @property
    def flat_there(self) -> Tensor:
        """All numbers where the kernels read them [P all], float64."""
        return self.flat

    @property
    def memory(self) -> float:
        """Bytes of the machine on which it is evaluated."""
        return installed()

    # ---- structures

    def plan(self, structures: Any) -> str:
        """How the global operations of the model (Ewald sums) are done for structures, and what learned charges sum to: a line for each."""
        batch = self.prepare(structures)
        sites = sites_of(batch, batch.positions, batch.cells)
        found = [f"structure {s}: {line}" for s in range(batch.structures) for d in self.summed for line in words(d, sites, s)]
        raw = [f"structure {s}: raw total of {n} {q:+.3g} e" for n, t in raw_totals(self, structures).items() for s, q in enumerate(t)]
        return "\n".join(found + raw)

    def __reduce__(self) -> tuple:
        known = {"domain": self.domain, "provenance": self.provenance, "covariance_root": self.covariance_root, "entries": self.entries}
        return _rebuild, (self.expression, self.species, self.flat.numpy()), known

    def prepare(self, structures: Any, skin: float = 0.0) -> Batch:
        """Structures (ASE Atoms, frames, or lists of them) with their neighbours; `skin` (Å) lets the list be reused.

        Errors: DataError for what is no structure, for species that are not known, and, of long-range sums, for atoms on top of each other.
        """
        batch = batch_of(structures, self.species, self.cutoff, skin, half=self.halved is not None)
        if self.summed:
            refuse_overlap(batch)
        return batch

    @cached_property
    def summed(self) -> tuple[tuple, ...]:
        """What is summed over all images, by the data of its operations."""
        return tuple(programs.sums(self.node))

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

    def rows(self, batch: Batch, atoms: Tensor, virials: bool = True) -> Jacobian:
        """The Jacobian with the forces on some atoms alone [A, 3, P], where sites do not read scalars of others (`one_stage`); zero for virials that nobody wants."""
        return rows(self.kernel, whole(batch), self.flat, self.free, atoms, virials)

    def site_jacobian(self, structures: Any) -> Tensor:
        """Derivatives of the site energies by the free parameters [N, P]."""
        batch = structures if isinstance(structures, Batch) else self.prepare(structures)
        return site_jacobian(self.kernel, whole(batch), self.flat, self.free.nonzero().flatten())

    def gradient(
        self, batch: Batch, by_energy: Tensor | None = None, by_forces: Tensor | None = None, by_virial: Tensor | None = None
    ) -> Tensor:
        """Gradient of a loss L by the free parameters [P], from its slopes by what the model gives.

        Arguments: batch; dL/dE [S], dL/dF [N, 3] and dL/dW [S, 3, 3], zero where left out.
        """
        return gradient(self.kernel, whole(batch), self.flat, by_energy, by_forces, by_virial)[self.free]

    def along(self, batch: Batch, direction: Tensor) -> Result:
        """Derivatives of energies, forces and virials along a direction of the free parameters [P]."""
        tangents = torch.zeros_like(self.flat).masked_scatter(self.free, direction.to(torch.float64))
        return along(self.kernel, whole(batch), self.flat, tangents)

    def placed(self, batch: Batch) -> Placed:
        """Its kernels on a batch, for `composer.autograd`."""
        return Placed(self, batch)

    @cached_property
    def staged(self) -> list[int] | None:
        """Free numbers whose columns are tangents (of several stages, or behind a layer of a network); None if no others have neighbours."""
        local, keys = programs.parts(self.node)
        slots = [self.layout.slots[e.key] for e in self.entries if e.key in keys and e.free]
        return None if local is None else [q for s in slots for q in range(s.offset, s.offset + s.size)]

    # ---- kernels

    @property
    def one_stage(self) -> bool:
        """Whether no site reads scalars of others: a row of the Jacobian is a small sum then."""
        return len(self.kernel("gradient").code.stages) == 1

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

        return export(self.host, path, target)

    def save(self, path: str | Path, provenance: Mapping[str, Any] | None = None) -> Path:
        """Write the model to a file that `composer.read_model` reads; provenance is JSON data that is added to the model's own."""
        from composer.modelfile import save

        return save(self, path, provenance)


def _rebuild(expression: Expression, species: tuple[str, ...], flat: np.ndarray) -> Model:
    model = Model(expression, species)
    model.flat = torch.from_numpy(flat.copy())
    return model
