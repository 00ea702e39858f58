"""Moves: from an expression to its neighbours by adding, multiplying, resizing, swapping, removing and tying."""

from __future__ import annotations

import dataclasses
import string
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations

from composer.algebra import Constant, Expression, Product, Sum, Term, replaced
from composer.errors import AlgebraError
from composer.search.polynomial import leaves
from composer.search.vocabulary import core, is_alone, is_energy, numbers


@dataclass(frozen=True)
class Move:
    """A neighbour of an expression: the kind of move, what it does in words, and what it leads to.

    ties, leaves of the expression (by digest) whose numbers become those of others of its leaves.
    """

    kind: str
    text: str
    expression: Expression
    ties: tuple[tuple[str, str], ...] = ()


def neighbours(
    expression: Expression, vocabulary: Sequence[Expression], small: Callable[[Expression], bool] = lambda word: True
) -> list[Move]:
    """All expressions one move away, each once, sorted by their canonical form.

    Arguments: expression; vocabulary, words in any order; small, whether a word may be a factor. A move that the algebra refuses is left out.
    """
    words = sorted({w.canonical: w for w in vocabulary if numbers(w)}.values(), key=lambda w: w.canonical)
    energies = [w for w in words if is_energy(w)] or words
    factors = [w for w in words if small(w) and not is_alone(w)]
    fixed = core(vocabulary)
    found: dict[str, Move] = {expression.canonical: Move("stay", "", expression)}
    for make in (
        *_removals(expression, fixed),
        *_resizes(expression, words),
        *_additions(expression, energies, factors),
        *_products(expression, factors, fixed),
        *_ties(expression),
    ):
        try:
            move = make()
        except AlgebraError:
            continue
        if numbers(move.expression):
            found.setdefault(move.expression.canonical, move)
    return sorted((m for m in found.values() if m.kind != "stay"), key=lambda m: m.expression.canonical)


Maker = Callable[[], Move]


def _additions(expression: Expression, energies: list[Expression], factors: list[Expression]) -> Iterator[Maker]:
    present = set(expression.terms())
    for word in energies:
        if not present & set(numbers(word)):
            yield lambda w=word: Move("add", f"+ {w}", expression + w)
    for inner in _inner_sums(expression):
        for word in factors:
            own = _untied(word, expression)
            yield lambda s=inner, w=own: Move("add", f"+ {w} in {s}", replaced(expression, s, s + w))


def _products(expression: Expression, factors: list[Expression], fixed: list[Expression]) -> Iterator[Maker]:
    parts = [(f, p) for f, p in _parts(expression) if p not in fixed and not is_alone(p)]
    wholes: list[Expression] = [p for _, p in parts]
    if len(parts) > 1:
        wholes.append(Sum.of(parts))
    for target in wholes:
        for word in factors:
            own = _untied(word, expression)
            yield lambda u=target, w=own: Move("multiply", f"{u} * (1 + {w})", _with(expression, u, u * (1 + w)))


def _resizes(expression: Expression, words: list[Expression]) -> Iterator[Maker]:
    for term in expression.terms():
        for word in words:
            if isinstance(word, Term) and type(word) is type(term) and numbers(term):
                new = dataclasses.replace(word, name=term.name)
                if new != term and new not in expression.terms():
                    kind = "resize" if _size_alone(term, new) else "swap"
                    yield lambda t=term, n=new, k=kind: Move(k, f"{t} -> {n}", replaced(expression, t, n))


def _removals(expression: Expression, fixed: list[Expression]) -> Iterator[Maker]:
    parts = _parts(expression)
    for _, part in parts:
        if part not in fixed and len(parts) > 1:
            yield lambda p=part: Move("remove", f"- {p}", replaced(expression, p, Constant(0.0)))
    for inner in _inner_sums(expression):
        for _, part in _parts(inner):
            if not isinstance(part, Constant):
                yield lambda s=inner, p=part: Move("remove", f"{p} from {s}", replaced(expression, s, s - _of(s, p)))


def _ties(expression: Expression) -> Iterator[Maker]:
    """Two terms that differ in names alone become one; what then stands before two sums is written once, A X + A Y -> A (X + Y)."""
    for a, b in combinations(numbers(expression), 2):
        if a.nameless() == b.nameless():
            yield lambda a=a, b=b: _tied(expression, a, b)


def _tied(expression: Expression, a: Term, b: Term) -> Move:
    tied = replaced(expression, b, a)
    ties = tuple((leaf.digest, replaced(leaf, b, a).digest) for leaf in leaves(expression).values() if b in leaf.terms())
    parts = [(f, p) for f, p in _parts(tied) if isinstance(p, Product)]
    for (f, p), (g, q) in combinations(parts, 2):
        for common in sorted(set(dict(p.factors)) & set(dict(q.factors)), key=lambda e: e.canonical):
            if a in common.terms():
                inner = f * _without(p, common) + g * _without(q, common)
                rest = Sum.of([(h, r) for h, r in _parts(tied) if r not in (p, q)])
                return Move("factor", f"{p} + {q} -> ({common}) * ({inner})", rest + common * inner, ties=ties)
    return Move("tie", f"{b} = {a}", tied, ties=ties)


def _without(product: Product, factor: Expression) -> Expression:
    """A product with one factor fewer."""
    powers = dict(product.factors)
    return Product.of([base for base, n in powers.items() for _ in range(n - (base == factor))])


def _of(whole: Expression, part: Expression) -> Expression:
    """A part of a sum with the number in front of it."""
    return Sum.of([(f, p) for f, p in _parts(whole) if p == part])


def _with(expression: Expression, old: Expression, new: Expression) -> Expression:
    """The expression with some of its parts (a sum of them, or one) replaced."""
    gone = {p for _, p in _parts(old)} if isinstance(old, Sum) else {old}
    return Sum.of([(f, p) for f, p in _parts(expression) if p not in gone]) + (
        new if isinstance(old, Sum) else Sum.of([(f, new) for f, p in _parts(expression) if p in gone])
    )


def _parts(expression: Expression) -> list[tuple[float, Expression]]:
    if isinstance(expression, Sum):
        return list(expression.parts)
    return [] if isinstance(expression, Constant) else [(1.0, expression)]


def _inner_sums(expression: Expression) -> list[Expression]:
    """Sums inside products, in canonical order."""
    found = {s for _, p in _parts(expression) for s in p.walk() if isinstance(s, Sum)}
    return sorted(found, key=lambda s: s.canonical)


def _size_alone(a: Term, b: Term) -> bool:
    fields = [f.name for f in dataclasses.fields(a) if type(getattr(a, f.name)) is not int]
    return all(getattr(a, n) == getattr(b, n) for n in fields)


def _untied(word: Expression, expression: Expression) -> Expression:
    """The word with names that no term of the expression has: its numbers are its own. Names follow from the expression alone."""
    for letter in _letters():
        made = word
        for term in numbers(word):
            made = replaced(made, term, term.named(letter))
        if not set(numbers(made)) & set(expression.terms()):
            return made
    raise AlgebraError("A name for a factor was asked for", "None is left", "Use fewer factors")


def normal(expression: Expression) -> Expression:
    """The expression with the names of its terms replaced by the first letters: two that differ in names alone are one."""
    names: dict[tuple[Expression, str], str] = {}
    for term in expression.terms():
        if term.name:
            names[term.nameless(), term.name] = ""
    for kind in {k for k, _ in names}:
        for letter, name in zip(_letters(), sorted(n for k, n in names if k == kind), strict=False):
            names[kind, name] = letter
    for mark in ("\0", ""):  # by way of names that nobody has
        for (kind, old), new in names.items():
            term = dataclasses.replace(kind, name=old if mark else "\0" + new)  # type: ignore[type-var]
            expression = replaced(expression, term, dataclasses.replace(kind, name=mark + new))  # type: ignore[type-var]
    return expression


def _letters() -> Iterator[str]:
    yield from (*string.ascii_lowercase, *(f"x{n}" for n in range(1000)))
