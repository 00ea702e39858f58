"""Printed operations against 50 digits (acceptance 1): 4 ulp, and 1e-14 relative with -ffast-math."""

from __future__ import annotations

import ctypes
import math
from collections.abc import Callable

import mpmath
import numpy as np
import pytest

from composer.codegen.cpp import PRELUDE
from composer.codegen.printer import Block, Lowering, number
from composer.errors import BackendError
from composer.ir import nodes
from composer.ir.nodes import Node, function, make, parameter, power, where_less
from composer.runtime.build import library

X, Y = parameter("x", ()), parameter("y", ())
mp = mpmath.mp.clone()
mp.dps = 50

# name -> node of x and y, the same in mpmath
CASES: dict[str, tuple[Node, Callable]] = {name: (function(name, X), getattr(mp, name)) for name in nodes.FUNCTIONS}
CASES |= {
    "sum": (X + 2 * Y + 0.1, lambda x, y: x + 2 * y + mp.mpf(0.1)),
    "difference": (X - Y, lambda x, y: x - y),
    "negative": (-X, lambda x, y: -x),
    "product": (X * Y * 0.3, lambda x, y: x * y * mp.mpf(0.3)),
    "quotient": (X / Y, lambda x, y: x / y),
    "rational": (X * (1 / 3), lambda x, y: x * mp.mpf(1 / 3)),
    "norm": (nodes.norm(X, Y, X * 2), lambda x, y: mp.sqrt(5 * x * x + y * y)),
    "smaller": (where_less(X, Y, X, Y), lambda x, y: min(x, y)),
    "selection in a sum": (1 + where_less(X, Y, X * Y, 2.5), lambda x, y: 1 + (x * y if x < y else mp.mpf(2.5))),
    "root of a sum": (function("sqrt", X + Y), lambda x, y: mp.sqrt(x + y)),
    "half-integer power": (power(X, 1.5), lambda x, y: mp.sqrt(x) ** 3),
    "negative half-integer power": (power(X, -0.5), lambda x, y: 1 / mp.sqrt(x)),
    "real power": (power(X, Y), lambda x, y: x**y),
    "shared parts": ((X * Y + 1) ** 2 / (X * Y + 1) ** 3 + X * Y, lambda x, y: 1 / (x * y + 1) + x * y),
}
CASES |= {f"power {n}": (power(X, n), lambda x, y, n=n: x**n) for n in (2, 3, 4, 5, 6, 7, 8, 12, -1, -2, -3, -6, -12)}
FEW = 4  # ulp; chains of products add up, and exp(y log x) is as wrong as y log x is large
MORE = {"power 12": 8, "power -12": 16, "power -6": 6, "real power": 64}


def compiled(fast_math: bool) -> ctypes.CDLL:
    """One C function of (x, y) for each case."""
    text = [PRELUDE]
    for n, (node, _) in enumerate(CASES.values()):
        block = Block(lambda leaf: {X: "x", Y: "y"}.get(leaf), "t")
        (value,) = block.emit([Lowering()(node)])
        text.append(f'extern "C" double f{n}(double x, double y) {{ (void)x; (void)y; {" ".join(block.lines)} return {value}; }}')
    return library("\n".join(text), fast_math=fast_math, optimize="-O1")


@pytest.fixture(scope="module", params=[False, True], ids=["exact", "fast-math"])
def built(request: pytest.FixtureRequest) -> tuple[ctypes.CDLL, bool]:
    return compiled(request.param), request.param


POINTS = np.random.default_rng(0).uniform(0.2, 3.0, (40, 2)).tolist() + [[1e-3, 40.0], [30.0, 1e-2], [2.0, 0.5], [1.0, 1.0 + 1e-9]]


@pytest.mark.parametrize("name", CASES)
def test_operations(name: str, built: tuple[ctypes.CDLL, bool]) -> None:
    loaded, fast = built
    called = getattr(loaded, f"f{list(CASES).index(name)}")
    called.argtypes, called.restype = [ctypes.c_double] * 2, ctypes.c_double
    exact = CASES[name][1]
    for x, y in POINTS:
        wanted = exact(mp.mpf(x)) if name in nodes.FUNCTIONS else exact(mp.mpf(x), mp.mpf(y))
        unit = max(math.ulp(abs(float(wanted))), math.ulp(max(x, y)) if name in ("difference", "sum") else 0.0)
        error = abs(mp.mpf(called(x, y)) - wanted)
        allowed = unit * MORE.get(name, FEW)
        assert error <= max(allowed, 1e-14 * abs(wanted) if fast else 0.0), f"{name}({x}, {y}) is off by {float(error / unit):.1f} ulp"


def test_numbers_survive_printing() -> None:
    for value in (1 / 3, -2.5, 1e-300, 6.02e23, 0.0, 5e-324):
        text = number(value)
        assert float(text.strip("()").removeprefix("real(").strip("()")) == value
    assert number(-1.0).startswith("(")  # a - -1 would not compile


def test_shared_parts_are_computed_once() -> None:
    shared = function("exp", X * Y)
    block = Block(lambda leaf: {X: "x", Y: "y"}.get(leaf), "t")
    (text,) = block.emit([shared + shared * X + function("sin", shared)])
    assert "\n".join([*block.lines, text]).count("exp") == 1


def test_powers_share_their_squares() -> None:
    lower = Lowering()
    squares = {n for root in (lower(X**12), lower(X**6)) for n in _below(root) if n.op == "mul"}
    assert len(squares) <= 4 and lower(X**-2).args[0].op == "pow"


def _below(node: Node) -> set[Node]:
    return {node}.union(*(_below(a) for a in node.args))


def test_what_is_no_operation_is_refused() -> None:
    with pytest.raises(BackendError, match="no such node"):
        Block(lambda leaf: {X: "x"}.get(leaf), "t").emit([make("swirl", (X, Y))])
