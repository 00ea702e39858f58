"""Edits of an expression that the end of a geodesic stands for: merge two like terms, drop one, freeze a number."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from analysis import Geodesic
from composer.algebra import Expression, Term, replaced
from composer.fisher.worth import without
from composer.model import Model
from composer.model.entries import Entry

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class Edit:
    """Kind ("merge", "drop" or "freeze"), words, and the edited model at the numbers of the edge."""

    kind: str
    text: str
    model: Model


def edits(model: Model, end: Array, path: Geodesic, running: Sequence[int]) -> Iterator[Edit]:
    """The strongest first. Arguments: end [P], free numbers at the edge; running, unknowns that run away, the fastest first."""
    last, labels = model.with_parameters(torch.from_numpy(end)), model.expression.labels()
    owners = [(e, k) for e in model.entries if e.free for k in range(model.layout.slots[e.key].size)]
    for a, b in combinations(model.expression.terms(), 2):
        if a.nameless() == b.nameless() and path.meeting(_alike(owners, a, b)):
            yield Edit("merge", f"merge {labels[b.digest]} into {labels[a.digest]}", _started(without(model.expression, b), last))
    tables = list(dict.fromkeys(owners[p][0].key for p in running if p < len(owners)))
    known = {e.key: e for e in model.entries}
    terms = {t.digest: t for t in model.expression.terms()}
    for digest in dict.fromkeys(known[key].term for key in tables if known[key].term):
        rest = without(model.expression, terms[digest])
        if rest.terms():
            yield Edit("drop", f"drop {labels[digest]}", _started(rest, last))
    for entry in (known[key] for key in tables if known[key].term):
        name, term = entry.key.rpartition(".")[2], terms[entry.term]
        values = last.parameters[entry.name].reshape(-1)
        new = term.fix(**{name: float(values[0])}) if len(values) == 1 else term.freeze(name)
        where = f" at {float(values[0]):.4g}" if len(values) == 1 else ""
        yield Edit(
            "freeze", f"freeze {entry.name}{where}", _started(replaced(model.expression, term, new), last, {new.digest: term.digest})
        )


def _alike(owners: Sequence[tuple[Entry, int]], a: Term, b: Term) -> list[tuple[int, int]]:
    """Unknowns that differ between two like terms, but for their amplitudes: pairs of places."""
    shapes = [n for n, p in a.params().items() if not p.amplitude]
    place = {(e.term, e.key.rpartition(".")[2], k): n for n, (e, k) in enumerate(owners)}
    return [(n, place[b.digest, name, k]) for (term, name, k), n in place.items() if term == a.digest and name in shapes]


def _started(expression: Expression, last: Model, was: dict[str, str] | None = None) -> Model:
    """The model of an edited expression with the numbers that it shares with the last one. Arguments: was, old digests of new terms."""
    model = Model(expression, last.species)
    values = {(e.term, e.key.rpartition(".")[2]): last.parameters[e.name] for e in last.entries}
    found: dict[str, Any] = {}
    for e in model.entries:
        key = (was or {}).get(e.term, e.term), e.key.rpartition(".")[2]
        if key in values:
            found[e.name] = values[key]
    return model.with_parameters(found)
