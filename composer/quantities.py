"""What a term is written with: neighbours, parameters and sums.

Inside `Term.site(self, env)`:

    j = env.neighbors(cutoff)                 a neighbour: j.r (Å), j.d and j.u (three components)
    k = env.neighbors(cutoff, other_than=j)   a second neighbour of the same site
    sum_over(j, f)                            sum over neighbours; over (j, k) with k any other neighbour
    sum_over_pairs(j, k, f)                   each unordered pair of neighbours once (f must not change when j and k are exchanged)
    sum_over(j, f, species=t)                 sum over the neighbours of species number t alone
    self.depth[j]                             parameter of the pair (site, j); self.weight[j, n] its element n
    env.species                               0 .. number of species - 1
    read_at(q, j)                             the site scalar q of the neighbour j
    operate(("smooth", 1.0, s, 1e-5), q)      a global operation on the site scalar q, such as the smooth part of its potential
    env.table("pair", radii)[j]               numbers that follow from the elements alone and are never fitted
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from hashlib import blake2b
from typing import Any

from composer.errors import AlgebraError
from composer.ir import nodes, sums
from composer.ir.indices import Neighbor, Range, Species
from composer.ir.nodes import Node, Scalar, at_neighbor, mark, maximum, minimum, operate, parameter, where_less
from composer.ir.sums import element, stack

PER = {"model": 0, "species": 1, "pair": 2, "ordered pair": 2, "triplet": 3, "ordered triplet": 3, "unlike triplet": 3}


def rows(per: str, count: int) -> int:
    """Number of rows of a parameter table for `count` species."""
    like = count * (count + 1) // 2
    pairs = {"model": 1, "species": count, "pair": like, "ordered pair": count**2}
    return (pairs | {"triplet": count * like, "ordered triplet": count**3, "unlike triplet": count * (like - count)})[per]


def row(per: str, count: int, a: int = 0, b: int = 0, c: int = 0) -> int:
    """Row of a parameter table for the species a (the site), b and c (its neighbours) out of `count`; pairs are upper triangles.

    A pair does not know the order of a and b, a triplet not that of b and c; the ordered kinds do. An unlike triplet has b != c.
    """
    low, high = sorted((b, c))
    match per:
        case "model":
            return 0
        case "species":
            return a
        case "pair":
            a, b = sorted((a, b))
            return a * count - a * (a - 1) // 2 + (b - a)
        case "ordered pair":
            return a * count + b
        case "triplet":
            return a * rows("pair", count) + row("pair", count, b, c)
        case "unlike triplet":
            return a * (rows("pair", count) - count) + row("pair", count, low, high) - (low + 1)
    return (a * count + b) * count + c


@dataclass(frozen=True)
class NeighborAtom:
    """A neighbour of the site inside a term: distance `r` (Å), displacement `d` and unit vector `u` from the site to it."""

    index: Neighbor
    species: Species
    partner: NeighborAtom | None = None

    @property
    def d(self) -> tuple[Node, Node, Node]:
        x, y, z = (nodes.displacement(axis, self.index) for axis in range(3))
        return x, y, z

    @property
    def r(self) -> Node:
        return nodes.norm(*self.d)

    @property
    def u(self) -> tuple[Node, Node, Node]:
        inverse = nodes.reciprocal(self.r)
        x, y, z = (c * inverse for c in self.d)
        return x, y, z


class Environment:
    """The surroundings of one site, as a term sees them."""

    def __init__(self, species: Sequence[str]) -> None:
        self.symbols = tuple(species)
        self.fixed: dict[str, tuple[str, tuple[float, ...]]] = {}  # tables that terms asked for: name -> per, rows

    @property
    def numbers(self) -> tuple[int, ...]:
        """Atomic numbers of the species."""
        from ase.data import atomic_numbers

        unknown = [s for s in self.symbols if s not in atomic_numbers]
        if unknown:
            raise AlgebraError(
                f"Atomic numbers of {', '.join(unknown)} were asked for. These are no elements. Name species by their symbols."
            )
        return tuple(atomic_numbers[s] for s in self.symbols)

    def table(self, per: str, value: Callable[..., float]) -> FixedTable:
        """Numbers chosen by species like a parameter, but known: value(a, b, ...) for species numbers a (the site), b, ..."""
        return FixedTable(self, per, value)

    @property
    def species(self) -> range:
        return range(len(self.symbols))

    def neighbors(self, cutoff: float, other_than: NeighborAtom | None = None) -> NeighborAtom:
        """A neighbour within `cutoff` (Å), or a second one that is not `other_than`."""
        if not cutoff > 0:
            raise AlgebraError(f"Neighbours within a cutoff were asked for. Found cutoff = {cutoff}. Give a cutoff above 0 Å.")
        slot = "j" if other_than is None else "k"
        return NeighborAtom(Neighbor(float(cutoff), slot), Species(slot, len(self.symbols)), other_than)


class FixedTable:
    """Numbers that follow from the species, ready to be indexed by neighbours: [j], [j, k], or [()] for the site alone."""

    def __init__(self, env: Environment, per: str, value: Callable[..., float]) -> None:
        count, values = len(env.symbols), [0.0] * rows(per, len(env.symbols))
        for kinds in itertools.product(env.species, repeat=PER[per]):
            values[row(per, count, *kinds)] = float(value(*kinds))
        self.env, self.per, self.values = env, per, tuple(values)
        self.name = "fixed." + blake2b(repr((per, self.values)).encode(), digest_size=8).hexdigest()

    def __getitem__(self, what: NeighborAtom | tuple[NeighborAtom, ...]) -> Node:
        if len(set(self.values)) == 1:
            return nodes.const(self.values[0])
        self.env.fixed[self.name] = (self.per, self.values)
        return parameter(self.name, ("i", *(j.species for j in (what if isinstance(what, tuple) else (what,)))))


def sum_over(*what: NeighborAtom | Range | Scalar, species: int | None = None) -> Node:
    """Sum of the last argument over the neighbours or ranges named before it; a second neighbour runs over all but the first."""
    *over, body = what
    bound: set[Any] = set()
    relation, given = "", None
    for item in over:
        if isinstance(item, Range):
            bound.add(item)
            continue
        assert isinstance(item, NeighborAtom)
        bound |= {item.index, item.species}
        if item.partner is not None:
            relation, given = "ne", item.partner.index if item.partner not in over else None
    if species is None:
        return sums.sum_over(bound, body, relation, given)  # type: ignore[arg-type]
    return _sum_of_species([i for i in over if isinstance(i, NeighborAtom)][0], bound, body, species, relation, given)  # type: ignore[arg-type]


def _sum_of_species(j: NeighborAtom, bound: set[Any], body: Scalar, species: int, relation: str, given: Neighbor | None) -> Node:
    if j.species.size == 1:
        return sums.sum_over(bound, body, relation, given)
    resolved = sums.sum_over(bound - {j.species}, nodes.lift(body) * mark(j.species), relation, given)
    return element(resolved, j.species, species)


def sum_over_pairs(j: NeighborAtom, k: NeighborAtom, body: Scalar) -> Node:
    """Sum over unordered pairs of neighbours {j, k}; `body` must be symmetric in them."""
    return sums.sum_over({j.index, j.species, k.index, k.species}, body, "lt")


def read_at(field: Node, j: NeighborAtom) -> Node:
    """The value of a site scalar at the neighbour j (the program is cut into stages here)."""
    return at_neighbor(field, j.index)


def total(parts: Iterable[Scalar]) -> Node:
    """Sum of scalars that are given one by one."""
    return nodes.add(*parts)


def dot(a: Sequence[Scalar], b: Sequence[Scalar]) -> Node:
    return nodes.add(*(nodes.mul(x, y) for x, y in zip(a, b, strict=True)))


def exp(x: Any) -> Node:
    return nodes.function("exp", _node(x))


def expm1(x: Any) -> Node:
    return nodes.function("expm1", _node(x))


def log(x: Any) -> Node:
    return nodes.function("log", _node(x))


def log1p(x: Any) -> Node:
    return nodes.function("log1p", _node(x))


def sqrt(x: Any) -> Node:
    return nodes.function("sqrt", _node(x))


def sin(x: Any) -> Node:
    return nodes.function("sin", _node(x))


def cos(x: Any) -> Node:
    return nodes.function("cos", _node(x))


def tanh(x: Any) -> Node:
    return nodes.function("tanh", _node(x))


def erfc(x: Any) -> Node:
    """The complementary error function."""
    return nodes.function("erfc", _node(x))


def power(x: Any, y: Any) -> Node:
    """x ** y for x > 0."""
    return nodes.power(_node(x), y if isinstance(y, (int, float)) else _node(y))


def _node(x: Any) -> Node:
    return x.node if isinstance(x, BoundParam) else nodes.lift(x)


@dataclass(frozen=True)
class Param:
    """A learnable number (or table) of a term, declared as a class attribute.

    Arguments: default value in `unit`; `per` one of model, species, pair, ordered pair, triplet, ordered triplet (which species choose
    the row); `shape` names of the term's attributes that give further dimensions; `positive` keeps fits above zero;
    `amplitude` marks the numbers that together scale the whole term (they make gauge directions in products);
    `bounds` allowed interval; `start` a method name of the term that returns the default table of `shape`; `fitted` is False for numbers
    that belong to a model and are never learned (scales of inputs).
    """

    default: float = 0.0
    unit: str = ""
    per: str = "model"
    shape: tuple[str, ...] = ()
    positive: bool = False
    amplitude: bool = False
    bounds: tuple[float, float] | None = None
    start: str = ""
    fitted: bool = True
    name: str = ""

    def __set_name__(self, owner: type, name: str) -> None:
        object.__setattr__(self, "name", name)
        if self.per not in PER:
            raise AlgebraError(f"Parameter {name} was declared per {self.per!r}. Known are {', '.join(PER)}. Use one of these.")

    def __get__(self, term: Any, owner: type | None = None) -> Any:
        return self if term is None else BoundParam(term, term.params().get(self.name, self))


class BoundParam:
    """A parameter of one term, ready to be indexed: [j], [j, k], [j, n], [n]; used bare where nothing chooses an element."""

    def __init__(self, term: Any, param: Param) -> None:
        self.term, self.param = term, param

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(int(getattr(self.term, s)) for s in self.param.shape)

    @property
    def key(self) -> str:
        """Name in programs; what is never learned bears the mark of known numbers."""
        return f"{'' if self.param.fitted else 'fixed.'}{self.term.digest}.{self.param.name}"

    def __getitem__(self, what: Any) -> Node:
        items = what if isinstance(what, tuple) else (what,)
        atoms = max(PER[self.param.per] - 1, 0)
        kinds: list[Any] = ["i"] if PER[self.param.per] else []
        kinds += [k.species if isinstance(k, NeighborAtom) else int(k) for k in items[:atoms]]
        idx = tuple(i if isinstance(i, Range) else int(i) for i in items[atoms:])
        if len(kinds) != PER[self.param.per] or len(idx) != len(self.param.shape):
            raise AlgebraError(
                f"Parameter {self.param.name} of {type(self.term).__name__} was indexed with {len(items)} items. "
                f"It is per {self.param.per} "
                f"with {len(self.param.shape)} further dimensions. Write {atoms} neighbours, then {len(self.param.shape)} numbers."
            )
        kinds = [0 if isinstance(k, Species) and k.size == 1 else k for k in kinds]
        return parameter(self.key, tuple(kinds), idx)

    @property
    def node(self) -> Node:
        return self[()]

    def __add__(self, other: Any) -> Node:
        return self.node + _node(other)

    __radd__ = __add__

    def __sub__(self, other: Any) -> Node:
        return self.node - _node(other)

    def __rsub__(self, other: Any) -> Node:
        return _node(other) - self.node

    def __neg__(self) -> Node:
        return -self.node

    def __mul__(self, other: Any) -> Node:
        return self.node * _node(other)

    __rmul__ = __mul__

    def __truediv__(self, other: Any) -> Node:
        return self.node / _node(other)

    def __rtruediv__(self, other: Any) -> Node:
        return _node(other) / self.node

    def __pow__(self, n: float) -> Node:
        return self.node**n


RadialBasis = Callable[[Node], list[Node]]

__all__ = [
    "BoundParam",
    "Environment",
    "NeighborAtom",
    "Node",
    "Param",
    "RadialBasis",
    "Range",
    "Scalar",
    "cos",
    "dot",
    "element",
    "erfc",
    "exp",
    "expm1",
    "log",
    "log1p",
    "maximum",
    "minimum",
    "operate",
    "power",
    "read_at",
    "row",
    "rows",
    "sin",
    "sqrt",
    "stack",
    "sum_over",
    "sum_over_pairs",
    "tanh",
    "total",
    "where_less",
]
