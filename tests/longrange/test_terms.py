"""Long-range terms in expressions: values, scopes, learning (acceptance 22; laws are in tests/laws)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from ase import Atoms

import composer
from composer.algebra import Expression
from composer.algebra.reading import from_data
from composer.errors import AlgebraError, BackendError, DataError
from composer.fit.gauges import gauges
from composer.model import Model
from composer.ops import dense
from composer.units import COULOMB
from terms import Charges, Coulomb, Density, Dispersion, ExteriorPotential, Pair, PairFormula
from tests.longrange.systems import F64, crystal, rock_salt


def test_madelung_energy_of_a_model() -> None:
    """A model and the plain sum agree with the published constant to the accuracy."""
    x, q, cell, wanted = crystal("NaCl", 5.64)
    atoms = Atoms(["Na" if c > 0 else "Cl" for c in q], x.numpy(), cell=cell.numpy(), pbc=True)
    for accuracy in (1e-3, 1e-5, 1e-8):
        found = Model(Coulomb(Charges({"Na": 1, "Cl": -1}), accuracy=accuracy), ["Na", "Cl"])(atoms)
        assert abs(float(found.energy) / (COULOMB * wanted) - 1) < accuracy
        assert abs(float(found.forces.abs().max())) < 1e-10


def test_charges_are_read_like_the_fixed_ones() -> None:
    """Learned charges at the values +1 and -1, undamped, give the energies of the fixed ones; a shift of both changes nothing."""
    atoms = rock_salt(1)
    fixed = Model(Coulomb(Charges({"Na": 1, "Cl": -1})), ["Na", "Cl"])(atoms)
    learned = Model(Coulomb(Charges(learn="per species"), damping=0.0), ["Na", "Cl"])
    for shift in (0.0, 0.7):
        found = learned.with_parameters({"Coulomb.Charges.charge": torch.tensor([1.0 + shift, -1.0 + shift], dtype=F64)})(atoms)
        assert abs(float(found.energy / fixed.energy) - 1) < 1e-12
        assert float((found.forces - fixed.forces).abs().max()) < 1e-10


def test_a_polymer_is_periodic_along_one_direction() -> None:
    """Energy of a chain, -2 ln 2/d for each pair of ions, and of a wire by images one by one; forces are slopes of it; the plan names it."""
    chain = Atoms("NaCl", [[0, 0, 0], [2.5, 0, 0]], cell=[5, 0, 0], pbc=[True, False, False])
    found = Model(Coulomb(Charges({"Na": 1, "Cl": -1})), ["Na", "Cl"])(chain)
    assert abs(float(found.energy) / (-COULOMB * 2 * math.log(2) / 2.5) - 1) < 1e-5
    atoms = rock_salt(1)
    atoms.pbc = [False, False, True]
    x, q = torch.from_numpy(atoms.positions), torch.tensor([1.0 if s == "Na" else -1.0 for s in atoms.symbols], dtype=F64)
    model = Model(Coulomb(Charges({"Na": 1, "Cl": -1}), accuracy=1e-6), ["Na", "Cl"])
    wanted = COULOMB * float(q @ dense.wire(x, q, torch.from_numpy(atoms.cell.array), 2)) / 2
    found = model(atoms)
    assert abs(float(found.energy) / wanted - 1) < 1e-6 and "wire" in model.plan(atoms)
    energies = []
    for step in (1e-4, -1e-4):
        moved = atoms.copy()
        moved.positions[3, 2] += step
        energies.append(float(model(moved).energy))
    assert abs((energies[1] - energies[0]) / 2e-4 - float(found.forces[3, 2])) < 1e-6


def test_inner_expressions_have_a_scope_of_their_own() -> None:
    """Charges from a Density do not tie with the same Density outside, and are no gauge of a product."""
    inner = Density(cutoff=4.0)
    expression: Expression = Coulomb(Charges(inner)) + Pair(cutoff=4.0) * (1 + inner)
    model = Model(expression, ["Na"])
    assert {"Coulomb.Charges.Density.coefficients", "Density.coefficients"} <= set(model.parameters)
    assert gauges(model).shape[1] == gauges(Model(Pair(cutoff=4.0) * (1 + inner), ["Na"])).shape[1]
    assert composer.expression(expression.json()) == expression


def test_exterior_potential_of_a_pair() -> None:
    """Acceptance 22: V_LR (1 - f^2) inside, V_LR beyond, smooth at the cutoff; channels do not mix."""
    for p in (1, 6):
        term = ExteriorPotential(cutoff=6.0, exponents=(p,), accuracy=1e-12)
        table = torch.zeros(4, 1, dtype=F64)
        table[1, 0] = 1.0  # what a site of the first species feels of the second
        model = Model(term, ["Na", "Cl"]).with_parameters({"ExteriorPotential.coefficients": table})

        def value(r: float, model: Model = model) -> float:
            energies = model([Atoms("NaCl", [[0, 0, 0], [r, 0, 0]])]).energies
            assert float(energies[1]) == 0.0
            return float(energies[0])

        for r in (1.5, 4.0, 5.9, 6.1, 9.0):
            s = r * r / 2.0
            smooth = math.erf(math.sqrt(s)) / r if p == 1 else (1 - math.exp(-s) * (1 + s + s * s / 2)) / r**6
            inside = (1 - (0.5 - 0.5 * math.cos(math.pi * r / 6))) ** 2 if r < 6 else 0.0
            assert abs(value(r) - smooth * (1 - inside)) < 1e-14
        h = 0.02
        bends = [(value(r + h) - 2 * value(r) + value(r - h)) / h**2 for r in (6 - h, 6 + h)]
        assert abs(bends[0] - bends[1]) < 0.1 * abs(bends[0]) + 1e-6


def test_energy_is_kept_in_motion() -> None:
    """A melt of 64 ions: the drift of 300 steps of velocity Verlet is far below a thousandth of the kinetic energy."""
    from ase import units
    from ase.md.verlet import VelocityVerlet

    expression = Coulomb(Charges({"Na": 1, "Cl": -1}), accuracy=1e-4, cutoff=6.0) + Pair(cutoff=5.0, n_max=2)
    model = Model(expression, ["Na", "Cl"])
    model = model.with_parameters({"Pair.coefficients": torch.tensor([[0.0, 0.0], [40.0, 40.0], [0.0, 0.0]], dtype=F64)})
    atoms = rock_salt(2, shake=0.05)
    atoms.calc = model.calculator()
    speeds = np.random.default_rng(0).normal(size=(64, 3)) * np.sqrt(300 * units.kB / atoms.get_masses())[:, None]
    atoms.set_velocities(speeds - speeds.mean(0))
    totals = []
    dynamics = VelocityVerlet(atoms, 1.0 * units.fs)
    for _ in range(6):
        dynamics.run(50)
        totals.append(atoms.get_total_energy())
    assert np.ptp(totals) < 2e-3 * atoms.get_kinetic_energy()


def test_bad_declarations_are_named() -> None:
    for make, text in (
        (lambda: Charges(), "Exactly one of three ways"),
        (lambda: Charges({"Na": 1}, learn="per species"), "Exactly one"),
        (lambda: Charges({"Na": math.nan}), "That of Na is nan"),
        (lambda: Charges(learn="per_species"), "'per_species' is not known, but 'per species'"),
        (lambda: ExteriorPotential(cutoff=5.0, exponents=6), "Exponents are"),  # type: ignore[arg-type]
        (lambda: Coulomb({"Na": 1}), "It takes Charges"),  # type: ignore[arg-type]
        (lambda: Coulomb(Charges({"Na": 1}), accuracy=2.0), "It lies between"),
        (lambda: Coulomb(Charges({"Na": 1}), method="fast"), "Methods are"),
        (lambda: Coulomb(Charges({"Na": 1}), order=3), "orders 4 to 8"),
        (lambda: Dispersion(mesh=(8, 8)), "three numbers"),  # type: ignore[arg-type]
        (lambda: Dispersion(method="ewald", mesh=(8, 8, 8)), "has neither"),
        (lambda: Dispersion(damping=math.nan), "damping is 0 or above"),
        (lambda: Model(Coulomb(Charges({"Na": 1})), ["Na", "Cl"]), 'Add "Cl"'),
        (lambda: ExteriorPotential(cutoff=5.0, exponents=(3,)), "Exponents are"),
        (lambda: Dispersion(accuracy=-1.0), "It lies between"),
    ):
        with pytest.raises(AlgebraError, match=text):
            make()


def test_the_way_to_sum_is_fixed_by_hand() -> None:
    """The same energies to the accuracy, by what was asked for; a term that asks for nothing is the one it always was."""
    atoms, charges = rock_salt(2), Charges({"Na": 1, "Cl": -1})
    known = Model(Coulomb(charges, accuracy=1e-6), ["Na", "Cl"])
    for how, words in (
        ({"method": "ewald"}, "k to"),
        ({"method": "mesh", "order": 7}, "order 7"),
        ({"mesh": [40, 40, 42], "order": 6}, "mesh (40, 40, 42), order 6"),
    ):
        model = Model(Coulomb(charges, accuracy=1e-6, **how), ["Na", "Cl"])
        assert words in model.plan(atoms) and abs(float(model(atoms).energy / known(atoms).energy) - 1) < 1e-6
        assert from_data(model.expression.data()) == model.expression
    assert "coarser than" in Model(Coulomb(charges, accuracy=1e-6, mesh=(8, 8, 8)), ["Na", "Cl"]).plan(atoms)
    assert Coulomb(charges, method="auto", order=None).digest == Coulomb(charges).digest
    assert "method" not in Coulomb(charges).data() and "method" in Coulomb(charges, method="mesh").data()
    with pytest.raises(BackendError, match="needs as many along each side"):
        Model(Coulomb(charges, mesh=(4, 4, 4), order=8), ["Na", "Cl"])(atoms)


def test_atoms_on_top_of_each_other_are_refused() -> None:
    """Also an image of an atom, and in any structure of a batch; excluded pairs may stand where they like."""
    model = Model(Coulomb(Charges({"Na": 1, "Cl": -1})), ["Na", "Cl"])
    good, bad = rock_salt(1), rock_salt(1)
    bad.positions[5] = bad.positions[2] + bad.cell[1]
    with pytest.raises(DataError, match="energy of structure 1 was asked for. Atoms 2 and 5 stand on top"):
        model([good, bad])
    with pytest.raises(DataError, match="Atoms 2 and 5"):
        bad.calc = model.calculator()
        bad.get_potential_energy()
    assert torch.isfinite(Model(Pair(cutoff=4.0), ["Na", "Cl"])(bad).energy).all()
    molecule = Atoms("NaCl", np.zeros((2, 3)))
    molecule.info["excluded"] = [[0, 1]]
    assert Model(Coulomb(Charges({"Na": 1, "Cl": -1})), ["Na", "Cl"]).prepare(molecule).atoms == 2


def test_a_shift_of_learned_charges_is_a_gauge() -> None:
    model = Model(Coulomb(Charges(learn="per species")), ["Na", "Cl"])
    (direction,) = gauges(model).T
    charges = [name.startswith("Coulomb.Charges.charge") for name in model.parameter_names]
    assert np.allclose(direction, np.where(charges, 0.5**0.5, 0.0))
    columns = model.jacobian(rock_salt(1))
    assert float((columns.forces @ torch.from_numpy(direction)).abs().max()) < 1e-12 < float(columns.forces.abs().max())


def test_the_face_offers_the_sums_and_a_formula_is_a_pair() -> None:
    x, q, cell, _ = crystal("NaCl", 5.64)
    assert composer.longrange.potential(x, q, cell).shape == q.shape
    numbers = {"A": 1000.0, "rho": 0.3}
    assert Pair("A*exp(-r/rho)", cutoff=8, **numbers) == PairFormula("A*exp(-r/rho)", cutoff=8, **numbers)  # type: ignore[call-arg]


def test_the_plan_is_printed() -> None:
    """Method, width, mesh and order for each kind of structure."""
    model = Model(Coulomb(Charges({"Na": 1, "Cl": -1}), accuracy=1e-4), ["Na", "Cl"])
    slab, large = rock_salt(1), rock_salt(6)
    slab.pbc = (True, True, False)
    lines = model.plan([rock_salt(1), large, slab, Atoms("NaCl", [[0, 0, 0], [2.5, 0, 0]])]).splitlines()
    assert [word in line for word, line in zip(("k to", "order", "tall cell", "all pairs"), lines)] == [True] * 4
    assert len({line.split(": ")[1] for line in lines}) == 1 and "accuracy 0.0001" in lines[0]  # the split belongs to the term
    assert Model(Pair(cutoff=4.0), ["Na"]).plan(Atoms("Na")) == ""
