"""Leaves of expressions with kernels of their own: site values, their derivatives by parameters, and forces under weights of the sites.

Kernels are compiled for leaves and never for the sums and products in which these stand, so that every expression of a vocabulary is
ranked and (where it is linear in each leaf) fitted without compiling anything new.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Sequence
from functools import cached_property
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from composer.algebra import Expression, Scale, Term
from composer.errors import AlgebraError, BackendError, ComposerError
from composer.fit.linear import structure
from composer.fit.prior import penalty_root
from composer.model import E0, Entry, Model, programs
from composer.model.jacobian import site_jacobian
from composer.neighbors import Batch, all_positions, fold, virial
from composer.runtime.build import libraries
from composer.runtime.kernel import Kernel, row_length
from composer.search.pulls import pulls

Array = NDArray[np.float64]


class Observables(NamedTuple):
    """Energies [S, c], forces [N, 3, c] and virials [S, 3, 3, c] of c site functions."""

    energy: Array
    forces: Array
    virial: Array


class Leaf:
    """A term or a function of terms, differentiated on its own.

    Arguments: expression; species; cover, a larger leaf whose columns hold those of this one; places [p], where they stand there.
    `linear`: the site value is a sum of its p free numbers times functions (or has none at all).
    """

    def __init__(
        self, expression: Expression, species: tuple[str, ...], cover: Leaf | None = None, places: NDArray[np.intp] | None = None
    ) -> None:
        self.expression, self.species, self.cover = expression, species, cover
        self.model = Model(expression, species)
        self.entries = [e for e in self.model.entries if e.key != E0 and e.free and self.model.layout.slots[e.key].size]
        self.places = np.arange(self.size) if places is None else places

    @property
    def digest(self) -> str:
        return self.expression.digest

    @property
    def source(self) -> Leaf:
        """The leaf whose kernels give the columns."""
        return self.cover or self

    @cached_property
    def size(self) -> int:
        """Number of free parameters p."""
        return sum(self.model.layout.slots[e.key].size for e in self.entries)

    @cached_property
    def flat(self) -> NDArray[np.intp]:
        """Where the free parameters stand in the flat array of the leaf's model [p]."""
        slots = [self.model.layout.slots[e.key] for e in self.entries]
        return np.concatenate([np.zeros(0, int), *(np.arange(s.offset, s.offset + s.size) for s in slots)])

    @cached_property
    def start(self) -> Array:
        """Declared start values [p]."""
        return self.model.flat.numpy()[self.flat]

    @cached_property
    def linear(self) -> bool:
        if self.plain or not self.size:
            return True
        if not isinstance(self.expression, Term) or any(e.positive or e.bounds is not None for e in self.entries):
            return False
        known = structure(self.model).linear
        held = [e for e in self.model.entries if e.key != E0 and not e.free]
        fixed = any(self._scales(e) and bool(e.start.any()) for e in held)
        return not fixed and all(self._scales(e) and e.key in known for e in self.entries)

    def _scales(self, entry: Entry) -> bool:
        """Whether numbers are declared to scale their term."""
        return next(t for t in self.expression.terms() if t.digest == entry.term).params()[_short(entry)].amplitude

    @cached_property
    def amplitudes(self) -> NDArray[np.intp]:
        """Which of the free numbers scale the leaf (all of them where none is declared to)."""
        marks = [np.full(self.model.layout.slots[e.key].size, self._scales(e)) for e in self.entries]
        found = np.flatnonzero(np.concatenate([np.zeros(0, bool), *marks]))
        return found if len(found) else np.arange(self.size)

    @property
    def plain(self) -> bool:
        """Whether the leaf is one number and no function of the neighbours."""
        return isinstance(self.expression, Scale)

    @cached_property
    def roots(self) -> list[tuple[Array, Array]]:
        """Prior of every table of free numbers: places [rows, size] among them and L [rows * size, rows * size] of the penalty |L c|^2."""
        found, start = [], 0
        for entry in self.entries:
            slot = self.model.layout.slots[entry.key]
            places = np.arange(start, start + slot.size).reshape(slot.rows, -1)
            found.append((places, penalty_root(self.model, entry, places.shape[1])))
            start += slot.size
        return found

    @cached_property
    def staged(self) -> bool:
        """Whether columns are tangents: scalars of neighbours are read, or there is a layer of a network."""
        return bool(programs.apart(self.model.node))

    def at(self, theta: Array) -> Tensor:
        """The flat parameters of the leaf's model with free numbers theta [p]."""
        flat = self.model.flat.clone()
        flat[torch.from_numpy(self.flat)] = torch.from_numpy(np.ascontiguousarray(theta))
        return flat

    def columns(self, batch: Batch, theta: Array) -> Array:
        """Derivatives of the site values by the free numbers [N, p]."""
        if self.plain:
            return np.ones((batch.atoms, 1))
        if self.cover is not None:
            return self.cover.columns(batch, self.cover.start)[:, self.places]
        key = ("columns", self.digest, b"" if self.linear else theta.tobytes())
        return _cached(batch, key, lambda: site_jacobian(self.model.kernel, batch, self.at(theta), torch.from_numpy(self.flat)).numpy())

    def values(self, batch: Batch, theta: Array) -> Array:
        """Site values [N]."""
        if self.plain:
            return np.full(batch.atoms, theta[0])
        if self.linear and self.size:
            return self.columns(batch, theta) @ theta
        out = _cached(
            batch, ("values", self.digest, theta.tobytes()), lambda: self.model.kernel("energies")(batch, self.at(theta)).site["e"]
        )
        return out[: batch.atoms].numpy()

    def observables(self, batch: Batch, seeds: Array, theta: Array) -> Observables:
        """Energies, forces and virials of sum_i s_i dx_i/dtheta, the p free numbers as columns."""
        if self.plain:
            return _still(batch, seeds)
        if self.cover is not None:
            found = self.cover.observables(batch, seeds, self.cover.start)
            return Observables(*(a[..., self.places] for a in found))
        if self.staged and not np.all(seeds == 1.0):
            raise AlgebraError(
                f"{self.expression} was to be multiplied",
                "It reads scalars of neighbours, which search adds but does not multiply",
                "Leave it as a term of the sum",
            )
        model = self.model.with_parameters(self.at(theta)[self.model.free])
        found = model.jacobian(batch, torch.from_numpy(np.ascontiguousarray(seeds)))
        skip = len(self.species)  # E0 stands first
        return Observables(*(a.numpy()[..., skip:] for a in (found.energy, found.forces, found.virial)))

    def pulls(self, batch: Batch, theta: Array) -> Callable[[Array], tuple[Array, Array]]:
        """The function from weights of the sites [N, k] to forces [N, 3, k] and virials [S, 3, 3, k] of sum_i s_i x_i at theta."""
        if self.plain:
            return lambda seeds: (np.zeros((batch.atoms, 3, seeds.shape[1])), np.zeros((batch.structures, 3, 3, seeds.shape[1])))
        kernel = self.model.kernel("seeded")
        if len(kernel.code.stages) == 1:
            return pulls(kernel, batch, self.at(theta))
        return lambda seeds: self._pushed(batch, seeds, theta)

    def _pushed(self, batch: Batch, seeds: Array, theta: Array) -> tuple[Array, Array]:
        """What `pulls` gives, with one call of the kernel for each of the weights."""
        x, forces, virials = all_positions(batch), [], []
        for seed in torch.from_numpy(np.ascontiguousarray(seeds.T)):
            out = self.model.kernel("seeded")(batch, self.at(theta), x, {"seed": seed})
            assert out.forces is not None
            forces.append(fold(batch, out.forces).numpy())
            virials.append(virial(batch, x, out.forces, out.cells).numpy())
        return np.stack(forces, axis=-1), np.stack(virials, axis=-1)


def build(leaves: Iterable[Leaf], kinds: Sequence[str], batch: Batch) -> dict[str, str]:
    """Compile the kernels of leaves side by side, one compiler for each core; returns why some could not be, by digest of the leaf."""
    length, failed = row_length(batch.max_neighbors), {}
    waiting: list[tuple[Leaf, Kernel]] = []
    for leaf in leaves:
        try:
            wanted = [] if leaf.plain else ["tangent" if kind == "columns" and leaf.staged else kind for kind in kinds]
            waiting += [(leaf, leaf.model.kernel(kind)) for kind in wanted]
        except ComposerError as error:
            failed[leaf.digest] = str(error)
    waiting = [(leaf, kernel) for leaf, kernel in waiting if not _ready(kernel, length)]
    with contextlib.suppress(BackendError):  # then one by one, to learn which
        for (_, kernel), made in zip(waiting, libraries([k.source(length) for _, k in waiting]), strict=True):
            kernel.bind(made, length)
    for leaf, kernel in waiting:
        try:
            kernel.functions(length)
        except BackendError as error:
            failed[leaf.digest] = str(error)
    return failed


def _ready(kernel: Kernel, length: int) -> bool:
    return bool({0, length} & set(kernel._functions))


def _short(entry: Entry) -> str:
    return entry.key.rpartition(".")[2]


def _still(batch: Batch, seeds: Array) -> Observables:
    energy = np.add.reduceat(seeds, batch.offsets.numpy()[:-1])[:, None]
    return Observables(energy, np.zeros((batch.atoms, 3, 1)), np.zeros((batch.structures, 3, 3, 1)))


def _cached(batch: Batch, key: tuple[str, str, bytes], made: Callable[[], Any]) -> Any:
    """One value of each kind and leaf is kept with the batch."""
    if batch.kept.get(key[:2], (None,))[0] != key:
        batch.kept[key[:2]] = (key, made())
    return batch.kept[key[:2]][1]
