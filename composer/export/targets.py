"""What a model can be exported to: each target writes files into a folder and can open them as an engine for the check."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from composer.errors import DataError
from composer.export.check import Engine
from composer.model import Model


@dataclass(frozen=True)
class Target:
    """A module with write(model, folder, shown) -> usage and check_engine(folder, model) -> Engine; `bar`, allowed relative difference."""

    module: str
    says: str
    bar: float = 1e-10
    periodic: bool = False  # whether its engine takes periodic structures alone

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
        return import_module(f"composer.export.{self.module}")


TARGETS: dict[str, Target] = {
    "c": Target("c", "one dependency-free potential.c and potential.h"),
    "lammps": Target("lammps", "a library for pair_style composer, with newton on or off and MPI"),
    "sw": Target("sw", "a Stillinger-Weber file of LAMMPS"),
    "tersoff": Target("tersoff", "a Tersoff file of LAMMPS"),
    "lepton": Target("lepton", "formulas for pair_style lepton of LAMMPS, for sums over pairs"),
    "table": Target("table", "tables for pair_style table of LAMMPS, for sums over pairs", bar=1e-6),
    "eam": Target("eam", "a setfl file for eam/alloy or eam/fs, for pairs and a function of one density", bar=1e-6),
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
