"""Published forms against LAMMPS: energy, forces and virial of shaken crystals with one and two species."""

from __future__ import annotations

import itertools

import ase.build
import numpy as np
import pytest
from ase import Atoms

from benchmarks.peers_lammps import Anchor, Style, eam
from benchmarks.systems import EAM, EAM_CUTOFF, SW, SW_CUTOFF, TERSOFF, TERSOFF_CUTOFF, TERSOFF_INNER
from terms import ZBL, BornMayer, Buckingham, Embedding, LennardJones, Morse, StillingerWeber, Tersoff

CLOSE = 1e-10  # relative to the largest number of its kind
CARBIDE = ("C", "Si")


def shaken(atoms: Atoms, amplitude: float) -> Atoms:
    atoms.positions += np.random.default_rng(5).uniform(-amplitude, amplitude, atoms.positions.shape)
    atoms.set_cell(atoms.cell.array @ (np.eye(3) + [[0.0, 0.0, 0.0], [0.03, 0.01, 0.0], [-0.02, 0.04, 0.02]]), scale_atoms=True)
    return atoms


def crystal(*symbols: str, amplitude: float = 0.25) -> Atoms:
    """Zinc blende, or diamond for one species."""
    if len(symbols) == 1:
        return shaken(ase.build.bulk(symbols[0], "diamond", a=5.43, cubic=True) * (2, 1, 1), amplitude)
    atoms = ase.build.bulk("CSi", "zincblende", a=4.36, cubic=True) * (2, 1, 1)
    atoms.symbols[[0, 3]] = ["Si", "C"]  # some like neighbours
    return shaken(atoms, amplitude)


def agree(found, anchor: Anchor, close: float = CLOSE) -> None:
    """Assert equal energy, forces and virial, none of which is zero."""
    assert abs(anchor.energy) > 1e-3
    assert found.energies.sum().item() == pytest.approx(anchor.energy, rel=close)
    for ours, theirs in ((found.forces, anchor.forces), (found.virial[0], anchor.virial)):
        assert np.abs(theirs).max() > 1e-2
        # LAMMPS gives the virial as a pressure in bar, with the digits of its constants
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=close * max(1.0, np.abs(theirs).max()))


def pairs_of(values, columns: str = "") -> list[str]:
    """pair_coeff lines for the pairs (1,1), (1,2), (2,2) from one list of numbers each."""
    return [f"pair_coeff {a} {b} {' '.join(f'{x:.17g}' for x in row)} {columns}" for (a, b), row in zip(((1, 1), (1, 2), (2, 2)), values)]


NUMBERS = {
    "lj/cut 6.0": (LennardJones(cutoff=6.0), {"epsilon": [0.02, 0.03, 0.01], "sigma": [2.0, 1.9, 2.2]}, lambda e, s: (e, s)),
    "morse 6.0": (
        Morse(cutoff=6.0, taper=False),
        {"depth": [0.5, 0.7, 0.3], "width": [1.5, 1.4, 1.7], "length": [2.0, 1.9, 2.3]},
        lambda d, w, l: (d, w, l),
    ),
    "buck 6.0": (
        Buckingham(cutoff=6.0, taper=False),
        {"height": [900.0, 1100.0, 1300.0], "length": [0.3, 0.28, 0.33], "dispersion": [9.0, 12.0, 20.0]},
        lambda a, l, c: (a, l, c),
    ),
    "born 6.0": (
        BornMayer(cutoff=6.0, taper=False),
        {"height": [900.0, 1100.0, 1300.0], "length": [0.3, 0.28, 0.33]},
        lambda a, l: (a, l, 0.0, 0.0, 0.0),
    ),
}


@pytest.mark.parametrize("style", NUMBERS)
def test_pair_styles_of_two_species(style: str, evaluate) -> None:
    term, values, columns = NUMBERS[style]
    atoms = crystal(*CARBIDE)
    lines = pairs_of([columns(*row) for row in zip(*values.values())])
    with Anchor(atoms, Style(CARBIDE, (f"pair_style {style}", *lines))) as anchor:
        agree(evaluate(term, CARBIDE, atoms, **values), anchor)


def test_zbl_of_two_species(evaluate) -> None:
    atoms = crystal(*CARBIDE, amplitude=0.45)
    commands = ("pair_style zbl 1.2 2.6", "pair_coeff 1 1 6 6", "pair_coeff 1 2 6 14", "pair_coeff 2 2 14 14")
    with Anchor(atoms, Style(CARBIDE, commands)) as anchor:
        agree(evaluate(ZBL(inner=1.2, outer=2.6), CARBIDE, atoms), anchor)


def test_stillinger_weber_of_silicon(evaluate) -> None:
    atoms = crystal("Si", amplitude=0.4)
    numbers = [SW["epsilon"], SW["sigma"], SW_CUTOFF / SW["sigma"], SW["lambda"], SW["gamma"], SW["cos0"], SW["A"], SW["B"], 4, 0, 0]
    values = {"A": SW["A"] * SW["epsilon"], "B": SW["B"], "sigma": SW["sigma"], "gamma": SW["gamma"], "cosine": SW["cos0"]}
    with Anchor(atoms, _table_style("sw", ("Si",), lambda i, j, k: numbers)) as anchor:
        term = StillingerWeber(cutoff=SW_CUTOFF)
        agree(evaluate(term, ("Si",), atoms, angular=SW["lambda"] * SW["epsilon"], **values), anchor)


def test_stillinger_weber_of_two_species(evaluate) -> None:
    atoms = crystal(*CARBIDE, amplitude=0.3)
    reach = {(0, 0): 2.6, (0, 1): 3.2, (1, 1): 3.771}
    pair = {(0, 0): (3.0, 0.5, 1.5, 1.1), (0, 1): (5.0, 0.6, 1.8, 1.2), (1, 1): (15.0, 0.7, 2.1, 1.3)}  # A, B, sigma, gamma
    triplet = {(i, *sorted(jk)): 20.0 + 3 * i + 5 * sum(jk) for i in (0, 1) for jk in itertools.product((0, 1), repeat=2)}

    def numbers(i: int, j: int, k: int) -> list[float]:
        a, b, sigma, gamma = pair[min(i, j), max(i, j)]
        angular = triplet[i, *sorted((j, k))]
        return [1.0, sigma, reach[min(i, j), max(i, j)] / sigma, angular, gamma, -0.3 - 0.02 * i, a, b, 4, 0, 0]

    term = StillingerWeber(cutoff=3.771, pairs=(("C", "C", 2.6), ("Si", "C", 3.2)))
    columns = dict(zip(("A", "B", "sigma", "gamma"), zip(*pair.values())))
    angular = [triplet[i, j, k] for i in (0, 1) for j, k in ((0, 0), (0, 1), (1, 1))]
    with Anchor(atoms, _table_style("sw", CARBIDE, numbers)) as anchor:
        agree(evaluate(term, CARBIDE, atoms, angular=angular, cosine=[-0.3] * 3 + [-0.32] * 3, **columns), anchor)


def test_tersoff_of_silicon_with_its_third_lambda(evaluate) -> None:
    atoms = crystal("Si", amplitude=0.4)
    t = TERSOFF
    middle, half = (TERSOFF_CUTOFF + TERSOFF_INNER) / 2, (TERSOFF_CUTOFF - TERSOFF_INNER) / 2
    head = [3, 1, t["lambda3"], t["c"], t["d"], t["cos0"]]
    numbers = [*head, t["n"], t["beta"], t["lambda2"], t["B"], middle, half, t["lambda1"], t["A"]]
    with Anchor(atoms, _table_style("tersoff", ("Si",), lambda i, j, k: numbers)) as anchor:
        values = {name: t[name] for name in ("A", "B", "lambda1", "lambda2", "lambda3", "beta", "n", "c", "d")}
        agree(evaluate(Tersoff(inner=TERSOFF_INNER, cutoff=TERSOFF_CUTOFF, m=3), ("Si",), atoms, cosine=t["cos0"], **values), anchor)


# J. Tersoff, Phys. Rev. B 39, 5566 (1989), table I: A, B, lambda, mu, beta, n, c, d, h, R, S of carbon and silicon; chi = 0.9776.
PUBLISHED = {
    "C": (1393.6, 346.74, 3.4879, 2.2119, 1.5724e-7, 0.72751, 38049.0, 4.3484, -0.57058, 1.8, 2.1),
    "Si": (1830.8, 471.18, 2.4799, 1.7322, 1.1e-6, 0.78734, 100390.0, 16.217, -0.59825, 2.7, 3.0),
}
CHI = 0.9776


def _mixed(i: int, j: int) -> dict[str, float]:
    """The published mixing rules for the pair of species i and j, centre i."""
    one, two = PUBLISHED[CARBIDE[i]], PUBLISHED[CARBIDE[j]]
    inner, outer = (one[9] * two[9]) ** 0.5, (one[10] * two[10]) ** 0.5
    found = {"A": (one[0] * two[0]) ** 0.5, "B": (one[1] * two[1]) ** 0.5 * (CHI if i != j else 1.0)}
    found |= {"lambda1": (one[2] + two[2]) / 2, "lambda2": (one[3] + two[3]) / 2, "inner": inner, "outer": outer}
    return found | {"beta": one[4], "n": one[5], "c": one[6], "d": one[7], "cosine": one[8]}


@pytest.mark.parametrize("amplitude", [0.1, 0.35])
def test_tersoff_of_silicon_carbide(amplitude: float, evaluate) -> None:
    atoms = crystal(*CARBIDE, amplitude=amplitude)

    def numbers(i: int, j: int, k: int) -> list[float]:
        p, q = _mixed(i, j), _mixed(i, k)
        angle = [3, 1, 0, p["c"], p["d"], p["cosine"]]
        return [
            *angle,
            p["n"],
            p["beta"],
            p["lambda2"],
            p["B"],
            (q["inner"] + q["outer"]) / 2,
            (q["outer"] - q["inner"]) / 2,
            p["lambda1"],
            p["A"],
        ]

    both = _mixed(0, 1)
    term = Tersoff(inner=2.7, cutoff=3.0, pairs=(("C", "C", 1.8, 2.1), ("Si", "C", both["inner"], both["outer"])))
    values = {name: [_mixed(*ij)[name] for ij in ((0, 0), (0, 1), (1, 1))] for name in ("A", "lambda1")}
    values |= {name: [_mixed(*ij)[name] for ij in itertools.product((0, 1), repeat=2)] for name in ("B", "lambda2", "n")}
    values |= {name: [_mixed(i, i)[name] for i in (0, 0, 0, 0, 1, 1, 1, 1)] for name in ("beta", "c", "d", "cosine")}
    with Anchor(atoms, _table_style("tersoff", CARBIDE, numbers)) as anchor:
        agree(evaluate(term, CARBIDE, atoms, **values), anchor)


def test_embedded_atoms_of_copper_up_to_the_spline_of_lammps(evaluate) -> None:
    atoms = shaken(ase.build.bulk("Cu", "fcc", a=3.615, cubic=True) * (2, 1, 1), 0.15)
    expression = Morse(cutoff=EAM_CUTOFF) + Embedding(cutoff=EAM_CUTOFF, length=EAM["length"])
    values = {
        "depth": EAM["depth"],
        "width": EAM["alpha"],
        "length": EAM["length"],
        "decay": EAM["b"],
        "coefficients": [-EAM["A"], EAM["B"]],
    }
    with Anchor(atoms, eam()) as anchor:
        agree(evaluate(expression, ("Cu",), atoms, **values), anchor, close=3e-9)


def _table_style(style: str, elements: tuple[str, ...], numbers) -> Style:
    """A style whose file holds one line for every ordered triplet of species."""
    triplets = itertools.product(range(len(elements)), repeat=3)
    lines = [" ".join([*(elements[n] for n in kinds), *(f"{x:.17g}" for x in numbers(*kinds))]) for kinds in triplets]
    return Style(
        elements, (f"pair_style {style}", f'pair_coeff * * "{{folder}}/numbers" {" ".join(elements)}'), {"numbers": "\n".join(lines) + "\n"}
    )
