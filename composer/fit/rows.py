"""Weighted residual rows of a model on data, and their triangular factors by observable and group of frames."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from threadpoolctl import threadpool_limits
from torch import Tensor

from analysis import Factor, combine, factorize, merge
from composer.data import Frame
from composer.errors import DataError
from composer.evaluate import VOIGT, chunks
from composer.fit.coordinates import Coordinates, at
from composer.fit.loss import Targets, missed
from composer.fit.weights import Weights
from composer.model import Jacobian, Model, Result
from composer.model.structures import whole
from composer.neighbors import Batch

Array = NDArray[np.float64]
CHUNK_BYTES = 2**27  # of one chunk's force Jacobian
OBSERVABLES = ("energy", "forces", "stress")


@dataclass(frozen=True)
class Rows:
    """Rows of one observable of one frame, divided by the shape of its target, on the device of the model: matrix [m, K], rhs [m] (reference
    minus model)."""

    observable: str
    frame: int
    matrix: Tensor
    rhs: Tensor


@dataclass(eq=False)
class Problem:
    """Least squares of a model on data in unknowns u [K]: coordinates of the fitted numbers, then the stress offset where there is one.

    Rows: E/N (eV/atom), F (eV/Å), V sigma/N (eV/atom), 6 components. The offset (eV/atom) adds to the diagonal of V sigma/N: an error of
    the data's stress that is proportional to N/V. Arguments: model, frames, weights, offset (whether it is fitted), fitted [P], which of
    the free numbers are (default all). Missing observables have no rows. Errors: DataError where nothing is left to fit.
    """

    model: Model
    frames: Sequence[Frame]
    weights: Weights
    offset: bool = False
    fitted: NDArray[np.bool_] | None = None
    active: NDArray[np.bool_] = field(init=False)
    coordinates: Coordinates = field(init=False)
    _batches: list[tuple[list[int], Batch]] = field(init=False, default_factory=list)
    _targets: list[Targets] = field(init=False, default_factory=list)
    _weighed: Weights | None = field(init=False, default=None)  # weights of the targets

    def __post_init__(self) -> None:
        self.coordinates = Coordinates.of(self.model)
        self.active = np.ones(self.model.size, dtype=bool) if self.fitted is None else self.fitted
        present = {o for f in self.frames for o in self.weights.scales if _has(f, o)}
        if not present:
            raise DataError(
                f"A fit to {len(self.frames)} frames was asked for",
                f"No frame has an observable that the weights name ({', '.join(self.weights.scales)})",
                "Give labelled frames, or targets for what they hold",
            )
        self.observables = tuple(o for o in OBSERVABLES if o in present)

    @property
    def base(self) -> Array:
        """All free numbers of the model, those that are not fitted too [P]."""
        return self.model.theta.numpy()

    @property
    def size(self) -> int:
        """K, the number of unknowns."""
        return int(np.count_nonzero(self.active)) + self.offset

    def start(self) -> Array:
        """The unknowns of the present model [K]."""
        return np.concatenate([self.coordinates.coordinate(self.base)[self.active], np.zeros(int(self.offset))])

    def theta(self, u: Array) -> Array:
        """Free numbers of the model [P] at unknowns u."""
        z = self.coordinates.coordinate(self.base)
        z[self.active] = u[: len(u) - self.offset]
        return np.where(self.active, self.coordinates.theta(z), self.base)

    def at(self, u: Array) -> Model:
        """The model at unknowns u."""
        return at(self.model, self.theta(u))

    def slope(self, u: Array) -> Array:
        """d theta/d u of the fitted numbers at unknowns u [K without the offset]."""
        return self.coordinates.slope(self.coordinates.coordinate(self.theta(u)))[self.active]

    def columns(self, theta_columns: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Mask of unknowns [K] from a mask of free numbers [P]; the offset is no number of the model."""
        return np.concatenate([theta_columns[self.active], np.zeros(int(self.offset), dtype=bool)])

    def rows(self, u: Array) -> Iterator[Rows]:
        """Rows at u, frame by frame."""
        model, scale = self.at(u), torch.from_numpy(self.slope(u))
        for (places, batch), targets in zip(self.batches(), self.targets(), strict=True):
            jacobian, left = model.jacobian(batch), missed(targets, model(batch))
            blocks = {o: self._block(o, jacobian, left, targets, scale.to(targets.sizes), u) for o in self.observables}
            bounds = batch.offsets.tolist()
            for s, place in enumerate(places):
                for observable, (matrix, rhs) in blocks.items():
                    if _has(self.frames[place], observable):
                        own = slice(bounds[s], bounds[s + 1]) if observable == "forces" else slice(s, s + 1)
                        yield Rows(observable, place, matrix[own].reshape(-1, self.size).clone(), rhs[own].reshape(-1).clone())

    def _block(self, observable: str, jacobian: Jacobian, left: Result, targets: Targets, scale: Tensor, u: Array) -> tuple[Tensor, Tensor]:
        """Rows of all frames of a batch: matrix [n, m, K] and rhs [n, m], of m numbers for each structure, or for each atom."""
        each = targets.sizes[:, None]
        match observable:
            case "energy":
                matrix, rhs, squares = jacobian.energy[:, None] / each[..., None], -left.energy[:, None] / each, targets.by_energy[:, None]
            case "forces":
                matrix, rhs, squares = jacobian.forces, -left.forces, targets.by_forces
            case _:
                matrix, rhs = -jacobian.virial[:, *VOIGT] / each[..., None], left.virial[:, *VOIGT] / each
                squares = targets.by_virial[:, None]
        weight = squares.sqrt() * self.weights.scales[observable]  # 1 / shape
        if not self.active.all():
            matrix = matrix[..., torch.from_numpy(self.active).to(matrix.device)]
        matrix = matrix * (weight[..., None] * scale)
        if self.offset:
            one = torch.zeros_like(rhs)
            if observable == "stress":
                one[:, :3] = 1.0
                rhs = rhs - u[-1] * one
            matrix = torch.cat([matrix, (one * weight)[..., None]], dim=-1)
        return matrix, rhs * weight

    def batches(self) -> list[tuple[list[int], Batch]]:
        """Places of frames and their prepared Batch, in chunks that depend on the data and P alone."""
        if not self._batches:
            atoms = max(CHUNK_BYTES // (24 * max(self.model.size, 1)), 1)
            for places in chunks(self.frames, atoms):
                prepared = self.model.prepare([self.frames[p] for p in places])
                self._batches.append((places, whole(prepared)))
        return self._batches

    def targets(self) -> list[Targets]:
        """References of the batches, and what squares count under these weights."""
        if self._weighed != self.weights:
            self._weighed = self.weights
            self._targets = [Targets.of(self.weights.squares, [self.frames[p] for p in places], b) for places, b in self.batches()]
        return self._targets

    def factors(self, u: Array, label: Callable[[int], Hashable] = lambda frame: 0) -> dict[tuple[str, Any], Factor]:
        """Factors at u by (observable, label of the frame); their rows are divided by shapes, so combine them with `scales`.

        The right-hand side is reference minus model: a solution is a step of u. Errors: ValueError for rows that are not finite.
        """
        found: dict[tuple[str, Any], list[Factor]] = {}
        waiting: dict[tuple[str, Any, frozenset[str]], list[Rows]] = {}  # frames of the same elements touch the same columns
        there = self.model.host is not self.model  # rows are reduced where they are
        with threadpool_limits(1, "blas"):
            for rows in self.rows(u):
                key = (rows.observable, label(rows.frame), frozenset(self.frames[rows.frame].symbols))
                waiting.setdefault(key, []).append(rows)
                if sum(len(r.rhs) for r in waiting[key]) >= 4 * self.size:
                    found.setdefault(key[:2], []).append(_joined(waiting.pop(key), there))
            for key, rest in waiting.items():
                found.setdefault(key[:2], []).append(_joined(rest, there))
            return {key: merge(parts) for key, parts in sorted(found.items(), key=lambda item: str(item[0]))}

    def factor(self, u: Array) -> Factor:
        """The one factor of all weighted rows at u."""
        return self.joined(self.factors(u))

    def joined(self, factors: dict[tuple[str, Any], Factor], weights: Weights | None = None) -> Factor:
        """One factor of many, each observable divided by its target."""
        scales = (self.weights if weights is None else weights).scales
        with threadpool_limits(1, "blas"):
            return combine(factors, {key: 1.0 / scales[key[0]] for key in factors})

    def shares(self, factors: dict[tuple[str, Any], Factor]) -> dict[tuple[str, str], float]:
        """Share of chi^2 by observable and config_type; factors are at the minimum, so chi^2 is that of a step of zero."""
        scales, found = self.weights.scales, {}
        for (observable, (_, kind)), factor in factors.items():
            value = float(factor.chi2(np.zeros(factor.parameters))) / scales[observable] ** 2
            found[observable, kind] = found.get((observable, kind), 0.0) + value
        total = sum(found.values()) or 1.0
        return {key: value / total for key, value in found.items()}

    def under(self, weights: Weights) -> Problem:
        """The same problem, prepared neighbours included, under other weights."""
        return self._again(weights=weights)

    def fixing(self, theta: Array, fitted: NDArray[np.bool_]) -> Problem:
        """The same problem, prepared neighbours included, at other free numbers [P], of which some are fitted [P]."""
        return self._again(model=at(self.model, theta), fitted=fitted)

    def _again(self, **changes: Any) -> Problem:
        other = replace(self, **changes)
        other._batches = self._batches
        return other

    def among(self, places: Sequence[int], start: Model | None = None) -> Problem:
        """The same problem on some of the frames."""
        return Problem(start or self.model, [self.frames[p] for p in places], self.weights, self.offset, self.active)


def _joined(rows: list[Rows], there: bool) -> Factor:
    """Factor of rows; columns that are zero in all of them (other elements) take no part in the QR. `there`: on the device of the rows."""
    matrix, rhs = torch.cat([r.matrix for r in rows]), torch.cat([r.rhs for r in rows])
    used = matrix.any(dim=0)
    small = int(used.sum()) <= 0.7 * matrix.shape[1]
    found = (reduced if there else factorize)(matrix[:, used] if small else matrix, rhs)
    if not small:
        return found
    triangle = np.zeros((len(found.triangle), matrix.shape[1]))
    triangle[:, used.cpu().numpy()] = found.triangle
    return Factor(triangle, found.rhs, found.rss, found.rows)


def reduced(matrix: Tensor, rhs: Tensor) -> Factor:
    """The factor of rows [m, K] and their right-hand sides [m], by a QR on their device: only the triangle of [matrix, rhs] leaves it."""
    triangle = torch.linalg.qr(torch.cat([matrix, rhs[:, None]], dim=1), mode="r").R.cpu().numpy()
    found = factorize(triangle[:, :-1], triangle[:, -1])
    return Factor(found.triangle, found.rhs, found.rss, len(rhs))


def _has(frame: Frame, observable: str) -> bool:
    return getattr(frame, observable) is not None
