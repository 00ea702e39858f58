"""potential.c as a shared library: built with the system's compiler, called on batches."""

from __future__ import annotations

import ctypes
import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from composer.errors import BackendError, DataError
from composer.model import Model
from composer.model.structures import whole
from composer.runtime.build import compile_flags, find_compiler
from composer.runtime.code import LONG, LONG_FLAGS

SHOWN = 12  # lines of a compiler's complaint


@dataclass(frozen=True)
class Values:
    """What an engine says about one structure of n atoms."""

    energy: float  # eV
    forces: np.ndarray  # [n, 3] eV/Å
    virial: np.ndarray | None  # [3, 3] eV, -dE/dstrain
    energies: np.ndarray | None = None  # [n] eV


def build_library(source: Path, target: Path, portable: bool = False) -> str:
    """Compile potential.c to a shared library.

    Arguments: source; target, the library to write; portable, for any processor of this kind and exact C (default: this processor, fast-math).
    Returns: the command, as it can be typed. Errors: BackendError when the compiler fails.
    """
    compiler = find_compiler()
    long = len(source.read_text()) > LONG
    if portable:
        flags: tuple[str, ...] = ("-O2", "-fPIC")
    else:
        wanted = compile_flags(compiler, openmp=False, optimize="-O1" if long else "-O3", extra=LONG_FLAGS if long else ())
        flags = tuple(flag for flag in wanted if not flag.startswith("-std="))
    unit = target.with_suffix(".o")
    commands = [
        [*compiler.command, "-x", "c", "-std=c11", *flags, "-c", str(source), "-o", str(unit)],
        [*compiler.command, "-shared", str(unit), "-o", str(target), "-lm"],  # linked apart: -ffast-math here would flush subnormals
    ]
    for command in commands:
        run_compiler(command)
    unit.unlink()
    return " && ".join(shlex.join([Path(word).name if word.startswith("/") else word for word in command]) for command in commands)


def run_compiler(command: list[str]) -> None:
    """Run a compiler and say what it said when it fails. Errors: BackendError."""
    done = subprocess.run(command, capture_output=True, text=True, errors="replace", check=False)
    if done.returncode:
        said = "\n".join((done.stderr or done.stdout).strip().splitlines()[:SHOWN])
        raise BackendError(
            f"{shlex.join(command[:1])} was to compile an export",
            f"It ended with status {done.returncode} and said:\n{said}\n",
            "Type composer doctor",
        )


class Library:
    """A built potential.c: call it on structures."""

    def __init__(self, path: Path, model: Model) -> None:
        self.model = model
        try:
            self.loaded = ctypes.CDLL(str(path.resolve()))
        except OSError as error:
            raise DataError(f"The library {path} was to be loaded", str(error), "Export the model again on this machine") from None
        self.loaded.potential_symbol.restype = ctypes.c_char_p
        self.loaded.potential_cutoff.restype = ctypes.c_double

    @property
    def species(self) -> tuple[str, ...]:
        """Chemical symbols by species number."""
        return tuple(self.loaded.potential_symbol(n).decode() for n in range(self.loaded.potential_species()))

    def __call__(self, structure: Any) -> Values:
        """Energy, forces, virial and site energies of a structure, with the neighbours that the model finds."""
        from composer.neighbors import all_positions

        batch = whole(self.model.prepare(structure))
        x = all_positions(batch).numpy()
        species = torch.cat([batch.species, batch.species[batch.ghost_owner.long()]]).numpy()
        energy, energies, forces, virial = np.zeros(1), np.zeros(batch.atoms), np.zeros((batch.atoms, 3)), np.zeros((3, 3))
        arrays = (x, species, batch.ghost_owner.numpy(), batch.first.numpy(), batch.index.numpy(), energy, energies, forces, virial)
        pointers = [ctypes.c_void_p(a.ctypes.data) for a in arrays]
        if self.loaded.potential_compute(ctypes.c_int64(batch.atoms), ctypes.c_int64(batch.sites), *pointers):
            raise BackendError("An exported library was to be called", "It found no memory", "Give a smaller structure")
        return Values(float(energy[0]), forces, virial, energies)


__all__ = ["Library", "Values", "build_library", "run_compiler"]
