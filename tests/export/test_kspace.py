"""Fixed charges in LAMMPS: near part in the pair style, far part in kspace_style; what cannot be split so is refused."""

from __future__ import annotations

from pathlib import Path

import ase.build
import numpy as np
import pytest
from ase import Atoms

import composer
from composer.algebra import Expression, Scale
from composer.errors import AlgebraError, DataError
from composer.export.check import differences, model_values
from composer.export.kspace import charged
from composer.export.lammps_engine import Lammps
from composer.export.structures import random_structures
from composer.export.to_lammps import engine
from composer.model import Model
from terms import Charges, Coulomb, Density, Dispersion, Pair

FIXED = Charges({"Na": 1, "Cl": -1})
REPULSION = Pair("A*exp(-r/rho)", cutoff=5, A=1500.0, rho=0.3)


@pytest.fixture(scope="module")
def salt() -> Model:
    return Model(REPULSION + Coulomb(FIXED, accuracy=1e-4, cutoff=6.0), ["Na", "Cl"])


@pytest.fixture(scope="module")
def folder(salt: Model, tmp_path_factory: pytest.TempPathFactory) -> Path:
    pytest.importorskip("lammps")
    place = tmp_path_factory.mktemp("kspace") / "salt"
    salt.export(place, "lammps")
    return place


def crystal() -> Atoms:
    atoms = ase.build.bulk("NaCl", "rocksalt", a=5.64, cubic=True) * (2, 2, 2)
    atoms.rattle(0.1, seed=1)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + [[0.0, 0.0, 0.0], [0.03, 0.01, 0.0], [-0.02, 0.04, 0.02]]), scale_atoms=True)
    return atoms


@pytest.mark.parametrize("style", ["pppm", "ewald"])
def test_both_parts_together_are_the_model(style: str, salt: Model, folder: Path) -> None:
    written = engine(folder, salt)
    lines = [line.replace("pppm", style) for line in written.commands]
    for structure in (crystal(), *random_structures(salt.species, seed=3, periodic=True)):
        found = differences(Lammps(salt.species, lines)(structure), model_values(salt, structure))
        assert max(found.values()) < written.error == pytest.approx(1e-3)
        assert found["forces"] < 1e-4


def test_without_the_far_part_it_would_be_wrong(salt: Model) -> None:
    parts = charged(salt)
    assert parts is not None
    near, rest, ours = (model_values(m, crystal()) for m in (parts.near, parts.rest, salt))
    assert np.abs(rest.forces).max() > 0.1 and abs(rest.energy) > 1.0
    np.testing.assert_allclose(near.forces + rest.forces, ours.forces, rtol=0, atol=1e-12)
    assert near.energy + rest.energy == pytest.approx(ours.energy, rel=1e-13)


def test_validate_and_the_lines_of_input(salt: Model, folder: Path) -> None:
    found = composer.validate(folder, steps=0)
    assert found.ok, str(found)
    assert {row["subject"].split(":")[0] for row in found.rows()} == {"export", "engine"}
    text = (folder / "potential.lmp").read_text()
    assert all(words in text for words in ("atom_style charge", "set type 2 charge -1.0", "kspace_style pppm", "kspace_modify gewald"))


@pytest.mark.parametrize(
    ("expression", "expected"),
    [
        (2.0 * Coulomb(FIXED), 2**0.5),
        (Coulomb(Charges({"Na": 0.5, "Cl": -0.5})) * Scale() + REPULSION, 0.5),
        (Coulomb(Charges(learn="per species", neutral=False)), None),
    ],
)
def test_charges_of_lammps(expression: Expression, expected: float | None) -> None:
    model = Model(expression, ["Na", "Cl"])
    if expected is None:
        model, expected = model.with_parameters({"Coulomb.Charges.charge": [0.7, -0.7]}), 0.7
    parts = charged(model.with_parameters({n: 1.0 for n in model.parameters if n.startswith("Scale")}))
    assert parts is not None
    assert parts.charges == pytest.approx((expected, -expected), rel=1e-7)


@pytest.mark.parametrize(
    ("expression", "said"),
    [
        (Coulomb(Charges(Density(cutoff=5))), "depend on the surroundings"),
        (Coulomb(Charges(learn="per species")), "the mean of its charges"),
        (Coulomb(FIXED) * (1 + Density(cutoff=5)), "depend on the surroundings"),
        (Coulomb(FIXED) ** 2, "depend on the surroundings"),
        (-Coulomb(FIXED), "no positive multiple"),
        (Dispersion(), "r\\^-6"),
        (Coulomb(FIXED) + Coulomb(FIXED, accuracy=1e-7), "r\\^-1 with the width 1.72.*, r\\^-1 with the width 1.85"),
    ],
)
def test_what_kspace_cannot_do_is_refused(expression: Expression, said: str, tmp_path: Path) -> None:
    with pytest.raises(AlgebraError, match=said):
        Model(expression, ["Na", "Cl"]).export(tmp_path / "folder", "lammps")
    assert not (tmp_path / "folder").exists()


def test_neighbors_alone_do_not_suffice_for_c(salt: Model, tmp_path: Path) -> None:
    with pytest.raises(AlgebraError, match="Export to one of lammps, torchsim"):
        salt.export(tmp_path / "folder", "c")


def test_input_that_forgets_the_charges(salt: Model, folder: Path) -> None:
    load, style, coeff, sodium, chlorine, kspace, gewald = engine(folder, salt).commands

    def said(*commands: str) -> str:
        with pytest.raises(DataError) as error:
            Lammps(salt.species, [load, style, coeff, *commands])(crystal())
        return str(error.value)

    assert "leaves the far part" in said(sodium, chlorine)
    assert "leaves the far part" in said(sodium, chlorine, kspace)
    assert "leaves the far part" in said(sodium, chlorine, kspace, gewald, "dielectric 2.0")
    assert "An atom of type 1 has the charge 0.5, and the model was made for 1" in said("set type 1 charge 0.5", chlorine, kspace, gewald)
    free = crystal()
    free.pbc = False
    with pytest.raises(DataError, match="on"):
        engine(folder, salt)(free)
