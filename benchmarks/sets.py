"""The data sets of the accuracy table: where they are, the SNAP basis to beat, published errors, aims."""

import os
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import ase.build
import numpy as np
from ase import Atoms

from benchmarks.snap_basis import Snap, read_snap
from composer.data import By, Data, read_data

SHARED = Path(os.environ.get("COMPOSER_SHARED", Path(__file__).parents[2] / "shared")) / "data"
MELTING: Mapping[str, float] = {"Li": 453.7, "Si": 1687.0, "Cu": 1357.8, "Nb": 2750.0, "Mo": 2896.0, "Ta": 3290.0, "W": 3695.0}
"""Melting points, K (CRC Handbook of Chemistry and Physics, 97th ed.)."""


@dataclass(frozen=True)
class Published:
    """Errors of a published potential on an official test set: energy (meV/atom) and forces (eV/Å); None where not stated."""

    name: str
    energy_rmse: float | None = None
    energy_mae: float | None = None
    forces_rmse: float | None = None
    forces_mae: float | None = None


@dataclass(frozen=True)
class Case:
    """One set.

    Attributes:
        train, test: files under the shared data (several trains joined by +); without a test file, a fifth of the groups of a shipped set is the test.
        crystal: lattice and its constant (Å), for timing.
        elements: of the crystal; several are put at random.
        snap: folder of the published SNAP, or its settings.
        aims: largest number of parameters -> test RMSE of energy (meV/atom) and forces (eV/Å).
        parameters: P that a search may use.
        by: what its folds keep together: kinds of frames, where the test holds a kind that no train frame shows.
    """

    name: str
    train: str
    test: str
    crystal: tuple[str, float]
    elements: tuple[str, ...]
    snap: str | Snap
    published: tuple[Published, ...] = ()
    aims: Mapping[int, tuple[float | None, float | None]] = field(default_factory=dict)
    parameters: int = 75
    by: By = "group"

    @property
    def missing(self) -> str:
        """Why the set cannot be used here; empty if it can."""
        needed = [name for name in (*self.train.split("+"), self.test) if "/" in name] + ([self.snap] if isinstance(self.snap, str) else [])
        absent = [name for name in needed if not (SHARED / name).exists()]
        return f"skipped: {SHARED / absent[0]} is absent; set COMPOSER_SHARED to the folder that holds data/" if absent else ""

    def training(self) -> Data:
        """Read the train frames; no test file is opened."""
        if not self.test:
            return self._divided()[0]
        return Data([f for name in self.train.split("+") for f in read_data(SHARED / name, quiet=True)])

    def testing(self) -> Data:
        """Read the test frames: a look that must be logged."""
        return read_data(SHARED / self.test, quiet=True) if self.test else self._divided()[1]

    def peer(self) -> Snap:
        """Return the SNAP to beat, with its published settings."""
        return self.snap if isinstance(self.snap, Snap) else read_snap(SHARED / self.snap)

    def supercell(self, atoms: int = 500, seed: int = 1) -> Atoms:
        """Return a shaken crystal of about `atoms` atoms."""
        random = np.random.default_rng(seed)
        cell = ase.build.bulk(self.elements[0], self.crystal[0], a=self.crystal[1], cubic=True)
        crystal = cell.repeat(round((atoms / len(cell)) ** (1 / 3)))
        crystal.set_chemical_symbols(random.permutation(np.resize(self.elements, len(crystal))).tolist())
        crystal.positions += random.uniform(-0.1, 0.1, crystal.positions.shape)
        return crystal

    def _divided(self) -> tuple[Data, Data]:
        return read_data(self.train, quiet=True).split(test=0.2, by="group", seed=0)


def hot(data: Data, atoms: Atoms) -> float:
    """Return the temperature (K) of a hot run: 1.2 melting points of the elements by composition, or the data's hottest if that is more."""
    stated = [int(t) for f in data for t in re.findall(r"at (\d+) K", str(f.info.get("description", "")))]
    return max(1.2 * float(np.mean([MELTING[s] for s in atoms.symbols])), *stated, 0.0)


def _snap(elements: Mapping[str, tuple[float, float]], rcutfac: float, twojmax: int) -> Snap:
    """Settings alone; the coefficients are equal, small and not zero, for they are refitted and else only timed."""
    count = {6: 30, 8: 55}[twojmax]
    settings = {"rcutfac": rcutfac, "twojmax": float(twojmax), "rfac0": 0.99363, "rmin0": 0.0, "bzeroflag": 0.0}
    radii, weights = zip(*elements.values())
    return Snap(tuple(elements), radii, weights, settings, np.full((len(elements), 1 + count), 0.01))


ALLOY = {"Ta": (0.489, 0.8), "Nb": (0.511, 0.7), "Mo": (0.5, 0.5), "W": (0.489, 0.6)}
"""Radius and weight of the quaternary SNAP of 2020, rcutfac 4.6, twojmax 6: Li et al., npj Comput. Mater. 6, 70 (2020)."""

# SNAP and qSNAP: the published coefficients run again in LAMMPS on the test files (mlearn: Zuo et al., J. Phys. Chem. A 124, 731 (2020)).
# GAP and MTP: MAE as listed with ACEpotentials.jl. Alloys: a constant energy offset was removed from the published Nb energies.
SETS = (
    Case(
        "Mo", "mlearn/Mo_train.xyz.xz", "mlearn/Mo_test.xyz.xz", ("bcc", 3.17), ("Mo",), "mlearn/snap/Mo_snap",
        (
            Published("SNAP", 9.25, 5.48, 0.376, 0.207), Published("qSNAP", 4.04, 2.77, 0.333, 0.184),
            Published("MTP", None, 2.83, None, 0.09), Published("GAP", None, 2.24, None, 0.09),
        ),
        {75: (5.0, 0.205), 300: (4.0, 0.175)},
    ),
    Case(
        "Si", "mlearn/Si_train.xyz.xz", "mlearn/Si_test.xyz.xz", ("diamond", 5.47), ("Si",), "mlearn/snap/Si_snap",
        (
            Published("SNAP", 8.06, 6.44, 0.205, 0.133), Published("qSNAP", 5.51, 3.81, 0.177, 0.116),
            Published("MTP", None, 2.21, None, 0.06), Published("GAP", None, 2.91, None, 0.07),
        ),
        {75: (5.2, 0.149), 300: (4.5, 0.125)},
    ),
    Case(
        "Li", "mlearn/Li_train.xyz.xz", "mlearn/Li_test.xyz.xz", ("bcc", 3.43), ("Li",), "mlearn/snap/Li_snap",
        (
            Published("SNAP", 1.31, 1.03, 0.0379, 0.0277), Published("qSNAP", 0.85, 0.73, 0.0443, 0.0328),
            Published("MTP", None, 0.49, None, 0.01), Published("GAP", None, 0.49, None, 0.01),
        ),
        {75: (0.86, 0.014)},
    ),
    Case(
        "Cu", "mlearn/Cu_train.xyz.xz", "mlearn/Cu_test.xyz.xz", ("fcc", 3.63), ("Cu",), "mlearn/snap/Cu_snap",
        (
            Published("SNAP", 0.75, 0.53, 0.0829, 0.0371), Published("qSNAP", 0.77, 0.56, 0.0549, 0.0241),
            Published("MTP", None, 0.41, None, 0.01), Published("GAP", None, 0.46, None, 0.01),
        ),
        {75: (0.57, 0.015)},
    ),
    Case(
        "Nb", "monbtaw/Nb_train.xyz.xz", "monbtaw/Nb_test.xyz.xz", ("bcc", 3.32), ("Nb",), _snap({"Nb": ALLOY["Nb"]}, 4.6, 6),
        (Published("SNAP (alloy)", 6.03, None, 0.161, 0.118),), {75: (2.1, 0.105)},
    ),
    Case(
        "alloys", "monbtaw/alloy_train.xyz.xz+monbtaw/Nb_train.xyz.xz+monbtaw/Mo_train.xyz.xz", "monbtaw/alloy_test.xyz.xz", ("bcc", 3.24), ("Nb", "Mo", "Ta", "W"), _snap(ALLOY, 4.6, 6),
        (Published("SNAP (alloy)", None, None, 0.186, 0.112),), {124: (None, 0.186)}, parameters=124, by="config_type",
    ),
    Case("silicon", "silicon.xyz.xz", "", ("diamond", 5.47), ("Si",), _snap({"Si": (0.5, 1.0)}, 4.9, 8)),
)  # fmt: skip
"""mlearn Mo, Si, Li, Cu; Nb and the binary alloys of Mo-Nb-Ta-W; the shipped silicon, with the SNAP settings of the mlearn silicon."""
