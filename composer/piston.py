"""Dynamics in a rectangular box whose lengths move under zero pressure, at constant enthalpy or at a temperature."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from ase import Atoms, units

from composer.errors import DataError
from composer.neighbors import Batch, needs_rebuild, update

SKIN = 0.25  # of the cutoff
PERIOD = 50  # steps: the time scale of the box, over 2 pi
LOST = 3.0  # factor of a length of the box
RENEWAL = 100  # steps between new velocities of a bath


class Box:
    """Atoms and the three lengths of their box, each a piston of its own.

    dr/dt = v + e r, m dv/dt = F - m (e + sum e/3N) v, dL/dt = e L, W de/dt = sum m v^2 + virial + (sum of all m v^2)/3N for each direction;
    with the kinetic and potential energy, W e^2/2 is conserved.
    Arguments: model; atoms in a rectangular cell; stiffness (bulk modulus, eV/Å^3), which sets the weight W = B V (PERIOD dt)^2; timestep (ASE's
    unit of time); random generator of velocities; free [3], the directions that move. Source: G. J. Martyna, D. J. Tobias, M. L. Klein,
    J. Chem. Phys. 101, 4177 (1994), for a diagonal cell.
    """

    def __init__(
        self,
        model: Any,
        atoms: Atoms,
        stiffness: float,
        timestep: float,
        random: np.random.Generator,
        free: tuple[int, int, int] = (1, 1, 1),
    ) -> None:
        self.model, self.timestep, self.random, self.free = model, timestep, random, np.array(free)
        self.start = atoms.copy()
        self.x, self.lengths = atoms.positions.copy(), atoms.cell.lengths()
        self.mass = atoms.get_masses()[:, None]
        self.v, self.rates = np.zeros_like(self.x), np.zeros(3)
        self.weight = stiffness * float(np.prod(self.lengths)) * (PERIOD * timestep) ** 2
        self.batch: Batch | None = None
        self._evaluate()

    @property
    def atoms(self) -> Atoms:
        """The present structure."""
        found = self.start.copy()
        found.set_cell(np.diag(self.lengths))
        found.positions = self.x
        return found

    @property
    def temperature(self) -> float:
        """Of the atoms, K."""
        return float((self.mass * self.v**2).sum()) / (3 * (len(self.x) - 1) * units.kB)

    @property
    def enthalpy(self) -> float:
        """What is conserved: energy of atoms and pistons at zero pressure, eV."""
        return self.energy + float((self.mass * self.v**2).sum() + self.weight * (self.rates**2).sum()) / 2

    def warm(self, kelvin: float) -> None:
        """New velocities of atoms and pistons from a bath."""
        v = self.random.standard_normal(self.x.shape) * np.sqrt(units.kB * kelvin / self.mass)
        self.v = v - (self.mass * v).sum(0) / self.mass.sum()
        self.rates = self.random.standard_normal(3) * np.sqrt(units.kB * kelvin / self.weight) * self.free

    def run(self, steps: int, kelvin: float | None = None) -> float:
        """Constant enthalpy, or a bath of a temperature (K) that gives new velocities every RENEWAL steps (H. C. Andersen, 1980).

        Returns: the mean temperature of the steps, K. Errors: DataError when positions are lost.
        """
        total = 0.0
        for step in range(steps):
            if kelvin is not None and step % RENEWAL == 0:
                self.warm(kelvin)
            with np.errstate(all="ignore"):  # what is not finite is refused by name
                self._step()
            total += self.temperature
        return total / steps

    def _step(self) -> None:
        self._kick()
        grow = np.exp(self.rates * self.timestep / 2)
        self.x = (self.x * grow + self.v * self.timestep) * grow
        self.lengths = self.lengths * grow**2
        self._evaluate()
        self._kick(last=True)

    def _kick(self, last: bool = False) -> None:
        """Half a step of the velocities of pistons and atoms; the second one of a step goes in the opposite order."""
        half = self.timestep / 2
        if not last:
            self.rates = self.rates + half * self._drive()
        drag = np.exp(-(self.rates + self.rates.sum() / self.x.size) * half / 2)
        self.v = (self.v * drag + half * self.forces / self.mass) * drag
        if last:
            self.rates = self.rates + half * self._drive()

    def _drive(self) -> np.ndarray:
        """de/dt [3]."""
        squares = (self.mass * self.v**2).sum(0)
        return (squares + self.virial + squares.sum() / self.x.size) / self.weight * self.free

    def _evaluate(self) -> None:
        stretch = self.lengths / self.start.cell.lengths()
        if not (np.isfinite(self.x).all() and (stretch > 1 / LOST).all() and (stretch < LOST).all()):
            found = f"The box has changed by more than a factor of {LOST:g}, or positions became infinite"
            raise DataError("Dynamics at constant pressure was asked for", found, "Look at composer.dynamics.repulsive(model)")
        x, cell = torch.from_numpy(self.x), torch.from_numpy(np.diag(self.lengths))[None]
        if self.batch is None or needs_rebuild(self.batch, x, cell):
            self.batch = self.model.prepare(self.atoms, skin=SKIN * self.model.cutoff)
        else:
            self.batch = update(self.batch, x, cell)
        found = self.model(self.batch)
        self.energy, self.forces = float(found.energy[0]), found.forces.numpy()
        self.virial = found.virial[0].diagonal().numpy()  # [3], eV
