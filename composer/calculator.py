"""A model as an ASE calculator: one list of neighbours with a skin, reused while it is valid."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar

import torch
from ase.calculators.calculator import Calculator as AseCalculator
from ase.calculators.calculator import PropertyNotImplementedError, all_changes
from ase.stress import full_3x3_to_voigt_6_stress
from torch import Tensor

from composer.errors import DataError
from composer.neighbors import Batch, all_positions, needs_rebuild, update
from composer.quantities import row, rows
from composer.runtime.cuda_batch import DeviceBatch


class ExtrapolationWarning(UserWarning):
    """Atoms are closer than in any structure that the model was fitted to."""


class NoStress(DataError, PropertyNotImplementedError):
    """A stress of a structure that has no volume; ASE knows it as a property that is not there."""


class Calculator(AseCalculator):
    """Energy, forces, stress and site energies of a model for ASE.

    Arguments: model; skin (Å), the list of neighbours is made for the cutoff + skin and used until a pair could have been missed; grades,
    called with the batch.
    Results: energy and free_energy (eV, the same), forces (eV/Å) [N, 3], stress (eV/Å^3, positive under tension, Voigt order) [6],
    energies (site energies, eV) [N]; with `grades`, extrapolation grades [N] by what `fisher(...).grades` knows.
    Errors: DataError for the stress of a structure without three periodic directions and for species that the model does not know.
    Warns: ExtrapolationWarning, once per set of atoms, when `model.domain` knows the shortest distances of the fit and a pair is closer.
    """

    implemented_properties: ClassVar[list[str]] = ["energy", "free_energy", "forces", "stress", "energies"]
    ignored_changes: ClassVar[set[str]] = {"initial_charges", "initial_magmoms"}

    def __init__(self, model: Any, skin: float = 1.0, grades: Callable[[Batch], Any] | None = None, **kwargs: Any) -> None:
        if not isinstance(skin, Real) or not skin >= 0:
            raise DataError(f"A calculator with a skin of {skin!r} Å was asked for", "A skin is a length >= 0", "Write skin=1.0")
        if grades is not None and not callable(grades):
            found = f"{grades!r} does not grade atoms"
            raise DataError(
                "A calculator with grades of extrapolation was asked for", found, "Write grades=composer.fisher(model, data).grades"
            )
        super().__init__(**kwargs)
        self.model, self.skin, self.grades = model, float(skin), grades
        self.builds = 0  # lists of neighbours made so far
        self._batch: Batch | None = None
        self._symbols = b""  # atomic numbers
        self._watch: Watch | None = None

    def calculate(self, atoms: Any = None, properties: Any = ("energy",), system_changes: Any = all_changes) -> None:
        """Evaluate the model for `atoms`; ASE calls this when something has changed."""
        super().calculate(atoms, properties, system_changes)
        system: Any = self.atoms
        periodic = bool(system.pbc.all())
        if "stress" in properties and not periodic:
            raise NoStress(
                f"The stress of {system.get_chemical_formula()} was asked for",
                f"It is periodic in the directions {system.pbc.tolist()}, so it has no volume",
                "Set atoms.pbc = True with a cell, or do not ask for the stress",
            )
        batch = self._place(system)
        found = self.model(batch)
        energy = float(found.energy[0])
        self.results = {"energy": energy, "free_energy": energy, "forces": found.forces.cpu().numpy()}
        if periodic:
            self.results["stress"] = full_3x3_to_voigt_6_stress(found.stress[0].cpu().numpy())
        if "energies" in properties:
            self.results["energies"] = found.energies.cpu().numpy()
        if self.grades is not None:
            self.results["grades"] = self.grades(batch)

    def _place(self, atoms: Any) -> Any:
        """The batch of the present atoms: the old list at new positions while that is safe, else a new list."""
        symbols, old = atoms.numbers.tobytes(), self._batch
        x, cell = torch.from_numpy(atoms.positions), torch.from_numpy(atoms.cell.array)[None]
        known = symbols == self._symbols and old is not None and old.pbc[0].tolist() == atoms.pbc.tolist()
        if old is not None and known and not needs_rebuild(old, x, cell):
            batch = update(old, x.clone(), cell.clone())
        else:
            batch = self.model.prepare(atoms, skin=self.skin)
            self.builds += 1
            warned = self._watch is not None and self._watch.warned and symbols == self._symbols
            self._watch = Watch.over(batch, self.model, warned)
        self._batch, self._symbols = batch, symbols
        if self._watch is not None:
            self._watch.look(batch)
        return batch


class DeviceCalculator(Calculator):
    """The same for a model on a GPU (`DeviceModel`): lists are made and judged there. It does not warn of extrapolation."""

    def __init__(self, model: Any, skin: float = 1.0, **kwargs: Any) -> None:
        super().__init__(model, skin, **kwargs)
        self._placed: Any = None  # a DeviceBatch

    def _place(self, atoms: Any) -> Any:
        symbols, old = atoms.numbers.tobytes(), self._placed
        if old is not None and symbols == self._symbols and old.pbc[0].tolist() == atoms.pbc.tolist():
            x, cell = (torch.from_numpy(array).to(old.device, copy=True) for array in (atoms.positions, atoms.cell.array[None]))
            moved = old.moved_to(x, cell)
            if not bool(moved.look()):
                self._placed = moved
                return moved
        self._placed, self._symbols = self.model.prepare(atoms, skin=self.skin), symbols
        self.builds += 1
        return self._placed


@dataclass
class Watch:
    """Pairs of a list that could come closer than the fit has seen, looked at in every step."""

    first: Tensor  # [pairs], atoms
    second: Tensor  # [pairs], sites
    limit: Tensor  # [pairs], Å
    names: list[str]  # of every pair of species
    kind: Tensor  # [pairs], number of the pair of species
    warned: bool = False

    @classmethod
    def over(cls, batch: Batch, model: Any, warned: bool = False) -> Watch:
        """The pairs of a batch that are within the skin of the limits in `model.domain`, {"Si-Si": Å}."""
        names = pair_names(model.species)
        limits = torch.tensor([getattr(model, "domain", {}).get(name, 0.0) for name in names], dtype=torch.float64)
        first, second, kind, r = pair_distances(batch, len(model.species))
        near = r < limits[kind] + 2 * batch.skin  # a cell that shrinks moves atoms too
        return cls(first[near], second[near], limits[kind][near], names, kind[near], warned)

    def look(self, batch: Batch) -> None:
        """Warn, once, when a pair is closer than its limit."""
        if self.warned or not len(self.first):
            return
        x = all_positions(batch)
        r = (x[self.second] - x[self.first]).norm(dim=1)
        close = r < self.limit
        if bool(close.any()):
            self.warned = True
            worst = int(torch.where(close, r - self.limit, torch.inf).argmin())
            warnings.warn(
                f"A structure with {self.names[int(self.kind[worst])]} pairs at {r[worst]:.3f} Å was evaluated. "
                f"The shortest distance in the fit was {self.limit[worst]:.3f} Å, so the model extrapolates. "
                "Check the structure, or add such structures to the data.",
                ExtrapolationWarning,
                stacklevel=6,
            )


def shortest_distances(batches: Sequence[Batch | DeviceBatch], species: tuple[str, ...]) -> dict[str, float]:
    """Shortest distance (Å) of every pair of species that batches hold: {"Si-Si": 2.21}; a fit keeps it as `model.domain`."""
    names = pair_names(species)
    least = torch.full((len(names),), torch.inf, dtype=torch.float64)
    for batch in batches:
        _, _, kind, r = pair_distances(batch, len(species))
        least.scatter_reduce_(0, kind.cpu(), r.cpu(), "amin")
    return {name: float(value) for name, value in zip(names, least) if torch.isfinite(value)}


def pair_distances(batch: Batch | DeviceBatch, count: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """All pairs of the list: atom, site, number of the pair of species, distance (Å), each [E]; `count` species."""
    (first, second), x, owner = batch.pairs(), batch.places(), batch.owner.long()
    table = torch.tensor([[row("pair", count, a, b) for b in range(count)] for a in range(count)], device=x.device)
    kind = table[batch.species[first].long(), batch.species[owner[second]].long()]
    return first, second, kind, (x[second] - x[first]).norm(dim=1)


def pair_names(species: tuple[str, ...]) -> list[str]:
    """Names of the unordered pairs of species, by row: ["Si-Si"] or ["C-C", "C-Si", "Si-Si"]."""
    names = [""] * rows("pair", len(species))
    for a, one in enumerate(species):
        for b in range(a, len(species)):
            names[row("pair", len(species), a, b)] = f"{one}-{species[b]}"
    return names
