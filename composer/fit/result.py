"""What a fit gives back."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from composer.data import Data
from composer.evaluate import Errors
from composer.fit.levenberg import Step
from composer.fit.weights import Weights
from composer.model import Model


@dataclass(frozen=True, eq=False)
class Fitted:
    """A fitted model and how well it does; printable.

    Arguments: model; train, errors on what was fitted; cv, errors on frames held out (None where there were no folds); history of
    the cost; weights used; ridge, strength of the prior relative to the data's information; stress_offset (eV/atom) of the data's stress,
    which is no part of the model; refused_offset (eV/atom), one that was too large to be an error of the data; chi2_shares, share of chi^2
    by (observable, config_type); method; totals, raw totals (e) of learned charges of each frame, by term; notes, what the data cannot tell
    of the model.
    """

    model: Model
    train: Errors
    cv: Errors | None
    history: list[Step]
    weights: Weights
    ridge: float
    stress_offset: float
    chi2_shares: dict[tuple[str, str], float]
    method: str
    totals: dict[str, np.ndarray] = field(default_factory=dict)
    refused_offset: float = 0.0
    notes: tuple[str, ...] = ()

    def __str__(self) -> str:
        lines = [
            f"{self.model}",
            f"fitted by {self.method}, {len(self.history)} evaluations; prior strength {self.ridge:.1e}",
            f"weights: {self.weights}",
            *(f"warning: {note}" for note in self.notes),
        ]
        if self.stress_offset:
            lines.append(
                f"stress offset of the data {self.stress_offset:+.4f} eV/atom x N/V: taken off before stresses are compared, not in the model; "
                "where stresses of the data are converged, fit with stress_offset=False"
            )
        if self.refused_offset:
            lines.append(
                f"stress as it stands in the data: an offset of {self.refused_offset:+.2f} eV/atom x N/V would fit best, "
                "more than an error of the data; look for what the model lacks"
            )
        for label, total in self.totals.items():
            worst = int(np.abs(total).argmax())
            lines.append(f"raw total of {label}: {np.sqrt(np.mean(total**2)):.3g} e r.m.s., largest {total[worst]:+.3g} e in frame {worst}")
        if self.chi2_shares:
            lines.append("share of chi^2: " + ", ".join(f"{o} {share:.0%}" for o, share in self._by_observable().items()))
            largest = sorted(self.chi2_shares.items(), key=lambda item: -item[1])[:5]
            lines.append("  most from " + ", ".join(f"{kind} {o} {share:.0%}" for (o, kind), share in largest))
        lines += ["train", str(self.train)]
        return "\n".join(lines + (["held out", str(self.cv)] if self.cv is not None else []))

    __repr__ = __str__

    def sign(self, data: Data, seed: int) -> Fitted:
        """Write into the model where it comes from: data, settings and errors. Returns: itself."""
        errors = {"train errors": self.train, "held-out errors": self.cv}
        units = {"energy": "meV/atom", "forces": "eV/Å", "stress": "GPa"}
        self.model.provenance |= {
            "made by": "composer.fit",
            "data": {"hash": data.hash, "frames": len(data), "files": sorted({f.source for f in data if f.source})},
            "settings": {"method": self.method, "seed": seed, "weights": str(self.weights), "prior strength": self.ridge},
            "stress offset (eV/atom)": self.stress_offset,
            **{name: {f"{o} ({units[o]})": s.rmse for o, s in e.scores.items()} for name, e in errors.items() if e is not None},
        }
        return self

    def _by_observable(self) -> dict[str, float]:
        observables = dict.fromkeys(o for o, _ in self.chi2_shares)
        return {o: sum(share for (name, _), share in self.chi2_shares.items() if name == o) for o in observables}
