"""The search: generations of neighbours, ranked without fits, of which only the best are fitted."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import asdict, dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from composer.algebra import Expression, Sum
from composer.algebra import expression as expression_of
from composer.data import Data
from composer.errors import BackendError, ComposerError, DataError
from composer.fit.weights import Weights
from composer.model import Model
from composer.search.archive import SLACK, Trial, staircase, steps
from composer.search.cost import cost, density
from composer.search.cover import covers
from composer.search.journal import SCHEMA, Journal
from composer.search.moves import Move, neighbours, normal
from composer.search.polynomial import leaves
from composer.search.progress import Progress
from composer.search.rank import Bank, Parent, inherited, numbers, rank
from composer.search.result import Search
from composer.search.sheet import Study, at_home
from composer.search.stability import Trust, examine
from composer.search.trial import Outcome, Task, run
from composer.search.vocabulary import core, default_vocabulary
from composer.search.workers import Workers, check

Array = NDArray[np.float64]
PARENTS, CHILDREN = 2, 4  # expressions expanded, and fits, in one generation
KEPT = 40  # proposals of a parent that are remembered
FACTOR = 3  # most numbers of a factor (1 + X)
FIRST = {"energy": 1e-3, "forces": 0.1, "stress": 0.1}  # targets at which the first neighbours are ranked
CHECKED = 12  # candidates for the winner that are looked at in full


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
) -> Search:
    """Search for the best expressions for data.

    From `start`, neighbours are made by adding, multiplying, resizing, swapping and removing words of the vocabulary; all are ranked by the
    predicted change of ln RMSE_E + ln RMSE_F held out by folds of related frames, and the best are fitted. Arguments: data; vocabulary, any list
    of terms and expressions (None: `default_vocabulary`); start (None: the words without numbers); weights (None: chosen by folds);
    max_parameters P, fitted numbers of a model, E0 included; max_cost, operations for each atom and step; budget, most trials;
    seconds after which no trial is begun; folds; executor, None, a number of processes, or a concurrent.futures.Executor; storage, a
    folder: the same call goes on where it ended, however it ended; seed of folds and dynamics; quiet.
    Returns: a Search, the same for the same seed whatever the workers; Ctrl-C returns what is done.
    Errors: DataError for data that cannot be fitted or storage that cannot be written; AlgebraError for words that cannot be used.
    """
    _check(budget, seconds, max_parameters, max_cost, folds)
    data = data if isinstance(data, Data) else Data(data)
    words = list(default_vocabulary(data.species, data) if vocabulary is None else vocabulary)
    settings = Settings(words, start, weights, max_parameters, max_cost, folds, seed)
    with Workers(executor) as workers, Progress(quiet, budget) as progress:
        check(workers, [*words, *([start] if start is not None else [])])
        return _Run(data, settings, workers, progress, storage, budget, seconds).go()


def _check(budget: int, seconds: float | None, max_parameters: int, max_cost: float | None, folds: int) -> None:
    """Refuse limits under which nothing can be found, before anything is built."""
    least = {"budget": (budget, 1), "max_parameters": (max_parameters, 2), "folds": (folds, 0)}
    for name, (value, bound) in least.items():
        if not isinstance(value, (int, np.integer)) or isinstance(value, bool) or value < bound:
            raise DataError(f"A search with {name}={value!r} was asked for", f"It is a whole number from {bound} on", f"Leave {name} out")
    for name, limit in (("seconds", seconds), ("max_cost", max_cost)):
        if limit is not None and not limit >= 0:
            raise DataError(f"A search with {name}={limit!r} was asked for", "It is not negative", f"Leave {name} out for no limit")


@dataclass(frozen=True, eq=False)
class Settings:
    """What a result depends on, beside the data."""

    vocabulary: list[Expression]
    start: Expression | None
    weights: Weights | None
    max_parameters: int
    max_cost: float | None
    folds: int
    seed: int

    def data(self) -> dict[str, Any]:
        """The settings as JSON data; the order of the vocabulary is no part of them."""
        return {
            "vocabulary": sorted({w.canonical for w in self.vocabulary}),
            "start": None if self.start is None else self.start.canonical,
            "weights": None if self.weights is None else asdict(self.weights),
            "max_parameters": self.max_parameters,
            "max_cost": self.max_cost,
            "folds": self.folds,
            "seed": self.seed,
        }


@dataclass(frozen=True, eq=False)
class Candidate:
    """A neighbour that waits to be fitted."""

    key: str
    parent: str
    kind: str
    text: str
    expression: Expression
    criterion: float  # that is predicted
    change: float
    gain: float
    parameters: int
    start: Array


@dataclass(eq=False)
class _Run:
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
        self.density = density(self.data)

    def go(self) -> Search:
        try:
            self.generations()
            self.crown()
        except KeyboardInterrupt:
            self.stopped = "interrupted"
            self.progress.say("interrupted: what is done is returned")
        finally:
            self.workers.close()
            self.journal.close()
        found = Search(self.study, self.settings, self.trials, self.name, self.stopped, self.ranked)
        self.progress.say(found.line())
        return found

    # ---- what is worked on

    @cached_property
    def study(self) -> Study:
        wanted = min(self.settings.folds, len(set(self.data.groups.tolist())))
        fold = np.zeros(len(self.data), dtype=int)
        for number, (_, test) in enumerate(self.data.folds(wanted, by="group", seed=self.settings.seed) if wanted >= 2 else []):
            fold[test] = number
        everyone = [*self.sound, *([self.settings.start] if self.settings.start is not None else [])]
        reach = max((Model(t, self.data.species).cutoff for word in everyone for t in word.terms()), default=5.0)
        repels = Sum.of([(1.0, w) for w in core(self.sound)])
        held = repels if repels.terms() else None
        shape = self.settings.weights or Weights()
        return at_home(Study(self.data, shape, fold, tuple(covers(everyone, self.data.species)), reach, held))

    @cached_property
    def sound(self) -> list[Expression]:
        """The words that are small enough and whose programs can be written, in canonical order."""
        found, large = [], 0
        for word in sorted({w.canonical: w for w in self.settings.vocabulary}.values(), key=lambda w: w.canonical):
            try:
                model = Model(word, self.data.species)
                if model.size > self.settings.max_parameters:
                    large += 1
                    continue
                model.program("forces")
                found.append(word)
            except ComposerError as error:
                self.leave_out(word, str(error))
        self.progress.say(f"{large} words alone hold more than {self.settings.max_parameters} numbers" if large else "")
        return found

    @cached_property
    def usable(self) -> list[Expression]:
        """The words whose kernels can be built."""
        self.progress.say(f"search: {len(self.sound)} words, {len(self.data)} frames; kernels are built")
        broken = Bank(self.study, self.sound).build()
        found = []
        for word in self.sound:
            digests = [d for leaf in self.study.leaves.of(word).values() for d in (leaf.digest, leaf.source.digest)]
            lost = [broken[d] for d in digests if d in broken]
            if lost:
                self.leave_out(word, lost[0])
            else:
                found.append(word)
        return found

    def leave_out(self, word: Expression, reason: str) -> None:
        """Tell once that a word cannot be used."""
        if self.journal.find("left out", _key(word)) is None:
            self.log("left out", {"key": _key(word), "expression": word.data(), "reason": reason})
        self.progress.say(f"left out: {word}: {reason}")

    @cached_property
    def bank(self) -> Bank:
        return Bank(self.study, self.usable, self.workers.map)

    def log(self, kind: str, event: dict[str, Any]) -> dict[str, Any]:
        return self.journal.append(kind, {**event, "time": time.time()})

    @property
    def over(self) -> bool:
        late = self.seconds is not None and time.monotonic() - self.begun > self.seconds
        if late or len(self.trials) >= self.budget:
            self.stopped = self.stopped or ("out of time" if late else "budget spent")
        return bool(self.stopped)

    # ---- generations

    def generations(self) -> None:
        first = self.settings.start if self.settings.start is not None else Sum.of([(1.0, w) for w in core(self.usable)])
        if first.terms():
            size = sum(leaf.size for leaf in self.study.leaves.of(first).values()) + len(self.data.species)
            self.fit([Candidate(_key(first), "", "start", "", first, float("nan"), float("nan"), float("nan"), size, np.zeros(0))])
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
            self.judge()

    def expand(self, expression: Expression, trial: Trial | None) -> None:
        """Rank the neighbours of a trial, or take their ranks from the journal."""
        key = trial.key if trial else ""
        event = self.journal.find("ranked", key)
        if event is None:
            try:
                event = self.log("ranked", {"key": key, **self.rank(expression, trial)})
            except (BackendError, ValueError, ArithmeticError, np.linalg.LinAlgError) as error:
                self.progress.say(f"neighbours of {expression} could not be ranked: {error}")
                event = self.log("ranked", {"key": key, "count": 0, "proposals": [], "failure": str(error)})
        self.expanded.add(key)
        self.ranked += int(event["count"])
        for made in event["proposals"]:
            found = expression_of(json.dumps(made["expression"]))
            candidate = Candidate(
                _key(found), key, made["kind"], made["text"], found, made["criterion"], made["change"], made["gain"], made["parameters"], np.array(made["start"])
            )  # fmt: skip
            known = self.pool.get(candidate.key)
            if known is None or candidate.criterion < known.criterion:
                self.pool[candidate.key] = candidate

    def rank(self, expression: Expression, trial: Trial | None) -> dict[str, Any]:
        began = time.monotonic()
        moves = neighbours(expression, self.usable, self.small)
        proposals = rank(self.study, self.parent(expression, trial), moves, self.bank, self.settings.max_parameters, self.workers.map)
        known = {t.key for t in self.trials}
        base = trial.criterion if trial else 0.0
        kept = [p for p in proposals if _key(p.move.expression) not in known]
        best = {
            id(p): p for p in (*kept[:KEPT], *sorted(kept, key=lambda p: (p.change / p.parameters, p.move.expression.canonical))[:KEPT])
        }
        rows = [_row(p.move, p.change + base, p.change, p.gain, p.parameters, p.start) for p in best.values()]
        self.progress.rank(str(expression), len(proposals), time.monotonic() - began)
        return {"count": len(proposals), "proposals": rows, "seconds": time.monotonic() - began}

    def parent(self, expression: Expression, trial: Trial | None) -> Parent:
        if trial is None or trial.parameters <= len(self.data.species):
            plain = self.settings.weights or Weights(**{o: FIRST[o] if s is not None else None for o, s in Weights().scales.items()})  # type: ignore[arg-type]
            return Parent(expression, plain, 1e-6, {} if trial is None else numbers(self.study, expression, trial.theta))
        return Parent(expression, Weights(**trial.weights), trial.strength, numbers(self.study, expression, trial.theta))

    def small(self, word: Expression) -> bool:
        """Whether a word may be a factor."""
        return sum(self.study.leaves[leaf].size for leaf in leaves(word).values()) <= FACTOR * len(self.data.species) ** 2

    def choose(self) -> list[Candidate]:
        """The candidates of this generation: unlike ones that are predicted to be best, and the one that lowers the staircase most."""

        def merit(c: Candidate) -> float:
            return staircase(self.trials, c.parameters)[0] - c.criterion if self.trials else -c.criterion

        chosen: list[Candidate] = []
        seen: set[tuple] = set()
        waiting = {k: c for k, c in self.pool.items() if merit(c) > SLACK}
        while waiting and len(chosen) < min(CHILDREN, self.budget - len(self.trials)):
            last = len(chosen) == CHILDREN - 1
            unlike = [c for c in waiting.values() if last or _shape(c) not in seen] or list(waiting.values())
            best = min(unlike, key=lambda c: (-merit(c) if last else c.criterion, c.parameters, c.key))  # noqa: B023
            seen.add(_shape(best))
            del waiting[best.key], self.pool[best.key]
            if self.settings.max_cost is None or self.cost(best.expression) <= self.settings.max_cost:
                chosen.append(best)
        return sorted(chosen, key=lambda c: c.key)

    def cost(self, expression: Expression) -> float:
        return cost(Model(expression, self.study.species), self.density)

    # ---- fits

    def fit(self, candidates: Sequence[Candidate]) -> None:
        """Fit candidates and take note of them in the order of their keys."""
        waiting = [c for c in candidates if self.journal.find("fitted", c.key) is None and self.journal.find("failed", c.key) is None]
        results = self.workers.each(run, [(self.task(c),) for c in waiting])
        fresh = {c.key for c in waiting}
        for candidate in candidates:
            if self.over:
                return
            self.note(candidate, next(results) if candidate.key in fresh else None)

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
        return Task(self.study, c.expression, self.settings.weights, self.settings.seed, self.density, start, base, guess, strength)

    def note(self, c: Candidate, result: Any) -> None:
        """Write the outcome of a fit down (or read it from the journal) and judge it."""
        if result is not None:
            outcome = Outcome(failure=f"{type(result).__name__}: {result}") if isinstance(result, Exception) else result
            record = {
                "key": c.key,
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
                self.journal.keep(c.key, theta=outcome.theta, theta_folds=outcome.theta_folds)
            self.log("failed" if outcome.failure else "fitted", record)
        event = self.journal.find("fitted", c.key) or self.journal.find("failed", c.key)
        assert event is not None
        self.trials.append(self.trial(c, event))
        self.progress.trial(self.trials[-1], self.trials)

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
        kept = self.journal.numbers(c.key)
        made.theta, made.theta_folds = kept["theta"], kept["theta_folds"]
        parent = next((t for t in self.trials if t.key == c.parent), None)
        made.realised = made.criterion - parent.criterion if parent else None
        before, size = staircase(self.trials, made.parameters)
        made.accepted = made.criterion < before - SLACK
        made.reason = (
            "the best so far with so few numbers"
            if made.accepted
            else f"rejected: {before:.4f} was known with {size} numbers, this is {made.criterion:.4f}"
        )
        if self.settings.max_cost is not None and made.cost > self.settings.max_cost:
            made.accepted, made.reason = False, f"rejected: it costs {made.cost:.0f} operations, more than {self.settings.max_cost:.0f}"
        return made

    # ---- winners

    def judge(self) -> None:
        """Ask the leader for its dynamics, shortly; one that fails is passed over, and the next is asked."""
        for _ in range(2):
            leader = next((t for t in self.ordered() if t.stable is not False), None)
            if leader is None or leader.stable:
                return
            self.ask(leader, full=False)

    def crown(self) -> None:
        """The winner is the best trial that passes the full checks."""
        for trial in list(self.ordered())[:CHECKED]:
            if trial.stable is not False:
                if self.ask(trial, full=True):
                    return

    def ordered(self) -> Iterator[Trial]:
        """Trials that may win, the least criterion first."""
        known = [
            t
            for t in self.trials
            if not t.failed and t.parameters > len(self.data.species) and not t.reason.startswith("rejected: it costs")
        ]
        return iter(sorted(known, key=lambda t: (t.criterion, t.parameters, t.key)))

    def ask(self, trial: Trial, full: bool) -> bool:
        name = f"{trial.key} {'full' if full else 'short'}"
        event = self.journal.find("checked", name)
        if event is None:
            self.progress.say(f"trial {trial.number}: scans of dimers and trimers, compression, {'10' if full else '0.5'} ps of dynamics")
            verdict = next(self.workers.each(examine, [(Trust(self.study, trial.expression, trial.theta, full, self.settings.seed),)]))
            passed = not isinstance(verdict, Exception) and bool(verdict)
            event = self.log(
                "checked", {"key": name, "passed": passed, "reason": "" if passed else getattr(verdict, "reason", str(verdict))}
            )
        trial.stable = bool(event["passed"])
        trial.checked = "full" if full else "short"
        if not trial.stable:
            trial.reason = f"passed over: {event['reason']}"
            self.progress.say(f"trial {trial.number} passed over: {event['reason']}")
        return trial.stable


def _row(move: Move, criterion: float, change: float, gain: float, parameters: int, start: Array) -> dict[str, Any]:
    return {
        "kind": move.kind,
        "text": move.text,
        "expression": move.expression.data(),
        "criterion": float(criterion),
        "change": float(change),
        "gain": float(gain),
        "parameters": int(parameters),
        "start": start.tolist(),
    }


def _shape(c: Candidate) -> tuple:
    """What near copies share: where they come from, how, and the kinds of their terms."""
    return c.parent, c.kind, tuple(sorted(type(t).__name__ for t in c.expression.terms()))


def _key(expression: Expression) -> str:
    return normal(expression).digest
