"""Held-out errors of two linear models on the same rows, groups and weights, by the same solver and the same choice of its ridge.

Rows: [w E/N ; F]. What is not linear in our model is fitted, from the numbers that the model has, to the frames that are not held out (of
large sets to whole groups of them, every kind in its share), then kept while the rest is solved on all of them.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

import composer
from analysis import Factor, combine, factorize, group_by, solve
from benchmarks.snap_basis import Snap, design
from composer.data import Data
from composer.evaluate import Errors, chunks
from composer.fit import Weights
from composer.fit.linear import structure
from composer.model import Model

Array = NDArray[np.float64]
Places = NDArray[np.intp]
Factors = Mapping[tuple[str, Any, Any], Factor]
WEIGHTS = 10.0 ** np.arange(0.5, 3.1, 0.5)  # of E/N beside F, 1/Å
RIDGES = 10.0 ** np.arange(-14.0, -3.0, 1.0)  # of `analysis.solve`
RESAMPLES = 2000
UNITS = {"energy": (1000.0, "meV/atom"), "forces": (1.0, "eV/Å")}
REFITTED = 15_000  # atoms of the largest set to which numbers that are not linear are refitted
CHUNK = 4000  # atoms whose Jacobian is formed at once
FORCE_TARGET = 0.1  # eV/Å; only its ratio to the energy target matters


@dataclass(frozen=True, eq=False)
class Design:
    """Rows of a linear model on S frames with M force components.

    Attributes:
        energy: [S,P] of E/N, forces: [M,P]; energy_goal [S] eV/atom and forces_goal [M] eV/Å are what they should reach.
        frame: place of the frame of each force component [M].
    """

    energy: Array
    forces: Array
    energy_goal: Array
    forces_goal: Array
    frame: Places

    @property
    def parameters(self) -> int:
        return self.energy.shape[1]


@dataclass(frozen=True, eq=False)
class Residuals:
    """Predicted minus reference of frames that were held out: energy [S] eV/atom, forces [M] eV/Å, frame of each component [M]."""

    energy: Array
    forces: Array
    frame: Places

    def squares(self, groups: NDArray[Any]) -> dict[str, tuple[Array, Array]]:
        """Sum of squares and number of rows of every group [G], by observable."""
        labels = np.unique(groups, return_inverse=True)[1]
        found = {"energy": (self.energy, labels), "forces": (self.forces, labels[self.frame])}
        return {o: (np.bincount(where, error**2).astype(float), np.bincount(where).astype(float)) for o, (error, where) in found.items()}


Make = Callable[[Places], Design]
"""Rows on all frames, where anything that is not linear was fitted to the frames at the given places."""


def snap_rows(data: Data, snap: Snap, train: Data | None = None) -> Make:
    """Rows of the SNAP basis; the energies of the elements are those of `train` (None: of the data)."""
    rows, goal = design(data.atoms(), snap), _goals(data, train)
    sizes = np.array([len(f) for f in data])
    made = Design(rows.energy / sizes[:, None], rows.forces.reshape(-1, rows.energy.shape[1]), *goal)
    return lambda _: made


def model_rows(data: Data, model: Model, weight: float) -> Make:
    """Rows of a composer model over its largest jointly linear set; the rest, if any, is refitted at the weight w for each training part."""
    linear = _linear(model)
    if linear.all():
        made = _rows(data, model, linear)
        return lambda _: made
    targets = Weights(energy=FORCE_TARGET / weight, forces=FORCE_TARGET, stress=None)

    def make(train: Places) -> Design:
        part = _part(data[train])
        fitted = composer.fit(model, part, weights=targets, folds=0, quiet=True)
        print(f"    {np.count_nonzero(~linear)} numbers that are not linear refitted to {len(part)} of {len(train)} frames", flush=True)
        return _rows(data, fitted.model, linear)

    return make


def _part(data: Data) -> Data:
    """Whole groups of about REFITTED atoms, every config_type in its share; all of a smaller set."""
    atoms = sum(len(f) for f in data)
    return data if atoms <= REFITTED else data.split(test=REFITTED / atoms, by="group", seed=0)[1]


def held_out(make: Make, label: NDArray[Any], inner: NDArray[Any], weight: float) -> Residuals:
    """Errors of every frame by the fit to the frames with another label [S].

    The ridge of each fit is the one that minimises ln RMSE_E + ln RMSE_F over its own frames, held out in turn by `inner` [S].
    """
    energy, forces, frame = np.zeros(len(label)), np.zeros(0), np.zeros(0, int)
    known: Design | None = None
    factors: Factors = {}
    for left in np.unique(label):
        rows = make(np.flatnonzero(label != left))
        if rows is not known:
            known, factors = rows, _factors(rows, label, inner)
            forces, frame = (forces if len(forces) else np.zeros(len(rows.frame))), rows.frame
        rest = {key: f for key, f in factors.items() if key[1] != left}
        theta = solve(_joined(rest, weight), best_ridge(rest, weight)[1]).theta
        out = label == left
        energy[out] = rows.energy[out] @ theta - rows.energy_goal[out]
        forces[out[frame]] = rows.forces[out[frame]] @ theta - rows.forces_goal[out[frame]]
    return Residuals(energy, forces, frame)


def best_ridge(factors: Factors, weight: float) -> tuple[float, float]:
    """The lowest ln RMSE_E + ln RMSE_F over inner folds (third part of the keys) and the ridge that gives it."""
    folds = group_by(factors, lambda key: (key[0], key[2]))
    squares: dict[str, Array] = {o: np.zeros(len(RIDGES)) for o in ("energy", "forces")}
    count: dict[str, int] = dict.fromkeys(squares, 0)
    for left in dict.fromkeys(fold for _, fold in folds):  # type: ignore[misc]
        rest = _joined({key: f for key, f in folds.items() if key[1] != left}, weight)  # type: ignore[index]
        theta = np.stack([solve(rest, ridge).theta for ridge in RIDGES], axis=1)  # [P, ridges]
        for o in squares:
            part = folds[o, left]
            squares[o] += np.sum((part.triangle @ theta - part.rhs[:, None]) ** 2, axis=0) + part.rss
            count[o] += part.rows
    score = np.sum([0.5 * np.log(squares[o] / count[o]) for o in squares], axis=0)
    return float(score.min()), float(RIDGES[np.argmin(score)])


def solved(rows: Design, fold: Places, weight: float) -> tuple[Array, float]:
    """The fit to all frames and its ridge, the best over the folds [S]."""
    factors = _factors(rows, fold, fold)
    ridge = best_ridge(factors, weight)[1]
    return solve(_joined(factors, weight), ridge).theta, ridge


def best_weight(rows: Design, fold: NDArray[Any]) -> float:
    """The weight w of energies that minimises ln RMSE_E + ln RMSE_F over the folds [S]."""
    factors = _factors(rows, fold, fold)
    return float(min(WEIGHTS, key=lambda weight: best_ridge(factors, float(weight))[0]))


def folds(data: Data, seed: int, count: int = 5) -> Places:
    """The grouped fold of every frame [S]."""
    return data.fold_of(count, seed=seed)


def interval(
    ours: list[Residuals], peer: list[Residuals], groups: NDArray[Any], seed: int = 0
) -> dict[str, tuple[float, float, float, float]]:
    """RMSE of both over all repetitions and the 95 % interval of their ratio, by observable: (ours, peer, low, high).

    The same groups are drawn for both (paired bootstrap); a repetition of the cross-validation is no new group.
    """
    count = len(np.unique(groups))
    drawn = np.random.default_rng(seed).multinomial(count, np.full(count, 1 / count), RESAMPLES).astype(float)  # [resamples, G]
    found = {}
    for o in ("energy", "forces"):
        sums = [np.mean([e.squares(groups)[o][0] for e in side], axis=0) for side in (ours, peer)]
        rows = ours[0].squares(groups)[o][1].sum()
        ratio = np.sqrt((drawn @ sums[0]) / (drawn @ sums[1]))
        found[o] = (*(float(np.sqrt(s.sum() / rows)) for s in sums), *map(float, np.quantile(ratio, (0.025, 0.975))))
    return found


def _goals(data: Data, train: Data | None = None) -> tuple[Array, Array, Places]:
    """Energies per atom beyond the least-squares energies of the elements, which both sides fit anyway, forces, and their frames."""
    if any(f.energy is None or f.forces is None for f in data):
        raise ValueError("Energies and forces of all frames were asked for. One lacks them. Leave it out of the set.")
    like = train or data
    (energy, share), known = _composition(data, like.species), _composition(like, like.species)
    forces = np.concatenate([np.asarray(f.forces).ravel() for f in data])
    elements = np.linalg.lstsq(known[1], known[0], rcond=None)[0]
    return energy - share @ elements, forces, np.repeat(np.arange(len(data)), [3 * len(f) for f in data])


def _composition(data: Data, species: Sequence[str]) -> tuple[Array, Array]:
    """Energies per atom [S] and shares of the species [S, elements]."""
    energy = np.array([(f.energy or 0.0) / len(f) for f in data])
    return energy, np.array([[f.symbols.count(s) / len(f) for s in species] for f in data])


def errors(rows: Design, theta: Array, data: Data) -> Errors:
    """Errors of the numbers theta on the frames of rows."""
    goal = {"energy": 1000 * rows.energy_goal, "forces": rows.forces_goal, "stress": np.zeros(0)}
    found = {"energy": 1000 * rows.energy @ theta, "forces": rows.forces @ theta, "stress": np.zeros(0)}
    frame = {"energy": np.arange(len(data)), "forces": rows.frame, "stress": np.zeros(0, int)}
    return Errors(tuple(f.config_type for f in data), tuple(f.name for f in data), goal, found, frame)


def _linear(model: Model) -> NDArray[np.bool_]:
    """Which free numbers belong to the largest jointly linear set [P]."""
    keys = structure(model).linear
    mask = [e.key in keys for e in (*model.entries, *model.known) for _ in range(model.layout.slots[e.key].size)]
    return np.array(mask)[model.free.numpy()]


def _rows(data: Data, model: Model, linear: NDArray[np.bool_]) -> Design:
    """Rows of the linear numbers; what the model gives where they are zero is taken from the goals."""
    theta, energy, forces, rest_energy, rest_forces = model.theta.numpy()[linear], [], [], [], []
    for places in chunks(data.frames, CHUNK):
        batch = model.prepare([data[p] for p in places])
        result, jacobian = model(batch), model.jacobian(batch)
        sizes = torch.diff(batch.offsets).numpy()
        energy.append(jacobian.energy.numpy()[:, linear] / sizes[:, None])
        forces.append(jacobian.forces.numpy()[..., linear].reshape(-1, len(theta)))
        rest_energy.append(result.energy.numpy() / sizes - energy[-1] @ theta)
        rest_forces.append(result.forces.numpy().ravel() - forces[-1] @ theta)
    e, f, frame = _goals(data)
    return Design(np.concatenate(energy), np.concatenate(forces), e - np.concatenate(rest_energy), f - np.concatenate(rest_forces), frame)


def _factors(rows: Design, label: NDArray[Any], inner: NDArray[Any]) -> Factors:
    """Factors by (observable, label, inner)."""
    found: dict[tuple[str, Any, Any], Factor] = {}
    for a, b in dict.fromkeys(zip(label.tolist(), inner.tolist(), strict=True)):
        inside = (label == a) & (inner == b)
        found["energy", a, b] = factorize(rows.energy[inside], rows.energy_goal[inside])
        found["forces", a, b] = factorize(rows.forces[inside[rows.frame]], rows.forces_goal[inside[rows.frame]])
    return found


def _joined(factors: Mapping[Any, Factor], weight: float) -> Factor:
    return combine(factors, {key: weight if key[0] == "energy" else 1.0 for key in factors})
