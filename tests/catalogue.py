"""Every term in one line: name -> expression, species. The laws run over this list; a new term enters here."""

from composer.algebra import Expression, Scale, exp, log1p, sqrt, tanh
from terms import (
    NEP,
    ZBL,
    Bond,
    BornMayer,
    Buckingham,
    Charges,
    Coulomb,
    Density,
    Dispersion,
    Embedding,
    ExteriorPotential,
    FourBody,
    LennardJones,
    Morse,
    Pair,
    PairFormula,
    StillingerWeber,
    Tersoff,
    ThreeBody,
)

ONE, TWO, THREE = ("Si",), ("C", "Si"), ("C", "O", "Si")
MORSE = "D*((1-exp(-a*(r-r0)))**2-1)"
STARTS = (("C", "Si", 1.6), ("O", "O", 1.1))  # of the sampled ranges of pairs
SILICON_CARBIDE = (("C", "C", 1.8, 2.1), ("C", "Si", 2.2, 2.5))

TERMS: dict[str, tuple[Expression, tuple[str, ...]]] = {
    "LennardJones": (LennardJones(cutoff=5.0), TWO),
    "Morse": (Morse(cutoff=5.0), TWO),
    "BornMayer": (BornMayer(cutoff=4.5), ONE),
    "Buckingham": (Buckingham(cutoff=5.0), TWO),
    "PairFormula": (PairFormula(MORSE, cutoff=5.0, D=0.5, a=1.5, r0=2.0), TWO),
    "Pair": (Pair(cutoff=5.0, n_max=6, inner=STARTS), THREE),
    "Pair, Bessel": (Pair(cutoff=5.0, n_max=4, basis="bessel"), ONE),
    "Pair, Gaussian": (Pair(cutoff=5.0, n_max=4, basis="gaussian", inner=1.0), ONE),
    "Pair, B-spline": (Pair(cutoff=5.0, n_max=5, basis="bspline"), ONE),
    "Pair, one function": (Pair(cutoff=5.0, n_max=1), ONE),
    "ZBL": (ZBL(inner=1.0, outer=(("C", "Si", 2.8), ("O", "O", 3.0))), THREE),
    "Density": (Density(cutoff=5.0, n_max=3), TWO),
    "Density, positive": (Density(cutoff=5.0, n_max=3, positive=True), ONE),
    "Density, blind": (Density(cutoff=5.0, n_max=3, blind=True), THREE),
    "Embedding, sqrt": (Embedding(cutoff=5.0), TWO),
    "Embedding, polynomial": (Embedding(cutoff=5.0, form="polynomial"), ONE),
    "Embedding, universal": (Embedding(cutoff=5.0, form="universal"), ONE),
    "StillingerWeber": (StillingerWeber(), ONE),
    "StillingerWeber, two species": (StillingerWeber(pairs=(("C", "C", 2.6), ("C", "Si", 3.2))), TWO),
    "Tersoff": (Tersoff(), ONE),
    "Tersoff, two species": (Tersoff(pairs=SILICON_CARBIDE, m=3), TWO),
    "ThreeBody": (ThreeBody(cutoff=4.5, n_max=3, l_max=3), ONE),
    "ThreeBody, three species": (ThreeBody(cutoff=4.0, n_max=2, l_max=2), THREE),
    "ThreeBody, blind": (ThreeBody(cutoff=4.0, n_max=2, l_max=2, inner=STARTS, blind=True), THREE),
    "FourBody": (FourBody(cutoff=4.5), ONE),
    "FourBody, two species": (FourBody(cutoff=4.0, n_max=1, l_max=3), TWO),
    "FourBody, blind": (FourBody(cutoff=4.0, n_max=1, blind=True), TWO),
    "Bond": (Bond(cutoff=4.0), TWO),
    "Coulomb": (Coulomb(Charges({"C": -0.7, "Si": 0.9}), accuracy=1e-12, cutoff=4.0, sigma=0.9), TWO),
    "Coulomb, learned": (Coulomb(Charges(learn="per species"), accuracy=1e-12, cutoff=4.0, sigma=1.2), TWO),
    "Coulomb, of the surroundings": (Coulomb(Charges(Density(cutoff=4.0)), accuracy=1e-12, cutoff=4.0, sigma=1.2), TWO),
    "ExteriorPotential": (ExteriorPotential(cutoff=5.0, exponents=(1, 6), accuracy=1e-12), TWO),
    "Dispersion": (Dispersion(accuracy=1e-12, cutoff=5.0, sigma=1.0), TWO),
    "Dispersion, of the surroundings": (Dispersion(accuracy=1e-12, cutoff=5.0, sigma=1.0, scale=Density(cutoff=4.0)), TWO),
    "NEP": (NEP(cutoff=(4.5, 3.5), n_max=(2, 1), basis=(3, 2), l_max=(2, 2, 1), neurons=3), TWO),
    "NEP3, cutoffs by element": (
        NEP(cutoff=(4.5, 4.0), n_max=(1, 0), basis=(2, 3), l_max=(4, 0, 0, 1, 1, 1, 1), neurons=2, version=3, elements=(("O", 4.0, 3.5),)),
        THREE,
    ),
    "NEP5, radial": (NEP(cutoff=(4.5, 3.5), n_max=(2, 0), basis=(3, 0), l_max=(0, 0, 0), neurons=9, version=5), ONE),
    "NEP with the far field": (
        NEP(
            cutoff=(4.0, 3.5),
            n_max=(0, 0),
            basis=(1, 1),
            l_max=(1, 0, 0),
            neurons=1,
            extra=ExteriorPotential(cutoff=4.5, exponents=(6,), accuracy=1e-12),
        ),
        TWO,
    ),
    "ZBL, cosine": (ZBL(switch="cosine", inner=1.0, outer=3.0), THREE),
    "ZBL, by radii": (ZBL(switch="cosine", outer=3.0, factor=1.1), TWO),
    "ZBL, by pair": (ZBL(switch="cosine", pairs=(("Si", "Si", 0.9, 2.9, 0.2, 3.2, 0.5, 0.9, 0.3, 0.4, 0.1, 0.2),)), ONE),
}

COMPOSED: dict[str, tuple[Expression, tuple[str, ...]]] = {
    "script": (ZBL() + Pair(cutoff=6.0, n_max=10) + ThreeBody(cutoff=4.5, n_max=4, l_max=5) * (1 + Density(cutoff=5.0, n_max=2)), ONE),
    "sum": (2 * Pair(cutoff=5.0, n_max=3) - Morse(cutoff=4.0) / 3, TWO),
    "product": (Pair(cutoff=5.0, n_max=3) * ThreeBody(cutoff=4.0, n_max=2, l_max=1) * Density(cutoff=3.5).named("b"), THREE),
    "bond order in a product": (Tersoff(pairs=SILICON_CARBIDE) * (1 + Scale() * Density(cutoff=5.0)), TWO),
    "power": (Pair(cutoff=4.0, n_max=2) ** 3, ONE),
    "functions": (exp(Scale() * Pair(cutoff=4.0)) + tanh(FourBody(cutoff=4.0)) - log1p(Density(cutoff=4.0, positive=True)), ONE),
    "root of a density": (Pair(cutoff=5.0, n_max=4) - sqrt(Density(cutoff=5.0, positive=True, basis="gaussian")), TWO),
    "stages": (Bond(cutoff=4.0) * (1 + Bond(cutoff=3.5, n_max=2).named("b")), ONE),
    "tied and untied": (Pair(cutoff=4.0) * (1 + Pair(cutoff=4.0)) + Pair(cutoff=4.0).named("b"), ONE),
    "network in a product": (
        NEP(cutoff=(4.0, 3.5), n_max=(1, 1), basis=(2, 2), l_max=(2, 0, 0), neurons=3) * (1 + Density(cutoff=4.0)),
        ONE,
    ),
    "network and pairs": (
        ZBL(switch="cosine", outer=2.5) + NEP(cutoff=(4.0, 3.5), n_max=(1, 1), basis=(2, 2), l_max=(1, 0, 0), neurons=2) + Pair(cutoff=4.0),
        TWO,
    ),
    "charges from a network": (
        NEP(cutoff=(4.0, 3.5), n_max=(1, 0), basis=(2, 2), l_max=(1, 0, 0), neurons=2)
        + Coulomb(
            Charges(NEP(cutoff=(4.0, 3.0), n_max=(0, 0), basis=(2, 1), l_max=(0, 0, 0), neurons=2)), accuracy=1e-12, cutoff=4.0, sigma=1.2
        ),
        TWO,
    ),
    "fixed and frozen": (Morse(cutoff=5.0).fix(width=1.4).freeze("length") * (1 + Density(cutoff=4.0)), ONE),
}

CATALOGUE = TERMS | COMPOSED
