"""Every bad input gets one DataError that names the frame or the file and says what to do."""

import lzma

import numpy as np
import pytest
from ase import Atoms
from ase.calculators.singlepoint import SinglePointCalculator
from ase.io import write

from composer.data import BrokenFrames, Data, Frame, read_data
from composer.errors import DataError, UnitError


def good(scale=1.0, **results):
    atoms = Atoms("Si2", positions=[[0, 0, 0], [1.36, 1.36, 1.36]], cell=2.72 * scale * (1 - np.eye(3)), pbc=True)
    values = {"energy": -10.8, "forces": np.zeros((2, 3)), "stress": np.full(6, 0.01)}
    atoms.calc = SinglePointCalculator(atoms)
    atoms.calc.results = values | results
    return atoms


def refuse(source, *words, error=DataError, **options):
    with pytest.raises(error) as caught:
        read_data(source, quiet=True, **options)
    message = str(caught.value)
    for word in words:
        assert word in message
    assert message.count(". ") >= 2, "asked, found, what to type"
    return message


@pytest.mark.parametrize("name", ["energy", "forces", "stress"])
@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_not_finite(name, bad):
    value = np.array(good().calc.results[name], float)
    value.flat[-1] = bad
    refuse([good(), good(1.01, **{name: value})], "frame 1", name, "NaN or infinity")


def test_structure_not_finite():
    atoms = good()
    atoms.positions[1, 2] = np.nan
    refuse([good(), atoms], "positions of frame 1", "row 1")
    atoms = good()
    atoms.cell[2, 2] = np.inf
    refuse([good(), atoms], "cell of frame 1", "row 2")
    atoms = good()
    atoms.info["virial"] = np.full((3, 3), np.nan)
    refuse([good(), atoms], "virial of frame 1")


def test_stress_and_virial_disagree():
    """Number 17 of theory/interfaces.md, section 12: wrong signs and units are refused."""
    atoms = good()
    atoms.info["virial"] = atoms.get_volume() * atoms.get_stress(voigt=False)
    refuse([good(), atoms], "frame 1", "-1 times", "opposite signs")
    atoms.info["virial"] *= -160.2
    refuse(atoms, "160.2 times")


def test_atoms_overlap():
    atoms = good()
    atoms.positions[1] = atoms.positions[0] + [0.0, 0.0, 0.29]
    refuse([good(), atoms], "frame 1", "Atoms 0 and 1", "0.290")
    atoms.positions[1] = atoms.positions[0] + atoms.cell[0] + [0.2, 0, 0]  # an image overlaps
    refuse(atoms, "0.200")
    atoms.positions[1] = atoms.positions[0]
    refuse(atoms, "0.000")
    refuse(Atoms("Si", cell=[0.2, 5, 5], pbc=True, info={"energy": 1.0}), "Atoms 0 and 0", "0.200")
    atoms.positions[1] = atoms.positions[0] + [0.0, 0.0, 0.31]
    assert len(read_data(atoms, quiet=True)) == 1


@pytest.mark.parametrize("cell", [np.zeros((3, 3)), np.diag([5.0, 5.0, 0.0]), [[5, 0, 0], [0, 5, 0], [5, 5, 0]]])
def test_flat_cell(cell):
    atoms = Atoms("Si", cell=cell, pbc=True, info={"energy": 1.0})
    refuse([good(), atoms], "cell of frame 1", "span a volume", "pbc='F F F'")
    atoms.pbc = False
    assert read_data(atoms, quiet=True)[0].volume is None


def test_no_energies(tmp_path):
    write(tmp_path / "a.xyz", Atoms("Si", info={"E0": -1.0}))
    refuse(tmp_path / "a.xyz", "Energies", "a.xyz", "E0", "energy_key=")
    assert read_data(tmp_path / "a.xyz", quiet=True, unlabelled=True)[0].energy is None
    assert read_data(tmp_path / "a.xyz", quiet=True, energy_key="E0")[0].energy == -1.0


def test_species():
    refuse([good(), Atoms("SiGe", [[0, 0, 0], [2, 0, 0]], info={"energy": -1})], "Ge", "frame 1", "species=", species=["Si"])
    refuse(Atoms("XSi", [[0, 0, 0], [2, 0, 0]], info={"energy": -1}), "frame 0", "symbol X")
    assert read_data(good(), species=["Ge", "Si"], quiet=True).species == ["Ge", "Si"]


def test_keys_and_units():
    refuse(good(), "energy_key='E'", energy_key="E")
    refuse(good(), "unit", "mass", units={"mass": "amu"}, error=UnitError)
    refuse(good(), "GPa", units={"energy": "GPa"}, error=UnitError)
    refuse(good(stress=np.zeros(5)), "frame 0", "5 components")
    refuse(good(stress=np.arange(9.0)), "symmetric")
    refuse(good(energy=np.zeros(2)), "energy of frame 0", "2 numbers")
    refuse(good(forces=np.zeros((1, 3))), "forces of frame 0", "(2, 3)", "(1, 3)")
    atoms = good()
    atoms.info["E"] = "low"
    refuse(atoms, "energy of frame 0", "'low'", energy_key="E")


def test_not_structures():
    refuse([], "empty")
    refuse([1], "int")
    refuse(1, "int")
    refuse(Atoms(info={"energy": 1.0}), "frame 0", "no atoms")


@pytest.mark.parametrize("text", ["", "\n", "\n \n"])
@pytest.mark.parametrize("packed", [False, True])
def test_empty_file(tmp_path, text, packed):
    path = tmp_path / ("a.xyz.xz" if packed else "a.xyz")
    path.write_bytes(lzma.compress(text.encode()) if packed else text.encode())
    refuse(path, path.name, "empty")


def test_no_file(tmp_path):
    refuse(tmp_path / "a.xyz", "a.xyz", "does not exist", "silicon.xyz.xz")
    refuse(tmp_path, "folder")
    (tmp_path / "a.nonsense").write_text("hello")
    refuse(tmp_path / "a.nonsense", "a.nonsense")


def test_cut_file_at_every_line_and_in_the_last_number(tmp_path):
    write(tmp_path / "a.xyz", [good(), good(1.01), good(1.02)])
    text = (tmp_path / "a.xyz").read_text()
    lines = text.splitlines(keepends=True)
    for last in range(1, len(lines)):
        (tmp_path / "a.xyz").write_text("".join(lines[:last]))
        if last % 4:
            refuse(tmp_path / "a.xyz", f"Frame {last // 4} of a.xyz", "ends inside", "cut")
        else:
            assert len(read_data(tmp_path / "a.xyz", quiet=True)) == last // 4
    for end in (-4, -30):
        (tmp_path / "a.xyz").write_text(text[:end])
        refuse(tmp_path / "a.xyz", "rame 2 of a.xyz")
    (tmp_path / "a.xyz").write_text(text[:-1])  # no newline at the end, all numbers whole
    assert len(read_data(tmp_path / "a.xyz", quiet=True)) == 3


@pytest.mark.parametrize("suffix", ["xz", "gz"])
def test_cut_archive(tmp_path, suffix):
    write(tmp_path / "a.xyz", [good()] * 20)
    write(tmp_path / f"a.xyz.{suffix}", [good()] * 20, format="extxyz")
    whole = (tmp_path / f"a.xyz.{suffix}").read_bytes()
    (tmp_path / f"a.xyz.{suffix}").write_bytes(whole[: len(whole) // 2])
    refuse(tmp_path / f"a.xyz.{suffix}", f"a.xyz.{suffix}", "cut")
    (tmp_path / f"a.xyz.{suffix}").write_bytes(b"not an archive")
    refuse(tmp_path / f"a.xyz.{suffix}", f"a.xyz.{suffix}", "damaged")


@pytest.mark.parametrize(("old", "new"), [("Si ", "Xx "), ("1.36000000", "1.36o"), ('Lattice="', 'Lattice="a ')])
def test_damaged_frame(tmp_path, old, new):
    write(tmp_path / "a.xyz", [good(), good(1.01)])
    text = (tmp_path / "a.xyz").read_text()
    half = text.index("\n2\n")
    (tmp_path / "a.xyz").write_text(text[:half] + text[half:].replace(old, new))
    refuse(tmp_path / "a.xyz", "frame 1 of a.xyz")
    (tmp_path / "a.xyz").write_text("some\ntext\n")
    refuse(tmp_path / "a.xyz", "Frame 0", "Line 1", "'some'")


def test_a_frame_checks_itself():
    with pytest.raises(DataError, match=r"shape \(1, 3\).*\(2, 3\)"):
        Frame(("Si",), np.zeros((2, 3)))
    with pytest.raises(DataError, match="stress is stored.*not periodic"):
        Frame(("Si",), np.zeros((1, 3)), stress=np.eye(3))
    with pytest.raises(DataError, match="Ge was found"):
        Data([Frame(("Ge",), np.zeros((1, 3)))], ["Si"])


@pytest.mark.parametrize("frames", ["silicon.xyz.xz", None, [good()]])
def test_data_are_made_of_frames(frames):
    with pytest.raises(DataError, match="read_data"):
        Data(frames)


@pytest.mark.parametrize("share", ["a", None, 1.5, float("nan")])
def test_a_share_is_a_number_between_zero_and_one(share):
    with pytest.raises(DataError, match="between 0 and 1"):
        read_data([good(), good(1.01)], quiet=True).split(test=share)


def test_broken_frames_are_left_out_where_that_is_asked():
    """With a word that names them; where none is left it is an error, and errors of several frames tell of the choice."""
    broken = good(1.01, energy=np.nan)
    assert "skip_broken=True" in refuse([good(), broken], "energy of frame 1")
    with pytest.warns(BrokenFrames, match="1 of 3 frames .*\n  The energy of frame 1 should be finite"):
        data = read_data([good(), broken, good(1.02)], quiet=True, skip_broken=True)
    assert [f.index for f in data] == [0, 2]
    refuse(broken, "energy of frame 0", skip_broken=True)
