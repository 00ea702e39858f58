"""A term at given parameters, evaluated by the reference alone."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from ase import Atoms

from composer.algebra import Expression
from composer.codegen import reference
from composer.ops import dense
from composer.quantities import BoundParam, Environment, rows


def tables(expression: Expression, env: Environment, values: Mapping[str, Any], seed: int | None) -> dict[str, torch.Tensor]:
    """Start values of every parameter, or random numbers for a seed; `values` by parameter name win (numbers or [rows, *shape])."""
    random = torch.Generator().manual_seed(seed or 0)
    found = {name: torch.tensor(row, dtype=torch.float64) for name, (_, row) in env.fixed.items()}
    for term in expression.terms():
        for name, param in term.params().items():
            shape = (rows(param.per, len(env.symbols)), *(getattr(term, s) for s in param.shape))
            start = param.default
            if param.start:
                start = getattr(term, param.start)(*(() if param.shape else (env.symbols,)))
            start = torch.tensor(start, dtype=torch.float64).expand(shape)
            if seed is not None:
                spread = torch.rand(shape, generator=random, dtype=torch.float64)
                start = start * (0.8 + 0.4 * spread) if start.any() else spread - 0.5
            given = torch.as_tensor(values.get(name, start), dtype=torch.float64)
            found[BoundParam(term, param).key] = given.expand(shape)
    return found


def batch_of(structures: Sequence[Atoms], species: Sequence[str]) -> SimpleNamespace:
    """What the reference reads of a Batch."""
    kinds = [list(species).index(s) for atoms in structures for s in atoms.get_chemical_symbols()]
    sizes = torch.tensor([0, *(len(atoms) for atoms in structures)])
    return SimpleNamespace(
        positions=torch.cat([torch.tensor(atoms.positions) for atoms in structures]),
        cells=torch.stack([torch.tensor(atoms.cell.array) for atoms in structures]),
        pbc=torch.stack([torch.tensor(atoms.pbc) for atoms in structures]),
        species=torch.tensor(kinds, dtype=torch.int32),
        offsets=torch.cumsum(sizes, 0),
    )


@pytest.fixture
def evaluate() -> Callable[..., reference.Evaluation]:
    """evaluate(expression, species, *structures, seed=None, **values) -> energies, forces, stress and virial of all structures."""

    def run(expression: Expression, species: Sequence[str], *structures: Atoms, seed: int | None = None, **values: Any) -> Any:
        env = Environment(species)
        node = expression.site(env)
        return reference.evaluate(
            node, batch_of(structures, species), len(species), tables(expression, env, values, seed), operate=dense.operate
        )

    return run
