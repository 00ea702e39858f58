"""The model that is measured: found by `composer.search` with default vocabulary and settings, or a given expression, fitted."""

import json
import os
import resource
import time
from dataclasses import dataclass
from typing import Any

import composer
from benchmarks import looks
from benchmarks.sets import Case
from composer.data import Data
from composer.model import Model

KINDS = 100  # folds at most, where every kind of frames is one
FOUND = looks.ROOT / "runs" / "accuracy"  # winners of committed code, by set, settings and commit


@dataclass(frozen=True)
class Settings:
    """How a winner is found: an expression in words, or a search with at most `parameters` (None: as the set says)."""

    model: str = ""
    seconds: float = 1200.0
    budget: int = 1000
    seed: int = 0
    parameters: int | None = None


@dataclass(frozen=True, eq=False)
class Winner:
    """A fitted model, how it was found, and the rank correlation of predicted and realised gains of its search."""

    model: Model
    origin: str
    spearman: float | None = None

    @property
    def title(self) -> str:
        return f"{self.model.expression}, P = {self.model.size}, {self.origin}"


def winner(case: Case, train: Data, settings: Settings) -> Winner:
    """Fit the given expression, or search, judged by folds of groups or of kinds as the set says; what committed code has found before is read again, never searched again."""
    if settings.model:
        model = composer.compile(composer.parse_expression(settings.model), train.species, quiet=True)
        return Winner(composer.fit(model, train, seed=settings.seed, quiet=True, **_folds(case)).model, "given by --model")
    state, most = looks.commit(), settings.parameters or case.parameters
    folder = FOUND / f"{case.name}-{most}-{settings.seed}-{settings.budget}-{settings.seconds:g}-{state[:12]}"
    if state and (folder / "winner.json").exists():
        facts = json.loads((folder / "winner.json").read_text())
        return Winner(composer.read_model(folder / "best.composer"), facts["origin"], facts["spearman"])
    found = _search(case, train, settings, most, str(folder) if state else None)
    if state and looks.commit() == state:
        folder.mkdir(parents=True, exist_ok=True)
        found.model.save(folder / "best.composer")
        (folder / "winner.json").write_text(json.dumps({"origin": found.origin, "spearman": found.spearman}))
    return found


def _folds(case: Case) -> dict[str, Any]:
    """Five folds of groups, or every kind of frames its own."""
    return {"by": case.by, "folds": 5 if case.by == "group" else KINDS}


def _processor() -> float:
    """Processor seconds of this process, and of compilers and workers that have ended."""
    parts = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(part.ru_utime + part.ru_stime for part in parts)


def _search(case: Case, train: Data, settings: Settings, most: int, storage: str | None) -> Winner:
    workers, start, busy = min(2, os.cpu_count() or 1), time.perf_counter(), _processor()
    result = composer.search(
        train,
        budget=settings.budget,
        max_parameters=most,
        seconds=settings.seconds,
        seed=settings.seed,
        executor=workers,
        storage=storage,
        **_folds(case),
    )
    spent, busy = time.perf_counter() - start, _processor() - busy
    origin = f"found in {spent:.0f} s on {workers} cores ({busy:.0f} processor seconds), {len(result.trials)} trials, seed {settings.seed}, at most {most} parameters"
    return Winner(result.best, origin, result.spearman)
