"""Loop nests: whatever a node sums over, C++ gives the values and slopes of the reference."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from composer.codegen import program, reference
from composer.codegen.layout import Layout
from composer.codegen.program import Program
from composer.errors import BackendError
from composer.ir import sums
from composer.ir.nodes import Node, function, mark, parameter, power
from composer.ir.sums import element, swap
from composer.neighbors import Batch, all_positions, build_batch, fold
from composer.quantities import Environment, NeighborAtom, Range, dot, exp, read_at, rows, stack, sum_over, sum_over_pairs, tanh, where_less
from composer.runtime.build import libraries
from composer.runtime.kernel import Kernel, unit
from tests.laws.structures import mixed, of
from tests.laws.subjects import assert_close

ENV = Environment(["C", "O", "Si"])
TABLES = {"pair": "pair", "ordered": "ordered pair", "triplet": "triplet", "mixed": "ordered triplet", "kind": "species", "one": "model"}
LAYOUT = Layout([(name, per, ()) for name, per in TABLES.items()] + [("wide", "ordered pair", (3,))], 3)
J = ENV.neighbors(3.0)
K = ENV.neighbors(3.0, other_than=J)
FAR, FARTHER = ENV.neighbors(4.2), ENV.neighbors(5.1)
K_FAR = ENV.neighbors(4.2, other_than=J)
N, M = Range("n", 3), Range("m", 2)


def f(j: NeighborAtom) -> Node:
    return (1 - (j.r / j.index.cutoff) ** 2) ** 3


def p(name: str, *neighbors: NeighborAtom) -> Node:
    own = () if TABLES[name] == "model" else ("i",)
    return parameter(name, (*own, *(j.species for j in neighbors)))


def both(body: Node, relation: str) -> Node:
    return sums.sum_over({J.index, K.index, J.species, K.species}, body, relation)


def symmetric(j: NeighborAtom, k: NeighborAtom) -> Node:
    return f(j) * f(k) * p("pair", j) * p("pair", k) * p("triplet", j, k) * (1 + dot(j.u, k.u)) ** 2


RADIAL = stack(N, [f(J), J.r * f(J), J.r**2 * f(J)])
ANGULAR = stack(M, [J.u[0], J.u[1] * J.u[2]])
MOMENTS = sum_over(J, RADIAL * ANGULAR)
BY_SPECIES = sums.sum_over({J.index}, f(J) * J.r * mark(J.species))
READ = sum_over(J, f(J) ** 2)
GT_KEPT = sums.sum_over({J.index, K.index, K.species}, f(J) * f(K) * dot(J.u, K.u) * mark(J.species), "gt")
LT_KEPT = sums.sum_over({J.index, K.index, K.species}, f(J) * f(K) * dot(J.u, K.u) * mark(J.species), "lt")

CASES: dict[str, Node] = {
    "pairs once": sum_over_pairs(J, K, symmetric(J, K)),
    "pairs once, the other way round": both(symmetric(J, K), "gt"),
    "pairs twice": sum_over(J, K, f(J) * f(K) * p("mixed", J, K) * tanh(dot(J.u, K.u))),
    "before and after": both(f(J) ** 2 * f(K) * p("mixed", J, K), "lt") + both(f(J) ** 2 * f(K) * p("mixed", J, K), "gt"),
    "before and after, by species": element(GT_KEPT, J.species, 1) + element(LT_KEPT, J.species, 1),
    "two species inside a product": sum_over(J, f(J), species=0) * sum_over(FAR, FAR.r * f(FAR), species=2) * (1 + p("kind")),
    "three cutoffs": sum_over(J, f(J) * p("ordered", J)) + sum_over(FAR, f(FAR) * p("pair", FAR)) * sum_over(FARTHER, f(FARTHER) ** 2),
    "longer cutoff inside": sum_over(J, f(J) * power(1 + sum_over(K_FAR, f(K_FAR) * exp(J.r - K_FAR.r) * p("mixed", J, K_FAR)), -0.3)),
    "same field in two nests": sum_over(J, f(J) * sum_over(K, f(K) * dot(J.u, K.u))) * sum_over(J, K, f(J) * f(K) * dot(J.u, K.u)),
    "moments": element(element(MOMENTS, N, 0), M, 0) ** 2 + element(element(MOMENTS, N, 2), M, 1) * element(element(MOMENTS, N, 1), M, 1),
    "static sum": sum_over(N, parameter("wide", ("i", 1), (N,)) * sum_over(J, RADIAL)) ** 2,
    "static sum by species": sum_over(N, sum_over(J, RADIAL * parameter("wide", ("i", J.species), (N,)))),
    "resolved and tied": sum_over(J, f(J) * element(BY_SPECIES, J.species, 2)) + element(BY_SPECIES, J.species, 0) ** 3,
    "selection": sum_over(J, where_less(J.r, 2.2, f(J), 2 * f(J) * p("one"))),
    "field of the neighbour": sum_over(J, f(J) * read_at(tanh(sum_over(FAR, f(FAR))), J) * p("pair", J)),
    "field of both ends": sum_over(J, f(J) * (READ + read_at(READ, J))),
    "field of a field": sum_over(J, f(J) * read_at(sum_over(J, f(J) * read_at(READ, J)), J)),
    "field of a neighbour beside another": sum_over(J, K, f(J) * f(K) * dot(J.u, K.u) * p("mixed", J, K) * read_at(READ, J)),
    "one axis alone": sum_over(FAR, FAR.d[0] ** 2) + sum_over(J, f(J) * J.d[1] ** 2),
    "constant of the site": p("kind") * sum_over(J, f(J)) / (1 + p("kind") ** 2),
    "function of many sums": function("log1p", sum_over(J, f(J)) ** 2) * exp(-sum_over(FAR, f(FAR)) / 9) * sum_over(FARTHER, FARTHER.r),
}


@pytest.fixture(scope="module")
def batch() -> Batch:
    number = {"C": 0, "O": 1, "Si": 2}
    structures = of(("C", "O", "Si"), mixed())
    return build_batch([([number[s] for s in a.symbols], a.positions, a.cell.array, a.pbc) for a in structures], 5.1, 0.4)


@pytest.fixture(scope="module")
def flat() -> Tensor:
    return 0.5 + torch.rand(LAYOUT.size, generator=torch.Generator().manual_seed(3), dtype=torch.float64)


def tables(flat: Tensor) -> dict[str, Tensor]:
    return {n: flat[s.offset : s.offset + s.size].reshape(rows(s.per, 3), *s.shape) for n, s in LAYOUT.slots.items()}


@pytest.fixture(scope="module")
def kernels() -> dict[str, list[Kernel]]:
    """Forces, gradient and tangent of every case, in two translation units."""
    kinds = {"forces": program.forces, "gradient": program.gradient, "tangent": program.tangent}
    made = {name: [Kernel(f"{k}_{n}", make(node), LAYOUT) for k, make in kinds.items()] for n, (name, node) in enumerate(CASES.items())}
    groups = [[kernel for three in made.values() for kernel in three][part::2] for part in (0, 1)]
    for group, loaded in zip(groups, libraries([unit(group, 3) for group in groups], optimize="-O1")):
        for kernel in group:
            kernel.bind(loaded)
    return made


def test_several_sites_at_once_where_loops_run_over_pairs(kernels: dict) -> None:
    """The kernels of these cases are in lanes, all others visit one site at a time; the tests below hold for both."""
    pairs = {name for name in CASES if name.startswith(("pairs", "before"))}
    pairs |= {"longer cutoff inside", "same field in two nests", "field of a neighbour beside another"}
    assert {name for name, three in kernels.items() if three[0].code.together > 1} == pairs


@pytest.mark.parametrize("name", CASES)
def test_values_and_forces(name: str, kernels: dict, batch: Batch, flat: Tensor) -> None:
    found, wanted = kernels[name][0](batch, flat), reference.evaluate(CASES[name], batch, 3, tables(flat))
    assert_close(found.site["e"][: batch.atoms], wanted.energies, "reference")
    assert_close(fold(batch, found.forces), wanted.forces, "reference")


@pytest.mark.parametrize("name", CASES)
def test_second_derivatives(name: str, kernels: dict, batch: Batch, flat: Tensor) -> None:
    """Gradient of sum_i s_i e_i + w . dE/dx by parameters and positions, against torch."""
    seed, w = torch.rand(2, batch.atoms, 3, generator=torch.Generator().manual_seed(4), dtype=torch.float64)
    leaf, x = flat.clone().requires_grad_(), batch.positions.clone().requires_grad_()
    energies = reference.site_values(CASES[name], batch, 3, tables(leaf), {}, x)
    (slope,) = torch.autograd.grad(energies.sum(), x, create_graph=True)
    wanted = torch.autograd.grad((seed[:, 0] * energies).sum() + (w * slope).sum(), [leaf, x], allow_unused=True)
    moves = torch.cat([w, w[batch.ghost_owner.long()]])
    ones, still = torch.ones(batch.atoms, dtype=torch.float64), torch.zeros_like(flat)
    by_x = kernels[name][2](batch, flat, all_positions(batch), {"seed": seed[:, 0]}, tangents=still, moves=moves)
    assert_close(-fold(batch, by_x.forces), wanted[1], "gradient")
    by_p = kernels[name][1](batch, flat, all_positions(batch), {"seed": seed[:, 0], "seed_t": ones}, moves=moves)
    if wanted[0] is not None and bool(wanted[0].any()):
        assert_close(by_p.gradient, wanted[0], "gradient")


def test_mirror_images_share_a_nest() -> None:
    body = f(J) ** 2 * f(K)
    assert sums.relation_of(both(body, "gt")) == "lt" and both(body, "gt") is both(swap(body), "lt")


def test_what_no_nest_can_hold_is_refused() -> None:
    """Never wrong code: two neighbours with a static range, and an output on an index."""
    inner = stack(N, [f(J) * f(K), J.r * f(K), K.r * f(J)])
    for node in (sum_over(N, sum_over(J, K, inner * parameter("wide", ("i", 0), (N,)))), f(J)):
        with pytest.raises(BackendError):
            Kernel("refused", program.energies(node) if not node.free else Program([[program.Output("site", node, "e")]]), LAYOUT)
