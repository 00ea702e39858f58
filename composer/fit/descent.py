"""Training in epochs: what Adam and Newton share. Batches, validation, checkpoints, and when to end."""

from __future__ import annotations

import hashlib
import json
import time
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from composer.data import Frame
from composer.errors import DataError
from composer.fit.checkpoint import read_checkpoint, write_checkpoint
from composer.fit.loss import Loss, Targets, loss, missed, rmse
from composer.fit.memory import enough
from composer.fit.recipe import Epoch, Recipe, Trained
from composer.model import E0, Model
from composer.model.structures import whole
from composer.modelfile import make_folder_of
from composer.neighbors import Batch

Array = NDArray[np.float64]
AWAY = 1e4  # a loss that many times the first one diverges


class Part(NamedTuple):
    """Some frames, their batch, and what they say of it."""

    frames: list[Frame]
    batch: Batch
    targets: Targets


@dataclass
class State:
    """Everything that the next epoch depends on."""

    theta: Array
    best: Array
    epoch: int = 0
    best_loss: float = np.inf
    best_epoch: int = 0
    history: list[Epoch] = field(default_factory=list)


class Descent(ABC):
    """A training of a model's free numbers; a subclass says how an epoch moves them.

    Arguments: model, the start; frames to learn from; validation frames, by which the best epoch is chosen; recipe; seed; checkpoint, a file;
    report, called after each epoch. Errors: DataError for frames without energies, or a checkpoint of another run.
    """

    State: ClassVar[type[Any]] = State

    def __init__(
        self,
        model: Model,
        frames: list[Frame],
        validation: list[Frame],
        recipe: Recipe,
        seed: int = 0,
        checkpoint: str | Path | None = None,
        report: Callable[[Epoch], None] = lambda epoch: None,
    ) -> None:
        if not frames or any(f.energy is None for f in (*frames, *validation)):
            raise DataError("A model was to be trained", "There are no frames, or some have no energy", "Give labelled frames")
        self.model, self.recipe, self.seed, self.report = model, recipe, seed, report
        enough(model, [*frames, *validation], self.matrices)
        order = np.random.default_rng([seed, 0]).permutation(len(frames))
        self.batches = self._parts([frames[p] for p in order])
        self.held = self._parts(validation)
        self.count = len(frames)
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        if self.checkpoint is not None:
            make_folder_of(self.checkpoint)
        self.key = _digest(type(self).__name__, model, frames, validation, recipe, seed) if checkpoint else ""
        names = np.array([n.startswith(f"{E0}[") or n == E0 for n in model.parameter_names])
        self.references = np.flatnonzero(names)

    def _parts(self, frames: list[Frame]) -> list[Part]:
        chosen = [frames[n : n + self.recipe.batch] for n in range(0, len(frames), self.recipe.batch)]
        batches = [whole(self.model.prepare(part)) for part in chosen]
        return [Part(f, b, Targets.of(self.recipe.squares, f, b)) for f, b in zip(chosen, batches, strict=True)]

    @property
    def matrices(self) -> int:
        """How many matrices [P, P] are kept at once."""
        return 0

    # ---- what a subclass says

    @abstractmethod
    def start(self) -> Any:
        """The state before the first epoch."""

    @abstractmethod
    def epoch(self, state: Any) -> Epoch:
        """Move the numbers of a state, and say how they do."""

    # ---- the run

    def run(self) -> Trained:
        state = self.resumed() or self.start()
        reason, saved = "all epochs are done", time.monotonic()
        first = state.history[0].loss if state.history else np.inf
        while state.epoch < self.recipe.epochs:
            epoch = self.epoch(state)
            first = min(first, epoch.loss) if not state.history else first
            if not np.isfinite(epoch.loss) or epoch.loss > AWAY * first:
                reason = f"the loss rose to {epoch.loss:.3g} in epoch {epoch.number}; the best numbers before are kept"
                break
            state.history.append(epoch)
            if epoch.validation_loss < state.best_loss:
                state.best_loss, state.best_epoch, state.best = epoch.validation_loss, epoch.number, state.theta.copy()
            self.report(epoch)
            if self.recipe.patience is not None and epoch.number - state.best_epoch >= self.recipe.patience:
                reason = f"no better validation loss in {self.recipe.patience} epochs; the best was epoch {state.best_epoch}"
                break
            if stopped := self.ended(state):
                reason = stopped
                break
            if self.checkpoint is not None and time.monotonic() - saved >= 60 * self.recipe.minutes:
                write_checkpoint(self.checkpoint, self.key, state)
                saved = time.monotonic()
        if self.checkpoint is not None:
            write_checkpoint(self.checkpoint, self.key, state)
        return Trained(self.at(state.best), state.history, reason)

    def ended(self, state: Any) -> str:
        """Why nothing more can be gained, if so."""
        return ""

    def resumed(self) -> Any:
        if self.checkpoint is None or not self.checkpoint.exists():
            return None
        arrays, notes = read_checkpoint(self.checkpoint, self.key)
        history = [
            Epoch(h["number"], h["loss"], tuple(h["train"]), tuple(h["validation"]), h["validation_loss"]) for h in notes.pop("history")
        ]
        return self.State(**arrays, **notes, history=history)

    def at(self, theta: Array) -> Model:
        return self.model.with_parameters(torch.from_numpy(theta))

    # ---- the loss

    def misses(self, model: Model, part: Part, count: int) -> tuple[Loss, Array]:
        """The loss of a part as a mean over `count` frames, and its energies [S]."""
        found = model(part.batch)
        return loss(part.targets, missed(part.targets, found), 1 / count), found.energy.cpu().numpy()

    def ridge(self, theta: Array) -> Array:
        """Half the slope of ridge |theta|^2 [P]; E0 is free."""
        held = self.recipe.ridge * theta
        held[self.references] = 0.0
        return held

    def energies(self, theta: Array) -> list[tuple[list[Frame], Array]]:
        """Frames of each batch and their energies [S]."""
        model = self.at(theta)
        return [(part.frames, model(part.batch).energy.cpu().numpy()) for part in self.batches]

    def solve_references(self, theta: Array, energies: list[tuple[list[Frame], Array]]) -> None:
        """Set E0 to the least-squares solution of the energies left over; elements that the data cannot tell apart have the same."""
        if not len(self.references):
            return
        rows = [
            (np.array([f.symbols.count(s) for s in self.model.species]) / len(f.symbols), (f.energy - e) / len(f.symbols))  # type: ignore[operator]
            for frames, found in energies
            for f, e in zip(frames, found, strict=True)
        ]
        matrix = np.array([r for r, _ in rows])  # shares of the elements: every row sums to 1
        left = np.array([x for _, x in rows]) + matrix @ theta[self.references]
        theta[self.references] = left.mean() + np.linalg.lstsq(matrix, left - left.mean(), rcond=1e-10)[0]

    def report_of(self, state: Any, value: float, sums: Array) -> Epoch:
        """The epoch that has just been done, with the errors on validation frames."""
        errors, model = rmse(sums), self.at(state.theta)
        if not self.held:
            return Epoch(state.epoch, value, errors, errors, value)
        held = [self.misses(model, part, sum(len(p.frames) for p in self.held))[0] for part in self.held]
        return Epoch(state.epoch, value, errors, rmse(np.sum([h.squares for h in held], axis=0)), float(sum(h.value for h in held)))


def _digest(method: str, model: Model, frames: list[Frame], validation: list[Frame], recipe: Recipe, seed: int) -> str:
    """What a checkpoint must agree with: the expression, the data and the settings (but for the minutes between checkpoints)."""
    settings = {k: v for k, v in asdict(recipe).items() if k != "minutes"}
    found = hashlib.sha256(json.dumps([method, model.expression.data(), model.species, settings, seed, len(frames)]).encode())
    for frame in (*frames, *validation):
        for array in (frame.positions, frame.cell, frame.forces, np.array(frame.energy)):
            found.update(b"" if array is None else np.ascontiguousarray(array, dtype=np.float64).tobytes())
    found.update(model.flat[~model.free].numpy().tobytes())
    return found.hexdigest()
