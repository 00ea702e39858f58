"""Whether a trial may win: it must push atoms apart, resist compression, and survive dynamics, cold and hot."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from composer.algebra import Expression
from composer.data import Frame
from composer.dynamics import Verdict, repulsive, survives
from composer.runtime import threads
from composer.search.study import Study, at_home
from composer.search.trial import model_of

LEAST = 24  # atoms of a cell that moves
COLD, HOT = 300.0, 1000.0  # K
SHORT, FULL = 0.5, 10.0  # ps


@dataclass(frozen=True, eq=False)
class Trust:
    """A question to a worker. Arguments: full, whether dynamics runs for `FULL` or `SHORT` picoseconds."""

    study: Study
    expression: Expression
    theta: np.ndarray
    full: bool
    seed: int


def examine(question: Trust) -> Verdict:
    """Scans of dimers, trimers and compression, then NVE at 300 K and NVT at 1000 K from the lowest frame of the data."""
    threads.set_threads(1)
    study = at_home(question.study)
    model = model_of(question.expression, study, question.theta)
    crystal = study.crystal
    try:
        verdict = repulsive(model, study.species, [crystal] if crystal is not None else [])
        for temperature, ensemble in ((COLD, "nve"), (HOT, "nvt")):
            if verdict and crystal is not None:
                ps = FULL if question.full else SHORT
                verdict = survives(model, repeated(crystal), temperature, ps, ensemble, timestep=_timestep(crystal), seed=question.seed)  # type: ignore[arg-type]
                if not verdict:
                    verdict = Verdict(False, f"{ensemble.upper()} at {temperature:.0f} K: {verdict.reason}")
    except Exception as error:  # a model that cannot be run is no winner
        return Verdict(False, f"{type(error).__name__}: {error}")
    return verdict


def repeated(frame: Frame) -> Any:
    """The frame as atoms, repeated along its shortest vectors until it holds enough of them."""
    atoms = frame.atoms()
    atoms.calc = None
    while len(atoms) < LEAST:
        times = [1, 1, 1]
        times[int(np.argmin(np.linalg.norm(atoms.cell[:], axis=1)))] = 2
        atoms = atoms.repeat(times)
    return atoms


def _timestep(frame: Frame) -> float:
    """Femtoseconds that the lightest atom bears."""
    return float(np.clip(0.25 * np.sqrt(min(frame.atoms().get_masses())), 0.25, 1.0))
