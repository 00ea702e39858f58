"""`fit` by epochs: split, scale, train, judge."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from composer.calculator import shortest_distances
from composer.data import Data
from composer.evaluate import evaluate
from composer.fit.levenberg import Step
from composer.fit.newton import DENSE
from composer.fit.result import Fitted
from composer.fit.scaling import scaled_first
from composer.fit.training import Epoch, Recipe, train
from composer.fit.weights import Weights
from composer.model import Model
from composer.model.totals import raw_totals

HELD = 0.1  # share of the frames that are held out for validation
FEW = 20  # force components for each number up to which second-order steps are chosen
PATIENCE = 15  # of second-order steps


def fit_epochs(
    model: Model,
    data: Data,
    epochs: int,
    weights: Weights | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    quiet: bool = False,
    recipe: Recipe | None = None,
    method: str = "auto",
) -> Fitted:
    """Fit by Adam or Newton; a tenth of the data, whole groups together, is held out and chooses the epoch.

    Arguments: as `fit`; with `weights` the squares of the loss are divided by those of the targets. Returns: Fitted, whose errors on held-out
    frames are those of the validation frames. Errors: as `train`.
    """
    learn, held = _split(data, seed)
    method = suited(model, learn) if method == "auto" else method
    recipe = replace(recipe or Recipe(patience=PATIENCE if method == "newton" else None), epochs=epochs)
    if weights is not None:
        recipe = replace(recipe, **_shares(weights, recipe.forces))
    start = scaled_first(model, learn.frames)
    found = train(start, learn.frames, held.frames, recipe, seed, checkpoint, _reporter(quiet, epochs), method)
    if not quiet:
        print(f"fit: {found.reason}", flush=True)
    result = found.model
    result.domain = shortest_distances([result.prepare(list(learn.frames))], result.species)
    history = [Step(e.number, e.loss, 0.0, True) for e in found.history]
    errors = evaluate(result, learn), evaluate(result, held)
    totals = raw_totals(result, learn.frames)
    return Fitted(result, *errors, history, weights or Weights(), 0.0, 0.0, {}, method, totals)


def suited(model: Model, data: Data) -> str:
    """ "newton" for networks of which the data hold few forces for each number, or "adam".

    Measured on PbTe (docs/benchmarks.md), 7 components for each number: the best held-out error of Adam in a third of the time. On large data
    one pass of Adam holds many steps.
    """
    components = sum(3 * len(f.symbols) for f in data if f.forces is not None)
    return "newton" if model.one_stage and model.size <= DENSE and components <= FEW * model.size else "adam"


def _split(data: Data, seed: int) -> tuple[Data, Data]:
    """By groups where there are enough of them, by frames otherwise."""
    by = "group" if len(set(data.groups.tolist())) >= 1 / HELD else "frame"
    return data.split(test=max(HELD, 1.5 / len(data)), by=by, seed=seed)


def _shares(weights: Weights, forces: float) -> dict[str, float]:
    """Weights of the loss, that of forces as it is; zero for what is left out."""
    targets, unit = {"energy": weights.energy, "forces": weights.forces, "virial": weights.stress}, weights.forces or 1.0
    return {name: forces * (unit / s) ** 2 if s else 0.0 for name, s in targets.items()}


def _reporter(quiet: bool, epochs: int) -> Callable[[Epoch], None]:
    """A progress bar on a terminal, some twenty lines elsewhere."""
    if quiet:
        return lambda epoch: None
    if not sys.stderr.isatty():
        every = max(epochs // 20, 1)
        return lambda e: print(f"  {e}", flush=True) if e.number % every == 0 or e.number == 1 else None
    from tqdm import tqdm

    bar = tqdm(total=epochs, leave=False)

    def show(epoch: Epoch) -> None:
        bar.set_description_str(str(epoch))
        bar.update(epoch.number - bar.n)
        if epoch.number == epochs:
            bar.close()

    return show


__all__ = ["fit_epochs"]
