"""How 1/r^p is summed for given structures: chosen from an accuracy, with the neighbours found, ready for calls."""

from __future__ import annotations

import dataclasses
import warnings
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.forward_ad import unpack_dual

from composer.errors import DataError
from composer.longrange.arguments import check, read_sites, volume_cell
from composer.longrange.derivatives import (
    Known,
    Potential,
    PotentialAndSlopes,
    PotentialAndSlopesBothWays,
    PotentialBothWays,
    potential_and_slopes,
)
from composer.ops import sites as forms
from composer.ops.plain.form import Plain
from composer.ops.plain.forms import plain as in_torch
from composer.ops.plain.forms import precision
from composer.ops.plan import best
from composer.ops.short import AllPairs, Excluded, Short, Together, neighbors
from composer.ops.sites import Form, Moves, Sites, Values
from composer.ops.smooth import Smooth

F64 = torch.float64


class NetCharge(UserWarning):
    """A structure whose charges do not sum to zero was given a neutralising background."""


class Evaluated(NamedTuple):
    """What `Sum.evaluate` gives, in units of charge^2/Å^p and Å."""

    energy: Tensor  # [S], sum_i q_i phi_i / 2
    forces: Tensor  # [N, 3]
    virial: Tensor  # [S, 3, 3], -dE/dstrain = -V stress
    potentials: Tensor  # [N]


def potential(
    positions: Tensor,
    charges: Tensor,
    cell: Tensor | None = None,
    p: float = 1.0,
    method: str = "auto",
    accuracy: float = 1e-6,
    **options: Any,
) -> Tensor:
    """phi_i = sum_j q_j / |r_ij|^p over all other ions and all images (tin-foil boundary), by torch.autograd in everything twice.

    Arguments: positions [N, 3] (Å); charges [N] or [N, C], C channels; cell [3, 3] (Å, vectors in rows) or None for open space; p > 0; method
    "auto", "direct" (open space), "ewald" or "mesh"; accuracy, r.m.s. force error relative to that of a melt of the same charges;
    options of `prepare`.
    Returns: phi like the charges, charge/Å^p. dE/dq_i = phi_i for E = sum_i q_i phi_i / 2.
    Errors: DataError for shapes, numbers that are not finite, cells without volume, atoms on top of each other.
    """
    sums = prepare(positions, cell, p, method, accuracy, **options)
    if not forms.readable(charges) and sums.net == "warn":
        sums.neutral(charges.detach())  # here the host waits anyway
    return sums.potential(positions, charges, cell)


def prepare(
    positions: Tensor,
    cell: Tensor | None = None,
    p: float = 1.0,
    method: str = "auto",
    accuracy: float = 1e-6,
    *,
    periodic: Any = None,
    offsets: Tensor | None = None,
    excluded: Sequence[tuple[int, int]] = (),
    cutoff: float | None = None,
    sigma: float | None = None,
    order: int | None = None,
    mesh: tuple[int, int, int] | None = None,
    split: str = "auto",
    skin: float = 0.0,
    net: str = "warn",
    plain: bool | None = None,
) -> Sum:
    """Choose how to sum and find the neighbours, for calls at these positions or nearby (within half the skin).

    Arguments: as `potential`; periodic, three flags (one set or one for each structure), all by default if there is a cell; offsets [S + 1]
    for S structures one after the other, cells then [S, 3, 3]; excluded, pairs of atoms of one structure whose nearest images do not
    interact (bonded atoms); cutoff and sigma (Å), order, mesh and split ("gaussian" or "prolate") to fix these by hand; skin (Å) of the list; net "warn", "background" or
    "refuse", what to do with a net charge.
    plain, sums in plain torch instead of compiled kernels, by default on every device but the CPU: calls then wait for nothing, and in float32 for
    float32 positions and accuracies from 1e-5.
    Returns: a Sum for tensors on the device of the positions.
    """
    sites = read_sites(positions, cell, periodic, offsets)
    check(sites, p, method, accuracy, split, net, positions)
    parts: list[tuple[list[int], Form]] = []
    groups: dict[tuple, list[int]] = {}
    for s in range(sites.structures):
        atoms = int(sites.offsets[s + 1] - sites.offsets[s])
        open_ = not bool(sites.pbc[s].any())
        if method == "direct" and not open_:
            raise DataError(
                "A direct sum over a periodic structure was asked for", "It does not converge", 'Write method="auto", or leave the cell out'
            )
        rows = tuple(map(tuple, volume_cell(sites, s).tolist()))
        known = "gaussian" if int(sites.pbc[s].sum()) == 1 else split  # of wires
        key = () if open_ else best(rows, atoms, p, accuracy, method, cutoff, sigma, order, mesh, known)
        groups.setdefault(key, []).append(s)
    for key, members in groups.items():
        if not key:
            parts.append((members, AllPairs(p)))
            continue
        smooth = Smooth(key[1], accuracy, "auto" if method == "direct" else method, order, mesh)
        short = Short(key[1], key[0], neighbors(sites.part(members), key[0], skin))
        parts.append((members, Together(((1.0, short), (1.0, smooth)))))
    if len(excluded):
        sites = dataclasses.replace(sites, excluded=torch.as_tensor(excluded, dtype=torch.int64))
        parts = [(m, Together(((1.0, f), (-1.0, Excluded(p))))) for m, f in parts]
    device, function = positions.device, None
    if device.type != "cpu" if plain is None else plain:
        function = in_torch(parts, sites, device, precision(positions.dtype == torch.float32, accuracy))
    return Sum(sites, p, accuracy, net, parts, device, function)


class Sum(Known):
    """A way to sum, ready for calls; immutable."""

    def __init__(
        self,
        sites: Sites,
        p: float,
        accuracy: float,
        net: str,
        parts: list[tuple[list[int], Form]],
        device: torch.device,
        plain: Plain | None,
    ) -> None:
        super().__init__(sites)
        self.p, self.accuracy, self.net, self.parts, self.device, self.plain = p, accuracy, net, parts, device, plain
        self.cells, self.home = sites.h.to(device), forms.home(sites.offsets).to(device)

    def potential(self, positions: Tensor, charges: Tensor, cell: Tensor | None = None) -> Tensor:
        """phi as of `composer.longrange.potential`, at other positions, charges and cells."""
        x, h, q = self.given(positions, charges, cell)
        function = Potential if torch.compiler.is_compiling() else PotentialBothWays
        real = charges.dtype if charges.dtype.is_floating_point else F64
        if q.dim() == 1:
            return function.apply(x, h, q, self.number).to(real)
        return torch.stack([function.apply(x, h, c, self.number) for c in q.T], 1).to(real)

    def evaluate(self, positions: Tensor, charges: Tensor, cell: Tensor | None = None) -> Evaluated:
        """Energy, forces, virial and potentials at once; charges [N]. One sum, and one more for derivatives of forces by charges."""
        x, h, q = self.given(positions, charges, cell)
        phi, by_x, by_h = self._with_slopes(x.contiguous(), h.contiguous(), q.contiguous())
        if self.sites.structures == 1:
            virial = torch.addmm(h[0].T @ by_h[0], x.T, by_x, beta=-0.5, alpha=-0.5)
            return Evaluated((q @ phi)[None] / 2, by_x * -0.5, virial[None], phi)
        energy = phi.new_zeros(self.sites.structures).index_add(0, self.home, q * phi)
        moments = torch.zeros_like(h).index_add(0, self.home, x[:, :, None] * by_x[:, None, :])
        return Evaluated(energy / 2, by_x * -0.5, (moments + h.transpose(1, 2) @ by_h) * -0.5, phi)

    def _with_slopes(self, *given: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """phi and slopes of u A u, differentiable where somebody asks for it."""
        if torch.compiler.is_compiling():
            return PotentialAndSlopes.apply(*given, self.number)
        if any(t.requires_grad or unpack_dual(t).tangent is not None for t in given):
            return PotentialAndSlopesBothWays.apply(*given, self.number)
        return potential_and_slopes(*given, self.number)

    def __call__(self, sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        """The form u A u, see `composer.ops.sites.Form`."""
        if self.plain is not None:
            return self.plain(sites, u, moves, slopes)
        return forms.by_groups(self.parts, sites, u, moves, slopes)

    def fixed(self, sites: Sites) -> Form:
        """The same for many charges on these sites as they stand."""
        return self if self.plain is None else self.plain.fixed(sites)

    def describe(self) -> str:
        """How each group of structures is summed."""
        lines = [f"1/r^{self.p:g}, relative force error {self.accuracy:g}"]
        for members, form in self.parts:
            lines.append(f"  {len(members)} structures: {_words(form, self.sites, members[0])}")
        return "\n".join(lines)

    def given(self, positions: Tensor, charges: Tensor, cell: Tensor | None, check: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        count, s = len(self.sites.x), self.sites.structures
        if tuple(positions.shape) != (count, 3) or charges.dim() not in (1, 2) or len(charges) != count:
            raise DataError(
                f"A long-range sum over {count} atoms was asked for",
                f"Positions have the shape {list(positions.shape)}, charges {list(charges.shape)}",
                f"Pass [{count}, 3] and [{count}] or [{count}, channels]",
            )
        if any(t.device != self.device for t in (positions, charges, self.cells if cell is None else cell)):
            raise DataError(
                f"A sum that was prepared on {self.device} was called",
                f"Positions are on {positions.device}, charges on {charges.device}" + ("" if cell is None else f", cells on {cell.device}"),
                "Bring all of them to one device, and prepare the sum there",
            )
        h = self.cells if cell is None else cell.to(F64).reshape(s, 3, 3)
        look = self.net == "refuse" or (self.net == "warn" and forms.readable(charges))
        if check and look and not torch.compiler.is_compiling():
            self.neutral(charges.detach())
        return positions.to(F64), h, charges.to(F64)

    def neutral(self, q: Tensor) -> None:
        """Say or refuse, as `net` asks, that charges [N] or [N, C] do not sum to zero; on a device the host waits for them."""
        if self.sites.structures == 1 and q.dim() == 1 and (not (net := abs(float(q.sum()))) or net <= 1e-7 * float(q.abs().sum())):
            return
        s = self.sites.structures
        q = (q if q.dim() == 2 else q[:, None]).to(F64)
        total, scale = (q.new_zeros(s, q.shape[1]).index_add_(0, self.home, t) for t in (q, q.abs()))
        bad = ((total.abs() > 1e-7 * scale).any(1).cpu() & self.sites.pbc.any(1)).nonzero().flatten().tolist()
        if not bad or self.p >= 3:
            return
        found = f"The charges of structure {bad[0]} sum to {total[bad[0]].tolist()}"
        if self.net == "refuse":
            raise DataError("A long-range sum over neutral structures was asked for", found, 'Neutralise them, or write net="background"')
        wire = int(self.sites.pbc[bad[0]].sum()) == 1
        done = "the zero of potential is put 1 Å from the wire" if wire else "a uniform background neutralises them"
        warnings.warn(f"{found}; {done}. Write net='background' to say that this is meant.", NetCharge, 4)


def _words(form: Form, sites: Sites, s: int) -> str:
    """How a form is summed, for the structure s."""
    if isinstance(form, AllPairs):
        return "all pairs, no cutoff"
    if not isinstance(form, Together):
        return ""
    words = [_words(part, sites, s) for w, part in form.parts if w > 0]  # nested sums
    for part in form.parts:
        if isinstance(part[1], Short) and part[0] > 0:
            words.append(f"pairs to {part[1].cutoff:.3g} Å, {part[1].split.words()}")
        if isinstance(part[1], Smooth):
            words.append(part[1].words(sites, s))
    return ", ".join(w for w in words if w)
