"""The program of a .pt2 package, number 14 of theory/interfaces.md, section 12."""

from __future__ import annotations

import shutil
import subprocess
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from composer.export import Export
from composer.export.check import model_values, worst
from composer.export.library import Values
from composer.export.pt2 import BUILT_FOR, EXPORTED, PACKAGE, Program, check_engine, inputs, traced
from composer.export.structures import random_structures
from composer.model import Model

ModelOf = Callable[[str], Model]


def engine(program: Callable, model: Model) -> Callable:
    def run(structure) -> Values:
        energy, energies, forces, virial = program(*inputs(model, structure))
        return Values(float(energy), forces.numpy(), virial.numpy(), energies.numpy())

    return run


@pytest.mark.parametrize("name", ["StillingerWeber, two species", "stages", "product"])
def test_14_the_program_equals_the_kernels(name: str, model_of: ModelOf) -> None:
    model = model_of(name)
    found = worst(engine(Program(model), model), model, random_structures(model.species, seed=11))
    assert set(found) == {"energy", "forces", "virial", "site energies"}
    assert max(found.values()) < 1e-12


def test_14_the_exported_program_takes_other_sizes(model_of: ModelOf) -> None:
    model = model_of("Morse")
    program = traced(model).module()
    assert max(worst(engine(program, model), model, random_structures(model.species, seed=12)).values()) < 1e-12


@pytest.fixture(scope="module")
def made(model_of: ModelOf, tmp_path_factory: pytest.TempPathFactory) -> Export:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch warns about itself
        return model_of("Pair, one function").export(tmp_path_factory.mktemp("made") / "folder", "pt2")


def test_14_a_program_in_c_plus_plus_loads_the_package(made: Export, model_of: ModelOf, tmp_path: Path) -> None:
    model, torch_home = model_of("Pair, one function"), Path(torch.__file__).parent
    (structure, *_) = random_structures(model.species, seed=15)
    given = inputs(model, structure)
    for n, tensor in enumerate(given):
        tensor.contiguous().numpy().tofile(tmp_path / str(n))
    shutil.copy(made.folder / PACKAGE, tmp_path)
    headers = [f"-I{torch_home}/include", f"-I{torch_home}/include/torch/csrc/api/include"]
    libraries = [f"-L{torch_home}/lib", f"-Wl,-rpath,{torch_home}/lib", "-Wl,--no-as-needed", "-ltorch", "-ltorch_cpu", "-lc10"]
    source, program = Path(__file__).with_name("load_package.cpp"), tmp_path / "load"
    subprocess.run(["g++", "-std=c++20", "-O0", *headers, source, "-o", program, *libraries], check=True)
    said = subprocess.run([program, tmp_path, *map(str, given[2].shape)], capture_output=True, text=True, check=False)
    assert said.returncode == 0, said.stderr
    numbers, ours, n = np.array(said.stdout.split(), dtype=float), model_values(model, structure), len(structure)
    assert numbers[0] == pytest.approx(ours.energy, rel=1e-12)
    assert ours.virial is not None and np.abs(ours.forces).max() > 1e-3
    np.testing.assert_allclose(numbers[1 + n : 1 + 4 * n].reshape(n, 3), ours.forces, rtol=0, atol=1e-12)
    np.testing.assert_allclose(numbers[1 + 4 * n :].reshape(3, 3), ours.virial, rtol=0, atol=1e-11)


@pytest.mark.filterwarnings("ignore")  # torch warns about itself
def test_14_a_package_is_built_again_for_another_processor(made: Export, model_of: ModelOf) -> None:
    model = model_of("Pair, one function")
    assert max(made.checks.values()) < 1e-12
    assert EXPORTED in made.files and "export.json" in made.files
    (made.folder / BUILT_FOR).write_text("another processor")
    assert max(worst(check_engine(made.folder, model), model, random_structures(model.species, seed=13)).values()) < 1e-12
    assert torch.export.load(made.folder / EXPORTED).graph_signature.user_outputs
