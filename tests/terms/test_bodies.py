"""Many-body expansions against explicit loops, and what they must be blind to or see."""

from __future__ import annotations

import itertools
import math

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms
from numpy.polynomial import legendre

from composer.quantities import Environment, row
from terms import Bond, Density, FourBody, Pair, ThreeBody, radial
from terms.angular import gaunt, harmonics

TWO = ("C", "Si")


def cluster(symbols: str = "SiCSi2CSi", seed: int = 3) -> Atoms:
    """A drop of atoms no closer than 1.5 Å; more than one shell of the short cutoffs below."""
    random, points = np.random.default_rng(seed), []
    while len(points) < len(Atoms(symbols)):
        new = random.uniform(-2.2, 2.2, 3)
        if all(np.linalg.norm(new - p) > 1.5 for p in points):
            points.append(new)
    return Atoms(symbols, points)


def functions_at(term, r: float) -> np.ndarray:
    node = Environment(["Si"]).neighbors(term.cutoff).r
    return np.array([float(radial.tabulate(f, np.array(r))) for f in radial.basis(term.basis, node, term.cutoff, term.n_max, term.inner)])


def explicit_three_body(term: ThreeBody, atoms: Atoms, like: np.ndarray, mixed: np.ndarray) -> np.ndarray:
    """sum over ordered pairs of different neighbours, with Legendre polynomials of the angle; like [4, l, a <= b], mixed [2, l, a b]."""
    kinds, x = [TWO.index(s) for s in atoms.symbols], atoms.positions
    size = term.n_max
    places = {ab: n for n, ab in enumerate((a, b) for a in range(size) for b in range(a, size))}
    energies = np.zeros(len(atoms))
    for i, j, k in itertools.permutations(range(len(atoms)), 3):
        d, e = x[j] - x[i], x[k] - x[i]
        if max(np.linalg.norm(d), np.linalg.norm(e)) >= term.cutoff:
            continue
        cosine = d @ e / np.linalg.norm(d) / np.linalg.norm(e)
        left, right = functions_at(term, np.linalg.norm(d)), functions_at(term, np.linalg.norm(e))
        for l in range(term.l_max + 1):
            angle = legendre.legval(cosine, [0.0] * l + [1.0])
            if kinds[j] == kinds[k]:
                c = like[row("ordered pair", 2, kinds[i], kinds[j]), l]
                energies[i] += angle * sum(c[n] * left[a] * right[b] for (a, b), n in places.items())
            elif kinds[j] < kinds[k]:
                c = mixed[row("unlike triplet", 2, kinds[i], kinds[j], kinds[k]), l].reshape(size, size)
                energies[i] += angle * (left @ c @ right)
    return energies


@pytest.mark.parametrize("basis", radial.BASES)
def test_three_body_is_the_double_loop_with_legendre_polynomials(basis: str, evaluate) -> None:
    term, random = ThreeBody(cutoff=4.0, n_max=2, l_max=4, basis=basis), np.random.default_rng(0)
    like, mixed = random.normal(size=(4, 5, 3)), random.normal(size=(2, 5, 4))
    wanted = explicit_three_body(term, cluster(), like, mixed)
    assert np.abs(wanted).min() > 1e-3
    found = evaluate(term, TWO, cluster(), coefficients=like, mixed=mixed)
    np.testing.assert_allclose(found.energies, wanted, rtol=0, atol=1e-12 * np.abs(wanted).max())


def test_three_body_of_one_species_has_sixty_coefficients_and_no_mixed_ones() -> None:
    from composer.quantities import rows

    term = ThreeBody(cutoff=4.5, n_max=4, l_max=5)
    assert term.levels * term.like * rows("ordered pair", 1) == 60
    assert rows("unlike triplet", 1) == 0


def test_three_body_of_a_dimer_is_zero_and_of_a_trimer_is_not(evaluate) -> None:
    term = ThreeBody(cutoff=4.5)
    dimer = evaluate(term, ("Si",), Atoms("Si2", [[0, 0, 0], [1.0, 1.2, 1.4]]), seed=1)
    trimer = evaluate(term, ("Si",), Atoms("Si3", [[0, 0, 0], [1.0, 1.2, 1.4], [2.0, 0, 0]]), seed=1)
    assert dimer.energies.abs().max() < 1e-12 and dimer.forces.abs().max() < 1e-12
    assert trimer.energies.abs().min() > 1e-3


@pytest.mark.parametrize("term", [ThreeBody(cutoff=4.0), FourBody(cutoff=4.0, l_max=4), Bond(cutoff=3.5), Density(cutoff=4.0)])
def test_rotation_and_reflection_change_nothing(term, evaluate) -> None:
    atoms = cluster()
    turned = atoms.copy()
    turned.rotate(73.0, (1.0, -2.0, 0.5))
    mirrored = turned.copy()
    mirrored.positions *= (-1.0, 1.0, 1.0)
    ours = [evaluate(term, TWO, a, seed=2).energies for a in (atoms, turned, mirrored)]
    assert ours[0].abs().min() > 1e-4
    torch.testing.assert_close(ours[1], ours[0], rtol=1e-11, atol=1e-12)
    torch.testing.assert_close(ours[2], ours[0], rtol=1e-11, atol=1e-12)


def ring(places: tuple[int, ...], number: int = 8) -> Atoms:
    """A centre and neighbours on a circle around it."""
    angles = 2 * math.pi * np.array(places) / number
    return Atoms("Si" * (1 + len(places)), [[0, 0, 0], *zip(2.5 * np.cos(angles), 2.5 * np.sin(angles), 0 * angles)])


def test_four_body_tells_apart_what_pairs_and_angles_cannot(evaluate) -> None:
    # Two subsets of eight points on a circle that share every distance and every angle at the centre, but are not congruent.
    one, other = ring((0, 1, 3, 4)), ring((0, 1, 2, 5))
    gaps = [sorted(min(abs(a - b), 8 - abs(a - b)) for a, b in itertools.combinations(p, 2)) for p in ((0, 1, 3, 4), (0, 1, 2, 5))]
    assert gaps[0] == gaps[1]
    for term, same in ((Pair(cutoff=4.0), True), (ThreeBody(cutoff=4.0), True), (FourBody(cutoff=4.0, n_max=1), False)):
        a, b = (evaluate(term, ("Si",), atoms, seed=4).energies[0].item() for atoms in (one, other))
        assert abs(a) > 1e-4
        assert (abs(a - b) < 1e-11) is same, term


def test_bond_reads_the_crowding_of_the_neighbour(evaluate) -> None:
    term = Bond(cutoff=3.0, n_max=1)
    chain = Atoms("Si3", [[0, 0, 0], [2.0, 0, 0], [4.0, 0, 0]])  # the ends see the middle alone, which has two neighbours
    found = evaluate(term, ("Si",), chain, coefficients=1.0, decay=0.5)
    smooth = (1 - (2.0 / 3.0) ** 2) ** 3
    q = math.exp(-1.0) * smooth
    assert found.energies[0].item() == pytest.approx(0.5 * smooth * 3 * q, rel=1e-12)
    assert found.energies[1].item() == pytest.approx(smooth * 3 * q, rel=1e-12)


def test_density_sees_the_whole_pair_and_starts_above_zero(evaluate) -> None:
    dimer = Atoms("Si2", [[0, 0, 0], [2.4, 0, 0]])
    for positive in (False, True):
        found = evaluate(Density(cutoff=5.0, n_max=1, positive=positive), ("Si",), dimer)
        torch.testing.assert_close(found.energies, torch.full((2,), 0.1 * (1 - (2.4 / 5.0) ** 2) ** 3, dtype=torch.float64))
    crystal = ase.build.bulk("Si")
    found = evaluate(Density(cutoff=5.0, n_max=4, positive=True), ("Si",), crystal, seed=0)
    assert (found.energies > 0.01).all()


def test_harmonics_add_up_to_legendre_polynomials_and_gaunt_couples_them() -> None:
    j = Environment(["H"]).neighbors(1.0)
    random = np.random.default_rng(0)
    points = random.normal(size=(2, 3))
    points /= np.linalg.norm(points, axis=1)[:, None]
    tables = [[[_at(node, j, p) for node in level] for level in harmonics(j.d, 4)] for p in points]
    for l in range(5):
        assert np.dot(tables[0][l], tables[1][l]) == pytest.approx(legendre.legval(points[0] @ points[1], [0.0] * l + [1.0]), abs=1e-13)
    for triple in ((1, 1, 2), (2, 2, 2), (1, 3, 4), (2, 3, 3)):
        y, z = tables
        coupled = sum(g * y[triple[0]][a] * y[triple[1]][b] * z[triple[2]][c] for a, b, c, g in gaunt(*triple))
        same = sum(g * y[triple[0]][a] * y[triple[1]][b] * y[triple[2]][c] for a, b, c, g in gaunt(*triple))
        assert coupled == pytest.approx(same * legendre.legval(points[0] @ points[1], [0.0] * triple[2] + [1.0]), abs=1e-13)
        assert 0.05 < same < 1.0


def _at(node, j, point: np.ndarray) -> float:
    """A node of the displacement alone, at a vector."""
    if node in j.d:
        return float(point[j.d.index(node)])
    values = [_at(a, j, point) for a in node.args]
    match node.op:
        case "const":
            return node.data[0]
        case "add":
            return sum(values)
        case "mul":
            return values[0] * values[1]
    return values[0] ** node.data[0]
