"""What a search says while it runs: a bar on a terminal, plain lines elsewhere."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Any

from composer.search.archive import Trial, staircase

LISTED = re.compile(r"\((\([^()]*\))(?:, \([^()]*\)){2,}\)")  # lengths of three pairs of species or more


class Progress:
    """Arguments: quiet, say nothing; budget, trials that a full bar stands for."""

    def __init__(self, quiet: bool, budget: int) -> None:
        self.quiet, self.budget = quiet, budget
        self._bar: Any = None
        self._task: Any = None

    def __enter__(self) -> Progress:
        if not self.quiet and sys.stderr.isatty():
            from rich.console import Console
            from rich.progress import BarColumn, MofNCompleteColumn, TextColumn, TimeElapsedColumn
            from rich.progress import Progress as Bar

            columns = TextColumn("search"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), TextColumn("{task.description}")
            self._bar = Bar(*columns, console=Console(stderr=True), transient=True)
            self._bar.start()
            self._task = self._bar.add_task("", total=self.budget)
        return self

    def __exit__(self, *_: Any) -> None:
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def say(self, text: str) -> None:
        """A line."""
        if self.quiet or not text:
            return
        if self._bar is not None:
            self._bar.console.print(text, markup=False, highlight=False)
        else:
            print(text, flush=True)

    def rank(self, expression: str, count: int, seconds: float) -> None:
        """Neighbours were ranked."""
        self.say(f"  {count} neighbours ranked in {seconds:.1f} s: {_short(expression)}")

    def trial(self, trial: Trial, trials: Sequence[Trial]) -> None:
        """A trial was noted."""
        found = trial.reason if trial.failed else trial.held_out
        expected = (
            ""
            if trial.predicted is None or trial.realised is None
            else f"  ln E + ln F predicted {trial.predicted:+.3f}, got {trial.realised:+.3f}"
        )
        self.say(f"{trial.number:4d} {'+' if trial.accepted else '-'} {trial.kind:8s} {found}{expected}  {_short(str(trial.expression))}")
        if self._bar is not None:
            least = staircase(trials, 10**9)[0]
            self._bar.update(self._task, completed=trial.number, description=f"ln E + ln F = {least:.3f}")


def _short(text: str, length: int = 150) -> str:
    text = LISTED.sub(r"(\1, ...)", text)
    return text if len(text) <= length else text[: length - 3] + "..."
