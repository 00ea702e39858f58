"""What a model can be exported to: each target writes files into a folder and can open them as an engine for the check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from composer.errors import BackendError, DataError
from composer.export.check import Engine
from composer.model import Model


@dataclass(frozen=True)
class Target:
    """A module with write(model, folder, shown) -> usage, check_engine(folder, model) -> Engine, and engine where that is another one."""

    module: str
    says: str
    bar: float = 1e-10  # allowed difference, relative
    periodic: bool = False  # whether its engine takes periodic structures alone
    package: str = ""  # what has to be installed
    whole: bool = False  # whether it runs the model itself, sums over all atoms included, or has sums of its own

    @property
    def write(self) -> Callable[[Model, Path, str], str]:
        return self._module().write

    @property
    def check_engine(self) -> Callable[[Path, Model], Engine]:
        return self._module().check_engine

    @property
    def engine(self) -> Callable[[Path, Model], Engine] | None:
        """The engine that users run, for `validate`, where it is another than that of the check."""
        return getattr(self._module(), "engine", None)

    def _module(self) -> Any:
        try:
            return import_module(f"composer.export.{self.module}")
        except ModuleNotFoundError as error:
            if not self.package or (error.name or "").startswith("composer"):
                raise
            raise BackendError(
                f"An export through {self.module} was asked for", f"Python has no module {error.name}", f"Type pip install {self.package}"
            ) from None


TARGETS: dict[str, Target] = {
    "c": Target("c", "one dependency-free potential.c and potential.h"),
    "lammps": Target("to_lammps", "a library for pair_style composer, with newton on or off and MPI", whole=True),
    "sw": Target("sw", "a Stillinger-Weber file of LAMMPS"),
    "tersoff": Target("tersoff", "a Tersoff file of LAMMPS"),
    "lepton": Target("lepton", "formulas for pair_style lepton of LAMMPS, for sums over pairs"),
    "table": Target("table", "tables for pair_style table of LAMMPS, for sums over pairs", bar=1e-6),
    "eam": Target("eam", "a setfl file for eam/alloy or eam/fs, for pairs and a function of one density", bar=1e-6),
    "gpumd": Target("to_gpumd", "a nep.txt for GPUMD, of NEP or ZBL + NEP", bar=1e-4),
    "pt2": Target("pt2", "the program in torch, compiled ahead of time"),
    "nequip": Target("nequip", "a .nequip.pt2 for pair_style allegro or nequip of LAMMPS with pair_nequip_allegro"),
    "mliap": Target("mliap", "an object for pair_style mliap unified of LAMMPS, for expressions that read no field of a neighbour"),
    "metatomic": Target("to_metatomic", "a TorchScript file for the engines of metatomic", package="metatomic-torch"),
    "torchsim": Target("torchsim", "a ModelInterface of TorchSim", package="torch-sim-atomistic", whole=True),
    "openmm": Target("to_openmm", "a CustomNonbondedForce or a PythonForce of OpenMM", package="openmm", whole=True),
    "ipi": Target("ipi", "a client of i-PI over a socket", whole=True),
}


def find_target(name: str) -> Target:
    """The target of a name. Errors: DataError with all names."""
    if name not in TARGETS:
        known = "\n".join(f"  {n:12s} {t.says}" for n, t in TARGETS.items())
        raise DataError(
            f"An export to {name!r} was asked for",
            f"Known targets are\n{known}\n",
            'Write for example model.export("folder", target="lammps")',
        )
    return TARGETS[name]
