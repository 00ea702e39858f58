"""Target metatomic: a TorchScript file that metatomic's engines load (LAMMPS, i-PI, GROMACS, ASE, TorchSim, chemiscope).

The energy of the reference program is traced once for all sizes and scripted; the engines differentiate it.
"""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import torch
from ase import Atoms
from ase.data import atomic_numbers
from metatomic.torch import AtomisticModel, ModelCapabilities, ModelMetadata, ModelOutput  # pyright: ignore[reportMissingImports]
from torch.fx.experimental.proxy_tensor import make_fx

from composer.codegen.program import walk
from composer.codegen.reference import padded_values
from composer.export.library import Values
from composer.export.metatomic_module import Potential
from composer.export.pt2 import Program, Rows, inputs, quiet
from composer.export.structures import random_structures
from composer.ir.nodes import Node
from composer.model import Model

FILE = "potential.pt"


def write(model: Model, folder: Path, shown: str) -> str:
    """Write potential.pt."""
    module: Any = Potential(scripted(model), [atomic_numbers[s] for s in model.species], model.cutoff).eval()
    with quiet():
        AtomisticModel(module, ModelMetadata(name="composer", description=f"E = E0 + {model.expression}"), _capabilities(model)).save(
            str(folder / FILE)
        )
    return f"metatomic: {shown}/{FILE}, for example pair_style metatomic {shown}/{FILE}, or metatomic_ase.MetatomicCalculator in ASE"


def _capabilities(model: Model) -> Any:
    return ModelCapabilities(
        outputs={"energy": ModelOutput(unit="eV", sample_kind="atom")},
        atomic_types=[atomic_numbers[s] for s in model.species],
        interaction_range=model.cutoff * (1 + depth(model.node)),
        length_unit="angstrom",
        supported_devices=["cpu"],
        dtype="float64",
    )


def depth(node: Node) -> int:
    """How often fields of neighbours are read one inside the other: how many cutoffs further an atom sees."""
    return max((1 + depth(n.args[0]) for n in walk([node]) if n.op == "near"), default=0)


def scripted(model: Model) -> torch.jit.ScriptModule:
    """Site energies [n] of padded neighbours as TorchScript, for any number of atoms and of places for neighbours."""
    program = Program(model)

    def energies(d: torch.Tensor, species: torch.Tensor, owner: torch.Tensor, real: torch.Tensor) -> torch.Tensor:
        return padded_values(program.node, Rows(owner, real), d, species, program.count, program.tables)

    x, species, owner, shift, real = inputs(model, random_structures(model.species, seed=9, periodic=True)[0])
    with quiet():
        graph = make_fx(energies, tracing_mode="symbolic", _allow_non_fake_inputs=True)(x[owner] + shift - x[:, None], species, owner, real)
        for node in graph.graph.nodes:
            _respell(node)
        graph.recompile()
        return torch.jit.script(graph)


def _respell(node: torch.fx.Node) -> None:
    """A call as TorchScript writes it: it chooses overloads itself, calls sizes and copies by other names, and devices by text."""
    names = {torch.ops.aten.sym_size: torch.ops.aten.size, torch.ops.aten._to_copy: torch.ops.aten.to}
    node.type = None
    if isinstance(node.target, torch._ops.OpOverload):
        node.target = names.get(node.target.overloadpacket, node.target.overloadpacket)
    node.kwargs = {k: v.type if isinstance(v, torch.device) else v for k, v in node.kwargs.items()}


def check_engine(folder: Path, model: Model) -> Any:
    """The file in ASE, with the neighbours that metatomic's calculator finds."""
    from metatomic_ase import MetatomicCalculator  # pyright: ignore[reportMissingImports]

    with quiet():
        calculator = MetatomicCalculator(str(folder / FILE))

    def engine(structure: Any) -> Values:
        atoms = Atoms(list(structure.symbols), positions=structure.positions, cell=structure.cell, pbc=structure.pbc)
        atoms.calc = calculator
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            virial = -atoms.get_stress(voigt=False) * atoms.get_volume() if all(atoms.pbc) else None
            return Values(float(atoms.get_potential_energy()), atoms.get_forces(), virial, atoms.get_potential_energies())

    return engine
