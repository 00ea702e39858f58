"""Random expressions of a few terms."""

from __future__ import annotations

import random

from composer.algebra import Expression, Scale, Sum, Term, exp, log1p, sqrt, tanh
from terms import Bond, Density, Embedding, FourBody, Morse, Pair, PairFormula, StillingerWeber, Tersoff, ThreeBody

CUTOFFS = (2.9, 3.4, 4.1, 5.0)
SPECIES = (("Si",), ("C", "Si"), ("C", "O", "Si"))


def leaf(dice: random.Random) -> Term:
    cutoff = dice.choice(CUTOFFS)
    term = dice.choice(
        [
            Pair(cutoff=cutoff, n_max=dice.randint(1, 4), basis=dice.choice(["chebyshev", "bessel", "gaussian", "bspline"])),
            Density(cutoff=cutoff, n_max=dice.randint(1, 3), positive=dice.random() < 0.5),
            ThreeBody(cutoff=cutoff, n_max=dice.randint(1, 2), l_max=dice.randint(0, 3)),
            FourBody(cutoff=cutoff, n_max=1, l_max=2),
            Morse(cutoff=cutoff),
            Embedding(cutoff=cutoff, form=dice.choice(["sqrt", "polynomial", "universal"])),
            Bond(cutoff=cutoff, n_max=2),
            StillingerWeber(),
            Tersoff(m=dice.choice([0, 1, 3])),
            PairFormula("a*exp(-b*r)*cos(r)", cutoff=cutoff, a=0.7, b=0.4),
        ]
    )
    return term.named("own") if dice.random() < 0.2 else term


def positive(dice: random.Random) -> Density:
    return Density(cutoff=dice.choice(CUTOFFS), n_max=2, positive=True)


def grow(dice: random.Random, depth: int) -> Expression:
    """An expression of at most `depth` operations above any term."""
    if depth == 0:
        return leaf(dice)
    one, other = grow(dice, depth - 1), grow(dice, dice.randrange(depth))
    kind = dice.randrange(8)
    match kind:
        case 0:
            return one + other
        case 1:
            return one - 0.5 * other
        case 2:
            return one * (1 + 0.1 * other)
        case 3:
            return one * other / 8
        case 4:
            return tanh(0.2 * one) + other
        case 5:
            return exp(0.1 * tanh(one)) * other
        case 6:
            return one + (Scale() * tanh(other)) ** dice.randint(2, 3)
    return one + dice.choice([sqrt, log1p])(positive(dice)) * tanh(other)


def expression(seed: int) -> tuple[Expression, tuple[str, ...]]:
    """A random expression with at least one term, and its species."""
    dice = random.Random(seed)
    while True:
        found = grow(dice, dice.randint(1, 3))
        constant = isinstance(found, Sum) and not all(part.terms() for part in found.operands)
        if 0 < len(found.terms()) <= 6 and not constant:
            return found, dice.choice(SPECIES)
