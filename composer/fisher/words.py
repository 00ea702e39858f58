"""The Fisher report in plain words."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from analysis.spectrum import DETERMINED

if TYPE_CHECKING:
    from composer.fisher.report import FisherReport

REDUNDANT = 1.0  # degrees
CHEAP = 10.0  # rise of chi2 per number, in residual variances, below which a term hardly matters


def summary(report: FisherReport) -> str:
    """What the data determine, which terms matter, which directions are open."""
    spectrum, size = report.spectrum, report.model.size
    determined = spectrum.rank()
    lines = [
        f"{size} fitted numbers on {len(report.data)} frames in {len(report.groups)} independent groups; noise {report.weights}.",
        f"The data determine {determined} of {len(spectrum.eigenvalues)} directions (eigenvalues above {DETERMINED:.0e} of the largest); "
        f"N_eff = {report.n_eff:.1f} above 1e-8, {spectrum.decades:.1f} decades, condition number {report.condition:.1e}.",
    ]
    if len(report.spectra) > 1:
        alone = [f"{o} {s.rank()}" for o, s in report.spectra.items() if o != "all"]
        lines.append(f"Alone they determine: {', '.join(alone)}.")
    if report.gauge_dimension:
        lines.append(f"{report.gauge_dimension} flat direction(s) of the expression itself (products share their scale) were set aside.")
    if report.unseen:
        shown = ", ".join(report.unseen[:6]) + (f" and {len(report.unseen) - 6} more" if len(report.unseen) > 6 else "")
        lines.append(f"Not seen by any row: {shown}. Freeze them, or add data that see them.")
    lines.append(
        f"Model error: tr(H^-1 V)/s2 = {report.tic_trace:.0f} where {size - report.gauge_dimension} is expected of a true model; "
        "error bars are from the clustered sandwich."
    )
    lines += ["", *_table(report), "", *_verdicts(report), *_sloppiest(report)]
    return "\n".join(lines)


def _table(report: FisherReport) -> list[str]:
    lines = [f"{'term':22s}{'numbers':>8s}{'effective':>10s}{'stiff':>8s}{'sloppy':>8s}{'price/number':>14s}  nearest term (angle)"]
    for t in report.terms:
        price = "-" if t.price is None else f"{t.price / t.parameters:.3g}"
        near = f"{t.nearest} ({t.angle:.2g}°)" if t.nearest != t.name else "-"
        lines.append(f"{t.name[:21]:22s}{t.parameters:8d}{t.effective:10.1f}{t.stiff:8.0%}{t.sloppy:8.0%}{price:>14s}  {near}")
    return lines


def _verdicts(report: FisherReport) -> list[str]:
    lines = []
    for t in report.terms:
        if t.price is not None and t.price < CHEAP * t.parameters:
            lines.append(f"{t.name} hardly matters: without it chi2 rises by {t.price:.3g} residual variances. Try the fit without it.")
    close = {frozenset((t.name, t.nearest)): t.angle for t in report.terms if t.angle < REDUNDANT and t.nearest != t.name}
    lines += [
        f"{' and '.join(sorted(pair))} overlap on these data: a combination of one is within {angle:.2g}° of the other."
        for pair, angle in close.items()
    ]
    return lines or ["Every term pulls its weight."]


def _sloppiest(report: FisherReport) -> list[str]:
    """The direction that the data leave most open, by its largest numbers."""
    modes = report.spectrum.modes()
    if not modes.shape[1]:
        return []
    weight = np.zeros(len(report.names))
    weight[report.spectrum.coordinates.seen] = report.spectrum.vectors[:, -1] ** 2
    order = np.argsort(-weight)[:4]
    parts = ", ".join(f"{report.names[k]} ({weight[k]:.0%})" for k in order if weight[k] > 0.02)
    return [f"The loosest direction mixes {parts or 'many numbers a little each'}."]
