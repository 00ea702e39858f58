"""Outcomes of fits: written down, read again, and judged by what was known before."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from composer.search.archive import Trial, better, standing
from composer.search.candidate import Candidate
from composer.search.journal import Journal
from composer.search.noise import margin
from composer.search.progress import Progress
from composer.search.settings import Settings
from composer.search.trial import Outcome


@dataclass(eq=False)
class Ledger:
    """The trials of a search, which grow as outcomes are noted."""

    settings: Settings
    journal: Journal
    progress: Progress
    trials: list[Trial]

    def note(self, c: Candidate, result: Any) -> None:
        """Write the outcome of a fit down (or read it from the journal) and judge it."""
        if result is not None:
            outcome = Outcome(failure=f"{type(result).__name__}: {result}") if isinstance(result, Exception) else result
            record = {
                "key": c.place,
                "parent": c.parent,
                "kind": c.kind,
                "text": c.text,
                "expression": c.expression.data(),
                **outcome.record(),
            }
            record |= {
                n: None if v is not None and not np.isfinite(v) else v
                for n, v in (("criterion", outcome.criterion), ("predicted", c.change), ("gain", c.gain))
            }
            if not outcome.failure:
                self.journal.keep(c.place, theta=outcome.theta, theta_folds=outcome.theta_folds)
            self.journal.append("failed" if outcome.failure else "fitted", record)
        event = self.noted(c)
        assert event is not None
        self.trials.append(self.trial(c, event))
        self.progress.trial(self.trials[-1], self.trials)

    def noted(self, c: Candidate) -> dict[str, Any] | None:
        """What the journal knows of the fit of a candidate."""
        return self.journal.find("fitted", c.place) or self.journal.find("failed", c.place)

    def trial(self, c: Candidate, event: Mapping[str, Any]) -> Trial:
        made = Trial(c.key, len(self.trials) + 1, c.expression, c.parent, c.kind, c.text)
        made.predicted, made.gain = event.get("predicted"), event.get("gain")
        if event["event"] == "failed":
            made.reason = f"failed: {event.get('failure') or event.get('reason')}"
            return made
        errors = event["errors"]
        made.parameters, made.cost, made.criterion = event["parameters"], event["cost"], event["criterion"]
        made.energy, made.forces = 1000 * errors.get("energy", float("nan")), errors.get("forces", float("nan"))
        made.strength, made.weights, made.method, made.train = event["strength"], event["weights"], event["method"], event["train"]
        kept = self.journal.numbers(c.place)
        made.theta, made.theta_folds = kept["theta"], kept["theta_folds"]
        parent = next((t for t in self.trials if t.key == c.parent), None)
        made.realised = made.criterion - parent.criterion if parent else None
        made.held = event["held"]
        made.accepted, made.reason = self.verdict(made)
        return made

    def verdict(self, made: Trial) -> tuple[bool, str]:
        """Whether a trial is better than all with as few numbers, and what is told of it."""
        if self.settings.max_cost is not None and made.cost > self.settings.max_cost:
            return False, f"rejected: it costs {made.cost:.0f} operations, more than {self.settings.max_cost:.0f}"
        whole = next((t for t in self.trials if t.key == made.parent), None)
        if made.kind == "prune" and whole is not None and not better(whole, made):
            return True, f"pruned: the removal changes the criterion by {made.realised:+.4f}, and chi2 by {-(made.gain or 0.0):+.4g} (Wald)"
        before = [t for t in standing(self.trials) if t.parameters <= made.parameters]
        if not before:
            return True, "the first with so few numbers"
        best, counts = before[-1], margin(made.held, before[-1].held)
        gain, other = best.criterion - made.criterion, f"trial {best.number} with {best.parameters} numbers"
        if better(made, best):
            return True, f"better than {other} by {gain:.4f}"
        if gain > 0:
            return False, f"within noise: better than {other} by {gain:.4f} where {counts:.4f} counts"
        return False, f"rejected: worse than {other} by {-gain:.4f}"
