"""Looks at official test sets: logged before they are shown, with intervals, by kind of frame, beside what is published."""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from rich.console import Console
from rich.table import Table

from benchmarks import looks
from benchmarks.held_out import RESAMPLES, UNITS
from benchmarks.sets import Case, Published
from benchmarks.timing import Row
from composer.data import Data
from composer.evaluate import Errors

KINDS = ("RMSE", "MAE")  # never mixed


def opened(case: Case, commit: str) -> Data:
    """The test frames, from the committed state that was measured. Errors: SystemExit where it has changed."""
    if looks.committed() != commit:
        raise SystemExit(f"A look at the test of {case.name} was asked for. The commit changed meanwhile. Start again from it.")
    return case.testing()


@dataclass(frozen=True, eq=False)
class Look:
    """One look at the test of a case: errors of a model of `size` numbers, its expression and origin."""

    case: Case
    errors: Errors
    data: Data
    expression: str
    size: int
    origin: str

    @cached_property
    def numbers(self) -> dict[str, tuple[float, float, float]]:
        """(value, low, high) by "observable kind"."""
        return {f"{o} {kind}": self._sampled(o, kind) for o in UNITS for kind in KINDS}

    def rows(self, commit: str, title: str, name: str = "") -> Iterator[Row]:
        """Log the look, print it, and give its rows."""
        kinds = {k: {o: (s.rmse, s.mae) for o, s in scores.items() if o in UNITS} for k, scores in self.errors.by_config_type.items()}
        looks.record(
            self.case.name,
            self.expression,
            commit,
            {"P": self.size, "origin": self.origin, "errors": self.numbers, "RMSE, MAE by kind": kinds},
        )
        print(self.errors, flush=True)
        Console().print(self._published())
        aims = next((aim for most, aim in sorted(self.case.aims.items()) if self.size <= most), (None, None))
        for o, aim in zip(UNITS, aims):
            for kind in KINDS:
                value, low, high = self.numbers[f"{o} {kind}"]
                note = f"[{low:.4g}, {high:.4g}], bootstrap over groups; {self._others(o, kind)}look {looks.count(self.case.name)}"
                case = " ".join(filter(None, (self.case.name, name, "test", o, kind)))
                yield Row(case, value, None, aim if kind == "RMSE" else None, UNITS[o][1], f"{title}; {note}")

    def _sampled(self, observable: str, kind: str) -> tuple[float, float, float]:
        """An error of all numbers and its 95 % interval, groups of frames drawn with replacement."""
        size = np.abs(self.errors.error(observable)) ** (2 if kind == "RMSE" else 1)
        labels = np.unique(self.data.groups, return_inverse=True)[1][self.errors.frame[observable]]
        sums, counts = np.bincount(labels, size), np.bincount(labels).astype(float)
        drawn = np.random.default_rng(0).multinomial(len(sums), np.full(len(sums), 1 / len(sums)), RESAMPLES).astype(float)
        values = np.append((drawn @ sums) / (drawn @ counts), sums.sum() / counts.sum())
        values = np.sqrt(values) if kind == "RMSE" else values
        return float(values[-1]), *map(float, np.quantile(values[:-1], (0.025, 0.975)))  # type: ignore[return-value]

    def _published(self) -> Table:
        """Beside the published potentials, RMSE and MAE in columns of their own."""
        out = Table("test of " + self.case.name)
        for o, (_, unit) in UNITS.items():
            for kind in KINDS:
                out.add_column(f"{o} {kind}, {unit}", justify="right")
        out.add_row(f"P = {self.size}", *(f"{v:.3g} [{low:.3g}, {high:.3g}]" for v, low, high in self.numbers.values()))
        for peer in self.case.published:
            out.add_row(peer.name, *("-" if v is None else f"{v:.3g}" for v in (_value(peer, *name.split()) for name in self.numbers)))
        return out

    def _others(self, observable: str, kind: str) -> str:
        known = [f"{p.name} {value}" for p in self.case.published if (value := _value(p, observable, kind)) is not None]
        return f"published {kind}: {', '.join(known)}; " if known else ""


def _value(peer: Published, observable: str, kind: str) -> float | None:
    return getattr(peer, f"{observable}_{kind.lower()}")
