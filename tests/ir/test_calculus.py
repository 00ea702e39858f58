"""vjp and jvp against torch: derivatives of nodes are nodes, and the reference evaluates both."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from torch import Tensor

from composer.codegen import reference
from composer.errors import AlgebraError
from composer.ir import nodes, sums
from composer.ir.calculus import PARTIALS
from composer.ir.jvp import Tangent
from composer.ir.nodes import ONE, ZERO, Node, function, parameter, power, where_less
from composer.ir.sums import element, elements, static_of, sum_over
from composer.ir.vjp import vjp
from composer.neighbors import Batch, build_batch
from composer.quantities import Environment, Range, dot, exp, stack, sum_over_pairs
from composer.quantities import sum_over as total_over
from tests.laws.structures import mixed, of
from tests.laws.subjects import assert_close

ROOT = Path(__file__).parents[2]
X, Y = parameter("x", ()), parameter("y", ())
WITH_X = {name: function(name, X * Y + 0.4) for name in nodes.FUNCTIONS}
OPERATIONS: dict[str, Node] = WITH_X | {
    "add": X + 2 * Y,
    "mul": X * Y,
    "pow": (X + Y) ** -3 + X**5,
    "half power": (X + Y) ** 2.5,
    "real power": power(X, Y),
    "norm": nodes.norm(X, Y, X * Y),
    "where, first": where_less(X, Y, X**2, Y**3),
    "where, second": where_less(Y, X, X**2, Y**3),
    "where, bounds": where_less(X, Y, X * Y, 0.0) * Y,
    "shared": (X * Y + 1) ** 2 * function("exp", X * Y + 1) / (X * Y + 1),
}
TABLES = {"x": torch.tensor([0.7], dtype=torch.float64), "y": torch.tensor([1.3], dtype=torch.float64)}


def batch() -> Batch:
    number = {"C": 0, "O": 1, "Si": 2}
    return build_batch([([number[s] for s in a.symbols], a.positions, a.cell.array, a.pbc) for a in of(("C", "O", "Si"), mixed()[:4])], 4.5)


def value(node: Node, tables: dict[str, Tensor]) -> Tensor:
    return reference.site_values(node, batch(), 3, tables)


def test_every_operation_has_a_derivative_that_is_tried_here() -> None:
    assert set(PARTIALS) - {"add", "mul", "pow", "norm", "where"} == set(nodes.FUNCTIONS)


@pytest.mark.parametrize("name", OPERATIONS)
def test_operations(name: str) -> None:
    node = OPERATIONS[name]
    leaves = {k: t.clone().requires_grad_() for k, t in TABLES.items()}
    wanted = torch.autograd.grad(value(node, leaves)[0], [leaves["x"], leaves["y"]])
    adjoints = vjp([(node, ONE)], lambda n: n.op == "param")
    for leaf, slope in zip((X, Y), wanted):
        assert_close(value(adjoints.get(leaf, ZERO), TABLES)[:1], slope, "identity", 0.0)
        tangent = Tangent(lambda n, leaf=leaf: ONE if n is leaf else ZERO)(node)
        assert_close(value(tangent, TABLES)[:1], slope, "identity", 0.0)
    assert sum(float(s.abs()) for s in wanted) > 1e-3


# ---- sums over neighbours --------------------------------------------------------------------------------------------------------------

ENV = Environment(["C", "O", "Si"])
J, K = ENV.neighbors(3.0), ENV.neighbors(3.0, other_than=ENV.neighbors(3.0))
LONG, AFAR = ENV.neighbors(4.2), ENV.neighbors(4.2, other_than=ENV.neighbors(3.0))
N = Range("n", 3)


def f(j) -> Node:
    return (1 - (j.r / j.index.cutoff) ** 2) ** 3 * exp(-parameter("pair", ("i", j.species)) * j.r)


def cosine(j, k) -> Node:
    return dot(j.u, k.u)


RADIAL = stack(N, [f(J), J.r * f(J), J.r**2 * f(J)])
INDEX = sums.sum_over
SUMS: dict[str, Node] = {
    "one neighbour": total_over(J, f(J)) ** 2,
    "two cutoffs": total_over(J, f(J)) * total_over(LONG, f(LONG) * LONG.r),
    "pairs of neighbours": sum_over_pairs(J, K, f(J) * f(K) * cosine(J, K)),
    "pairs without an angle": sum_over_pairs(J, K, f(J) * f(K)) * total_over(J, f(J)),
    "pairs, squared": sum_over_pairs(J, K, f(J) * f(K) * cosine(J, K)) ** 2,
    "any other neighbour": total_over(J, K, f(J) * K.r * f(K) * (1 + cosine(J, K)) ** 2),
    "nested, longer cutoff inside": total_over(J, f(J) * function("tanh", total_over(AFAR, f(AFAR) * cosine(J, AFAR)))),
    "nested, without an angle": total_over(J, f(J) * function("tanh", total_over(K, f(K)))),
    "ordered triplets": total_over(J, K, f(J) * f(K) * parameter("triplet", ("i", J.species, K.species)) * cosine(J, K)),
    "resolved by species": element(INDEX({J.index}, f(J) * nodes.mark(J.species)), J.species, 1) * total_over(J, f(J), species=2),
    "static range": total_over(N, parameter("channel", ("i",), (N,)) * total_over(J, RADIAL)),
    "elements of a static range": element(total_over(J, RADIAL), N, 0) * element(total_over(J, RADIAL), N, 2),
    "selection": total_over(J, where_less(J.r, 2.2, f(J), J.r * f(J))),
}


def tables() -> dict[str, Tensor]:
    rows = torch.Generator().manual_seed(1)
    sizes = {"pair": (6,), "triplet": (27,), "channel": (3, 3), "x": (1,), "y": (1,)}
    return {name: 0.5 + torch.rand(shape, generator=rows, dtype=torch.float64) for name, shape in sizes.items()}


@pytest.mark.parametrize("name", SUMS)
def test_slopes_along_a_stretch(name: str) -> None:
    """Every displacement d grows by d: jvp, and vjp summed with d over each neighbour, equal torch's slope by the strain xx."""
    node = SUMS[name]
    strain = torch.zeros(4, 3, 3, dtype=torch.float64, requires_grad=True)
    energies = reference.site_values(node, batch(), 3, tables(), {}, None, strain)
    (slope,) = torch.autograd.grad(energies.sum(), strain)
    forward = Tangent(lambda n: n if n.op == "d" and n.data[1] == 0 else ZERO)(node)
    backward = ZERO
    for leaf, adjoint in vjp([(node, ONE)], lambda n: n.op == "d").items():
        if leaf.data[1] == 0:
            (index,) = leaf.free
            backward = backward + sum_over({index} | {i for i in adjoint.free if not isinstance(i, Range)}, adjoint * leaf)
    for derived in (forward, backward):
        assert_close(_by_structure(value(derived, tables())), slope[:, 0, 0], "identity")


@pytest.mark.parametrize("name", SUMS)
def test_slopes_by_parameters(name: str) -> None:
    node, flat = SUMS[name], {k: t.clone().requires_grad_() for k, t in tables().items()}
    wanted = torch.autograd.grad(reference.site_values(node, batch(), 3, flat).sum(), list(flat.values()), allow_unused=True)
    along = Tangent(lambda n: parameter(f"{n.data[0]} t", *n.data[1:]) if n.op == "param" else ZERO)(node)
    moved = {f"{k} t": torch.rand(t.shape, generator=torch.Generator().manual_seed(2), dtype=torch.float64) for k, t in flat.items()}
    expected = sum((w * moved[f"{k} t"]).sum() for (k, _), w in zip(flat.items(), wanted) if w is not None)
    assert_close(value(along, tables() | moved).sum(), torch.as_tensor(expected), "identity")
    backward = ZERO
    for leaf, adjoint in vjp([(node, ONE)], lambda n: n.op == "param").items():
        along_leaf = parameter(f"{leaf.data[0]} t", *leaf.data[1:])
        product = adjoint * along_leaf
        backward = nodes.add(backward, *elements(product, static_of(product)).values())
    assert_close(value(backward, tables() | moved).sum(), torch.as_tensor(expected), "identity")


def _by_structure(site: Tensor) -> Tensor:
    b = batch()
    return torch.stack([site[a:c].sum() for a, c in zip(b.offsets[:-1].tolist(), b.offsets[1:].tolist())])


def test_a_field_read_at_a_neighbour_needs_a_stage_of_its_own() -> None:
    field = nodes.at_neighbor(total_over(J, f(J)), J.index)
    with pytest.raises(AlgebraError, match="wanted node"):
        vjp([(total_over(J, field), ONE)], lambda n: n.op == "d")


PROGRAM = """
import hashlib
from composer.model import Model
from composer.runtime.code import generate
from tests.catalogue import CATALOGUE
from tests.laws.test_unseen_term import NASTY
found = hashlib.sha256()
for kind, (expression, species) in (("gradient", NASTY["alone"]), ("forces", NASTY["with a field"]), ("forces", CATALOGUE["product"])):
    model = Model(expression, species)
    found.update(generate(kind, model.program(kind), model.layout).text.encode())
print(found.hexdigest())
"""


def test_code_is_the_same_in_every_process() -> None:
    """Else the cache of kernels misses, and last bits change from run to run."""
    found = set()
    for seed in ("1", "2"):
        command, environment = [sys.executable, "-c", PROGRAM], os.environ | {"PYTHONHASHSEED": seed}
        found.add(subprocess.run(command, env=environment, cwd=ROOT, capture_output=True, text=True, check=True).stdout)
    assert len(found) == 1
