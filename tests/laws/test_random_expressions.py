"""Random expressions: all of them on the reference, twenty through C++."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from composer.algebra import SMOOTHING, Constant, Expression, Function, Product, Sum, Term
from composer.algebra import expression as read_expression
from composer.autograd import call
from composer.codegen import reference
from composer.model import Model
from composer.quantities import Environment
from tests.laws.growing import expression
from tests.laws.structures import mixed, of
from tests.laws.subjects import Subject, assert_close, assert_columns, random, subjects

ALL = range(60)
COMPILED = [seed for seed in ALL if Model(*expression(seed)).size <= 60][:20]  # compilers take their time


@pytest.fixture(scope="module")
def grown() -> dict[int, Subject]:
    return {seed: Subject(f"random {seed}", *expression(seed)) for seed in ALL}


@pytest.fixture(scope="module")
def compiled() -> dict[str, Subject]:
    return subjects({str(seed): expression(seed) for seed in COMPILED})


FUNCTIONS = {"exp": torch.expm1, "tanh": torch.tanh, "log1p": torch.log1p, "sqrt": lambda x: torch.sqrt(x + SMOOTHING**2) - SMOOTHING}


def by_hand(expr: Expression, leaf) -> Tensor:
    """The value of an expression from the values of its terms, by the rules of the algebra alone."""
    match expr:
        case Term():
            return leaf(expr)
        case Constant():
            return torch.tensor(expr.value, dtype=torch.float64)
        case Sum():
            return sum(factor * by_hand(part, leaf) for factor, part in expr.parts)  # type: ignore[return-value]
        case Product():
            return torch.stack([torch.atleast_1d(by_hand(base, leaf) ** n).expand(leaf(None)) for base, n in expr.factors]).prod(0)
        case Function():
            return FUNCTIONS[expr.function](by_hand(expr.argument, leaf))
    raise AssertionError(expr)


@pytest.mark.parametrize("seed", ALL)
def test_an_expression_is_what_its_terms_make_of_it(seed: int, grown: dict[int, Subject]) -> None:
    subject = grown[seed]
    batch, count = subject.batch, len(subject.model.species)

    def leaf(term: Term | None):
        if term is None:
            return batch.atoms
        return reference.site_values(term.site(Environment(subject.model.species)), batch, count, subject.tables)

    own = subject.model.parameters["E0"][batch.species.long()]
    wanted = by_hand(subject.expression, leaf)
    assert wanted.abs().max() > 1e-9
    assert_close(subject.expected.energies, own + wanted, "identity")
    assert read_expression(subject.expression.json()) == subject.expression


@pytest.mark.parametrize("seed", ALL)
def test_laws_of_motion_on_the_reference(seed: int, grown: dict[int, Subject]) -> None:
    """Mirror and turn; no net force; nothing for an isolated atom; a slope along a line."""
    subject = grown[seed]
    q = torch.from_numpy(-np.linalg.qr(np.random.default_rng(seed).normal(size=(3, 3)))[0])
    turned = [atoms.copy() for atoms in subject.structures]
    for atoms in turned:
        atoms.set_cell(atoms.cell.array @ q.numpy())
        atoms.positions = atoms.positions @ q.numpy()
    found = reference.evaluate(subject.model.node, subject.model.prepare(turned), len(subject.model.species), subject.tables)
    assert_close(found.energies, subject.expected.energies, "symmetry")
    assert_close(found.forces, subject.expected.forces @ q, "symmetry")
    alone = subject.expected.energies[-3:] - subject.model.parameters["E0"][subject.batch.species[-3:].long()]
    assert alone.abs().max() < 1e-12 and not subject.expected.forces[-3:].any()


@pytest.mark.parametrize("seed", COMPILED)
def test_cpp_equals_the_reference(seed: int, compiled: dict[str, Subject]) -> None:
    subject = compiled[str(seed)]
    found, wanted = subject.model(subject.batch), subject.expected
    assert_close(found.energies, wanted.energies, "reference")
    assert_close(found.forces, wanted.forces, "reference")
    assert_close(found.virial, wanted.virial, "reference")


@pytest.mark.parametrize("seed", COMPILED)
def test_all_derivatives_agree(seed: int, compiled: dict[str, Subject]) -> None:
    """Columns, tangents and gradients of random expressions, and the gradient against double backward."""
    subject = compiled[str(seed)]
    model, batch = subject.model, subject.batch
    jacobian = model.jacobian(batch)
    forward = torch.func.jacfwd(lambda theta: call(model, batch, batch.positions, batch.cells, theta))(model.theta)
    assert_columns(jacobian.energy, forward.energy, model.theta)
    assert_columns(jacobian.forces, forward.forces, model.theta)
    assert_columns(jacobian.virial, forward.virial, model.theta)
    weights = random(batch.atoms, 3, seed=seed)
    flat, x = model.flat.clone().requires_grad_(), batch.positions.clone().requires_grad_()
    energies = reference.site_values(model.node, batch, len(model.species), subject.tables_of(flat), {}, x)
    (slope,) = torch.autograd.grad(energies.sum(), x, create_graph=True)
    wanted = torch.autograd.grad(-(weights * slope).sum(), [flat, x])
    theta, y = model.theta.clone().requires_grad_(), batch.positions.clone().requires_grad_()
    ours = torch.autograd.grad((weights * call(model, batch, y, batch.cells, theta).forces).sum(), [theta, y])
    assert_columns(ours[0][None], wanted[0][model.free][None], model.theta)
    assert_close(ours[1], wanted[1], "gradient")


def test_random_expressions_are_of_many_kinds(grown: dict[int, Subject], compiled: dict[str, Subject]) -> None:
    assert len(compiled) == 20
    assert {2, 3, 4} <= {len(s.expression.terms()) for s in compiled.values()}
    assert {len(s.model.species) for s in compiled.values()} == {1, 2, 3}
    kinds = {type(e).__name__ for s in grown.values() for e in s.expression.walk()}
    assert {"Sum", "Product", "Function", "Bond", "ThreeBody", "Tersoff"} <= kinds
    assert len({s.expression for s in grown.values()}) > 55 and {len(s.model.species) for s in grown.values()} == {1, 2, 3}
    assert isinstance(grown[0].model, Model) and len(of(("Si",), mixed())) == 7
