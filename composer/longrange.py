"""Long-range sums for any torch model: phi_i = sum_j q_j / r_ij^p over all periodic images, differentiable twice.

    phi = composer.longrange.potential(positions, charges, cell)     charge/Å^p; the energy is COULOMB * (charges * phi).sum() / 2

Four numbers make a sum: a width and a cutoff in real space, and either a cutoff in k space or a mesh. `prepare` chooses them from the accuracy
and keeps the neighbour list, for many calls at nearby positions.
"""

from __future__ import annotations

import itertools
import math
import warnings
import weakref
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from composer.errors import DataError
from composer.ops import sites as forms
from composer.ops.equilibrate import Solved, solve
from composer.ops.plan import best
from composer.ops.short import AllPairs, Short, Together, chosen, neighbors
from composer.ops.sites import Form, Moves, Sites, Values
from composer.ops.smooth import Smooth
from composer.units import COULOMB

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
    return prepare(positions, cell, p, method, accuracy, **options).potential(positions, charges, cell)


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
    skin: float = 0.0,
    net: str = "warn",
) -> Sum:
    """Choose how to sum and find the neighbours, for calls at these positions or nearby (within half the skin).

    Arguments: as `potential`; periodic, three flags (one set or one for each structure), all by default if there is a cell; offsets [S + 1]
    for S structures one after the other, cells then [S, 3, 3]; excluded, pairs of atoms of one structure whose nearest images do not
    interact (bonded atoms); cutoff and sigma (Å), order and mesh to fix these by hand; skin (Å) of the list; net "warn", "background" or
    "refuse", what to do with a net charge.
    Returns: a Sum.
    """
    sites = _sites(positions, cell, periodic, offsets)
    _check(sites, p, method, accuracy, net, positions)
    parts: list[tuple[list[int], Form]] = []
    groups: dict[tuple, list[int]] = {}
    for s in range(sites.structures):
        atoms = int(sites.offsets[s + 1] - sites.offsets[s])
        open_ = not bool(sites.pbc[s].any())
        if method == "direct" and not open_:
            raise DataError(
                "A direct sum over a periodic structure was asked for", "It does not converge", 'Write method="auto", or leave the cell out'
            )
        key = (
            ()
            if open_
            else best(tuple(map(tuple, _volume_cell(sites, s).tolist())), atoms, p, accuracy, method, cutoff, sigma, order, mesh)
        )
        groups.setdefault(key, []).append(s)
    for key, members in groups.items():
        if not key:
            parts.append((members, AllPairs(p)))
            continue
        smooth = Smooth(p, key[1], accuracy, "auto" if method == "direct" else method, order, mesh)
        part = _part(sites, members)
        parts.append((members, Together(((1.0, Short(p, key[1], key[0], neighbors(part, key[0], skin))), (1.0, smooth)))))
    if excluded:
        parts = [(m, Together(((1.0, f), (-1.0, Short(p, 0.0, math.inf, chosen(sites, excluded)))))) for m, f in parts]
    return Sum(sites, p, accuracy, net, parts)


class Sum:
    """A way to sum, ready for calls; immutable."""

    known: weakref.WeakValueDictionary[int, Sum] = weakref.WeakValueDictionary()
    numbers = itertools.count()

    def __init__(self, sites: Sites, p: float, accuracy: float, net: str, parts: list[tuple[list[int], Form]]) -> None:
        self.sites, self.p, self.accuracy, self.net, self.parts = sites, p, accuracy, net, parts
        self.number = next(self.numbers)
        self.known[self.number] = self

    def potential(self, positions: Tensor, charges: Tensor, cell: Tensor | None = None) -> Tensor:
        """phi as of `composer.longrange.potential`, at other positions, charges and cells."""
        x, h, q = self._given(positions, charges, cell)
        function = _Potential if torch.compiler.is_compiling() else _PotentialBothWays
        if q.dim() == 1:
            return function.apply(x, h, q, self.number).to(charges.dtype)
        return torch.stack([function.apply(x, h, c, self.number) for c in q.T], 1).to(charges.dtype)

    def evaluate(self, positions: Tensor, charges: Tensor, cell: Tensor | None = None) -> Evaluated:
        """Energy, forces, virial and potentials at once; charges [N]. One sum, and one more for derivatives of forces by charges."""
        x, h, q = self._given(positions, charges, cell)
        function = _Evaluated if any(t.requires_grad for t in (x, h, q)) else None
        given = (x.contiguous(), h.contiguous(), q.contiguous())
        phi, by_x, by_h = _evaluated(*given, self.number) if function is None else function.apply(*given, self.number)
        place, many = forms.home(self.sites.offsets), self.sites.structures > 1
        site, moments = q * phi / 2, (x[:, :, None] * by_x[:, None, :] if many else (x.T @ by_x)[None])
        energy = torch.zeros(self.sites.structures, dtype=F64).index_add(0, place, site) if many else site.sum()[None]
        virial = (torch.zeros_like(h).index_add(0, place, moments) if many else moments) + h.transpose(1, 2) @ by_h
        return Evaluated(energy, -by_x / 2, -virial / 2, phi)

    def __call__(self, sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        """The form u A u, see `composer.ops.sites.Form`."""
        if len(self.parts) == 1:
            return self.parts[0][1](sites, u, moves, slopes)
        empty = (torch.zeros_like(u), torch.zeros_like(sites.x), torch.zeros_like(sites.h))
        totals = [Values(*(e.clone() for e in empty)) for _ in range(2)]
        for members, form in self.parts:
            atoms, part = sites.atoms_of(members), _part(sites, members)
            moved = None if moves is None else Moves(moves.x[atoms], moves.h[members], moves.u[atoms])
            for total, new in zip(totals, form(part, u[atoms], moved, slopes)):
                if new is not None:
                    total.phi[atoms], total.x[atoms], total.h[members] = new.phi, new.x, new.h
        return totals[0], None if moves is None else totals[1]

    def describe(self) -> str:
        """How each group of structures is summed."""
        lines = [f"1/r^{self.p:g}, relative force error {self.accuracy:g}"]
        for members, form in self.parts:
            lines.append(f"  {len(members)} structures: {_words(form, self.sites, members[0])}")
        return "\n".join(lines)

    def _given(self, positions: Tensor, charges: Tensor, cell: Tensor | None, check: bool = True) -> tuple[Tensor, Tensor, Tensor]:
        count, s = len(self.sites.x), self.sites.structures
        if tuple(positions.shape) != (count, 3) or charges.dim() not in (1, 2) or len(charges) != count:
            raise DataError(
                f"A long-range sum over {count} atoms was asked for",
                f"Positions have the shape {list(positions.shape)}, charges {list(charges.shape)}",
                f"Pass [{count}, 3] and [{count}] or [{count}, channels]",
            )
        h = self.sites.h if cell is None else cell.to(F64).reshape(s, 3, 3)
        if check and self.net != "background":
            self._neutral(charges.detach())
        return positions.to(F64), h, charges.to(F64)

    def _neutral(self, q: Tensor) -> None:
        if self.sites.structures == 1 and q.dim() == 1 and abs(float(q.sum())) <= 1e-7 * float(q.abs().sum()):
            return
        place, s = forms.home(self.sites.offsets), self.sites.structures
        q = (q if q.dim() == 2 else q[:, None]).to(F64)
        total, scale = (torch.zeros(s, q.shape[1], dtype=F64).index_add_(0, place, t) for t in (q, q.abs()))
        bad = ((total.abs() > 1e-7 * scale).any(1) & self.sites.pbc.any(1)).nonzero().flatten().tolist()
        if not bad or self.p >= 3:
            return
        found = f"The charges of structure {bad[0]} sum to {total[bad[0]].tolist()}"
        if self.net == "refuse":
            raise DataError("A long-range sum over neutral structures was asked for", found, 'Neutralise them, or write net="background"')
        warnings.warn(f"{found}; a uniform background neutralises them. Write net='background' to say that this is meant.", NetCharge, 4)


class Equilibrated(NamedTuple):
    """Charges of least energy."""

    charges: Tensor  # e [N]
    energy: Tensor  # eV [S]
    iterations: int  # products with the Coulomb matrix


def equilibrate(
    sums: Sum,
    positions: Tensor,
    electronegativity: Tensor,
    hardness: Tensor,
    cell: Tensor | None = None,
    total: Tensor | float = 0.0,
    tolerance: float = 1e-12,
) -> Equilibrated:
    """The minimum of E(q) = sum_i chi_i q_i + eta_i q_i^2 / 2 + k q_i phi_i / 2 under sum q = total, k = 14.3996 eV Å/e^2.

    Arguments: sums, from `prepare`; positions [N, 3] (Å); electronegativity chi (eV/e) and hardness eta (eV/e^2), [N]; cell; total charge
    of each structure (e); tolerance of the residual.
    Returns: charges and energy, with first derivatives of both by all tensors (at the minimum forces need no derivative of q); iterations.
    Errors: DataError where the energy has no minimum. Source: A. K. Rappe and W. A. Goddard, J. Phys. Chem. 95, 3358 (1991).
    """
    x, h, chi = sums._given(positions, electronegativity, cell, check=False)
    wanted = torch.as_tensor(total, dtype=F64).expand(sums.sites.structures)
    q, _, iterations = _Equilibrated.apply(x, h, chi, hardness.to(F64), wanted, sums, COULOMB, tolerance)
    phi = _PotentialBothWays.apply(x, h, q, sums.number)
    site = chi * q + hardness.to(F64) * q**2 / 2 + COULOMB * q * phi / 2
    return Equilibrated(q, torch.zeros(sums.sites.structures, dtype=F64).index_add(0, forms.home(sums.sites.offsets), site), iterations)


# ---- reading the arguments ---------------------------------------------------------------------------------------------------------


def _sites(positions: Tensor, cell: Tensor | None, periodic: Any, offsets: Tensor | None) -> Sites:
    if positions.dim() != 2 or positions.shape[1] != 3:
        raise DataError("A long-range sum was asked for", f"Positions have the shape {list(positions.shape)}", "Pass [atoms, 3]")
    offsets = torch.tensor([0, len(positions)]) if offsets is None else torch.as_tensor(offsets, dtype=torch.int64)
    count = len(offsets) - 1
    if count < 1 or int(offsets[0]) != 0 or int(offsets[-1]) != len(positions) or bool((offsets.diff() < 0).any()):
        raise DataError(
            "A long-range sum over several structures was asked for",
            f"The offsets {offsets.tolist()} do not divide {len(positions)} atoms",
            "Pass offsets that rise from 0 to the number of atoms",
        )
    pbc = torch.as_tensor(cell is not None if periodic is None else periodic, dtype=torch.bool)
    pbc = pbc.expand(count, 3).contiguous() if pbc.dim() < 2 else pbc
    h = torch.zeros(count, 3, 3, dtype=F64) if cell is None else cell.detach().to(F64)
    if h.numel() != 9 * count:
        raise DataError(
            f"A long-range sum over {count} structures was asked for", f"The cell has the shape {list(h.shape)}", f"Pass [{count}, 3, 3]"
        )
    return Sites(positions.detach().to(F64).contiguous(), h.reshape(count, 3, 3).contiguous(), pbc, offsets)


def _check(sites: Sites, p: float, method: str, accuracy: float, net: str, given: Tensor) -> None:
    if not 0 < p < math.inf:
        raise DataError(f"The sum of 1/r^{p} was asked for", "The power must be above zero", "Write p=1 for charges, p=6 for dispersion")
    if method not in ("auto", "direct", "ewald", "mesh"):
        raise DataError(f"The method {method!r} was asked for", "Known are auto, direct, ewald and mesh", 'Write method="auto"')
    if net not in ("warn", "background", "refuse"):
        raise DataError(f"net={net!r} was asked for", "Known are warn, background and refuse", 'Write net="background"')
    least = 1e-14 if given.dtype == F64 else 1e-6
    if not least <= accuracy <= 0.1:
        raise DataError(
            f"A relative accuracy of {accuracy} was asked for",
            f"With positions in {str(given.dtype).removeprefix('torch.')} it lies between {least:g} and 0.1",
            "Ask for one within, or pass float64",
        )
    if not bool(torch.isfinite(sites.x).all()):
        atom = int(torch.isfinite(sites.x).all(1).int().argmin())
        raise DataError(
            "A long-range sum was asked for", f"Atom {atom} stands at {sites.x[atom].tolist()}", "Give all atoms finite positions"
        )
    for s in range(sites.structures):
        axes = sites.h[s][sites.pbc[s]]
        if len(axes) == 1:
            raise DataError(
                "A long-range sum was asked for",
                f"Structure {s} is periodic in one direction only: {sites.pbc[s].tolist()}",
                "Make it periodic in two or three directions, or open in all (periodic=False)",
            )
        sizes = torch.linalg.svdvals(axes) if len(axes) and bool(torch.isfinite(axes).all()) else None
        if len(axes) and (sizes is None or not float(sizes[-1]) > 1e-8 * float(sizes[0])):
            raise DataError(
                "A long-range sum over a periodic structure was asked for",
                f"The periodic vectors of structure {s} span no volume: {sites.h[s].tolist()}",
                "Give it a cell, or leave the cell out",
            )
        if len(axes) == 2 and p != 1 and not p > 3:
            raise DataError(
                f"The sum of 1/r^{p:g} over a slab was asked for",
                "Slabs (two periodic directions) are known for p = 1 and p > 3",
                "Give the cell a third periodic direction with enough vacuum",
            )


def _volume_cell(sites: Sites, s: int) -> Tensor:
    """The cell, with the open direction of a slab closed around its atoms: what densities refer to."""
    if bool(sites.pbc[s].all()):
        return sites.h[s]
    h, axis = sites.h[s].clone(), int((~sites.pbc[s]).int().argmax())
    normal = torch.linalg.cross(h[(axis + 1) % 3], h[(axis + 2) % 3])
    normal = normal / normal.norm()
    z = sites.x[sites.offsets[s] : sites.offsets[s + 1]] @ normal
    h[axis] = normal * (float(z.max() - z.min()) + 2.0 if len(z) else 2.0)
    return h


def _part(sites: Sites, members: list[int]) -> Sites:
    if len(members) == sites.structures:
        return sites
    atoms = sites.atoms_of(members)
    offsets = torch.cat([torch.zeros(1, dtype=torch.int64), sites.offsets.diff()[members].cumsum(0)])
    return Sites(sites.x[atoms], sites.h[members], sites.pbc[members], offsets)


def _words(form: Form, sites: Sites, s: int) -> str:
    """How a form is summed, for the structure s."""
    if isinstance(form, AllPairs):
        return "all pairs, no cutoff"
    if not isinstance(form, Together):
        return ""
    words = [_words(part, sites, s) for w, part in form.parts if w > 0]  # nested sums
    for part in form.parts:
        if isinstance(part[1], Short) and part[0] > 0:
            words.append(f"pairs to {part[1].cutoff:.3g} Å, sigma {part[1].sigma:.3g} Å")
        if isinstance(part[1], Smooth) and bool(sites.pbc[s].all()):
            plan = part[1].plan(sites.h[s], int(sites.offsets[s + 1] - sites.offsets[s]))
            words.append(f"k to {plan.cutoff:.3g}/Å" if plan.method == "ewald" else f"mesh {plan.mesh}, order {plan.order}")
    return ", ".join(w for w in words if w)


# ---- operators that torch does not look into, and their derivatives ------------------------------------------------------------------


def _at(number: int, x: Tensor, h: Tensor) -> tuple[Sum, Sites]:
    found = Sum.known[number]
    return found, Sites(x.contiguous(), h.contiguous(), found.sites.pbc, found.sites.offsets)


@torch.library.custom_op("composer::longrange", mutates_args=())
def _potential(x: Tensor, h: Tensor, u: Tensor, number: int) -> Tensor:
    phi = forms.apply(*_at(number, x, h), u)
    if not bool(torch.isfinite(phi).all()):
        raise DataError(
            "A long-range sum was asked for",
            "Its value is not finite: two atoms stand on top of each other, or a charge is not finite",
            "Look for atoms at zero distance",
        )
    return phi


@torch.library.custom_op("composer::longrange_evaluated", mutates_args=())
def _evaluated(x: Tensor, h: Tensor, u: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    found, sites = _at(number, x, h)
    values = found(sites, u)[0]
    return values.phi, values.x, values.h


@torch.library.custom_op("composer::longrange_slopes", mutates_args=())
def _slopes(x: Tensor, h: Tensor, u: Tensor, v: Tensor, number: int) -> tuple[Tensor, Tensor]:
    return forms.pull(*_at(number, x, h), u, v)


@torch.library.custom_op("composer::longrange_along", mutates_args=())
def _along(x: Tensor, h: Tensor, u: Tensor, dx: Tensor, dh: Tensor, number: int) -> Tensor:
    return forms.apply_along(*_at(number, x, h), u, dx, dh)


@torch.library.custom_op("composer::longrange_slopes_along", mutates_args=())
def _slopes_along(x: Tensor, h: Tensor, u: Tensor, v: Tensor, dx: Tensor, dh: Tensor, number: int) -> tuple[Tensor, Tensor]:
    return forms.pull_along(*_at(number, x, h), u, v, dx, dh)


@_potential.register_fake
def _(x: Tensor, h: Tensor, u: Tensor, number: int) -> Tensor:
    return torch.empty_like(u)


@_evaluated.register_fake
def _(x: Tensor, h: Tensor, u: Tensor, number: int) -> tuple[Tensor, Tensor, Tensor]:
    return torch.empty_like(u), torch.empty_like(x), torch.empty_like(h)


@_slopes.register_fake
def _(x: Tensor, h: Tensor, u: Tensor, v: Tensor, number: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(h)


@_along.register_fake
def _(x: Tensor, h: Tensor, u: Tensor, dx: Tensor, dh: Tensor, number: int) -> Tensor:
    return torch.empty_like(u)


@_slopes_along.register_fake
def _(x: Tensor, h: Tensor, u: Tensor, v: Tensor, dx: Tensor, dh: Tensor, number: int) -> tuple[Tensor, Tensor]:
    return torch.empty_like(x), torch.empty_like(h)


def _one_by_one(operator: Callable[..., Any]) -> Callable[..., Any]:
    """The rule of vmap: call for each slice, stack the results."""

    def rule(info: Any, in_dims: tuple[int | None, ...], *args: Any) -> tuple[Any, Any]:
        columns = [[a] * info.batch_size if d is None else list(a.movedim(d, 0)) for a, d in zip(args, in_dims, strict=True)]
        results = [operator(*row) for row in zip(*columns, strict=True)]
        if isinstance(results[0], Tensor):
            return torch.stack(results), 0
        return tuple(torch.stack(parts) for parts in zip(*results, strict=True)), (0,) * len(results[0])

    return rule


for _operator in (_potential, _evaluated, _slopes, _along, _slopes_along):
    _operator.register_vmap(_one_by_one(_operator))


class _Kept(torch.autograd.Function):
    """Keeps the sum alive as long as a derivative may ask for it."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        *tensors, ctx.number = inputs
        ctx.sum = None if torch.compiler.is_compiling() else Sum.known[ctx.number]
        ctx.save_for_backward(*tensors)
        ctx.save_for_forward(*tensors)


class _Potential(_Kept):
    """phi = A u; A is symmetric: the adjoint of u is A applied to that of phi. All that torch.compile can follow."""

    @staticmethod
    def forward(x: Tensor, h: Tensor, u: Tensor, number: int) -> Any:
        return _potential(x, h, u, number)

    @staticmethod
    def backward(ctx: Any, s: Tensor) -> Any:
        x, h, u = ctx.saved_tensors
        by_place, by_u = any(ctx.needs_input_grad[:2]), ctx.needs_input_grad[2]
        slopes, apply = (_slopes, _potential) if torch.compiler.is_compiling() else (_Slopes.apply, _PotentialBothWays.apply)
        gx, gh = slopes(x, h, s, u, ctx.number) if by_place else (None, None)
        return gx, gh, apply(x, h, s, ctx.number) if by_u else None, None


class _PotentialBothWays(_Potential):
    """phi = A u with reverse and forward mode."""

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dh: Tensor | None, du: Tensor | None, _: None) -> Any:  # type: ignore[override]
        x, h, u = ctx.saved_tensors
        out = torch.zeros_like(u) if du is None else _PotentialBothWays.apply(x, h, du, ctx.number)
        if dx is None and dh is None:
            return out
        return out + _Along.apply(x, h, u, _or_zero(dx, x), _or_zero(dh, h), ctx.number)


class _Slopes(_Kept):
    """Slopes of u A v by positions and cells."""

    @staticmethod
    def forward(x: Tensor, h: Tensor, u: Tensor, v: Tensor, number: int) -> Any:
        return _slopes(x, h, u, v, number)

    @staticmethod
    def backward(ctx: Any, wx: Tensor, wh: Tensor) -> Any:
        x, h, u, v = ctx.saved_tensors
        _, _, by_u, by_v, _ = ctx.needs_input_grad
        gx, gh = _SlopesAlong.apply(x, h, u, v, wx, wh, ctx.number) if any(ctx.needs_input_grad[:2]) else (None, None)
        gu = _Along.apply(x, h, v, wx, wh, ctx.number) if by_u else None
        return gx, gh, gu, _Along.apply(x, h, u, wx, wh, ctx.number) if by_v else None, None

    @staticmethod
    def jvp(ctx: Any, dx: Tensor | None, dh: Tensor | None, du: Tensor | None, dv: Tensor | None, _: None) -> Any:  # type: ignore[override]
        x, h, u, v = ctx.saved_tensors
        gx, gh = torch.zeros_like(x), torch.zeros_like(h)
        for one, other in ((du, v), (u, dv)):
            if one is not None and other is not None:
                px, ph = _Slopes.apply(x, h, one, other, ctx.number)
                gx, gh = gx + px, gh + ph
        if dx is None and dh is None:
            return gx, gh
        px, ph = _SlopesAlong.apply(x, h, u, v, _or_zero(dx, x), _or_zero(dh, h), ctx.number)
        return gx + px, gh + ph


class _Evaluated(_Kept):
    """phi = A u and the slopes of u A u, at once."""

    @staticmethod
    def forward(x: Tensor, h: Tensor, u: Tensor, number: int) -> Any:
        return _evaluated(x, h, u, number)

    @staticmethod
    def backward(ctx: Any, s: Tensor, wx: Tensor, wh: Tensor) -> Any:
        (x, h, u), number = ctx.saved_tensors, ctx.number
        gx = gh = gu = None
        if any(ctx.needs_input_grad[:2]):
            (ax, ah), (bx, bh) = _Slopes.apply(x, h, s, u, number), _SlopesAlong.apply(x, h, u, u, wx, wh, number)
            gx, gh = ax + bx, ah + bh
        if ctx.needs_input_grad[2]:
            gu = _Potential.apply(x, h, s, number) + 2 * _Along.apply(x, h, u, wx, wh, number)
        return gx, gh, gu, None


class _Last(torch.autograd.Function):
    """A derivative that is not differentiated again: asking for it is an error, never zero."""

    generate_vmap_rule = True

    @staticmethod
    def setup_context(ctx: Any, inputs: tuple, output: Any) -> None:
        pass

    @staticmethod
    def backward(ctx: Any, *_: Any) -> Any:
        raise _refusal()

    @staticmethod
    def jvp(ctx: Any, *_: Any) -> Any:
        raise _refusal()


class _Along(_Last):
    @staticmethod
    def forward(x: Tensor, h: Tensor, u: Tensor, dx: Tensor, dh: Tensor, number: int) -> Any:
        return _along(x, h, u, dx, dh, number)


class _SlopesAlong(_Last):
    @staticmethod
    def forward(x: Tensor, h: Tensor, u: Tensor, v: Tensor, dx: Tensor, dh: Tensor, number: int) -> Any:
        return _slopes_along(x, h, u, v, dx, dh, number)


class _Equilibrated(torch.autograd.Function):
    """q of least energy; its derivatives by one more solve with the same matrix: (A + eta) y = dL/dq, sum y = 0."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h: Tensor, chi: Tensor, eta: Tensor, total: Tensor, sums: Sum, scale: float, tolerance: float) -> Any:
        found = _solve(sums, x, h, -chi, eta, total, scale, tolerance)
        ctx.sums, ctx.scale, ctx.tolerance = sums, scale, tolerance
        ctx.save_for_backward(x, h, eta, found.charges)
        ctx.mark_non_differentiable(found.level)
        return found.charges, found.level, found.iterations

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx: Any, g: Tensor, *_: Any) -> Any:
        x, h, eta, q = ctx.saved_tensors
        y = _solve(ctx.sums, x, h, g, eta, torch.zeros(ctx.sums.sites.structures, dtype=F64), ctx.scale, ctx.tolerance)
        gx, gh = forms.pull(ctx.sums, _at(ctx.sums.number, x, h)[1], y.charges, q)
        return -ctx.scale * gx, -ctx.scale * gh, -y.charges, -y.charges * q, -y.level, None, None, None


def _solve(sums: Sum, x: Tensor, h: Tensor, right: Tensor, eta: Tensor, total: Tensor, scale: float, tolerance: float) -> Solved:
    def form(sites: Sites, u: Tensor, moves: Moves | None = None, slopes: bool = True) -> tuple[Values, Values | None]:
        values, along = sums(sites, u, moves, slopes)
        return Values(*(scale * t for t in values)), along

    return solve(form, _at(sums.number, x, h)[1], right, eta, total, tolerance, 20 * len(right) + 100)


def _or_zero(given: Tensor | None, like: Tensor) -> Tensor:
    return torch.zeros_like(like) if given is None else given


def _refusal() -> DataError:
    return DataError(
        "A third derivative of a long-range sum was asked for",
        "First and second derivatives by positions, cells and charges are provided",
        "Differentiate less often",
    )


__all__ = ["COULOMB", "Equilibrated", "Evaluated", "NetCharge", "Sum", "equilibrate", "potential", "prepare"]
