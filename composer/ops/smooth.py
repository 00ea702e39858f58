"""The smooth part of 1/r^p sums for batches of structures: sums over k, particle meshes, open structures and slabs, chosen for each."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import lru_cache, partial

import numpy as np
import torch
from torch import Tensor

from composer.errors import BackendError
from composer.ops.native import Call, split_values
from composer.ops.plain.form import Plain
from composer.ops.plain.layout import Layout
from composer.ops.plain.wire import Wire
from composer.ops.plan import Plan, plan
from composer.ops.sites import Moves, Sites, Values, by_groups
from composer.ops.splits import Gaussian, Split


@lru_cache(maxsize=256)
def _sizes(mesh: tuple[int, int, int]) -> Tensor:
    return torch.tensor(mesh)


@dataclass(frozen=True)
class Smooth:
    """phi_i = sum_j u_j V_LR(r_ij) over all images without i itself; see `composer.ops.splits` for V_LR.

    `split` divides 1/r^p; `accuracy` is the force error relative to that of a melt; `method` is "auto", "ewald" or "mesh";
    `order` and `mesh` fix a mesh by hand.
    """

    split: Split
    accuracy: float
    method: str = "auto"
    order: int | None = None
    mesh: tuple[int, int, int] | None = None

    def __call__(self, sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        parts = [(members, partial(self.run, chosen)) for chosen, members in self.groups(sites)]
        return by_groups(parts, sites, u, moves, slopes)

    def groups(self, sites: Sites) -> list[tuple[str | Plan, list[int]]]:
        """Structures that are summed in one way: "open", "wire", "slab" or a plan; those of one plan may differ in size."""
        found: dict[str | Plan, list[int]] = {}
        sizes, periodic = sites.offsets.diff().tolist(), sites.pbc.sum(1).tolist()
        for s in range(sites.structures):
            chosen = ("open", "wire", "slab", "")[periodic[s]]
            found.setdefault(chosen or replace(self.plan(sites.h[s], sizes[s]), cost=0.0), []).append(s)
        return list(found.items())

    def plan(self, cell: Tensor, atoms: int) -> Plan:
        """How the sum over k of one structure is done; a function of its cell and size alone."""
        rows = tuple(map(tuple, cell.tolist()))
        return plan(rows, atoms, self.split, self.accuracy, self.method, self.order, self.mesh)

    def words(self, sites: Sites, s: int) -> str:
        """How the sum is done for the structure s."""
        match int(sites.pbc[s].sum()):
            case 0:
                return "all pairs"
            case 1:
                return "all pairs across the wire, waves along it"
            case 3:
                atoms = int(sites.offsets[s + 1] - sites.offsets[s])
                chosen = self.plan(sites.h[s], atoms)
                if chosen.method == "ewald":
                    return f"k to {chosen.cutoff:.3g}/Å"
                needed = replace(self, method="mesh", order=chosen.order, mesh=None).plan(sites.h[s], atoms).mesh
                short = any(n < least for n, least in zip(chosen.mesh, needed, strict=True))
                return f"mesh {chosen.mesh}, order {chosen.order}" + (f", coarser than {needed} of this accuracy" if short else "")
        return "in a tall cell, without its images"

    def run(
        self, chosen: str | Plan, sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True
    ) -> tuple[Values, Values | None]:
        """Structures of one of `groups`."""
        if chosen == "open":
            return self.call(sites, u, moves, slopes).run("direct")
        if chosen == "wire":
            wire = Wire.of(Layout.of(sites, sites.x.device, torch.float64), self.gaussian(), sites)
            return Plain(wire)(sites, u, moves, slopes)
        if isinstance(chosen, str):
            return self.slabs(sites, u, moves, slopes)
        if chosen.method == "ewald":
            return self.call(sites, u, moves, slopes, chosen.cutoff).run("ewald")
        one = partial(self.on_mesh, chosen)
        return by_groups([([s], one) for s in range(sites.structures)], sites, u, moves, slopes)

    def gaussian(self) -> Gaussian:
        """The split, as wires want it."""
        if isinstance(self.split, Gaussian) and self.split.p >= 1:
            return self.split
        raise BackendError(
            f"The sum of 1/r^{self.split.p:g} over a wire was asked for, {self.split.words()}",
            "Wires (one periodic direction) are known for p >= 1 and the Gaussian split",
            "Give the cell more periodic directions with enough vacuum, or leave the split out",
        )

    def call(self, sites: Sites, u: Tensor, moves: Moves | None, slopes: bool, cutoff: float = 0.0, order: int = 0) -> Call:
        return Call(self.split, sites, u, moves, slopes, cutoff, order)

    def on_mesh(self, chosen: Plan, sites: Sites, u: Tensor, moves: Moves | None, slopes: bool) -> tuple[Values, Values | None]:
        """Spread, transform, weigh, transform back, gather: two transforms, two more for a derivative along moves."""
        call, size = self.call(sites, u, moves, slopes, order=chosen.order), chosen.mesh
        meshes, strains = (("mesh",), ("strain",)) if moves is None else (("mesh", "meshd"), ("strain", "straind"))
        call.point(size=_sizes(size), **{n: torch.zeros(size, dtype=torch.float64) for n in meshes})
        call.point(**{n: torch.zeros(3, 3, dtype=torch.float64) for n in strains})
        call.run("mesh_spread")
        call.point(**{n: torch.view_as_real(torch.fft.rfftn(call.tensors[n])) for n in meshes})
        call.run("mesh_influence")
        back = {n: torch.view_as_complex(call.tensors[n]) for n in meshes}
        call.point(**{n: torch.fft.irfftn(spectrum, s=size, norm="forward") for n, spectrum in back.items()})
        return call.run("mesh_gather")

    def slabs(self, sites: Sites, u: Tensor, moves: Moves | None, slopes: bool) -> tuple[Values, Values | None]:
        """Sums in tall cells, corrected for the images above and below on the line of k normal to the slab.

        In closed form for p = 1 (Yeh and Berkowitz, J. Chem. Phys. 111, 3155 (1999), with the terms of a net charge); else the sum over that line is
        replaced by the integral, of which it is a coarse quadrature.
        """
        open_, heights, lines = self.tall(sites)
        tall = Sites(sites.x, sites.h.clone(), sites.pbc | True, sites.offsets)
        moved = None if moves is None else Moves(moves.x, moves.h.clone(), moves.u)
        cell = self.call(tall, u, moved, slopes)
        counts = torch.tensor([0, *(len(k) for k, _ in lines)]).cumsum(0)
        nodes, weights = (torch.cat(parts) for parts in zip(*lines, strict=True))
        shape = {"open": open_, "length": heights, "nodes": nodes, "weights": weights, "lines": counts}
        cell.point(**shape)
        cell.run("slab_cell")
        values, along = self(tall, u, moved, slopes)
        call = self.call(sites, u, moves, slopes)
        call.point(**shape)
        return call.run("slab", values, along)

    def tall(self, sites: Sites) -> tuple[Tensor, Tensor, list[tuple[Tensor, Tensor]]]:
        """The open axis of slabs [S], the heights of their tall cells (Å) [S], and the lines of k of each."""
        if self.split.p != 1 and not self.split.p > 3:
            raise BackendError(
                f"The sum of 1/r^{self.split.p:g} over a slab was asked for",
                "Slabs (two periodic directions) are known for p = 1 and p > 3",
                "Give the cell a third periodic direction with enough vacuum",
            )
        open_ = (~sites.pbc).int().argmax(1)
        heights = [self.height(sites, s, int(open_[s])) for s in range(sites.structures)]
        return open_, torch.tensor(heights, dtype=torch.float64), [self.line(height) for height in heights]

    def line(self, height: float) -> tuple[Tensor, Tensor]:
        """Nodes k (1/Å) and weights that turn the sum over k = 2 pi n/height into the integral over k; none for p = 1."""
        if self.split.p == 1:
            return torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.float64)
        most = math.sqrt(2 * math.log(1e3 / self.accuracy)) / self.split.width
        x, w = np.polynomial.legendre.leggauss(60 + math.ceil(most * height / 2))
        k = 2 * math.pi / height * np.arange(1, math.floor(1.5 * most * height / (2 * math.pi)) + 1)
        at = np.concatenate([[0.0], k, most * (x + 1) / 2])
        rule = np.concatenate([[-1 / height], np.full(len(k), -2 / height), w * most / (2 * math.pi)])
        level = np.concatenate([[self.split.background], split_values(self.split, 2, at[1:])])
        return torch.from_numpy(at), torch.from_numpy(rule * level)

    def height(self, sites: Sites, s: int, open_: int) -> float:
        """Height of the tall cell (Å): above the slab, the field of images has died to the accuracy."""
        a, b = sites.h[s, (open_ + 1) % 3], sites.h[s, (open_ + 2) % 3]
        normal = torch.linalg.cross(a, b)
        normal = normal / normal.norm()
        z = sites.x[sites.offsets[s] : sites.offsets[s + 1]] @ normal
        thick = float(z.max() - z.min()) if len(z) else 0.0
        widest = max(float(a.norm()), float(b.norm()))
        gap = max(widest * math.log(10 / self.accuracy) / (2 * math.pi), self.split.reach)
        step = widest / 4  # in steps, so that a vibrating slab keeps its cell
        return math.ceil((thick + gap) / step + 0.5) * step
