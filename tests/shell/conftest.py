"""Models that the tests of this folder share."""

import ase.build
import pytest
from ase import Atoms

import composer
from composer.model import Model
from terms import ZBL, Pair, StillingerWeber


@pytest.fixture(scope="session")
def silicon() -> Model:
    """Stillinger and Weber's silicon."""
    return composer.compile(StillingerWeber(), ["Si"], quiet=True)


@pytest.fixture(scope="session")
def pairs() -> Model:
    """A pair expansion over two species, whose kernels use half lists."""
    model = composer.compile(ZBL() + Pair(cutoff=4.0, n_max=2), ["C", "Si"], quiet=True)
    return model.with_parameters({"E0": [-1.0, -2.0], "Pair.coefficients": [[0.5, 0.2], [-0.7, 0.1], [-0.3, 0.4]]})


@pytest.fixture
def crystal() -> Atoms:
    atoms = ase.build.bulk("Si", "diamond", a=5.43, cubic=True)
    atoms.rattle(0.1, seed=1)
    return atoms


@pytest.fixture
def carbide() -> Atoms:
    atoms = ase.build.bulk("SiC", "zincblende", a=4.36)
    atoms.rattle(0.05, seed=2)
    return atoms
