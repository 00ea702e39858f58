"""The demonstration: from the data of the package to a model, a report and a table of what it predicts, in a few minutes."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import composer

SET = "silicon.xyz.xz"
SECONDS = 300.0  # of search; reading, report and properties take the rest of the ten minutes
BUDGET = 1000  # trials: more than the seconds allow


@dataclass(frozen=True)
class Demo:
    """What the demonstration has made; printable."""

    model: Any
    train: Any  # Errors
    test: Any  # Errors
    properties: Any
    files: tuple[Path, ...]

    def table(self) -> dict[str, dict[str, float]]:
        """RMSE and MAE of train and test by observable and unit."""
        units = {"energy": "meV/atom", "forces": "eV/Å", "stress": "GPa"}
        found: dict[str, dict[str, float]] = {}
        for name, unit in units.items():
            for part, errors in (("train", self.train), ("test", self.test)):
                score = getattr(errors, name)
                if score is not None:
                    found.setdefault(f"{name} ({unit})", {}).update({f"{part} RMSE": score.rmse, f"{part} MAE": score.mae})
        return found

    def __str__(self) -> str:
        columns = ("train RMSE", "train MAE", "test RMSE", "test MAE")
        lines = [f"{'error of':20s}" + "".join(f"{c:>12s}" for c in columns)]
        lines += [f"{name:20s}" + "".join(f"{row.get(c, float('nan')):12.4g}" for c in columns) for name, row in self.table().items()]
        formula = f"E = E0 + {self.model.expression}\n{self.model.size} fitted numbers"
        written = "\n".join(f"wrote {path}" for path in self.files)
        return "\n\n".join([formula, "\n".join(lines), str(self.properties), written])


def demo(folder: str | Path = "demo", seconds: float = SECONDS, budget: int = BUDGET, seed: int = 0, quiet: bool = False) -> Demo:
    """Search for a silicon potential on the data of the package, and write the best model and a report.

    Arguments: folder, where si.composer, report.html and the journal of the search go (the same call resumes a search that was stopped);
    seconds and budget (trials), whichever ends first; seed; quiet, print nothing. Returns: a Demo.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    data = composer.read_data(SET, quiet=quiet)
    train, test = data.split(test=0.2, by="group", seed=seed)
    workers = 2 if (os.cpu_count() or 1) > 1 else None
    result = composer.search(train, budget=budget, seconds=seconds, seed=seed, storage=folder / "search", executor=workers)
    report = folder / "report.html"
    if result.refused is not None:
        result.report(report)  # the error that follows says what to do
    errors = result.best.evaluate(train), result.best.evaluate(test)
    model = result.best.save(folder / "si.composer")
    crystals = composer.properties(result.best, data)
    result.report(report, crystals)
    return Demo(result.best, *errors, crystals, (model, report))
