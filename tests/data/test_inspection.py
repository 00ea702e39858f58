"""Inspection: planted faults are found, and the picture shows numbers."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from ase.build import bulk

from composer.data import read_data


def crystals(count=12):
    frames = []
    for n in range(count):
        atoms = bulk("NaCl", "rocksalt", a=5.6 + 0.02 * n).repeat((2, 1, 1))
        atoms.positions += np.random.default_rng(n).normal(0, 0.05, atoms.positions.shape)
        atoms.info.update(energy=-12.0 + 0.05 * n, config_type="rattled")
        atoms.arrays["forces"] = np.random.default_rng(n).normal(0, 1, (4, 3))
        frames.append(atoms)
    return frames


def test_planted_faults():
    frames = crystals()
    frames[3].info["energy"] += 40.0
    frames[5].arrays["forces"] *= 1000.0
    frames.append(frames[7].copy())
    del frames[2].arrays["forces"]
    data = read_data(frames, quiet=True)
    found = data.inspect()
    assert [frame.index for frame, _ in found.energy_outliers] == [3]
    assert [frame.index for frame, _ in found.force_outliers] == [5]
    assert [[frame.index for frame in same] for same in found.duplicates] == [[7, 12]]
    assert [frame.index for frame in found.missing["forces"]] == [2] and len(found.missing["stress"]) == 13
    text = str(found)
    for words in (
        "13 frames, 12 configurations",
        "shortest Cl-Na",
        "frame 3",
        "frame 5",
        "frame 7, frame 12",
        "missing forces: 1",
        "rattled",
    ):
        assert words in text


def test_distances_of_a_known_crystal():
    atoms = bulk("NaCl", "rocksalt", a=5.6)
    atoms.info["energy"] = -6.0
    found = read_data(atoms, quiet=True).inspect()
    assert {pair: round(value, 9) for pair, (value, _) in found.shortest.items()} == {
        ("Cl", "Cl"): pytest.approx(5.6 / 2**0.5),
        ("Cl", "Na"): 2.8,
        ("Na", "Na"): pytest.approx(5.6 / 2**0.5),
    }
    # ordered pairs: 6 + 8 neighbours at a/2 and sqrt(3) a/2 for each of two atoms; 12 + 6 like ones
    assert {pair: int(count.sum()) for pair, count in found.distances.items()} == {("Cl", "Cl"): 18, ("Cl", "Na"): 28, ("Na", "Na"): 18}


def test_energies_of_several_species_are_compared_after_their_mean():
    frames = [bulk(symbol, "fcc", a=a) for symbol in ("Cu", "Au") for a in (3.6, 3.8, 4.0)]
    for n, atoms in enumerate(frames):
        atoms.info["energy"] = (-3.0, -300.0)[n // 3] + 0.1 * (n % 3)
    _, energy, _ = read_data(frames, quiet=True).inspect().curves["unknown"]
    assert np.ptp(energy) == pytest.approx(0.2)


def test_picture(tmp_path):
    figure = read_data("silicon.xyz.xz", quiet=True).inspect().plot()
    assert [axes.get_xlabel() for axes in figure.axes] == ["r (Å)", "volume (Å$^3$/atom)", "volume (Å$^3$/atom)", "energy (eV/atom)"]
    assert all(axes.has_data() for axes in figure.axes)
    figure.savefig(tmp_path / "data.png", dpi=40)
    assert (tmp_path / "data.png").stat().st_size > 5000


def test_no_torch_is_needed():
    code = "import sys; from composer.data import read_data; read_data('silicon', quiet=True).inspect(); assert 'torch' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=Path(__file__).parents[2])
