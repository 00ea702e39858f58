"""Trials, and the front of those that no other one beats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer.algebra import Expression
from composer.search.noise import margin

Array = NDArray[np.float64]


@dataclass(eq=False)
class Trial:
    """A fitted expression and how it came about.

    Arguments: key; number, its place in the sequence; expression; parent (key), kind and text of the move; predicted and realised change of
    the criterion, and gain, the predicted fall of chi2; parameters P; energy (meV/atom) and forces (eV/Å), held-out root mean squares;
    criterion, ln E + ln F of them in eV; cost (operations for each atom and step); strength, weights and method of the fit; train errors;
    held, sums of squared held-out errors by observable and fold;
    accepted, whether it was better (beyond noise, or by more than a trifle) than all with P or fewer numbers; reason, why it was kept, rejected or passed over;
    stable, whether it passed the checks of its dynamics (None: not asked), checked, "short" or "full"; theta and theta_folds, the numbers.
    """

    key: str
    number: int
    expression: Expression
    parent: str = ""
    kind: str = "start"
    text: str = ""
    predicted: float | None = None
    realised: float | None = None
    gain: float | None = None
    parameters: int = 0
    energy: float = float("nan")
    forces: float = float("nan")
    criterion: float = float("inf")
    cost: float = 0.0
    strength: float = 0.0
    weights: dict[str, Any] = field(default_factory=dict)
    method: str = ""
    train: dict[str, float] = field(default_factory=dict)
    held: dict[str, list[float]] = field(default_factory=dict)
    accepted: bool = False
    reason: str = ""
    stable: bool | None = None
    checked: str = ""
    theta: Array = field(default_factory=lambda: np.zeros(0))
    theta_folds: Array = field(default_factory=lambda: np.zeros((0, 0)))

    @property
    def failed(self) -> bool:
        return not np.isfinite(self.criterion)

    @property
    def objectives(self) -> tuple[float, float, float, float]:
        """Energy and force error, parameters, cost: lower is better."""
        return (self.energy, self.forces, float(self.parameters), self.cost)

    @property
    def held_out(self) -> str:
        """The held-out errors that there are, and P, in words."""
        errors = (("E", self.energy, "meV/atom"), ("F", self.forces, "eV/Å"))
        return "  ".join([*(f"{name} {value:.4g} {unit}" for name, value, unit in errors if np.isfinite(value)), f"P {self.parameters}"])

    def row(self) -> dict[str, Any]:
        """What a table shows."""
        names = (
            "number",
            "key",
            "parent",
            "kind",
            "text",
            "parameters",
            "energy",
            "forces",
            "criterion",
            "cost",
            "predicted",
            "realised",
            "gain",
        )
        return {n: getattr(self, n) for n in names} | {
            "accepted": self.accepted,
            "stable": self.stable,
            "reason": self.reason,
            "expression": str(self.expression),
        }


def pareto(trials: Iterable[Trial]) -> list[Trial]:
    """Trials that no other one matches in all of energy error, force error, parameters and cost and beats in one, by criterion."""
    known = [t for t in trials if not t.failed]
    points = np.array([np.nan_to_num(t.objectives, nan=0.0) for t in known]).reshape(-1, 4)
    kept = [t for t, p in zip(known, points, strict=True) if not (np.all(points <= p, axis=1) & np.any(points < p, axis=1)).any()]
    return sorted(kept, key=lambda t: (t.criterion, t.parameters, t.key))


def standing(trials: Iterable[Trial]) -> list[Trial]:
    """Trials that are worth their numbers: in the order of P, each `better` than the last one. The last is the best."""
    kept: list[Trial] = []
    for trial in sorted((t for t in trials if not t.failed), key=lambda t: (t.parameters, t.criterion, t.key)):
        if not kept or better(trial, kept[-1]):
            kept.append(trial)
    return kept


def best(trials: Iterable[Trial]) -> Trial | None:
    """The best of the trials that were not passed over, if there is one."""
    return next(reversed(standing(t for t in trials if t.stable is not False)), None)


def better(trial: Trial, other: Trial) -> bool:
    """Whether the criterion of a trial is lower than that of another by more than chance or a trifle."""
    return trial.criterion < other.criterion - margin(trial.held, other.held)


def staircase(trials: Sequence[Trial], parameters: int) -> tuple[float, int]:
    """The least criterion among trials with at most this many parameters, and how many that one has; infinity where there is none."""
    found = [(t.criterion, t.parameters) for t in trials if not t.failed and t.parameters <= parameters]
    return min(found, default=(float("inf"), 0))


def steps(trials: Sequence[Trial]) -> list[Trial]:
    """The trials that stand on the staircase, the least criterion first."""
    known = [t for t in trials if not t.failed]
    return sorted(
        (t for t in known if (t.criterion, t.parameters) == staircase(known, t.parameters)),
        key=lambda t: (t.criterion, t.parameters, t.key),
    )
