"""NEP_CPU, the C++ code inside calorine: on a given list of neighbours, and with its own; and nep-adapters.

The sources are not part of this project. Name their folder (nep.cpp, nep.h, ...; `src/nepy` of an unpacked calorine) in COMPOSER_NEP_CPU to
measure on the same list; the installed calorine is enough for calls that build a list.
"""

import ctypes
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from ase import Atoms

from benchmarks.timing import Timer, wall

FLAGS = ("-O3", "-march=native", "-ffast-math", "-std=c++17", "-shared", "-fPIC")
DRIVER = """
#include "nep.h"
#include <memory>
extern "C" void* peer_open(const char* path) { return new NEP(path); }
extern "C" void peer_step(void* p, int n, int* rows, int* counts, int** lists, int* type, int* map, double** x, double* e, double* w, double** f) {
  double virial[6] = {0}, energy = 0;
  static_cast<NEP*>(p)->compute_for_lammps(n, n, rows, counts, lists, type, map, x, energy, virial, nullptr, f, nullptr);
  *e = energy;
  for (int c = 0; c < 6; ++c) w[c] = virial[c];
}
"""


def sources() -> Path | None:
    """The folder of the peer's sources, if it is named."""
    folder = os.environ.get("COMPOSER_NEP_CPU")
    return Path(folder) if folder and (Path(folder) / "nep.cpp").is_file() else None


class SameList:
    """The peer's energy, forces and virial on the sites and rows of a Batch."""

    def __init__(self, path: Path, batch: Any, species: int) -> None:
        folder = sources()
        assert folder is not None
        self.home = tempfile.TemporaryDirectory()
        driver, library = Path(self.home.name) / "driver.cpp", Path(self.home.name) / "peer.so"
        driver.write_text(DRIVER)
        parts = [str(p) for p in folder.glob("*.cpp") if p.name != "nepy.cpp"]
        subprocess.run(["g++", *FLAGS, f"-I{folder}", str(driver), *parts, "-o", str(library)], check=True, capture_output=True)
        self.library = ctypes.CDLL(str(library))
        self.library.peer_open.restype = ctypes.c_void_p
        self.peer = ctypes.c_void_p(self.library.peer_open(str(path).encode()))
        from composer.neighbors import all_positions

        self.x = all_positions(batch).numpy().copy()
        self.forces = np.zeros_like(self.x)
        self.index, first = batch.index.numpy().astype(np.int32).copy(), batch.first.numpy()
        owner = np.concatenate([np.arange(batch.atoms), batch.ghost_owner.numpy()])
        self.counts = np.diff(first).astype(np.int32)
        self.lists = (first[:-1] * 4 + self.index.ctypes.data).astype(np.uint64)
        self.places = [(24 * np.arange(len(a)) + a.ctypes.data).astype(np.uint64) for a in (self.x, self.forces)]
        self.types = (batch.species.numpy()[owner] + 1).astype(np.int32)
        self.map = np.arange(-1, species, dtype=np.int32)
        self.rows = np.arange(batch.atoms, dtype=np.int32)
        self.energy, self.virial = np.zeros(1), np.zeros(6)

    def step(self) -> float:
        """Energy (eV); forces on all sites stay in `forces`."""
        self.forces[:] = 0
        p = [ctypes.c_void_p(a.ctypes.data) for a in (self.rows, self.counts, self.lists, self.types, self.map, self.places[0])]
        e, w, f = (ctypes.c_void_p(a.ctypes.data) for a in (self.energy, self.virial, self.places[1]))
        self.library.peer_step(self.peer, len(self.rows), *p, e, w, f)
        return float(self.energy[0])


def own_list(path: Path, atoms: Atoms) -> Timer:
    """A timer of calorine's C++ object for energy, forces and virial; it looks for neighbours in every call."""
    import _nepy

    cell, x = atoms.cell.array.T.flatten(), atoms.positions.T.flatten()
    found = _nepy.NEPY(str(path), len(atoms), list(cell), atoms.get_chemical_symbols(), list(x), list(atoms.get_masses()))
    return wall(found.get_potential_forces_and_virials)


def adapters(path: Path, atoms: Atoms) -> tuple[Timer, str] | None:
    """A timer of nep-adapters (its C++ on the CPU, with its own neighbour search) and its version, where it is installed or in COMPOSER_NEP_ADAPTERS."""
    if folder := os.environ.get("COMPOSER_NEP_ADAPTERS"):
        sys.path.append(folder)
    try:
        import nep_adapters
    except ImportError:
        return None
    try:
        found = nep_adapters.NEPCalculator(path)
    except nep_adapters.NepAdaptersError:
        return None  # it refuses published files beyond the limits of training
    return wall(lambda: found.predict_structures([atoms])), nep_adapters.__version__
