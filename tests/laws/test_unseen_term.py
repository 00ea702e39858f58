"""A bond-order term that the compiler has never seen: two cutoffs, three species, an angle, and a field of the neighbour."""

from __future__ import annotations

import itertools
from dataclasses import dataclass

import pytest
import torch

from composer.algebra import Scale, Term, tanh
from composer.autograd import call
from composer.quantities import PER, Environment, NeighborAtom, Node, Param, dot, exp, power, read_at, row, rows, sum_over, sum_over_pairs
from terms import Density, Pair, StillingerWeber, radial
from terms.angular import direction
from tests.laws import test_back_ends, test_extent, test_motions, test_slopes
from tests.laws.subjects import Subject, assert_close, assert_columns, random, subjects


@dataclass(frozen=True, eq=False, repr=False, kw_only=True)
class Nasty(Term):
    """E_i = sum_j f(r_ij) (A e^(-a r) - b_ij B e^(-c r)) + sum_{j < k} f(r_ij) f(r_ik) h (cos - g)^2, b_ij = (1 + zeta_ij^n)^(-1/2n).

    zeta_ij = sum_{k != j} w(r_ik) (1 + g cos)^2 e^(r_ij - r_ik) with a longer cutoff for k than for j; with `field` times 1 + q_j.
    """

    cutoff: float = 3.1
    cutoff_far: float = 4.2
    field: bool = False
    A = Param(6.0, per="pair", amplitude=True)
    B = Param(4.0, per="ordered pair", amplitude=True)
    a = Param(0.7, per="pair")
    c = Param(0.4, per="ordered pair")
    g = Param(0.3, per="ordered triplet")
    h = Param(0.5, per="triplet")
    n = Param(0.8, per="species")

    def site(self, env: Environment) -> Node:
        j = env.neighbors(self.cutoff)
        k, near = env.neighbors(self.cutoff_far, other_than=j), env.neighbors(self.cutoff, other_than=j)

        def f(m: NeighborAtom) -> Node:
            return radial.smooth(m.r, self.cutoff)

        far = radial.smooth(k.r, self.cutoff_far)
        zeta = sum_over(k, far * (1 + self.g[j, k] * dot(direction(j), direction(k))) ** 2 * exp(j.r - k.r))
        bond = power(1 + power(zeta + 1e-30, self.n.node), -0.5 / self.n)
        pairs = sum_over(j, f(j) * (self.A[j] * exp(-self.a[j] * j.r) - bond * self.B[j] * exp(-self.c[j] * j.r)))
        angles = sum_over_pairs(j, near, f(j) * f(near) * self.h[j, near] * (dot(direction(j), direction(near)) - 0.3) ** 2)
        if not self.field:
            return pairs + angles
        q = sum_over(j, f(j) * self.c[j])
        return pairs + sum_over(j, f(j) * read_at(q + q**2, j) * self.a[j]) + angles * q


THREE = ("C", "O", "Si")
NASTY: dict[str, tuple] = {
    "alone": (Nasty(), THREE),
    "in a product": (Nasty() * (1 + Scale() * Density(cutoff=5.0)) + Pair(cutoff=3.7, n_max=2), THREE),
    "squared": ((Nasty() - tanh(Nasty().named("b"))) ** 2 / 50, ("Si",)),
    "with angles of its own": (tanh(StillingerWeber()) * Nasty() * Density(cutoff=3.4), ("Si",)),
    "with a field": (Nasty(field=True) * (1 + 0.1 * Density(cutoff=4.4)), THREE),
}


@pytest.fixture(scope="module")
def nasty() -> dict[str, Subject]:
    return subjects(NASTY)


@pytest.fixture(params=list(NASTY))
def unseen(request: pytest.FixtureRequest, nasty: dict[str, Subject]) -> Subject:
    return nasty[request.param]


def test_values_and_all_derivatives(unseen: Subject) -> None:
    """The laws that the catalogue goes through."""
    test_back_ends.test_energies_forces_and_virial_equal_the_reference(unseen)
    test_back_ends.test_gradient_of_a_loss_on_all_outputs_equals_double_backward(unseen)
    test_slopes.test_forces_are_minus_the_slopes_of_the_energy(unseen)
    test_slopes.test_stress_is_the_slope_by_strain(unseen)
    test_slopes.test_jacobian_is_the_slope_by_each_parameter(unseen)
    test_slopes.test_columns_equal_forward_mode(unseen)
    test_slopes.test_hessians_are_symmetric(unseen)
    test_motions.test_permutation_and_choice_of_images(unseen)
    test_extent.test_isolated_atoms_have_no_energy_but_their_own(unseen)


def test_swapping_species_permutes_the_result(nasty: dict[str, Subject]) -> None:
    """Acceptance 16: other labels for the species, the same numbers."""
    subject = nasty["alone"]
    table = subject.model.parameters["Nasty.B"].reshape(3, 3)
    assert torch.unique(table).numel() == 9  # all different
    order = [2, 0, 1]
    renamed = Subject("renamed", subject.expression, [THREE[n] for n in order])
    tables = {"E0": subject.model.parameters["E0"][order]}
    for name in ("A", "B", "a", "c", "g", "h", "n"):
        tables[f"Nasty.{name}"] = _permuted(subject, f"Nasty.{name}", order)
    other = renamed.model.with_parameters(tables)
    ours, wanted = other(other.prepare(subject.structures)), subject.model(subject.batch)
    assert_close(ours.energies, wanted.energies, "identity")
    assert_close(ours.forces, wanted.forces, "identity")


def _permuted(subject: Subject, name: str, order: list[int]) -> torch.Tensor:
    """The rows of a table for species in another order."""
    entry = next(e for e in subject.model.entries if e.name == name)
    table, found = subject.model.parameters[name], torch.zeros(rows(entry.per, 3), dtype=torch.float64)
    for kinds in itertools.product(range(3), repeat=PER[entry.per]):
        found[row(entry.per, 3, *kinds)] = table[row(entry.per, 3, *(order[k] for k in kinds))]
    return found


def test_training_gradient(unseen: Subject) -> None:
    """The gradient of a least-squares loss on energies and forces is the Jacobian times the residual."""
    model, batch = unseen.model, unseen.batch
    theta = model.theta.clone().requires_grad_()
    aims = random(batch.structures), random(batch.atoms, 3)
    out = call(model, batch, batch.positions, batch.cells, theta)
    loss = ((out.energy - aims[0]) ** 2).sum() / 2 + ((out.forces - aims[1]) ** 2).sum() / 2
    (slope,) = torch.autograd.grad(loss, theta)
    jacobian, found = model.jacobian(batch), model(batch)
    wanted = jacobian.energy.T @ (found.energy - aims[0]) + torch.einsum("nap,na->p", jacobian.forces, found.forces - aims[1])
    assert_columns(slope[None], wanted[None], theta.detach())
