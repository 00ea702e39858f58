"""What a nep.txt file says beside an energy: charges that interact, dipole moments, polarizabilities."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import torch
from torch import Tensor

from composer.codegen.program import Program, values, with_second
from composer.errors import AlgebraError, DataError
from composer.export.nep import contents, model_of
from composer.export.nep_written import NepModel
from composer.export.nepfile import NepFile, parse
from composer.ir.jvp import Tangent
from composer.ir.nodes import ZERO, Node, add, displacement, mul, power
from composer.model import Model
from composer.neighbors import Batch, all_positions, fold, virial
from composer.quantities import Environment
from composer.runtime.kernel import Kernel, remembered
from composer.units import COULOMB_OF_ENGINES

AXES = "xyz"


def read_any(path: str | Path) -> Model | NepModel:
    """The model of a nep.txt file of any kind.

    Returns: a Model; for the tags _charge1 and _charge2 a ChargedModel, for _dipole a DipoleModel, for _polarizability a
    PolarizabilityModel; `export(path)` of each writes such a file. Errors: DataError for a file that cannot be read.
    """
    found = parse(path)
    if found.heads == 2 and (len(set(found.cutoffs)) > 1 or found.kind == "charge3"):
        own = found.tag if found.kind == "charge3" else f"{found.tag} with cutoffs for each species"
        raise DataError(f"The charge model {path} was to be read", f"It is {own}", "Give a charge1 or charge2 file with one cutoff")
    return KINDS[found.kind].of(found) if found.kind else model_of(found)


@dataclass(frozen=True)
class ChargedResult:
    """Energy [S] eV, forces [N, 3] eV/Å, virial [S, 3, 3] eV (minus the derivative by strain), charges [N] e before and after neutralising."""

    energy: Tensor
    forces: Tensor
    virial: Tensor
    bare: Tensor
    charges: Tensor


@dataclass(frozen=True)
class ChargedModel(NepModel):
    """E = sum_i e_i + E_C(q), q_i = Q_i - mean Q: a network energy and charges that interact through an Ewald sum with alpha = pi/rc.

    E_C = K (2 pi/V) sum_{0 < |k| < 2 pi alpha} exp(-k^2/(4 alpha^2))/k^2 |S(k)|^2; mode 1 adds
    (K/2) sum_{r < rc} q_i q_j erfc(alpha r)/r - K alpha/sqrt(pi) sum q_i^2. Forces include the change of the charges.
    Source: Z. Fan et al., arXiv 2601.19034; J. Chem. Theory Comput. 22, 4787 (2026).
    """

    model: Model
    mode: int
    cutoff: float  # Å
    dielectric: float  # square root of eps_inf

    periodic: ClassVar[bool] = True

    @classmethod
    def of(cls, f: NepFile) -> ChargedModel:
        """The model of a file."""
        return cls(model_of(f), int(f.kind[-1]), f.cutoffs[0][0], f.dielectric or 1.0)

    def contents(self) -> NepFile:
        """What its file says."""
        return replace(contents(self.model, f"charge{self.mode}"), dielectric=self.dielectric)

    def values(self, structure: Any) -> dict[str, Tensor]:
        """What is compared when it is written."""
        return vars(self(structure))

    def __call__(self, structures: Any) -> ChargedResult:
        """Evaluate structures that are periodic in three directions. Errors: DataError for others."""
        batch = structures if isinstance(structures, Batch) else self.model.prepare(structures)
        if not bool(batch.pbc.all()):
            raise DataError("Charges of a structure were to interact", "It is not periodic in three directions", "Give a periodic cell")
        positions = all_positions(batch)
        zero = torch.zeros(batch.atoms, dtype=torch.float64)
        bare = self.kernel(batch, self.model.flat, positions, {"seed": zero}).site["q"][: batch.atoms].clone()
        home = torch.repeat_interleave(torch.arange(batch.structures), batch.offsets.diff())
        counts = batch.offsets.diff().double()
        charges = bare - _sums(bare, home, batch.structures)[home] / counts[home]
        energy, by_x, by_strain, by_q = self.coulomb(batch, charges)
        by_q = by_q - _sums(by_q, home, batch.structures)[home] / counts[home]  # the mean was taken off the charges
        out = self.kernel(batch, self.model.flat, positions, {"seed": by_q})
        assert out.forces is not None
        site = _sums(out.site["e"][: batch.atoms], home, batch.structures)
        return ChargedResult(site + energy, fold(batch, out.forces) - by_x, virial(batch, positions, out.forces) - by_strain, bare, charges)

    @cached_property
    def kernel(self) -> Kernel:
        term = next(t for t in self.model.expression.terms() if hasattr(t, "charge_of_site"))
        charge = term.charge_of_site(Environment(self.model.species))  # type: ignore[attr-defined]
        return _kernel(self.model, "with_second", with_second(self.model.node, charge), (self.model.node, charge))

    def coulomb(self, batch: Batch, charges: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
        """E_C [S] and its derivatives by positions [N, 3], strain [S, 3, 3] and charges [N], by torch."""
        x, q = batch.positions.clone().requires_grad_(), charges.clone().requires_grad_()
        strain = torch.zeros(batch.structures, 3, 3, dtype=torch.float64, requires_grad=True)
        energy = torch.stack([self._one(batch, s, x, q, strain[s]) for s in range(batch.structures)])
        return energy.detach(), *torch.autograd.grad(energy.sum(), [x, strain, q])  # type: ignore[return-value]

    def _one(self, batch: Batch, s: int, x: Tensor, q: Tensor, strain: Tensor) -> Tensor:
        start, stop = batch.offsets[s : s + 2].tolist()
        here, charges, cell = x[start:stop], q[start:stop], batch.cells[s]
        alpha, stretched = math.pi / self.cutoff, cell + cell @ strain
        n = _reciprocal(cell, 2 * math.pi * alpha)  # [K, 3]
        k = 2 * math.pi * n @ torch.linalg.inv(stretched).T  # [K, 3]
        k2 = (k**2).sum(1)
        phase = (here + here @ strain) @ k.T  # [n, K]
        waves = (charges @ phase.cos()) ** 2 + (charges @ phase.sin()) ** 2
        volume = torch.linalg.det(stretched).abs()
        energy = COULOMB_OF_ENGINES * 2 * math.pi / volume * (torch.exp(-k2 / (4 * alpha**2)) / k2 * waves).sum()
        return energy if self.mode == 2 else energy + self._near(batch, start, stop, s, x, q, strain, alpha)

    def _near(self, batch: Batch, start: int, stop: int, s: int, x: Tensor, q: Tensor, strain: Tensor, alpha: float) -> Tensor:
        """The sum over close pairs and the self energy."""
        first = batch.first.long()
        entries = slice(int(first[start]), int(first[stop]))
        i = torch.repeat_interleave(torch.arange(start, stop), first.diff()[start:stop])
        sites = batch.index[entries].long()
        owner = batch.owner
        moved = all_positions(batch) - batch.positions[owner]  # images, [sites, 3]
        d = x[owner[sites]] + moved[sites] - x[i]
        d = d + d @ strain
        square = (d**2).sum(1)
        close = square.detach() < self.cutoff**2
        r = square[close].sqrt()
        pairs = q[i[close]] * q[owner[sites[close]]] * torch.erfc(alpha * r) / r
        return COULOMB_OF_ENGINES * (0.5 * pairs.sum() - alpha / math.sqrt(math.pi) * (q[start:stop] ** 2).sum())


def _reciprocal(cell: Tensor, largest: float) -> Tensor:
    """Integers n of the vectors 2 pi n B with 0 < |k| < largest, [K, 3]."""
    reach = [int(largest * float(cell[a].norm()) / (2 * math.pi)) for a in range(3)]
    grid = torch.cartesian_prod(*(torch.arange(-n, n + 1, dtype=torch.float64) for n in reach)).reshape(-1, 3)
    k2 = ((2 * math.pi * grid @ torch.linalg.inv(cell).T) ** 2).sum(1)
    return grid[(k2 > 1e-12) & (k2 < largest**2)]


@dataclass(frozen=True)
class DipoleModel(NepModel):
    """mu_a = -sum_i sum_j |r_ij|^2 dU_i/dr_ij,a for a network scalar U; the unit is that of the data it was trained on."""

    model: Model

    @classmethod
    def of(cls, f: NepFile) -> DipoleModel:
        """The model of a file."""
        return cls(model_of(f))

    def contents(self) -> NepFile:
        """What its file says."""
        return contents(self.model, "dipole")

    def values(self, structure: Any) -> dict[str, Tensor]:
        """What is compared when it is written."""
        return {"dipole moment": self(structure)}

    def __call__(self, structures: Any) -> Tensor:
        """Dipole moments [S, 3]."""
        batch = structures if isinstance(structures, Batch) else self.model.prepare(structures)
        return _totals(batch, self.kernel, self.model, AXES)

    @cached_property
    def kernel(self) -> Kernel:
        found = {}
        for axis, name in enumerate(AXES):

            def leaf(node: Node, axis: int = axis) -> Node:
                if node.op != "d" or node.data[1] != axis:
                    return ZERO
                (index,) = node.free
                return mul(-1.0, add(*(power(displacement(a, index), 2) for a in range(3))))  # type: ignore[arg-type]

            found[name] = Tangent(leaf)(self.model.node)
        return _kernel(self.model, "dipole", values(found), tuple(found.values()))


@dataclass(frozen=True)
class PolarizabilityModel(NepModel):
    """P = 1 sum_i U'_i + W, W_ab = -sum_i sum_j r_ij,a dU_i/dr_ij,b, for two network scalars U and U' on the same descriptors."""

    tensor: Model
    scalar: Model

    @classmethod
    def of(cls, f: NepFile) -> PolarizabilityModel:
        """The model of a file."""
        assert f.second is not None
        return cls(model_of(f), model_of(f, f.second))

    def contents(self) -> NepFile:
        """What its file says. Errors: AlgebraError for two networks on different descriptors."""
        first, second = (contents(m, "polarizability") for m in (self.tensor, self.scalar))
        alike = all(np.array_equal(getattr(first, name), getattr(second, name)) for name in ("radial", "angular", "scaler"))
        if not alike or first.network.weights.shape != second.network.weights.shape:
            found = "The descriptors of its two networks differ, and a file holds them once"
            raise AlgebraError(
                "A polarizability model was to be written", found, "Give both the same tables radial and angular, and scalers"
            )
        return replace(first, second=second.network)

    def values(self, structure: Any) -> dict[str, Tensor]:
        """What is compared when it is written."""
        return {"polarizability": self(structure)}

    def __call__(self, structures: Any) -> Tensor:
        """Polarizabilities [S, 3, 3]."""
        batch = structures if isinstance(structures, Batch) else self.tensor.prepare(structures)
        pairs = [(a, b) for a in range(3) for b in range(a, 3)]
        w = _totals(batch, self.kernel, self.tensor, [AXES[a] + AXES[b] for a, b in pairs])
        place = {frozenset(p): n for n, p in enumerate(pairs)}
        full = w[:, [place[frozenset((a, b))] for a in range(3) for b in range(3)]].reshape(-1, 3, 3)
        isotropic = _totals(batch, self.scalar.kernel("energies"), self.scalar, "e")
        return full + isotropic[:, :, None] * torch.eye(3, dtype=torch.float64)

    @cached_property
    def kernel(self) -> Kernel:
        found = {}
        for a in range(3):
            for b in range(a, 3):

                def leaf(node: Node, a: int = a, b: int = b) -> Node:
                    return mul(-1.0, displacement(a, next(iter(node.free)))) if node.op == "d" and node.data[1] == b else ZERO  # type: ignore[arg-type]

                found[AXES[a] + AXES[b]] = Tangent(leaf)(self.tensor.node)
        return _kernel(self.tensor, "polarizability", values(found), tuple(found.values()))


KINDS: dict[str, type[NepModel]] = {
    "charge1": ChargedModel,
    "charge2": ChargedModel,
    "dipole": DipoleModel,
    "polarizability": PolarizabilityModel,
}


def _kernel(model: Model, kind: str, program: Program, nodes: tuple[Node, ...]) -> Kernel:
    return remembered(kind, b"".join(n.key for n in nodes).hex(), lambda: program, model.layout)


def _totals(batch: Batch, kernel: Kernel, model: Model, names: Any) -> Tensor:
    """Sums of site values over each structure [S, names]."""
    site = kernel(batch, model.flat).site
    home = torch.repeat_interleave(torch.arange(batch.structures), batch.offsets.diff())
    return torch.stack([_sums(site[name][: batch.atoms], home, batch.structures) for name in names], dim=1)


def _sums(values_: Tensor, home: Tensor, structures: int) -> Tensor:
    return torch.zeros(structures, dtype=torch.float64).index_add_(0, home, values_)


__all__ = ["ChargedModel", "ChargedResult", "DipoleModel", "PolarizabilityModel", "read_any"]
