"""Reading: what is written is read, whatever the container, the key, the unit and the sign."""

import bz2
import gzip
import lzma
import os
import pickle

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from composer.data import Data, Frame, read_data
from composer.units import GPA

STRESS = np.array([[0.01, 0.002, 0.003], [0.002, -0.02, 0.004], [0.003, 0.004, 0.03]])


def silicon(scale=1.0, labels=("energy", "forces", "stress"), **info):
    rng = np.random.default_rng(3)
    atoms = Atoms("Si2", positions=[[0, 0, 0], [1.36, 1.36, 1.36]], cell=2.72 * scale * (1 - np.eye(3)), pbc=True)
    values = {"energy": -10.8, "forces": rng.normal(size=(2, 3)), "stress": STRESS[[0, 1, 2, 1, 0, 0], [0, 1, 2, 2, 2, 1]]}
    atoms.calc = SinglePointCalculator(atoms, **{name: values[name] for name in labels})
    atoms.info.update(info)
    return atoms


@pytest.mark.parametrize("name", ["a.xyz", "a.extxyz", "a.xyz.xz", "a.xyz.gz", "a.xyz.bz2", "a.traj"])
def test_round_trip(tmp_path, name):
    frames = [silicon(config_type="bulk"), silicon(1.1, config_type="wide")]
    write(tmp_path / "a.xyz", frames)
    opener = {".xz": lzma.open, ".gz": gzip.open, ".bz2": bz2.open}.get(os.path.splitext(name)[1])
    if opener:
        with opener(tmp_path / name, "wb") as stream:
            stream.write((tmp_path / "a.xyz").read_bytes())
    elif name.endswith("traj"):
        write(tmp_path / name, frames)
    else:
        write(tmp_path / name, frames, format="extxyz")
    data = read_data(tmp_path / name, quiet=True)
    assert len(data) == 2 and data.species == ["Si"]
    for frame, atoms in zip(data, frames, strict=True):
        assert np.abs(frame.positions - atoms.positions).max() < 1e-7 and np.abs(frame.cell - atoms.cell).max() < 1e-12
        assert frame.energy == -10.8 and np.abs(frame.forces - atoms.get_forces()).max() < 1e-7
        assert np.abs(frame.stress - STRESS).max() < 1e-12
        assert frame.volume == pytest.approx(atoms.get_volume())
    assert read_data(data.atoms(), quiet=True).hash == data.hash
    back = data.atoms()[0]
    assert np.abs(back.get_stress(voigt=False) - STRESS).max() < 1e-12


def test_what_is_missing_is_absent():
    data = read_data([silicon(), silicon(1.01, ("energy",)), silicon(1.02, ("forces",))], quiet=True)
    assert [frame.energy for frame in data] == [-10.8, -10.8, None]
    assert data[1].forces is None and data[1].stress is None and data[2].forces is not None
    assert data.inspect().missing["energy"] == [data[2]]


def test_keys_units_and_signs(tmp_path):
    atoms = Atoms("H", cell=[4, 4, 4], pbc=True)
    atoms.info.update(e_scf=-0.5, p=np.diag([1.0, 2.0, 3.0]))
    atoms.arrays["f_scf"] = np.array([[0.0, 0.1, 0.0]])
    units = {"energy": "Ha", "forces": "Ha/bohr", "stress": "-GPa"}
    (frame,) = read_data(atoms, energy_key="e_scf", forces_key="f_scf", stress_key="p", units=units, quiet=True)
    assert frame.energy == pytest.approx(-13.605693) and frame.forces[0, 1] == pytest.approx(5.1422067)
    assert np.allclose(frame.stress, -np.diag([1, 2, 3]) / GPA)


def test_virial_stands_for_stress():
    """Number 17 of theory/interfaces.md, section 12: a virial and a stress that agree say the same."""
    atoms = silicon(labels=("energy",))
    atoms.info["virial"] = -atoms.get_volume() * STRESS
    assert np.allclose(read_data(atoms, quiet=True)[0].stress, STRESS, atol=1e-14)
    atoms.calc.results["stress"] = STRESS
    assert np.allclose(read_data(atoms, quiet=True)[0].stress, STRESS, atol=1e-14)


def test_free_energy_is_preferred_if_all_have_it(capsys):
    both = silicon()
    both.calc.results["free_energy"] = -10.9
    assert read_data(both, quiet=True)[0].energy == -10.9
    assert read_data([both, silicon(1.1)])[0].energy == -10.8  # never two kinds of energy in one set
    partly = silicon(1.2, ("forces",))
    partly.info["REF_energy"] = -1.0
    assert read_data([both, silicon(1.1), partly])[2].energy is None
    assert "1 frames keep their energy under another key" in capsys.readouterr().out


def test_shipped_set_by_name(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    data = read_data("silicon.xyz.xz")
    said = capsys.readouterr().out
    assert len(data) > 100 and data.species == ["Si"] and not any(data.inspect().missing.values())
    for word in (
        f"{len(data)} frames",
        "species",
        "eos_diamond",
        "key energy, eV",
        "eV/Å^3",
        "positive under tension",
        "rises with volume",
    ):
        assert word in said
    write("silicon.xyz", silicon())
    assert len(read_data("silicon.xyz", quiet=True)) == 1  # a file of the working directory comes first
    assert len(read_data("silicon", quiet=True)) == len(data)
    assert capsys.readouterr().out == ""


def test_a_pressure_is_noticed(capsys):
    frames = read_data("silicon.xyz.xz", quiet=True).atoms()
    for atoms in frames:
        atoms.calc.results["stress"] = -atoms.calc.results["stress"]
    read_data(frames)
    assert "sign of a pressure" in capsys.readouterr().out


def test_stress_of_a_molecule_is_left_out(capsys):
    atoms = silicon(labels=("energy", "stress"))
    atoms.pbc = [True, True, False]
    assert read_data(atoms)[0].stress is None
    assert "stress of 1 frames left out" in capsys.readouterr().out


def test_a_set_is_immutable_and_travels():
    data = read_data([silicon(), silicon(1.1, config_type="wide"), Atoms("H", info={"energy": -1.0})], quiet=True)
    with pytest.raises(ValueError, match="read-only"):
        data[0].positions[0] = 1.0
    with pytest.raises(AttributeError):
        data[0].energy = 1.0
    same = pickle.loads(pickle.dumps(data))
    assert same.hash == data.hash and same.species == ["H", "Si"]
    assert isinstance(data[1:], Data) and isinstance(data[0], Frame) and data[[2, 0]].species == ["H", "Si"]
    assert data[np.array([False, True, False])][0] is data[1] and data[-1].formula == "H"
    assert data[:2].hash != data.hash != data[::-1].hash and data.config_types == {"unknown": 2, "wide": 1}


def test_several_files(tmp_path):
    write(tmp_path / "a.xyz", [silicon(), silicon(1.1)])
    write(tmp_path / "b.xyz", silicon(1.2))
    data = read_data([tmp_path / "a.xyz", str(tmp_path / "b.xyz"), silicon(1.3)], quiet=True)
    assert [frame.name for frame in data] == ["frame 0 of a.xyz", "frame 1 of a.xyz", "frame 0 of b.xyz", "frame 2"]


def test_the_shipped_energies_and_stresses_agree():
    """Mean normal stress = dE/dV along eos_diamond, from energies alone (sign, factor and unit at once)."""
    frames = [f for f in read_data("silicon.xyz.xz", quiet=True) if f.config_type == "eos_diamond"]
    volume, energy, stress = np.array(sorted((f.volume, f.energy, np.trace(f.stress) / 3) for f in frames)).T
    fit = np.polynomial.Polynomial.fit(volume, energy, 6).deriv()
    assert np.abs(fit(volume) - stress).max() * GPA < 2.0 and np.abs(stress).max() * GPA > 10.0
