"""The program of a .pt2 package, number 14 of theory/interfaces.md, section 12."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from composer.export.check import worst
from composer.export.library import Values
from composer.export.pt2 import BUILT_FOR, EXPORTED, Program, check_engine, inputs, traced
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


@pytest.mark.filterwarnings("ignore")  # torch warns about itself
def test_14_a_package_is_built_again_for_another_processor(model_of: ModelOf, tmp_path: Path) -> None:
    model = model_of("Pair, one function")
    made = model.export(tmp_path / "folder", "pt2")
    assert max(made.checks.values()) < 1e-12
    assert EXPORTED in made.files and "export.json" in made.files
    (made.folder / BUILT_FOR).write_text("another processor")
    assert max(worst(check_engine(made.folder, model), model, random_structures(model.species, seed=13)).values()) < 1e-12
    assert torch.export.load(made.folder / EXPORTED).graph_signature.user_outputs
