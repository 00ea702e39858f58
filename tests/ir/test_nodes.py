"""Nodes: one object for one definition, constants folded, sums with what they bind."""

from __future__ import annotations

import gc

import pytest

from composer.errors import AlgebraError
from composer.ir import indices, nodes, sums
from composer.ir.indices import Neighbor, Range, Species, neighbors, ranges
from composer.ir.nodes import ONE, ZERO, add, at_neighbor, const, function, mark, parameter, power, where_less
from composer.ir.sums import element, stack, sum_over, swap

J, K, FAR = Neighbor(4.0), Neighbor(4.0, "k"), Neighbor(6.0)
SJ, SK, N = Species("j", 2), Species("k", 2), Range("n", 3)
X, Y, Z = (parameter(name, ()) for name in "xyz")


def d(index: Neighbor) -> nodes.Node:
    return nodes.displacement(0, index)


def test_equal_definitions_are_one_object() -> None:
    """Acceptance 11: nothing can be assigned twice or read itself, because a node is its definition."""
    assert X + Y is Y + X and X * Y is Y * X
    assert (X + Y) + Z is X + (Y + Z)
    assert function("exp", X * Y) is function("exp", Y * X)
    assert sum_over({J}, d(J) * X) is X * sum_over({J}, d(J))
    assert nodes.displacement(0, J) is not nodes.displacement(0, FAR)
    with pytest.raises(AttributeError):
        X.extra = 1  # type: ignore[attr-defined]


def test_the_table_forgets_what_is_not_used() -> None:
    before = len(nodes._TABLE)
    held = [function("exp", X + n) for n in range(1000, 1100)]
    assert len(nodes._TABLE) >= before + 100
    del held
    gc.collect()
    assert len(nodes._TABLE) <= before + 10


def test_numbers_are_folded_and_collected() -> None:
    assert X - X is ZERO and 2 * X + 3 * X is 5 * X and X + 0 is X
    assert X * 1 is X and X * 0 is ZERO and (2 * X) * (3 * Y) is 6 * (X * Y)
    assert const(2) + const(3) is const(5) and const(-0.0) is ZERO
    assert function("exp", 0.0) is ONE and where_less(1, 2, X, Y) is X and where_less(X, Y, Z, Z) is Z
    assert X * X is X**2 and (X**2) ** 3 is X**6 and X**0 is ONE and (2 * X) ** -2 is 0.25 * X**-2
    assert X**0.5 is function("sqrt", X) and X**1.5 is function("sqrt", X) ** 3
    assert X**0.3 is function("exp", 0.3 * function("log", X)) and power(X, const(2.0)) is X**2
    assert 1 / X is X**-1 and X / Y is X * Y**-1 and add(X, Y, -X) is Y


def test_impossible_numbers_are_refused() -> None:
    for make in (lambda: const(float("nan")), lambda: const(float("inf")), lambda: 1 / ZERO):
        with pytest.raises(AlgebraError):
            make()


def test_sums_bind_their_indices() -> None:
    total = sum_over({J, SJ}, parameter("p", ("i", SJ)) * d(J) * X)
    assert total.op == "mul" and total.free == frozenset()
    assert neighbors(frozenset({K, J, SJ})) == (J, K) and ranges(frozenset({J, SJ, N})) == (N,)
    assert sum_over({J}, ZERO) is ZERO and sum_over({N}, X) is X
    resolved = sum_over({J}, d(J) * mark(SJ))
    assert resolved.free == {SJ} and element(resolved, SJ, 1).free == frozenset()
    inner = sum_over({K}, d(K) * d(J), "ne")
    assert inner.free == {J} and sums.relation_of(inner.args[1] if inner.op == "mul" else inner) == "ne"
    free = sum_over({K}, d(K), "lt", J)  # the body does not name the neighbour that the relation refers to
    assert free.free == {J} and sums.given_of(free) == J


def test_mirror_images_of_full_pair_sums_are_one() -> None:
    body = d(J) * function("exp", d(K))
    assert sum_over({J, K}, body, "gt") is sum_over({J, K}, swap(body), "lt")
    assert sum_over({J, K}, body, "gt") is not sum_over({J, K}, body, "lt")
    kept = sum_over({J, K}, body * mark(SJ), "gt")  # resolved by the species of j: its mirror image is another field
    assert sums.relation_of(kept) == "gt" and kept.free == {SJ}
    assert swap(swap(body)) is body and swap(X) is X


def test_static_ranges() -> None:
    table = stack(N, [X, Y, Z])
    assert table.free == {N} and element(table, N, 1) is Y
    assert element(table * table + X, N, 2) is Z**2 + X
    assert stack(N, [X, X, X]) is X
    total = sum_over({J}, table * d(J))
    assert element(total, N, 0).op in ("at", "mul") and element(total, N, 0).free == frozenset()


def test_fields_of_neighbours() -> None:
    field = sum_over({J}, d(J) ** 2)
    assert at_neighbor(field, J).free == {J} and at_neighbor(const(2.0), J) is const(2.0)
    with pytest.raises(AlgebraError, match="scalar of a site"):
        at_neighbor(d(J), J)


def test_indices_survive_their_keys() -> None:
    for index in (J, K, FAR, SJ, SK, N, Neighbor(1 / 3)):
        assert indices.parse_index(index.key) == index
    with pytest.raises(AlgebraError):
        indices.parse_index("q")


def test_nodes_can_be_read() -> None:
    text = repr(sum_over({J, K}, d(J) * d(K) * X + where_less(d(J), 1, 2, d(K)), "lt"))
    assert "sum[" in text and "dx[j@4.0]" in text and "lt" in text
