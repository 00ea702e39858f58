"""Target nequip: the reference program as `pair_nequip_allegro` of LAMMPS reads compiled models, so that its pair styles run ours.

Inputs: pos [n, 3] float64 (Å), edge_index [2, edges] int64 (centre, neighbour), atom_types [n] int64. For `pair_style allegro` the n are
the atoms of a process and their ghosts, and only atoms have edges. Expressions that read fields of neighbours need edges of all n: they
are for `pair_style nequip`, where n are the atoms of the box and two more inputs say of which image a neighbour is: cell [1, 3, 3]
float64 (rows, Å), edge_cell_shift [edges, 3] float64.
Outputs: atomic_energy [n, 1] (eV), forces [n, 3] (eV/Å), virial [1, 3, 3] (eV, -dE/dstrain).
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from composer.export.check import Engine, reads_neighbours
from composer.export.library import Values
from composer.export.pt2 import Program, inputs, keep, open_package, pushed, quiet
from composer.export.structures import random_structures
from composer.model import Model
from composer.model.structures import whole
from composer.neighbors import all_positions, fold

PACKAGE = "potential.nequip.pt2"
INPUTS = ("pos", "edge_index", "atom_types", "cell", "edge_cell_shift")


class Edges(torch.nn.Module):
    """The program as a function of edges, which it puts into rows of neighbours."""

    def __init__(self, model: Model) -> None:
        super().__init__()
        x, species, owner, shift, real = inputs(model, random_structures(model.species, seed=9, periodic=True)[0])
        program = Program(model)

        def slopes(d: Tensor, species: Tensor, owner: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
            return program.slopes(d, species, owner, real)

        with quiet():
            graph = make_fx(slopes, tracing_mode="symbolic", _allow_non_fake_inputs=True)(
                x[owner] + shift - x[:, None], species, owner, real
            )
        self.run = torch.fx.Interpreter(graph).run

    def forward(
        self, pos: Tensor, edge_index: Tensor, atom_types: Tensor, cell: Tensor | None = None, edge_cell_shift: Tensor | None = None
    ) -> tuple[Tensor, Tensor, Tensor]:
        centre, other = edge_index[0], edge_index[1]
        along = pos[other] - pos[centre]
        if cell is not None and edge_cell_shift is not None:
            along = along + edge_cell_shift @ cell[0]
        d, owner, real = _rows(pos.shape[0], centre, other, along)
        energies, slope = self.run(d, atom_types, owner, real)
        forces, virial = pushed(d, owner, slope)
        return energies[:, None], forces, virial[None]


def _rows(n: int, centre: Tensor, other: Tensor, along: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Edges as padded rows: displacements [n, m, 3], owner [n, m], real [n, m]; m is a number that the data decide."""
    order = torch.argsort(centre, stable=True)
    row = centre[order]
    counts = torch.zeros(n, dtype=torch.long).index_add(0, centre, torch.ones_like(centre))
    place = torch.arange(centre.shape[0]) - (counts.cumsum(0) - counts)[row]
    m: Any = counts.max().clamp(min=2).item()
    torch._check(m >= 2)
    owner = torch.zeros((n, m), dtype=torch.long).index_put((row, place), other[order])
    real = torch.zeros((n, m), dtype=torch.bool).index_put((row, place), torch.ones_like(row, dtype=torch.bool))
    return torch.zeros((n, m, 3), dtype=along.dtype).index_put((row, place), along[order]), owner, real


def edges(model: Model, structure: Any) -> tuple[Tensor, ...]:
    """The tensors that the pair style would pass for a structure, in the order of INPUTS."""
    batch = whole(model.prepare(structure))
    centre, site = torch.repeat_interleave(torch.arange(batch.atoms), batch.first.diff()), batch.index.long()
    if not reads_neighbours(model):
        return all_positions(batch), torch.stack([centre, site]), batch.species.long()[batch.owner]
    moved = torch.cat([torch.zeros(batch.atoms, 3, dtype=torch.float64), batch.ghost_shift.double()])[site]
    return batch.positions, torch.stack([centre, batch.owner[site]]), batch.species.long(), batch.cells, moved


def traced(model: Model) -> Any:
    """The program for any number of atoms and edges, as torch.export knows it."""
    example = edges(model, random_structures(model.species, seed=9, periodic=True)[0])
    n, e = torch.export.Dim("n", min=2), torch.export.Dim("e", min=2)
    dynamic = ({0: n}, {1: e}, {0: n}, {}, {0: e})[: len(example)]
    with quiet():
        return torch.export.export(Edges(model), example, dynamic_shapes=dynamic, strict=False)


def metadata(model: Model) -> dict[str, str]:
    """What the pair style reads of a package before it runs it."""
    names = {"num_types": str(len(model.species)), "type_names": " ".join(model.species)}
    return {"r_max": repr(model.cutoff), **names, "per_edge_type_cutoff": "", "allow_tf32": "0"}


def write(model: Model, folder: Path, shown: str) -> str:
    """Write the exported program and the package that is compiled from it for this processor."""
    keep(traced(model), folder, metadata(model), PACKAGE)
    style, newton = ("nequip", "off") if reads_neighbours(model) else ("allegro", "on")
    lines = [f"newton {newton}", f"pair_style {style}", f"pair_coeff * * {shown}/{PACKAGE} {' '.join(model.species)}"]
    return "In an input, with units metal, of a LAMMPS with pair_nequip_allegro:\n" + "\n".join(f"  {line}" for line in lines)


def check_engine(folder: Path, model: Model) -> Engine:
    """The compiled program, called as the pair style calls it; forces on ghosts go to the atoms of which they are images."""
    return engine_of(open_package(folder, PACKAGE), model)


def engine_of(program: Any, model: Model) -> Engine:
    """A program of this layout as an engine."""

    def engine(structure: Any) -> Values:
        batch = whole(model.prepare(structure))
        energies, forces, virial = program(*edges(model, structure))
        energies = energies[: batch.atoms, 0]
        folded = forces if reads_neighbours(model) else fold(batch, forces)
        return Values(float(energies.sum()), folded.numpy(), virial[0].numpy(), energies.numpy())

    return engine


__all__ = ["INPUTS", "PACKAGE", "check_engine", "edges", "engine_of", "metadata", "traced", "write"]
