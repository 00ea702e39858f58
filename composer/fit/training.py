"""Training by gradients: Adam over mini-batches of structures, for models with thousands of numbers."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from composer.data import Frame
from composer.errors import DataError
from composer.fit.checkpoint import read_checkpoint, write_checkpoint
from composer.model import E0, Model
from composer.model.structures import whole
from composer.neighbors import Batch, all_positions

Array = NDArray[np.float64]
AWAY = 1e4  # a loss that many times the first one diverges
DECAYS = 0.9, 0.999  # of the mean gradient and of its square


@dataclass(frozen=True)
class Recipe:
    """How to train.

    The loss of a batch of C frames is (energy/C) sum ((E - E_ref)/N)^2 + (forces/C) sum |F - F_ref|^2/(3 N) + (virial/(6 C)) sum
    |W - W_ref|^2/N^2 over six components. epochs; batch, structures of a step; rate of Adam, reached after `warmup` epochs from zero and falling
    as a cosine to `last`; clip, largest norm of the gradient in units of its running mean; patience, epochs without a better validation loss
    after which training ends (None: never); minutes between checkpoints.
    Source: H. Huang et al., Comput. Phys. Commun. 320, 109994 (2026), for the loss; D. P. Kingma, J. Ba, arXiv 1412.6980, for Adam.
    """

    epochs: int = 200
    batch: int = 5
    rate: float = 1e-2
    last: float = 1e-5
    warmup: int = 1
    energy: float = 1.0
    forces: float = 1.0
    virial: float = 0.1
    clip: float = 10.0
    patience: int | None = None
    minutes: float = 3.0

    def __post_init__(self) -> None:
        sizes = (self.epochs, self.batch, self.rate, self.last, self.clip)
        if min(sizes) <= 0 or min(self.energy, self.forces, self.virial, self.warmup) < 0 or self.energy + self.forces + self.virial <= 0:
            raise DataError(f"{self} was asked for", "A size is not above zero, or no part of the loss has a weight", "Mend the numbers")


@dataclass(frozen=True)
class Epoch:
    """One pass: its number, the loss, and errors (eV/atom, eV/Å, eV/atom; NaN where there are none) on training and validation frames."""

    number: int
    loss: float
    train: tuple[float, float, float]
    validation: tuple[float, float, float]
    validation_loss: float

    def __str__(self) -> str:
        sides = [f"E {1e3 * e:.2f} meV/atom, F {1e3 * f:.1f} meV/Å" for e, f, _ in (self.train, self.validation)]
        return f"epoch {self.number:4d}  loss {self.loss:.3e}  train {sides[0]}  validation {sides[1]}"


@dataclass(frozen=True)
class Trained:
    """A trained model, its history, and why training ended."""

    model: Model
    history: list[Epoch]
    reason: str


@dataclass
class State:
    """Everything that the next step depends on."""

    theta: Array
    mean: Array
    square: Array
    best: Array
    steps: int = 0
    epoch: int = 0
    norm: float = 0.0  # running mean of the norm of the gradient
    best_loss: float = np.inf
    best_epoch: int = 0
    history: list[Epoch] = field(default_factory=list)


def train(
    model: Model,
    frames: Sequence[Frame],
    validation: Sequence[Frame] = (),
    recipe: Recipe | None = None,
    seed: int = 0,
    checkpoint: str | Path | None = None,
    report: Callable[[Epoch], None] = lambda epoch: None,
) -> Trained:
    """Train the free numbers of a model; E0 is solved from the energies after each epoch.

    Arguments: model, the start; frames to learn from; validation frames, by which the best epoch is chosen (the training frames if there are
    none); recipe; seed of the order of batches; checkpoint, a file from which a run that was stopped goes on with the same numbers; report, called
    after each epoch. Returns: Trained, the same for the same seed. Errors: DataError for frames without energies, or a checkpoint of
    another run.
    """
    return _Training(model, list(frames), list(validation), recipe or Recipe(), seed, checkpoint, report).run()


class _Training:
    def __init__(
        self,
        model: Model,
        frames: list[Frame],
        validation: list[Frame],
        recipe: Recipe,
        seed: int,
        checkpoint: str | Path | None,
        report: Callable[[Epoch], None],
    ) -> None:
        if not frames or any(f.energy is None for f in (*frames, *validation)):
            raise DataError("A model was to be trained", "There are no frames, or some have no energy", "Give labelled frames")
        self.model, self.recipe, self.seed, self.report = model, recipe, seed, report
        order = np.random.default_rng([seed, 0]).permutation(len(frames))
        chosen = [[frames[p] for p in order[n : n + recipe.batch]] for n in range(0, len(frames), recipe.batch)]
        self.batches = [(part, self._prepared(part)) for part in chosen]
        held = [validation[n : n + recipe.batch] for n in range(0, len(validation), recipe.batch)]
        self.held = [(part, self._prepared(part)) for part in held]
        self.checkpoint = None if checkpoint is None else Path(checkpoint)
        self.key = _digest(model, frames, validation, recipe, seed) if checkpoint else ""
        names = np.array([n.startswith(f"{E0}[") or n == E0 for n in model.parameter_names])
        self.references = np.flatnonzero(names)

    def _prepared(self, frames: list[Frame]) -> Batch:
        return whole(self.model.prepare(frames))

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
            if self.checkpoint is not None and time.monotonic() - saved >= 60 * self.recipe.minutes:
                write_checkpoint(self.checkpoint, self.key, state)
                saved = time.monotonic()
        if self.checkpoint is not None:
            write_checkpoint(self.checkpoint, self.key, state)
        return Trained(self.at(state.best), state.history, reason)

    def start(self) -> State:
        theta = self.model.theta.numpy().copy()
        state = State(theta, np.zeros_like(theta), np.zeros_like(theta), theta.copy())
        rows = [(b, self.at(theta)(b).energy.numpy(), f) for f, b in self.batches]
        self.solve_references(state, [(f, e) for b, e, f in rows])
        return state

    def resumed(self) -> State | None:
        if self.checkpoint is None or not self.checkpoint.exists():
            return None
        arrays, notes = read_checkpoint(self.checkpoint, self.key)
        history = [
            Epoch(h["number"], h["loss"], tuple(h["train"]), tuple(h["validation"]), h["validation_loss"]) for h in notes.pop("history")
        ]
        return State(**arrays, **notes, history=history)

    def at(self, theta: Array) -> Model:
        return self.model.with_parameters(torch.from_numpy(theta))

    # ---- one epoch

    def epoch(self, state: State) -> Epoch:
        """All batches once in a seeded order, then E0 and the errors."""
        order = np.random.default_rng([self.seed, 1, state.epoch]).permutation(len(self.batches))
        sums, losses, energies = np.zeros((3, 2)), [], []
        for number in order:
            frames, batch = self.batches[number]
            value, gradient, energy, squares = self.gradient(self.at(state.theta), frames, batch)
            losses.append(value)
            sums += squares
            energies.append((frames, energy))
            self.step(state, gradient)
        state.epoch += 1
        self.solve_references(state, energies)
        held, loss = self.validate(self.at(state.theta))
        mean = float(np.mean(losses))
        errors = _rmse(sums)
        return Epoch(state.epoch, mean, errors, held if self.held else errors, loss if self.held else mean)

    def gradient(self, model: Model, frames: list[Frame], batch: Batch) -> tuple[float, Array, Array, Array]:
        """Loss, its gradient [P], energies [S] and sums of squares of a batch."""
        found = model(batch)
        value, seed, moves, squares = self.residuals(frames, batch, found)
        one = torch.ones(batch.atoms, dtype=torch.float64)
        out = model.kernel("gradient")(
            batch, model.flat, inputs={"seed": torch.from_numpy(seed), "seed_t": one}, moves=torch.from_numpy(moves)
        )
        assert out.gradient is not None
        return value, out.gradient[model.free].numpy(), found.energy.numpy(), squares

    def residuals(self, frames: list[Frame], batch: Batch, found: Any) -> tuple[float, Array, Array, Array]:
        """Loss, its derivative by site energies [N], minus that by forces on all sites [sites, 3], sums of squares and counts [3, 2]."""
        r, bounds, count = self.recipe, batch.offsets.numpy(), len(frames)
        energy, forces, virial = found.energy.numpy(), found.forces.numpy(), found.virial.numpy()
        seed, by_force, by_virial = np.zeros(batch.atoms), np.zeros((batch.atoms, 3)), np.zeros((count, 3, 3))
        loss, squares = 0.0, np.zeros((3, 2))
        for s, frame in enumerate(frames):
            atoms, n = slice(bounds[s], bounds[s + 1]), int(bounds[s + 1] - bounds[s])
            e = (energy[s] - frame.energy) / n
            loss += r.energy / count * e**2
            seed[atoms] = 2 * r.energy / count * e / n
            squares[0] += e**2, 1
            if frame.forces is not None:
                f = forces[atoms] - frame.forces
                loss += r.forces / count * float(np.sum(f**2)) / (3 * n)
                by_force[atoms] = 2 * r.forces / count * f / (3 * n)
                squares[1] += np.sum(f**2), 3 * n
            if frame.stress is not None and frame.volume is not None:
                w = np.triu(virial[s] + frame.stress * frame.volume) / n
                loss += r.virial / (6 * count) * float(np.sum(w**2))
                by_virial[s] = 2 * r.virial / (6 * count) * w / n
                squares[2] += np.sum(w**2), 6
        owner = np.concatenate([np.arange(batch.atoms), batch.ghost_owner.numpy()])
        home = np.repeat(np.arange(count), np.diff(bounds))[owner]
        x = all_positions(batch).numpy()
        moves = -(by_force[owner] + np.einsum("sa,sab->sb", x, by_virial[home]))  # W = sum over sites of x (outer) F
        return loss, seed, np.ascontiguousarray(moves), squares

    def step(self, state: State, gradient: Array) -> None:
        """One step of Adam with a clipped gradient; E0 is left out."""
        gradient = gradient.copy()
        gradient[self.references] = 0.0
        norm = float(np.linalg.norm(gradient))
        state.norm = norm if state.steps == 0 else 0.9 * state.norm + 0.1 * norm
        if norm > self.recipe.clip * state.norm:
            gradient *= self.recipe.clip * state.norm / norm
        state.steps += 1
        state.mean = DECAYS[0] * state.mean + (1 - DECAYS[0]) * gradient
        state.square = DECAYS[1] * state.square + (1 - DECAYS[1]) * gradient**2
        lean, spread = state.mean / (1 - DECAYS[0] ** state.steps), np.sqrt(state.square / (1 - DECAYS[1] ** state.steps))
        state.theta = state.theta - self.rate(state.steps) * lean / (spread + 1e-12)

    def rate(self, step: int) -> float:
        """Linear from zero over the warm-up, then a cosine to the last rate."""
        r, each = self.recipe, len(self.batches)
        warm, whole = r.warmup * each, r.epochs * each
        if step <= warm:
            return r.rate * step / warm
        share = (step - warm) / max(whole - warm, 1)
        return r.last + 0.5 * (r.rate - r.last) * (1 + np.cos(np.pi * min(share, 1.0)))

    def solve_references(self, state: State, energies: list[tuple[list[Frame], Array]]) -> None:
        """Move E0 by the least-squares solution of the energies left over."""
        if not len(self.references):
            return
        rows = [
            (np.array([f.symbols.count(s) for s in self.model.species]) / len(f.symbols), (f.energy - e) / len(f.symbols))  # type: ignore[operator]
            for frames, found in energies
            for f, e in zip(frames, found, strict=True)
        ]
        matrix, left = np.array([r for r, _ in rows]), np.array([x for _, x in rows])
        state.theta[self.references] += np.linalg.lstsq(matrix, left, rcond=1e-10)[0]

    def validate(self, model: Model) -> tuple[tuple[float, float, float], float]:
        sums, losses = np.zeros((3, 2)), []
        for frames, batch in self.held:
            value, _, _, squares = self.residuals(frames, batch, model(batch))
            sums += squares
            losses.append(value * len(frames))
        return _rmse(sums), float(np.sum(losses) / max(sum(len(f) for f, _ in self.held), 1))


def _rmse(sums: Array) -> tuple[float, float, float]:
    e, f, w = (float(np.sqrt(s / n)) if n else float("nan") for s, n in sums)
    return e, f, w


def _digest(model: Model, frames: list[Frame], validation: list[Frame], recipe: Recipe, seed: int) -> str:
    """What a checkpoint must agree with: the expression, the data and the settings (but for the minutes between checkpoints)."""
    settings = {k: v for k, v in asdict(recipe).items() if k != "minutes"}
    found = hashlib.sha256(json.dumps([model.expression.data(), model.species, settings, seed, len(frames)]).encode())
    for frame in (*frames, *validation):
        for array in (frame.positions, frame.cell, frame.forces, np.array(frame.energy)):
            found.update(b"" if array is None else np.ascontiguousarray(array, dtype=np.float64).tobytes())
    found.update(model.flat[~model.free].numpy().tobytes())
    return found.hexdigest()


__all__ = ["Epoch", "Recipe", "Trained", "train"]
