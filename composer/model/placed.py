"""The kernels of a model on a batch, as functions of positions, cells and numbers: what automatic differentiation stands on."""

from __future__ import annotations

import itertools
import weakref
from collections.abc import Mapping
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from composer.model.structures import matrices, whole
from composer.neighbors import Batch
from composer.opaque import or_zeros
from composer.runtime.cuda_batch import DeviceBatch
from composer.runtime.cuda_kernel import Buffers, CudaKernel

if TYPE_CHECKING:
    from composer.model.device import DeviceModel
    from composer.model.model import Model


class Placed:
    """A model and a batch with full neighbour rows, known by a number as long as both are in use.

    x are positions of all sites [M, 3], h cells [S, 3, 3], p all numbers [P all]; F and G are minus the slopes of the energy by x and by h at
    fixed x. Cells at fixed sites matter to global operations alone; without one G is zero.
    """

    known: weakref.WeakValueDictionary[int, Placed] = weakref.WeakValueDictionary()
    counter = itertools.count()

    def __init__(self, model: Model, batch: Batch) -> None:
        self.kernel, self.batch = model.kernel, whole(batch)
        sizes, ghosts = self.batch.offsets.diff(), self.batch.ghost_offsets.diff()
        structures = torch.arange(batch.structures)
        self.home = torch.cat([structures.repeat_interleave(sizes), structures.repeat_interleave(ghosts)])  # [M]
        self.owner = self.batch.ghost_owner.long()  # [ghosts]
        self.register(model)

    def register(self, model: Model) -> None:
        """Take a number, and say where the free ones of all numbers stand [P]."""
        self.free = model.free.nonzero().flatten().to(self.home.device)
        self.number = next(self.counter)
        self.known[self.number] = self

    def evaluate(self, x: Tensor, h: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Energies of atoms [N], F and G."""
        out = self.kernel("forces")(self.batch, p, x, cells=h)
        assert out.forces is not None
        return out.site["e"][: self.batch.atoms].clone(), out.forces, or_zeros(out.cells, h)

    def gradient(self, x: Tensor, h: Tensor, p: Tensor, seed: Tensor, w: Tensor, v: Tensor, by_x: bool) -> tuple[Tensor, Tensor, Tensor]:
        """Slopes of sum_i seed_i e_i - w . F - v . G by x, h (zero unless `by_x`) and p."""
        inputs = {"seed": seed, "seed_t": torch.ones_like(seed)}
        by_p = self.kernel("gradient")(self.batch, p, x, inputs, moves=w, cells=h, cell_moves=v).gradient
        assert by_p is not None
        if not by_x:
            return torch.zeros_like(x), torch.zeros_like(h), by_p
        still = torch.zeros_like(p)
        out = self.kernel("tangent")(self.batch, p, x, {"seed": seed}, tangents=still, moves=w, cells=h, cell_moves=v)
        assert out.forces is not None
        return -out.forces, -or_zeros(out.cells, h), by_p

    def tangent(self, x: Tensor, h: Tensor, p: Tensor, dx: Tensor, dh: Tensor, dp: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives of energies, F and G along dx, dh and dp."""
        out = self.kernel("tangent")(self.batch, p, x, tangents=dp, moves=dx, cells=h, cell_moves=dh)
        assert out.forces is not None
        return out.site["e_t"][: self.batch.atoms].clone(), out.forces, or_zeros(out.cells, h)


class DevicePlaced(Placed):
    """The same on a device. Its sites are the atoms: x are positions [N, 3], and images move with the cells h at fixed x."""

    def __init__(self, model: DeviceModel, batch: DeviceBatch) -> None:
        self.model, self.kernel, self.batch = model, model.kernel, batch  # type: ignore[assignment]
        self.home, self.owner = batch.home.long(), batch.home.new_empty(0).long()
        self.images = batch.owner.long(), batch.shift.to(torch.float64), self.home[batch.owner.long()]  # [M], [M, 3], [M]
        self.register(model)

    def evaluate(self, x: Tensor, h: Tensor, p: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        batch, kernel, out = self._run("forces", x, h, p, {})
        forces = kernel.forces(out)
        virial = matrices(kernel.virials(batch, out))
        return kernel.site(out, "e").clone(), forces, self._by_cells(h, virial - self._outer(x, forces))

    def gradient(self, x: Tensor, h: Tensor, p: Tensor, seed: Tensor, w: Tensor, v: Tensor, by_x: bool) -> tuple[Tensor, Tensor, Tensor]:
        out = self._run("gradient", x, h, p, {"seed": seed, "seed_t": 1.0}, moves=(w, v))[2]
        by_p = out.gradient.sum(1)
        if not by_x:
            return torch.zeros_like(x), torch.zeros_like(h), by_p
        _, forces, cells = self._along(x, h, torch.zeros_like(p), p, w, v, seed)
        return -forces, -cells, by_p

    def tangent(self, x: Tensor, h: Tensor, p: Tensor, dx: Tensor, dh: Tensor, dp: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self._along(x, h, dp, p, dx, dh, 0.0)

    def _along(
        self, x: Tensor, h: Tensor, dp: Tensor, p: Tensor, w: Tensor, v: Tensor, seed: Tensor | float
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Derivatives of energies along (w, v, dp), and minus the slopes of these and of sum_i seed_i e_i by x and h.

        Kernels give the upper half of M = x (outer) dF + h^T dG. It is not symmetric, but turning all of x, h, w and v changes nothing, so
        M + w (outer) F + v^T G is.
        """
        batch, kernel, out = self._run("tangent", x, h, p, {"seed": seed}, dp, (w, v))
        _, pulls, cell_pulls = self.evaluate(x, h, p)
        turned = self._outer(w, pulls) + v.mT @ cell_pulls
        half = matrices(kernel.virials(batch, out))
        forces = kernel.forces(out)
        whole_ = half + torch.tril(turned.mT - turned, -1)
        return kernel.site(out, "e_t").clone(), forces, self._by_cells(h, whole_ - self._outer(x, forces))

    def _run(
        self,
        kind: str,
        x: Tensor,
        h: Tensor,
        p: Tensor,
        inputs: Mapping[str, Tensor | float],
        tangents: Tensor | None = None,
        moves: tuple[Tensor, Tensor] | None = None,
    ) -> tuple[DeviceBatch, CudaKernel, Buffers]:
        batch, kernel = self.batch.moved_to(x, h), self.model.kernel(kind)
        buffers, real = kernel.buffers(batch), kernel.real
        kernel.give(buffers, inputs)
        sites = None if moves is None else self._moves(*moves)
        cell_moves = None if moves is None else moves[1]
        kernel.run(batch, buffers, (p.to(real), p), None if tangents is None else tangents.to(real), sites, cell_moves)
        return batch, kernel, buffers

    def _moves(self, w: Tensor, v: Tensor) -> Tensor:
        """Motions of all sites [M, 3] where atoms move by w and cells by v."""
        owner, shift, home = self.images
        return (w[owner] + torch.einsum("sa,sab->sb", shift, v[home])).contiguous()

    def _outer(self, a: Tensor, b: Tensor) -> Tensor:
        """Sums of a (outer) b over the atoms of each structure [S, 3, 3]."""
        return self.batch.by_structure(a[:, :, None] * b[:, None, :])

    def _by_cells(self, h: Tensor, left: Tensor) -> Tensor:
        """G of h^T G = left [S, 3, 3], zero along vectors that are not periodic."""
        periodic = h * self.batch.pbc[:, :, None]
        gram = periodic @ periodic.mT + torch.diag_embed((~self.batch.pbc).to(h))
        return torch.linalg.inv_ex(gram).inverse @ periodic @ left


__all__ = ["DevicePlaced", "Placed"]
