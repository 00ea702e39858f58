"""Error bars of predictions, calibrated on groups that were held out."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

import analysis
from composer.algebra import is_number
from composer.errors import DataError
from composer.evaluate import chunks
from composer.model.structures import listed

if TYPE_CHECKING:
    from composer.fisher.report import FisherReport

Array = NDArray[np.float64]


@dataclass(frozen=True, eq=False)
class ErrorBars:
    """Standard deviations of predictions: energy [S] (eV), forces [N, 3] (eV/Å); printable.

    One deviation is meant to cover `level` of the errors. coverage: by observable, the share found in halves of the groups that took
    no part in the calibration; scale: by observable, the factor that calibrated the deviations.
    """

    energy: Array
    forces: Array
    level: float
    scale: dict[str, float]
    coverage: dict[str, float]

    def __str__(self) -> str:
        found = ", ".join(f"{o} {c:.0%} (scale {self.scale[o]:.2f})" for o, c in self.coverage.items())
        return (
            f"Error bars of {len(self.energy)} structures (medians): energy {np.median(self.energy):.3g} eV, "
            f"forces {np.median(self.forces):.3g} eV/Å. One deviation is to cover {self.level:.0%}; on held-out groups it covers {found}."
        )

    __repr__ = __str__


def error_bars(report: FisherReport, structures: Sequence[Any], level: float) -> ErrorBars:
    """Deviations sqrt(|j C|^2 + s^2) times a conformal factor: C the sandwich root, s the rms residual (what no number can mend)."""
    structures = listed(structures)
    if not structures:
        raise DataError("Error bars of predictions were asked for", "The list of structures is empty", "Give ase.Atoms or frames")
    if not is_number(level) or not 0 < level < 1:
        found = "It is the share of errors that one deviation covers, between 0 and 1"
        raise DataError(f"Error bars with level={level!r} were asked for", found, "Write level=0.68")
    errors, deviations, names = held_out(report)
    scale = {o: analysis.conformal_scale(errors[o], deviations[o], level, names[o].tolist()) for o in errors}
    coverage = {o: _across(errors[o], deviations[o], names[o], level) for o in errors}
    model, root, noise = report.model, report.covariance_root, _noise(report)
    energy, forces = [], []
    for places in chunks(structures, max(2**24 // max(model.size, 1), 1)):
        jacobian = model.jacobian([structures[p] for p in places])
        counts = np.array([len(structures[p].positions) for p in places])
        spread = analysis.propagate(jacobian.energy.cpu().numpy(), root)
        energy.append(np.hypot(spread, noise["energy"] * counts) * scale.get("energy", 1.0))
        forces.append(np.hypot(analysis.propagate(jacobian.forces.cpu().numpy(), root), noise["forces"]) * scale.get("forces", 1.0))
    return ErrorBars(np.concatenate(energy), np.concatenate(forces), level, scale, coverage)


def held_out(report: FisherReport) -> tuple[dict[str, Array], dict[str, Array], dict[str, NDArray[np.intp]]]:
    """Errors of rows without their group, exact for linear models, the deviations predicted for them, and their groups, by observable."""
    solution = report.solution
    without = dict(zip(sorted(set(report.cluster.tolist())), _leave_out(report), strict=True))  # steps of u by cluster
    root = analysis.sandwich_root(solution, report.groups)  # [K, n], in unknowns u
    noise = _noise(report)
    errors: dict[str, list[Array]] = {}
    deviations: dict[str, list[Array]] = {}
    names: dict[str, list[Array]] = {}
    for rows in report.problem.rows(report.problem.start()):
        if rows.observable not in ("energy", "forces"):
            continue
        group = int(report.cluster[rows.frame])
        matrix, rhs = rows.matrix.cpu().numpy(), rows.rhs.cpu().numpy()
        errors.setdefault(rows.observable, []).append(rhs - matrix @ without[group])
        spread = np.linalg.norm(matrix @ root, axis=1)
        deviations.setdefault(rows.observable, []).append(np.hypot(spread, noise[rows.observable]))
        names.setdefault(rows.observable, []).append(np.full(len(rhs), group))
    return tuple({o: np.concatenate(v) for o, v in found.items()} for found in (errors, deviations, names))  # type: ignore[return-value]


def _leave_out(report: FisherReport) -> Array:
    """Steps of u without each cluster [C, K], with as little ridge as makes them exist."""
    ridge = 1e-12
    while True:
        try:
            solution = analysis.solve(report.factor, ridge, gauge=report.gauge)
            return analysis.leave_one_out(report.groups, solution)
        except ValueError:
            if ridge > 1e-3:
                raise
            ridge *= 100.0


def _noise(report: FisherReport) -> dict[str, float]:
    """Root mean square residual by observable, in the unit of its rows."""
    step, found = np.zeros(report.problem.size), {"energy": 0.0, "forces": 0.0}
    for observable in report.problem.observables:
        own = [f for key, f in report.factors.items() if key[0] == observable]
        found[observable] = float(np.sqrt(sum(float(f.chi2(step)) for f in own) / max(sum(f.rows for f in own), 1)))
    return found


def _across(errors: Array, deviations: Array, groups: NDArray[np.intp], level: float) -> float:
    """Coverage in each half of the groups with the factor of the other half."""
    labels = np.unique(groups)
    half = np.isin(groups, labels[::2])
    found = []
    for inside in (half, ~half):
        if inside.any() and not inside.all():
            scale = analysis.conformal_scale(errors[inside], deviations[inside], level, groups[inside].tolist())
            found.append(analysis.covered(errors[~inside], deviations[~inside], scale))
    return float(np.mean(found)) if found else float("nan")
