"""What the laws are tried on: expressions with random numbers in them, their kernels compiled many to a translation unit."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import cached_property

import pytest
import torch
from torch import Tensor

from composer.algebra import Expression
from composer.codegen import reference
from composer.model import Model
from composer.model.structures import whole
from composer.neighbors import Batch, update
from composer.ops import dense
from composer.runtime.build import libraries
from composer.runtime.kernel import Kernel, unit
from tests.laws.structures import mixed, of

Catalogue = Mapping[str, tuple[Expression, Sequence[str]]]

KINDS = ("forces", "energies", "parameters", "gradient", "tangent", "columns")
UNITS = 4  # translation units for each number of species
SKIN = 0.3  # Å

# Largest deviation that a law allows, relative to the scale of the quantity (float64).
TOLERANCE = {
    "reference": 1e-11,  # C++ against torch
    "gradient": 1e-10,  # second derivatives against torch
    "symmetry": 1e-11,  # motions, permutations, supercells, batches
    "identity": 1e-12,  # two ways to write one expression
    "threads": 1e-12,  # one structure on several threads
    "transform": 1e-12,  # jacrev, jacfwd, vmap and make_fx against one another
    "difference": 2e-6,  # central differences
}


class Subject:
    """A model with random numbers, the mixed batch in its species, and what the reference says about them."""

    def __init__(self, name: str, expression: Expression, species: Sequence[str], batch: Batch | None = None, seed: int = 0) -> None:
        self.name, self.expression = name, expression
        model = Model(expression, species)
        self.model = model.with_parameters(scattered(model, seed))
        self._batch = batch

    @cached_property
    def structures(self) -> list:
        return of(self.model.species, mixed())

    @cached_property
    def batch(self) -> Batch:
        """The mixed batch, each pair listed at both atoms."""
        return self._batch or whole(self.model.prepare(self.structures, skin=SKIN))

    @cached_property
    def tables(self) -> dict[str, Tensor]:
        """Tables of the reference [rows, *shape]: views of the flat array."""
        return self.tables_of(self.model.flat)

    def tables_of(self, flat: Tensor) -> dict[str, Tensor]:
        slots = self.model.layout.slots
        return {key: flat[s.offset : s.offset + s.size].reshape(s.rows, *s.shape) for key, s in slots.items()}

    @cached_property
    def expected(self) -> reference.Evaluation:
        return reference.evaluate(self.model.node, self.batch, len(self.model.species), self.tables, operate=dense.operate)

    def energy(self, positions: Tensor | None = None, cells: Tensor | None = None, model: Model | None = None) -> Tensor:
        """Energies [S] at other positions and in other cells, list kept."""
        batch = update(self.batch, self.batch.positions if positions is None else positions, cells)
        return (model or self.model)(batch).energy


def scattered(model: Model, seed: int) -> dict[str, Tensor]:
    """Numbers around the start values; where these are zero, between -0.5 and 0.5."""
    tables = {}
    for entry in model.entries:
        random = torch.Generator().manual_seed(seed + sum(entry.key.encode()))
        spread = torch.rand(entry.start.shape, generator=random, dtype=torch.float64)
        new = torch.where(entry.start == 0.0, spread - 0.5, entry.start * (0.9 + 0.2 * spread))
        tables[entry.name] = new if entry.free else entry.start
    return tables


def subjects(catalogue: Catalogue, kinds: Iterable[str] = KINDS) -> dict[str, Subject]:
    """A subject for each expression; kernels are compiled in a few units without optimisation, as many at once as there are cores."""
    found = {name: Subject(name, expression, species) for name, (expression, species) in catalogue.items()}
    batches: dict[tuple, Batch] = {}
    for subject in found.values():
        model = subject.model
        subject._batch = batches.setdefault((model.species, model.cutoff), subject.batch)
    build([subject.model for subject in found.values()], kinds)
    return found


def build(models: Sequence[Model], kinds: Iterable[str] = KINDS) -> None:
    """Compile kernels of many models together."""
    kernels = [_kernel(model, kind, n) for n, model in enumerate(models) for kind in kinds if _has(model, kind)]
    kernels += [_kernel(model, "half", n) for n, model in enumerate(models) if model.halved is not None and "forces" in kinds]
    units: list[list[Kernel]] = []
    for count in sorted({k.layout.species for k in kernels}):
        bins: list[list[Kernel]] = [[] for _ in range(UNITS)]
        for kernel in sorted((k for k in kernels if k.layout.species == count), key=lambda k: -len(k.code.text)):
            min(bins, key=lambda b: sum(len(k.code.text) for k in b)).append(kernel)
        units += [b for b in bins if b]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("COMPOSER_OPT", "-O0")  # a fifth of the time of -O1, and structures are small
        loaded = libraries([unit(kernels, kernels[0].layout.species) for kernels in units])
    for kernels, library in zip(units, loaded):
        for kernel in kernels:
            kernel.bind(library)


def _has(model: Model, kind: str) -> bool:
    return kind != "columns" or model.staged is not None


def _kernel(model: Model, kind: str, number: int) -> Kernel:
    """The kernel of a model under a name of its own."""
    kernel = model._kernels[kind] = Kernel(f"{kind}_{number}", model.program(kind), model.layout)
    return kernel


def assert_close(found: Tensor, wanted: Tensor, tolerance: str, scale: float = 1e-8) -> None:
    """Equal within a tolerance of the table, relative to the largest number wanted; and that number is not zero.

    `scale` is the least that counts as not zero: 0 where zero itself is the law.
    """
    largest = float(wanted.detach().abs().max()) if wanted.numel() else 0.0
    assert largest > scale or scale == 0.0, "the quantity that the law is about is zero"
    assert bool(torch.isfinite(found).all()) and bool(torch.isfinite(wanted).all())
    worst = float((found - wanted).detach().abs().max())
    assert worst <= TOLERANCE[tolerance] * max(largest, 1.0 if scale == 0.0 else largest), f"off by {worst:.3g} of {largest:.3g}"


def assert_columns(found: Tensor, wanted: Tensor, theta: Tensor, least: float = 1e-8) -> None:
    """Jacobians [..., P] that agree column by column, each relative to its own size (above 1e-4 of the largest)."""
    scale = wanted.flatten(0, -2).abs().amax(0) * theta.abs()  # [P]
    assert_close(found * theta, wanted * theta, "gradient", least)
    if least:
        weight = theta / scale.clamp(min=1e-4 * float(scale.max()))
        assert_close(found * weight, wanted * weight, "gradient")


def random(*shape: int, seed: int = 0) -> Tensor:
    """Normal numbers."""
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
