"""What every term owes: nothing for an isolated atom, finite numbers everywhere, a declaration that survives being written down."""

from __future__ import annotations

import dataclasses
import subprocess
import sys
from pathlib import Path

import ase.build
import numpy as np
import pytest
import torch
from ase import Atoms

import composer
import terms
from composer.algebra import Scale, expression
from composer.errors import AlgebraError
from composer.quantities import Environment
from terms import ZBL, Density, Embedding, LennardJones, Morse, Pair, PairFormula, StillingerWeber, Tersoff, ThreeBody, radial
from tests.catalogue import CATALOGUE, TERMS

DISTANCES = np.linspace(0.05, 6.0, 400)


def test_the_catalogue_holds_every_term() -> None:
    found = {type(term).__name__ for expr, _ in TERMS.values() for term in expr.terms()}
    assert found == set(terms.__all__)


@pytest.mark.parametrize("name", CATALOGUE)
def test_an_isolated_atom_has_no_energy_and_finite_slopes(name: str, evaluate) -> None:
    expr, species = CATALOGUE[name]
    found = evaluate(expr, species, *(Atoms(s) for s in species), seed=1)
    assert found.energies.abs().max() < 1e-13
    assert found.forces.abs().max() == 0.0 and found.virial.abs().max() == 0.0


@pytest.mark.parametrize("name", CATALOGUE)
def test_forces_are_the_slopes_of_the_energy(name: str, evaluate) -> None:
    """The oracle against differences: a wrong mask or padding shows here."""
    expr, species = CATALOGUE[name]
    atoms = ase.build.bulk("Si", "diamond", a=5.0)
    atoms.symbols[:] = [species[0], species[-1]]
    atoms.positions += np.random.default_rng(2).uniform(-0.2, 0.2, (2, 3))
    found = evaluate(expr, species, atoms, seed=3)
    assert found.energies.isfinite().all() and found.energies.abs().max() > 1e-6
    step, moved = 1e-4, []
    for sign in (1, -1):
        other = atoms.copy()
        other.positions[1, 0] += sign * step
        moved.append(evaluate(expr, species, other, seed=3).energies.sum().item())
    slope, scale = (moved[1] - moved[0]) / (2 * step), max(1.0, found.forces.abs().max().item())
    assert abs(found.forces[1, 0].item() - slope) < 2e-6 * scale


@pytest.mark.parametrize("name", TERMS)
def test_overlapping_atoms_give_finite_numbers(name: str, evaluate) -> None:
    expr, species = CATALOGUE[name]
    for gap in (0.0, 1e-9, 0.05, 0.4):
        atoms = Atoms([species[0], species[-1], species[0]], [[0, 0, 0], [gap, 0, 0], [1.5, 1.0, 0]])
        found = evaluate(expr, species, atoms, seed=1)
        assert found.energies.isfinite().all() and found.forces.isfinite().all(), (name, gap)


@pytest.mark.parametrize("name", CATALOGUE)
def test_declarations_survive_json_and_repr(name: str) -> None:
    expr, _ = CATALOGUE[name]
    assert expression(expr.json()) == expr
    import composer.algebra as algebra

    names = {n: getattr(terms, n) for n in terms.__all__} | {"Scale": Scale}
    names |= {n: getattr(algebra, n) for n in ("exp", "sqrt", "tanh", "log1p")}
    assert eval(repr(expr), names) == expr  # a test may: the text is our own


def test_each_term_is_one_frozen_declaration_below_a_hundred_lines() -> None:
    for path in sorted(Path(terms.__file__).parent.glob("*.py")):
        if path.stem != "radial":
            assert len(path.read_text().splitlines()) < 130, path.name
    for name in terms.__all__:
        cls = getattr(terms, name)
        assert dataclasses.is_dataclass(cls) and not cls.__subclasses__() and cls.__doc__


def test_terms_need_no_torch() -> None:
    subprocess.run([sys.executable, "-c", "import terms, sys; assert 'torch' not in sys.modules"], check=True)


# ---- radial functions -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", radial.BASES)
@pytest.mark.parametrize("size", [1, 2, 6])
def test_bases_end_smoothly_and_are_flat_below_their_range(name: str, size: int) -> None:
    r = Environment(["H"]).neighbors(5.0).r
    functions = radial.basis(name, r, 5.0, size, 1.6)
    assert len(functions) == size
    h = 1e-3
    near = np.array([5.0 - 2 * h, 5.0 - h, 5.0])
    for f in functions:
        value = radial.tabulate(f, near) + 0 * near
        assert abs(value[2]) < 1e-12
        assert abs(value[2] - value[1]) / h < 1e-3 and abs(value[2] - 2 * value[1] + value[0]) / h**2 < 1.0
        flat = radial.tabulate(f, np.array([0.0, 0.5, 1.1])) + np.zeros(3)
        assert np.isfinite(flat).all() and np.ptp(flat) < 1e-12
        assert np.abs(radial.tabulate(f, DISTANCES[DISTANCES < 5.0])).max() > 0.02


def test_pairs_of_species_level_off_at_lengths_of_their_own() -> None:
    term = Pair(cutoff=5.0, n_max=4, inner=(("Nb", "Mo", 2.4), ("Mo", "Mo", 2.0)))
    assert term.inner == (("Mo", "Mo", 2.0), ("Mo", "Nb", 2.4)) and eval(repr(term)) == term
    plain, flat = Pair(cutoff=5.0, n_max=4, inner=2.0), Pair(cutoff=5.0, n_max=4, inner=((("Mo", "Mo", 2.0),)))
    own, same, other = (energies(t, ("Mo", "Nb")) for t in (term, plain, flat))
    np.testing.assert_allclose(other, same, rtol=1e-12)  # pairs that are not named start at the least
    far = DISTANCES > 2.4
    np.testing.assert_allclose(own[far], same[far], rtol=1e-12)
    assert np.ptp(own[DISTANCES < 0.7 * 2.4]) < 1e-12 < np.ptp(same[(DISTANCES > 1.5) & (DISTANCES < 1.7)])


def energies(term: Pair, symbols: tuple[str, str]) -> np.ndarray:
    """Of a dimer at DISTANCES, with coefficients 1."""
    model = composer.compile(term, ["Mo", "Nb"], quiet=True)
    model = model.with_parameters({name: torch.full_like(t, 0.0 if name.endswith("E0") else 1.0) for name, t in model.parameters.items()})
    return model([Atoms(symbols, [[0, 0, 0], [r, 0, 0]]) for r in DISTANCES]).energy.numpy()


@pytest.mark.parametrize("name", radial.BASES)
def test_basis_functions_are_independent_and_know_their_roughness(name: str) -> None:
    r, grid = Environment(["H"]).neighbors(5.0).r, np.linspace(1.6, 5.0, 500)
    values = np.array([radial.tabulate(f, grid) for f in radial.basis(name, r, 5.0, 8, 1.6)])
    assert np.linalg.matrix_rank(values, tol=1e-6) == 8
    gram = radial.roughness(name, 5.0, 8, 1.6)
    np.testing.assert_allclose(gram, gram.T)
    assert np.linalg.eigvalsh(gram).min() > -1e-9 * np.trace(gram)
    if name in ("chebyshev", "bessel"):
        assert (np.diff(np.diag(gram)[1:]) > 0).all()  # higher functions are rougher


def test_roughness_of_a_known_function() -> None:
    """The first Chebyshev function is the cutoff function itself, whose curvature is a polynomial."""
    cutoff, x = 5.0, np.linspace(1.25, 5.0, 200001)
    curvature = -6 / cutoff**2 * (1 - (x / cutoff) ** 2) ** 2 + 24 * x**2 / cutoff**4 * (1 - (x / cutoff) ** 2)
    assert radial.roughness("chebyshev", cutoff, 3)[0, 0] == pytest.approx(np.trapezoid(curvature**2, x), rel=1e-4)


def test_cutoff_functions_start_at_one_and_end_at_zero() -> None:
    r = Environment(["H"]).neighbors(4.0).r
    for f in (radial.smooth(r, 4.0), radial.cosine(r, 4.0), radial.behler(r, 4.0), radial.tersoff(r, 3.0, 4.0)):
        values = radial.tabulate(f, np.array([0.0, 3.5, 4.0]))
        assert values[0] == pytest.approx(1.0) and 0.0 < values[1] < 1.0 and abs(values[2]) < 1e-14


def test_zbl_ends_where_atoms_start_to_bind(evaluate) -> None:
    close, bound = (evaluate(ZBL(), ("C", "Si"), Atoms("CSi", [[0, 0, 0], [0, 0, r]])).energies.sum().item() for r in (1.2, 1.69))
    assert close > 1.0 and bound == 0.0
    assert ZBL().range(14, 14) == pytest.approx((0.999, 1.998))


# ---- formulas -------------------------------------------------------------------------------------------------------------------------


def test_the_formula_of_morse_is_morse(evaluate) -> None:
    atoms = ase.build.bulk("Si", cubic=True)
    formula = PairFormula("D*((1-exp(-a*(r-r0)))**2-1)", cutoff=5, D=0.5, a=1.5, r0=2.0)
    ours, wanted = (evaluate(t, ("Si",), atoms) for t in (formula, Morse(cutoff=5.0)))
    np.testing.assert_allclose(ours.energies, wanted.energies, rtol=1e-13)
    assert formula.named("b").params().keys() == {"D", "a", "r0"}
    assert formula == PairFormula("D*((1-exp(-a*(r-r0)))**2-1)", cutoff=5.0, r0=2, a=1.5, D=0.5)
    assert formula != PairFormula("D*((1-exp(-a*(r-r0)))**2-1)", cutoff=5.0, r0=2, a=1.5, D=0.6)


BAD = ["b*r", "__import__('os').system('x')", "a.real*r", "a*foo(r)", "a if r else 1", "a*r^2", "[a*r]", "a*'x'", "a*r +", "lambda: a*r"]
BAD += ["a*exp(r, r)", "a*True", "a*exp(x=r)", "r/0 + a", "a*9**9**9", "a*" + "(" * 400 + "r" + ")" * 400, "a*r" + "+r" * 1000, "r"]


@pytest.mark.parametrize("formula", BAD, ids=range(len(BAD)))
def test_foreign_formulas_are_refused(formula: str) -> None:
    with pytest.raises(AlgebraError):
        PairFormula(formula, cutoff=5.0, a=1.0)


# ---- bad input ------------------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "make",
    [
        lambda: Pair(cutoff=0),
        lambda: Pair(cutoff=5.0, basis="spline"),
        lambda: Pair(cutoff=5.0, n_max=0),
        lambda: Pair(cutoff=5.0, inner=6.0),
        lambda: ThreeBody(cutoff=5.0, l_max=-1),
        lambda: Density(cutoff=5.0, basis="bessel", positive=True),
        lambda: Embedding(cutoff=5.0, form="cubic"),
        lambda: ZBL(inner=2.0, outer=1.0),
        lambda: Tersoff(inner=3.0, cutoff=2.0),
        lambda: Tersoff(pairs=(("C", "Si", 2.0),)),
        lambda: Tersoff(pairs=(("C", "Si", 2.0, 9.0),)),
        lambda: Tersoff(pairs=((6, 14, 1.8, 2.1),)),
        lambda: StillingerWeber(pairs=(("C", "Si", 2.6), ("Si", "C", 3.0))),
        lambda: Pair(cutoff=5.0, n_max=2.5),
        lambda: Pair(cutoff="5"),
        lambda: Pair(cutoff=5.0, basis=3),
        lambda: StillingerWeber(pairs=(("C", "Si", 9.0),)),
        lambda: PairFormula("a*r", cutoff=5.0, exp=1.0, a=1.0),
        lambda: LennardJones(cutoff=5.0).fix(height=1.0),
        lambda: ZBL().site(Environment(["Xx"])),
    ],
    ids=range(20),
)
def test_senseless_fields_are_refused(make) -> None:
    with pytest.raises(AlgebraError):
        make()


def test_the_order_of_pairs_of_species_means_nothing() -> None:
    one = StillingerWeber(pairs=[("Si", "C", 3), ("C", "C", 2.6)])
    assert one == StillingerWeber(pairs=(("C", "C", 2.6), ("C", "Si", 3.0))) and one.pairs[1] == ("C", "Si", 3.0)
    assert Tersoff(pairs=[("Si", "C", 1, 2)]).digest == Tersoff(pairs=[("C", "Si", 1.0, 2.0)]).digest


def test_numbers_of_numpy_are_numbers() -> None:
    pair = Pair(cutoff=np.float32(5), n_max=np.int64(4))
    assert pair == Pair(cutoff=5, n_max=4) and type(pair.cutoff) is float and type(pair.n_max) is int  # type: ignore[attr-defined]
    assert np.float64(2) * pair == 2 * pair == np.int64(2) * pair and pair ** np.int64(2) == pair**2
    with pytest.raises(AlgebraError, match="Only terms"):
        np.ones(2) * pair


def test_repr_leaves_defaults_out() -> None:
    assert repr(ZBL() + Pair(cutoff=6, n_max=10)) == "Pair(cutoff=6.0) + ZBL()"
    assert repr(Pair(cutoff=6, n_max=4, inner=1.5)) == "Pair(cutoff=6.0, n_max=4, inner=1.5)"
