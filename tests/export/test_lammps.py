"""pair_style composer in LAMMPS: the numbers of theory/interfaces.md, section 12, tests 5 and 6, and what an input can get wrong."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import ase.build
import ase.io
import numpy as np
import pytest
from ase import Atoms

from composer.errors import DataError
from composer.export.check import differences, model_values, worst
from composer.export.lammps_engine import Lammps, placed
from composer.export.structures import random_structures
from composer.export.validation import strain_error
from composer.model import Model

ModelOf, Exported = Callable[[str], Model], Callable[[str], Path]
NAMES = ["StillingerWeber, two species", "stages"]


def lines(folder: Path, *species: str) -> list[str]:
    """The input of an export with these species for the atom types."""
    return [
        f"plugin load {folder / 'composerplugin.so'}",
        f"pair_style composer {folder / 'potential.txt'}",
        f"pair_coeff * * {' '.join(species)}",
    ]


def started(folder: Path, species: tuple[str, ...], options: str = "", skin: float = 1.0) -> Lammps:
    return Lammps(species, lines(folder, *species), skin, options)


def silicon(cells: int = 2) -> Atoms:
    """A strained and shaken crystal in a triclinic box."""
    atoms = ase.build.bulk("Si", "diamond", a=5.43, cubic=True) * (cells, cells, cells)
    atoms.positions += np.random.default_rng(5).uniform(-0.2, 0.2, atoms.positions.shape)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + [[0.0, 0.0, 0.0], [0.03, 0.01, 0.0], [-0.02, 0.04, 0.02]]), scale_atoms=True)
    return atoms


@pytest.mark.parametrize("newton", ["newton on", "newton off"])
@pytest.mark.parametrize("name", NAMES)
def test_5_energy_forces_and_virial_in_any_box(name: str, newton: str, model_of: ModelOf, exported: Exported) -> None:
    model = model_of(name)
    engine = started(exported(name), model.species, newton)
    for structure in random_structures(model.species, seed=2):
        found = differences(engine(structure), model_values(model, structure))
        assert set(found) == {"energy", "forces", "virial", "site energies"}
        assert max(found.values()) < 1e-12
        assert np.abs(model_values(model, structure).forces).max() > 1e-2


@pytest.mark.parametrize("name", ["StillingerWeber", "stages"])
def test_5_pressure_equals_differences_by_the_box(name: str, exported: Exported) -> None:
    assert strain_error(started(exported(name), ("Si",)), silicon()) < 1e-6


def test_5_energy_is_kept(exported: Exported) -> None:
    atoms = ase.build.bulk("Si", "diamond", a=5.43, cubic=True) * (2, 2, 2)
    assert abs(started(exported("StillingerWeber"), ("Si",)).drift(atoms, steps=1000)) < 1e-6


def test_6_two_species_in_any_order_of_types(model_of: ModelOf, exported: Exported) -> None:
    name = "StillingerWeber, two species"
    model, folder = model_of(name), exported(name)
    (structure, *_) = random_structures(model.species, seed=6)
    for species in (("Si", "C"), ("C", "Si", "C")):
        mixed = Lammps(species, lines(folder, *species))
        assert max(differences(mixed(structure), model_values(model, structure)).values()) < 1e-12


def test_a_type_that_no_atom_has_is_harmless(model_of: ModelOf, exported: Exported) -> None:
    name = "StillingerWeber, two species"
    atoms = silicon()
    engine = started(exported(name), ("C", "Si"))
    assert worst(engine, model_of(name), [atoms])["forces"] < 1e-12


@pytest.mark.parametrize("skin", [0.1, 3.0])
def test_skin_and_communication_cutoff_change_nothing(skin: float, model_of: ModelOf, exported: Exported) -> None:
    engine = started(exported("stages"), ("Si",), "comm_modify cutoff 1.0", skin)  # LAMMPS must not go below what the pair style asks for
    assert max(worst(engine, model_of("stages"), [silicon()]).values()) < 1e-12


@pytest.mark.parametrize("name", ["StillingerWeber", "stages"])
def test_virials_of_atoms_add_up_and_do_not_depend_on_newton(name: str, exported: Exported) -> None:
    atoms, found = silicon(), []
    for newton in ("newton on", "newton off"):
        instance, _ = started(exported(name), ("Si",), newton).started(atoms)
        try:
            instance.commands_string(
                "compute s all stress/atom NULL virial\nthermo_style custom step pe pxx pyy pzz pxy pxz pyz vol\nrun 0"
            )
            stress = np.array(instance.numpy.extract_compute("s", 1, 2)[: len(atoms)])  # bar Å^3
            pressure = np.array([instance.get_thermo(p) for p in ("pxx", "pyy", "pzz", "pxy", "pxz", "pyz")])
            np.testing.assert_allclose(-stress.sum(0), pressure * instance.get_thermo("vol"), rtol=0, atol=1e-9 * np.abs(stress).sum())
            found.append(stress)
        finally:
            instance.close()
    assert np.abs(found[0]).max() > 1.0
    np.testing.assert_allclose(found[0], found[1], rtol=0, atol=1e-10 * np.abs(found[0]).max())


def test_overlay_with_another_style(model_of: ModelOf, exported: Exported) -> None:
    folder, atoms = exported("stages"), silicon()
    zbl = Lammps(("Si",), ["pair_style zbl 1.5 2.6", "pair_coeff * * 14 14"])(atoms)
    alone = started(folder, ("Si",))(atoms)
    for newton in ("newton on", "newton off"):
        commands = [
            f"plugin load {folder / 'composerplugin.so'}",
            f"pair_style hybrid/overlay composer {folder / 'potential.txt'} zbl 1.5 2.6",
            "pair_coeff * * composer Si",
            "pair_coeff * * zbl 14 14",
        ]
        both = Lammps(("Si",), commands, options=newton)(atoms)
        assert np.abs(zbl.forces).max() > 0.1
        assert both.energy == pytest.approx(zbl.energy + alone.energy, rel=1e-12)
        np.testing.assert_allclose(both.forces, zbl.forces + alone.forces, rtol=0, atol=1e-11)
        np.testing.assert_allclose(both.virial, zbl.virial + alone.virial, rtol=0, atol=1e-9)


def test_hybrid_acts_on_its_own_types(model_of: ModelOf, exported: Exported) -> None:
    folder, crystal = exported("StillingerWeber"), silicon()
    gas = Atoms("Ar2", positions=[[0.0, 0.0, 0.0], [0.0, 0.0, 3.5]])
    apart = crystal + gas
    apart.positions[-2:] += [5.0, 5.0, 60.0]
    apart.set_cell(np.diag([40.0, 40.0, 90.0]))
    commands = [
        f"plugin load {folder / 'composerplugin.so'}",
        f"pair_style hybrid composer {folder / 'potential.txt'} lj/cut 8.0",
        "pair_coeff * * composer Si NULL",
        "pair_coeff 1 2 lj/cut 0.01 3.0",
        "pair_coeff 2 2 lj/cut 0.01 3.4",
    ]
    found = Lammps(("Si", "Ar"), commands)(apart)
    crystal.set_cell(apart.cell)
    expected = model_values(model_of("StillingerWeber"), crystal)
    np.testing.assert_allclose(found.forces[: len(crystal)], expected.forces, rtol=0, atol=1e-11)
    assert np.abs(found.forces[-2:]).max() > 1e-4


def test_restart_goes_on_without_new_lines(exported: Exported, tmp_path: Path) -> None:
    folder, atoms = exported("StillingerWeber, two species"), random_structures(("C", "Si"), seed=8)[0]
    first, _ = started(folder, ("Si", "C")).started(atoms)
    first.commands_string(f"run 0\nwrite_restart {tmp_path / 'file.restart'}")
    energy = first.get_thermo("pe")
    first.close()
    from composer.export.lammps_engine import QUIET, library

    again = library()(cmdargs=QUIET)
    again.commands_string(f"plugin load {folder / 'composerplugin.so'}\nread_restart {tmp_path / 'file.restart'}\nrun 0")
    assert again.get_thermo("pe") == pytest.approx(energy, rel=1e-14)
    again.close()


SCRIPT = """units metal
atom_style atomic
newton {newton}
processors * * 1
read_data {folder}/data
mass 1 28.0855
{lines}
velocity all create 300 11 loop all
fix 1 all nve
timestep 0.001
neighbor 1.0 bin
neigh_modify delay 0 every 1 check yes
compute e all pe/atom
compute s all stress/atom NULL
dump 1 all custom {steps} {folder}/dump.{ranks} id xu yu zu fx fy fz c_e c_s[1] c_s[4]
dump_modify 1 sort id format float %.17g
thermo_style custom step pe etotal pxx pxy pyz
thermo_modify format float %.17g
run {steps}
"""


def trajectory(folder: Path, ranks: int, place: Path, newton: str = "on", steps: int = 20) -> np.ndarray:
    """Rows of the last frame, written by `ranks` processes."""
    ase.io.write(place / "data", silicon(3), format="lammps-data", specorder=["Si"])
    text = SCRIPT.format(lines="\n".join(lines(folder, "Si")), newton=newton, folder=place, ranks=ranks, steps=steps)
    (place / "in.md").write_text(text)
    command = [f"{sys.prefix}/bin/lmp", "-in", str(place / "in.md"), "-log", "none", "-nocite"]
    if ranks > 1:
        command = [f"{sys.prefix}/bin/mpiexec", "-n", str(ranks), *command]
    done = subprocess.run(command, capture_output=True, text=True, check=False, cwd=place)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    frame = (place / f"dump.{ranks}").read_text().rpartition("ITEM: ATOMS")[2].splitlines()[1:]
    return np.array([line.split() for line in frame], dtype=float)


@pytest.mark.parametrize(("name", "newton"), [("StillingerWeber", "on"), ("stages", "on"), ("stages", "off")])
def test_5_two_processes_give_the_same_trajectory(name: str, newton: str, exported: Exported, tmp_path: Path) -> None:
    if not Path(sys.prefix, "bin", "mpiexec").exists():
        pytest.skip("mpiexec is not installed")
    one, two = (trajectory(exported(name), ranks, tmp_path, newton) for ranks in (1, 2))
    assert np.abs(one[:, 4:7]).max() > 0.01
    scale = np.abs(one).max(0)  # of each column
    np.testing.assert_allclose(two / scale, one / scale, rtol=0, atol=1e-9)


# ---- bad input: one clear line, and LAMMPS stops


def refused(commands: list[str], species: tuple[str, ...] = ("Si",)) -> str:
    """What LAMMPS says when it refuses."""
    with pytest.raises(DataError) as error:
        Lammps(species, commands)(silicon(1))
    return str(error.value)


def test_bad_lines_of_input(exported: Exported) -> None:
    folder = exported("StillingerWeber")
    load, style, coeff = lines(folder, "Si")
    assert "The model knows Si" in refused([load, style, "pair_coeff * * Ge"])
    assert "names 2 species, the box has 1 atom types" in refused([load, style, "pair_coeff * * Si Si"])
    assert "given twice" in refused([load, style, coeff, coeff])
    assert "must start with * *" in refused([load, style, "pair_coeff 1 1 Si"])
    assert "All pair coeffs are not set" in refused([load, style, "pair_coeff * * Si NULL"], ("Si", "Ge"))
    assert "takes one file" in refused([load, "pair_style composer"])
    assert "cannot be read" in refused([load, "pair_style composer nowhere/potential.txt"])


def copy(folder: Path, place: Path) -> Path:
    for name in ("potential.txt", "potential.so", "composerplugin.so"):
        (place / name).write_bytes((folder / name).read_bytes())
    return place


def sealed(text: str) -> str:
    """potential.txt with a hash that fits its changed lines."""
    body = text[: text.rindex("end ")]
    return body + f"end {hashlib.sha256(body.encode()).hexdigest()}\n"


def test_bad_files(exported: Exported, tmp_path: Path) -> None:
    place = copy(exported("StillingerWeber"), tmp_path)
    text = (place / "potential.txt").read_text()
    changes = {
        "no potential.txt of composer": "something else\n",
        "changed or cut": text[: len(text) // 2],
        "changed or cut after": text.replace("cutoff 3", "cutoff 4"),
        "has schema 2": text.replace("composer potential 1", "composer potential 2"),
        "processor with avx9000": sealed(text.replace("cpu ", "cpu avx9000 ")),
    }
    for said, changed in changes.items():
        (place / "potential.txt").write_text(changed)
        assert said in refused(lines(place, "Si"))
    (place / "potential.txt").write_text(text)
    (place / "potential.so").write_bytes((place / "potential.so").read_bytes() + b" ")
    assert "sha256 differs" in refused(lines(place, "Si"))


def test_7_fix_external_gives_what_the_pair_style_gives(model_of: ModelOf, exported: Exported) -> None:
    """LAMMPS asking the model in Python at every step, for machines where nothing can be compiled: energy, forces and pressure are those of the plugin."""
    model, atoms = model_of("StillingerWeber"), silicon()
    expected = started(exported("StillingerWeber"), ("Si",))(atoms)
    instance, rotation = Lammps(("Si",), ["pair_style zero 4.0 nocoeff", "pair_coeff * *"]).started(atoms)
    box, _, _ = placed(atoms)
    asked = atoms.copy()
    asked.set_cell(box)

    def answer(lmp, step: int, count: int, tags: np.ndarray, x: np.ndarray, f: np.ndarray) -> None:
        asked.positions[tags - 1] = x
        found = model_values(model, asked)
        f[:] = found.forces[tags - 1]
        lmp.fix_external_set_energy_global("ask", found.energy)
        lmp.fix_external_set_virial_global("ask", [found.virial[a, b] for a, b in ((0, 0), (1, 1), (2, 2), (0, 1), (0, 2), (1, 2))])

    try:
        instance.commands_string("fix ask all external pf/callback 1 1\nfix_modify ask energy yes virial yes")
        instance.set_fix_external_callback("ask", answer, instance)
        instance.commands_string("thermo_style custom step pe pxx pyy pzz pxy pxz pyz vol\nrun 0")
        assert instance.get_thermo("pe") == pytest.approx(expected.energy, rel=1e-12)
        order = np.argsort(instance.numpy.extract_atom("id")[: len(atoms)])
        forces = np.array(instance.numpy.extract_atom("f")[: len(atoms)])[order] @ rotation
        np.testing.assert_allclose(forces, expected.forces, rtol=0, atol=1e-11)
        pressure = (
            sum(instance.get_thermo(p) for p in ("pxx", "pyy", "pzz")) * instance.get_thermo("vol") / instance.extract_global("nktv2p")
        )
        assert pressure == pytest.approx(np.trace(expected.virial), rel=1e-6)
    finally:
        instance.close()
