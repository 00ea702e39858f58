"""Who may win: the best trials are asked for their dynamics, in the order of their errors."""

from __future__ import annotations

from dataclasses import dataclass

from composer.search.archive import Trial, best
from composer.search.stability import Trust, examine
from composer.search.words import Words

CHECKED = 12  # candidates for the winner that are looked at in full


@dataclass(eq=False)
class Jury:
    """Arguments: words, whose study, workers and journal are used; trials, a list that grows."""

    words: Words
    trials: list[Trial]

    @property
    def leader(self) -> Trial | None:
        """The best of the trials that may win: not passed over, and not too costly."""
        most = self.words.settings.max_cost
        return best(t for t in self.trials if t.parameters > len(self.words.data.species) and (most is None or t.cost <= most))

    def judge(self) -> None:
        """Ask the leader for its dynamics, shortly; one that fails is passed over, and the next is asked."""
        for _ in range(2):
            leader = self.leader
            if leader is None or leader.stable:
                return
            self.ask(leader, full=False)

    def crown(self) -> None:
        """The winner is the best trial that passes the full checks."""
        for _ in range(CHECKED):
            leader = self.leader
            if leader is None or self.ask(leader, full=True):
                return

    def ask(self, trial: Trial, full: bool) -> bool:
        """Whether a trial survives, from the journal where it is known."""
        name = f"{trial.key} {'full' if full else 'short'}"
        event = self.words.journal.find("checked", name)
        if event is None:
            self.words.progress.say(
                f"trial {trial.number}: scans of dimers and trimers, compression, {'10' if full else '0.5'} ps of dynamics"
            )
            verdict = next(
                self.words.workers.each(
                    examine, [(Trust(self.words.study, trial.expression, trial.theta, full, self.words.settings.seed),)]
                )
            )
            passed = not isinstance(verdict, Exception) and bool(verdict)
            event = self.words.journal.append(
                "checked", {"key": name, "passed": passed, "reason": "" if passed else getattr(verdict, "reason", str(verdict))}
            )
        trial.stable = bool(event["passed"])
        trial.checked = "full" if full else "short"
        if not trial.stable:
            trial.reason = f"passed over: {event['reason']}"
            self.words.progress.say(f"trial {trial.number} passed over: {event['reason']}")
        return trial.stable
