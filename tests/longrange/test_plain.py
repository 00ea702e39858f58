"""Sums in plain torch, with the CPU as the device: against the dense oracle and the compiled kernels, and what they may not do on a device."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from composer import longrange
from composer.errors import DataError
from composer.ops import dense
from composer.ops.plain.forms import plain
from composer.ops.short import AllPairs, Excluded, Short, neighbors
from composer.ops.sites import Form, Moves, Sites, Values
from composer.ops.smooth import Smooth
from composer.ops.splits import Gaussian, Prolate
from tests.longrange.systems import F64, melt_force, random_cell, rms, salt
from tests.longrange.test_derivatives import SUMS, H, Q, X

CPU = torch.device("cpu")
SYSTEMS = [random_cell(7), random_cell(30, 2), salt(1, tilted=True)]
XS, QS, HS = torch.cat([s[0] for s in SYSTEMS]), torch.cat([s[1] for s in SYSTEMS]), torch.stack([s[2] for s in SYSTEMS])
CRYSTAL, SLAB, TOP, OPEN = [True] * 3, [True, False, True], [True, True, False], [False] * 3
PROLATE = Prolate(5.0, 12.0)


def sites(*flags: list[bool]) -> Sites:
    return Sites(XS, HS, torch.tensor(flags), torch.tensor([0, 7, 37, 45]))


PERIODIC = sites(CRYSTAL, CRYSTAL, CRYSTAL)
BONDED = dataclasses.replace(sites(CRYSTAL, CRYSTAL, OPEN), excluded=torch.tensor([[0, 1], [3, 2], [10, 9]]))
FORMS: dict[str, tuple[Form, Sites]] = {
    "waves": (Smooth(Gaussian(1.0, 1.0), 1e-8, "ewald"), PERIODIC),
    "mesh": (Smooth(Gaussian(1.0, 1.0), 1e-5, "mesh", 5, (10, 12, 9)), PERIODIC),
    "meshes of their own": (Smooth(Gaussian(1.0, 1.0), 1e-5, "mesh"), PERIODIC),
    "prolate waves": (Smooth(PROLATE, 1e-4, "ewald"), PERIODIC),
    "prolate mesh": (Smooth(PROLATE, 1e-4, "mesh"), PERIODIC),
    "prolate pairs": (Short(PROLATE, 5.0, neighbors(PERIODIC, 5.0)), PERIODIC),
    "slabs": (Smooth(Gaussian(1.0, 1.0), 1e-6), sites(SLAB, TOP, CRYSTAL)),
    "slabs of 1/r^6": (Smooth(Gaussian(6.0, 1.0), 1e-6), sites(SLAB, TOP, OPEN)),
    "wires": (Smooth(Gaussian(1.0, 1.0), 1e-6), sites([False, True, False], [True, False, False], OPEN)),
    "open": (Smooth(Gaussian(1.0, 1.0), 1e-6), sites(OPEN, OPEN, CRYSTAL)),
    "all pairs": (AllPairs(1.0), sites(OPEN, OPEN, OPEN)),
    "excluded": (Excluded(1.0, 1.0), BONDED),
}
for p in (0.5, 2.0, 3.0, 5.0, 6.5):
    FORMS[f"waves of 1/r^{p:g}"] = (Smooth(Gaussian(p, 1.0), 1e-8, "ewald"), sites(CRYSTAL, CRYSTAL, OPEN))
    FORMS[f"pairs of 1/r^{p:g}"] = (Short(Gaussian(p, 1.0), 6.0, neighbors(PERIODIC, 6.0)), PERIODIC)


def moves() -> Moves:
    make = torch.Generator().manual_seed(0)
    x, h, u = (torch.randn(t.shape, dtype=F64, generator=make) for t in (XS, HS, QS))
    return Moves(x, 0.1 * h, u)


def close(found: Values | None, wanted: Values | None, tolerance: float) -> None:
    assert found is not None and wanted is not None and float(wanted.phi.abs().max()) > 0
    for one, other in zip(found, wanted):
        assert float((one - other).abs().max()) <= tolerance * float(other.abs().max())


@pytest.mark.parametrize("real, tolerance", [(F64, 1e-12), (torch.float32, 3e-6)])
@pytest.mark.parametrize("name", [n for n in FORMS if n != "wires"])  # of these there is no compiled sum
def test_they_equal_the_compiled_sums(name: str, real: torch.dtype, tolerance: float) -> None:
    """Values, slopes and their derivatives along moves, with the same plan: order, mesh and smearing."""
    form, where = FORMS[name]
    wanted, bent = form(where, QS, moves())
    found, along = plain([(range(3), form)], where, CPU, real)(where, QS, moves())
    close(found, wanted, tolerance)
    close(along, bent, tolerance)


@pytest.mark.parametrize("p", [1.0, 2.5, 6.0])
@pytest.mark.parametrize("method, accuracy, tolerance", [("ewald", 1e-13, 1e-10), ("mesh", 1e-7, 1e-6)])
def test_they_equal_the_oracle(p: float, method: str, accuracy: float, tolerance: float) -> None:
    found = longrange.potential(X, Q, H, p=p, method=method, accuracy=accuracy, net="background", plain=True)
    wanted = dense.potential(X, Q, H, p)
    assert float((found - wanted).abs().max()) < tolerance * float(wanted.abs().max())


def test_slabs_and_open_structures_equal_the_oracle() -> None:
    x, q, cell = random_cell()
    found = longrange.potential(x, q, cell, accuracy=1e-12, periodic=TOP, net="background", sigma=0.8, plain=True)
    plane = cell.clone()
    plane[2] = torch.tensor([0.0, 0.0, 60.0])
    wanted = dense.slab(x, q, cell, 2, 0.8) + dense.short(x, q, plane, 1.0, 0.8)
    assert float((found - wanted).abs().max()) < 1e-10 * float(wanted.abs().max())
    for p in (1.0, 2.5):
        assert torch.allclose(longrange.potential(x, q, p=p, plain=True), dense.direct(x, q, p), rtol=1e-12, atol=0)


@pytest.mark.parametrize("name", ["prolate mesh", "slab"])
def test_first_and_second_derivatives(name: str) -> None:
    """Acceptance 26, in plain torch."""
    sums = longrange.prepare(X, H, net="background", plain=True, **SUMS[name])
    inputs = [t.clone().requires_grad_() for t in (X, Q, H)]
    assert torch.autograd.gradcheck(sums.potential, inputs, eps=1e-5, atol=1e-6, rtol=1e-5, fast_mode=True)
    assert torch.autograd.gradgradcheck(sums.potential, inputs, eps=1e-5, atol=1e-5, rtol=1e-4, fast_mode=True)


def test_second_derivatives_inside_transforms_of_torch() -> None:
    sums = longrange.prepare(X, H, net="background", accuracy=1e-8, method="ewald", plain=True)
    forces = torch.func.grad(lambda x: -(Q * sums.potential(x, Q, H)).sum() / 2)
    w = torch.randn(5, 3, dtype=F64, generator=torch.Generator().manual_seed(1))
    _, along = torch.func.jvp(forces, (X,), (w,))
    hessian = torch.func.jacrev(forces)(X)
    assert float(along.abs().max()) > 0.01
    assert float((torch.einsum("iajb,jb->ia", hessian, w) - along).abs().max()) < 1e-10
    _, at_once = torch.func.jvp(lambda x: sums.evaluate(x, Q, H).forces, (X,), (w,))
    assert float((at_once - along).abs().max()) < 1e-11


def test_channels_and_charges_of_least_energy() -> None:
    one, other = (longrange.prepare(X, H, net="background", accuracy=1e-8, plain=p) for p in (False, True))
    basis = torch.eye(5, dtype=F64)
    assert float((one.potential(X, basis, H) - other.potential(X, basis, H)).abs().max()) < 1e-12
    chi, eta = torch.tensor([1.0, -2.0, 0.5, 0.1, 0.9], dtype=F64), torch.full((5,), 45.0, dtype=F64)
    found, wanted = (longrange.equilibrate(s, X, chi, eta) for s in (other, one))
    assert float((found.charges - wanted.charges).abs().max()) < 1e-11 and found.iterations == wanted.iterations


@pytest.mark.parametrize("method", ["ewald", "mesh"])
@pytest.mark.parametrize("accuracy", [1e-3, 1e-4, 1e-5])
def test_float32_keeps_what_is_asked_for(accuracy: float, method: str) -> None:
    """Acceptance 32: positions and geometry in float64, all else in float32: at most twice the error of float64."""
    x, q, cell = salt(3)
    x, cell = x.float().double(), cell.float().double()
    exact = longrange.prepare(x, cell, accuracy=1e-11).evaluate(x, q).forces
    errors = []
    for kind in (F64, torch.float32):
        found = longrange.prepare(x.to(kind), cell, accuracy=accuracy, method=method, plain=True).evaluate(x.to(kind), q.to(kind), cell)
        errors.append(rms(found.forces - exact) / melt_force(q, cell))
    assert 0 < errors[1] < 2 * errors[0] < 4 * accuracy


class Waiting(TorchDispatchMode):
    """Counts what would make the host wait for a device: reading numbers, shapes that follow from numbers, copies between devices."""

    def __init__(self) -> None:
        super().__init__()
        self.found: list[str] = []

    def __torch_dispatch__(self, func: Callable, types: tuple, args: tuple = (), kwargs: dict | None = None) -> object:
        name = func.__name__.split(".")[0]
        if name in ("_local_scalar_dense", "nonzero", "masked_select", "unique", "_unique2", "bincount", "equal", "repeat_interleave"):
            self.found.append(name)
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", FORMS)
def test_a_call_reads_no_number(name: str) -> None:
    """What a sum prepared for a device may do in a call: the host never has to wait for it."""
    form, where = FORMS[name]
    ready = plain([(range(3), form)], where, CPU)
    with Waiting() as waiting:
        ready(where, QS)
    assert not waiting.found
    with Waiting() as waiting:
        bool(QS.any())
    assert waiting.found  # it does see what it looks for


@pytest.mark.parametrize("name", ["waves", "meshes of their own", "prolate pairs"])
def test_sums_in_an_order_of_their_own_are_the_same(name: str) -> None:
    form, where = FORMS[name]
    found, wanted = (plain([(range(3), form)], where, CPU, ordered=o)(where, QS)[0] for o in (True, False))
    close(found, wanted, 1e-13)


def test_tensors_of_another_device_are_refused() -> None:
    sums = longrange.prepare(X, H, net="background")
    with pytest.raises(DataError, match="prepared on cpu"):
        sums.potential(X, torch.empty(5, dtype=F64, device="meta"), H)


def test_structures_of_unlike_densities_take_waves_of_their_own() -> None:
    """A batch is its structures one by one, at coarse accuracies too."""
    form = Smooth(Gaussian(1.0, 1.0), 1e-3)
    whole = form(PERIODIC, QS)[0].phi
    for s, (a, b) in enumerate(((0, 7), (7, 37), (37, 45))):
        alone = Sites(XS[a:b], HS[s : s + 1], PERIODIC.pbc[:1], torch.tensor([0, b - a]))
        assert float((form(alone, QS[a:b])[0].phi - whole[a:b]).abs().max()) < 1e-13


def test_gradients_by_one_pass() -> None:
    """A loss on forces through charges: the same numbers as the compiled sums give."""
    slopes: list[tuple[Tensor, ...]] = []
    for kind in (False, True):
        sums = longrange.prepare(X, H, net="background", accuracy=1e-6, plain=kind)
        x, q, h = (t.clone().requires_grad_() for t in (X, Q, H))
        found = sums.evaluate(x, q, h)
        slopes.append(torch.autograd.grad((found.forces**2).sum() + (found.virial**2).sum(), (x, q, h)))
    for one, other in zip(*slopes):
        assert float((one - other).abs().max()) < 1e-12 * float(other.abs().max())
