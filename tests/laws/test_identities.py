"""The algebra by value: what is equal on paper is equal in numbers, and what is equal in form is one object."""

from __future__ import annotations

import pytest
import torch

from composer.algebra import Constant, Expression, Scale, exp, tanh
from composer.errors import AlgebraError
from composer.model import Model
from terms import Density, Morse, Pair, StillingerWeber, ThreeBody
from tests.laws.subjects import Subject, assert_close, subjects

X, Y, Z, T = Pair(cutoff=4.0, n_max=3), Density(cutoff=4.5), Morse(cutoff=4.2), ThreeBody(cutoff=4.0, n_max=2, l_max=1)
S = StillingerWeber()

# Two ways to write one expression; equal operands are tied, so both have the same numbers.
PAIRS: dict[str, tuple[Expression, Expression]] = {
    "distributing": (X * (Y + Z), X * Y + X * Z),
    "distributing over three": ((1 + Y) * (T + Z - X), T + Z - X + Y * T + Y * Z - X * Y),
    "one more": (T * (1 + Y), T + T * Y),
    "binomial": ((X + Y) ** 2, X**2 + 2 * X * Y + Y**2),
    "difference of squares": ((S - Y) * (S + Y), S**2 - Y**2),
    "numbers": ((2 * X - Z) / 4, 0.5 * X + Z * (-0.25)),
    "odd function": (tanh(-1 * Y), -tanh(Y)),
    "product of exponentials": (exp(X) + exp(Y) + exp(X) * exp(Y), exp(X + Y)),
}


@pytest.fixture(scope="module")
def sides() -> dict[str, Subject]:
    catalogue = {f"{name} {side}": (T + both[side], ("Si", "C")) for name, both in PAIRS.items() for side in (0, 1)}
    return subjects(catalogue | {"untied": (X - X.named("b"), ("Si", "C"))}, ("forces",))


@pytest.mark.parametrize("name", PAIRS)
def test_two_ways_to_write_it(name: str, sides: dict[str, Subject]) -> None:
    left, right = sides[f"{name} 0"], sides[f"{name} 1"]
    assert left.model.parameter_names == right.model.parameter_names
    ours, wanted = left.model(left.batch), right.model(right.batch)
    assert_close(ours.energies, wanted.energies, "identity")
    assert_close(ours.forces, wanted.forces, "identity")
    assert_close(ours.virial, wanted.virial, "identity")


def test_an_expression_minus_itself_is_nothing(sides: dict[str, Subject]) -> None:
    for expr in (X, X * Y, T + tanh(Z), S**2):
        assert expr - expr == Constant(0.0)
        with pytest.raises(AlgebraError, match="no term"):
            Model(expr - expr, ("Si",))
    subject = sides["untied"]
    numbers = subject.model.parameters
    assert not torch.equal(numbers["Pair.coefficients"], numbers["b.coefficients"])
    assert subject.model(subject.batch).forces.abs().max() > 1e-3  # two sets of numbers
    equal = subject.model.with_parameters({"b.coefficients": numbers["Pair.coefficients"], "E0": 0.0})
    found = equal(subject.batch)
    assert found.energies.abs().max() < 1e-13 and found.forces.abs().max() < 1e-12


def test_order_and_brackets_do_not_matter() -> None:
    for a, b, c in ((X, Y, T), (X + 1, Y * Z, tanh(T)), (Scale() * X, S, Y**2)):
        assert a + b == b + a and a * b == b * a
        assert (a + b) + c == a + (b + c) and (a * b) * c == a * (b * c)
        assert hash(a + b * c) == hash(c * b + a) and (a + b).digest != (a + c).digest
    assert X + X == 2 * X and X * X == X**2 and (X**2) * X == X**3
    assert X + X.named("b") != 2 * X
    assert Pair(cutoff=4, n_max=3) == X
