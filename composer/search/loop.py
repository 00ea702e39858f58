"""The search: generations of neighbours, ranked without fits, of which only the best are fitted."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from composer.algebra import Expression, Sum
from composer.data import By, Data
from composer.errors import BackendError
from composer.fit.weights import Weights
from composer.model import Model
from composer.search.archive import Trial, staircase, steps
from composer.search.candidate import Candidate, key_of, row
from composer.search.cost import cost, density
from composer.search.inherit import inherited, numbers
from composer.search.journal import SCHEMA, Journal
from composer.search.jury import Jury
from composer.search.ledger import Ledger
from composer.search.moves import neighbours
from composer.search.noise import SLACK
from composer.search.progress import Progress
from composer.search.rank import Parent, Proposal, rank
from composer.search.result import Search
from composer.search.settings import Settings, check_limits, check_words
from composer.search.study import Study
from composer.search.trial import Task, run
from composer.search.vocabulary import core, default_vocabulary
from composer.search.words import Words
from composer.search.workers import Workers, check

PARENTS, CHILDREN = 2, 4  # expressions expanded, and fits, in one generation
KEPT = 40  # proposals of a parent that are remembered
FIRST = {"energy": 1e-3, "forces": 0.1, "stress": 0.1}  # targets at which the first neighbours are ranked


def search(
    data: Data,
    vocabulary: Sequence[Expression] | None = None,
    start: Expression | None = None,
    weights: Weights | None = None,
    max_parameters: int = 75,
    max_cost: float | None = None,
    budget: int = 60,
    seconds: float | None = None,
    folds: int = 5,
    executor: Executor | int | None = None,
    storage: str | Path | None = None,
    seed: int = 0,
    quiet: bool = False,
    by: By = "group",
) -> Search:
    """Search for the best expressions for data.

    From `start`, neighbours are made by adding, multiplying, resizing, swapping, removing and tying words of the vocabulary; all are ranked by the
    predicted change of ln RMSE_E + ln RMSE_F held out by folds of related frames, and the best are fitted. Arguments: data; vocabulary, any list
    of terms and expressions (None: `default_vocabulary`); start (None: the words without numbers); weights (None: chosen by folds);
    max_parameters P, fitted numbers of a model, E0 included; max_cost, operations for each atom and step; budget, most trials (what prunes the winner comes on top);
    seconds after which no trial is begun; folds; executor, None, a number of processes, or a concurrent.futures.Executor; storage, a
    folder: the same call goes on where it ended, however it ended; seed of folds and dynamics; quiet; by, what folds keep together,
    "group" or "config_type": the latter judges by kinds of frames never seen, for models that must extrapolate.
    Returns: a Search, the same for the same seed whatever the workers; Ctrl-C returns what is done.
    Errors: DataError for data that cannot be fitted or storage that cannot be written; AlgebraError for words that cannot be used.
    """
    check_limits(budget, seconds, max_parameters, max_cost, folds, seed)
    data = data if isinstance(data, Data) else Data(data)
    words = check_words(default_vocabulary(data.species, data) if vocabulary is None else vocabulary, start)
    settings = Settings(words, start, weights, max_parameters, max_cost, folds, seed, by)
    with Workers(executor) as workers, Progress(quiet, budget) as progress:
        check(workers, [*words, *([start] if start is not None else [])])
        return Run(data, settings, workers, progress, storage, budget, seconds).go()


@dataclass(eq=False)
class Run:
    """One search and its state."""

    data: Data
    settings: Settings
    workers: Workers
    progress: Progress
    storage: str | Path | None
    budget: int
    seconds: float | None
    trials: list[Trial] = field(default_factory=list)
    pool: dict[str, Candidate] = field(default_factory=dict)
    expanded: set[str] = field(default_factory=set)
    ranked: int = 0
    stopped: str = ""

    def __post_init__(self) -> None:
        self.begun = time.monotonic()
        header = {"settings": self.settings.data(), "data": self.data.hash}
        self.name = hashlib.sha256(json.dumps([SCHEMA, header], sort_keys=True).encode()).hexdigest()[:16]
        self.journal = Journal(self.storage, self.name, header)
        self.words = Words(self.data, self.settings, self.workers, self.progress, self.journal)
        self.ledger = Ledger(self.settings, self.journal, self.progress, self.trials)
        self.jury = Jury(self.words, self.trials)
        self.density = density(self.data)

    @property
    def study(self) -> Study:
        return self.words.study

    def go(self) -> Search:
        """The generations, and the choice of a winner."""
        try:
            self.generations()
            self.prune()
            self.jury.crown()
        except KeyboardInterrupt:
            self.stopped = "interrupted"
            self.progress.say("interrupted: what is done is returned")
        finally:
            self.workers.close()
            self.journal.close()
        found = Search(self.study, self.settings, self.trials, self.name, self.stopped, self.ranked)
        self.progress.say(found.line())
        return found

    @property
    def over(self) -> bool:
        late = self.seconds is not None and time.monotonic() - self.begun > self.seconds
        if late or len(self.trials) >= self.budget:
            self.stopped = self.stopped or ("out of time" if late else "budget spent")
        return bool(self.stopped)

    # ---- generations

    def generations(self) -> None:
        first = self.settings.start if self.settings.start is not None else Sum.of([(1.0, w) for w in core(self.words.usable)])
        if first.terms():
            size = sum(leaf.size for leaf in self.study.leaves.of(first).values()) + len(self.data.species)
            self.fit([Candidate.first(first, size)])
        elif not self.over:
            self.expand(first, None)
        while not self.over:
            waiting = [t for t in steps(self.trials) if t.key not in self.expanded][:PARENTS]
            for trial in waiting:
                if not self.over:
                    self.expand(trial.expression, trial)
            chosen = self.choose()
            if self.over:
                return
            if not chosen and not waiting:
                self.stopped = "nothing better is predicted"
                return
            self.fit(chosen)
            self.jury.judge()

    def expand(self, expression: Expression, trial: Trial | None) -> None:
        """Rank the neighbours of a trial and remember the best of them."""
        key = trial.key if trial else ""
        event = self.once("ranked", key, expression, lambda: self.rank(expression, trial))
        self.expanded.add(key)
        self.ranked += int(event["count"])
        for made in event["proposals"]:
            candidate = Candidate.of(key, made)
            known = self.pool.get(candidate.key)
            if known is None or candidate.criterion < known.criterion:
                self.pool[candidate.key] = candidate

    def spare(self, trial: Trial) -> list[Candidate]:
        """Removals and ties of a trial that are predicted to cost no more than noise or a trifle, the cheapest first."""

        def ranked() -> dict[str, Any]:
            found = self.proposals(trial.expression, trial, trial.parameters - 1, ("remove", "tie", "factor"))
            rows = [row(p, trial.criterion) | {"kind": "prune"} for p in found if p.change <= p.margin]
            return {"count": len(found), "proposals": rows}

        return [Candidate.of(trial.key, made) for made in self.once("spare", trial.key, trial.expression, ranked)["proposals"]]

    def once(self, kind: str, key: str, expression: Expression, made: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """An event of ranks, from the journal where it is known; neighbours that cannot be ranked are none."""
        event = self.journal.find(kind, key)
        if event is not None:
            return event
        try:
            return self.journal.append(kind, {"key": key, **made()})
        except (BackendError, ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
            self.progress.say(f"neighbours of {expression} could not be ranked: {error}")
            return self.journal.append(kind, {"key": key, "count": 0, "proposals": [], "failure": str(error)})

    def rank(self, expression: Expression, trial: Trial | None) -> dict[str, Any]:
        began = time.monotonic()
        proposals = self.proposals(expression, trial, self.settings.max_parameters)
        known = {t.key for t in self.trials}
        base = trial.criterion if trial else 0.0
        kept = [p for p in proposals if key_of(p.move.expression) not in known]
        best = {
            id(p): p for p in (*kept[:KEPT], *sorted(kept, key=lambda p: (p.change / p.parameters, p.move.expression.canonical))[:KEPT])
        }
        self.progress.rank(str(expression), len(proposals), time.monotonic() - began)
        return {"count": len(proposals), "proposals": [row(p, base) for p in best.values()], "seconds": time.monotonic() - began}

    def proposals(self, expression: Expression, trial: Trial | None, largest: int, kinds: Sequence[str] = ()) -> list[Proposal]:
        """The neighbours of an expression by moves of some kinds (all, where none is named), the best first."""
        moves = neighbours(expression, self.words.usable, self.words.small)
        wanted = [m for m in moves if not kinds or m.kind in kinds]
        return rank(self.study.sample, self.parent(expression, trial), wanted, self.words.bank, largest, self.workers.map)

    def parent(self, expression: Expression, trial: Trial | None) -> Parent:
        if trial is None or trial.parameters <= len(self.data.species):
            plain = self.settings.weights or Weights(**{o: FIRST[o] if s is not None else None for o, s in Weights().scales.items()})  # type: ignore[arg-type]
            return Parent(expression, plain, 1e-6, {} if trial is None else numbers(self.study, expression, trial.theta))
        return Parent(expression, Weights(**trial.weights), trial.strength, numbers(self.study, expression, trial.theta))

    def choose(self) -> list[Candidate]:
        """The candidates of this generation: unlike ones that are predicted to be best, and the one that lowers the staircase most."""

        def merit(c: Candidate) -> float:
            return staircase(self.trials, c.parameters)[0] - c.criterion if self.trials else -c.criterion

        chosen: list[Candidate] = []
        seen: set[tuple] = set()
        waiting = {k: c for k, c in self.pool.items() if merit(c) > SLACK}
        while waiting and len(chosen) < min(CHILDREN, self.budget - len(self.trials)):
            last = len(chosen) == CHILDREN - 1
            unlike = [c for c in waiting.values() if last or c.shape not in seen] or list(waiting.values())
            best = min(unlike, key=lambda c: (-merit(c) if last else c.criterion, c.parameters, c.key))  # noqa: B023
            seen.add(best.shape)
            del waiting[best.key], self.pool[best.key]
            if self.settings.max_cost is None or self.cost(best.expression) <= self.settings.max_cost:
                chosen.append(best)
        return sorted(chosen, key=lambda c: c.key)

    def cost(self, expression: Expression) -> float:
        return cost(Model(expression, self.study.species), self.density)

    # ---- fits

    def fit(self, candidates: Sequence[Candidate], limited: bool = True) -> None:
        """Fit candidates and take note of them in the order of their keys; within the limits, if there are."""
        waiting = [c for c in candidates if self.ledger.noted(c) is None]
        results = self.workers.each(run, [(self.task(c),) for c in waiting])
        fresh = {c.key for c in waiting}
        for candidate in candidates:
            if limited and self.over:
                return
            self.ledger.note(candidate, next(results) if candidate.key in fresh else None)

    def prune(self) -> None:
        """Drop from the best trial what it does not need: parts and factors whose price is within noise.

        These fits stand after the sequence of trials and apart from it in the journal, so that a longer search goes on as if they had not been.
        """
        while (leader := self.jury.leader) is not None:
            known = {t.key for t in self.trials}
            self.fit([c for c in self.spare(leader) if c.key not in known][:CHILDREN], limited=False)
            if self.jury.leader is leader:
                return

    def task(self, c: Candidate) -> Task:
        parent = next((t for t in self.trials if t.key == c.parent), None)
        near = parent is not None and bool(parent.weights)
        guess = Weights(**parent.weights) if near and parent else None
        start = c.start if len(c.start) else None
        strength = parent.strength if near and parent else 1e-8
        base = None
        if parent is not None and start is not None:
            known = numbers(self.study, parent.expression, parent.theta)
            base = inherited(self.study, c.expression, known, parent.theta[: len(self.data.species)])
        return Task(
            self.study,
            c.expression,
            self.settings.weights,
            self.settings.seed,
            self.density,
            start,
            base,
            guess,
            strength,
            self.settings.by,
        )
