"""The particle mesh and batches of sums (acceptance 10 to 19, 30 to 32)."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch

from composer import longrange
from composer.ops.native import spline_values
from composer.ops.plan import best, cost, density, smooth_even
from composer.ops.sites import Sites, Values
from composer.ops.smooth import Smooth
from composer.ops.splits import Gaussian, candidates
from tests.longrange.systems import F64, melt_force, random_cell, rms, salt

ROTATION = torch.linalg.qr(torch.randn(3, 3, dtype=F64, generator=torch.Generator().manual_seed(3)))[0]


def sites(x: torch.Tensor, cell: torch.Tensor) -> Sites:
    return Sites(x, cell[None], torch.ones(1, 3, dtype=torch.bool), torch.tensor([0, len(x)]))


def smooth(x: torch.Tensor, q: torch.Tensor, cell: torch.Tensor, sigma: float, order: int = 0, points: int = 0) -> Values:
    """The smooth part on a mesh of points^3, or by a converged sum over k."""
    if not order:
        return Smooth(Gaussian(1.0, sigma), 1e-13, "ewald")(sites(x, cell), q)[0]
    return Smooth(Gaussian(1.0, sigma), 1e-13, "mesh", order, (points,) * 3)(sites(x, cell), q)[0]


@pytest.mark.parametrize("order", [4, 5, 6, 7, 8])
def test_weights(order: int) -> None:
    """Acceptance 10: weights sum to 1, their slopes are the slopes."""
    for w in (0.0, 0.3, 0.999):
        values, slopes = spline_values(order, w)
        assert abs(values.sum() - 1) < 1e-14 and abs(slopes.sum()) < 1e-14
        near = [spline_values(order, w + h)[0] for h in (1e-5, -1e-5)]
        assert np.abs((near[0] - near[1]) / 2e-5 - slopes).max() < 1e-9


def test_the_mesh_holds_the_whole_charge() -> None:
    """Acceptance 10."""
    x, q, cell = random_cell()
    call = Smooth(Gaussian(1.0, 1.0), 1e-4).call(sites(x, cell), q, None, False, order=5)
    call.point(size=torch.tensor([12, 10, 9]), mesh=torch.zeros(12, 10, 9, dtype=F64))
    call.run("mesh_spread")
    assert abs(float(call.tensors["mesh"].sum() - q.sum())) < 1e-14


@pytest.mark.parametrize("order", [4, 5, 6, 7])
def test_triclinic_cells_are_as_good_as_cubes(order: int) -> None:
    """Acceptance 11, with the peers' cell."""
    errors = []
    for tilted in (False, True):
        x, q, cell = salt(3, 0.17, tilted=tilted)
        sigma = 1 / (0.42 * math.sqrt(2))
        exact = smooth(x, q, cell, sigma).x
        errors.append(rms(smooth(x, q, cell, sigma, order, 32).x - exact) / rms(exact))
    assert errors[1] < 3 * errors[0] < 0.05


def test_rotations_change_nothing() -> None:
    """Acceptance 12."""
    x, q, cell = random_cell()
    one, other = smooth(x, q, cell, 1.0, 5, 16), smooth(x @ ROTATION, q, cell @ ROTATION, 1.0, 5, 16)
    assert float((one.phi - other.phi).abs().max()) < 1e-12
    assert float((one.x @ ROTATION - other.x).abs().max()) < 1e-10 * float(one.x.abs().max())
    assert float((one.h @ ROTATION - other.h).abs().max()) < 1e-10 * float(one.h.abs().max())


@pytest.mark.parametrize("order", [4, 5, 6, 7, 8])
def test_nothing_jumps_between_mesh_points(order: int) -> None:
    """Acceptance 13: two ions on a mesh of 0.5 Å, as one crosses a point and a middle between points."""
    q, cell = torch.tensor([1.0, -1.0], dtype=F64), torch.eye(3, dtype=F64) * 8
    for place in (1.0, 1.25):
        sides = []
        for step in (-1e-11, 1e-11):
            x = torch.tensor([[place + step, 1.3, 2.1], [4.4, 1.9, 3.3]], dtype=F64)
            sides.append(smooth(x, q, cell, 1.0, order, 16))
        assert abs(float(q @ (sides[0].phi - sides[1].phi))) < 1e-9
        assert float((sides[0].x - sides[1].x).abs().max()) < 1e-9


def test_forces_and_strain_are_slopes_of_the_mesh_energy() -> None:
    """Acceptance 14 and 15: finite differences of the mesh energy itself, triclinic and charged, background included."""
    x, q, cell = random_cell()
    found, h = smooth(x, q, cell, 1.0, 5, 14), 1e-4
    for atom, axis in ((0, 0), (3, 1), (6, 2)):
        energies = []
        for n in (-2, -1, 1, 2):
            moved = x.clone()
            moved[atom, axis] += n * h
            energies.append(float(q @ smooth(moved, q, cell, 1.0, 5, 14).phi))
        slope = (energies[0] - 8 * energies[1] + 8 * energies[2] - energies[3]) / (12 * h)
        assert abs(slope - float(found.x[atom, axis])) < 1e-8
    by_strain = x.T @ found.x + cell.T @ found.h[0]
    for a, b in ((0, 0), (0, 2), (2, 1)):
        energies = []
        for n in (-1, 1):
            deformed = torch.eye(3, dtype=F64)
            deformed[a, b] += n * h
            energies.append(float(q @ smooth(x @ deformed, q, cell @ deformed, 1.0, 5, 14).phi))
        assert abs((energies[1] - energies[0]) / (2 * h) - float(by_strain[a, b])) < 1e-7 * float(by_strain.abs().max())


@pytest.mark.parametrize("order", [5, 7])
def test_odd_orders_on_even_meshes(order: int) -> None:
    """Acceptance 16: the error falls smoothly with the number of points, even or odd."""
    x, q, cell = salt(2, 0.2)
    exact = smooth(x, q, cell, 1.7).x
    errors = [rms(smooth(x, q, cell, 1.7, order, n).x - exact) for n in (15, 16, 17, 18, 19)]
    assert all(0.4 < after / before < 1.1 for before, after in zip(errors, errors[1:]))


def full_spectrum(x: torch.Tensor, q: torch.Tensor, cell: torch.Tensor, sigma: float, n: int, window: torch.Tensor) -> float:
    """u A u from the whole complex spectrum of the spread charges, order 6 on n^3 points; window [n] of one axis, squared, in the cube."""
    call = Smooth(Gaussian(1.0, sigma), 1e-4).call(sites(x, cell), q, None, False, order=6)
    call.point(size=torch.tensor([n, n, n]), mesh=torch.zeros(n, n, n, dtype=F64))
    call.run("mesh_spread")
    m = torch.fft.fftfreq(n, 1 / n, dtype=F64)
    k2 = (2 * math.pi / cell[0, 0]) ** 2 * (m[:, None, None] ** 2 + m[:, None] ** 2 + m**2)
    k2[0, 0, 0] = math.inf
    influence = 4 * math.pi * torch.exp(-(sigma**2) * k2 / 2) / k2 * window[:, None, None] * window[:, None] * window / cell[0, 0] ** 3
    return float((influence * torch.fft.fftn(call.tensors["mesh"]).abs() ** 2).sum()) - float(q @ q) * math.sqrt(2 / math.pi) / sigma


def test_energy_errors_are_below_those_of_smooth_particle_mesh_ewald() -> None:
    """Acceptance 17: with 1/U^2, order 6 on 16^3 points for 64 ions, at most half the error with b(m) of U. Essmann et al., J. Chem. Phys.
    103, 8577 (1995). r.m.s. of twelve salts shaken by 0.11 to 0.2 Å (0.2; nearly perfect ones alone reach 0.5 to 0.8)."""
    n, sigma = 16, 1 / (0.42 * math.sqrt(2))
    waves = torch.exp(2j * math.pi * torch.fft.fftfreq(n, 1 / n, dtype=F64)[:, None] * torch.arange(6) / n)
    b = 1 / (waves @ torch.from_numpy(spline_values(6, 0.0)[0]).to(waves.dtype)).abs() ** 2
    errors = []
    for shake in (0.11, 0.14, 0.17, 0.2):
        for seed in range(3):
            x, q, cell = salt(2, shake, seed=seed)
            ours, exact = (float(q @ smooth(x, q, cell, sigma, *a).phi) for a in ((6, n), ()))
            errors.append((ours - exact, full_spectrum(x, q, cell, sigma, n, b) - exact))
    mine, other = (torch.tensor(errors).double() ** 2).mean(0).sqrt().tolist()
    assert 0 < mine < 0.5 * other


def test_half_a_spectrum_is_the_whole() -> None:
    """Acceptance 19: the real transform and its weights give the sum over all waves but those on the edge of the mesh."""
    x, q, cell = salt(2, 0.2)
    n, sigma = 20, 1.2
    window = torch.sinc(torch.fft.fftfreq(n, dtype=F64)) ** -12
    window[n // 2] = 0.0
    assert abs(float(q @ smooth(x, q, cell, sigma, 6, n).phi) / full_spectrum(x, q, cell, sigma, n, window) - 1) < 1e-13


@pytest.mark.parametrize("order", [4, 5, 6, 7])
def test_errors_fall_with_the_order(order: int) -> None:
    """Acceptance 18: the exponent over a factor 4 of the spacing is at least 0.8 of the order."""
    x, q, cell = salt(2, 0.2)
    exact = smooth(x, q, cell, 2.5).x
    errors = [rms(smooth(x, q, cell, 2.5, order, n).x - exact) for n in (12, 48)]
    assert 0.8 * order < math.log(errors[0] / errors[1]) / math.log(4) < 1.35 * order


def test_atoms_in_another_order() -> None:
    """Acceptance 19."""
    x, q, cell = salt(2)
    order = torch.randperm(len(q), generator=torch.Generator().manual_seed(1))
    one, other = smooth(x, q, cell, 1.2, 6, 24), smooth(x[order], q[order], cell, 1.2, 6, 24)
    assert float((one.phi[order] - other.phi).abs().max()) < 1e-13


def test_far_images_of_atoms() -> None:
    """Acceptance 32: atoms a thousand cells away from the origin."""
    x, q, cell = random_cell()
    shift = torch.randint(-1000, 1000, (len(q), 3), generator=torch.Generator().manual_seed(1)).to(F64)
    one, other = (longrange.prepare(p, cell, method="mesh", net="background").evaluate(p, q) for p in (x, x + shift @ cell))
    assert float((one.potentials - other.potentials).abs().max()) < 1e-10
    assert float((one.virial - other.virial).abs().max()) < 1e-8


def test_float32_positions() -> None:
    """Acceptance 32: sums are done in float64; float32 positions and charges cost only their rounding."""
    x, q, cell = salt(2)
    exact = longrange.prepare(x, cell, accuracy=1e-12).evaluate(x, q).forces
    x32, q32 = x.float(), q.float()
    sums = longrange.prepare(x32, cell, accuracy=1e-4)
    assert sums.potential(x32, q32).dtype == torch.float32
    assert rms(sums.evaluate(x32, q32).forces - exact) < 2e-4 * melt_force(q, cell)


def test_a_batch_is_its_structures_one_by_one() -> None:
    """Acceptance 30: 1 to 500 atoms, cubic, tilted, slab and open, charged and neutral."""
    systems = [salt(1), random_cell(1), random_cell(9), salt(2, tilted=True), salt(4)]
    flags = [[True] * 3, [True] * 3, [True, True, False], [True] * 3, [True] * 3]
    x, q = torch.cat([s[0] for s in systems] + [systems[2][0]]), torch.cat([s[1] for s in systems] + [systems[2][1]])
    cells = torch.stack([s[2] for s in systems] + [torch.zeros(3, 3, dtype=F64)])
    sizes = [len(s[1]) for s in systems] + [len(systems[2][1])]
    offsets = torch.tensor([0, *np.cumsum(sizes)])
    flags = torch.tensor([*flags, [False] * 3])
    whole = longrange.prepare(x, cells, offsets=offsets, periodic=flags, net="background").evaluate(x, q)
    for s, (a, b) in enumerate(zip(offsets.tolist(), offsets.tolist()[1:])):
        cell = cells[s] if bool(flags[s].any()) else None
        options = {} if cell is None else {"periodic": flags[s]}
        alone = longrange.prepare(x[a:b], cell, net="background", **options).evaluate(x[a:b], q[a:b])
        scale = float(alone.potentials.abs().max())
        assert float((whole.potentials[a:b] - alone.potentials).abs().max()) < 1e-12 * scale
        assert float((whole.forces[a:b] - alone.forces).abs().max()) < 1e-12 * scale
        assert float((whole.virial[s] - alone.virial[0]).abs().max()) < 1e-11 * scale


def test_meshes_have_small_prime_factors() -> None:
    """Acceptance 31."""
    for n in range(5, 300):
        found = smooth_even(n)
        assert found >= n and found % 2 == 0 and math.prod([1] + [p for p in (2, 3, 5, 7) for _ in range(20) if found % p == 0]) % 2 == 0
        for p in (2, 3, 5, 7):
            while found % p == 0:
                found //= p
        assert found == 1


@pytest.mark.parametrize("accuracy", [1e-3, 1e-6])
def test_the_choice_is_near_the_best_of_its_cost_model(accuracy: float) -> None:
    """Acceptance 31: within 20 % of the best of a fine scan of cutoffs, from 8 to 8000 ions."""
    for n in (1, 3, 10):
        cell, atoms = tuple(map(tuple, (torch.eye(3) * 5.64 * n).tolist())), 8 * n**3
        found = cost(cell, atoms, accuracy, *best(cell, atoms, 1.0, accuracy))
        scan = [
            (rc, split) for rc in np.geomspace(2, 16, 60) for split in candidates(1.0, float(rc), density(cell, atoms), accuracy, "auto")
        ]
        assert found < 1.2 * min(cost(cell, atoms, accuracy, float(rc), split) for rc, split in scan)


def test_methods_agree() -> None:
    """Acceptance 37 (its times are in benchmarks): small systems take the sum over k, large ones a mesh, and both agree."""
    for n, method in ((1, "k to"), (5, "mesh")):
        x, q, cell = salt(n)
        assert method in longrange.prepare(x, cell, accuracy=1e-4).describe()
    x, q, cell = salt(3)
    found = [longrange.prepare(x, cell, accuracy=1e-9, method=m).evaluate(x, q) for m in ("ewald", "mesh")]
    assert abs(float(found[0].energy / found[1].energy) - 1) < 1e-9
    assert rms(found[0].forces - found[1].forces) < 2e-9 * melt_force(q, cell)
