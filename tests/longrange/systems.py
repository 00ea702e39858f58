"""Salts, triclinic cells and water boxes that the long-range tests share."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from ase import Atoms
from torch import Tensor

DATA = Path(__file__).parents[2].parent / "shared" / "data" / "longrange"
F64 = torch.float64
TILTED = torch.tensor([[1, 0, 0], [0.4, 0.9, 0], [0.2, -0.3, 0.95]], dtype=F64)


def salt(n: int, shake: float = 0.15, a: float = 5.64, tilted: bool = False, seed: int = 0) -> tuple[Tensor, Tensor, Tensor]:
    """Rock salt of n^3 cells, shaken (Å): positions, charges, cell; in a tilted cell the same fractional positions."""
    base = np.array([[0, 0, 0], [0.5, 0.5, 0], [0.5, 0, 0.5], [0, 0.5, 0.5], [0.5, 0, 0], [0, 0.5, 0], [0, 0, 0.5], [0.5, 0.5, 0.5]])
    grid = np.stack(np.meshgrid(*[np.arange(n)] * 3, indexing="ij"), -1).reshape(-1, 1, 3)
    x = ((grid + base[None]) * a).reshape(-1, 3)
    x = (x + np.random.default_rng(seed).normal(size=x.shape) * shake) % (n * a)
    cell = torch.eye(3, dtype=F64) * n * a
    positions = torch.from_numpy(x)
    if tilted:
        positions, cell = positions @ TILTED, cell @ TILTED
    return positions, torch.tensor([1.0] * 4 + [-1.0] * 4, dtype=F64).repeat(n**3), cell


def rock_salt(n: int, shake: float = 0.15, seed: int = 0) -> Atoms:
    """The same as ASE Atoms."""
    x, _, cell = salt(n, shake, seed=seed)
    return Atoms((["Na"] * 4 + ["Cl"] * 4) * n**3, x.numpy(), cell=cell.numpy(), pbc=True)


def random_cell(atoms: int = 7, seed: int = 1) -> tuple[Tensor, Tensor, Tensor]:
    """A charged triclinic cell with atoms that stand inside and outside of it: positions, charges, cell."""
    random = torch.Generator().manual_seed(seed)
    cell = torch.tensor([[6.0, 0.2, 0.1], [0.4, 5.3, 0.0], [0.2, -1.5, 4.9]], dtype=F64)
    x = torch.rand(atoms, 3, dtype=F64, generator=random) @ cell * 1.5 - 3.0
    return x, torch.randn(atoms, dtype=F64, generator=random), cell


@cache
def crystals() -> dict[str, Any]:
    """The entries of madelung.json."""
    return json.loads((DATA / "madelung.json").read_text())


def crystal(name: str, scale: float = 1.0) -> tuple[Tensor, Tensor, Tensor, float]:
    """Positions, charges, cell and energy of a crystal with the lattice constant `scale` (Å), e^2/Å."""
    entry = crystals()[name]
    cell = torch.tensor(entry["cell"], dtype=F64) * scale
    energy = entry["E_per_fu_a1"] * entry["formula_units"] / scale
    return torch.tensor(entry["frac"], dtype=F64) @ cell, torch.tensor(entry["q"], dtype=F64), cell, energy


@cache
def water(box: int) -> tuple[Tensor, Tensor, Tensor, list[tuple[int, int]], dict[str, Any]]:
    """A NIST box of SPC/E water: positions, charges, cell, bonded pairs, the reference values."""
    reference = json.loads((DATA / "nist_spce" / "nist_reference.json").read_text())[f"spce-{box}"]
    lines = (DATA / "nist_spce" / f"spce-{box}.xyz").read_text().splitlines()
    rows = [line.split() for line in lines[2 : 2 + int(lines[0])]]
    x = torch.tensor([[float(v) for v in row[1:4]] for row in rows], dtype=F64)
    q = torch.tensor([-0.8476 if row[0] == "O" else 0.4238 for row in rows], dtype=F64)
    bonded = [(m + a, m + b) for m in range(0, len(rows), 3) for a, b in ((0, 1), (0, 2), (1, 2))]
    return x, q, torch.eye(3, dtype=F64) * reference["L"], bonded, reference


def melt_force(q: Tensor, cell: Tensor) -> float:
    """The force that relative accuracies refer to."""
    rho = len(q) / float(torch.linalg.det(cell).abs())
    return 0.3 * float((q**2).mean()) * rho ** (2 / 3)


def rms(forces: Tensor) -> float:
    return float((forces**2).sum(1).mean().sqrt())
