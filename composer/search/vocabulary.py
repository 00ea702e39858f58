"""The words of a search: terms whose lengths follow from the data, and no number that belongs to an element."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from composer.algebra import REGISTRY, Expression, Scale, Term, sqrt
from composer.data import Data, Frame
from composer.data.distances import pairs
from composer.errors import AlgebraError
from composer.search.polynomial import leaves
from composer.search.scans import closest

PAIR_REACH, BODY_REACH, DENSITY_REACH = (1.7, 2.1, 2.6), (1.5, 1.8, 2.1), (1.4, 1.8, 2.3)  # cutoffs in units of (volume per atom)^(1/3)
PAIRS = (3, 4, 6, 8, 10, 12, 14)  # n_max
BODIES = tuple((n, l) for n in range(1, 7) for l in range(1, 7) if n > 1 or l < 3)  # n_max, l_max
FOURS = ((1, 2), (1, 3), (2, 2))
DECAYS = (2.0, 4.0)  # of embedded densities, in units of 1/length
MULTIPLIERS = 6  # most numbers of a factor
SAMPLE = 20_000  # atoms looked at
IONIC = 1.7  # difference of electronegativities from which Pauling calls a bond ionic


@dataclass(frozen=True)
class Lengths:
    """Lengths of a set of data (Å): the shortest distance, the median distance to the nearest atom, the cube root of the volume per atom."""

    shortest: float
    nearest: float
    spacing: float


def lengths(data: Iterable[Frame]) -> Lengths:
    """Measure the lengths of data; frames without volume count by their nearest distances."""
    frames = list(data)
    volumes = [f.volume / len(f) for f in frames if f.volume]
    reach = 2.0 * float(np.cbrt(np.median(volumes))) if volumes else 4.0
    found, looked = [], 0
    for frame in frames:
        looked += len(frame)
        first, _, distance = pairs(frame, reach)
        least = np.full(len(frame), np.inf)
        np.minimum.at(least, first, distance)
        found.append(least[np.isfinite(least)] if looked <= SAMPLE else least.min(keepdims=True)[np.isfinite(least.min(keepdims=True))])
    each = np.concatenate([np.zeros(0), *found])
    if not len(each):
        return Lengths(0.5 * reach, 0.5 * reach, 0.5 * reach)
    nearest = float(np.median(each))
    spacing = float(np.cbrt(np.median(volumes))) if volumes else 1.1 * nearest
    return Lengths(float(each.min()), nearest, float(np.clip(spacing, 0.85 * nearest, 2.5 * nearest)))


def default_vocabulary(species: Sequence[str], data: Data) -> list[Expression]:
    """The terms that a search may use where none are named.

    A fixed core (screened nuclei below the shortest distances of the data), pair, three-body and four-body expansions in several sizes and
    reaches, embedded densities, densities as factors, and learned charges for ionic species. Cutoffs are multiples of the cube root of the volume per atom, radial functions
    start at the shortest distance of the pair. Where there are several species, there are expansions that do not tell neighbours apart beside those
    that do. Arguments: species; data. Returns: a list; any list of terms and expressions may take its place.
    Errors: AlgebraError where the terms have not been imported.
    """
    found = lengths(data)
    inner, unit = round(found.shortest, 2), found.spacing
    reach = {name: [round(x * unit, 2) for x in multiples] for name, multiples in _REACHES.items()}
    starts = {pair: round(r, 2) for pair, r in closest(data).items()} if len(species) > 1 else {}

    def start(most: float) -> Any:
        """Where radial functions start: at the shortest distance, of every pair of species if there are several."""
        return tuple((*pair, min(r, most)) for pair, r in starts.items()) or min(inner, most)

    inside = {c: start(round(0.7 * c, 2)) for cs in reach.values() for c in cs}
    words: list[Expression] = [_term("ZBL", inner=round(0.5 * inner, 2), outer=start(math.inf))]
    words += [_term("Pair", cutoff=c, n_max=n, inner=inside[c]) for c in reach["pair"] for n in PAIRS]
    words += [_term("ThreeBody", cutoff=c, n_max=n, l_max=l, inner=inside[c]) for c in reach["body"] for n, l in BODIES]
    words += [_term("FourBody", cutoff=c, n_max=n, l_max=l, inner=inside[c]) for c in reach["body"][:2] for n, l in FOURS]
    if len(species) > 1:  # neighbours that count alike: numbers grow with the species, not with their pairs
        words += [_term("ThreeBody", cutoff=c, n_max=n, l_max=l, inner=inside[c], blind=True) for c in reach["body"] for n, l in BODIES]
        words += [_term("FourBody", cutoff=c, n_max=n, l_max=l, inner=inside[c], blind=True) for c in reach["body"][:2] for n, l in FOURS]
        words += [_term("Density", cutoff=c, n_max=n, inner=inside[c], blind=True) for c in reach["density"] for n in (1, 2, 3)]
    for c in reach["density"]:
        words += [_term("Density", cutoff=c, n_max=n, inner=inside[c]) for n in (1, 2, 3)]
        words += [_term("Embedding", cutoff=c, form=f).fix(decay=round(d / unit, 2)) for d in DECAYS for f in ("sqrt", "polynomial")]
        words.append(Scale() * sqrt(_term("Density", cutoff=c, n_max=1, inner=inside[c], positive=True).fix(coefficients=1.0)))
    return words + _charged(species)


def _charged(species: Sequence[str]) -> list[Expression]:
    """Learned charges, where species differ enough in electronegativity for bonds to be ionic."""
    if len(species) < 2:
        return []
    charges = _term("Charges", learn="per species")
    start = charges.guess(tuple(species))  # type: ignore[attr-defined]  # half of what electronegativities differ by
    return [_term("Coulomb", charges=charges, accuracy=1e-4)] if max(start) - min(start) > IONIC / 2 else []


_REACHES = {"pair": PAIR_REACH, "body": BODY_REACH, "density": DENSITY_REACH}


def _term(kind: str, **fields: Any) -> Term:
    if kind not in REGISTRY:
        raise AlgebraError(
            f"The default vocabulary needs the term {kind}",
            "It has not been imported",
            "Write `import terms` first, or pass vocabulary=[...]",
        )
    return REGISTRY[kind](**fields)


def numbers(word: Expression) -> list[Term]:
    """The terms of a word that have numbers to fit."""
    return [t for t in word.terms() if set(t.params()) - set(dict(t.fixed))]


def core(vocabulary: Sequence[Expression]) -> list[Expression]:
    """The words without a number to fit: they are part of every expression."""
    return sorted((w for w in vocabulary if not numbers(w)), key=lambda w: w.canonical)


def is_energy(word: Expression) -> bool:
    """Whether a word is an energy, to be added, and not a mere factor."""
    free = [t.params()[n] for t in numbers(word) for n in t.params() if n not in dict(t.fixed)]
    plain = any(p.unit == "eV" and p.amplitude for p in free) or any(isinstance(leaf, Scale) for leaf in leaves(word).values())
    return plain or is_alone(word)


def is_alone(word: Expression) -> bool:
    """Whether a word is an energy that no factor multiplies."""
    return any(term.alone for term in word.terms())
