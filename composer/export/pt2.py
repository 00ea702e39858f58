"""Target pt2: the reference program in torch, compiled ahead of time; beside it the exported program, from which it can be built again.

Inputs, with n atoms and m places for neighbours: positions [n, 3] float64 (Å), species [n] int64, owner [n, m] int64 (the atom of which a
neighbour is an image), shift [n, m, 3] float64 (Å, from that atom to the image), real [n, m] bool (whether the place is taken).
Outputs: energy (eV), site energies [n], forces [n, 3] (eV/Å), virial [3, 3] (eV, -dE/dstrain).
"""

from __future__ import annotations

import contextlib
import platform
import tempfile
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.fx.experimental.proxy_tensor import make_fx

from composer.codegen.reference import padded_values
from composer.errors import BackendError, DataError
from composer.export.library import Values
from composer.export.structures import random_structures
from composer.model import Model
from composer.model.structures import whole
from composer.runtime.build import cpu_features

PACKAGE, EXPORTED, BUILT_FOR = "potential.pt2", "potential.exported.pt2", "potential.cpu"
Inputs = tuple[Tensor, Tensor, Tensor, Tensor, Tensor]


@dataclass(frozen=True)
class Rows:
    """Padded neighbours, as the reference reads them."""

    owner: Tensor  # [n, m]
    real: Tensor  # [n, m]


class Program:
    """Energy, site energies, forces and virial of a model as a function of tensors that torch can trace."""

    def __init__(self, model: Model) -> None:
        self.node, self.count = model.node, len(model.species)
        slots = model.layout.slots.items()
        self.tables = {key: model.flat[s.offset : s.offset + s.size].reshape(s.rows, *s.shape).clone() for key, s in slots}

    def __call__(self, x: Tensor, species: Tensor, owner: Tensor, shift: Tensor, real: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        d = x[owner] + shift - x[:, None]  # [n, m, 3]
        energies, slope = self.slopes(d, species, owner, real)
        return energies.sum(), energies, *pushed(d, owner, slope)

    def slopes(self, d: Tensor, species: Tensor, owner: Tensor, real: Tensor) -> tuple[Tensor, Tensor]:
        """Site energies [n] and the slope of their sum by the displacements [n, m, 3]."""

        def energy(d: Tensor) -> tuple[Tensor, Tensor]:
            energies = padded_values(self.node, Rows(owner, real), d, species, self.count, self.tables)
            return energies.sum() + 0.0 * d.sum(), energies  # a constant energy has forces too

        slope, (_, energies) = torch.func.grad_and_value(energy, has_aux=True)(d)
        return energies, slope


def pushed(d: Tensor, owner: Tensor, slope: Tensor) -> tuple[Tensor, Tensor]:
    """Forces [n, 3] and virial [3, 3] from slopes by displacements d [n, m, 3]."""
    forces = slope.sum(1).index_add(0, owner.reshape(-1), -slope.reshape(-1, 3))
    virial = -torch.einsum("nma,nmb->ab", d, slope)
    return forces, (virial + virial.T) / 2


def inputs(model: Model, structure: Any) -> Inputs:
    """The five tensors of a structure."""
    batch = whole(model.prepare(structure))
    counts = batch.first.diff()
    n, m = batch.atoms, max(int(counts.max()), 1) if batch.atoms else 1
    row = torch.repeat_interleave(torch.arange(n), counts)
    place = torch.arange(len(batch.index)) - batch.first[:-1].repeat_interleave(counts)
    sites = batch.owner[batch.index.long()]  # [entries]
    moved = torch.cat([torch.zeros(n, 3, dtype=torch.float64), batch.ghost_shift.double() @ batch.cells[0]])[batch.index.long()]
    owner, shift, real = torch.zeros(n, m, dtype=torch.long), torch.zeros(n, m, 3, dtype=torch.float64), torch.zeros(n, m, dtype=torch.bool)
    owner[row, place], shift[row, place], real[row, place] = sites, moved, True
    return batch.positions, batch.species.long(), owner, shift, real


def write(model: Model, folder: Path, shown: str) -> str:
    """Write the exported program and the package that is compiled from it for this processor."""
    keep(traced(model), folder, {"species": " ".join(model.species), "cutoff": repr(model.cutoff), "units": "eV, Å"})
    load = f'torch._inductor.aoti_load_package("{shown}/{PACKAGE}")'
    return f"Python: {load}; C++: torch::inductor::AOTIModelPackageLoader. The tensors are explained in composer.export.pt2."


def traced(model: Model) -> Any:
    """The program for any number of atoms and of places for neighbours, as torch.export knows it.

    torch.export refuses derivatives inside a function, so make_fx traces them first, with sizes that are all different.
    """
    example = inputs(model, random_structures(model.species, seed=9, periodic=True)[0])
    n, m = torch.export.Dim("n", min=2), torch.export.Dim("m", min=2)
    dynamic = ({0: n}, {0: n}, {0: n, 1: m}, {0: n, 1: m}, {0: n, 1: m})
    with quiet():
        graph = make_fx(Program(model), tracing_mode="symbolic", _allow_non_fake_inputs=True)(*example)
        return torch.export.export(graph, example, dynamic_shapes=dynamic, strict=False)


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without the warnings that torch gives about itself."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def keep(exported: Any, folder: Path, about: dict[str, str], package: str = PACKAGE) -> None:
    """Write an exported program and the package that is compiled from it."""
    with quiet():
        torch.export.save(exported, folder / EXPORTED)
    build(exported, folder, about, package)


def build(exported: Any, folder: Path, about: dict[str, str], package: str = PACKAGE) -> None:
    """Compile the exported program for this processor. Errors: BackendError when torch cannot."""
    settings = {"aot_inductor.metadata": about}
    try:
        with quiet():
            torch._inductor.aoti_compile_and_package(exported, package_path=str(folder / package), inductor_configs=settings)
    except Exception as error:  # torch raises many kinds, all mean the same
        raise BackendError(
            "A .pt2 package was to be compiled", f"{type(error).__name__}: {str(error)[:300]}", "Type composer doctor"
        ) from None
    (folder / BUILT_FOR).write_text(signature())


def signature() -> str:
    """What a package depends on: the version of torch and the processor."""
    return f"{torch.__version__}\n{platform.machine()}\n{cpu_features()}\n"


def open_package(folder: Path, package: str = PACKAGE) -> Any:
    """The compiled program of an export, built again from the exported one where torch or the processor are others.

    Errors: DataError when neither can be loaded.
    """
    try:
        if (folder / BUILT_FOR).read_text() == signature():
            return torch._inductor.aoti_load_package(str(folder / package))
        with tempfile.TemporaryDirectory() as place:
            build(torch.export.load(folder / EXPORTED), Path(place), {}, package)
            return torch._inductor.aoti_load_package(str(Path(place, package)))
    except (OSError, RuntimeError) as error:
        raise DataError(f"The package in {folder} was to be loaded", str(error)[:300], "Export the model again") from None


def check_engine(folder: Path, model: Model) -> Any:
    """The compiled program."""
    package = open_package(folder)

    def engine(structure: Any) -> Values:
        energy, energies, forces, virial = package(*inputs(model, structure))
        return Values(float(energy), forces.numpy(), virial.numpy(), energies.numpy())

    return engine
