"""The term by value: T3, T4, T6, T7, T13, T15 and T16 of `theory/nep.md`, on files of random numbers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
import torch
from ase import Atoms

import composer
from composer.algebra import Constant
from composer.autograd import call
from composer.codegen.program import values
from composer.export.nepfile import text
from composer.fit.gauges import gauges
from composer.ir.indices import Range
from composer.ir.sums import element
from composer.model import Model
from composer.neighbors import Batch
from composer.quantities import Environment
from composer.runtime.kernel import Kernel
from terms import NEP, ZBL, radial
from terms.nep_descriptors import angular_descriptors
from terms.radial import tabulate
from tests.nep.conftest import by_calorine, calorine
from tests.nep.random_files import random_file
from tests.nep.structures import alloy

BASE = Path(__file__)


def model_of(tmp_path: Path, **form: object) -> tuple[Model, Path]:
    path = tmp_path / "nep.txt"
    path.write_text(text(random_file(**form)))  # type: ignore[arg-type]
    return composer.read_model(path), path


def descriptors(model: Model, batch: Batch) -> np.ndarray:
    """Angular descriptors [N, blocks, channels]."""
    term = next(t for t in model.expression.terms() if isinstance(t, NEP))
    b, n, q = angular_descriptors(term, Environment(model.species))
    named = {f"{x} {y}": element(element(q, b, x), n, y) for x in range(b.size) for y in range(n.size)}
    site = Kernel("descriptors", values(named), model.layout)(batch, model.flat).site
    return np.array([[site[f"{x} {y}"][: batch.atoms].numpy() for y in range(n.size)] for x in range(b.size)]).transpose(2, 0, 1)


def test_t3_the_invariant_1111_is_the_square_of_the_first(tmp_path: Path) -> None:
    """q_1111 = (7/15) q_n1^2, and all seven families equal calorine's."""
    model, path = model_of(tmp_path, l_max=(4, 2, 1, 1, 1, 1, 1))
    atoms = alloy()
    bare = descriptors(model, model.prepare(atoms))
    found = bare * model.parameters["NEP.angular_scaler"].numpy()
    np.testing.assert_allclose(bare[:, 5], 7 / 15 * bare[:, 0] ** 2, rtol=1e-12)
    wanted = np.array(calorine(path, atoms).get_descriptors()).reshape(-1, len(atoms)).T[:, 3:]
    np.testing.assert_allclose(found.reshape(len(atoms), -1), wanted, rtol=0, atol=1e-11 * np.abs(wanted).max())


@pytest.mark.parametrize("form", [{"zbl": (0.0, 0.0), "species": ("Al", "Cu", "W")}, {"zbl": (1.9, 2.5, 0.7)}, {"zbl": (1.0, 2.0)}])
def test_t6_forms_of_the_repulsion(tmp_path: Path, form: dict) -> None:
    """A row for each pair; the printed inner distance of a typewise file means nothing; half of each pair to either atom."""
    model, path = model_of(tmp_path, **form)
    atoms = alloy(tungsten="species" in form)
    found = model(atoms)
    sites, forces, _ = by_calorine(path, atoms)
    np.testing.assert_allclose(found.energies.numpy(), sites, rtol=0, atol=1e-9)
    np.testing.assert_allclose(found.forces.numpy(), forces, rtol=0, atol=1e-9)
    zbl = next(t for t in model.expression.terms() if isinstance(t, ZBL))
    pair = Atoms("AlCu", [[0, 0, 0], [1.2, 0, 0]])
    energies = composer.compile(zbl, model.species, quiet=True)(pair).energies
    assert float(energies[0]) == pytest.approx(float(energies[1]), rel=1e-12) and float(energies[0]) > 0.1


def test_t4_forces_of_charges_are_slopes(tmp_path: Path) -> None:
    """Finite differences of the energy, in both modes: the mean of dE/dq is taken off."""
    for kind in ("charge1", "charge2"):
        model, path = model_of(tmp_path, kind=kind)
        atoms = alloy()
        found = model(atoms)
        for axis in range(3):
            ends = []
            for step in (1e-4, -1e-4):
                moved = atoms.copy()
                moved.positions[5, axis] += step
                ends.append(float(model(moved).energy))
            assert float(found.forces[5, axis]) == pytest.approx((ends[1] - ends[0]) / 2e-4, abs=2e-6)
        assert abs(float(found.charges.sum())) < 1e-12 and float(found.charges.abs().max()) > 1e-2  # type: ignore[attr-defined]


def test_t7_gradient_by_the_network_is_the_closed_form(tmp_path: Path) -> None:
    """dE/dw = h - h0, dE/db = -w (1 - h^2) + w (1 - h0^2), h from calorine's descriptors; and the gradient of E, F, W by differences."""
    model, path = model_of(tmp_path, version=5, zbl=(1.0, 2.0))
    atoms = alloy()
    batch = model.prepare(atoms)
    q = torch.from_numpy(np.array(calorine(path, atoms).get_descriptors()).reshape(-1, len(atoms)).T.copy())
    tables = model.parameters
    weights = torch.cat([tables["NEP.radial_weights"], tables["NEP.angular_weights"].reshape(2, -1, 5)], 1)
    scaler = torch.cat([tables["NEP.radial_scaler"], tables["NEP.angular_scaler"].reshape(-1)])
    bias, output = tables["NEP.bias"], tables["NEP.output"]
    del scaler  # calorine's descriptors hold it
    kind = batch.species[: batch.atoms].long()
    h = torch.tanh(torch.einsum("nd,ndm->nm", q, weights[kind]) - bias[kind])
    rest = torch.tanh(-bias)
    by = model.kernel("parameters")(batch, model.flat, inputs={"seed": torch.ones(batch.atoms, dtype=torch.float64)}).gradient
    assert by is not None
    for s in range(2):
        slope = torch.zeros(2, 5, dtype=torch.float64)
        slope[0] = (h - rest[s])[kind == s].sum(0)
        slope[1] = (output[s] * (rest[s] ** 2 - 1) * -1.0 - output[s] * (1 - h**2))[kind == s].sum(0)
        for name, wanted in (("output", slope[0]), ("bias", slope[1])):
            entry = next(e for e in model.entries if e.name == f"NEP.{name}")
            slot = model.layout.slots[entry.key]
            found = by[slot.offset + s * 5 : slot.offset + s * 5 + 5]
            torch.testing.assert_close(found, wanted, rtol=1e-10, atol=1e-10)
    cE, cF, cW = 0.3, torch.from_numpy(np.random.default_rng(1).normal(size=(len(atoms), 3))), torch.eye(3, dtype=torch.float64) + 0.2

    def loss(theta: torch.Tensor) -> torch.Tensor:
        out = call(model, batch, batch.positions, batch.cells, theta)
        return cE * out.energy.sum() + (cF * out.forces).sum() + (cW * out.virial[0]).sum()

    theta = model.theta.clone().requires_grad_()
    (slope_,) = torch.autograd.grad(loss(theta), theta)
    v = torch.from_numpy(np.random.default_rng(2).normal(size=model.size))
    ends = [float(loss(model.theta + s * 1e-5 * v)) for s in (1, -1)]
    assert float(slope_ @ v) == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-6)


def test_t13_smoothness_at_the_cutoff() -> None:
    """The curvature of f_k jumps by pi^2/(2 rc^2) for even k and not at all for odd k."""
    rc, h = 4.0, 1e-4
    env = Environment(("Si",))
    functions = radial.half_chebyshev(env.neighbors(rc).r, rc, 9)
    r = np.array([rc - 2 * h, rc - h, rc])
    for k, function in enumerate(functions):
        a, b, c = tabulate(function, r)
        jump = (a - 2 * b + c) / h**2
        assert jump == pytest.approx(0.0 if k % 2 else math.pi**2 / (2 * rc**2), abs=1e-3)


def test_t15_gauges(tmp_path: Path) -> None:
    """c -> M c with weights M^-1, and an angular channel times a: energy, forces and virial stay."""
    model, _ = model_of(tmp_path, l_max=(4, 2, 1))
    atoms = alloy()
    before = model(atoms)
    t = {n: v.numpy().copy() for n, v in model.parameters.items()}
    mix = np.random.default_rng(3).normal(size=(3, 3)) + 2 * np.eye(3)
    c = t["NEP.radial"].reshape(2, 2, 3, 4)
    c[0] = np.einsum("ab,tbk->tak", mix, c[0])
    scaled = t["NEP.radial_weights"][0] * t["NEP.radial_scaler"][:, None]
    t["NEP.radial_weights"][0] = np.linalg.solve(mix.T, scaled) / t["NEP.radial_scaler"][:, None]
    t["NEP.radial"] = c.reshape(t["NEP.radial"].shape)
    a = 1.7
    angular = t["NEP.angular"].reshape(2, 2, 2, 3)
    angular[1, :, 1] *= a
    t["NEP.angular"] = angular.reshape(t["NEP.angular"].shape)
    for block, power in enumerate([2, 2, 2, 2, 3, 4]):
        t["NEP.angular_weights"][1, block, 1] *= a**-power
    after = model.with_parameters(t)(atoms)
    assert float((model.with_parameters(t).theta - model.theta).abs().max()) > 0.1
    torch.testing.assert_close(after.energy, before.energy, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(after.forces, before.forces, rtol=1e-10, atol=1e-10)
    torch.testing.assert_close(after.virial, before.virial, rtol=1e-10, atol=1e-10)


def test_t15_zero_modes(tmp_path: Path) -> None:
    """The Jacobian has at least T ((n_r + 1)^2 + n_a + 1) zero modes, and `gauges` gives them."""
    model, _ = model_of(tmp_path, l_max=(2, 0, 0), species=("Al", "Cu"), neurons=3)
    jacobian = model.jacobian(alloy())
    matrix = torch.cat([jacobian.energy, jacobian.forces.reshape(-1, model.size)]).numpy()
    found = gauges(model)
    assert found.shape[1] == 2 * (9 + 2)
    scale = np.linalg.norm(matrix, axis=0)
    assert np.abs(matrix @ found).max() < 1e-9 * np.abs(matrix).max()
    spectrum = np.linalg.svd(matrix / np.where(scale > 0, scale, 1.0), compute_uv=False)
    assert np.linalg.matrix_rank(found) == 22 and (spectrum < 1e-10 * spectrum[0]).sum() >= 22 - max(0, model.size - len(spectrum))


def test_t16_dipoles_and_polarizabilities(tmp_path: Path) -> None:
    """They turn with the structure and equal calorine's."""
    atoms = alloy()
    turn = np.linalg.qr(np.random.default_rng(5).normal(size=(3, 3)))[0]
    turned = atoms.copy()
    turned.positions = atoms.positions @ turn.T
    turned.set_cell(atoms.cell.array @ turn.T)
    model, path = model_of(tmp_path, kind="dipole")
    mu = model(atoms)[0].numpy()  # type: ignore[index]
    np.testing.assert_allclose(model(turned)[0].numpy(), turn @ mu, rtol=0, atol=1e-10 * np.abs(mu).max())  # type: ignore[index]
    np.testing.assert_allclose(mu, calorine(path, atoms).get_dipole(), rtol=0, atol=1e-8)
    model, path = model_of(tmp_path, kind="polarizability")
    p = model(atoms)[0].numpy()  # type: ignore[index]
    np.testing.assert_allclose(model(turned)[0].numpy(), turn @ p @ turn.T, rtol=0, atol=1e-10 * np.abs(p).max())  # type: ignore[index]
    xx, yy, zz, xy, yz, zx = calorine(path, atoms).get_polarizability()
    np.testing.assert_allclose(p, [[xx, xy, zx], [xy, yy, yz], [zx, yz, zz]], rtol=0, atol=1e-7)


def test_many_species_are_contracted_for_each_neighbour() -> None:
    """Beyond eight species coefficients are handled in another loop, with the same result."""
    few = NEP(cutoff=(4.5, 3.5), n_max=(1, 1), basis=(2, 2), l_max=(2, 2, 0), neurons=3)
    symbols = ["Al", "Cu", "H", "He", "Li", "Be", "B", "C", "N", "O"]
    small, large = composer.compile(few, symbols[:2], quiet=True), composer.compile(few, symbols, quiet=True)
    one, other = small(alloy()), large(alloy())
    torch.testing.assert_close(other.energies, one.energies, rtol=1e-12, atol=1e-12)
    torch.testing.assert_close(other.forces, one.forces, rtol=1e-11, atol=1e-11)


def test_fields_are_checked() -> None:
    assert NEP(cutoff=(8, 4)) == NEP(cutoff=(8.0, 4.0)) and NEP(l_max=(4, 1)) == NEP(l_max=(4, 2, 0))
    assert NEP() - NEP() == Constant(0.0) and Range("neuron", 3).size == 3
    assert eval(repr(NEP(elements=(("Te", 7, 4),)))) == NEP(elements=(("Te", 7.0, 4.0),))
    wrong = [
        {"cutoff": (8, -1)},
        {"n_max": (4,)},
        {"l_max": (9,)},
        {"l_max": (2, 2, 0, 0, 1)},
        {"version": 2},
        {"neurons": 0},
        {"elements": (("Te",),)},
    ]
    for fields in wrong:
        with pytest.raises(composer.AlgebraError):
            NEP(**fields)
