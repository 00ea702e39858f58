"""What a fit would pass over in silence: species without a frame, reaches without a pair, given charges that do not cancel."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from composer.data import Data, Frame
from composer.data.distances import pairs
from composer.model import Model
from composer.model.programs import reach

FAR = 6.0  # Å, within which the shortest distance is looked for
EXACT = 1e-6  # e, a net charge that is rounding


def gaps(model: Model, data: Data) -> tuple[str, ...]:
    """Sentences about what the data cannot tell of a model. Arguments: model; data. Returns: sentences, none where nothing is amiss."""
    return (*_species(model, data), *_reaches(model, data), *_charges(model, data))


def _species(model: Model, data: Data) -> list[str]:
    absent = sorted(set(model.species) - {s for frame in data for s in frame.symbols})
    return [f"no frame holds {', '.join(absent)}: what is learned of it stays near where it started"] if absent else []


def _reaches(model: Model, data: Data) -> list[str]:
    """Terms whose cutoff holds no pair of atoms."""
    labels = model.expression.labels()
    cutoffs = {labels[t.digest]: reach(Model(t, model.species).node) for t in model.expression.terms()}
    least = _shortest(data.frames, min((c for c in cutoffs.values() if c > 0), default=0.0))
    found = f"the shortest distance in the data is {least:.3f} Å" if np.isfinite(least) else f"no two atoms are within {FAR:g} Å"
    return [f"{label} sees no pair of atoms: its cutoff is {c:g} Å, and {found}" for label, c in cutoffs.items() if 0 < c <= least]


def _shortest(frames: Sequence[Frame], enough: float) -> float:
    """Shortest distance (Å) between two atoms, or one below `enough`; infinite where all are alone."""
    least = np.inf
    for frame in frames:
        if least < enough:
            break
        least = min(least, pairs(frame, FAR)[2].min(initial=np.inf))
    return float(least)


def _charges(model: Model, data: Data) -> list[str]:
    """Given charges that do not sum to zero in a periodic frame."""
    labels, said = model.expression.labels(), []
    for term in model.expression.terms():
        if known := term.given_charges():
            totals = [(sum(known.get(s, 0.0) for s in frame.symbols), frame.name) for frame in data if frame.pbc.any()]
            charged = [(total, name) for total, name in totals if abs(total) > EXACT]
            if charged:
                total, name = max(charged, key=lambda pair: abs(pair[0]))
                said.append(
                    f"{labels[term.digest]} sum to {total:+.3g} e in {name}, and not to zero in {len(charged)} of {len(totals)} "
                    "periodic frames: a uniform background neutralises them"
                )
    return said
