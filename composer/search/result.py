"""What a search gives back."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from composer.errors import DataError
from composer.model import Model
from composer.search.archive import Trial, best, pareto, standing
from composer.search.expansion import Expansion, joined
from composer.search.study import Study
from composer.search.trial import model_of

if TYPE_CHECKING:
    from composer.search.settings import Settings


class Search:
    """Trials of a search in their order, the front of the best, and the winner; printable.

    Arguments: study and settings of the search; trials; run, its name; stopped, why it ended; ranked, number of neighbours that were ranked.
    """

    def __init__(self, study: Study, settings: Settings, trials: Sequence[Trial], run: str, stopped: str, ranked: int) -> None:
        self.study, self.settings, self.trials, self.run, self.stopped, self.ranked = study, settings, list(trials), run, stopped, ranked

    @cached_property
    def pareto(self) -> list[Trial]:
        """Trials that no other one beats in energy error, force error, parameters and cost at once; those that were passed over are none.

        Where none may win, those that were passed over stand in it too.
        """
        return pareto(t for t in self.trials if t.stable is not False or self.refused is not None)

    @property
    def winner(self) -> Trial:
        """The trial of the best model among those that passed the most checks: none with fewer numbers is as good within noise.

        Errors: DataError where none may win.
        """
        found = next(filter(None, (best(t for t in self._learned if t.checked == asked) for asked in ("full", "short", ""))), None)
        if found is not None:
            return found
        reasons = sorted({t.reason for t in self.trials if t.failed or t.stable is False})
        raise DataError(
            "The best model of a search was asked for",
            f"None of {len(self.trials)} trials may win: {'; '.join(reasons[:3]) or 'none holds a fitted number beside E0'}",
            f"Search longer (a larger budget or more seconds), or with other words{self._instead()}",
        )

    @cached_property
    def refused(self) -> Trial | None:
        """The best trial of a search in which none may win; None where there is a winner, or where nothing was learned."""
        passed = any(t.stable is not False for t in self._learned)
        return None if passed else next(reversed(standing(self._learned)), None)

    @property
    def _learned(self) -> list[Trial]:
        """Trials that hold a fitted number beside E0."""
        return [t for t in self.trials if not t.failed and t.parameters > len(self.study.species)]

    def _instead(self) -> str:
        """How the best of the refused trials becomes a model."""
        if self.refused is None:
            return ""
        call = f"found.model(found.trials[{self.trials.index(self.refused)}])"
        return f"; to have the best one that was refused, write found = composer.search(...); {call}"

    @cached_property
    def best(self) -> Model:
        """The best model, with its covariance, the shortest distances of its data and where it comes from."""
        return self.model(self.winner)

    def pick(self, energy: float | None = None, forces: float | None = None, parameters: int | None = None) -> Model:
        """The model with fewest parameters whose held-out errors are at most `energy` (meV/atom) and `forces` (eV/Å).

        With `parameters` alone, the best one that has at most so many. Errors: DataError where no trial does.
        """
        asked = {"energy": energy, "forces": forces, "parameters": parameters}
        limits = {name: limit for name, limit in asked.items() if limit is not None}
        found = [t for t in self.trials if not t.failed and t.stable is not False and all(getattr(t, n) <= v for n, v in limits.items())]
        if not found:
            near = ", ".join(f"{n} {min(getattr(t, n) for t in self.pareto):.4g}" for n in limits) if self.pareto else "none"
            raise DataError(
                f"A model with {limits} was asked for",
                f"No trial is that good; the least of each are {near}",
                "Ask for less, or search longer",
            )
        by_error = energy is None and forces is None
        return self.model(min(found, key=lambda t: (t.criterion, t.parameters) if by_error else (t.parameters, t.criterion)))

    def model(self, trial: Trial) -> Model:
        """The model of a trial."""
        model = model_of(trial.expression, self.study, trial.theta)
        model.provenance = {
            "made by": "composer.search",
            "run": self.run,
            "trial": trial.key,
            "data": self.study.data.hash,
            "settings": {n: v for n, v in self.settings.data().items() if n != "vocabulary"},
            "held-out errors": {"energy (meV/atom)": trial.energy, "forces (eV/Å)": trial.forces},
        }
        if trial.stable is False:
            model.provenance["refused"] = trial.reason
        model.covariance_root = self._covariance(trial)
        return model

    def _covariance(self, trial: Trial) -> np.ndarray | None:
        """Root of the covariance of the numbers, clustered by fold, at the minimum of the trial."""
        from analysis import sandwich_root, solve, weigh
        from composer.fit.weights import Weights

        expansion = Expansion(self.study, trial.expression)
        if not expansion.possible or len(self.study.folds) < 2:
            return None
        weights, factors = Weights(**trial.weights), expansion.steps(trial.theta)
        whole = joined(factors, weights)
        prior = weigh(expansion.penal(whole.norms), float(np.sqrt(trial.strength)))
        solution = solve(whole, prior=prior, gauge=expansion.gauge(trial.theta))
        groups = [joined({k: f for k, f in factors.items() if k[1] == fold}, weights) for fold in self.study.folds]
        return sandwich_root(solution, groups, "count")[: expansion.model.size]

    @property
    def spearman(self) -> float:
        """Rank correlation of predicted and realised changes of the criterion over all fitted neighbours; NaN below three."""
        from scipy.stats import spearmanr

        pairs = [(t.predicted, t.realised) for t in self.trials if t.predicted is not None and t.realised is not None]
        if len(pairs) < 3 or any(len(set(values)) < 2 for values in zip(*pairs, strict=True)):
            return float("nan")
        predicted, realised = zip(*pairs, strict=True)
        return float(spearmanr(predicted, realised)[0])  # type: ignore[arg-type]

    def rows(self) -> list[dict[str, Any]]:
        """One dictionary for each trial."""
        return [t.row() for t in self.trials]

    def dataframe(self) -> Any:
        """The trials as a pandas.DataFrame, one row each."""
        import pandas

        return pandas.DataFrame(self.rows())

    def report(self, path: str | Path = "report.html", crystals: Any = None) -> Path:
        """Write one self-contained HTML file about the search; crystals, what `composer.properties` gave for the best model, if it did."""
        from composer.search.report import report

        return report(self, path, crystals)

    def line(self) -> str:
        """The outcome in one line."""
        fitted = [t for t in self.trials if not t.failed]
        if not fitted:
            return f"search: no trial was fitted ({self.stopped})"
        try:
            best = self.winner
        except DataError as error:
            return f"search: {error}"
        return (
            f"search: {len(self.trials)} trials, {self.ranked} neighbours ranked, {self.stopped}; best {best.held_out}; "
            f"rank correlation of predicted and realised gains {self.spearman:.2f}"
        )

    def __str__(self) -> str:
        lines = [self.line(), f"{'P':>4s} {'E meV/atom':>11s} {'F eV/Å':>9s} {'operations':>11s}  expression"]
        lines += [
            f"{t.parameters:4d} {t.energy:11.4g} {t.forces:9.4g} {t.cost:11.3g}  {t.expression}".replace(" nan", "   -")
            + (f"  ({t.reason})" if t.stable is False else "")
            for t in sorted(self.pareto, key=lambda t: t.parameters)
        ]
        return "\n".join(lines)

    __repr__ = __str__
